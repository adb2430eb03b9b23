"""Where every account stands, and the organization's units with what is in and below each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from chalicelib.accounts import Account, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from rolecall.stage import Unit

WAITING = "waiting"
"""Stands in an outcome's place where an account should be enrolled and the ledger doesn't know it yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One account's outcome and reason as shown, since when it is enrolled, pending or failing, and when it was last checked.

    `granted` is whether its access is in force, and `still_granted` why it should no longer be.
    """

    account_id: AccountId
    name: str
    outcome: str
    reason: Reason | None = None
    error: str | None = None
    attempts: int = 0
    since: str = ""
    checked: str = ""
    granted: bool = False
    still_granted: Reason | None = None
    management: bool = False


@dataclass(frozen=True)
class Branch:
    """A unit of the organization, with its own accounts and the units right below it."""

    unit: Unit
    accounts: tuple[Standing, ...]
    branches: tuple["Branch", ...]

    @cached_property
    def counts(self) -> Counter[str]:
        """Count the accounts in and below it by outcome."""
        own = Counter(standing.outcome for standing in self.accounts)
        for branch in self.branches:
            own.update(branch.counts)
        return own


def standing_of(
    account: Account,
    row: LedgerRow | None,
    ineligible: Reason | None,
    settings: Settings,
    blocked: Reason | None = None,
) -> Standing:
    """Return the standing of a listed account, given why it should not be enrolled, if so, and why publishing is blocked."""
    management = account.id == settings.management_account_id
    if row is None:
        return Standing(
            account_id=account.id,
            name=account.name,
            outcome=WAITING if ineligible is None else Outcome.SKIPPED,
            reason=ineligible,
            management=management,
        )
    standing = replace(_by_row(row, blocked), name=account.name, management=management)
    if ineligible is None and row.outcome in {Outcome.SKIPPED, Outcome.RETIRED}:
        return replace(standing, outcome=WAITING, reason=None)
    return standing if ineligible is None else replace(standing, still_granted=ineligible if standing.granted else None)


def gone(rows: Iterable[LedgerRow], listed: Iterable[Account]) -> tuple[Standing, ...]:
    """Return the standings of the accounts in the ledger that are not in the organization any more."""
    known = {account.id for account in listed}
    left = (_by_row(row) for row in rows if row.account_id not in known)
    return tuple(replace(each, still_granted=Reason.DEPARTED if each.granted else None) for each in left)


def _by_row(row: LedgerRow, blocked: Reason | None = None) -> Standing:
    outcome, reason = shown_outcome(row, blocked)
    since = {Outcome.ENROLLED: row.in_force_since, Outcome.PENDING: row.enrolled_at, Outcome.FAILED: row.failed_at}.get(
        outcome
    )
    return Standing(
        account_id=row.account_id,
        name=row.name or "",
        outcome=outcome,
        reason=reason,
        error=row.error,
        attempts=row.attempts,
        since=since or "",
        checked=row.updated_at,
        granted=row.in_force_since is not None,
    )


def trees(
    units: Mapping[str, Unit], accounts: Iterable[Account], standings: Mapping[AccountId, Standing]
) -> tuple[Branch, ...]:
    """Arrange the accounts under their units, in the order of names; one whose unit is unknown stands under the first root."""
    roots = sorted((unit for unit in units.values() if unit.parent is None), key=_order)
    below: dict[str, list[Unit]] = {}
    for unit in sorted(units.values(), key=_order):
        if unit.parent is not None:
            below.setdefault(unit.parent, []).append(unit)
    inside: dict[str, list[Standing]] = {}
    for account in accounts:
        nearest = account.ou_ids[-1] if account.ou_ids and account.ou_ids[-1] in units else roots[0].id
        inside.setdefault(nearest, []).append(standings[account.id])

    def branch(unit: Unit) -> Branch:
        own = sorted(inside.get(unit.id, []), key=lambda each: (each.name.casefold(), each.account_id))
        return Branch(unit, tuple(own), tuple(branch(each) for each in below.get(unit.id, [])))

    return tuple(branch(root) for root in roots)


def _order(unit: Unit) -> tuple[str, str]:
    return unit.name.casefold(), unit.id
