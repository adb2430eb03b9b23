"""Output files of commands."""

from pathlib import Path

from rolecall.errors import CommandError


def write_text(path: Path, text: str) -> None:
    """Write a text file. Raise CommandError if it can't be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"writing {path}: {error.strerror}: choose a file in a writable directory") from None
