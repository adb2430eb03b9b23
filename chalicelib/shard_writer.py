"""Writes shards to IAM, within one run of publish: each write is recorded before and after it.

A shard is written in three steps: `applying` is recorded, IAM is written, `applying` becomes `applied`. A run that is stopped
anywhere leaves a record from which the next one goes on.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import digest, document, parse
from chalicelib.source_policy.plan import (
    AttachTo,
    CreatePolicy,
    DetachFrom,
    SourcePolicy,
    WriteVersion,
    desired_policy,
    desired_shard,
    last_applied_policy,
    plan,
)
from chalicelib.source_policy.records import MAX_SHARDS, AppliedShard, Problem, ShardContent, ShardRecord, shard_name
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from chalicelib.aws.iam_policies import IamPolicies
    from chalicelib.aws.source_policy_table import SourcePolicyTable
    from chalicelib.run_lease import RunLease
    from chalicelib.source_policy.plan import Action

_MAX_GAP = 3  # names without a policy after which no further shard is looked for


class ShardWriter:
    """The shards of one run: their records, and what changes them in IAM; over 200 lines, since all of it shares the records.

    A terminal error is kept in its shard's record; after a transient one `must_retry` is set. Neither stops the other shards.
    """

    def __init__(
        self,
        settings: Settings,
        organization_id: str,
        table: "SourcePolicyTable",
        policies: "IamPolicies",
        lease: "RunLease",
        now: Callable[[], datetime],
    ) -> None:
        """Take the run's lease, which is renewed before each write."""
        self._settings = settings
        self._organization_id = organization_id
        self._table = table
        self._policies = policies
        self._lease = lease
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
                self._save(index, replace(found, applying=found.applied))
                return
            desired = desired_shard(self._settings, content, self._organization_id, record)
            stays_denied = content.frozen and record.is_frozen and desired.attached == record.attached
            denied = record.denied_principals if stays_denied else None
            self._save(index, replace(record.begun(desired), denied_principals=denied, written_at=self._now()))
            version_id = self._apply(index, record, desired)
            written = replace(desired, version_id=version_id)
            begun = self.records[index]
            self._save(index, replace(begun, applied=written, unfinished=(), applying=None, error=None))

    def _apply(self, index: int, record: ShardRecord, desired: AppliedShard) -> str:
        """Carry out the plan from what was last applied, and return the default version."""
        wanted = desired_policy(self._settings, record.name, desired, self._organization_id)
        last = last_applied_policy(self._settings, record, desired, self._organization_id)
        known = record.applied.version_id if record.applied else ""
        former = () if last else tuple(map(DetachFrom, sorted(record.attached - desired.attached)))
        try:
            return self._carry_out(record.name, (*plan(last, wanted), *former)) or known
        except RetryableError as error:
            return self._write_deleted(index, wanted, error) or known

    def _write_deleted(self, index: int, wanted: SourcePolicy, error: RetryableError) -> str | None:
        """Write a policy that was deleted by hand, which IAM answered a write with; raise any other error."""
        if error.reason is not Reason.STALE_READ:
            raise error
        observed = self._policies.observe(wanted.name)
        if observed is None:
            # Its attachments are gone with it, also for a run that finds this one stopped.
            self._save(index, replace(self.records[index], applied=None, unfinished=(), denied_principals=None))
        return self._carry_out(wanted.name, plan(observed, wanted))

    def _carry_out(self, name: str, actions: "Iterable[Action]") -> str | None:
        written = None
        for action in actions:
            version_id = self._policies.carry_out(name, action)
            if version_id is not None:
                written = version_id
                self.versions_written += 1
        return written

    def freeze(self, requested_at: datetime | None) -> None:
        """Deny everything in every shard that was ever written, then read IAM to confirm it.

        A request is carried out once, whatever is recorded or unfinished; what IAM doesn't show yet is read again by each run.
        """
        principals = frozenset(principal.arn for principal in self._settings.attachable_principals)
        for index, record in self.records.items():
            is_recorded = record.applied and record.is_frozen and principals <= record.attached
            if record.versions and not (is_recorded and record.freeze_requested_at == requested_at):
                with self._collecting(index):
                    self._deny(index, record, principals, requested_at)
        for index, record in self.records.items():
            denied = record.denied_principals or frozenset()
            is_confirmed = denied and principals | record.attached <= denied
            if record.is_frozen and index not in self.failed and not is_confirmed:
                for arn in sorted(principals - denied):
                    # A missing principal must not keep the shard from being narrowed or deleted.
                    with self._collecting(index, stops=False):
                        self._carry_out(record.name, [AttachTo(arn)])
                with self._collecting(index):
                    self._confirm_denial(index)

    def _deny(self, index: int, record: ShardRecord, principals: frozenset[str], requested_at: datetime | None) -> None:
        last = record.versions[-1]
        frozen = replace(_frozen(last), attached=last.attached | principals)
        self._save(index, replace(record.begun(frozen), denied_principals=None))
        wanted = desired_policy(self._settings, record.name, frozen, self._organization_id)
        text = document(self._settings, frozen.content, self._organization_id)
        try:
            version_id = self._carry_out(record.name, [WriteVersion(text) if record.applied else CreatePolicy(text)])
        except RetryableError as error:
            version_id = self._write_deleted(index, wanted, error)
        begun = self.records[index]
        if record.applying is None and frozen.attached == last.attached:
            digested = digest(self._settings, frozen.content, self._organization_id)
            written = replace(frozen, digest=digested, version_id=version_id or "")
            finished = replace(begun, applied=written, applying=None)
        else:
            # What was unfinished before, as an attachment, still is; but IAM denies everything in all versions now.
            denied = _frozen(begun.applied) if begun.applied else None
            finished = replace(begun, applied=denied, unfinished=tuple(map(_frozen, begun.unfinished)))
        self._save(index, replace(finished, written_at=self._now(), freeze_requested_at=requested_at))

    def _confirm_denial(self, index: int) -> None:
        record = self.records[index]
        observed = self._policies.observe(record.name)
        self._save(index, replace(record, denied_principals=self._denied(observed)))

    def _denied(self, observed: SourcePolicy | None) -> frozenset[str] | None:
        """Return what a shard denies everything, as IAM shows it: principals and groups; None if it shows no deny."""
        content = self._parse(observed) if observed else None
        return observed.attached | observed.groups if observed and content and content.frozen else None

    def restore(self, opened: int, *, search: bool) -> None:
        """Make records of what IAM holds and no record counts; `opened` shards were counted, and `search` looks for further ones.

        IAM may show what it was given a moment before: each restored shard counts as unfinished, and is written again. A policy that
        isn't exactly as publish writes it is foreign: its shard is not written until it is deleted.
        """
        found: dict[int, ShardRecord] = {}
        last = max([opened - 1, *self.records])
        for index in count():
            # A shard that never reached IAM must not hide the next ones.
            if index > min(last + (_MAX_GAP if search else 0), MAX_SHARDS - 1):
                break
            if index not in self.records:
                found[index] = self._restored(index)
                last = max(last, index) if found[index].versions else last
        for index, record in found.items():
            if index <= last:
                logger.error("shard without a record is restored from IAM", policy_name=record.name)
                self._save(index, record)

    def _restored(self, index: int) -> ShardRecord:
        name = shard_name(self._settings.source_policy_name, index)
        try:
            found = self.find(index) or ShardRecord(name=name)
        except TerminalError as error:
            if error.reason is not Reason.FOREIGN_SOURCE_POLICY:
                raise  # It is not known what IAM grants: the record stays lost.
            return ShardRecord(name=name, error=Problem(error.reason, str(error)))
        return replace(found, applying=found.applied)

    def find(self, index: int) -> ShardRecord | None:
        """Return the record of a shard that IAM holds already, or None if it holds no policy of its name.

        Raise TerminalError for a foreign policy.
        """
        name = shard_name(self._settings.source_policy_name, index)
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
            # Where the operator attaches, its attachments are not Rolecall's to detach.
            attached=observed.attached if self._settings.attachable_principals else frozenset(),
            version_id=observed.version_id,
        )
        return ShardRecord(name=name, applied=applied, written_at=self._now())

    def _parse(self, observed: SourcePolicy) -> ShardContent | None:
        return parse(observed.document, self._settings, self._organization_id) if observed.document else None

    def check(self) -> bool:
        """Compare the shards with IAM and repair them; return whether all could be.

        What was written a moment ago is left to the next resync.
        """
        complete = True
        for index, record in self.records.items():
            if record.is_consistent(self._now()):
                with self._collecting(index):
                    self._verify(index, record)
            elif record.applied is None or record.applying is not None:
                complete = False
        return complete and not self.failed

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
        applied = replace(desired, version_id=version_id)
        written_at = self._now() if actions else record.written_at
        verified = replace(record, applied=applied, error=None, verified_at=self._now(), written_at=written_at)
        # A repaired shard counts as denying no principal until a later read of IAM shows the deny.
        self._save(index, replace(verified, denied_principals=None if actions else self._denied(observed)))

    def delete(self, index: int) -> bool:
        """Delete a shard from IAM, and return whether it is gone; its record stays until then, with nothing surely granted."""
        record = self.records[index]
        with self._collecting(index):
            if record.applied is not None or self._is_ours(record.name):
                # It is detached first, and then denies nothing.
                self._save(index, replace(record.begun(AppliedShard()), denied_principals=None))
                self._policies.delete(record.name)
            return True
        return False

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
    def _collecting(self, index: int, *, stops: bool = True) -> Iterator[None]:
        """Record why a shard could not be written, instead of raising it; `stops` is whether the run leaves the shard then."""
        try:
            yield
        except AccountError as error:
            if stops:
                self.failed.add(index)
            self._record_error(index, error)

    def _record_error(self, index: int, error: AccountError) -> None:
        logger.error("shard not written", policy_name=self.records[index].name, reason=error.reason, error=str(error))
        if isinstance(error, RetryableError):
            self.must_retry = True
            if error.reason is Reason.SERVICE_ERROR:
                self._lease.keep()
        else:
            self._save(index, replace(self.records[index], error=Problem(error.reason, str(error))))

    def _save(self, index: int, record: ShardRecord) -> None:
        self._lease.hold()
        self._table.write_shard(record)
        self.records[index] = record


def _frozen(version: AppliedShard) -> AppliedShard:
    return replace(version, content=replace(version.content, frozen=True))
