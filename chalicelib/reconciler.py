"""One account: whether it is to be enrolled, what its member role is, what it should be; make it so."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.accounts import (
    REMOVAL_REASONS,
    ROLE_KEPT,
    Access,
    Account,
    Change,
    LedgerRow,
    Outcome,
    access_for,
    parse_time,
    why_ineligible,
    why_unreachable,
)
from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.member_role import (
    Action,
    CreateRole,
    DeleteRole,
    MemberRole,
    describe,
    desired_role,
    plan,
    removal,
    why_foreign,
)
from chalicelib.session_policies import member_role_delete, member_role_read, member_role_write
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from chalicelib.aws.iam_roles import IamRoles
    from chalicelib.aws.organizations import Organization
    from chalicelib.aws.sessions import Sessions

_CONSISTENT_AFTER = timedelta(minutes=2)  # IAM shows what it was given longer ago.


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The status of an account after a pass, and what the pass did to its role.

    `access` is None where it stays as the row has it, since the account could not be looked at or brought to where it should
    be. `account` is None for an id that is no member. `retry` is whether the message returns to the queue, and `blocked` whether
    the source policy, not the account, is why it was not enrolled.
    """

    account_id: AccountId
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    access: Access | None = None
    retry: bool = False
    blocked: bool = False
    account: Account | None = None
    access_role: str | None = None
    role_arn: str | None = None
    actions: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class _Work:
    """What was done to the member role so far: it is reported even if the next action fails."""

    access_role: str | None = None
    role_arn: str | None = None
    actions: list[dict[str, Any]] = field(default_factory=list)
    change: Change = Change.NONE


class Reconciler:
    """Makes one account's member role what it should be, whatever it is."""

    def __init__(
        self,
        settings: Settings,
        organization: "Organization",
        sessions: "Sessions",
        roles: "IamRoles",
        clock: Callable[[], datetime],
    ) -> None:
        """Take the organization, the sessions in its accounts, and IAM there."""
        self._settings = settings
        self._organization = organization
        self._sessions = sessions
        self._roles = roles
        self._clock = clock

    def __call__(
        self,
        account_id: AccountId,
        row: LedgerRow | None,
        *,
        listed: Account | None = None,
        blocking: AccountError | None = None,
        removable: bool = False,
        uninstalling: bool = False,
        dry_run: bool = False,
    ) -> Verdict:
        """Reconcile an account, or with `dry_run` plan the same and change nothing.

        `blocking` is why it can't be enrolled now, and `removable` is whether its role may be deleted if it is retired: only once the
        source policy no longer grants it.
        """
        work = _Work(role_arn=row.role_arn if row else None)
        account: Account | None = None
        reason: Reason | None = None
        access: Access | None = None
        failure: AccountError | None = None
        try:
            account = self._account(account_id, listed)
            reason = why_ineligible(account, row, self._settings, uninstalling=uninstalling)
            if reason is None:
                self._install(account_id, work, blocking, dry_run=dry_run)
            access = access_for(account, reason)
            if reason in REMOVAL_REASONS:
                self._remove(account_id, account, row, work, blocking, removable=removable, dry_run=dry_run)
        except AccountError as error:
            failure = error if error is blocking else self._within_grace(error, account)
        blocked = failure is not None and failure is blocking
        return _verdict(account_id, account, row, reason, access, work, failure, blocked=blocked)

    def _account(self, account_id: AccountId, listed: Account | None) -> Account | None:
        # A listing that was made before the settings named OUs doesn't hold the account's.
        if listed is not None and not (self._settings.names_ous and listed.ou_ids is None):
            return listed
        return self._organization.describe(account_id)

    def _install(self, account_id: AccountId, work: _Work, blocking: AccountError | None, *, dry_run: bool) -> None:
        if blocking is not None:
            raise blocking
        desired = desired_role(self._settings, account_id)
        session_policy = (member_role_read if dry_run else member_role_write)(self._settings, account_id)
        with self._sessions.entered(account_id, session_policy) as work.access_role:
            observed = self._roles.observe(desired)
            foreign = why_foreign(observed, desired, self._settings) if observed else None
            if foreign is not None:
                raise TerminalError(Reason.FOREIGN_ROLE, foreign)
            self._carry_out(plan(observed, desired), observed, desired, work, dry_run=dry_run)
        work.role_arn = desired.arn

    def _remove(
        self,
        account_id: AccountId,
        account: Account | None,
        row: LedgerRow | None,
        work: _Work,
        blocking: AccountError | None,
        *,
        removable: bool,
        dry_run: bool,
    ) -> None:
        """Delete the member role of a retired account, if it is this stage's."""
        out_of_reach = why_unreachable(account)
        if out_of_reach is not None:
            arn, work.role_arn = work.role_arn, None
            left = f"{arn} may still be there: its account is {out_of_reach}" if arn else row and row.error
            if left:
                # It stays in the row, so that a resync tries again if the account can be reached one day.
                raise TerminalError(out_of_reach, left)
            return
        if blocking is not None and blocking.reason is Reason.NAMES_CHANGED:
            raise blocking
        if not removable:
            raise RetryableError(Reason.SOURCE_POLICY_PENDING, ROLE_KEPT)
        desired = desired_role(self._settings, account_id)
        session_policy = (member_role_read if dry_run else member_role_delete)(self._settings, account_id)
        with self._sessions.entered(account_id, session_policy) as work.access_role:
            observed = self._roles.observe(desired)
            if observed is None and self._may_be_unseen(row):
                raise RetryableError(Reason.STALE_READ, f"{desired.arn} was recorded a moment ago, and IAM shows none")
            if observed is not None and self._settings.ownership(observed.arn, observed.tags).is_ours:
                self._carry_out(removal(observed), observed, desired, work, dry_run=dry_run)
        work.role_arn = work.role_arn if dry_run else None

    def _carry_out(
        self,
        actions: Iterable[Action],
        observed: MemberRole | None,
        desired: MemberRole,
        work: _Work,
        *,
        dry_run: bool,
    ) -> None:
        for action in actions:
            if not dry_run:
                self._roles.carry_out(action, desired.arn)
            work.actions.append(describe(action, observed))
            work.role_arn = desired.arn
            match action:
                case CreateRole():
                    work.change = Change.CREATED
                case DeleteRole():
                    work.change = Change.DELETED
                case _ if work.change is Change.NONE:
                    work.change = Change.UPDATED

    def _may_be_unseen(self, row: LedgerRow | None) -> bool:
        return (
            row is not None
            and row.role_arn is not None
            and self._clock() - parse_time(row.updated_at) < _CONSISTENT_AFTER
        )

    def _within_grace(self, error: AccountError, account: Account | None) -> AccountError:
        """Return "not ready yet" for a denial while an account is new: its access role and IAM take minutes to be there."""
        denied = error.reason in {Reason.NO_ACCESS_ROLE, Reason.ACCESS_DENIED}
        if not denied or account is None or account.joined_at is None:
            return error
        grace = timedelta(seconds=self._settings.ready_grace_seconds)
        is_new = self._clock() - account.joined_at < grace
        return RetryableError(Reason.NOT_READY, f"not ready yet: {error}") if is_new else error


def _verdict(
    account_id: AccountId,
    account: Account | None,
    row: LedgerRow | None,
    reason: Reason | None,
    access: Access | None,
    work: _Work,
    failure: AccountError | None,
    *,
    blocked: bool,
) -> Verdict:
    if access is None:
        outcome, reason = Outcome.FAILED, failure.reason if failure else Reason.UNEXPECTED
    elif reason is None:
        outcome = Outcome.ENROLLED
    else:
        # Only an account that was granted is retired; a failure to delete its role leaves it retired all the same.
        was_granted = row is not None and (row.has_access or row.outcome is Outcome.RETIRED)
        asked = reason is Reason.RETIRED_BY_REQUEST
        outcome = Outcome.RETIRED if was_granted or asked else Outcome.SKIPPED
    return Verdict(
        account_id=account_id,
        outcome=outcome,
        change=work.change,
        reason=reason,
        error=str(failure) if failure else None,
        access=access,
        retry=isinstance(failure, RetryableError),
        blocked=blocked,
        account=account,
        access_role=work.access_role,
        role_arn=work.role_arn,
        actions=tuple(work.actions),
    )


def unfinished(account_id: AccountId, row: LedgerRow | None, reason: Reason, error: str) -> Verdict:
    """Return the verdict on an account whose pass did not come to an end."""
    return Verdict(
        account_id=account_id,
        outcome=Outcome.FAILED,
        reason=reason,
        error=error,
        retry=True,
        role_arn=row.role_arn if row else None,
    )
