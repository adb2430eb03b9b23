"""The accounts of the ledger and of the organization, with the filters that select them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId, is_account_id, is_ou_id
from chalicelib.errors import Reason
from rolecall.errors import CommandError
from rolecall.organization_units import read_units
from rolecall.source_policy_state import blocked_reason
from rolecall.stage import Stage

COLUMNS = ("account_id", "name", "outcome", "reason", "change", "enrolled_at", "in_force_since", "updated_at", "error")
"""The columns of the table and of CSV; JSON has every attribute of the ledger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """The accounts to list; an empty attribute doesn't filter."""

    outcomes: frozenset[Outcome] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    ou_ids: frozenset[str] = frozenset()
    name: str = ""

    @property
    def needs_row(self) -> bool:
        """Whether only accounts with a row in the ledger can match."""
        return bool(self.outcomes or self.reasons)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One account: its name, its row, or None if it was not handled yet, and why publishing is blocked, if it is."""

    account_id: AccountId
    name: str
    row: LedgerRow | None
    blocked: Reason | None = None

    @property
    def shown(self) -> tuple[Outcome | None, Reason | None]:
        """The outcome and reason to show."""
        return shown_outcome(self.row, self.blocked) if self.row else (None, None)

    def as_json(self) -> dict[str, Any]:
        """Return the attributes of the row with the outcome and reason to show, or nulls, as JSON data."""
        attributes = asdict(self.row) if self.row else dict.fromkeys(field.name for field in fields(LedgerRow))
        outcome, reason = self.shown
        return attributes | {"account_id": self.account_id, "name": self.name, "outcome": outcome, "reason": reason}

    @property
    def values(self) -> tuple[str, ...]:
        """The values of the columns."""
        data = self.as_json()
        return tuple(str(data[column] or "") for column in COLUMNS)


def parse_account_id(text: str) -> AccountId:
    """Parse an account id. Raise CommandError if it isn't one."""
    if not is_account_id(text):
        raise CommandError(f"{text!r} is not an account id: expected twelve digits (see rolecall accounts)")
    return AccountId(text)


def parse_filter(outcomes: Iterable[Outcome], reasons: Iterable[Reason], ou_ids: Iterable[str], name: str) -> Filter:
    """Parse the options of a filter. Raise CommandError for an invalid id."""
    wanted = frozenset(ou_ids)
    for ou_id in sorted(wanted):
        if not is_ou_id(ou_id):
            raise CommandError(
                f"--ou is {ou_id!r}: expected the id of an organizational unit, such as ou-ab12-11111111"
            )
    return Filter(outcomes=frozenset(outcomes), reasons=frozenset(reasons), ou_ids=wanted, name=name)


def read_entries(stage: Stage, wanted: Filter) -> list[Entry]:
    """Return the accounts that match a filter, sorted by id. The organization is listed only if the filter needs it."""
    blocked = blocked_reason(stage.records())
    rows = stage.rows()
    if not wanted.ou_ids and wanted.needs_row:
        return select(rows, None, wanted, blocked)
    accounts = stage.accounts()
    with_accounts = {ou_id for account in accounts for ou_id in account.ou_ids or ()}
    if wanted.ou_ids - with_accounts:
        unknown = sorted(wanted.ou_ids - set(read_units(stage.client("organizations"))))
        if unknown:
            raise CommandError(f"--ou is {unknown[0]}: the organization has no organizational unit with this id")
    return select(rows, accounts, wanted, blocked)


def select(
    rows: Iterable[LedgerRow], listed: Iterable[Account] | None, wanted: Filter, blocked: Reason | None = None
) -> list[Entry]:
    """Return the accounts that match a filter, sorted by id; accounts that left the organization match no OU."""
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
        if _matches(name, wanted.name):
            found.append(entry)
    return found


def _matches(name: str, pattern: str) -> bool:
    """Match a glob or, without a wildcard, a substring, ignoring case."""
    if any(each in pattern for each in "*?["):
        return fnmatchcase(name.casefold(), pattern.casefold())
    return pattern.casefold() in name.casefold()
