"""Lambda: where a function's code lies, and how events reach it."""

import contextvars
import hashlib
import json
import tempfile
import threading
import types
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import eventbridge, lambda_svc

_AT_ONCE = 2
_UNPACKED = Path(tempfile.gettempdir()) / "code"
_LOCK = threading.Lock()

_queued = contextvars.ContextVar("queued", default=False)


def mend() -> None:
    """Wrap how a function's code is unpacked, and how events are delivered to it."""
    lambda_runtime.zipfile = types.SimpleNamespace(**vars(zipfile) | {"ZipFile": _UnpackedOnce})
    eventbridge._dispatch_to_lambda = _deliver
    lambda_svc._execute_function = _in_turns(lambda_svc._execute_function)


class _UnpackedOnce(zipfile.ZipFile):
    """Unpacks a zip once for all its functions and processes, which on AWS cannot write to it either."""

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        place = _UNPACKED / hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
        with _LOCK:
            if not place.exists():
                half = place.with_suffix(".half")
                super().extractall(half, members, pwd)
                half.rename(place)
        Path(path).rmdir()
        Path(path).symlink_to(place)


def _deliver(function_arn: str, payload: str) -> None:
    """Hand an event to Lambda's queue, as AWS does: tried three times, it then goes where the function sends its failures."""
    function, config, _ = lambda_svc._get_func_record_for_ref(function_arn)
    if function and config:
        _queued.set(True)
        lambda_svc.invoke_async_with_retry(
            lambda_svc._execution_record_for_config(function, config), json.loads(payload)
        )
        _queued.set(False)


def _in_turns(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Let queued events wait for one another: each of a burst would start a process of its own."""
    turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_ONCE))

    def take_turns(function: dict[str, Any], event: Any) -> Any:
        if not _queued.get():
            return execute(function, event)
        with turns[function["config"]["FunctionArn"]]:
            _queued.set(False)
            try:
                return execute(function, event)
            finally:
                _queued.set(True)

    return take_turns
