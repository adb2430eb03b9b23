"""One batch of the accounts queue: reconcile each account, write its row, and request a run of publish if access changed."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.access_marks import measure_access
from chalicelib.accounts import (
    Access,
    Account,
    Change,
    LedgerRow,
    Outcome,
    format_time,
    parse_time,
    why_unreachable,
    with_outcome,
)
from chalicelib.arns import AccountId
from chalicelib.chunks import chunked
from chalicelib.errors import MessageError, Reason
from chalicelib.member_role import fingerprint
from chalicelib.messages import Message, Trigger, read_message
from chalicelib.reconciler import Reconciler, Verdict, unfinished
from chalicelib.rollout import awaits_wave
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Names, Records
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.queues import AccountsQueue, NoPublishQueue, PublishQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable

_READ = 100  # accounts whose rows are read at once
_FIRST_DELAY_SECONDS = 30
_FIRST_PENDING_SECONDS = 5  # a run of publish takes seconds
_MAX_DELAY_SECONDS = 900
_LISTING_VALID = timedelta(minutes=15)  # in which a listed account replaces DescribeAccount
_MAX_CLOCK_SKEW = timedelta(minutes=1)  # between two functions
_RESERVE_SECONDS = 60.0  # of the function's time, kept for writing rows

_NEVER = datetime.max.replace(tzinfo=UTC)

_COUNTED = {
    Outcome.ENROLLED: Metric.ACCOUNTS_ENROLLED,
    Outcome.SKIPPED: Metric.ACCOUNTS_SKIPPED,
    Outcome.FAILED: Metric.ACCOUNTS_FAILED,
    Outcome.RETIRED: Metric.ACCOUNTS_RETIRED,
}
_CHANGED = {
    Change.CREATED: Metric.ROLES_CREATED,
    Change.UPDATED: Metric.ROLES_UPDATED,
    Change.DELETED: Metric.ROLES_DELETED,
}


@dataclass(slots=True)
class _Job:
    """One account of a batch, with every record about it."""

    message: Message
    records: list[dict[str, Any]]
    row: LedgerRow | None = None
    verdict: Verdict | None = None
    written: LedgerRow | None = None
    conflict: bool = False
    seconds: float = 0.0

    @property
    def requested_at(self) -> datetime | None:
        """When the latest record was sent."""
        sent = [record.get("attributes", {}).get("SentTimestamp") for record in self.records]
        latest = max((int(milliseconds) for milliseconds in sent if milliseconds), default=None)
        return datetime.fromtimestamp(latest / 1000, UTC) if latest is not None else None

    @property
    def is_repeated(self) -> bool:
        """Whether a record was received before: that pass may have been interrupted, and its row not written."""
        return any(int(each.get("attributes", {}).get("ApproximateReceiveCount", "1")) > 1 for each in self.records)

    @property
    def is_finished(self) -> bool:
        return self.verdict is not None and not self.verdict.retry and not self.conflict


class Enrollment:
    """Handles a batch; the failure of one account doesn't stop the others."""

    def __init__(
        self,
        *,
        settings: Settings,
        reconciler: Reconciler,
        ledger: "Ledger",
        table: "SourcePolicyTable",
        accounts: "AccountsQueue",
        publish: "PublishQueue | NoPublishQueue",
        clock: Callable[[], float],
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take a clock in seconds since the epoch, and what opens a pool of so many threads."""
        self._settings = settings
        self._reconciler = reconciler
        self._ledger = ledger
        self._table = table
        self._accounts = accounts
        self._publish = publish
        self._clock = clock
        self._pool = pool

    def __call__(self, records: list[dict[str, Any]], *, deadline: float) -> dict[str, Any]:
        """Return the messages that are not finished; each of them has its delay set."""
        jobs = _jobs(records)
        finished: set[int] = set()
        try:
            self._handle(jobs, deadline)
            finished = {id(record) for job in jobs if job.is_finished for record in job.records}
        except Exception:  # noqa: BLE001 - after any error, the messages return
            # The delays below are shorter than the queue's visibility timeout.
            logger.exception("batch failed")
        reasons = {id(record): job.verdict.reason for job in jobs if job.verdict for record in job.records}
        failed = [record for record in records if id(record) not in finished]
        for record in failed:
            first = _FIRST_PENDING_SECONDS if reasons.get(id(record)) in _PENDING else _FIRST_DELAY_SECONDS
            self._accounts.delay(record, partial(_seconds_after, first))
        metrics.add_metric(Metric.MESSAGES_RETRIED, MetricUnit.Count, len(failed))
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}

    def _handle(self, jobs: list[_Job], deadline: float) -> None:
        account_ids = [job.message.account_id for job in jobs]
        with self._pool(self._settings.threads) as pool:
            reads = pool.map(self._ledger.read, chunked(account_ids, _READ))
            rows = {account_id: row for read in reads for account_id, row in read.items()}
            # After the rows: records that were read later can't be older than the rows.
            records = self._records()
            for job in jobs:
                job.row = rows.get(job.message.account_id)
            list(pool.map(lambda job: self._enroll(job, records, deadline), jobs))
        # After the rows are written: a run that begins now reads them.
        if any(_needs_publish(job, records) for job in jobs):
            self._publish.send()
        # Metrics are not thread-safe.
        for job, verdict in [(job, job.verdict) for job in jobs if job.verdict is not None]:
            _report(job, verdict)

    def _records(self) -> Records:
        """Read the records; in scope none, record the names first: before any role is created under them."""
        records = self._table.load()
        is_first = records.status is None and not (records.by_index or records.control.uninstalling)
        if self._settings.keeps_source_policy or not is_first:
            return records
        self._table.pin_names(Names.of(self._settings))
        return self._table.load()

    def _enroll(self, job: _Job, records: Records, deadline: float) -> None:
        self._reconcile(job, records, deadline)
        self._write(job, records)

    def _reconcile(self, job: _Job, records: Records, deadline: float) -> None:
        started = self._clock()
        account_id, row = job.message.account_id, job.row
        if started > deadline - _RESERVE_SECONDS:
            error = "the function ran out of time before this account"
            job.verdict = unfinished(account_id, row, Reason.OUT_OF_TIME, error)
            return
        access = row.access if row else None
        try:
            job.verdict = self._reconciler(
                account_id,
                row,
                listed=self._valid_listing(job),
                blocking=records.blocking_error(account_id, access, self._settings, requested_at=job.requested_at),
                # The row was read before the records, so they show a run of publish that read an older row.
                keeping=records.keeping_error(account_id, access, self._settings),
                installed=records.installed(self._settings),
                uninstalling=records.control.uninstalling,
                first_seen_at=job.message.first_seen_at,
                repeated=job.is_repeated,
                awaits_wave=not job.message.rolls_out and awaits_wave(row, self._settings, self._fingerprint),
            )
            if job.verdict.reason is Reason.DEPARTED and self._may_be_too_new(job, records):
                error = "not ready yet: an event reported the account, and Organizations doesn't have it"
                job.verdict = unfinished(account_id, None, Reason.NOT_READY, error)
        except Exception as error:  # noqa: BLE001 - the failure of one account doesn't stop the others
            logger.exception("account failed unexpectedly", account_id=account_id)
            job.verdict = unfinished(account_id, row, Reason.UNEXPECTED, f"{type(error).__name__}: {error}")
        job.seconds = self._clock() - started

    def _may_be_too_new(self, job: _Job, records: Records) -> bool:
        """Whether an id that is no member's may become one: Organizations' reads are eventually consistent."""
        is_known = job.row is not None or job.message.account_id in records.maybe_named
        if is_known or job.message.trigger is not Trigger.EVENT or job.requested_at is None:
            return False
        age = datetime.fromtimestamp(self._clock(), UTC) - job.requested_at
        return age < timedelta(seconds=self._settings.ready_grace_seconds)

    def _valid_listing(self, job: _Job) -> Account | None:
        """Return the listed account unless the listing is older than 15 minutes, or than the row, or from the future."""
        listed_at = job.message.listed_at
        if listed_at is None:
            return None
        age = datetime.fromtimestamp(self._clock(), UTC) - listed_at
        if not -_MAX_CLOCK_SKEW <= age <= _LISTING_VALID:
            return None
        recorded_since = job.row is not None and job.row.updated_at > format_time(listed_at - _MAX_CLOCK_SKEW)
        return None if recorded_since else job.message.account

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._settings)

    def _write(self, job: _Job, records: Records) -> None:
        verdict = job.verdict
        if verdict is None or verdict.reason is Reason.OUT_OF_TIME:
            return
        # An event may be forged: no row is written for an id that is no member's.
        is_unknown = verdict.account is None and verdict.reason in {Reason.DEPARTED, Reason.NOT_READY}
        if is_unknown and job.row is None and verdict.account_id not in records.maybe_named:
            return  # not an account's id, and no shard grants it
        try:
            row = _row_after(job, verdict, self._fingerprint, datetime.fromtimestamp(self._clock(), UTC))
            is_marked = not self._settings.keeps_source_policy and records.stuck_error(self._settings) is None
            write = self._ledger.write
            if is_marked:
                row, write = _marked(row, verdict), self._ledger.write_marked
            # If another invocation wrote the row since it was read, this pass may be based on older facts.
            job.conflict = not write(row, over=job.row)
            job.written = None if job.conflict else row
        except Exception:  # noqa: BLE001 - the failure of one row doesn't stop the others
            logger.exception("row not written", account_id=verdict.account_id)
            job.conflict = True


# A retired account that waits for the source policy keeps the reason for which it is retired.
_PENDING = {Reason.SOURCE_POLICY_PENDING, Reason.RETIRED_BY_REQUEST, Reason.UNINSTALLED}


def _seconds_after(first: int, received: int) -> int:
    return min(first << min(received - 1, 10), _MAX_DELAY_SECONDS)  # doubled by each receive


def _jobs(records: list[dict[str, Any]]) -> list[_Job]:
    jobs: dict[AccountId, _Job] = {}
    for record in records:
        try:
            message = read_message(record["body"])
        except MessageError as error:
            logger.error("malformed message", message_id=record["messageId"], error=str(error))
            continue
        job = jobs.setdefault(message.account_id, _Job(message, []))
        seen = [each.first_seen_at for each in (job.message, message) if each.first_seen_at is not None]
        # An account without a listing is described, which is newest.
        newest = max(job.message, message, key=lambda each: each.listed_at or _NEVER)
        rolls_out = job.message.rolls_out or message.rolls_out
        job.message = newest._replace(first_seen_at=max(seen, default=None), rolls_out=rolls_out)
        job.records.append(record)
    return list(jobs.values())


def _needs_publish(job: _Job, records: Records) -> bool:
    """Whether a run of publish has something to do for an account: its row changed, or the records differ from it.

    Either alone is not enough: a run may have read the row before it changed, and an invocation may have been killed between
    writing the row and sending this message.
    """
    row = job.written
    if row is None:
        # Without #status, new accounts wait for a run.
        return job.verdict is not None and job.verdict.blocked and job.verdict.retry
    changed = row.access is not (job.row.access if job.row else None)
    waits = job.verdict is not None and job.verdict.reason is Reason.SOURCE_POLICY_PENDING
    # In scope organization the records don't differ from a closed account's row, but publish has to update its in_force_since.
    unmarked = (row.in_force_since is not None) is not records.in_force(row.account_id, row.access)
    return changed or waits or unmarked or records.differs(row.account_id, row.access)


def _row_after(job: _Job, verdict: Verdict, fingerprint: str, now: datetime) -> LedgerRow:
    before = job.row or LedgerRow(
        account_id=verdict.account_id, outcome=verdict.outcome, reason=verdict.reason, updated_at=""
    )
    account = verdict.account
    now_text = format_time(now)
    failed = verdict.outcome is Outcome.FAILED
    row = replace(
        with_outcome(before, verdict.outcome, verdict.reason, now),
        change=verdict.change,
        error=verdict.error,
        # A failure leaves the access as it was.
        access=verdict.access or before.access,
        role_arn=verdict.role_arn,
        trigger=job.message.trigger,
        access_role=verdict.access_role or before.access_role,
        # A blocked source policy is not the account's failure: the account is due as soon as that is over.
        attempts=before.attempts + 1 if failed and not verdict.blocked else 0,
        failed_at=(before.failed_at or now_text) if failed else None,
        updated_at=now_text,
    )
    if account is not None:
        joined_at = account.joined_at.isoformat() if account.joined_at else None
        ou_path = "/".join(account.ou_ids) if account.ou_ids is not None else None
        row = replace(row, name=account.name, joined_at=joined_at, ou_path=ou_path)
    was_enrolled = before.outcome is Outcome.ENROLLED
    if failed:
        # An account that failed already, under whichever settings, shows nothing about these.
        is_changed = was_enrolled and not verdict.keeps_settings and before.fingerprint != fingerprint
        attempted = fingerprint if is_changed or before.attempted_fingerprint else None
        return replace(row, attempted_fingerprint=attempted)
    row = replace(row, attempted_fingerprint=None)
    if verdict.outcome is not Outcome.ENROLLED:
        return replace(row, enrolled_at=None)
    enrolled_at = before.enrolled_at if was_enrolled and before.enrolled_at else now_text
    made_for = before.fingerprint if verdict.keeps_settings else fingerprint
    return replace(row, enrolled_at=enrolled_at, fingerprint=made_for)


def _marked(row: LedgerRow, verdict: Verdict) -> LedgerRow:
    """Return the row with `in_force_since` as it is in scope none: set with the role, and removed once it is deleted.

    A failure leaves it as it was. A role that is left in an account that can't be entered doesn't count.
    """
    if verdict.access is Access.GRANTED:
        return replace(row, in_force_since=row.in_force_since or row.updated_at)
    # By its account: the reason may be an earlier request to retire it.
    is_revoked = verdict.access is not None and (verdict.error is None or why_unreachable(verdict.account) is not None)
    return replace(row, in_force_since=None) if is_revoked else row


def _report(job: _Job, verdict: Verdict) -> None:
    """Log the account's outcome in one line, and count it."""
    outcome = Outcome.FAILED if job.conflict else verdict.outcome
    reason = Reason.CONFLICT if job.conflict else verdict.reason
    log = logger.warning if outcome is Outcome.FAILED else logger.info
    log(
        "account",
        account_id=verdict.account_id,
        outcome=outcome,
        change=verdict.change,
        reason=reason,
        error=verdict.error,
        access=job.written.access if job.written else None,
        actions=[step["action"] for step in verdict.actions],
        trigger=job.message.trigger,
        access_role=verdict.access_role,
        retry=not job.is_finished,
        duration_ms=round(job.seconds * 1000),
    )
    metrics.add_metric(_COUNTED[outcome], MetricUnit.Count, 1)
    if job.written and job.written.in_force_since and not (job.row and job.row.in_force_since):
        measure_access(job.written, parse_time(job.written.in_force_since))
    if verdict.change in _CHANGED:
        metrics.add_metric(_CHANGED[verdict.change], MetricUnit.Count, 1)
