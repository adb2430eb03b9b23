"""Invoke one function in this process, and print its time and memory as JSON: `python -m benchmarks.invocation backfill`."""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.deployment import Context, publish_event
from benchmarks.memory import peak_megabytes


def invoke(function: str, seconds: float = 900.0) -> dict[str, float]:
    """Invoke a function with `seconds` of remaining time, and return its time and memory."""
    import app  # noqa: PLC0415 - only this process is measured

    event = publish_event() if function == "publish" else {}
    clock, cpu = time.perf_counter(), time.process_time()
    answer = getattr(app, function)(event, Context(seconds))
    return {
        "unfinished": len(answer.get("batchItemFailures", [])),
        "seconds": time.perf_counter() - clock,
        "cpu": time.process_time() - cpu,
        "megabytes": peak_megabytes(),
    }


def invoke_in_subprocess(function: str, seconds: float = 900.0) -> dict[str, float]:
    """Invoke a function in a new process, and return its time and memory."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.invocation", function, str(seconds)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(ran.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(invoke(sys.argv[1], float(sys.argv[2]))))
