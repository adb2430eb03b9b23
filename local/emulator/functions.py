"""Lambda: where a function's code lies, and how many events it takes at once."""

import hashlib
import tempfile
import threading
import types
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

_AT_ONCE = 2
_UNPACKED = Path(tempfile.gettempdir()) / "code"
_LOCK = threading.Lock()


def mend() -> None:
    """Let a burst neither unpack nor start more than it must: this machine is smaller than AWS."""
    lambda_runtime.zipfile = types.SimpleNamespace(**vars(zipfile) | {"ZipFile": _UnpackedOnce})
    lambda_svc._execute_function_with_config_scope = _queued(lambda_svc._execute_function_with_config_scope)


def _queued(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Let events wait, as on AWS, where Lambda queues them; else each of a burst would start a process of its own."""
    turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_ONCE))

    def take_turns(function: dict[str, Any], event: Any) -> Any:
        with turns[function["config"]["FunctionArn"]]:
            return execute(function, event)

    return take_turns


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
