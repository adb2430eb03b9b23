"""Measure how fast Rolecall is: `python -m benchmarks [--quick] [--json PATH] [NAME ...]`."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from benchmarks.deployment import ENVIRON, aws_environ
from benchmarks.effort import FULL, QUICK
from benchmarks.report import Measurement, write
from benchmarks.stub.process import running

_MEASUREMENTS = ("calls", "accounts", "worker", "publish", "cold_start", "backfill")


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast Rolecall is, as ratios.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(_MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="a few minutes, with more noise")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything to this file too")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(_MEASUREMENTS))
    if unknown:
        parser.error(f"no measurement is called {unknown[0]}")
    told: list[Measurement] = []
    with running() as stub:
        # Before anything that makes a client is imported.
        os.environ.update(ENVIRON | aws_environ(stub.endpoint))
        for name in asked.names or _MEASUREMENTS:
            for each in importlib.import_module(f"benchmarks.{name}").measure(stub, QUICK if asked.quick else FULL):
                print(each, flush=True)
                told.append(each)
    if asked.json:
        write(asked.json, told)
    claims = [claim for each in told for claim in each.claims]
    print(f"\n{sum(claim.holds for claim in claims)} of {len(claims)} claims hold", file=sys.stderr)


main()
