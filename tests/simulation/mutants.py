"""Mutants: applications with one rule of the design broken each; the simulation must catch every one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import count, islice
from typing import Any

from chalicelib.accounts import Access, Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.failures import translated
from chalicelib.aws.iam_policies import IamPolicies
from chalicelib.aws.ledger import AccessRow, Ledger
from chalicelib.aws.member_roles import MemberRoles
from chalicelib.aws.organizations import Organization
from chalicelib.aws.queues import PublishQueue
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.bootstrap import Application
from chalicelib.documents import Document
from chalicelib.enrollment import Enrollment, _Job, _report
from chalicelib.errors import AccountError, Reason
from chalicelib.member_role import Action, AttachPolicy, MemberRole, SetTrust
from chalicelib.publisher import Publisher, RunLease, _Run
from chalicelib.reconciler import Reconciler, Verdict
from chalicelib.settings import Scope
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy import (
    Assignment,
    AttachTo,
    Problem,
    Records,
    ShardContent,
    ShardRecord,
    SourcePolicy,
)
from tests.simulation.boundary import Warm, simulated
from tests.simulation.every_call import interrupted
from tests.simulation.life import Life, first_broken
from tests.simulation.one_fault import KILLS, OVERLAP


class _PublisherOf(Publisher):
    """A publisher whose lease, run and writer of shards are replaced."""

    leases: type[RunLease] = RunLease
    runs: type[_Run] = _Run
    writers: type[ShardWriter] = ShardWriter

    def _run(self, owner: str, deadline: float) -> bool:
        lease = self.leases(self._table, owner, deadline=deadline, clock=self._clock)
        if not lease.acquire():
            return False
        try:
            run = self.runs(
                self._settings,
                self._table,
                self._ledger,
                self._policies,
                self._organization_id,
                lease,
                self._now,
                self._pool,
            )
            known = run._shards
            run._shards = self.writers(
                run._settings, run._status.organization_id, self._table, run._policies, lease.hold, run._now
            )
            run._shards.records = known.records
            return run.publish()
        finally:
            lease.release()


class Parts(Warm):
    """Puts together what a mutant replaces."""

    enrollments: type[Enrollment] = Enrollment
    publishers: type[Publisher] = _PublisherOf
    reconcilers: type[Reconciler] = Reconciler
    roles: type[MemberRoles] = MemberRoles
    ledgers: type[Ledger] = Ledger
    tables: type[SourcePolicyTable] = SourcePolicyTable
    policies: type[IamPolicies] = IamPolicies
    organizations: type[Organization] = Organization
    queues: type[PublishQueue] = PublishQueue

    @cached_property
    def _enrollment(self) -> Enrollment:
        return self.enrollments(
            settings=self._settings,
            reconciler=self._reconciler,
            ledger=self._ledger,
            table=self._table,
            accounts=self._accounts_queue,
            publish=self._publish_queue,
            clock=self._clock,
            pool=self._pool,
        )

    @cached_property
    def _publisher(self) -> Publisher:
        return self.publishers(
            self._settings,
            self._table,
            self._ledger,
            lambda settings: self.policies(settings, self._sessions, self._source_iam),
            self._publish_queue,
            self._organization.organization_id,
            self._clock,
            self._pool,
        )

    @cached_property
    def _reconciler(self) -> Reconciler:
        roles = self.roles(self._iam, self._settings.member_role_name)
        return self.reconcilers(
            self._settings,
            self._organization,
            self._sessions,
            roles,
            lambda: datetime.fromtimestamp(self._clock(), UTC),
        )

    @cached_property
    def _table(self) -> SourcePolicyTable:
        return self.tables(self._settings, self._dynamodb, self._environ["SOURCE_POLICY_TABLE"])

    @cached_property
    def _ledger(self) -> Ledger:
        return self.ledgers(self._dynamodb, self._environ["LEDGER_TABLE"])

    @cached_property
    def _organization(self) -> Organization:
        return self.organizations(self._settings, self._session.client("organizations", config=self._config))


# Member roles.


class _LeavesTrustAlone(MemberRoles):
    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, SetTrust):
            super().carry_out(action, arn)


class LeavesTrustAlone(Parts):
    """Does not repair a role's trust."""

    roles = _LeavesTrustAlone


class _AttachesNothing(MemberRoles):
    def carry_out(self, action: Action, arn: str) -> None:
        if not isinstance(action, AttachPolicy):
            super().carry_out(action, arn)


class AttachesNothing(Parts):
    """Creates roles without permissions."""

    roles = _AttachesNothing


class _TakesForeignRoles(MemberRoles):
    def observe(self, desired: MemberRole) -> MemberRole | None:
        seen = super().observe(desired)
        return replace(seen, tags=desired.tags) if seen else None


class TakesForeignRoles(Parts):
    """Treats every role of the member role's name as its own."""

    roles = _TakesForeignRoles


# One account.


class _RemovesTooEarly(Reconciler):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        return super().__call__(account_id, row, **{**given, "removable": True})


class RemovesTooEarly(Parts):
    """Deletes a retired account's role while a record grants the account."""

    reconcilers = _RemovesTooEarly


class _LeavesRoles(Reconciler):
    def _remove(self, *_: object, **__: object) -> None:
        """Leave the role where it is."""


class LeavesRoles(Parts):
    """Deletes no role."""

    reconcilers = _LeavesRoles


class _TrustsDepartures(Reconciler):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        verdict = super().__call__(account_id, row, **given)
        joined_at = verdict.account.joined_at if verdict.account else None
        if joined_at and row and row.reason is Reason.DEPARTED and row.joined_at == joined_at.isoformat():
            return replace(verdict, outcome=Outcome.SKIPPED, reason=Reason.DEPARTED, access=Access.NONE, retry=False)
        return verdict


class TrustsDepartures(Parts):
    """Takes an account that is a member again, with the date that it had, for one that departed."""

    reconcilers = _TrustsDepartures


class _IgnoresMarks(Reconciler):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        return super().__call__(account_id, replace(row, retirement_requested_at=None) if row else None, **given)


class IgnoresMarks(Parts):
    """Enrolls accounts that were asked to be retired."""

    reconcilers = _IgnoresMarks


class _ExpectsNoUnits(Reconciler):
    def __call__(self, account_id: AccountId, row: LedgerRow | None, **given: Any) -> Verdict:
        listed = given.get("listed")
        if isinstance(listed, Account):
            given["listed"] = replace(listed, ou_ids=listed.ou_ids or ())
        return super().__call__(account_id, row, **given)


class ExpectsNoUnits(Parts):
    """Takes an account whose listing has no organizational units for one that is in none."""

    reconcilers = _ExpectsNoUnits


class _ConfirmsEveryId(Organization):
    def describe(self, account_id: AccountId) -> Account | None:
        return super().describe(account_id) or Account(id=account_id, name="", state="ACTIVE", joined_at=None)


class ConfirmsEveryId(Parts):
    """Works in accounts that Organizations does not know."""

    organizations = _ConfirmsEveryId


class _NeverUninstalls(SourcePolicyTable):
    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        """Go on enrolling."""


class NeverUninstalls(Parts):
    """Enrolls accounts that an uninstall retires."""

    tables = _NeverUninstalls


# Rows, and the message after them.


class _WritesUnconditionally(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        key = {"account_id": {"S": row.account_id}}
        held = self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item", {})
        revision = int(held.get("revision", {}).get("N", "0"))
        return super().write(row, over=replace(over or row, revision=revision))


class WritesUnconditionally(Parts):
    """Writes a row whatever its revision."""

    ledgers = _WritesUnconditionally


class _WritesNoReason(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, reason=None) if row.outcome is Outcome.FAILED else row, over=over)


class WritesNoReason(Parts):
    """Records failures without their reason."""

    ledgers = _WritesNoReason


class _HidesFailures(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return row.outcome is Outcome.FAILED or super().write(row, over=over)


class HidesFailures(Parts):
    """Records no failure at all."""

    ledgers = _HidesFailures


class _RevokesWhatFails(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        if row.outcome is Outcome.FAILED and row.access is None:
            row = replace(row, access=Access.NONE)
        return super().write(row, over=over)


class RevokesWhatFails(Parts):
    """Writes access none into a row that a failure creates."""

    ledgers = _RevokesWhatFails


class _ExcludesNobody(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return super().write(replace(row, access=Access.NONE) if row.access is Access.EXCLUDED else row, over=over)


class ExcludesNobody(Parts):
    """Writes none where an account is to be excluded, which scope organization doesn't leave out."""

    ledgers = _ExcludesNobody


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
            _report(job)

    def before_rows(self) -> None:
        """Do nothing yet."""

    def after_rows(self, jobs: list[_Job], records: Records) -> None:
        """Send nothing any more."""


class _SendsFirst(_Sends):
    def before_rows(self) -> None:
        self._publish.send()


class MessageBeforeRow(Parts):
    """Asks for a run of publish before the rows are written, and not after."""

    enrollments = _SendsFirst


class _SendsWhereTheyDiffer(_Sends):
    def after_rows(self, jobs: list[_Job], records: Records) -> None:
        written = [job.written for job in jobs if job.written is not None]
        waits = any(job.verdict is not None and job.verdict.refused and job.verdict.retry for job in jobs)
        if waits or any(records.differs(row.account_id, row.access) for row in written):
            self._publish.send()


class MessageWhereTheyDiffer(Parts):
    """Asks for a run of publish only where the records, as they were read, differ from the row."""

    enrollments = _SendsWhereTheyDiffer


class _Stumbles(Enrollment):
    def _valid_listing(self, job: _Job) -> Account | None:
        return None if job.message.account is None else job.message.account.id  # type: ignore[return-value]


class Stumbles(Parts):
    """Raises an exception of no known kind."""

    enrollments = _Stumbles


# Runs of publish.


class _NoLease(RunLease):
    def acquire(self) -> bool:
        super().acquire()
        return True

    def hold(self) -> None:
        """Let every write begin."""


class _PublishesWithoutLease(_PublisherOf):
    leases = _NoLease


class NoRunLease(Parts):
    """Publishes while another run does."""

    publishers = _PublishesWithoutLease


class _RevokesTheUnrecorded(_Run):
    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        named = {each for record in self._shards.records.values() for each in record.content.accounts}
        for account_id in named - self._rows.keys():
            self._rows[account_id] = AccessRow(account_id, Access.NONE, None, None, None, None)
        return super()._assign(scope, max_shards)


class _PublishesRowsAlone(_PublisherOf):
    runs = _RevokesTheUnrecorded


class MissingRowRevokes(Parts):
    """Revokes an account that has no row."""

    publishers = _PublishesRowsAlone


class _RestoresNothing(_Run):
    def _restore(self) -> None:
        if self._records.are_lost:
            self._save(replace(self._status, shards=len(self._shards.records)))


class _FindsNothing(ShardWriter):
    def find(self, index: int) -> ShardRecord | None:  # noqa: ARG002 - it looks for none
        return None


class _TakesLostForEmpty(_PublisherOf):
    runs = _RestoresNothing
    writers = _FindsNothing


class LostRecordsAreEmpty(Parts):
    """Takes shards whose records were lost for shards that were never opened."""

    publishers = _TakesLostForEmpty


class _Narrows(_Run):
    def _in_order(self, desired: list[ShardContent]) -> list[int]:
        return super()._in_order(desired)[::-1]

    def _write(self, index: int, desired: list[ShardContent]) -> bool:
        if not self._shards.differs(index, desired[index], rewrite=self._is_check):
            return False
        self._shards.write(index, desired[index])
        return index not in self._shards.failed


class _NarrowsFirst(_PublisherOf):
    runs = _Narrows


class NarrowsFirst(Parts):
    """Revokes an account in one shard before another one grants it."""

    publishers = _NarrowsFirst


class _OpensWithoutRoom(_Run):
    def _why_not_opened(self, index: int) -> Problem | None:
        return None if index >= self._room() else super()._why_not_opened(index)


class _OpensEveryShard(_PublisherOf):
    runs = _OpensWithoutRoom


class OpensWithoutRoom(Parts):
    """Opens a shard for which a source principal has no room."""

    publishers = _OpensEveryShard


class _NeverRevokes(_Run):
    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        self._rows = {each: row for each, row in self._rows.items() if row.access is Access.GRANTED}
        return super()._assign(scope, max_shards)


class _PublishesGrantsAlone(_PublisherOf):
    runs = _NeverRevokes


class NeverRevokes(Parts):
    """Leaves in the source policy what was once there."""

    publishers = _PublishesGrantsAlone


class _NeverGrants(_Run):
    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        self._rows = {each: row for each, row in self._rows.items() if row.access is not Access.GRANTED}
        return super()._assign(scope, max_shards)


class _PublishesRevocationsAlone(_PublisherOf):
    runs = _NeverGrants


class NeverGrants(Parts):
    """Adds no account to the source policy."""

    publishers = _PublishesRevocationsAlone


class _ChangesScopeEarly(_Run):
    def _scope(self) -> Scope:
        return self._settings.source_policy_scope


class _PublishesItsScope(_PublisherOf):
    runs = _ChangesScopeEarly


class ChangesScopeEarly(Parts):
    """Changes the scope before every account has a row."""

    publishers = _PublishesItsScope


# Writes of shards.


class _MarksNothing(ShardWriter):
    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is None or self.records[index].error is not None:
            super()._save(index, record)
        else:
            self.records[index] = record


class _PublishesUnmarked(_PublisherOf):
    writers = _MarksNothing


class NoApplying(Parts):
    """Records nothing before IAM is written."""

    publishers = _PublishesUnmarked


class _MarksOver(ShardWriter):
    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is not None:
            record = replace(record, applied=record.applying)
        super()._save(index, record)


class _PublishesOver(_PublisherOf):
    writers = _MarksOver


class ApplyingOverwrites(Parts):
    """Records what IAM is being given over what it was last known to say."""

    publishers = _PublishesOver


class _MarksDone(ShardWriter):
    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is not None:
            record = replace(record, applied=record.applying, applying=None)
        super()._save(index, record)


class _PublishesDone(_PublisherOf):
    writers = _MarksDone


class MarksBeforeWriting(Parts):
    """Records a shard as written before it is."""

    publishers = _PublishesDone


class _FreezesLater(ShardWriter):
    def freeze(self) -> None:
        """Leave the freeze to the writing of the shards."""


class _PublishesThenFreezes(_PublisherOf):
    writers = _FreezesLater


class FreezeLast(Parts):
    """Freezes after everything else is written."""

    publishers = _PublishesThenFreezes


class _RetriesEverything(ShardWriter):
    def _fail(self, index: int, error: AccountError) -> None:
        super()._fail(index, error)
        self.must_retry = True


class _PublishesForEver(_PublisherOf):
    writers = _RetriesEverything


class TerminalErrorBlocks(Parts):
    """Returns the messages of a run to the queue that met an error which does not pass."""

    publishers = _PublishesForEver


class _ChecksAtOnce(ShardWriter):
    def check(self, verify_requested_at: datetime | None) -> bool:
        self.records = {
            index: replace(record, written_at=None) if record.written_at else record
            for index, record in self.records.items()
        }
        return super().check(verify_requested_at)


class _VerifiesAtOnce(_PublisherOf):
    writers = _ChecksAtOnce


class VerifiesAtOnce(Parts):
    """Verifies a shard right after it was written, when IAM may not show it yet."""

    publishers = _VerifiesAtOnce


class _LeavesStrays(IamPolicies):
    def observe(self, name: str) -> SourcePolicy | None:
        observed = super().observe(name)
        return replace(observed, strays=()) if observed else None


class LeavesStrays(Parts):
    """Does not delete versions that others created."""

    policies = _LeavesStrays


class _PlacesTooMany(ShardWriter):
    def write(self, index: int, content: ShardContent) -> None:
        more = frozenset(AccountId(f"8{number:011}") for number in range(20))
        super().write(index, replace(content, accounts=content.accounts | more))


class _PublishesTooMany(_PublisherOf):
    writers = _PlacesTooMany


class PlacesTooMany(Parts):
    """Computes a shard's capacity wrongly."""

    publishers = _PublishesTooMany


class _NeverPrunes(IamPolicies):
    def _write_version(self, arn: str, document: Document) -> str:
        versions = self._versions(arn)
        return super()._write_version(arn, document) if len(versions) < 5 else versions[0]


class NeverPrunes(Parts):
    """Takes what does not fit beside five versions for written."""

    policies = _NeverPrunes


class _StaysAtHome(IamPolicies):
    @contextmanager
    def _entered(self, doing: str, _: object = None) -> Iterator[None]:
        with translated(doing):
            yield


class StaysAtHome(Parts):
    """Looks for the source principals in the management account, wherever they are."""

    policies = _StaysAtHome


class _AttachesTheFirst(IamPolicies):
    def carry_out(self, name: str, action: Any) -> str | None:
        if name == "CrossAccountReadOnlyAccess" or not isinstance(action, AttachTo):
            return super().carry_out(name, action)
        return None


class AttachesTheFirst(Parts):
    """Attaches no shard but the first."""

    policies = _AttachesTheFirst


class _TakesForeignPolicies(IamPolicies):
    def _owner_tags(self, _: object) -> bool:
        return True


class _TakesEveryPolicy(_PublisherOf):
    writers = _FindsNothing


class TakesForeignPolicies(Parts):
    """Takes every policy under a shard's name for its own."""

    policies = _TakesForeignPolicies
    publishers = _TakesEveryPolicy


class _KeepsOrphans(Ledger):
    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        return (over is None and row.reason is Reason.DEPARTED) or super().write(row, over=over)


class KeepsOrphans(Parts):
    """Writes no row for an id that is no member, and that a shard names."""

    ledgers = _KeepsOrphans


@dataclass(frozen=True)
class Mutant:
    """A mutant, the rule that it breaks, and what catches it: an organization's life, or a scenario that is interrupted."""

    kind: type[Application]
    rule: str
    scenario: str | None = None
    first: int = 0  # the seed to begin at, where the first that catches it is late
    way: str | None = None  # the way that an organization lives whose life catches it
    faults: tuple[str, ...] = KILLS


MUTANTS: Mapping[str, Mutant] = {
    "trust is not repaired": Mutant(LeavesTrustAlone, "is the desired one", first=15),
    "role without policies": Mutant(AttachesNothing, "is the desired one"),
    "foreign role is taken": Mutant(TakesForeignRoles, "nothing that is not ours is changed", first=5),
    "unconditional row": Mutant(WritesUnconditionally, "a row is written only over"),
    "no applying": Mutant(NoApplying, "a role is deleted only while", "retired after a kill after IAM"),
    "applying overwrites applied": Mutant(ApplyingOverwrites, "killed", "source principal changed"),
    "no run lease": Mutant(NoRunLease, "only the run that holds the lease", "shard overflow", faults=(OVERLAP,)),
    "message before row": Mutant(MessageBeforeRow, "no row is left to be published", first=26),
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
    "never revokes": Mutant(NeverRevokes, ""),
    "never grants": Mutant(NeverGrants, ""),
    "shard over its quota": Mutant(PlacesTooMany, "no document is over the quota", "shard overflow"),
    "five versions and no room": Mutant(NeverPrunes, "IAM says of"),
    "versions of others stay": Mutant(LeavesStrays, "versions of others go", "version by others"),
    "failure without a reason": Mutant(WritesNoReason, "every failure has a reason"),
    "failure without a row": Mutant(HidesFailures, "the ledger has a row for every account"),
    "id that nobody confirmed": Mutant(ConfirmsEveryId, "no account is entered that Organizations never confirmed"),
    "marked before the write": Mutant(MarksBeforeWriting, "killed", "new account"),
    "role of a retired account stays": Mutant(LeavesRoles, "which is retired, is gone", first=18),
    "nobody is excluded": Mutant(ExcludesNobody, "the organization's source policy excludes", first=28),
    "uninstall stops nothing": Mutant(NeverUninstalls, "", first=32),
    "source account is not entered": Mutant(StaysAtHome, "", way="separate source account"),
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
    if mutant.scenario is not None:
        told = interrupted(mutant.scenario, mutant.faults, mutant.kind, distinct=True).divergences
        return next((each for each in told if mutant.rule in each), None)
    with simulated() as boundary:
        lived = (seed for seed in count(mutant.first) if mutant.way in {None, *Life(boundary, seed).ways})
        return first_broken(boundary, islice(lived, seeds), mutant.kind, mutant.rule)[0]
