"""Writes what a command makes to a file that the operator names."""

from pathlib import Path

from rolecall.errors import CommandError


def write_text(path: Path, text: str) -> None:
    """Write a text file, or end the command with what is in the way."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"writing {path}: {error.strerror}: name a file in a directory that you may write to"
        ) from None
