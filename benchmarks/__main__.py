"""Run the benchmarks: `python -m benchmarks [--quick] [--json PATH] [NAME ...]`."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from benchmarks.deployment import ENVIRON, aws_environ
from benchmarks.profiles import FULL, QUICK
from benchmarks.report import Measurement, write
from benchmarks.stub.process import running

_BENCHMARKS = ("calls", "accounts", "worker", "publish", "cold_start", "backfill")


def main() -> None:
    """Run the named benchmarks, print their results, and write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks to run: {', '.join(_BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="Finish in a few minutes, with more noise.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="Also write the results to this file.")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(_BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]}")
    measurements: list[Measurement] = []
    with running() as stub:
        # Before the import of any module that creates a client.
        os.environ.update(ENVIRON | aws_environ(stub.endpoint))
        for name in arguments.names or _BENCHMARKS:
            for each in importlib.import_module(f"benchmarks.{name}").measure(stub, QUICK if arguments.quick else FULL):
                print(each, flush=True)
                measurements.append(each)
    if arguments.json:
        write(arguments.json, measurements)
    claims = [claim for each in measurements for claim in each.claims]
    print(f"\n{sum(claim.holds for claim in claims)} of {len(claims)} claims hold", file=sys.stderr)


main()
