"""The accounts of the report, with their status, and the tree of organizational units that contains them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from chalicelib.accounts import Account, LedgerRow, Outcome, listed_outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from rolecall.organization_units import Unit

WAITING = "waiting"
"""In place of an outcome: the account should be enrolled and was not handled yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedAccount:
    """One account with its outcome and reason as shown.

    `since` is when it was enrolled, became pending or first failed, `checked` when it was last reconciled. `role_arn` is empty if
    it has no member role. `granted` is whether its access is in force, and `still_granted` why it should no longer be.
    """

    account_id: AccountId
    name: str
    outcome: str
    reason: Reason | None = None
    error: str | None = None
    attempts: int = 0
    role_arn: str = ""
    since: str = ""
    checked: str = ""
    granted: bool = False
    still_granted: Reason | None = None
    management: bool = False


@dataclass(frozen=True)
class Branch:
    """A unit of the organization, with its own accounts and the units directly below it."""

    unit: Unit
    accounts: tuple[ReportedAccount, ...]
    branches: tuple["Branch", ...]

    @cached_property
    def counts(self) -> Counter[str]:
        """The number of accounts in and below the unit, by outcome."""
        counts = Counter(account.outcome for account in self.accounts)
        for branch in self.branches:
            counts.update(branch.counts)
        return counts


def listed_account(
    account: Account,
    row: LedgerRow | None,
    ineligible: Reason | None,
    settings: Settings,
    blocked: Reason | None = None,
) -> ReportedAccount:
    """Return an account of the organization; `ineligible` is why it should not be enrolled, `blocked` why publishing is blocked."""
    management = account.id == settings.management_account_id
    if row is None:
        outcome, reason = listed_outcome(row, ineligible)
        return ReportedAccount(
            account_id=account.id, name=account.name, outcome=outcome or WAITING, reason=reason, management=management
        )
    return replace(_from_row(row, ineligible, blocked), name=account.name, management=management)


def departed_account(row: LedgerRow, ineligible: Reason | None) -> ReportedAccount:
    """Return an account of the ledger that is no longer in the organization."""
    return _from_row(row, ineligible)


def _from_row(row: LedgerRow, ineligible: Reason | None, blocked: Reason | None = None) -> ReportedAccount:
    outcome, reason = listed_outcome(row, ineligible, blocked)
    granted = row.in_force_since is not None
    times = {Outcome.ENROLLED: row.in_force_since, Outcome.PENDING: row.enrolled_at, Outcome.FAILED: row.failed_at}
    return ReportedAccount(
        account_id=row.account_id,
        name=row.name or "",
        outcome=outcome or WAITING,
        reason=reason,
        error=row.error,
        attempts=row.attempts,
        role_arn=row.role_arn or "",
        since=(times.get(outcome) if outcome else None) or "",
        checked=row.updated_at,
        granted=granted,
        still_granted=ineligible if granted else None,
    )


def build_trees(
    units: Mapping[str, Unit], accounts: Iterable[Account], reported: Mapping[AccountId, ReportedAccount]
) -> tuple[Branch, ...]:
    """Build a tree for each root, sorted by name. An account whose unit is unknown is put directly below the first root."""
    roots = sorted((unit for unit in units.values() if unit.parent is None), key=_sort_key)
    children: dict[str, list[Unit]] = {}
    for unit in sorted(units.values(), key=_sort_key):
        if unit.parent is not None:
            children.setdefault(unit.parent, []).append(unit)
    inside: dict[str, list[ReportedAccount]] = {}
    for account in accounts:
        nearest = account.ou_ids[-1] if account.ou_ids and account.ou_ids[-1] in units else roots[0].id
        inside.setdefault(nearest, []).append(reported[account.id])

    def branch(unit: Unit) -> Branch:
        own = sorted(inside.get(unit.id, []), key=lambda each: (each.name.casefold(), each.account_id))
        return Branch(unit, tuple(own), tuple(branch(each) for each in children.get(unit.id, [])))

    return tuple(branch(root) for root in roots)


def _sort_key(unit: Unit) -> tuple[str, str]:
    return unit.name.casefold(), unit.id
