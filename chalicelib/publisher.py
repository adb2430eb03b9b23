"""The source policy's only writer: makes IAM grant what the ledger says.

A run depends on no message. It reads what was applied and the access of every row, and has the shards that differ written. One run at a
time holds the run lease, which it renews before each write.
"""

from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.accounts import Access, moment, written_moment
from chalicelib.arns import AccountId
from chalicelib.errors import Reason, RolecallError, TerminalError
from chalicelib.requests import Trigger
from chalicelib.settings import Scope, Settings
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy import (
    MAX_SHARDS,
    Assignment,
    Names,
    Problem,
    Records,
    ShardContent,
    ShardRecord,
    Status,
    assign,
    capacity,
    exclusion_capacity,
    interim,
    shard_name,
)
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.iam_policies import IamPolicies
    from chalicelib.aws.ledger import AccessRow, Ledger
    from chalicelib.aws.queues import PublishQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable

LEASE_SECONDS = 20.0
"""How long a run keeps others out after it was killed; it outlasts one call to IAM (`bootstrap`) that began before a renewal."""

_RENEW_SECONDS = 4.0  # A write begins at most this long after a renewal.
_RESERVE_SECONDS = 30.0  # No write begins in the last seconds before the function is stopped.
_DELAYS = (5, 15, 60)  # seconds until a message that was not finished comes back
_PASSES = 4  # A shard is written at most once a pass; an account that moves takes two.
_NEW = timedelta(days=1)  # An account that an event names later was moved or readmitted.
_MAX_REPAIRS = 50  # that the status keeps
_CHUNK = 200  # rows that are marked between two looks at the lease


class RunEndedError(RolecallError):
    """A run must not write any more; its messages return to the queue."""


class RunLease:
    """The lease of one run, renewed while it works."""

    def __init__(self, table: "SourcePolicyTable", owner: str, *, deadline: float, clock: Callable[[], float]) -> None:
        """Take the function's deadline, and a clock in seconds since the epoch."""
        self._table = table
        self._owner = owner
        self._last_write = deadline - _RESERVE_SECONDS
        self._clock = clock
        self._renewed_at = 0.0
        self.frozen: bool | None = None

    def acquire(self) -> bool:
        """Take the lease, or return False if another run holds it."""
        now = self._renewed_at = self._clock()
        return self._table.acquire_run(self._owner, now=now, until=now + LEASE_SECONDS)

    def release(self) -> None:
        """Give the lease back."""
        self._table.release_run(self._owner)

    def hold(self) -> None:
        """Return if a write may begin now; raise RunEndedError if the time, or the lease, is over.

        A run also ends early when a freeze was asked for, or lifted, since it began, so that the freeze doesn't wait for it.
        """
        now = self._clock()
        if now >= self._last_write:
            raise RunEndedError("the function's time is nearly over")
        if now - self._renewed_at < _RENEW_SECONDS:
            return
        if not self._table.renew_run(self._owner, until=now + LEASE_SECONDS):
            raise RunEndedError("another run took the lease")
        self._renewed_at = now
        if self._table.control().frozen != self.frozen:
            raise RunEndedError("a freeze was asked for, or lifted")


class Publisher:
    """Runs one publish at a time."""

    def __init__(
        self,
        settings: Settings,
        table: "SourcePolicyTable",
        ledger: "Ledger",
        policies: Callable[[Settings], "IamPolicies"],
        queue: "PublishQueue",
        organization_id: Callable[[], str],
        clock: Callable[[], float],
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take what makes the IAM adapter for given settings, and a clock in seconds since the epoch."""
        self._settings = settings
        self._table = table
        self._ledger = ledger
        self._policies = policies
        self._queue = queue
        self._organization_id = organization_id
        self._clock = clock
        self._pool = pool

    def __call__(self, records: list[dict[str, Any]], *, owner: str, deadline: float) -> dict[str, Any]:
        """Publish once, and return the messages that are not finished: none, or all of the batch, with their delays set.

        The messages' contents don't matter, and a direct invocation has none.
        """
        finished = False
        try:
            finished = self._run(owner, deadline)
        except Exception:  # noqa: BLE001 - whatever it is, the messages must come back soon
            logger.exception("publish failed and is retried")
        if finished:
            return {"batchItemFailures": []}
        for record in records:
            self._delay(record)
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}

    def _run(self, owner: str, deadline: float) -> bool:
        lease = RunLease(self._table, owner, deadline=deadline, clock=self._clock)
        if not lease.acquire():
            logger.info("another run is publishing; this one is retried")
            return False
        try:
            run = _Run(
                self._settings,
                self._table,
                self._ledger,
                self._policies,
                self._organization_id,
                lease,
                self._now,
                self._pool,
            )
            return run.publish()
        except RunEndedError as error:
            logger.warning("publish ended early and is retried", why=str(error))
            return False
        finally:
            lease.release()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _delay(self, record: dict[str, Any]) -> None:
        received = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        try:
            self._queue.delay(record["receiptHandle"], _DELAYS[min(received, len(_DELAYS)) - 1])
        except Exception:  # noqa: BLE001 - one message's delay never stops another's
            logger.exception("a message's delay could not be set: it comes back after the queue's visibility timeout")


class _Run:
    """One run: the state that its steps share."""

    def __init__(
        self,
        settings: Settings,
        table: "SourcePolicyTable",
        ledger: "Ledger",
        policies: Callable[[Settings], "IamPolicies"],
        organization_id: Callable[[], str],
        lease: RunLease,
        now: Callable[[], datetime],
        pool: Callable[[int], Executor],
    ) -> None:
        self._asked = settings
        self._table = table
        self._ledger = ledger
        self._pool = pool
        self._lease = lease
        self._now = now
        self._started = now()
        self._records = table.load()
        self._control = self._records.control
        lease.frozen = self._control.frozen
        for name, why in self._records.unreadable.items():
            logger.error("item can't be read and is restored from IAM", policy_name=name, error=why)
        known = self._records.status
        self._status = known or Status(names=Names.of(settings), organization_id=organization_id())
        names = self._status.names
        # Under other settings, what exists is kept under the names that it has.
        self._settings = replace(
            settings, member_role_name=names.member_role_name, source_policy_name=names.source_policy_name
        )
        self._policies = policies(self._settings)
        self._shards = ShardWriter(self._settings, self._status.organization_id, table, self._policies, lease.hold, now)
        self._shards.records = dict(self._records.by_index)
        self._rows: dict[AccountId, AccessRow] = {}
        self._looked = False

    def publish(self) -> bool:
        """Make IAM grant what the ledger says; return False if something has to be retried."""
        control = self._control
        if control.uninstalled and not self._shards.records and self._records.status is None:
            return True
        if self._status.names.source_account_id == self._asked.source_account_id:
            self._restore()
            if control.frozen:
                self._shards.freeze()
        self._rows = {row.account_id: row for row in self._ledger.accesses()}
        if control.uninstalling:
            self._delete_shards()
        elif self._status.names.source_account_id == self._asked.source_account_id:
            self._write_shards()
            self._check()
        marked = self._mark_rows()
        self._finish(marked)
        return not self._shards.must_retry

    def _restore(self) -> None:
        """Restore records that were lost, and record the names in the first run."""
        if not self._records.are_lost:
            return
        self._shards.restore(self._status.shards)
        self._save(replace(self._status, shards=len(self._shards.records)))
        for index, record in self._shards.records.items():
            if index not in self._records.by_index:
                self._lease.hold()
                self._table.write_shard(record)
                logger.error("record was lost and is restored from IAM", policy_name=record.name)

    def _delete_shards(self) -> None:
        """Delete every shard, the last one first; once no role is left either, the status and with it the names."""
        for index in sorted(self._shards.records, reverse=True):
            if not self._shards.delete(index):
                return
            self._save(replace(self._status, shards=index))
            self._table.delete_shard(self._shards.records.pop(index).name)

    def _write_shards(self) -> None:
        """Write the shards that differ; what grants access comes before what revokes it elsewhere."""
        for _ in range(_PASSES):
            scope = self._scope()
            assignment = self._assigned(scope)
            desired = [
                replace(content, frozen=self._frozen(index)) for index, content in enumerate(assignment.contents)
            ]
            pending = [index for index in self._in_order(desired) if index not in self._shards.failed]
            written = [index for index in pending if self._write(index, desired)]
            if not written:
                break
        self._note_unassigned(scope, assignment)

    def _in_order(self, desired: list[ShardContent]) -> list[int]:
        current = [self._shards.records[index].content for index in range(len(desired))]

        def widens(index: int) -> bool:
            return desired[index].scope is Scope.ORGANIZATION or bool(desired[index].accounts - current[index].accounts)

        def narrows_everything(index: int) -> bool:
            return current[index].scope is not desired[index].scope is Scope.ACCOUNTS

        return sorted(range(len(desired)), key=lambda index: (narrows_everything(index), not widens(index), index))

    def _write(self, index: int, desired: list[ShardContent]) -> bool:
        """Write a shard if it differs from what it may become now; return whether it was written."""
        others = [content for each, content in enumerate(desired) if each != index]
        recorded = [
            record.applied.content
            for each, record in self._shards.records.items()
            if each != index and record.applied is not None and record.applying is None
        ]
        content = interim(
            self._shards.records[index].content,
            desired[index],
            others,
            lambda account_id: any(each.grants(account_id) for each in recorded),
        )
        if not self._shards.differs(index, content, rewrite=self._is_check):
            return False
        self._shards.write(index, content)
        return index not in self._shards.failed

    def _frozen(self, index: int) -> bool:
        if self._control.frozen is not None:
            return self._control.frozen
        record = self._shards.records[index]
        return (
            record.content.frozen if record.versions else any(each.is_frozen for each in self._shards.records.values())
        )

    @property
    def _is_check(self) -> bool:
        """Whether a resync asked for something since the last run that it asked for."""
        asked, done = self._control.check_requested_at, self._status.checked_at
        return asked is not None and (done is None or asked > done)

    def _scope(self) -> Scope:
        """Return the scope to write: only a run that a resync asked for changes it, and only if everything fits."""
        wanted = self._settings.source_policy_scope
        if not any(record.versions for record in self._shards.records.values()):
            return wanted
        current = self._shards.records[0].content.scope
        if wanted is current:
            self._status = replace(self._status, scope=None)
            return current
        if not self._is_check or self._control.scope_recorded is not wanted:
            return current
        self._look()
        assignment = self._assign(wanted, self._room())
        if assignment.unassigned:
            message = f"SourcePolicyScope={wanted} has no room for {len(assignment.unassigned)} accounts, so {current} stays in force: set it back"
            self._status = replace(self._status, scope=Problem(Reason.QUOTA, message))
            return current
        self._status = replace(self._status, scope=None)
        return wanted

    def _assigned(self, scope: Scope) -> Assignment:
        """Assign accounts to shards, opening the shards that they need; where none can be opened, some stay unassigned."""
        max_shards = MAX_SHARDS
        while True:
            assignment = self._assign(scope, max_shards)
            opened = len(self._shards.records)
            if len(assignment.contents) <= opened:
                return assignment
            if self._why_not_opened(opened) is not None:
                max_shards = opened
                continue
            self._save(replace(self._status, shards=max(self._status.shards, opened + 1)))
            if opened not in self._shards.records:
                self._shards.records[opened] = ShardRecord(name=shard_name(self._settings, opened))

    def _assign(self, scope: Scope, max_shards: int) -> Assignment:
        records = self._shards.records
        contents = [records[index].content for index in sorted(records)]
        rows: dict[Access, set[AccountId]] = {access: set() for access in Access}
        unknown: set[AccountId] = set()
        for account_id, row in self._rows.items():
            rows.get(row.access, unknown).add(account_id) if row.access else unknown.add(account_id)
        if scope is Scope.ACCOUNTS and contents and contents[0].scope is Scope.ORGANIZATION:
            # Whoever's access is not known keeps it: the organization's statement granted it.
            rows[Access.GRANTED] |= unknown
        full = [index for index, record in records.items() if record.error is not None or index in self._shards.failed]
        return assign(contents, rows, self._settings, scope=scope, max_shards=max_shards, full=full)

    def _why_not_opened(self, index: int) -> Problem | None:
        """Return why a further shard can't be opened, or None if it can; one that IAM holds already becomes a record."""
        self._look()
        if self._status.principals is not None:
            return self._status.principals
        if index >= self._room():
            return Problem(Reason.QUOTA, self._no_room(index))
        try:
            found = self._shards.find(index)
        except TerminalError as error:
            return Problem(error.reason, str(error))
        if found is not None:
            self._shards.records[index] = found
        return None

    def _no_room(self, shards: int) -> str:
        per_shard = capacity(self._settings)
        return (
            f"the source policy is full: {shards} shards of {per_shard} accounts, and a source principal has room for no more: detach other "
            "policies from it, have the quota of attached policies raised, or set SourcePolicyScope=organization, which needs one"
        )

    def _room(self) -> int:
        return min(self._status.room, MAX_SHARDS)

    def _look(self) -> None:
        """Read, once a run, whether the source principals exist and how many shards they have room for."""
        if self._looked:
            return
        self._looked = True
        names = [shard_name(self._settings, index) for index in range(MAX_SHARDS)]
        room, principals = self._status.room, None
        try:
            room = self._policies.room(names)
        except TerminalError as error:
            principals = Problem(error.reason, str(error))
        self._status = replace(self._status, room=room, principals=principals, looked_at=self._now())

    def _note_unassigned(self, scope: Scope, assignment: Assignment) -> None:
        if not assignment.unassigned:
            return
        if scope is Scope.ORGANIZATION and assignment.contents:
            count = len(assignment.unassigned)
            message = f"{count} accounts are to be excluded and find no room: exclude fewer, or set SourcePolicyScope=accounts"
            self._status = replace(self._status, scope=Problem(Reason.QUOTA, message))
        logger.error(
            "accounts found no room in the source policy",
            count=len(assignment.unassigned),
            first=assignment.unassigned[0],
        )

    def _check(self) -> None:
        """Compare the shards with IAM if a resync asked for it."""
        if not self._is_check:
            return
        self._look()
        control = self._control
        verify = control.verify_requested_at
        is_full = verify is not None and (self._status.verified_at is None or verify > self._status.verified_at)
        complete = self._shards.check(verify)
        if is_full:
            self._shards.delete_extra()
            if complete:
                self._status = replace(self._status, verified_at=verify)
            metrics.add_metric(Metric.RESYNCS, MetricUnit.Count, int(complete))
        self._status = replace(
            self._status, checked_at=control.check_requested_at, repairs=tuple(self._shards.repairs[:_MAX_REPAIRS])
        )

    def _mark_rows(self) -> tuple[int, int]:
        """Record in each row whether the source policy grants the account now; return how many came in force, and how many are pending.

        An account that is to be revoked counts as granted while an unfinished write may not have reached IAM.
        """
        records = Records(control=self._control, status=self._status, by_index=self._shards.records)
        changed: list[tuple[AccessRow, bool]] = []
        pending: list[AccessRow] = []
        for row in self._rows.values():
            if row.access in {Access.EXCLUDED, Access.NONE}:
                in_force = records.differs(row.account_id, row.access)  # until it surely doesn't any more
            else:
                in_force = records.grants(row.account_id, row.access)
            if in_force is not (row.in_force_since is not None):
                changed.append((row, in_force))
            if row.access is Access.GRANTED and not in_force:
                pending.append(row)
        since = written_moment(self._now())
        with self._pool(self._asked.threads) as pool:
            for some in (changed[start : start + _CHUNK] for start in range(0, len(changed), _CHUNK)):
                self._lease.hold()
                list(
                    pool.map(
                        lambda each: self._ledger.set_in_force(each[0].account_id, since if each[1] else None), some
                    )
                )
        granted = [row for row, in_force in changed if in_force and row.access is Access.GRANTED]
        self._measure(granted, pending)
        return len(granted), len(pending)

    def _measure(self, granted: Collection["AccessRow"], pending: Collection["AccessRow"]) -> None:
        now = self._now()
        for row in granted:
            waited = now - moment(row.joined_at)
            if row.trigger == Trigger.EVENT and row.joined_at and waited < _NEW:
                metrics.add_metric(Metric.ACCESS_SECONDS, MetricUnit.Seconds, waited.total_seconds())
        oldest = min((moment(row.enrolled_at) for row in pending if row.enrolled_at), default=now)
        metrics.add_metric(Metric.ACCESS_PENDING_SECONDS, MetricUnit.Seconds, (now - oldest).total_seconds())
        metrics.add_metric(Metric.ACCESS_GRANTED, MetricUnit.Count, len(granted))

    def _finish(self, marked: tuple[int, int]) -> None:
        """Write the status, the metrics and the run's one log line."""
        shards, control = self._shards, self._control
        if control.uninstalling and control.uninstalled and not shards.records:
            self._lease.hold()
            self._table.delete_status()
        else:
            blocked = None if control.uninstalling else self._blocked()
            self._save(replace(self._status, blocked=blocked))
        blocked, records = self._status.blocked, shards.records.values()
        frozen = any(record.is_frozen for record in records)
        seconds = (self._now() - self._started).total_seconds()
        for name, unit, value in (
            (Metric.PUBLISH_RUNS, MetricUnit.Count, 1),
            (Metric.PUBLISH_SECONDS, MetricUnit.Seconds, seconds),
            (Metric.POLICY_VERSIONS_WRITTEN, MetricUnit.Count, shards.versions_written),
            (Metric.PUBLISHING_BLOCKED, MetricUnit.Count, int(blocked is not None)),
            (Metric.SOURCE_POLICY_FILL, MetricUnit.Percent, self._fill_percent()),
            (Metric.FROZEN, MetricUnit.Count, int(frozen)),
        ):
            metrics.add_metric(name, unit, value)
        log = logger.warning if blocked or shards.failed else logger.info
        log(
            "publish",
            shards=len(shards.records),
            versions_written=shards.versions_written,
            came_in_force=marked[0],
            pending=marked[1],
            failed=sorted(shards.failed),
            repairs=shards.repairs,
            frozen=frozen,
            blocked=blocked and {"reason": blocked.reason, "error": blocked.error},
            retry=shards.must_retry,
            duration_ms=round(seconds * 1000),
        )

    def _blocked(self) -> Problem | None:
        """Return why a newcomer would find no shard, or None if it finds one."""
        changed = self._status.names.why_changed(self._asked)
        if changed is not None:
            return Problem(Reason.NAMES_CHANGED, changed)
        if self._status.blocked or self._status.principals or self._status.looked_at is None:
            self._look()
        if self._status.principals is not None:
            return self._status.principals
        records, limit = self._shards.records, capacity(self._settings)
        for index, record in records.items():
            has_room = record.content.scope is Scope.ORGANIZATION or len(record.content.accounts) < limit
            if has_room and record.error is None and index not in self._shards.failed and record.versions:
                return None
        return self._why_not_opened(len(records)) or next((each.error for each in records.values() if each.error), None)

    def _fill_percent(self) -> float:
        records = self._shards.records
        if records and records[0].content.scope is Scope.ORGANIZATION:
            return 100 * len(records[0].content.excluded) / max(exclusion_capacity(self._settings), 1)
        taken = sum(len(record.content.accounts) for record in records.values())
        return 100 * taken / (capacity(self._settings) * max(self._room(), 1))

    def _save(self, status: Status) -> None:
        self._lease.hold()
        self._table.write_status(status)
        self._status = status
