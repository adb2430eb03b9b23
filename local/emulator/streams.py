"""DynamoDB Streams: functions that read them, beside those that read queues, and partial batches."""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc

_reading = contextvars.ContextVar("reading", default=False)


def patch() -> None:
    """Read streams in a thread of their own, and deliver a batch again that a function reports as unfinished."""
    lambda_svc._poll_dynamodb_streams = _beside_queues(lambda_svc._poll_dynamodb_streams)
    lambda_svc._execute_function = _fail_unfinished(lambda_svc._execute_function)


def _beside_queues(poll: Callable[[], bool]) -> Callable[[], bool]:
    """Lambda reads each stream by itself: ministack's only loop would wait for each function that reads one."""
    reading = threading.Lock()

    def read() -> None:
        _reading.set(True)
        with reading:
            while poll():
                pass

    def start() -> bool:
        if not reading.locked():
            threading.Thread(target=read, daemon=True).start()
        return False

    return start


def _fail_unfinished(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Lambda continues with the first record that is reported; here, the whole batch is delivered again."""

    def execute_batch(function: dict[str, Any], event: Any) -> Any:
        result = execute(function, event)
        body = result.get("body")
        unfinished = isinstance(body, dict) and body.get("batchItemFailures")
        return {**result, "error": True} if _reading.get() and unfinished else result

    return execute_batch
