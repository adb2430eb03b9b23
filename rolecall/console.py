"""Output of commands: tables and colors on a terminal, plain unwrapped lines in a pipe, JSON on request."""

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from rolecall.document_links import linked

_UNLIMITED_WIDTH = 100_000  # columns
_INDENT = 2  # columns
_MIN_COLUMN_CHARS = 20
_ZERO_WIDTH_JOINER = "\u200d"  # joins several emoji into one

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))  # seconds of each

OUTCOME_STYLES = {"enrolled": "green", "pending": "yellow", "skipped": "dim", "failed": "bold red", "retired": "yellow"}


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; Rich also takes a pipe for one if FORCE_COLOR is set."""
    return stream is not None and stream.isatty()


def output_console(*, stderr: bool = False) -> Console:
    """Return a console for standard output, or for standard error if the output is JSON.

    It is as wide as the terminal; in a pipe, unlimited and not interactive.
    """
    if is_terminal(sys.stderr if stderr else sys.stdout):
        return Console(highlight=False, stderr=stderr)
    return Console(highlight=False, stderr=stderr, soft_wrap=True, width=_UNLIMITED_WIDTH, force_interactive=False)


def terminal_width() -> int | None:
    """Return the number of the terminal's columns, or None if the output is piped."""
    return output_console().width if is_terminal(sys.stdout) else None


def print_page(page: RenderableType) -> None:
    """Print a page; in a pipe, lines are neither wrapped nor cut."""
    print_columns(output_console(), page)


def print_columns(console: Console, content: RenderableType) -> None:
    """Print a table, or a page of them, without the blanks that end its lines."""
    for line in console.render_lines(content, pad=False):
        while line and not line[-1].text.rstrip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        console.print(Segments([*line, Segment.line()]), soft_wrap=True)


def print_line(console: Console, line: Text | str, style: str = "") -> None:
    """Print a line without wrapping it and without interpreting markup; a text with styles must be printable."""
    text = printable(line) if isinstance(line, str) else line
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_indented(console: Console, line: Text | str, style: str = "") -> None:
    """Print a line wrapped at words, whose further lines begin where its text or its last column does.

    A line with `no_wrap`, such as a command to be copied, and a word that is longer than a line are kept whole.
    """
    text = Text(printable(line)) if isinstance(line, str) else line.copy()
    text.stylize(style)
    if text.no_wrap or not text.plain.strip():
        print_line(console, text)
        return
    blanks = len(text.plain) - len(text.plain.lstrip())
    column = text.plain.rfind("  ") + 2
    is_table = blanks < column <= console.width - _MIN_COLUMN_CHARS and "  " in text.plain
    start, further = (column, column) if is_table else (blanks, blanks + _INDENT)
    before, at = text[:start], start
    for wrapped in _wrapped(text.plain[start:], console.width - start, further - start):
        at = text.plain.index(wrapped, at)
        print_line(console, before + text[at : at + len(wrapped)])
        before, at = Text(" " * further), at + len(wrapped)


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Return the lines of a text that is wrapped at words, with room for an indent of all but the first.

    A word that is longer than a line is kept whole, so that it can be copied.
    """
    further = " " * indent
    lines = textwrap.wrap(
        text, max(width, indent + 1), subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
    return [*lines[:1], *(line.removeprefix(further) for line in lines[1:])]


def print_wrapped(console: Console, text: str, prefix: Text | None = None) -> None:
    """Print a text after a prefix, wrapped at words and indented by the prefix. In a pipe, print it on one line.

    A word that is longer than a line, such as an ARN, is kept whole, so that it can be copied.
    """
    before = Text() if prefix is None else prefix
    width = max(console.width - before.cell_len, 1)
    for line in _wrapped(printable(text), width) or [""]:
        print_line(console, before + Text(line))
        before = Text(" " * before.cell_len)


def print_error(message: str) -> None:
    """Print the error that ended a command, as one line on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("rolecall: ", "bold red"), printable(linked(message))), soft_wrap=True)


def print_warning(message: str) -> None:
    """Print what may surprise, and doesn't prevent a command, as one line on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("rolecall: warning: ", "bold yellow"), printable(linked(message))), soft_wrap=True)


def print_debug(message: str) -> None:
    """Print a line of --debug on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text(printable(f"rolecall: debug: {message}"), "dim"), soft_wrap=True)


def print_text(text: str) -> None:
    """Print a text as it is, in the encoding of standard output, which Typer's echo ignores if that is ASCII."""
    sys.stdout.write(text)


def print_problems(summary: str, problems: Iterable[str], unchecked: Iterable[str]) -> None:
    """Print why a command was refused on standard error, one problem per line."""
    console = Console(stderr=True, highlight=False)
    lines = [("✘", "red", each) for each in problems] + [("?", "yellow", f"not checked: {each}") for each in unchecked]
    console.print(Text.assemble(("rolecall: ", "bold red"), printable(summary)), soft_wrap=True)
    for mark, style, line in lines:
        console.print(Text.assemble((f"  {mark} ", style), printable(linked(line))), soft_wrap=True)


def print_json(content: object) -> None:
    """Print data as JSON."""
    json.dump(content, sys.stdout, indent=2, default=_json_value)
    sys.stdout.write("\n")


def print_written(*paths: Path, as_json: bool) -> None:
    """Print which files were written."""
    if as_json:
        print_json({"files": [str(path) for path in paths]})
    else:
        print_text("".join(f"wrote {path}\n" for path in paths))


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


def first_of(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return the first texts in one line, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


def is_time(text: str) -> bool:
    """Whether a text is a time as rows of the ledger contain it."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def display_time(at: str | None) -> str:
    """Return a time of the ledger to the minute, in UTC; one that can't be read, as in an edited row, as it is."""
    if not at or not is_time(at):
        return printable(at or "")
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M}"


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
