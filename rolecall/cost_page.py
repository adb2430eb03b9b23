"""The estimated cost as a page of text."""

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rolecall import prices
from rolecall.console import counted, plain
from rolecall.cost import UNKNOWN, Estimate
from rolecall.document_links import linked

_CENT = 0.01


def build_cost_page(estimate: Estimate) -> Group:
    """Build the page: a line for each charge, the total, and what is not included."""
    return Group(plain(_heading(estimate)), "", _table(estimate), "", *_notes())


def _heading(estimate: Estimate) -> str:
    new = f", {estimate.per_day:,} new a day" if estimate.per_day else ""
    return f"{counted(estimate.accounts, 'account')}{new}: about ${estimate.dollars:,.2f} a month"


def _table(estimate: Estimate) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("service", no_wrap=True)
    table.add_column("what")
    table.add_column("units", justify="right")
    table.add_column("dollars", justify="right", no_wrap=True)
    for line in estimate.lines:
        unit = line.price.unit.removesuffix("s") if line.units == 1 else line.price.unit
        table.add_row(line.price.service, line.what, f"{_units(line.units)} {unit}", _dollars(line.dollars))
    table.add_row(Text("total", "bold"), "", "", Text(_dollars(estimate.dollars), "bold"))
    return table


def _notes() -> Iterator[Text]:
    yield plain(linked(f"Prices of {prices.REGION}, as of {prices.DATE}; docs/cost.md links AWS's pages."))
    yield plain(f"Free: {', '.join(prices.FREE)}.")
    yield plain("Not included:")
    yield from (plain(f"- {each}") for each in UNKNOWN)


def _units(units: float) -> str:
    if units >= 100:  # noqa: PLR2004 - so that small numbers have three digits
        return f"{units:,.0f}"
    return f"{units:.3g}"


def _dollars(dollars: float) -> str:
    return "< 0.01" if 0 < dollars < _CENT else f"{dollars:,.2f}"
