"""Lists of things with the same attributes: as a table on a terminal, as aligned lines in a pipe, as CSV or as JSON."""

import csv
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.table import Table

from rolecall.console import plain, print_json, print_page, printable, terminal_width
from rolecall.options import Format

_FORMULA_PREFIXES = frozenset("=+-@")
_IGNORED = " \u200d"  # by a spreadsheet at the beginning of a cell


def print_listing(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]], output: Format) -> None:
    """Print rows by the columns' headings; CSV has the names of the columns, and JSON all that a row contains."""
    cells = [[_text(row[column]) for column in columns] for row in rows]
    if output is Format.JSON:
        print_json(rows)
    elif output is Format.CSV:
        write_csv_rows(columns, cells, sys.stdout)
    elif terminal_width() is None:
        sys.stdout.writelines(f"{line}\n" for line in aligned([[*columns.values()], *cells]))
    else:
        grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for heading in columns.values():
            grid.add_column(heading, overflow="fold")
        for values in cells:
            grid.add_row(*map(plain, values))
        print_page(grid)


def write_csv_rows(columns: Iterable[str], rows: Iterable[Iterable[str]], out: TextIO) -> None:
    """Write a header and a line for each row; control characters and formula-like values are escaped."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(map(cell_of_spreadsheet, row))


def cell_of_spreadsheet(value: str) -> str:
    """Return a printable value that no spreadsheet takes for a formula; full-width characters begin one, too."""
    text = printable(value)
    beginning = unicodedata.normalize("NFKC", text.lstrip(_IGNORED)[:1])
    return f"'{text}" if beginning in _FORMULA_PREFIXES else text


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a line for each row, with aligned columns; nothing is cut."""
    printed = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*printed, strict=True)]
    for row in printed:
        yield "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()


def _text(value: object) -> str:
    return "" if value is None else str(value)
