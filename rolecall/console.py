"""How answers are printed: tables and colours on a terminal, plain whole lines where piped, JSON where asked for."""

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_WHOLE_LINES = 100_000
_JOINER = "\u200d"  # joins several emoji into one

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))  # seconds of each

OUTCOME_STYLES = {"enrolled": "green", "pending": "yellow", "skipped": "dim", "failed": "bold red", "retired": "yellow"}


def terminal_width() -> int | None:
    """Tell how many columns the terminal has, or None where the output is piped."""
    console = Console()
    return console.width if console.is_terminal else None


def show(renderable: RenderableType) -> None:
    """Print for a person, or, where piped, without ever wrapping or cutting a line."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(renderable)
        return
    console = Console(highlight=False, width=_WHOLE_LINES)
    with console.capture() as captured:
        console.print(renderable)
    for line in captured.get().splitlines():
        print(line.rstrip())  # noqa: T201 - what a person or program asked for


def whole_lines() -> Console:
    """Open standard output for lines that are never cut nor broken: a terminal wraps them itself."""
    return Console(highlight=False, soft_wrap=True, width=_WHOLE_LINES)


def bare_table(*columns: str) -> Table:
    """Begin a table without rules, whose cells are never cut nor broken."""
    begun = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        begun.add_column(column, no_wrap=True, overflow="ignore")
    return begun


def finish() -> None:
    """Write out what is left; who read it may have read enough, as head does."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try again as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_error(message: str) -> None:
    """Say on standard error, in one line, why a command could not do what was asked."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("rolecall: ", "bold red"), printable(message)), soft_wrap=True)


def facts(pairs: Iterable[tuple[str, RenderableType]]) -> Table:
    """Lay facts out, each behind its label."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, fact in pairs:
        grid.add_row(label, fact)
    return grid


def show_json(content: Any) -> None:
    """Print data for a program; it has no colours and no lines of a person's."""
    json.dump(content, sys.stdout, indent=2, default=_plain)
    sys.stdout.write("\n")


def printable(text: str) -> str:
    r"""Spell out what a terminal would obey or what would break a line, such as \x1b or \n: names are anybody's."""
    return "".join(
        each if each.isprintable() or each == _JOINER else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def plain(text: str, style: str = "") -> Text:
    """Take text as it is, with no markup in it."""
    return Text(printable(text), style)


def display_time(at: str | None) -> str:
    """Shorten a time of the ledger to its minute, in UTC."""
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M}" if at else ""


def age(since: datetime, now: datetime) -> str:
    """Return how long something has lasted, in its largest unit."""
    seconds = max(int((now - since).total_seconds()), 0)
    size, unit = next((each for each in _UNITS if seconds >= each[0]), (1, "second"))
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was, in its largest unit."""
    return f"{age(at, now)} ago" if (now - at).total_seconds() >= _UNITS[-1][0] else "just now"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    message = f"{type(value).__name__} has no form in JSON"
    raise TypeError(message)
