"""Mutants: a part of the application with one rule of the design broken; the simulation must catch every one."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chalicelib import bootstrap, publisher
from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.errors import translated
from chalicelib.aws.iam_policies import IamPolicies
from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.ledger import AccessRow, Ledger
from chalicelib.aws.organizations import Organization
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.documents import Document
from chalicelib.enrollment import Enrollment, _Job, _report
from chalicelib.errors import AccountError, Reason
from chalicelib.member_role import Action, AttachPolicy, MemberRole, SetTrust
from chalicelib.publisher import _Run
from chalicelib.reconciler import Reconciler, Verdict
from chalicelib.run_lease import RunLease
from chalicelib.settings import Scope
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy.assignment import Assignment
from chalicelib.source_policy.plan import AttachTo, SourcePolicy
from chalicelib.source_policy.records import Problem, Records, ShardContent, ShardRecord
from tests.integration.simulation.boundary import simulated
from tests.integration.simulation.every_call import interrupted
from tests.integration.simulation.life import first_broken
from tests.integration.simulation.one_fault import KILLS, LATE, OVERLAP


@contextmanager
def planted(*parts: type) -> Iterator[None]:
    """Have applications made of some parts, each in place of the class that it derives from."""
    with pytest.MonkeyPatch.context() as patch:
        for part in parts:
            replaced = next(kind for kind in part.__mro__[1:] if kind.__module__.startswith("chalicelib."))
            for module in (sys.modules[replaced.__module__], bootstrap, publisher):
                if getattr(module, replaced.__name__, None) is replaced:
                    patch.setattr(module, replaced.__name__, part)
        yield


# Member roles.


class LeavesTrustAlone(IamRoles):
    """Does not repair a role's trust."""

    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, SetTrust):
            super().carry_out(action, arn)


class AttachesNothing(IamRoles):
    """Creates roles without permissions."""

    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, AttachPolicy):
            super().carry_out(action, arn)


class TakesForeignRoles(IamRoles):
    """Treats every role of the member role's name as its own."""

    def observe(self, desired: MemberRole) -> MemberRole | None:
        seen = super().observe(desired)
        return replace(seen, tags=desired.tags) if seen else None


# One account.


class RemovesTooEarly(Reconciler):
    """Deletes a retired account's role while a record grants the account."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        return super().__call__(account_id, row, **{**given, "removable": True})


class LeavesRoles(Reconciler):
    """Deletes no role."""

    def _remove(self, *_: object, **__: object) -> None:
        """Leave the role where it is."""


class TrustsDepartures(Reconciler):
    """Takes an account that is a member again, with the date that it had, for one that departed."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        verdict = super().__call__(account_id, row, **given)
        joined_at = verdict.account.joined_at if verdict.account else None
        if joined_at and row and row.reason is Reason.DEPARTED and row.joined_at == joined_at.isoformat():
            return replace(verdict, outcome=Outcome.SKIPPED, reason=Reason.DEPARTED, access=Access.NONE, retry=False)
        return verdict


class IgnoresMarks(Reconciler):
    """Enrolls accounts that were asked to be retired."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        return super().__call__(account_id, replace(row, retirement_requested_at=None) if row else None, **given)


class ExpectsNoUnits(Reconciler):
    """Takes an account whose listing has no organizational units for one that is in none."""

    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        listed = given.get("listed")
        if isinstance(listed, Account):
            given["listed"] = replace(listed, ou_ids=listed.ou_ids or ())
        return super().__call__(account_id, row, **given)


class ConfirmsEveryId(Organization):
    """Works in accounts that Organizations does not know."""

    def describe(self, account_id: AccountId) -> Account | None:
        return super().describe(account_id) or Account(id=account_id, name="", state="ACTIVE", joined_at=None)


class NeverUninstalls(SourcePolicyTable):
    """Enrolls accounts that an uninstall retires."""

    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        """Go on enrolling."""


# Rows, and the message after them.


class WritesUnconditionally(Ledger):
    """Writes a row whatever its revision."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        key = {"account_id": {"S": row.account_id}}
        held = self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item", {})
        revision = int(held.get("revision", {}).get("N", "0"))
        return super().write(row, over=replace(over or row, revision=revision))


class WritesNoReason(Ledger):
    """Records failures without their reason."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, reason=None) if row.outcome is Outcome.FAILED else row, over=over)


class HidesFailures(Ledger):
    """Records no failure at all."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return row.outcome is Outcome.FAILED or super().write(row, over=over)


class RevokesWhatFails(Ledger):
    """Writes access none into a row that a failure creates."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        if row.outcome is Outcome.FAILED and row.access is None:
            row = replace(row, access=Access.NONE)
        return super().write(row, over=over)


class ExcludesNobody(Ledger):
    """Writes none where an account is to be excluded, which scope organization doesn't leave out."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, access=Access.NONE) if row.access is Access.EXCLUDED else row, over=over)


class _Sends(Enrollment):
    """A batch whose message to publish is sent at another time, or for other reasons."""

    def _handle(self, jobs: list[_Job], deadline: float) -> None:
        rows = self._ledger.read(job.message.account_id for job in jobs)
        records = self._table.load()
        for job in jobs:
            job.row = rows.get(job.message.account_id)
            self._reconcile(job, records, deadline)
        self.before_rows()
        for job in jobs:
            self._write(job, records)
        self.after_rows(jobs, records)
        for job in jobs:
            if job.verdict is not None:
                _report(job, job.verdict)

    def before_rows(self) -> None:
        """Do nothing yet."""

    def after_rows(self, jobs: list[_Job], records: Records) -> None:
        """Send nothing any more."""


class MessageBeforeRow(_Sends):
    """Asks for a run of publish before the rows are written, and not after."""

    def before_rows(self) -> None:
        self._publish.send()


class MessageWhereTheyDiffer(_Sends):
    """Asks for a run of publish only where the records, as they were read, differ from the row."""

    def after_rows(self, jobs: list[_Job], records: Records) -> None:
        written = [job.written for job in jobs if job.written is not None]
        waits = any(job.verdict is not None and job.verdict.blocked and job.verdict.retry for job in jobs)
        if waits or any(records.differs(row.account_id, row.access) for row in written):
            self._publish.send()


class Stumbles(Enrollment):
    """Raises an exception of no known kind."""

    def _valid_listing(self, job: _Job) -> Account | None:
        return None if job.message.account is None else job.message.account.id  # type: ignore[return-value]


# Runs of publish.


class NoRunLease(RunLease):
    """Publishes while another run does."""

    def acquire(self) -> bool:
        super().acquire()
        return True

    def hold(self) -> None:
        """Let every write begin."""


class GivesLeaseBack(RunLease):
    """Gives the lease back after a call that may still take effect."""

    def keep(self) -> None:
        """Keep nothing."""


class MissingRowRevokes(_Run):
    """Revokes an account that has no row."""

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        named = {each for record in self._shards.records.values() for each in record.content.accounts}
        for account_id in named - self._rows.keys():
            self._rows[account_id] = AccessRow(account_id, Access.NONE, None, None, None, None)
        return super()._assign(scope, max_shards)


class LostRecordsAreEmpty(ShardWriter):
    """Takes shards whose records were lost for shards that were never opened."""

    def restore(self, opened: int, *, search: bool) -> None:
        """Restore nothing."""

    def find(self, index: int) -> ShardRecord | None:  # noqa: ARG002 - it looks for none
        return None


class NarrowsFirst(_Run):
    """Revokes an account in one shard before another one grants it."""

    def _interim(self, index: int, desired: ShardContent, assignment: Assignment) -> ShardContent:  # noqa: ARG002
        return desired


class OpensWithoutRoom(_Run):
    """Opens a shard for which a source principal has no room."""

    def _why_not_opened(self, index: int) -> Problem | None:
        return None if index >= self._status.room else super()._why_not_opened(index)


class NeverRevokes(_Run):
    """Leaves in the source policy what was once there."""

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        self._rows = {each: row for each, row in self._rows.items() if row.access is Access.GRANTED}
        return super()._assign(scope, max_shards)


class NeverGrants(_Run):
    """Adds no account to the source policy."""

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        self._rows = {each: row for each, row in self._rows.items() if row.access is not Access.GRANTED}
        return super()._assign(scope, max_shards)


class ChangesScopeEarly(_Run):
    """Changes the scope before every account has a row."""

    def _scope(self) -> Scope:
        return self._settings.source_policy_scope


# Writes of shards.


class NoApplying(ShardWriter):
    """Records nothing before IAM is written."""

    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is None or self.records[index].error is not None:
            super()._save(index, record)
        else:
            self.records[index] = record


class ApplyingOverwrites(ShardWriter):
    """Records what IAM is being given over what it was last known to say."""

    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is not None:
            record = replace(record, applied=record.applying)
        super()._save(index, record)


class MarksBeforeWriting(ShardWriter):
    """Records a shard as written before it is."""

    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is not None:
            record = replace(record, applied=record.applying, applying=None)
        super()._save(index, record)


class FreezeLast(ShardWriter):
    """Freezes after everything else is written."""

    def freeze(self) -> None:
        """Leave the freeze to the writing of the shards."""


class TerminalErrorBlocks(ShardWriter):
    """Returns the messages of a run to the queue that met an error which does not pass."""

    def _fail(self, index: int, error: AccountError) -> None:
        super()._fail(index, error)
        self.must_retry = True


class VerifiesAtOnce(ShardWriter):
    """Verifies a shard right after it was written, when IAM may not show it yet."""

    def check(self) -> bool:
        self.records = {
            index: replace(record, written_at=None) if record.written_at else record
            for index, record in self.records.items()
        }
        return super().check()


class LeavesStrays(IamPolicies):
    """Does not delete versions that others created."""

    def observe(self, name: str) -> SourcePolicy | None:
        observed = super().observe(name)
        return replace(observed, strays=()) if observed else None


class PlacesTooMany(ShardWriter):
    """Computes a shard's capacity wrongly."""

    def write(self, index: int, content: ShardContent) -> None:
        more = frozenset(AccountId(f"8{number:011}") for number in range(20))
        super().write(index, replace(content, accounts=content.accounts | more))


class NeverPrunes(IamPolicies):
    """Takes what does not fit beside five versions for written."""

    def _write_version(self, arn: str, document: Document) -> str:
        versions = self._versions(arn)
        return super()._write_version(arn, document) if len(versions) < 5 else versions[0]


class StaysAtHome(IamPolicies):
    """Looks for the source principals in the management account, wherever they are."""

    @contextmanager
    def _entered(self, doing: str, _: object = None) -> Iterator[None]:
        with translated(doing):
            yield


class AttachesTheFirst(IamPolicies):
    """Attaches no shard but the first."""

    def carry_out(self, name: str, action: Any) -> str | None:
        if name == "CrossAccountReadOnlyAccess" or not isinstance(action, AttachTo):
            return super().carry_out(name, action)
        return None


class TakesForeignPolicies(IamPolicies):
    """Takes every policy under a shard's name for its own."""

    def _require_ownership(self, arn: str) -> None:
        """Accept any policy."""

    def owned(self, name: str) -> SourcePolicy | None:  # noqa: ARG002 - it looks for none
        return None


class KeepsOrphans(Ledger):
    """Writes no row for an id that is no member, and that a shard names."""

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return (over is None and row.reason is Reason.DEPARTED) or super().write(row, over=over)


@dataclass(frozen=True)
class Mutant:
    """A mutant, the rule that it breaks, and what catches it: an organization's life, or a scenario that is interrupted."""

    part: type
    rule: str
    scenario: str | None = None
    first: int = 0  # the seed to begin at, where the first that catches it is late
    faults: tuple[str, ...] = KILLS


MUTANTS: Mapping[str, Mutant] = {
    "trust is not repaired": Mutant(LeavesTrustAlone, "is the desired one", first=14),
    "role without policies": Mutant(AttachesNothing, "is the desired one"),
    "foreign role is taken": Mutant(TakesForeignRoles, "nothing that is not ours is changed", first=1),
    "unconditional row": Mutant(WritesUnconditionally, "a row is written only over"),
    "no applying": Mutant(NoApplying, "a role is deleted only while", "retired after a kill after IAM"),
    "applying overwrites applied": Mutant(ApplyingOverwrites, "killed", "source principal changed"),
    "no run lease": Mutant(NoRunLease, "only the run that holds the lease", "shard overflow", faults=(OVERLAP,)),
    "lease not kept": Mutant(GivesLeaseBack, "only the run that holds the lease", "shard overflow", faults=(LATE,)),
    "message before row": Mutant(MessageBeforeRow, "whose row was written while", "publish while enroll writes"),
    "message only where they differ": Mutant(
        MessageWhereTheyDiffer, "is granted though", "active again while publish writes"
    ),
    "failure writes none": Mutant(RevokesWhatFails, "whatever was lost", "ledger lost, and an account denied"),
    "missing row revokes": Mutant(MissingRowRevokes, "no account loses access", "ledger lost"),
    "lost records are empty": Mutant(LostRecordsAreEmpty, "no account loses access", "both tables lost"),
    "narrows before it widens": Mutant(NarrowsFirst, "no account loses access", "shard over its capacity"),
    "freeze last": Mutant(FreezeLast, "a freeze is written first", "freeze while a shard is to be opened"),
    "role deleted while granted": Mutant(RemovesTooEarly, "a role is deleted only while", "retired by request"),
    "terminal error blocks the group": Mutant(
        TerminalErrorBlocks, "are finished", "freeze with the only shard unwritable"
    ),
    "verify right after a write": Mutant(VerifiesAtOnce, "nothing is repaired", "resync right after a write"),
    "never revokes": Mutant(NeverRevokes, "", first=1),
    "never grants": Mutant(NeverGrants, ""),
    "shard over its quota": Mutant(PlacesTooMany, "no document is over the quota", "shard overflow"),
    "five versions and no room": Mutant(NeverPrunes, "IAM says of", first=2),
    "versions of others stay": Mutant(LeavesStrays, "versions of others go", "version by others"),
    "failure without a reason": Mutant(WritesNoReason, "every failure has a reason", first=6),
    "failure without a row": Mutant(HidesFailures, "the ledger has a row for every account"),
    "id that nobody confirmed": Mutant(
        ConfirmsEveryId, "no account is entered that Organizations never confirmed", first=1
    ),
    "marked before the write": Mutant(MarksBeforeWriting, "killed", "new account"),
    "role of a retired account stays": Mutant(LeavesRoles, "has no role", "retired by request"),
    "nobody is excluded": Mutant(ExcludesNobody, "the organization's source policy excludes", first=1),
    "uninstall stops nothing": Mutant(NeverUninstalls, "", first=32),
    "source account is not entered": Mutant(StaysAtHome, "is granted", "separate source account"),
    "second shard is not attached": Mutant(AttachesTheFirst, "the second shard is attached", "shard overflow"),
    "shard without room is opened": Mutant(OpensWithoutRoom, "a newcomer fails with the reason", "attachment quota"),
    "departure that never was": Mutant(TrustsDepartures, "is granted", "departed and back"),
    "retirement is forgotten": Mutant(IgnoresMarks, "a retired account is not granted", "retired by request"),
    "units that nobody asked for": Mutant(ExpectsNoUnits, "is granted", "units named while a listing waits"),
    "orphaned account stays": Mutant(KeepsOrphans, "orphaned accounts are revoked", "orphaned accounts"),
    "foreign policy is taken": Mutant(TakesForeignPolicies, "nothing that is not ours", "foreign source policy"),
    "scope changes too early": Mutant(ChangesScopeEarly, "whatever was lost", "scope narrowed after a lost ledger"),
    "unknown exception": Mutant(Stumbles, "nothing unforeseen is raised"),
}
"""Each mutant with the rule that it breaks."""


def noticed(mutant: Mutant, seeds: int) -> str | None:
    """Look for what a mutant breaks, and return the trace that ends with it."""
    with planted(mutant.part):
        if mutant.scenario is not None:
            told = interrupted(mutant.scenario, mutant.faults).divergences
            return next((each for each in told if mutant.rule in each), None)
        with simulated() as boundary:
            return first_broken(boundary, range(mutant.first, mutant.first + seeds), mutant.rule)[0]
