"""Start in this process, and tell what that took as JSON: `python -m benchmarks.start rolecall`, or `floor`."""

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
    """Import what it can't do without, then make fresh clients and the calls of the same event."""
    start = time.process_time()
    import boto3  # noqa: PLC0415
    import chalice.app  # noqa: F401, PLC0415
    from aws_lambda_powertools import Logger, Metrics  # noqa: PLC0415

    Logger()
    Metrics()
    imported = time.process_time()
    from benchmarks.first_event import call  # noqa: PLC0415 - its arguments are worked out when it is imported

    ready = time.process_time()
    modules = len(sys.modules)
    call(boto3.Session())
    return {"import": imported - start, "event": time.process_time() - ready, "modules": modules}


def main(who: str) -> None:
    """Measure one start."""
    told = {"rolecall": rolecall, "floor": floor}[who]()
    print(json.dumps(told | {"megabytes": peak_megabytes()}))


main(*sys.argv[1:])
