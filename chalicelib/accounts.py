"""An account as Organizations describes it and as the ledger records it, and whether it should be enrolled."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import AccountTag, Settings


class Outcome(StrEnum):
    """The status of an account; `pending` is shown and never stored: the role is there, the access isn't in force yet."""

    ENROLLED = "enrolled"
    PENDING = "pending"
    SKIPPED = "skipped"
    FAILED = "failed"
    RETIRED = "retired"


class Access(StrEnum):
    """What the source policy, or in scope none the member role's trust, should grant for an account.

    `excluded` is a member of the organization that must not be reached, which scope organization has to name; `none` is an
    account that can't be reached (closed, suspended, no member). A row without access counts as no row.
    """

    GRANTED = "granted"
    EXCLUDED = "excluded"
    NONE = "none"


class Change(StrEnum):
    """What a pass did to an account's member role."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A member of the organization, or its management account.

    `ou_ids` are the organizational units above it, nearest last; None where they were not read. `tags` are its tags of
    the keys that the settings select by, whose value is None where it has none of that key; None where they were not
    read.
    """

    id: AccountId
    name: str
    state: str
    joined_at: datetime | None
    ou_ids: tuple[str, ...] | None = None
    tags: Mapping[str, str | None] | None = None

    def is_below(self, ou_ids: Iterable[str]) -> bool:
        """Whether the account is in one of the organizational units, or below one."""
        return not frozenset(ou_ids).isdisjoint(self.ou_ids or ())

    def has_tag(self, wanted: Iterable[AccountTag]) -> bool:
        """Whether the account has one of the tags."""
        own = self.tags or {}
        return any(own.get(tag.key) is not None and tag.value in {None, own[tag.key]} for tag in wanted)

    def shows_selection(self, settings: Settings) -> bool:
        """Whether it contains all that the settings select by, which one listed for other settings may lack."""
        return (self.ou_ids is not None or not settings.names_ous) and settings.tag_keys <= (self.tags or {}).keys()


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """What the ledger keeps of one account; times are ISO 8601 in UTC.

    `access` is written by enroll alone, `in_force_since` by publish alone, or in scope none by enroll (absent while the
    source policy, or in scope none the member role, doesn't grant the account), and `retirement_requested_at` by retire
    and backfill alone. `revision` counts every write but publish's. `attempts` counts the failures since the account
    was last enrolled or skipped, the first of them at `failed_at`; 0 in a failed row means that the source policy was
    blocked. `fingerprint` is of the settings that the role was last made for, and `attempted_fingerprint` of changed
    settings that failed in an account which was enrolled.

    `outcome_since` is when outcome and reason last changed, and `previous_outcome` and `previous_reason` are what they
    were before. `marked_for` is written by publish with every change of `in_force_since`: the `outcome_since` that it
    had read. `ou_path` are the ids of the organizational units above the account, nearest last, separated by slashes.
    """

    account_id: AccountId
    name: str | None = None
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    access: Access | None = None
    in_force_since: str | None = None
    role_arn: str | None = None
    fingerprint: str | None = None
    attempted_fingerprint: str | None = None
    trigger: str | None = None
    access_role: str | None = None
    attempts: int = 0
    failed_at: str | None = None
    joined_at: str | None = None
    ou_path: str | None = None
    enrolled_at: str | None = None
    outcome_since: str | None = None
    previous_outcome: Outcome | None = None
    previous_reason: Reason | None = None
    marked_for: str | None = None
    retirement_requested_at: str | None = None
    revision: int = 0
    updated_at: str

    @property
    def has_access(self) -> bool:
        """Whether the account is to be granted, or still is."""
        return self.access is Access.GRANTED or self.in_force_since is not None


_LEFT_OUT = frozenset({Outcome.SKIPPED, Outcome.RETIRED})


def shown_outcome(row: LedgerRow, blocked: Reason | None = None) -> tuple[Outcome, Reason | None]:
    """Return the outcome and reason that a person is shown: enrolled only once the source policy grants the account.

    Until it does, and while a skipped or retired account is still granted, the account is pending; `blocked` is why
    publishing is blocked, if it is.
    """
    if row.outcome is Outcome.ENROLLED and row.in_force_since is None:
        return Outcome.PENDING, blocked or Reason.SOURCE_POLICY_PENDING
    if row.outcome in _LEFT_OUT and row.in_force_since is not None:
        return Outcome.PENDING, Reason.SOURCE_POLICY_PENDING
    return row.outcome, row.reason


def settled_outcome(row: LedgerRow) -> tuple[Outcome | None, Reason | None]:
    """Return the outcome and reason that were last shown, apart from pending; None if there were none.

    An outcome is pending with the mark or without it. So if publish has changed the mark since the row has its outcome,
    that was shown before the change. If publish read the row before it got its outcome, the one before is returned
    though this one may have been shown.
    """
    shown = shown_outcome(row)
    if shown[0] is not Outcome.PENDING:
        return shown
    if row.marked_for is not None and row.marked_for == row.outcome_since:
        return row.outcome, row.reason
    return row.previous_outcome, row.previous_reason


def with_outcome(row: LedgerRow, outcome: Outcome, reason: Reason | None, now: datetime) -> LedgerRow:
    """Return a row with an outcome and a reason; if they differ, since now, and with the ones before."""
    if (row.outcome, row.reason) == (outcome, reason):
        return row if row.outcome_since is not None else replace(row, outcome_since=format_time(now))
    # While a row has the mark, an account that is left out is pending, and keeps what was shown before.
    is_left_out = {row.outcome, outcome} <= _LEFT_OUT
    before, why_before = settled_outcome(row) if is_left_out else (row.outcome, row.reason)
    return replace(
        row,
        outcome=outcome,
        reason=reason,
        outcome_since=format_time(now),
        previous_outcome=before,
        previous_reason=why_before,
    )


def listed_outcome(
    row: LedgerRow | None, ineligible: Reason | None, blocked: Reason | None = None
) -> tuple[Outcome | None, Reason | None]:
    """Return the outcome and reason by which an account of the organization or of the ledger is listed and counted.

    `ineligible` is why it must not be enrolled, or None. The outcome is None while an eligible account waits for a pass.
    Until a pass has found that an account is no longer eligible, it is pending if it is granted, and otherwise skipped.
    """
    is_left_out = row is not None and row.outcome in _LEFT_OUT
    if ineligible is None:
        return (None, None) if row is None or is_left_out else shown_outcome(row, blocked)
    if row is None or (row.in_force_since is None and not is_left_out):
        return Outcome.SKIPPED, ineligible
    outcome, reason = shown_outcome(row)
    return (outcome, reason or ineligible) if is_left_out else (Outcome.PENDING, Reason.SOURCE_POLICY_PENDING)


RETRYABLE_REASONS = frozenset(
    {
        Reason.NOT_READY,
        Reason.THROTTLED,
        Reason.SERVICE_ERROR,
        Reason.STALE_READ,
        Reason.SOURCE_POLICY_PENDING,
        Reason.CONFLICT,
        Reason.OUT_OF_TIME,
        Reason.UNEXPECTED,
    }
)
"""Failures whose message returns to the queue, and in the end moves to the dead-letter queue."""

CONTROL_POLICY_DENIALS = frozenset({Reason.SCP_DENIED, Reason.RCP_DENIED})
"""Failures that a change of the organization's control policies may end."""

_MAX_RETRY = timedelta(hours=6)  # All receives that the queue allows, at their longest delays, end before this.


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def parse_time(written: str | None) -> datetime:
    """Parse a time in a row; return the earliest time if it is missing or malformed, as in a row that was edited."""
    try:
        read = datetime.fromisoformat(written or "")
    except ValueError:
        return _LONG_AGO
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """Format a time as rows contain it: in UTC, so that texts sort as times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def is_retry_pending(row: LedgerRow, now: datetime) -> bool:
    """Whether the queue still retries a failed account."""
    return row.reason in RETRYABLE_REASONS and now - parse_time(row.updated_at) <= _MAX_RETRY


_UNWORKABLE_STATES = {
    "PENDING_ACTIVATION": Reason.PENDING_ACTIVATION,
    "SUSPENDED": Reason.SUSPENDED,
    "PENDING_CLOSURE": Reason.PENDING_CLOSURE,
    "CLOSED": Reason.CLOSED,
}

UNREACHABLE = frozenset({Reason.DEPARTED, Reason.CLOSED, Reason.SUSPENDED})
"""The reasons for which an account can't be entered: a role left in it can't be deleted."""


def why_unreachable(account: Account | None) -> Reason | None:
    """Return why an account can't be entered, or None if it can; `account` is None if it is no member."""
    reason = _UNWORKABLE_STATES.get(account.state) if account else Reason.DEPARTED
    return reason if reason in UNREACHABLE else None


REMOVAL_REASONS = frozenset({Reason.RETIRED_BY_REQUEST, Reason.UNINSTALLED})
"""The reasons for which the member role is deleted, once the source policy no longer grants the account."""

EXCLUSION_REASONS = frozenset({Reason.EXCLUDED, Reason.EXCLUDED_BY_TAG})
"""The reasons for which the settings don't select an account."""

INELIGIBLE_REASONS = frozenset({*EXCLUSION_REASONS, Reason.DEPARTED, *_UNWORKABLE_STATES.values(), *REMOVAL_REASONS})
"""The reasons for which an account should not be enrolled: no failures."""


def revokes_by_deleting(ineligible: Reason | None, settings: Settings) -> bool:
    """Whether an account's role is deleted for a reason not to enroll it.

    With a source policy, only offboarding deletes the role: all else is revoked by the policy. Without one, the role is
    the access.
    """
    return ineligible in REMOVAL_REASONS or (ineligible is not None and not settings.keeps_source_policy)


ROLE_KEPT = "the source policy may still grant the account: its role is kept until then"
"""The error of a retired account whose role is still to be deleted; its message returns to the queue."""


def why_ineligible(
    account: Account | None, row: LedgerRow | None, settings: Settings, *, uninstalling: bool = False
) -> Reason | None:
    """Return why an account must not be enrolled now, or None if it should be; `account` is None if it is no member."""
    if row is not None and row.retirement_requested_at is not None:
        return Reason.RETIRED_BY_REQUEST  # even while the account is no member
    if account is None or uninstalling:
        return why_unreachable(account) or Reason.UNINSTALLED
    return why_not_selected(account, settings)


def access_for(account: Account | None, ineligible: Reason | None) -> Access:
    """Return the access that an account should have, given why it must not be enrolled."""
    if ineligible is None:
        return Access.GRANTED
    if account is not None and ineligible in EXCLUSION_REASONS | REMOVAL_REASONS:
        return Access.EXCLUDED
    return Access.NONE


def why_not_selected(account: Account, settings: Settings) -> Reason | None:
    """Return why an account should not be enrolled, or None if it should; exclusion takes precedence over inclusion."""
    if account.id == settings.management_account_id and not settings.include_management_account:
        return Reason.EXCLUDED
    if account.id in settings.exclude_account_ids or account.is_below(settings.exclude_ou_ids):
        return Reason.EXCLUDED
    if settings.include_ou_ids and not account.is_below(settings.include_ou_ids):
        return Reason.EXCLUDED
    if account.has_tag(settings.exclude_tags) or (settings.include_tags and not account.has_tag(settings.include_tags)):
        return Reason.EXCLUDED_BY_TAG
    return _UNWORKABLE_STATES.get(account.state)
