"""Mutants of enroll: of one account's check, its role, its row, and the message after it."""

from dataclasses import replace
from typing import Any

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.ledger import Ledger
from chalicelib.aws.organizations import Organization
from chalicelib.aws.stacks import Stacks
from chalicelib.data_read_denies import DENY_POLICY_NAME
from chalicelib.enrollment import Enrollment, _Job
from chalicelib.errors import Reason
from chalicelib.member_role import Action, AttachPolicy, MemberRole, PutInlinePolicy, SetTrust
from chalicelib.reconciler import Reconciler, Verdict
from chalicelib.source_policy.records import Records
from tests.integration.simulation.mutants import mutates

# Member roles.


@mutates(IamRoles, "carry_out", "is the desired one", first=14)
def trust_is_not_repaired(original: Any, self: IamRoles, action: Action, arn: str) -> None:
    if not isinstance(action, SetTrust):
        original(self, action, arn)


@mutates(IamRoles, "carry_out", "is the desired one")
def no_policy_is_attached(original: Any, self: IamRoles, action: Action, arn: str) -> None:
    if not isinstance(action, AttachPolicy):
        original(self, action, arn)


@mutates(IamRoles, "carry_out", "is the desired one", first=14)
def no_document_of_the_operator_is_put(original: Any, self: IamRoles, action: Action, arn: str) -> None:
    if not isinstance(action, PutInlinePolicy) or action.name == DENY_POLICY_NAME:
        original(self, action, arn)


@mutates(IamRoles, "observe", "nothing that is not ours is changed", first=1)
def foreign_role_is_adopted(original: Any, self: IamRoles, desired: MemberRole) -> MemberRole | None:
    observed = original(self, desired)
    return replace(observed, tags=desired.tags) if observed else None


@mutates(Stacks, "owner", "nothing that is not ours is changed", "in a stack")
def role_of_a_stack_is_adopted(*_: object) -> None:
    """Find no stack."""


@mutates(IamRoles, "observe", "writes nothing, and not iam:UpdateRole")
def session_length_is_repaired_endlessly(original: Any, self: IamRoles, desired: MemberRole) -> MemberRole | None:
    observed = original(self, desired)
    return replace(observed, max_session=0) if observed else None


# One account.


@mutates(Reconciler, "__call__", "a role is deleted only while", "retired by request")
def role_is_deleted_while_granted(original: Any, *args: Any, **options: Any) -> Any:
    return original(*args, **{**options, "keeping": None})


@mutates(Reconciler, "_remove", "has no role", "retired by request")
def no_role_is_deleted(*_: object, **__: object) -> None:
    """Leave the role."""


@mutates(Reconciler, "__call__", "is granted", "departed and back")
def returned_account_counts_as_departed(
    original: Any, self: Reconciler, account_id: AccountId, row: LedgerRow | None, **options: Any
) -> Verdict:
    verdict: Verdict = original(self, account_id, row, **options)
    joined_at = verdict.account.joined_at if verdict.account else None
    if joined_at and row and row.reason is Reason.DEPARTED and row.joined_at == joined_at.isoformat():
        return replace(verdict, outcome=Outcome.SKIPPED, reason=Reason.DEPARTED, access=Access.NONE, retry=False)
    return verdict


@mutates(Reconciler, "__call__", "a retired account is not granted", "retired by request")
def retirement_is_ignored(
    original: Any, self: Reconciler, account_id: AccountId, row: LedgerRow | None, **options: Any
) -> Any:
    return original(self, account_id, replace(row, retirement_requested_at=None) if row else None, **options)


@mutates(Reconciler, "__call__", "is granted", "units named while a listing waits")
def listing_without_units_counts_as_none(original: Any, *args: Any, **options: Any) -> Any:
    listed = options.get("listed")
    if isinstance(listed, Account):
        options["listed"] = replace(listed, ou_ids=listed.ou_ids or ())
    return original(*args, **options)


@mutates(Reconciler, "_may_lag", "is granted", "index of tags behind")
def index_of_tags_is_never_behind(*_: object) -> bool:
    return False


_IN_SCOPE_NONE = "the role is the access in scope none"


@mutates(Reconciler, "_remove", _IN_SCOPE_NONE, "scope none")
def excluded_account_keeps_its_role_in_scope_none(*_: object, **__: object) -> None:
    """Leave the role."""


@mutates(Reconciler, "__call__", _IN_SCOPE_NONE, "excluded while enrolling in scope none")
def interrupted_pass_is_not_repaired_in_scope_none(original: Any, *args: Any, **options: Any) -> Any:
    return original(*args, **options | {"repeated": False})


@mutates(Ledger, "write_marked", _IN_SCOPE_NONE, "scope none")
def row_is_written_without_its_mark(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    return original(self, replace(row, in_force_since=over.in_force_since if over else None), over=over)


@mutates(Organization, "describe", "no account is entered that Organizations never confirmed", first=1)
def every_id_is_confirmed(original: Any, self: Organization, account_id: AccountId, **options: bool) -> Account:
    return original(self, account_id, **options) or Account(id=account_id, name="", state="ACTIVE", joined_at=None)


# Rows.


@mutates(Ledger, "write", "a row is written only over")
def row_is_written_unconditionally(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    key = {"account_id": {"S": row.account_id}}
    item = self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item", {})
    revision = int(item.get("revision", {}).get("N", "0"))
    return original(self, row, over=replace(over or row, revision=revision))


@mutates(Ledger, "write", "every failure has a reason", first=6)
def failure_has_no_reason(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    if row.outcome is Outcome.FAILED:
        # Otherwise each pass would find another reason, and change the row.
        since = over.outcome_since if over and over.outcome is Outcome.FAILED else row.outcome_since
        row = replace(row, reason=None, outcome_since=since, previous_outcome=None, previous_reason=None)
    return original(self, row, over=over)


@mutates(Ledger, "write", "the ledger has a row for every account")
def failure_is_not_recorded(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    return row.outcome is Outcome.FAILED or original(self, row, over=over)


@mutates(Ledger, "write", "whatever was lost", "ledger lost, and an account denied")
def failure_revokes(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    if row.outcome is Outcome.FAILED and row.access is None:
        row = replace(row, access=Access.NONE)
    return original(self, row, over=over)


@mutates(Ledger, "write", "the organization's source policy excludes", first=1)
def no_account_is_excluded(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    return original(self, replace(row, access=Access.NONE) if row.access is Access.EXCLUDED else row, over=over)


@mutates(Ledger, "write", "orphaned accounts are revoked", "orphaned accounts")
def orphaned_account_has_no_row(original: Any, self: Ledger, row: LedgerRow, *, over: LedgerRow | None) -> Any:
    return (over is None and row.reason is Reason.DEPARTED) or original(self, row, over=over)


# Messages to publish.


@mutates(Enrollment, "_write", "whose row was written while", "publish while enroll writes")
def message_is_sent_before_the_row(original: Any, self: Enrollment, job: _Job, records: Records) -> None:
    self._publish.send()
    original(self, job, records)
    job.written = None


@mutates(Enrollment, "_write", "is granted though", "active again while publish writes")
def message_is_sent_only_if_records_differ(original: Any, self: Enrollment, job: _Job, records: Records) -> None:
    original(self, job, records)
    if job.written is not None and not records.differs(job.written.account_id, job.written.access):
        job.written = None


@mutates(Enrollment, "_valid_listing", "no unexpected error is raised")
def listing_is_not_an_account(_: Any, __: Enrollment, job: _Job) -> Any:
    return None if job.message.account is None else job.message.account.id
