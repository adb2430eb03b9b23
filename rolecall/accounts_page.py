"""The accounts as a table, lines, CSV or JSON."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.table import Table
from rich.text import Text

from rolecall.accounts import COLUMNS, Entry
from rolecall.console import OUTCOME_STYLES, display_time, print_json, print_page, printable, terminal_width
from rolecall.listing import aligned, write_csv_rows
from rolecall.options import Format

_HEADINGS = ("account", "name", "ou", "outcome", "reason", "change", "enrolled", "in force", "updated", "error")
_WIDE_ONLY = frozenset({"ou", "change", "enrolled", "in force", "updated"})
_CUT = frozenset({"name", "error"})
_WIDE_TERMINAL = 170  # columns


def print_entries(entries: Sequence[Entry], output: Format, *, wide: bool = False) -> None:
    """Print the accounts as a table on a terminal, as lines in a pipe or if `wide`, as CSV or as JSON."""
    width = terminal_width()
    if output is Format.JSON:
        print_json([entry.as_json() for entry in entries])
    elif output is Format.CSV:
        write_csv(entries, sys.stdout)
    elif width is None or wide:
        sys.stdout.writelines(f"{line}\n" for line in entry_lines(entries))
    else:
        print_page(entry_table(entries, width))


def write_csv(entries: Iterable[Entry], out: TextIO) -> None:
    """Write a header and a line for each account; control characters and formula-like values are escaped."""
    write_csv_rows(COLUMNS, (entry.values for entry in entries), out)


def entry_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Return a header and an aligned line for each account; nothing is cut."""
    return aligned([_HEADINGS, *map(_cells, entries)])


def entry_table(entries: Iterable[Entry], width: int) -> Table:
    """Return a table for a terminal: names and errors are cut to fit, and a narrow terminal gets fewer columns."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    chosen = [heading for heading in _HEADINGS if width >= _WIDE_TERMINAL or heading not in _WIDE_ONLY]
    for heading in chosen:
        grid.add_column(heading, no_wrap=heading not in _CUT, min_width=12 if heading == "account" else None)
    for entry in entries:
        cells = dict(zip(_HEADINGS, _cells(entry), strict=True))
        grid.add_row(*(_styled(heading, cells[heading]) for heading in chosen))
    return grid


def _cells(entry: Entry) -> tuple[str, ...]:
    account_id, name, outcome, reason, change, *times, error, ou_id = map(printable, entry.values)
    return account_id, name, ou_id, outcome or "waiting", reason, change, *map(display_time, times), error


def _styled(heading: str, cell: str) -> Text:
    if heading == "outcome":
        return Text(cell, OUTCOME_STYLES.get(cell, "yellow"))
    return Text(cell, no_wrap=True, overflow="ellipsis") if heading in _CUT else Text(cell)
