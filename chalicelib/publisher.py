"""The source policy's only writer: makes IAM grant what the ledger grants.

A run depends on no message. It reads what was applied and the access of every row, and has the shards that differ written. One run at a
time holds the run lease, which it renews before each write.
"""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.access_marks import Marked, write_marks
from chalicelib.accounts import Access
from chalicelib.arns import AccountId, is_organization_id
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.publish_report import report_run
from chalicelib.run_lease import RunEndedError, RunLease
from chalicelib.settings import Scope, Settings
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy.assignment import Assignment, assign, interim
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import MAX_SHARDS, Names, Problem, ShardContent, ShardRecord, Status, shard_name
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.iam_policies import IamPolicies
    from chalicelib.aws.ledger import AccessRow, Ledger
    from chalicelib.aws.queues import PublishQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable

_DELAYS = (5, 15, 60)  # seconds until a message that was not finished comes back
_PASSES = 4  # A shard is written at most once a pass; an account that moves takes two.
_MAX_REPAIRS = 50  # that the status keeps


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Runs one publish at a time.

    `policies` makes the IAM adapter for given settings and what it calls before each write; `clock` is in seconds since the epoch.
    """

    settings: Settings
    table: "SourcePolicyTable"
    ledger: "Ledger"
    policies: Callable[[Settings, Callable[[], None]], "IamPolicies"]
    queue: "PublishQueue"
    organization_id: Callable[[], str]
    clock: Callable[[], float]
    pool: Callable[[int], Executor] = ThreadPoolExecutor

    def __call__(self, records: list[dict[str, Any]], *, owner: str, deadline: float) -> dict[str, Any]:
        """Publish once, and return the messages that are not finished: none, or all of the batch, with their delays set.

        The messages' contents don't matter, and a direct invocation has none.
        """
        finished = False
        try:
            finished = self._run(RunLease(self.table, owner, deadline=deadline, clock=self.clock))
        except RunEndedError as error:
            logger.warning("publish ended early and is retried", why=str(error))
        except Exception:  # noqa: BLE001 - whatever it is, the messages must come back soon
            logger.exception("publish failed and is retried")
        if finished:
            return {"batchItemFailures": []}
        for record in records:
            self.queue.delay(record, _seconds_after)
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}

    def _run(self, lease: RunLease) -> bool:
        if not lease.acquire():
            logger.info("another run is publishing; this one is retried")
            return False
        try:
            finished = _Run(self, lease).publish()
        except RunEndedError:
            lease.release()
            raise
        # After any other error a call may still take effect: the lease is kept until it expires.
        lease.release()
        return finished

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self.clock(), UTC)


def _seconds_after(received: int) -> int:
    return _DELAYS[min(received, len(_DELAYS)) - 1]


class _Run:
    """One run; it is one class of over 200 lines, since all its steps share the run's state."""

    def __init__(self, publisher: Publisher, lease: RunLease) -> None:
        self._publisher = publisher
        self._lease = lease
        self._started = publisher.now()
        self._records = publisher.table.load()
        self._control = self._records.control
        lease.freeze_requested_at = self._control.freeze_requested_at
        for name, why in self._records.unreadable.items():
            logger.error("item can't be read and is restored from IAM", policy_name=name, error=why)
        status = self._records.status or Status(names=Names.of(publisher.settings))
        # Names that enroll recorded in scope none are completed, once there is a source policy.
        names = status.names.completed(publisher.settings)
        # An edited one would be the condition under which every account is granted.
        is_known = is_organization_id(status.organization_id)
        organization_id = status.organization_id if is_known else publisher.organization_id()
        self._status = replace(status, names=names, organization_id=organization_id)
        # Under other settings, what exists is kept under the names that it has.
        self._settings = names.installed(publisher.settings)
        is_renamed = self._settings.source_policy_name != publisher.settings.source_policy_name
        if is_renamed and self._settings.source_account_id == self._settings.management_account_id:
            # There, the function's policy allows attaching and detaching only under the name in the settings.
            self._settings = replace(self._settings, attach_source_policy=False)
        self._policies = publisher.policies(self._settings, lease.hold)
        self._shards = ShardWriter(
            self._settings, self._status.organization_id, publisher.table, self._policies, lease, publisher.now
        )
        self._shards.records = dict(self._records.by_index)
        self._rows: dict[AccountId, AccessRow] = {}

    def publish(self) -> bool:
        """Make IAM grant what the ledger grants; return False if something has to be retried."""
        control, status = self._control, self._status
        if control.uninstalled and self._records.status is None and not self._shards.records:
            return True
        if status.names.source_account_id != self._publisher.settings.source_account_id:
            return self._finish(written=False)  # The function has no permission in the former source account.
        self._freeze()
        if self._records.are_lost or self._is_full_check:
            search = self._records.status is None or self._is_full_check
            self._shards.restore(min(status.shards, MAX_SHARDS), search=search)
            self._save(replace(status, shards=len(self._shards.records)))
            self._freeze()
        self._rows = {row.account_id: row for row in self._publisher.ledger.accesses()}
        if control.uninstalling:
            self._delete_shards()
        else:
            self._look()
            self._write_shards()
            self._check()
            self._freeze()  # reads again what was written, or repaired
        return self._finish(written=True)

    def _freeze(self) -> None:
        if self._control.frozen:
            self._shards.freeze(self._control.freeze_requested_at)

    def _look(self) -> None:
        """Read whether the source principals exist and how many shards they have room for."""
        names = [shard_name(self._settings.source_policy_name, index) for index in range(MAX_SHARDS)]
        room, problem = self._status.room, None
        try:
            room = self._policies.room(names)
        except RetryableError as error:
            # What revokes access doesn't wait for it.
            logger.warning("source principals could not be read", reason=error.reason, error=str(error))
            self._shards.must_retry = True
            return
        except TerminalError as error:
            problem = Problem(error.reason, str(error))
        self._status = replace(self._status, room=room, principals=problem, looked_at=self._publisher.now())

    def _delete_shards(self) -> None:
        """Delete every shard, the last one first; one that the operator has to detach grants nothing until then."""
        if not self._settings.attach_source_policy:
            written = [index for index, record in self._shards.records.items() if record.versions]
            empty = {index: ShardContent(frozen=self._frozen(index)) for index in written}
            for index in [each for each in written if self._shards.differs(each, empty[each], rewrite=False)]:
                self._shards.write(index, empty[index])
        for index in sorted(self._shards.records, reverse=True):
            if not self._shards.delete(index):
                return
            self._save(replace(self._status, shards=index))
            self._publisher.table.delete_shard(self._shards.records.pop(index).name)

    def _write_shards(self) -> None:
        """Write the shards that differ, until none does; an account that moves is granted in both shards for a while."""
        limit = capacity(self._settings)
        for _ in range(_PASSES):
            assignment = self._assigned(self._scope())
            written = False
            for index, content in enumerate(assignment.contents):
                desired = self._interim(index, replace(content, frozen=self._frozen(index)), assignment)
                # Accounts that move to a later shard leave no room yet: the next pass writes it.
                if index in self._shards.failed or len(desired.accounts) > limit:
                    continue
                if self._shards.differs(index, desired, rewrite=self._is_check):
                    self._shards.write(index, desired)
                    written = True
            if not written:
                break
        else:
            self._shards.must_retry = True
        if assignment.unassigned:
            count, first = len(assignment.unassigned), assignment.unassigned[0]
            logger.error("accounts find no room in the source policy", count=count, first=first)

    def _interim(self, index: int, desired: ShardContent, assignment: Assignment) -> ShardContent:
        recorded = [
            record.applied.content
            for each, record in self._shards.records.items()
            if each != index and record.applied is not None and record.applying is None
        ]

        def is_granted(account_id: AccountId) -> bool:
            return any(content.grants(account_id) for content in recorded)

        others = [content for each, content in enumerate(assignment.contents) if each != index]
        record = self._shards.records[index]
        # An unfinished write may not have reached IAM: what it revokes may still be granted.
        accounts = record.maybe_named
        if desired.scope is Scope.ACCOUNTS:
            # What finds no room elsewhere stays where it may be granted.
            desired = replace(desired, accounts=desired.accounts | accounts.intersection(assignment.unassigned))
        return interim(replace(record.content, accounts=accounts), desired, others, is_granted)

    def _frozen(self, index: int) -> bool:
        """Whether a shard should deny everything; nothing asked for means as last applied."""
        if self._control.frozen is not None:
            return self._control.frozen
        records = self._shards.records
        if records[index].versions:
            return records[index].content.frozen
        return any(record.is_frozen for record in records.values())

    @property
    def _is_check(self) -> bool:
        """Whether a resync asked for a check that has not been made."""
        return self._control.check_requested_at not in {None, self._status.checked_at}

    @property
    def _is_full_check(self) -> bool:
        """Whether a full resync asked for the check, which also looks for shards that no record counts."""
        return self._is_check and self._control.verify_requested_at not in {None, self._status.verified_at}

    def _scope(self) -> Scope:
        """Return the scope to write: only a run that a resync asked for changes it, and only if everything fits."""
        wanted, records = self._settings.source_policy_scope, self._shards.records
        current = records[0].content.scope if records and records[0].versions else wanted
        if wanted is not current and self._is_check and self._control.scope_recorded is wanted:
            assignment = self._assign(wanted, self._status.room)
            if not assignment.unassigned:
                return wanted
            message = f"SourcePolicyScope={wanted} has no room for {len(assignment.unassigned)} accounts, so {current} stays in force: set it back"
            self._status = replace(self._status, scope=Problem(Reason.QUOTA, message))
        elif wanted is current:
            self._status = replace(self._status, scope=None)
        return current

    def _assigned(self, scope: Scope) -> Assignment:
        """Assign accounts to shards, and open the shards that they need; where none can be opened, some stay unassigned."""
        max_shards = MAX_SHARDS
        while True:
            assignment = self._assign(scope, max_shards)
            opened = len(self._shards.records)
            if len(assignment.contents) <= opened:
                return assignment
            if self._why_not_opened(opened) is not None:
                max_shards = opened
            else:
                self._save(replace(self._status, shards=max(self._status.shards, opened + 1)))
                # If IAM holds a policy of its name, its record was lost: the write finds out.
                self._shards.records[opened] = ShardRecord(name=shard_name(self._settings.source_policy_name, opened))

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        records = self._shards.records
        contents = [records[index].content for index in sorted(records)]
        rows: dict[Access, set[AccountId]] = {access: set() for access in Access}
        unknown: set[AccountId] = set()
        for row in self._rows.values():
            (unknown if row.access is None else rows[row.access]).add(row.account_id)
        if scope is Scope.ACCOUNTS and contents and contents[0].scope is Scope.ORGANIZATION:
            # An account whose access is not known keeps it, if the organization's statement granted it.
            rows[Access.GRANTED] |= unknown - contents[0].excluded
        # A shard that was never written, or that a transient error kept from being written, is tried again before another one is
        # opened in its place.
        full = [
            index
            for index, record in records.items()
            if record.error is not None and (record.versions or index in self._shards.failed)
        ]
        return assign(contents, rows, self._settings, scope=scope, max_shards=max_shards, full=full)

    def _why_not_opened(self, index: int) -> Problem | None:
        """Return why a further shard can't be opened, or None if it can."""
        if self._status.principals is not None:
            return self._status.principals
        if index >= self._status.room:
            return Problem(
                Reason.QUOTA,
                f"the source policy is full: {index} shards of {capacity(self._settings)} accounts, and a source principal has room for "
                "no more: detach other policies from it, have the quota of attached policies raised, or set "
                "SourcePolicyScope=organization, which needs one",
            )
        try:
            self._shards.find(index)
        except AccountError as error:
            self._shards.must_retry |= isinstance(error, RetryableError)
            return Problem(error.reason, str(error))
        return None

    def _check(self) -> None:
        """Compare the shards with IAM if a resync asked for it."""
        if not self._is_check:
            return
        is_full = self._is_full_check
        complete = self._shards.check()
        repairs = tuple(self._shards.repairs[:_MAX_REPAIRS])
        self._status = replace(self._status, checked_at=self._control.check_requested_at, repairs=repairs)
        if is_full:
            # The heartbeat counts passes in which nothing was left that a person has to repair.
            metrics.add_metric(Metric.RESYNCS, MetricUnit.Count, int(complete))
            if complete:
                self._status = replace(self._status, verified_at=self._control.verify_requested_at)

    def _finish(self, *, written: bool) -> bool:
        """Write the status, mark the rows, and report; return False if something has to be retried."""
        control = self._control
        blocked = None if control.uninstalling else self._blocked()
        self._save(replace(self._status, blocked=blocked))
        marked = self._mark_rows() if written else Marked()
        if control.uninstalling and control.uninstalled and not self._shards.records:
            self._lease.hold()
            self._publisher.table.delete_status()  # and with it the names, so that others may be set
        seconds = (self._publisher.now() - self._started).total_seconds()
        report_run(self._shards, self._status, self._settings, marked, seconds)
        return not self._shards.must_retry

    def _mark_rows(self) -> Marked:
        records = replace(self._records, by_index=self._shards.records)
        now = self._publisher.now()
        with self._publisher.pool(self._settings.threads) as pool:
            return write_marks(self._rows.values(), records, self._publisher.ledger, self._lease, pool, now)

    def _blocked(self) -> Problem | None:
        """Return why a newcomer would find no shard, or None if it finds one."""
        changed = self._status.names.why_changed(self._publisher.settings)
        if changed is not None:
            return Problem(Reason.NAMES_CHANGED, changed)
        records, limit = self._shards.records, capacity(self._settings)
        if self._status.principals is None and records:
            if records[0].content.scope is Scope.ORGANIZATION:
                return records[0].error
            if any(len(record.content.accounts) < limit for record in records.values() if record.error is None):
                return None
        problem = self._why_not_opened(len(records))
        # After a transient error it is as it was: the run is retried.
        return self._status.blocked if self._shards.must_retry else problem

    def _save(self, status: Status) -> None:
        self._lease.hold()
        self._publisher.table.write_status(status)
        self._status = status
