"""One account: is it eligible, what is its member role, what should it be; make it so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.accounts import Account, Change, LedgerRow, Outcome, eligibility, moment, why_out_of_reach
from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.member_role import (
    CreateRole,
    DeleteRole,
    describe,
    desired_role,
    fingerprint,
    looking_document,
    plan,
    removal,
    removing_document,
    session_document,
    why_foreign,
)
from chalicelib.settings import Settings
from chalicelib.source_policy import Move

if TYPE_CHECKING:
    from chalicelib.aws.member_roles import MemberRoles
    from chalicelib.aws.organizations import Organization
    from chalicelib.aws.sessions import Sessions


REMOVED = frozenset({Reason.RETIRED_BY_REQUEST, Reason.STOPPED})
"""The reasons for which the member role is taken away too, once the source policy no longer names the account."""

_PROPAGATED = timedelta(minutes=2)  # what IAM was told longer ago, it shows


@dataclass(kw_only=True, slots=True)
class Verdict:
    """Where an account stands after a pass, and what the pass did to its role; `account` is None for what is no member.

    `eligible` tells that the account was found to belong in, whether or not it could be brought there.
    """

    account_id: AccountId
    eligible: bool = False
    outcome: Outcome = Outcome.FAILED
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    retryable: bool = False
    move: Move = Move.STAY
    account: Account | None = None
    access_role: str | None = None
    role_arn: str | None = None
    fingerprint: str | None = None
    actions: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, error: AccountError) -> None:
        """Record why the account could not be brought to where it should be; what was done to its role stays told."""
        self.outcome = Outcome.FAILED
        self.reason = error.reason
        self.error = str(error)
        self.retryable = isinstance(error, RetryableError)
        self.move = Move.STAY


class Reconcile:
    """Brings one account's member role to where it should be, from whatever it is."""

    def __init__(
        self,
        settings: Settings,
        organization: "Organization",
        sessions: "Sessions",
        roles: "MemberRoles",
        clock: Callable[[], datetime],
    ) -> None:
        """Take the organization, the way into accounts, and IAM there."""
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
        refusal: AccountError | None = None,
        stopped: bool = False,
        dry_run: bool = False,
    ) -> Verdict:
        """Reconcile an account; a dry run plans the same and changes nothing.

        `refusal` is why it can't have a place in the source policy, and `stopped` that no account may have one.
        """
        verdict = Verdict(account_id=account_id, role_arn=row.role_arn if row else None)
        try:
            # A listing that was made before the settings named OUs doesn't tell in which the account is.
            enough = listed is not None and not (self._settings.names_ous and listed.ou_ids is None)
            verdict.account = listed if enough else self._organization.describe(account_id)
            reason = why_ineligible(verdict.account, row, self._settings, stopped=stopped)
            verdict.eligible = reason is None
            if reason is not None:
                _turn_away(verdict, reason, row)
            else:
                self._enroll(verdict, refusal, dry_run=dry_run)
        except AccountError as error:
            verdict.fail(self._within_grace(error, verdict.account))
        return verdict

    def _enroll(self, verdict: Verdict, refusal: AccountError | None, *, dry_run: bool) -> None:
        account_id = verdict.account_id
        desired = desired_role(self._settings, account_id)
        session_policy = (looking_document if dry_run else session_document)(self._settings, account_id)
        with self._sessions.entered(account_id, session_policy) as verdict.access_role:
            observed = self._roles.observe(desired)
            foreign = why_foreign(observed, desired, self._settings) if observed else None
            if foreign is not None:
                raise TerminalError(Reason.FOREIGN_ROLE, foreign)
            if refusal is not None:
                raise refusal
            for action in plan(observed, desired):
                if not dry_run:
                    self._roles.carry_out(action, desired.arn)
                verdict.actions.append(describe(action, observed))
                verdict.change = (
                    Change.CREATED
                    if isinstance(action, CreateRole) or verdict.change is Change.CREATED
                    else Change.UPDATED
                )
                verdict.role_arn = desired.arn
        verdict.outcome = Outcome.ENROLLED
        verdict.role_arn = desired.arn
        verdict.fingerprint = fingerprint(desired)
        verdict.move = Move.JOIN

    def remove(self, verdict: Verdict, row: LedgerRow | None, *, dry_run: bool = False) -> None:
        """Take the member role of a retired account away, if it is ours; a failure leaves the account retired all the same."""
        out_of_reach = why_out_of_reach(verdict.account)
        if out_of_reach is not None:
            # Should the account be there again, a resync tries what says why it failed.
            verdict.error = row.error if row else None
            if verdict.role_arn is not None:
                verdict.error = f"{verdict.role_arn} may still be there: its account is {out_of_reach}"
                verdict.role_arn = None
            return
        desired = desired_role(self._settings, verdict.account_id)
        session_policy = (looking_document if dry_run else removing_document)(self._settings, verdict.account_id)
        try:
            with self._sessions.entered(verdict.account_id, session_policy) as verdict.access_role:
                observed = self._roles.observe(desired)
                if observed is None and self._may_be_unseen(row):
                    raise RetryableError(
                        Reason.STALE_READ, f"{desired.arn} was recorded a moment ago, and IAM shows none"
                    )
                ours = observed is not None and self._settings.owner(observed.tags, observed.arn).ours
                for action in removal(observed) if observed is not None and ours else ():
                    if not dry_run:
                        self._roles.carry_out(action, desired.arn)
                    verdict.actions.append(describe(action, observed))
                    verdict.change = Change.DELETED if isinstance(action, DeleteRole) else Change.UPDATED
                verdict.role_arn = verdict.role_arn if dry_run else None
        except AccountError as error:
            verdict.error = str(error)
            verdict.retryable = isinstance(error, RetryableError)

    def _may_be_unseen(self, row: LedgerRow | None) -> bool:
        return row is not None and row.role_arn is not None and self._clock() - moment(row.updated_at) < _PROPAGATED

    def _within_grace(self, error: AccountError, account: Account | None) -> AccountError:
        """Read a denial as "not ready yet" while an account is new: its access role and IAM take minutes to be there."""
        denied = error.reason in {Reason.NO_ACCESS_ROLE, Reason.ACCESS_DENIED}
        if not denied or account is None or account.joined_at is None:
            return error
        grace = timedelta(seconds=self._settings.ready_grace_seconds)
        is_new = self._clock() - account.joined_at < grace
        return RetryableError(Reason.NOT_READY, f"not ready yet: {error}") if is_new else error


def why_ineligible(
    account: Account | None, row: LedgerRow | None, settings: Settings, *, stopped: bool = False
) -> Reason | None:
    """Tell why an account should not be enrolled now, or None where it should; `account` is None for no member."""
    if row is not None and row.reason is Reason.RETIRED_BY_REQUEST:
        return Reason.RETIRED_BY_REQUEST  # It outlives that the account is away.
    if account is None or stopped:
        return why_out_of_reach(account) or Reason.STOPPED
    return eligibility(account, settings)


def _turn_away(verdict: Verdict, reason: Reason, row: LedgerRow | None) -> None:
    """Take an account out of the source policy; only one that was in it is retired."""
    was_in = row is not None and (row.policy_name is not None or row.outcome is Outcome.RETIRED)
    verdict.outcome = Outcome.RETIRED if was_in else Outcome.SKIPPED
    verdict.reason = reason
    stays_out = reason in {Reason.EXCLUDED, *REMOVED} and verdict.account is not None
    verdict.move = Move.EXCLUDE if stays_out else Move.LEAVE
