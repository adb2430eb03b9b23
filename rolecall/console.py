"""Output of commands: tables and colors on a terminal, plain unwrapped lines in a pipe, JSON on request."""

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_UNLIMITED_WIDTH = 100_000  # columns
_ZERO_WIDTH_JOINER = "\u200d"  # joins several emoji into one

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))  # seconds of each

OUTCOME_STYLES = {"enrolled": "green", "pending": "yellow", "skipped": "dim", "failed": "bold red", "retired": "yellow"}


def terminal_width() -> int | None:
    """Return the number of the terminal's columns, or None if the output is piped."""
    console = Console()
    return console.width if console.is_terminal else None


def print_page(page: RenderableType) -> None:
    """Print a page; in a pipe, lines are neither wrapped nor cut."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(page)
        return
    console = Console(highlight=False, width=_UNLIMITED_WIDTH)
    with console.capture() as captured:
        console.print(page)
    for line in captured.get().splitlines():
        print(line.rstrip())  # noqa: T201 - the command's output


def unwrapped_console() -> Console:
    """Return a console for standard output that neither wraps nor cuts lines."""
    return Console(highlight=False, soft_wrap=True, width=_UNLIMITED_WIDTH)


def print_line(console: Console, line: Text | str, style: str = "") -> None:
    """Print a line without wrapping it and without interpreting markup."""
    console.print(line, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_error(message: str) -> None:
    """Print the error that ended a command, as one line on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("rolecall: ", "bold red"), printable(message)), soft_wrap=True)


def print_json(content: object) -> None:
    """Print data as JSON."""
    json.dump(content, sys.stdout, indent=2, default=_json_value)
    sys.stdout.write("\n")


def flush_output() -> None:
    """Flush standard output; a pipe that its reader closed, as head does, is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush again at exit and print the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def bare_table(*columns: str) -> Table:
    """Return an empty table without rules whose cells are neither wrapped nor cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ignore")
    return table


def label_grid(pairs: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return a grid of labels and their values."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in pairs:
        grid.add_row(label, value)
    return grid


def printable(text: str) -> str:
    r"""Escape what a terminal would interpret or what would break a line, such as \x1b or \n: names are untrusted."""
    return "".join(
        each if each.isprintable() or each == _ZERO_WIDTH_JOINER else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def plain(text: str, style: str = "") -> Text:
    """Return printable text without interpreting markup."""
    return Text(printable(text), style)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 account" or "2 accounts"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def display_time(at: str | None) -> str:
    """Return a time of the ledger to the minute, in UTC."""
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M}" if at else ""


def age(since: datetime, now: datetime) -> str:
    """Return how long something has lasted, in its largest unit."""
    seconds = max(int((now - since).total_seconds()), 0)
    size, unit = next((each for each in _UNITS if seconds >= each[0]), (1, "second"))
    return counted(seconds // size, unit)


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was, in its largest unit."""
    return f"{age(at, now)} ago" if (now - at).total_seconds() >= _UNITS[-1][0] else "just now"


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    message = f"{type(value).__name__} is not JSON serializable"
    raise TypeError(message)
