"""Standard output and standard error: characters that their encoding lacks, and output that can't be written."""

import codecs
import contextlib
import io
import os
import sys

_REPLACEMENTS = {"✔": "+", "✘": "x", "→": "->", "…": "...", "█": "#", "░": "."}
_HANDLER = "rolecall.replace"


def _replace(error: UnicodeError) -> tuple[str, int]:
    r"""Return text for characters that an encoding lacks, such as \xfc, and where encoding continues.

    A question mark, as Python's own "replace" writes it, marks an unknown result in the output.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    text = "".join(_REPLACEMENTS.get(each) or each.encode("ascii", "backslashreplace").decode() for each in missing)
    return text, error.end


codecs.register_error(_HANDLER, _replace)


def replace_unencodable() -> None:
    """Have both streams replace characters that their encoding lacks; Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def discard_unwritten() -> None:
    """Discard output that can't be written: Python would write it again at exit, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # None if it was closed before the start
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
