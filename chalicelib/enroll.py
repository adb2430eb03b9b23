"""One batch off the queue: reconcile each account, then the source policy once, then the ledger."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.accounts import Account, Change, LedgerRow, Outcome, written_moment
from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, MessageError, Reason, RetryableError
from chalicelib.pen import Pen, Readiness, Settled
from chalicelib.reconcile import REMOVED, Reconcile, Verdict
from chalicelib.requests import Message, Trigger, read_message
from chalicelib.source_policy import Move, Moves
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.queue import Queue

_READ = 100  # accounts whose rows are read at once
_FIRST_DELAY = 30
_LONGEST_DELAY = 900
_BELIEVED = timedelta(minutes=15)  # how long what a listing said of an account spares a DescribeAccount
_CLOCKS_DIFFER = timedelta(minutes=1)  # at most, between the functions that list and that record
_RESERVE = 60.0  # seconds of a function's time that are kept for the source policy and the ledger
_NEW = timedelta(days=1)  # an account that an event names later has not waited since it joined: it was moved, or let in

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
    """One account of a batch, with every record that asks for it."""

    message: Message
    records: list[dict[str, Any]]
    row: LedgerRow | None = None
    verdict: Verdict | None = None
    placed: str | None = None
    let_in: bool = False
    seconds: float = 0.0
    finished: bool = False


class Enroll:
    """Handles a batch; one account's failure never stops another's."""

    def __init__(
        self,
        *,
        reconcile: Reconcile,
        pen: Pen,
        ledger: "Ledger",
        queue: "Queue",
        threads: int,
        clock: Callable[[], float],
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take a clock in seconds since the epoch, and what opens a batch's pool of so many threads."""
        self._reconcile = reconcile
        self._pen = pen
        self._ledger = ledger
        self._queue = queue
        self._threads = threads
        self._clock = clock
        self._pool = pool

    def __call__(self, records: list[dict[str, Any]], *, owner: str, deadline: float) -> dict[str, Any]:
        """Answer which messages are not finished; each of them has its delay set."""
        jobs = _jobs(records)
        try:
            self._settle(jobs, owner, deadline)
        except Exception:  # noqa: BLE001 - whatever it is, the messages must come back
            # An unset delay would keep the messages away for the queue's whole visibility timeout.
            logger.exception("batch failed")
        finished = {id(record) for job in jobs if job.finished for record in job.records}
        failed = [record for record in records if id(record) not in finished]
        for record in failed:
            self._hand_back(record)
        metrics.add_metric(Metric.MESSAGES_RETRIED, MetricUnit.Count, len(failed))
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}

    def _settle(self, jobs: list[_Job], owner: str, deadline: float) -> None:
        account_ids = [job.message.account_id for job in jobs]
        with self._pool(self._threads) as pool:
            some = (account_ids[start : start + _READ] for start in range(0, len(account_ids), _READ))
            rows = {account_id: row for read in pool.map(self._ledger.read, some) for account_id, row in read.items()}
            for job in jobs:
                job.row = rows.get(job.message.account_id)
            # Only now: what a row says of the source policy is never newer than the shards that are seen after it.
            readiness = self._pen.prepare(frozenset(account_ids))
            list(pool.map(lambda job: self._judge(job, readiness, deadline), jobs))
            judged = [(job, job.verdict) for job in jobs if job.verdict is not None]
            settled = self._source_policy([verdict for _, verdict in judged], readiness, owner, deadline)
            # Their roles are taken away now that the source policy names them no longer.
            removed = [(verdict, job.row) for job, verdict in judged if _is_removed(verdict)]
            list(pool.map(lambda each: self._reconcile.remove(*each), removed))
            recorded = list(pool.map(lambda each: self._record(each[0], each[1], settled), judged))
        # Metrics are not made for several threads at once.
        for (job, verdict), row in zip(judged, recorded, strict=True):
            if row is not None:
                _tell(job, verdict, row)

    def _judge(self, job: _Job, readiness: Readiness, deadline: float) -> None:
        started = self._clock()
        account_id = job.message.account_id
        if started > deadline - _RESERVE:
            job.verdict = _unfinished(job, Reason.OUT_OF_TIME, "the function's time ran out before this account's turn")
            return
        job.placed, job.let_in = readiness.placed.get(account_id), account_id in readiness.let_in
        refusal = None if job.placed else readiness.refusal
        try:
            job.verdict = self._reconcile(
                account_id, job.row, listed=self._believed(job), refusal=refusal, stopped=readiness.stopped
            )
            if refusal is not None and job.verdict.move in readiness.held_back:
                job.verdict.fail(refusal)
        except Exception as error:  # noqa: BLE001 - one account's failure never stops another's
            logger.exception("account failed unexpectedly", account_id=account_id)
            job.verdict = _unfinished(job, Reason.UNEXPECTED, f"{type(error).__name__}: {error}")
        job.seconds = self._clock() - started

    def _believed(self, job: _Job) -> Account | None:
        """Take a listing's word for an account, unless it is old or the account was recorded since: that was by a later truth.

        One that is still to come nobody can have made.
        """
        listed_at = job.message.listed_at
        if listed_at is None:
            return None
        age = datetime.fromtimestamp(self._clock(), UTC) - listed_at
        if not -_CLOCKS_DIFFER <= age <= _BELIEVED:
            return None
        recorded_since = job.row is not None and job.row.updated_at > written_moment(listed_at - _CLOCKS_DIFFER)
        return None if recorded_since else job.message.account

    def _source_policy(self, verdicts: list[Verdict], readiness: Readiness, owner: str, deadline: float) -> Settled:
        moves = {move: frozenset(verdict.account_id for verdict in verdicts if verdict.move is move) for move in Move}
        if not (moves[Move.JOIN] or moves[Move.LEAVE] or moves[Move.EXCLUDE]):
            return Settled({}, {})
        try:
            asked = Moves(join=moves[Move.JOIN], leave=moves[Move.LEAVE], exclude=moves[Move.EXCLUDE])
            settled = self._pen.settle(asked, owner=owner, deadline=deadline, seen=readiness.seen)
        except AccountError as error:
            settled = Settled({}, {"": error})
        for verdict in verdicts:
            unwritten = _what_failed(verdict, settled)
            if unwritten is not None:
                verdict.fail(unwritten)
        return settled

    def _record(self, job: _Job, verdict: Verdict, settled: Settled) -> LedgerRow | None:
        try:
            return self._write(job, verdict, settled)
        except Exception:  # noqa: BLE001 - nor does one row's
            logger.exception("account could not be recorded", account_id=verdict.account_id)
            return None

    def _write(self, job: _Job, verdict: Verdict, settled: Settled) -> LedgerRow:
        now = datetime.fromtimestamp(self._clock(), UTC)
        row = _row_after(job, verdict, settled, now)
        untried = verdict.reason is Reason.OUT_OF_TIME
        never_ours = verdict.reason is Reason.DEPARTED and job.row is None
        if not (untried or never_ours or self._ledger.write(row, over=job.row)):
            # Another worker judged this account meanwhile, maybe by an older truth: look again.
            verdict.fail(RetryableError(Reason.OVERTAKEN, "another worker recorded this account meanwhile"))
        job.finished = not verdict.retryable
        return row

    def _hand_back(self, record: dict[str, Any]) -> None:
        received = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        seconds = min(_FIRST_DELAY * 2 ** min(received - 1, 10), _LONGEST_DELAY)
        try:
            self._queue.delay(record["receiptHandle"], seconds)
        except Exception:  # noqa: BLE001 - nor one message's
            logger.exception(
                "a message's delay could not be set: it comes back when the queue's own visibility timeout ends"
            )


def _jobs(records: list[dict[str, Any]]) -> list[_Job]:
    jobs: dict[AccountId, _Job] = {}
    for record in records:
        try:
            message = read_message(record["body"])
        except MessageError as error:
            logger.error("message refused", message_id=record["messageId"], error=str(error))
            continue
        job = jobs.setdefault(message.account_id, _Job(message, []))
        job.message = max(job.message, message, key=_listed_last)
        job.records.append(record)
    return list(jobs.values())


def _listed_last(message: Message) -> datetime:
    """Sort messages by what they say: what has to be looked up is the newest, as none is told a newer truth than by looking."""
    return message.listed_at or _NEVER


def _unfinished(job: _Job, reason: Reason, message: str) -> Verdict:
    verdict = Verdict(account_id=job.message.account_id, role_arn=job.row.role_arn if job.row else None)
    verdict.fail(RetryableError(reason, message))
    return verdict


def _is_removed(verdict: Verdict) -> bool:
    # Whether or not a row tells of a role: one who was stopped may have made it and not said so.
    return verdict.outcome is not Outcome.FAILED and verdict.reason in REMOVED


def _what_failed(verdict: Verdict, settled: Settled) -> AccountError | None:
    """Tell what kept the shard that concerns an account from being written; one that left may have been in any."""
    if verdict.move is Move.EXCLUDE and settled.refused is not None:
        return settled.refused
    if verdict.move is Move.STAY or not settled.errors:
        return None
    shard = settled.shards.get(verdict.account_id)
    if verdict.move is Move.JOIN and shard is not None:
        return settled.errors.get(shard)
    return next(iter(settled.errors.values()))


def _row_after(job: _Job, verdict: Verdict, settled: Settled, now: datetime) -> LedgerRow:
    before = job.row or LedgerRow(account_id=verdict.account_id, outcome=verdict.outcome, updated_at="")
    account = verdict.account
    moment = written_moment(now)
    failed = verdict.outcome is Outcome.FAILED
    row = replace(
        before,
        outcome=verdict.outcome,
        change=verdict.change,
        reason=verdict.reason,
        error=verdict.error,
        role_arn=verdict.role_arn,
        fingerprint=verdict.fingerprint or before.fingerprint,
        trigger=job.message.trigger,
        access_role=verdict.access_role or before.access_role,
        attempts=before.attempts + 1 if failed else 0,
        failed_at=(before.failed_at or moment) if failed else None,
        updated_at=moment,
    )
    if account is not None:
        row = replace(row, name=account.name, joined_at=account.joined_at.isoformat() if account.joined_at else None)
    if verdict.outcome is Outcome.ENROLLED:
        since = before.enrolled_at if before.outcome is Outcome.ENROLLED and before.enrolled_at else moment
        return replace(row, policy_name=settled.shards.get(verdict.account_id), enrolled_at=since)
    if failed and before.reason is Reason.RETIRED_BY_REQUEST:
        # What an operator asked for outlives a failure to look.
        return replace(row, outcome=before.outcome, reason=before.reason)
    if failed and verdict.eligible and not job.let_in:
        # Whatever an earlier row says: somebody else took it out, by an older truth.
        return replace(row, policy_name=None)
    if failed:
        # It takes no access away: what was enrolled keeps its place and its date, recorded or (by one who was stopped) not yet;
        # and who is on the way out stays known until that is written.
        return replace(row, policy_name=job.placed or row.policy_name)
    return replace(row, policy_name=None, enrolled_at=None)


def _tell(job: _Job, verdict: Verdict, row: LedgerRow) -> None:
    """Write the account's one canonical log line, and count it."""
    log = logger.warning if verdict.outcome is Outcome.FAILED else logger.info
    log(
        "account",
        account_id=verdict.account_id,
        outcome=verdict.outcome,
        change=verdict.change,
        reason=verdict.reason,
        error=verdict.error,
        actions=[step["action"] for step in verdict.actions],
        trigger=job.message.trigger,
        access_role=verdict.access_role,
        policy_name=row.policy_name,
        retry=verdict.retryable,
        duration_ms=round(job.seconds * 1000),
    )
    metrics.add_metric(_COUNTED[verdict.outcome], MetricUnit.Count, 1)
    if verdict.reason is Reason.SOURCE_POLICY_PENDING:
        metrics.add_metric(Metric.SOURCE_POLICY_PENDING, MetricUnit.Seconds, _waited(job, row))
    if verdict.change in _CHANGED:
        metrics.add_metric(_CHANGED[verdict.change], MetricUnit.Count, 1)
    joined_at = verdict.account.joined_at if verdict.account else None
    if (
        joined_at
        and verdict.outcome is Outcome.ENROLLED
        and row.enrolled_at == row.updated_at
        and row.trigger == Trigger.EVENT
    ):
        waited = datetime.fromisoformat(row.updated_at) - joined_at
        if waited < _NEW:
            metrics.add_metric(Metric.ENROLLMENT_SECONDS, MetricUnit.Seconds, waited.total_seconds())


def _waited(job: _Job, row: LedgerRow) -> float:
    """Tell for how many seconds an account has been on the queue."""
    now = datetime.fromisoformat(row.updated_at).timestamp()
    sent = [record.get("attributes", {}).get("SentTimestamp") for record in job.records]
    return max((now - int(milliseconds) / 1000 for milliseconds in sent if milliseconds), default=0.0)
