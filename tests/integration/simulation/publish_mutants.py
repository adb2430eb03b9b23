"""Mutants of publish: of a run, its lease, and the writes of shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from chalicelib.accounts import Access
from chalicelib.arns import AccountId
from chalicelib.aws.errors import translated
from chalicelib.aws.iam_policies import IamPolicies
from chalicelib.aws.ledger import AccessRow
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.documents import Document
from chalicelib.errors import AccountError
from chalicelib.publisher import _Run
from chalicelib.run_lease import RunLease
from chalicelib.settings import Scope
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy.assignment import Assignment
from chalicelib.source_policy.plan import AttachTo, SourcePolicy
from chalicelib.source_policy.records import Problem, ShardContent, ShardRecord
from tests.integration.simulation.faults import LATE, OVERLAP
from tests.integration.simulation.mutants import violates

# Runs.


@violates("only the run that holds the lease", "shard overflow", faults=(OVERLAP,))
class NoRunLease(RunLease):
    """Publishes while another run does."""

    def acquire(self) -> bool:
        super().acquire()
        return True

    def hold(self) -> None:
        """Let every write begin."""


@violates("only the run that holds the lease", "shard overflow", faults=(LATE,))
class ReleasesLease(RunLease):
    """Releases the lease after a call that may still take effect."""

    def keep(self) -> None:
        """Keep nothing."""


@violates("", first=32)
class NeverUninstalls(SourcePolicyTable):
    """Enrolls accounts during an uninstall."""

    def set_uninstalling(self, *, uninstalling: bool, uninstalled: bool = False) -> None:
        """Set no flag."""


@violates("no account loses access", "ledger lost")
class MissingRowRevokes(_Run):
    """Revokes an account without a row."""

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        named = {each for record in self._shards.records.values() for each in record.content.accounts}
        for account_id in named - self._rows.keys():
            self._rows[account_id] = AccessRow(account_id, Access.NONE, None, None, None, None)
        return super()._assign(scope, max_shards)


@violates("", first=1)
class NeverRevokes(_Run):
    """Leaves in the source policy what was once there."""

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        self._rows = {each: row for each, row in self._rows.items() if row.access is Access.GRANTED}
        return super()._assign(scope, max_shards)


@violates("")
class NeverGrants(_Run):
    """Adds no account to the source policy."""

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        self._rows = {each: row for each, row in self._rows.items() if row.access is not Access.GRANTED}
        return super()._assign(scope, max_shards)


@violates("no account loses access", "shard over its capacity")
class NarrowsFirst(_Run):
    """Revokes an account in one shard before another one grants it."""

    def _interim(self, index: int, desired: ShardContent, assignment: Assignment) -> ShardContent:  # noqa: ARG002
        return desired


@violates("a new account fails with the reason", "attachment quota")
class OpensWithoutRoom(_Run):
    """Opens a shard for which a source principal has no room."""

    def _why_not_opened(self, index: int) -> Problem | None:
        return None if index >= self._status.room else super()._why_not_opened(index)


@violates("whatever was lost", "scope narrowed after a lost ledger")
class ChangesScopeEarly(_Run):
    """Changes the scope before every account has a row."""

    def _scope(self) -> Scope:
        return self._settings.source_policy_scope


# Records of shards.


@violates("no account loses access", "both tables lost")
class LostRecordsAreEmpty(ShardWriter):
    """Treats shards whose records were lost as never opened."""

    def restore(self, opened: int, *, search: bool) -> None:
        """Restore nothing."""

    def find(self, index: int) -> ShardRecord | None:  # noqa: ARG002 - it finds none
        return None


@violates("a role is deleted only while", "retired after a kill after IAM")
class NoApplying(ShardWriter):
    """Records nothing before IAM is written."""

    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is None or self.records[index].error is not None:
            super()._save(index, record)
        else:
            self.records[index] = record


@violates("killed", "source principal changed")
class ApplyingOverwrites(ShardWriter):
    """Overwrites `applied` by what is about to be written."""

    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is not None:
            record = replace(record, applied=record.applying)
        super()._save(index, record)


@violates("killed", "new account")
class AppliedBeforeWriting(ShardWriter):
    """Records a shard as written before it is."""

    def _save(self, index: int, record: ShardRecord) -> None:
        if record.applying is not None:
            record = replace(record, applied=record.applying, applying=None)
        super()._save(index, record)


# Writes of shards.


@violates("a freeze is written first", "freeze while a shard is to be opened")
class FreezesLast(ShardWriter):
    """Freezes after everything else is written."""

    def freeze(self) -> None:
        """Leave the freeze to the writes of the shards."""


@violates("are finished", "freeze with the only shard unwritable")
class TerminalErrorBlocks(ShardWriter):
    """Returns the messages of a run to the queue after a terminal error."""

    def _fail(self, index: int, error: AccountError) -> None:
        super()._fail(index, error)
        self.must_retry = True


@violates("nothing is repaired", "resync right after a write")
class VerifiesAtOnce(ShardWriter):
    """Verifies a shard right after it was written, when IAM may not show it yet."""

    def check(self) -> bool:
        self.records = {
            index: replace(record, written_at=None) if record.written_at else record
            for index, record in self.records.items()
        }
        return super().check()


@violates("writes nothing", "unchanged")
class RewritesEndlessly(ShardWriter):
    """Writes a shard again whenever it is verified."""

    def _verify(self, index: int, record: ShardRecord) -> None:
        self.write(index, record.content)


@violates("no document is over the quota", "shard overflow")
class ExceedsCapacity(ShardWriter):
    """Adds more accounts to a shard than fit."""

    def write(self, index: int, content: ShardContent) -> None:
        more = frozenset(AccountId(f"8{number:011}") for number in range(20))
        super().write(index, replace(content, accounts=content.accounts | more))


@violates("versions of others are deleted", "version by others")
class KeepsStrayVersions(IamPolicies):
    """Does not delete versions that others created."""

    def observe(self, name: str) -> SourcePolicy | None:
        observed = super().observe(name)
        return replace(observed, strays=()) if observed else None


@violates("writes nothing", first=2)
class NeverPrunes(IamPolicies):
    """Treats a document as written that doesn't fit beside five versions."""

    def _write_version(self, arn: str, document: Document) -> str:
        versions = self._versions(arn)
        return super()._write_version(arn, document) if len(versions) < 5 else versions[0]


@violates("is granted", "separate source account")
class IgnoresSourceAccount(IamPolicies):
    """Looks for the source principals in the management account, wherever they are."""

    @contextmanager
    def _entered(self, doing: str, _: object = None) -> Iterator[None]:
        with translated(doing):
            yield


@violates("the second shard is attached", "shard overflow")
class AttachesFirstShard(IamPolicies):
    """Attaches no shard but the first."""

    def carry_out(self, name: str, action: Any) -> str | None:
        if name == "CrossAccountReadOnlyAccess" or not isinstance(action, AttachTo):
            return super().carry_out(name, action)
        return None


@violates("nothing that is not ours", "foreign source policy")
class AdoptsForeignPolicies(IamPolicies):
    """Treats every policy of a shard's name as its own."""

    def _require_ownership(self, arn: str) -> None:
        """Accept any policy."""

    def owned(self, name: str) -> SourcePolicy | None:  # noqa: ARG002 - it finds none
        return None
