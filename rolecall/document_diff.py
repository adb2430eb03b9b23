"""Two documents as a diff."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

from rich.text import Text

_CONTEXT_LINES = 3
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def diff_lines(before: Any, after: Any) -> Iterator[Text]:  # noqa: ANN401 - any JSON
    """Yield the differing lines of two documents with context; all lines if the other is None."""
    for line in _diff(before, after):
        yield Text(f"        {line}", _STYLES.get(line[0], "") if line else "")


def _diff(before: Any, after: Any) -> list[str]:  # noqa: ANN401
    old, new = _pretty(before), _pretty(after)
    if not old or not new:
        return [f"{'+' if new else '-'} {line}" for line in new or old]
    lines = list(difflib.unified_diff(old, new, lineterm="", n=_CONTEXT_LINES))[2:]  # without the file names
    return [line if line.startswith("@") else f"{line[0]} {line[1:]}" for line in lines]


def _pretty(document: Any) -> list[str]:  # noqa: ANN401
    return [] if document is None else json.dumps(document, indent=2, ensure_ascii=True).splitlines()
