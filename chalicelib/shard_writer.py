"""Writes shards to IAM, within one run of publish: each write is recorded before and after it.

A shard is written in three steps: `applying` is recorded, IAM is written, `applying` becomes `applied`. A run that is stopped
anywhere leaves a record from which the next one goes on.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.settings import Settings
from chalicelib.source_policy import (
    AppliedShard,
    CreatePolicy,
    DetachFrom,
    Problem,
    ShardContent,
    ShardRecord,
    SourcePolicy,
    WriteVersion,
    desired_policy,
    desired_shard,
    digest,
    document,
    last_applied_policy,
    parse,
    plan,
    shard_name,
)
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from chalicelib.aws.iam_policies import IamPolicies
    from chalicelib.aws.source_policy_table import SourcePolicyTable
    from chalicelib.source_policy import Action

_CONSISTENT_AFTER = timedelta(
    minutes=2
)  # IAM shows by then what it was given ("Changes that I make are not always immediately visible")
_VERIFY_AFTER = timedelta(days=1)


class ShardWriter:
    """The shards of one run: their records, and what changes them in IAM.

    A terminal error is kept in its shard's record; after a transient one `must_retry` is set. Neither stops the other shards.
    """

    def __init__(
        self,
        settings: Settings,
        organization_id: str,
        table: "SourcePolicyTable",
        policies: "IamPolicies",
        hold: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        """Take `hold`, which raises if the run must not write any more and is called before each write."""
        self._settings = settings
        self._organization_id = organization_id
        self._table = table
        self._policies = policies
        self._hold = hold
        self._now = now
        self.records: dict[int, ShardRecord] = {}
        self.failed: set[int] = set()
        self.must_retry = False
        self.versions_written = 0
        self.repairs: list[dict[str, str]] = []

    def differs(self, index: int, content: ShardContent, *, rewrite: bool) -> bool:
        """Whether IAM has to be written for a shard to have a content; `rewrite` is whether changed settings count."""
        record = self.records[index]
        if record.applied is None or record.applying is not None or record.applied.content != content:
            return True
        desired = desired_shard(self._settings, content, self._organization_id, record)
        applied = record.applied
        return rewrite and (applied.digest != desired.digest or applied.attached != desired.attached)

    def write(self, index: int, content: ShardContent) -> None:
        """Give a shard a content in IAM, its document and its attachments."""
        record = self.records[index]
        with self._collecting(index):
            if not record.versions and (found := self.find(index)) is not None:
                # IAM holds it already: the next pass assigns from what it grants, so that no account loses it.
                self._save(index, found)
                return
            desired = desired_shard(self._settings, content, self._organization_id, record)
            denied = record.denied_principals if content.frozen and record.is_frozen else frozenset[str]()
            begun = replace(record, applying=desired, denied_principals=denied)
            self._save(index, begun)
            version_id = self._apply(record, desired)
            written = replace(desired, version_id=version_id)
            self._save(index, replace(begun, applied=written, applying=None, error=None, written_at=self._now()))

    def _apply(self, record: ShardRecord, desired: AppliedShard) -> str:
        """Carry out the plan from what was last applied, and return the default version."""
        wanted = desired_policy(self._settings, record.name, desired, self._organization_id)
        last = last_applied_policy(self._settings, record, desired, self._organization_id)
        known = record.applied.version_id if record.applied else ""
        former = () if last else tuple(map(DetachFrom, sorted(record.attached - desired.attached)))
        try:
            return self._carry_out(record.name, (*plan(last, wanted), *former)) or known
        except RetryableError as error:
            if error.reason is not Reason.STALE_READ:
                raise
        # The policy isn't there: it was deleted by hand.
        observed = self._policies.observe(record.name)
        return self._carry_out(record.name, plan(observed, wanted)) or known

    def _carry_out(self, name: str, actions: "Iterable[Action]") -> str | None:
        written = None
        for action in actions:
            self._hold()
            version_id = self._policies.carry_out(name, action)
            if version_id is not None:
                written = version_id
                self.versions_written += 1
        return written

    def freeze(self) -> None:
        """Deny everything in every shard that was ever written, whatever else is unfinished; then read IAM to confirm it."""
        for index, record in self.records.items():
            if record.versions and not record.is_frozen:
                with self._collecting(index):
                    self._freeze(index, record)
        for index, record in self.records.items():
            if record.is_frozen and not (record.denied_principals and record.attached <= record.denied_principals):
                with self._collecting(index):
                    self._confirm_freeze(index, record)

    def _freeze(self, index: int, record: ShardRecord) -> None:
        last = record.versions[-1]
        frozen = replace(last, content=replace(last.content, frozen=True))
        begun = replace(record, applying=frozen)
        self._save(index, begun)
        text = document(self._settings, frozen.content, self._organization_id)
        version_id = self._carry_out(record.name, [WriteVersion(text) if record.applied else CreatePolicy(text)])
        # What was unfinished before, as an attachment, still is; but IAM denies everything in both versions now.
        denied = record.applied and replace(record.applied, content=replace(record.applied.content, frozen=True))
        written = replace(
            frozen, digest=digest(self._settings, frozen.content, self._organization_id), version_id=version_id or ""
        )
        finished = (
            replace(begun, applied=written, applying=None)
            if record.applying is None
            else replace(begun, applied=denied)
        )
        self._save(index, replace(finished, written_at=self._now()))

    def _confirm_freeze(self, index: int, record: ShardRecord) -> None:
        observed = self._policies.observe(record.name)
        content = self._parse(observed) if observed else None
        if observed is not None and content is not None and content.frozen:
            self._hold()
            self._save(index, replace(record, denied_principals=observed.attached))

    def restore(self, expected: int) -> None:
        """Make records of what IAM holds, where records were lost; `expected` shards were opened, or more.

        A policy that isn't exactly as publish writes it is foreign: its shard is not written until it is deleted.
        """
        restored: dict[int, ShardRecord] = {}
        known = max([expected, *(each + 1 for each in self.records)])
        for index in count():
            if index in self.records:
                restored[index] = self.records[index]
                continue
            name = shard_name(self._settings, index)
            try:
                found = self.find(index)
            except TerminalError as error:
                if error.reason is not Reason.FOREIGN_SOURCE_POLICY and index >= known:
                    break  # IAM can't be read, so there is no end to be found.
                restored[index] = ShardRecord(name=name, error=Problem(error.reason, str(error)))
                continue
            if found is None and index >= known:
                break
            restored[index] = found or ShardRecord(name=name)
        while restored and len(restored) > expected and not restored[len(restored) - 1].versions:
            del restored[len(restored) - 1]  # foreign, and never opened
        self.records = restored

    def find(self, index: int) -> ShardRecord | None:
        """Return the record of a shard that IAM holds already, or None if it holds no policy of its name.

        Raise TerminalError for a foreign policy.
        """
        name = shard_name(self._settings, index)
        observed = self._policies.owned(name)
        if observed is None:
            return None
        content = self._parse(observed)
        if content is None:
            message = f"{name} is not as publish writes it, and its record was lost: delete the policy, which then is written again"
            raise TerminalError(Reason.FOREIGN_SOURCE_POLICY, message)
        applied = AppliedShard(
            content=content,
            digest=digest(self._settings, content, self._organization_id),
            attached=observed.attached,
            version_id=observed.version_id,
        )
        return ShardRecord(name=name, applied=applied, written_at=self._now())

    def _parse(self, observed: SourcePolicy) -> ShardContent | None:
        return parse(observed.document, self._settings, self._organization_id) if observed.document else None

    def check(self, verify_requested_at: datetime | None) -> bool:
        """Compare with IAM what a resync asked for, and repair it; return whether every shard could be.

        Shards are verified that were not for a day, or not since a full resync asked for it. Of the others the default version
        and the number of attachments are compared. What was written a moment ago is left to the next resync.
        """
        complete = True
        for index, record in self.records.items():
            if record.applied is None or record.applying is not None:
                complete = False
                continue
            if record.written_at is not None and self._now() - record.written_at < _CONSISTENT_AFTER:
                continue
            with self._collecting(index):
                if self._is_due(record, verify_requested_at) or self._has_drifted(record):
                    self._verify(index, record)
        return complete and not self.failed

    def _is_due(self, record: ShardRecord, verify_requested_at: datetime | None) -> bool:
        verified_at = record.verified_at
        if verified_at is None or self._now() - verified_at > _VERIFY_AFTER:
            return True
        return verify_requested_at is not None and verified_at < verify_requested_at

    def _has_drifted(self, record: ShardRecord) -> bool:
        header = self._policies.header(record.name)
        if header is None or record.applied is None or header.version_id != record.applied.version_id:
            return True
        return bool(self._settings.attachable_principals) and header.attachments != len(record.applied.attached)

    def _verify(self, index: int, record: ShardRecord) -> None:
        observed = self._policies.observe(record.name)
        desired = desired_shard(self._settings, record.content, self._organization_id, record)
        attached = desired.attached
        if not self._settings.attachable_principals:
            # Where the operator attaches, only what earlier settings had Rolecall attach goes.
            attached = (observed.attached if observed else frozenset()) - (record.attached - desired.attached)
        wanted = desired_policy(self._settings, record.name, replace(desired, attached=attached), self._organization_id)
        actions = plan(observed, wanted)
        version_id = self._carry_out(record.name, actions) or (observed.version_id if observed else "")
        self.repairs += [{"policy_name": record.name, "action": type(action).__name__} for action in actions]
        self._hold()
        applied = replace(desired, version_id=version_id)
        written_at = self._now() if actions else record.written_at
        verified = replace(record, applied=applied, error=None, verified_at=self._now(), written_at=written_at)
        self._save(index, verified)

    def delete_extra(self) -> None:
        """Delete the policies of further shards' names that this stage wrote and that no record counts."""
        for index in count(len(self.records)):
            try:
                found = self.find(index)
            except AccountError as error:
                logger.error("a policy of a further shard's name is left alone", reason=error.reason, error=str(error))
                return
            if found is None:
                return
            self._hold()
            self._policies.delete(found.name)
            self.repairs.append({"policy_name": found.name, "action": "DeletePolicy"})

    def delete(self, index: int) -> bool:
        """Delete a shard from IAM, and return whether it is gone; its record stays."""
        record = self.records[index]
        with self._collecting(index):
            self._hold()
            if record.applied is not None or self._is_ours(record.name):
                self._policies.delete(record.name)
        return index not in self.failed

    def _is_ours(self, name: str) -> bool:
        """Whether a policy that was never recorded as written is not another owner's."""
        try:
            self._policies.owned(name)
        except TerminalError as error:
            if error.reason is not Reason.FOREIGN_SOURCE_POLICY:
                raise
            return False
        return True

    @contextmanager
    def _collecting(self, index: int) -> Iterator[None]:
        """Record why a shard could not be written, instead of raising it."""
        try:
            yield
        except AccountError as error:
            self._fail(index, error)

    def _fail(self, index: int, error: AccountError) -> None:
        self.failed.add(index)
        logger.error("shard not written", policy_name=self.records[index].name, reason=error.reason, error=str(error))
        if isinstance(error, RetryableError):
            self.must_retry = True
        else:
            self._save(index, replace(self.records[index], error=Problem(error.reason, str(error))))

    def _save(self, index: int, record: ShardRecord) -> None:
        self._hold()
        self._table.write_shard(record)
        self.records[index] = record
