"""Lines for a person: coloured on a terminal, plain where they are piped, and whole on both."""

from rich.console import Console
from rich.table import Table

_WIDEST = 10_000  # columns: rich cuts tables that are wider than its console


def console() -> Console:
    """Open standard output, whose lines are never cut nor broken: a terminal wraps them itself."""
    return Console(highlight=False, soft_wrap=True, width=_WIDEST)


def table(*columns: str) -> Table:
    """Begin a table without lines."""
    begun = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        begun.add_column(column, no_wrap=True, overflow="ignore")
    return begun


def one_line(text: str) -> str:
    """Take what would break a line, or command a terminal, out of a text that others wrote."""
    return "".join(character if character.isprintable() else "�" for character in text)
