"""The accounts of the ledger and of the organization, with the filters that select them."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, listed_outcome, why_ineligible
from chalicelib.arns import AccountId, is_account_id, is_ou_id
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.errors import CommandError
from rolecall.options import Sort
from rolecall.source_policy_state import blocked_reason
from rolecall.stage import Stage

COLUMNS = (
    *("account_id", "name", "outcome", "reason", "change", "enrolled_at", "in_force_since", "updated_at", "error"),
    "ou_id",
)
"""The columns of CSV; JSON has every attribute of the ledger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """The accounts to list; an empty attribute doesn't filter."""

    outcomes: frozenset[Outcome] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    ou_ids: frozenset[str] = frozenset()
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One account: its name, its row (None before its first pass), and why it must not be enrolled, or None.

    `blocked` is why publishing is blocked, if it is. `ou_ids` are the organizational units above it, nearest last.
    """

    account_id: AccountId
    name: str
    row: LedgerRow | None
    ineligible: Reason | None = None
    blocked: Reason | None = None
    ou_ids: tuple[str, ...] = ()

    @property
    def ou_id(self) -> str:
        """The organizational unit that contains it; empty below a root, and for an account that left."""
        return self.ou_ids[-1] if self.ou_ids else ""

    @property
    def shown(self) -> tuple[Outcome | None, Reason | None]:
        """The outcome and reason to show; no outcome while the account waits to be enrolled."""
        return listed_outcome(self.row, self.ineligible, self.blocked)

    def as_json(self) -> dict[str, Any]:
        """Return the attributes of the row with the outcome and reason to show, or nulls, as JSON data."""
        attributes = asdict(self.row) if self.row else dict.fromkeys(field.name for field in fields(LedgerRow))
        outcome, reason = self.shown
        shown = {"account_id": self.account_id, "name": self.name, "outcome": outcome, "reason": reason}
        return attributes | shown | {"ou_ids": list(self.ou_ids)}

    @property
    def values(self) -> tuple[str, ...]:
        """The values of the columns."""
        data = self.as_json() | {"ou_id": self.ou_id}
        return tuple(str(data[column] or "") for column in COLUMNS)


def resolve_account(stage: Stage, text: str) -> AccountId:
    """Return the account with an id or a name, as `resolve_accounts` does."""
    return resolve_accounts(stage, [text])[0]


def resolve_accounts(stage: Stage, texts: Iterable[str]) -> list[AccountId]:
    """Return the accounts with some ids or names. Raise CommandError for a name of no account, or of several.

    The organization is listed only if there is a name. Twelve digits are an id, whatever the accounts' names are.
    """
    wanted = tuple(texts)
    named = {text for text in wanted if not is_account_id(text)}
    ids_by_name = _ids_by_name(stage) if named else {}
    return [AccountId(text) if text not in named else only_account(text, ids_by_name) for text in wanted]


def _ids_by_name(stage: Stage) -> dict[str, list[AccountId]]:
    names = {row.account_id: row.name for row in stage.rows()} | {each.id: each.name for each in stage.accounts()}
    found: dict[str, list[AccountId]] = {}
    for account_id, name in sorted(names.items()):
        if name:
            found.setdefault(name, []).append(account_id)
    return found


def only_account(name: str, ids_by_name: Mapping[str, Sequence[AccountId]]) -> AccountId:
    """Return the account with a name. Raise CommandError if there is none, or several."""
    account_ids = ids_by_name.get(name, ())
    if len(account_ids) > 1:
        raise CommandError(f"{len(account_ids)} accounts are named {name!r}: pass an id of {', '.join(account_ids)}")
    if not account_ids:
        near = difflib.get_close_matches(name, ids_by_name, n=1)
        choice = f"did you mean {near[0]}?" if near else "rolecall accounts lists them"
        raise CommandError(f"{name!r} is neither an account id of twelve digits nor the name of an account: {choice}")
    return account_ids[0]


def parse_filter(outcomes: Iterable[Outcome], reasons: Iterable[Reason], ou_ids: Iterable[str], name: str) -> Filter:
    """Parse the options of a filter. Raise CommandError for an invalid id."""
    wanted = frozenset(ou_ids)
    for ou_id in sorted(wanted):
        if not is_ou_id(ou_id):
            raise CommandError(
                f"--ou is {ou_id!r}: expected the id of an organizational unit, such as ou-ab12-11111111"
            )
    return Filter(outcomes=frozenset(outcomes), reasons=frozenset(reasons), ou_ids=wanted, name=name)


def require_known(stage: Stage, account_ids: Iterable[AccountId]) -> None:
    """Raise CommandError if an account is neither in the organization nor in the ledger."""
    wanted = tuple(account_ids)
    rows = stage.rows_of(wanted)
    unknown = [each for each in wanted if each not in rows and stage.account(each) is None]
    if unknown:
        raise CommandError(
            f"{', '.join(unknown)}: not in this organization, nor in the ledger of stage {stage.name}; nothing was done"
        )


def accounts_below(stage: Stage, ou_ids: Iterable[str]) -> list[Account]:
    """Return the organization's accounts, or those below some organizational units.

    Raise CommandError if an organizational unit doesn't exist, or if none of them contains an account.
    """
    accounts, wanted = stage.accounts(), frozenset(ou_ids)
    _require_units(stage, wanted, accounts)
    below = [account for account in accounts if not wanted or account.is_below(wanted)]
    if not below:
        raise CommandError(
            f"no accounts in {', '.join(sorted(wanted))}: name organizational units that contain accounts"
        )
    return below


def read_ou_paths(stage: Stage) -> dict[AccountId, str]:
    """Return the names of the organizational units above each account of the organization, such as "Workloads/Production"."""
    units = stage.units()
    return {
        account.id: "/".join(units[ou_id].name for ou_id in account.ou_ids or () if ou_id in units)
        for account in stage.accounts()
    }


def _require_units(stage: Stage, ou_ids: frozenset[str], accounts: Iterable[Account]) -> None:
    with_accounts = {ou_id for account in accounts for ou_id in account.ou_ids or ()}
    # The organizational units are listed only if one may not exist.
    unknown = sorted(ou_ids - with_accounts - stage.units().keys()) if ou_ids - with_accounts else []
    if unknown:
        raise CommandError(f"--ou is {unknown[0]}: the organization has no organizational unit with this id")


def read_entries(stage: Stage, wanted: Filter) -> list[Entry]:
    """Return the accounts that match a filter, sorted by id."""
    records, rows = stage.records(), stage.rows()
    accounts = stage.accounts()
    _require_units(stage, wanted.ou_ids, accounts)
    return select(rows, accounts, wanted, records, stage.settings)


def select(
    rows: Iterable[LedgerRow], listed: Iterable[Account], wanted: Filter, records: Records, settings: Settings
) -> list[Entry]:
    """Return the accounts that match a filter, sorted by id; accounts that left the organization match no OU."""
    known = {row.account_id: row for row in rows}
    accounts = {account.id: account for account in listed}
    uninstalling, blocked = records.control.uninstalling or records.control.uninstalled, blocked_reason(records)
    found = []
    for account_id in sorted(known.keys() | accounts.keys()):
        row, account = known.get(account_id), accounts.get(account_id)
        name = (account.name if account else row.name if row else None) or ""
        ineligible = why_ineligible(account, row, settings, uninstalling=uninstalling)
        ou_ids = (account.ou_ids if account else None) or ()
        entry = Entry(account_id=account_id, name=name, row=row, ineligible=ineligible, blocked=blocked, ou_ids=ou_ids)
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


def sort_entries(entries: Iterable[Entry], by: Sort) -> list[Entry]:
    """Return the accounts in some order: times newest first, names regardless of case, what is missing last."""
    found = sorted(entries, key=lambda entry: entry.account_id)
    match by:
        case Sort.ACCOUNT:
            return found
        case Sort.UPDATED:
            return sorted(found, key=lambda entry: entry.row.updated_at if entry.row else "", reverse=True)
    column = {Sort.NAME: 1, Sort.OUTCOME: 2, Sort.REASON: 3, Sort.OU: COLUMNS.index("ou_id")}[by]
    return sorted(found, key=lambda entry: (not entry.values[column], entry.values[column].casefold()))


def _matches(name: str, pattern: str) -> bool:
    """Match a glob or, without a wildcard, a substring, ignoring case."""
    if any(each in pattern for each in "*?["):
        return fnmatchcase(name.casefold(), pattern.casefold())
    return pattern.casefold() in name.casefold()
