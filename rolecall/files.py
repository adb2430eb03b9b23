"""Input and output files of commands; what a command writes replaces only what a command wrote."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rolecall.errors import CommandError

MARK = "written by rolecall"
"""What the beginning of every written file contains, if its format has comments."""

MARKED = re.compile(rf".*?{MARK}", re.DOTALL)
"""The beginning of a file that contains MARK."""

_HEAD_BYTES = 1000
_PRIVATE = 0o600
_PUBLIC = 0o666  # less the process's umask


def write_file(
    path: Path, text: str, *, own: re.Pattern[str] = MARKED, force: bool = False, private: bool = False
) -> None:
    """Write a text file at once: it has the whole text, or stays as it was.

    A file is replaced only if it is empty or its beginning matches `own`, or with `force`. A private file is readable by its
    owner alone. Raise CommandError if the file must not be replaced or can't be written.
    """
    with _writing(path):
        found = _stat(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            path.write_text(text, encoding="utf-8")  # such as /dev/null or a pipe
            return
        if found is not None and found.st_size and not force and not _is_own(path, own):
            raise CommandError(
                f"{path} was not written by rolecall: pass --force to replace it, or choose another file"
            )
        _replace(path.resolve(), text.encode(), _PRIVATE if private else stat.S_IMODE(found.st_mode) if found else None)


def change_file(path: Path, change: Callable[[bytes], bytes], *, private: bool = False) -> None:
    """Replace the content of a file at once by what `change` returns for it; a new file was empty before.

    A file keeps its permissions; a private one is readable by its owner alone if it is new. Raise CommandError if the file can't
    be written.
    """
    with _writing(path):
        found = _stat(path)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise CommandError(f"{path} is not a regular file: choose a file")
        changed = change(b"" if found is None else path.read_bytes())
        mode = stat.S_IMODE(found.st_mode) if found else _PRIVATE if private else None
        _replace(path.resolve(), changed, mode)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"writing {path}: {error.strerror}: choose a file in a writable directory") from None


def read_text(path: Path) -> str:
    """Return the content of a text file. Raise CommandError if it can't be read or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"reading {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"reading {path}: it is not a text file in UTF-8") from None


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_own(path: Path, own: re.Pattern[str]) -> bool:
    with path.open("rb") as file:
        return own.match(file.read(_HEAD_BYTES).decode(errors="replace")) is not None


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    """Write a new file with some permissions beside the old one, and rename it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        created = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PUBLIC if mode is None else _PRIVATE)
        with os.fdopen(created, "wb") as file:
            file.write(content)
            file.flush()
            if mode is not None:
                os.fchmod(created, mode)
            os.fsync(created)
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
