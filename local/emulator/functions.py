"""Lambda: where a function's code lies, how events reach it, and what becomes of it when the function changes."""

import contextvars
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
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
    """Wrap how a function's code is unpacked, how events are delivered to it, and how its processes are ended."""
    lambda_runtime.zipfile = types.SimpleNamespace(**vars(zipfile) | {"ZipFile": _UnpackedOnce})
    eventbridge._dispatch_to_lambda = _deliver
    lambda_svc._execute_function = _in_turns(lambda_svc._execute_function)
    lambda_svc.invalidate_worker = _once_idle(lambda_svc.invalidate_worker)


class _UnpackedOnce(zipfile.ZipFile):
    """Unpacks a zip once for all its functions and processes, which on AWS cannot write to it either.

    Other organizations may unpack it to the same place at the same time.
    """

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        place = _UNPACKED / hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
        with _LOCK:
            if not place.exists():
                half = place.with_suffix(f".{os.getpid()}")
                super().extractall(half, members, pwd)
                try:
                    half.rename(place)
                except OSError:
                    shutil.rmtree(half)  # Another was there first.
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


def kill(function: str) -> None:
    """Kill the processes that run a function now, as where Lambda loses a host; a ValueError says that none runs."""
    with lambda_runtime._lock:
        pools = [pool for key, pool in lambda_runtime._workers.items() if key.split(":")[-2] == function]
        busy = [worker for pool in pools for worker in pool if worker.in_use]
    if not busy:
        message = f"{function} does not run"
        raise ValueError(message)
    for worker in busy:
        worker._proc.kill()


def _once_idle(invalidate: Callable[..., None]) -> Callable[..., None]:
    """On AWS, invocations that run while their function changes end as they would have."""

    def end(worker: Any) -> None:
        deadline = time.monotonic() + worker.config["Timeout"]
        while worker.in_use and time.monotonic() < deadline:
            time.sleep(0.05)
        worker.kill()

    def end_when_idle(function: str, *scope: Any, **named: Any) -> None:
        with lambda_runtime._lock:
            pools = [pool for key, pool in lambda_runtime._workers.items() if key.split(":")[-2] == function]
            busy = [worker for pool in pools for worker in pool if worker.in_use]
            for pool in pools:
                pool[:] = [worker for worker in pool if worker not in busy]
        for worker in busy:
            threading.Thread(target=end, args=[worker], daemon=True).start()
        invalidate(function, *scope, **named)

    return end_when_idle
