"""An account as Organizations describes it and as the ledger remembers it, and whether it should be enrolled."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings


class Outcome(StrEnum):
    """Where an account stands."""

    ENROLLED = "enrolled"
    SKIPPED = "skipped"
    FAILED = "failed"
    RETIRED = "retired"


class Change(StrEnum):
    """What a pass did to an account's member role."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A member of the organization, or its management account.

    `ou_ids` are the organizational units above it, nearest last; None where nobody asked for them.
    """

    id: AccountId
    name: str
    state: str
    joined_at: datetime | None
    ou_ids: tuple[str, ...] | None = None

    def is_below(self, ou_ids: Iterable[str]) -> bool:
        """Tell whether the account is in one of some organizational units, or below one."""
        return not frozenset(ou_ids).isdisjoint(self.ou_ids or ())


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """What the ledger keeps of one account; times are ISO 8601 in UTC.

    `policy_name` is the shard of the source policy that names the account, and `attempts` counts the failures since it was
    last where it should be, the first of them at `failed_at`.
    """

    account_id: AccountId
    name: str | None = None
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    role_arn: str | None = None
    fingerprint: str | None = None
    policy_name: str | None = None
    trigger: str | None = None
    access_role: str | None = None
    attempts: int = 0
    failed_at: str | None = None
    joined_at: str | None = None
    enrolled_at: str | None = None
    updated_at: str


RETRIED = frozenset(
    {
        Reason.NOT_READY,
        Reason.THROTTLED,
        Reason.SERVICE_ERROR,
        Reason.STALE_READ,
        Reason.SOURCE_POLICY_PENDING,
        Reason.OVERTAKEN,
        Reason.OUT_OF_TIME,
        Reason.UNEXPECTED,
    }
)
"""The failures whose message goes back to the queue, or is in the dead-letter queue in the end."""

_LONGEST_RETRY = timedelta(hours=6)  # the queue's receives at their longest delays end before this


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def moment(written: str | None) -> datetime:
    """Read a row's time; long ago where a row of another release, or one that was edited, has none that can be read."""
    try:
        read = datetime.fromisoformat(written or "")
    except ValueError:
        return _LONG_AGO
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def written_moment(time: datetime) -> str:
    """Write a time as rows hold it, so that text sorts as time does."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def is_on_its_way(row: LedgerRow, now: datetime) -> bool:
    """Tell whether a failed account is still being tried again with nobody doing anything."""
    return row.reason in RETRIED and now - moment(row.updated_at) <= _LONGEST_RETRY


_UNWORKABLE_STATES = {
    "PENDING_ACTIVATION": Reason.PENDING_ACTIVATION,
    "SUSPENDED": Reason.SUSPENDED,
    "PENDING_CLOSURE": Reason.PENDING_CLOSURE,
    "CLOSED": Reason.CLOSED,
}

OUT_OF_REACH = frozenset({Reason.DEPARTED, Reason.CLOSED, Reason.PENDING_CLOSURE, Reason.SUSPENDED})
"""Why nobody can reach an account any more: a role that is left there is nothing that is left to do."""


def why_out_of_reach(account: Account | None) -> Reason | None:
    """Tell why nobody can reach an account, or None where one can; `account` is None for no member."""
    reason = _UNWORKABLE_STATES.get(account.state) if account else Reason.DEPARTED
    return reason if reason in OUT_OF_REACH else None


def eligibility(account: Account, settings: Settings) -> Reason | None:
    """Tell why an account should not be enrolled, or None where it should; exclusion wins over inclusion."""
    if account.id == settings.management_account_id and not settings.include_management_account:
        return Reason.EXCLUDED
    if account.id in settings.exclude_account_ids or account.is_below(settings.exclude_ou_ids):
        return Reason.EXCLUDED
    if settings.include_ou_ids and not account.is_below(settings.include_ou_ids):
        return Reason.EXCLUDED
    return _UNWORKABLE_STATES.get(account.state)
