"""Mutants of publish: of a run, its lease, and the records and writes of shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
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
from chalicelib.source_policy.plan import AttachTo, SourcePolicy
from chalicelib.source_policy.records import Problem, ShardContent, ShardRecord
from tests.integration.simulation.faults import LATE, OVERLAP
from tests.integration.simulation.mutants import mutates

LEASE = "only the run that holds the lease"
FREEZE = "a freeze in force leaves"

# Runs.


@mutates(RunLease, "acquire", LEASE, "shard overflow", faults=(OVERLAP,))
def lease_is_not_needed(original: Any, self: RunLease) -> bool:
    original(self)
    self.hold = lambda: None  # type: ignore[method-assign]
    return True


@mutates(RunLease, "keep", LEASE, "shard overflow", faults=(LATE,))
def lease_is_released_after_an_unknown_outcome(*_: object) -> None:
    """Keep nothing."""


@mutates(SourcePolicyTable, "set_uninstalling", "", first=32)
def uninstall_sets_no_flag(*_: object, **__: object) -> None:
    """Set no flag."""


@mutates(_Run, "_assign", "no account loses access", "ledger lost")
def missing_row_revokes(original: Any, self: _Run, *args: Any) -> Any:
    named = {each for record in self._shards.records.values() for each in record.content.accounts}
    for account_id in named - self._rows.keys():
        self._rows[account_id] = AccessRow(account_id, Access.NONE, None, None, None, None)
    return original(self, *args)


@mutates(_Run, "_assign", "", first=1)
def no_account_is_revoked(original: Any, self: _Run, *args: Any) -> Any:
    self._rows = {each: row for each, row in self._rows.items() if row.access is Access.GRANTED}
    return original(self, *args)


@mutates(_Run, "_assign", "")
def no_account_is_granted(original: Any, self: _Run, *args: Any) -> Any:
    self._rows = {each: row for each, row in self._rows.items() if row.access is not Access.GRANTED}
    return original(self, *args)


@mutates(_Run, "_interim", "no account loses access", "shard over its capacity")
def shard_narrows_before_another_widens(_: Any, __: _Run, ___: int, desired: ShardContent, *____: Any) -> ShardContent:
    return desired


@mutates(_Run, "_why_not_opened", "a new account fails with the reason", "attachment quota")
def shard_is_opened_without_room(original: Any, self: _Run, index: int) -> Problem | None:
    return None if index >= self._status.room else original(self, index)


@mutates(_Run, "_scope", "whatever was lost", "scope narrowed after a lost ledger")
def scope_changes_too_early(_: Any, self: _Run) -> Scope:
    return self._settings.source_policy_scope


# Records of shards.


@mutates(ShardWriter, "restore", "no account loses access", "both tables lost")
def lost_records_count_as_empty(_: Any, self: ShardWriter, *__: object, **___: object) -> None:
    self.find = lambda _: None  # type: ignore[method-assign,assignment]


@mutates(ShardWriter, "_save", "a role is deleted only while", "retired after a kill after IAM")
def applying_is_not_recorded(original: Any, self: ShardWriter, index: int, record: ShardRecord) -> None:
    if record.applying is None or self.records[index].error is not None:
        original(self, index, record)
    else:
        self.records[index] = record


@mutates(ShardWriter, "_save", "killed", "source principal changed")
def applying_overwrites_applied(original: Any, self: ShardWriter, index: int, record: ShardRecord) -> None:
    original(self, index, replace(record, applied=record.applying or record.applied))


@mutates(ShardWriter, "_save", "killed", "new account")
def applied_is_recorded_before_the_write(original: Any, self: ShardWriter, index: int, record: ShardRecord) -> None:
    original(self, index, replace(record, applied=record.applying or record.applied, applying=None))


# Writes of shards.


@mutates(ShardWriter, "freeze", "a freeze is written first", "freeze while a shard is to be opened")
def freeze_is_written_last(*_: object) -> None:
    """Leave the freeze to the writes of the shards."""


@mutates(ShardWriter, "freeze", FREEZE, "freeze that was undone by hand")
def earlier_freeze_counts(original: Any, self: ShardWriter, requested_at: datetime | None) -> None:
    for index, record in self.records.items():
        if record.is_frozen:
            self._save(index, replace(record, freeze_requested_at=requested_at))
    original(self, requested_at)


@mutates(ShardWriter, "_confirm_denial", FREEZE, "freeze that is undone meanwhile")
def freeze_is_not_read_back(_: Any, self: ShardWriter, index: int) -> None:
    record = self.records[index]
    self._save(index, replace(record, denied_principals=record.attached))


@mutates(ShardWriter, "_confirm_denial", FREEZE, "freeze that is undone meanwhile")
def only_the_first_shard_is_read_back(original: Any, self: ShardWriter, index: int) -> None:
    if index == 0:
        original(self, index)
    else:
        freeze_is_not_read_back(original, self, index)


@mutates(ShardWriter, "_record_error", "are finished", "freeze with the only shard unwritable")
def terminal_error_returns_the_messages(original: Any, self: ShardWriter, index: int, error: AccountError) -> None:
    original(self, index, error)
    self.must_retry = True


@mutates(ShardWriter, "check", "nothing is repaired", "resync right after a write")
def shard_is_verified_right_after_a_write(original: Any, self: ShardWriter) -> bool:
    self.records = {index: replace(record, written_at=None) for index, record in self.records.items()}
    return bool(original(self))


@mutates(ShardWriter, "_verify", "writes nothing", "unchanged")
def shard_is_rewritten_endlessly(_: Any, self: ShardWriter, index: int, record: ShardRecord) -> None:
    self.write(index, record.content)


@mutates(ShardWriter, "write", "no document is over the quota", "shard overflow")
def shard_exceeds_its_quota(original: Any, self: ShardWriter, index: int, content: ShardContent) -> None:
    more = frozenset(AccountId(f"8{number:011}") for number in range(20))
    original(self, index, replace(content, accounts=content.accounts | more))


@mutates(IamPolicies, "observe", "versions of others are deleted", "version by others")
def versions_of_others_stay(original: Any, self: IamPolicies, name: str) -> SourcePolicy | None:
    observed = original(self, name)
    return replace(observed, strays=()) if observed else None


@mutates(IamPolicies, "_write_version", "writes nothing", first=2)
def sixth_version_counts_as_written(original: Any, self: IamPolicies, arn: str, document: Document) -> str:
    versions = self._versions(arn)
    return str(original(self, arn, document)) if len(versions) < 5 else versions[0]


@mutates(IamPolicies, "_entered", "is granted", "separate source account")
@contextmanager
def source_account_is_not_entered(_: Any, __: IamPolicies, doing: str, *___: object) -> Iterator[None]:
    with translated(doing):
        yield


@mutates(IamPolicies, "carry_out", "the second shard is attached", "shard overflow")
def second_shard_is_not_attached(original: Any, self: IamPolicies, name: str, action: Any) -> str | None:
    if name == "CrossAccountReadOnlyAccess" or not isinstance(action, AttachTo):
        return original(self, name, action)  # type: ignore[no-any-return]
    return None


@mutates(IamPolicies, "owned", "nothing that is not ours", "foreign source policy")
def foreign_policy_is_adopted(_: Any, self: IamPolicies, *__: object) -> None:
    self._require_ownership = lambda _: None  # type: ignore[method-assign,assignment]
