"""One account: whether it is to be enrolled, what its member role is, what it should be; make it so."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.accounts import (
    EXCLUSION_REASONS,
    REMOVAL_REASONS,
    Access,
    Account,
    Change,
    LedgerRow,
    Outcome,
    access_for,
    parse_time,
    revokes_by_deleting,
    why_ineligible,
    why_not_selected,
    why_unreachable,
)
from chalicelib.arns import AccountId
from chalicelib.documents import Document
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.member_role import (
    DIFFERS_BY_CASE,
    Action,
    CreateRole,
    DeleteRole,
    MemberRole,
    describe,
    desired_role,
    is_made_for,
    plan,
    removal,
    restricts,
    why_external_id,
    why_foreign,
    why_in_stack,
    why_name_taken,
)
from chalicelib.member_role_policies import uses_organization_id
from chalicelib.session_policies import member_role_delete, member_role_read, member_role_write
from chalicelib.settings import Settings
from chalicelib.source_policy.records import CONSISTENT_AFTER

if TYPE_CHECKING:
    from chalicelib.aws.iam_roles import IamRoles
    from chalicelib.aws.organizations import Organization
    from chalicelib.aws.sessions import Sessions
    from chalicelib.aws.stacks import Stacks

_DENIALS = frozenset({Reason.NO_ACCESS_ROLE, Reason.ACCESS_DENIED, Reason.SCP_DENIED, Reason.RCP_DENIED})
_WORK_DENIALS = _DENIALS - {Reason.NO_ACCESS_ROLE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The status of an account after a pass, and what the pass did to its role.

    `access` is None where it stays as the row has it, since the account could not be looked at or brought to where it should
    be. `keeps_settings` is whether the role was left as it was made for other settings. `account` is None for an id that is
    no member. `retry` is whether the message returns to the queue, and `blocked` whether the source policy, not the account,
    is why it was not enrolled. `adopts` is what else manages a role that Rolecall didn't create and may adopt, and when it
    was last used.
    """

    account_id: AccountId
    outcome: Outcome
    change: Change = Change.NONE
    reason: Reason | None = None
    error: str | None = None
    access: Access | None = None
    keeps_settings: bool = False
    retry: bool = False
    blocked: bool = False
    account: Account | None = None
    access_role: str | None = None
    role_arn: str | None = None
    actions: tuple[dict[str, Any], ...] = ()
    adopts: dict[str, Any] | None = None


@dataclass(slots=True)
class _Work:
    """What was done to the member role so far: it is reported even if the next action fails."""

    access_role: str | None = None
    role_arn: str | None = None
    actions: list[dict[str, Any]] = field(default_factory=list)
    change: Change = Change.NONE
    keeps_settings: bool = False
    adopts: dict[str, Any] | None = None


class Reconciler:
    """Makes one account's member role what it should be, whatever it is."""

    def __init__(
        self,
        settings: Settings,
        organization: "Organization",
        sessions: "Sessions",
        roles: "IamRoles",
        stacks: "Stacks",
        clock: Callable[[], datetime],
    ) -> None:
        """Take the organization, the sessions in its accounts, and IAM and CloudFormation there."""
        self._settings = settings
        self._organization = organization
        self._sessions = sessions
        self._roles = roles
        self._stacks = stacks
        self._clock = clock
        self._confirmed_members: set[AccountId] = set()

    def __call__(
        self,
        account_id: AccountId,
        row: LedgerRow | None,
        *,
        listed: Account | None = None,
        blocking: AccountError | None = None,
        keeping: AccountError | None = None,
        installed: Settings | None = None,
        uninstalling: bool = False,
        first_seen_at: datetime | None = None,
        repeated: bool = False,
        awaits_wave: bool = False,
        dry_run: bool = False,
        adopting: bool = False,
    ) -> Verdict:
        """Reconcile an account, or with `dry_run` plan the same and change nothing.

        `blocking` is why it can't be enrolled now, and `keeping` why its role can't be deleted yet if it is retired.
        `installed` are the settings with the names under which its role is installed, if they were changed since.
        `first_seen_at` is when the account was found to be a member, if that is known. `repeated` is whether an earlier pass
        may have left a role that no row shows. With `awaits_wave`, a role that is still as it was made for other settings
        stays so, and one that was changed since is repaired. With `adopting`, plan as if AdoptExistingRoles named the account.
        """
        work = _Work(role_arn=row.role_arn if row else None)
        account: Account | None = None
        reason: Reason | None = None
        access: Access | None = None
        failure: AccountError | None = None
        is_new = False
        try:
            account = self._account(account_id, row, listed, uninstalling=uninstalling)
            reason = why_ineligible(account, row, self._settings, uninstalling=uninstalling)
            is_new = self._is_new(account, first_seen_at)
            if reason is Reason.PENDING_ACTIVATION and is_new:
                raise RetryableError(Reason.NOT_READY, "not ready yet: its state is PENDING_ACTIVATION")
            work.keeps_settings = awaits_wave and reason is None
            if row is not None and work.keeps_settings:
                work.keeps_settings = self._is_as_made(account_id, row, work)
            if reason is None and not work.keeps_settings:
                named = frozenset({account_id})
                settings = replace(self._settings, adopt_existing_roles=named) if adopting else self._settings
                self._install(account_id, row, work, blocking, settings, dry_run=dry_run)
            access = access_for(account, reason)
            if reason in REMOVAL_REASONS or (
                revokes_by_deleting(reason, self._settings) and (repeated or _may_have_role(row))
            ):
                self._remove(account_id, account, row, work, keeping, installed or self._settings, dry_run=dry_run)
        except AccountError as error:
            failure = error if error is blocking else _within_grace(error, is_new=is_new)
        blocked = failure is not None and failure is blocking
        return _verdict(account_id, account, row, reason, access, work, failure, blocked=blocked)

    def _account(
        self, account_id: AccountId, row: LedgerRow | None, listed: Account | None, *, uninstalling: bool
    ) -> Account | None:
        if listed is None or not listed.shows_selection(self._settings) or self._may_lag(listed, row):
            # Nothing selects an account that is offboarded: no throttled read of its tags delays that.
            is_selected = not uninstalling and (row is None or row.retirement_requested_at is None)
            return self._organization.describe(account_id, with_tags=is_selected)
        return listed

    def _may_lag(self, listed: Account, row: LedgerRow | None) -> bool:
        """Whether an account's listed tags contradict its row: would leave it out, or end what left it out until now.

        The tagging API's index, which they are from, lags behind Organizations. A failure leaves a row's access as it was.
        """
        if row is None or not self._settings.tag_keys:
            return False
        left_out = why_not_selected(listed, self._settings)
        if left_out is Reason.EXCLUDED_BY_TAG:
            return row.access is not Access.EXCLUDED
        return row.access is Access.EXCLUDED and left_out not in EXCLUSION_REASONS

    def _install(
        self,
        account_id: AccountId,
        row: LedgerRow | None,
        work: _Work,
        blocking: AccountError | None,
        settings: Settings,
        *,
        dry_run: bool,
    ) -> None:
        if blocking is not None:
            raise blocking
        self._require_external_id()
        taken = why_name_taken(settings)
        if taken is not None:
            raise TerminalError(Reason.FOREIGN_ROLE, taken)
        desired = self._desired(account_id)
        session_policy = (member_role_read if dry_run else member_role_write)(settings, account_id)

        def install() -> None:
            observed = self._roles.observe(desired)
            if observed is not None:
                self._check_owner(observed, desired, settings, work)
            try:
                self._carry_out(plan(observed, desired), observed, desired, work, dry_run=dry_run)
            except RetryableError as error:
                is_stale = error.reason is Reason.STALE_READ and work.change is Change.NONE
                if observed is None and is_stale and self._was_stale(row):
                    # IAM rejects the creation of a role that it doesn't show, longer than it takes to become consistent.
                    raise TerminalError(Reason.FOREIGN_ROLE, f"{error}: a role {DIFFERS_BY_CASE}") from error
                raise

        self._do_in(account_id, session_policy, self._access_roles(row), work, install)
        work.role_arn = desired.arn

    def _is_as_made(self, account_id: AccountId, row: LedgerRow, work: _Work) -> bool:
        """Whether a role is as it was made for the settings of its row, or can't be compared with them."""
        desired = desired_role(self._settings, account_id)
        if row.role_arn != desired.arn:
            return True
        found: list[MemberRole | None] = []
        session_policy = member_role_read(self._settings, account_id)
        names = self._access_roles(row)
        self._do_in(account_id, session_policy, names, work, lambda: found.append(self._roles.observe(desired)))
        observed = found[-1]
        return observed is not None and (row.fingerprint is None or is_made_for(observed, row.fingerprint))

    def _desired(self, account_id: AccountId) -> MemberRole:
        if not uses_organization_id(self._settings.member_role_policies):
            return desired_role(self._settings, account_id)
        return desired_role(self._settings, account_id, self._organization.id_of(account_id))

    def _require_external_id(self) -> None:
        """Raise TerminalError if a role would trust an account outside of the organization without an external id.

        Each account that Organizations confirms is described once.
        """
        for account_id in self._settings.accounts_that_must_be_members:
            if account_id in self._confirmed_members:
                continue
            if self._organization.describe(account_id, with_tags=False) is None:
                raise TerminalError(Reason.EXTERNAL_ID_REQUIRED, why_external_id(account_id))
            self._confirmed_members.add(account_id)

    def _check_owner(self, observed: MemberRole, desired: MemberRole, settings: Settings, work: _Work) -> None:
        """Raise TerminalError if the role is foreign: not this stage's, and not adoptable."""
        foreign = why_foreign(observed, desired, settings)
        if foreign is not None:
            raise TerminalError(Reason.FOREIGN_ROLE, foreign)
        ownership = settings.ownership(observed.arn, observed.tags)
        if ownership.is_ours:
            return
        tag = ownership.other_manager
        work.adopts = {"managed_by": f"tag {tag}" if tag else None, "last_used_at": observed.last_used_at}
        stack = self._stacks.owner(observed.arn)
        if stack is not None:
            work.adopts["managed_by"] = f"CloudFormation stack {stack}"
            raise TerminalError(Reason.FOREIGN_ROLE, why_in_stack(observed.arn, stack))

    def _remove(
        self,
        account_id: AccountId,
        account: Account | None,
        row: LedgerRow | None,
        work: _Work,
        keeping: AccountError | None,
        settings: Settings,
        *,
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
        if keeping is not None:
            raise keeping
        desired = desired_role(settings, account_id)
        session_policy = (member_role_read if dry_run else member_role_delete)(settings, account_id)

        def remove() -> None:
            observed = self._roles.observe(desired)
            if observed is None and self._may_be_unseen(row):
                raise RetryableError(Reason.STALE_READ, f"{desired.arn} was recorded a moment ago, and IAM shows none")
            if observed is not None and self._settings.ownership(observed.arn, observed.tags).is_ours:
                self._carry_out(removal(observed), observed, desired, work, dry_run=dry_run)

        self._do_in(account_id, session_policy, self._access_roles(row), work, remove)
        work.role_arn = work.role_arn if dry_run else None

    def _access_roles(self, row: LedgerRow | None) -> list[str]:
        """Return the access roles to try: the StackSet's, which allows least, then the one that was used last."""
        worked = row.access_role if row is not None and row.outcome is Outcome.ENROLLED else None
        names, first = self._settings.access_role_names, self._settings.stack_set_role
        return sorted(names, key=lambda name: (name != first, name != worked))

    def _do_in(
        self, account_id: AccountId, session_policy: Document, names: list[str], work: _Work, do: Callable[[], None]
    ) -> None:
        """Do work in an account by the first access role that is allowed all of it."""
        try:
            with self._sessions.entered(account_id, session_policy, names) as work.access_role:
                do()
        except TerminalError as denied:
            # Roles before the one that was denied could not be assumed.
            rest = names[names.index(work.access_role) + 1 :] if work.access_role in names else []
            if denied.reason not in _WORK_DENIALS or not rest:
                raise
            try:
                self._do_in(account_id, session_policy, rest, work, do)
            except TerminalError as error:
                raise (denied if error.reason is Reason.NO_ACCESS_ROLE else error) from error

    def _carry_out(
        self,
        actions: Iterable[Action],
        observed: MemberRole | None,
        desired: MemberRole,
        work: _Work,
        *,
        dry_run: bool,
    ) -> None:
        """Carry out a plan; after a rejected action only those that restrict the role, so that nothing stays open."""
        rejected: list[TerminalError] = []
        for action in actions:
            if rejected and not restricts(action, observed):
                continue
            try:
                if not dry_run:
                    self._roles.carry_out(action, desired.arn)
            except TerminalError as error:
                if isinstance(action, CreateRole):
                    raise
                rejected.append(error)
                continue
            work.actions.append(describe(action, observed))
            work.role_arn = desired.arn
            match action:
                case CreateRole():
                    work.change = Change.CREATED
                case DeleteRole():
                    work.change = Change.DELETED
                case _ if work.change is Change.NONE:
                    work.change = Change.UPDATED
        if rejected:
            raise TerminalError(rejected[0].reason, "; ".join(map(str, rejected))) from rejected[0]

    def _may_be_unseen(self, row: LedgerRow | None) -> bool:
        return (
            row is not None
            and row.role_arn is not None
            and self._clock() - parse_time(row.updated_at) < CONSISTENT_AFTER
        )

    def _was_stale(self, row: LedgerRow | None) -> bool:
        """Whether the account's last pass failed in the same way, longer ago than IAM takes to become consistent."""
        if row is None or row.reason not in {Reason.STALE_READ, Reason.FOREIGN_ROLE}:
            return False
        return self._clock() - parse_time(row.updated_at) > CONSISTENT_AFTER

    def _is_new(self, account: Account | None, first_seen_at: datetime | None) -> bool:
        """Whether an account joined within the grace.

        An account that Organizations lists as joined long ago may have been transferred a moment ago.
        """
        now, grace = self._clock(), timedelta(seconds=self._settings.ready_grace_seconds)
        joined_at = account.joined_at if account else None
        is_joined_lately = joined_at is not None and now - joined_at < grace
        is_first_seen = account is not None and first_seen_at is not None and abs(now - first_seen_at) < grace
        return is_joined_lately or is_first_seen


def _may_have_role(row: LedgerRow | None) -> bool:
    """Whether the row shows a role, or a pass that failed and may have left one."""
    return row is not None and (row.role_arn is not None or row.error is not None)


def _within_grace(error: AccountError, *, is_new: bool) -> AccountError:
    """Return "not ready yet" for a denial while an account is new.

    Its access role, IAM and conditions on the organization's id take minutes, and landing zones attach an SCP that denies IAM.
    """
    if is_new and error.reason in _DENIALS:
        return RetryableError(Reason.NOT_READY, f"not ready yet: {error}")
    return error


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
        keeps_settings=work.keeps_settings,
        retry=isinstance(failure, RetryableError),
        blocked=blocked,
        account=account,
        access_role=work.access_role,
        role_arn=work.role_arn,
        actions=tuple(work.actions),
        adopts=work.adopts,
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
