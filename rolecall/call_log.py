"""The AWS calls of a session, each as a line with its status and request id, by which AWS Support finds it."""

from collections.abc import Callable, Mapping
from typing import Any

import boto3


def log_calls(session: boto3.Session, write: Callable[[str], None]) -> None:
    """Write each call of the session's clients. Neither requests nor responses are written, which may contain secrets."""

    def after_call(parsed: Mapping[str, Any], event_name: str, **_: object) -> None:
        metadata = parsed.get("ResponseMetadata", {})
        code = parsed.get("Error", {}).get("Code")
        retries = metadata.get("RetryAttempts")
        write(
            f"{_call(event_name)}: {code or metadata.get('HTTPStatusCode')}, request id {metadata.get('RequestId')}"
            + (f", attempt {retries + 1}" if retries else "")
        )

    def after_error(exception: Exception, event_name: str, **_: object) -> None:
        write(f"{_call(event_name)}: {type(exception).__name__}")

    session.events.register("after-call", after_call)
    session.events.register("after-call-error", after_error)


def _call(event_name: str) -> str:
    """Return the service and operation of an event such as after-call.iam.GetRole."""
    _, service, operation = event_name.split(".")
    return f"{service}:{operation}"
