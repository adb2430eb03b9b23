"""Run one sweep in this process, and tell its time and memory as JSON: `python -m benchmarks.sweep backfill`."""

import json
import sys
import time

import app
from benchmarks.deployment import Context
from benchmarks.memory import peak_megabytes


def main(function: str) -> None:
    """Run it as Lambda would."""
    clock, cpu = time.perf_counter(), time.process_time()
    getattr(app, function)({}, Context(900))
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - clock,
                "cpu": time.process_time() - cpu,
                "megabytes": peak_megabytes(),
            }
        )
    )


main(*sys.argv[1:])
