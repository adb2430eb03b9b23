"""Lambda: unpacking of code, delivery of events, and processes when a function changes or is killed."""

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

_MAX_CONCURRENT_EVENTS = 2
_UNPACKED = Path(tempfile.gettempdir()) / "code"
_LOCK = threading.Lock()
_POLL_SECONDS, _KILL_TIMEOUT_SECONDS = 0.05, 5

_queued = contextvars.ContextVar("queued", default=False)


def patch() -> None:
    """Wrap the unpacking of code, the delivery of events, and the end of a function's processes."""
    lambda_runtime.zipfile = types.SimpleNamespace(**vars(zipfile) | {"ZipFile": _SharedZip})
    eventbridge._dispatch_to_lambda = _deliver
    lambda_svc._execute_function = _limit_concurrent_events(lambda_svc._execute_function)
    lambda_svc.invalidate_worker = _invalidate_when_idle(lambda_svc.invalidate_worker)


class _SharedZip(zipfile.ZipFile):
    """A zip that is unpacked once for all functions and processes; on AWS, they can't write to it either.

    Other local organizations may unpack it to the same directory at the same time.
    """

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        target = _UNPACKED / hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
        with _LOCK:
            if not target.exists():
                incomplete = target.with_suffix(f".{os.getpid()}")
                super().extractall(incomplete, members, pwd)
                try:
                    incomplete.rename(target)
                except OSError:
                    shutil.rmtree(incomplete)  # Another process was faster.
        Path(path).rmdir()
        Path(path).symlink_to(target)


def _deliver(function_arn: str, payload: str) -> None:
    """Invoke a function asynchronously: Lambda tries an event three times, then sends it to the failure destination."""
    function, config, _ = lambda_svc._get_func_record_for_ref(function_arn)
    if function and config:
        _queued.set(True)
        lambda_svc.invoke_async_with_retry(
            lambda_svc._execution_record_for_config(function, config), json.loads(payload)
        )
        _queued.set(False)


def _limit_concurrent_events(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Limit the concurrent invocations for queued events: each would start a process of its own."""
    slots: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_MAX_CONCURRENT_EVENTS))

    def execute_limited(function: dict[str, Any], event: Any) -> Any:
        if not _queued.get():
            return execute(function, event)
        with slots[function["config"]["FunctionArn"]]:
            _queued.set(False)
            try:
                return execute(function, event)
            finally:
                _queued.set(True)

    return execute_limited


def kill(function: str) -> None:
    """Kill the busy processes of a function, as if Lambda lost a host. Raise ValueError if there is none."""
    with lambda_runtime._lock:
        pools = [pool for key, pool in lambda_runtime._workers.items() if key.split(":")[-2] == function]
        busy = [worker for pool in pools for worker in pool if worker.in_use]
    if not busy:
        message = f"no process of {function} is busy"
        raise ValueError(message)
    for worker in busy:
        worker._proc.kill()


def kill_all() -> None:
    """Kill the processes of all functions, and wait until their invocations have ended."""
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while True:
        lambda_runtime.reset()
        if not lambda_svc._esm_inflight or time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)


def _invalidate_when_idle(invalidate: Callable[..., None]) -> Callable[..., None]:
    """On AWS, an update of a function doesn't interrupt its current invocations."""

    def kill_when_idle(worker: Any) -> None:
        deadline = time.monotonic() + worker.config["Timeout"]
        while worker.in_use and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        worker.kill()

    def invalidate_idle(function: str, *scope: Any, **options: Any) -> None:
        with lambda_runtime._lock:
            pools = [pool for key, pool in lambda_runtime._workers.items() if key.split(":")[-2] == function]
            busy = [worker for pool in pools for worker in pool if worker.in_use]
            for pool in pools:
                pool[:] = [worker for worker in pool if worker not in busy]
        for worker in busy:
            threading.Thread(target=kill_when_idle, args=[worker], daemon=True).start()
        invalidate(function, *scope, **options)

    return invalidate_idle
