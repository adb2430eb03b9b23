"""Mutants of enroll: of one account's check, its role, its row, and the message after it."""

from dataclasses import replace
from typing import Any

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.organizations import Organization
from chalicelib.enrollment import Enrollment, _Job
from chalicelib.errors import Reason
from chalicelib.member_role import Action, AttachPolicy, MemberRole, SetTrust
from chalicelib.reconciler import Reconciler, Verdict
from chalicelib.source_policy.records import Records
from tests.integration.simulation.mutants import violates

# Member roles.


@violates("is the desired one", first=14)
class IgnoresTrust(IamRoles):
    """Does not repair a role's trust."""

    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, SetTrust):
            super().carry_out(action, arn)


@violates("is the desired one")
class AttachesNothing(IamRoles):
    """Creates roles without permissions."""

    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, AttachPolicy):
            super().carry_out(action, arn)


@violates("nothing that is not ours is changed", first=1)
class AdoptsForeignRoles(IamRoles):
    """Treats every role of the member role's name as its own."""

    def observe(self, desired: MemberRole) -> MemberRole | None:
        observed = super().observe(desired)
        return replace(observed, tags=desired.tags) if observed else None


@violates("writes nothing, and not iam:UpdateRole")
class RepairsEndlessly(IamRoles):
    """Repairs the session length at every pass."""

    def observe(self, desired: MemberRole) -> MemberRole | None:
        observed = super().observe(desired)
        return replace(observed, max_session=0) if observed else None


# One account.


@violates("a role is deleted only while", "retired by request")
class DeletesRoleTooEarly(Reconciler):
    """Deletes a retired account's role while a record grants the account."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **options: Any) -> Verdict:
        return super().__call__(account_id, row, **{**options, "removable": True})


@violates("has no role", "retired by request")
class DeletesNoRole(Reconciler):
    """Deletes no role."""

    def _remove(self, *_: object, **__: object) -> None:
        """Leave the role."""


@violates("is granted", "departed and back")
class TrustsDeparture(Reconciler):
    """Treats an account that has returned with the same joining date as departed."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **options: Any) -> Verdict:
        verdict = super().__call__(account_id, row, **options)
        joined_at = verdict.account.joined_at if verdict.account else None
        if joined_at and row and row.reason is Reason.DEPARTED and row.joined_at == joined_at.isoformat():
            return replace(verdict, outcome=Outcome.SKIPPED, reason=Reason.DEPARTED, access=Access.NONE, retry=False)
        return verdict


@violates("a retired account is not granted", "retired by request")
class IgnoresRetirement(Reconciler):
    """Enrolls accounts that were retired by request."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **options: Any) -> Verdict:
        return super().__call__(account_id, replace(row, retirement_requested_at=None) if row else None, **options)


@violates("is granted", "units named while a listing waits")
class ExpectsNoUnits(Reconciler):
    """Treats an account whose listing has no organizational units as being in none."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **options: Any) -> Verdict:
        listed = options.get("listed")
        if isinstance(listed, Account):
            options["listed"] = replace(listed, ou_ids=listed.ou_ids or ())
        return super().__call__(account_id, row, **options)


@violates("no account is entered that Organizations never confirmed", first=1)
class ConfirmsEveryId(Organization):
    """Returns an account for every id."""

    def describe(self, account_id: AccountId) -> Account | None:
        return super().describe(account_id) or Account(id=account_id, name="", state="ACTIVE", joined_at=None)


# Rows.


@violates("a row is written only over")
class WritesUnconditionally(Ledger):
    """Writes a row whatever its revision."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        key = {"account_id": {"S": row.account_id}}
        item = self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item", {})
        revision = int(item.get("revision", {}).get("N", "0"))
        return super().write(row, over=replace(over or row, revision=revision))


@violates("every failure has a reason", first=6)
class WritesNoReason(Ledger):
    """Records failures without their reason."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, reason=None) if row.outcome is Outcome.FAILED else row, over=over)


@violates("the ledger has a row for every account")
class HidesFailures(Ledger):
    """Records no failure."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return row.outcome is Outcome.FAILED or super().write(row, over=over)


@violates("whatever was lost", "ledger lost, and an account denied")
class RevokesAfterFailure(Ledger):
    """Writes access none into a row that a failure creates."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        if row.outcome is Outcome.FAILED and row.access is None:
            row = replace(row, access=Access.NONE)
        return super().write(row, over=over)


@violates("the organization's source policy excludes", first=1)
class ExcludesNoAccount(Ledger):
    """Writes none instead of excluded, which scope organization doesn't leave out."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, access=Access.NONE) if row.access is Access.EXCLUDED else row, over=over)


@violates("orphaned accounts are revoked", "orphaned accounts")
class KeepsOrphaned(Ledger):
    """Writes no row for an id that a shard names and that is no member."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return (over is None and row.reason is Reason.DEPARTED) or super().write(row, over=over)


# Messages to publish.


@violates("whose row was written while", "publish while enroll writes")
class MessageBeforeRow(Enrollment):
    """Sends the message before the row is written, and none after it."""

    def _write(self, job: _Job, records: Records) -> None:
        self._publish.send()
        super()._write(job, records)
        job.written = None


@violates("is granted though", "active again while publish writes")
class MessageOnlyIfDifferent(Enrollment):
    """Sends a message only if the records, as they were read, differ from the row."""

    def _write(self, job: _Job, records: Records) -> None:
        super()._write(job, records)
        if job.written is not None and not records.differs(job.written.account_id, job.written.access):
            job.written = None


@violates("no unexpected error is raised")
class RaisesUnexpectedly(Enrollment):
    """Raises an exception of an unexpected class."""

    def _valid_listing(self, job: _Job) -> Account | None:
        return None if job.message.account is None else job.message.account.id  # type: ignore[return-value]
