"""Lambda: where a function's code lies."""

import hashlib
import tempfile
import threading
import types
import zipfile
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime

_UNPACKED = Path(tempfile.gettempdir()) / "code"
_LOCK = threading.Lock()


def mend() -> None:
    """Unpack a zip once for all its functions and environments, which on AWS cannot write to it either."""
    lambda_runtime.zipfile = types.SimpleNamespace(**vars(zipfile) | {"ZipFile": _UnpackedOnce})


class _UnpackedOnce(zipfile.ZipFile):
    """Unpacks into one place, which it links to from wherever it was asked to."""

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        place = _UNPACKED / hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
        with _LOCK:
            if not place.exists():
                half = place.with_suffix(".half")
                super().extractall(half, members, pwd)
                half.rename(place)
        Path(path).rmdir()
        Path(path).symlink_to(place)
