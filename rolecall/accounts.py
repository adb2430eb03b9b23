"""The accounts, one row each: those in the ledger, and unless a filter needs a row, those that were not handled yet."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, TextIO

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from chalicelib.accounts import Account, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId, is_account_id, is_ou_id
from chalicelib.errors import Reason
from rolecall.console import OUTCOME_STYLES, display_time, printable, show, show_json, terminal_width
from rolecall.errors import CommandError
from rolecall.source_policy import blocked_reason
from rolecall.stage import Stage

COLUMNS = ("account_id", "name", "outcome", "reason", "change", "enrolled_at", "in_force_since", "updated_at", "error")
"""The columns of a table and of CSV; JSON has every attribute of the ledger."""

_HEADINGS = ("account", "name", "outcome", "reason", "change", "enrolled", "in force", "updated", "error")
_WIDE_ONLY = frozenset({"change", "enrolled", "in force", "updated"})
_CUT = frozenset({"name", "error"})
_ROOMY = 150  # columns of a terminal
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which accounts are asked for; what is empty narrows nothing."""

    outcomes: frozenset[Outcome] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    ou_ids: frozenset[str] = frozenset()
    name: str = ""

    @property
    def known_only(self) -> bool:
        """Tell whether only accounts that the ledger knows can be meant."""
        return bool(self.outcomes or self.reasons)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One account: its name, and its row, which is None if it was not handled yet; `blocked` is why publishing is blocked."""

    account_id: AccountId
    name: str
    row: LedgerRow | None
    blocked: Reason | None = None

    @property
    def shown(self) -> tuple[Outcome | None, Reason | None]:
        """The outcome and reason to show."""
        return shown_outcome(self.row, self.blocked) if self.row else (None, None)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data: the attributes of its row with the outcome and reason to show, or nulls."""
        kept = asdict(self.row) if self.row else dict.fromkeys(field.name for field in fields(LedgerRow))
        outcome, reason = self.shown
        return kept | {"account_id": self.account_id, "name": self.name, "outcome": outcome, "reason": reason}

    @property
    def values(self) -> tuple[str, ...]:
        """What a table and CSV have of it, in the order of COLUMNS."""
        written = self.as_json()
        return tuple(str(written[column] or "") for column in COLUMNS)


def read_account_id(text: str) -> AccountId:
    """Read an account id, or tell in a CommandError what it must be."""
    if not is_account_id(text):
        raise CommandError(f"{text!r} is no account id: it must be twelve digits, as rolecall accounts lists them")
    return AccountId(text)


def read_filter(outcomes: Iterable[Outcome], reasons: Iterable[Reason], ou_ids: Iterable[str], name: str) -> Filter:
    """Read the options; a CommandError tells which is wrong, and what it may be."""
    wanted = frozenset(ou_ids)
    for ou_id in sorted(wanted):
        if not is_ou_id(ou_id):
            raise CommandError(
                f"--ou is {ou_id!r}: it must be the id of an organizational unit, such as ou-ab12-11111111"
            )
    return Filter(outcomes=frozenset(outcomes), reasons=frozenset(reasons), ou_ids=wanted, name=name)


def read_entries(stage: Stage, wanted: Filter) -> list[Entry]:
    """Read the accounts that are asked for, by id; the organization is listed only where the ledger can't tell."""
    blocked = blocked_reason(stage.records())
    rows = stage.rows()
    if not wanted.ou_ids and wanted.known_only:
        return select(rows, None, wanted, blocked)
    accounts = stage.accounts()
    inhabited = {ou_id for account in accounts for ou_id in account.ou_ids or ()}
    if wanted.ou_ids - inhabited:
        unknown = sorted(wanted.ou_ids - set(stage.units()))
        if unknown:
            raise CommandError(f"--ou is {unknown[0]}: the organization has no organizational unit of this id")
    return select(rows, accounts, wanted, blocked)


def select(
    rows: Iterable[LedgerRow], listed: Iterable[Account] | None, wanted: Filter, blocked: Reason | None = None
) -> list[Entry]:
    """Return the accounts that a filter selects, by id; those that have left the organization are below no OU."""
    known = {row.account_id: row for row in rows}
    accounts = {account.id: account for account in listed or ()}
    found = []
    for account_id in sorted(known.keys() | accounts.keys()):
        row, account = known.get(account_id), accounts.get(account_id)
        name = (account.name if account else row.name if row else None) or ""
        entry = Entry(account_id=account_id, name=name, row=row, blocked=blocked)
        outcome, reason = entry.shown
        if wanted.ou_ids and (account is None or not account.is_below(wanted.ou_ids)):
            continue
        if wanted.outcomes and outcome not in wanted.outcomes:
            continue
        if wanted.reasons and reason not in wanted.reasons:
            continue
        if _is_named(name, wanted.name):
            found.append(entry)
    return found


def _is_named(name: str, wanted: str) -> bool:
    """Match a glob, or, where it has no wildcard, a part of the name; case doesn't count."""
    if any(each in wanted for each in "*?["):
        return fnmatchcase(name.casefold(), wanted.casefold())
    return wanted.casefold() in name.casefold()


def print_entries(entries: Sequence[Entry], *, as_json: bool, as_csv: bool) -> None:
    """Print the accounts as a table, or in the one other form that is asked for."""
    width = terminal_width()
    if as_json and as_csv:
        raise CommandError("--json and --csv are two forms: ask for one of them")
    if as_json:
        show_json([entry.as_json() for entry in entries])
    elif as_csv:
        write_csv(entries, sys.stdout)
    elif width is None:
        sys.stdout.writelines(f"{line}\n" for line in lines(entries))
    else:
        show(table(entries, width))


def write_csv(entries: Iterable[Entry], out: TextIO) -> None:
    """Write a header and a line an account; what a spreadsheet would take for a formula gets an apostrophe."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        writer.writerow([_harmless(value) for value in entry.values])


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Write a line an account for a pipe: aligned, and none cut."""
    rows = [_HEADINGS, *map(_cells, entries)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()


def table(entries: Iterable[Entry], width: int) -> Table:
    """Lay the accounts out for a terminal: names and errors are cut where they don't fit, and a narrow one has fewer columns."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    chosen = [heading for heading in _HEADINGS if width >= _ROOMY or heading not in _WIDE_ONLY]
    for heading in chosen:
        grid.add_column(heading, no_wrap=heading not in _CUT, min_width=12 if heading == "account" else None)
    for entry in entries:
        cells = dict(zip(_HEADINGS, _cells(entry), strict=True))
        grid.add_row(*(_styled(heading, cells[heading]) for heading in chosen))
    return grid


def _cells(entry: Entry) -> tuple[str, ...]:
    account_id, name, outcome, reason, change, *times, error = map(printable, entry.values)
    return account_id, name, outcome or "waiting", reason, change, *map(display_time, times), error


def _styled(heading: str, cell: str) -> Text:
    if heading == "outcome":
        return Text(cell, OUTCOME_STYLES.get(cell, "yellow"))
    return Text(cell, no_wrap=True, overflow="ellipsis") if heading in _CUT else Text(cell)


def _harmless(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value
