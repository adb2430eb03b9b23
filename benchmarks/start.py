"""Measure one cold start in this process and print it as JSON: `python -m benchmarks.start rolecall`, or `floor`."""

import json
import sys
import time

from benchmarks.deployment import Context, batch
from benchmarks.memory import peak_megabytes

_EVENT = batch(["100000000000"], listed=False)


def rolecall() -> dict[str, float]:
    """Import the app and handle one message of a new account."""
    start = time.process_time()
    import app  # noqa: PLC0415 - this is what is measured

    imported = time.process_time()
    if app.enroll(_EVENT, Context())["batchItemFailures"]:
        raise RuntimeError
    return {"import": imported - start, "event": time.process_time() - imported, "modules": len(sys.modules)}


def floor() -> dict[str, float]:
    """Import only the required packages, then create clients and make the calls of the same event."""
    start = time.process_time()
    import boto3  # noqa: PLC0415
    import chalice.app  # noqa: F401, PLC0415
    from aws_lambda_powertools import Logger, Metrics  # noqa: PLC0415

    Logger()
    Metrics()
    imported = time.process_time()
    from benchmarks.first_event import call  # noqa: PLC0415 - its arguments are computed at import

    ready = time.process_time()
    modules = len(sys.modules)
    call(boto3.Session())
    return {"import": imported - start, "event": time.process_time() - ready, "modules": modules}


def main(name: str) -> None:
    """Print the times and the peak memory of one start."""
    measured = {"rolecall": rolecall, "floor": floor}[name]()
    print(json.dumps(measured | {"megabytes": peak_megabytes()}))


main(*sys.argv[1:])
