"""The whole organization: backfill, rerun and resync are one sweep with different selections."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from chalicelib.accounts import (
    OUT_OF_REACH,
    RETRIED,
    Account,
    LedgerRow,
    Outcome,
    is_on_its_way,
    moment,
    written_moment,
)
from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, Reason, RequestError, RetryableError
from chalicelib.pen import Pen, Readiness
from chalicelib.reconcile import REMOVED, Reconcile, Verdict, why_ineligible
from chalicelib.requests import Message, Request, Selection, Trigger, write_request
from chalicelib.settings import Settings
from chalicelib.source_policy import Move, Moves, capacity, place_all_that_fit
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.organizations import Organization
    from chalicelib.aws.queue import Queue
    from chalicelib.aws.shards import Snapshot

_CHUNK = 100  # accounts whose ledger rows are read at once
_RESERVE = 30.0  # seconds of a function's time that are kept for its answer
_ANSWER = 4_000_000  # characters of an answer's accounts; Lambda answers 6 MB at most ("Lambda quotas")
_ANYBODY = AccountId("000000000000")  # stands for a newcomer; no account has this id
_FEW = 2  # accounts that may always be retired, however small the organization

_FIRST_SPACING = timedelta(hours=1)
_LONGEST_SPACING = timedelta(days=7)

_UNHEARD = timedelta(minutes=15)  # by when an event would have told of an account
_LATELY = timedelta(days=2)  # older accounts may be older than the deployment


@dataclass(slots=True)
class _Tally:
    """What a sweep has seen."""

    listed: int = 0
    sent: int = 0
    held_back: int = 0
    eligible: int = 0
    enrolled: int = 0
    missed: int = 0
    given_up: int = 0
    skipped: Counter[Reason] = field(default_factory=Counter)
    failing: Counter[Reason] = field(default_factory=Counter)
    oldest_failure: datetime | None = None

    def count(self, account: Account, row: LedgerRow | None, ineligible: Reason | None, now: datetime) -> None:
        """Count one listed account."""
        self.listed += 1
        if ineligible is not None:
            self.skipped[ineligible] += 1
            return
        self.eligible += 1
        if row is None:
            joined = now - account.joined_at if account.joined_at else None
            self.missed += joined is not None and _UNHEARD < joined < _LATELY
        elif row.outcome is Outcome.ENROLLED:
            self.enrolled += 1
        elif row.outcome is Outcome.FAILED:
            self.failing[row.reason or Reason.UNEXPECTED] += 1
            self.given_up += not is_on_its_way(row, now)
            since = moment(row.failed_at or row.updated_at)
            self.oldest_failure = min(self.oldest_failure or since, since)

    def counts(self) -> dict[str, Any]:
        """Tell an operator."""
        return {
            "listed": self.listed,
            "sent": self.sent,
            "held_back": self.held_back,
            "eligible": self.eligible,
            "enrolled": self.enrolled,
            "skipped": dict(self.skipped),
            "failing": dict(self.failing),
        }


class Sweep:
    """Lists, selects, and plans or sends; workers do the rest, each by what it finds."""

    def __init__(
        self,
        settings: Settings,
        organization: "Organization",
        ledger: "Ledger",
        queue: "Queue",
        pen: Pen,
        reconcile: Reconcile,
        clock: Callable[[], float],
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take a clock in seconds since the epoch, and what opens a pool of so many threads."""
        self._settings = settings
        self._organization = organization
        self._ledger = ledger
        self._queue = queue
        self._pen = pen
        self._reconcile = reconcile
        self._clock = clock
        self._pool = pool

    def backfill(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Send every selected account to the queue, or tell what would become of it."""
        if request.dry_run:
            return self._preview(request, self._chosen(request, stopped=False), deadline, stopped=False)
        self._pen.resume()
        if isinstance(request.accounts, tuple):
            self._readmit(request.accounts)
            self._queue.send(Message(account_id=each, trigger=Trigger.BACKFILL) for each in request.accounts)
            return _answer({"sent": len(request.accounts)})
        tally = self._sweep(request, Trigger.BACKFILL)
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, tally.sent)
        return _answer(tally.counts())

    def rerun(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Have the dead-letter queue's messages moved back, and send failed accounts again."""
        if request.ous:
            raise RequestError("rerun knows no OUs: the ledger doesn't keep them; name the accounts, or their reasons")
        if not isinstance(request.accounts, tuple):
            request = replace(request, accounts=Selection.FAILED)  # Whatever is asked for, only what failed is rerun.
        if request.dry_run:
            return self._preview(request, ((account_id, None) for account_id in self._due(request)), deadline)
        self._pen.standing()  # Refuses settings under which the workers would have to refuse every message.
        redriven = self._queue.redrive()
        sent = 0
        for chunk in _chunks(list(self._due(request))):
            self._queue.send(Message(account_id=each, trigger=Trigger.RERUN) for each in chunk)
            sent += len(chunk)
        metrics.add_metric(Metric.ACCOUNTS_RERUN, MetricUnit.Count, sent)
        return _answer({"sent": sent, "redrive_started": redriven})

    def resync(self, request: Request, *, owner: str, deadline: float) -> dict[str, Any]:
        """Verify the organization: send accounts, mend the source policy where it was edited, and tell how things stand."""
        if isinstance(request.accounts, tuple):
            raise RequestError("resync sweeps the organization: name single accounts to backfill or rerun")
        if request.dry_run:
            stopped = self._pen.standing().stopped
            return self._preview(request, self._chosen(request, stopped=stopped), deadline, stopped=stopped)
        failures = self._follow_scope(owner=owner, deadline=deadline)
        tally = self._sweep(request, Trigger.RESYNC)
        repairs: list[dict[str, Any]] = []
        if request.accounts is Selection.ALL:
            try:
                repairs = self._pen.repair(owner=owner, deadline=deadline)
            except AccountError as error:
                logger.error("source policy could not be verified", reason=error.reason, error=str(error))
                failures.append(error)
            # The heartbeat: of full passes, and of those that somebody must mend before they are full, none.
            verified = all(isinstance(error, RetryableError) for error in failures)
            metrics.add_metric(Metric.RESYNCS, MetricUnit.Count, int(verified))
        repairs += _steps(failures)
        self._gauge(tally)
        logger.info("resync", selection=request.accounts, repairs=repairs, **tally.counts())
        standing = self._pen.standing()
        frozen = any(shard.frozen for shard in standing.shards)
        return _answer(tally.counts() | {"frozen": frozen, "stopped": standing.stopped}, repairs)

    def _follow_scope(self, *, owner: str, deadline: float) -> list[AccountError]:
        """Have the source policy in the scope that the settings ask for, or tell what is in the way."""
        try:
            return list(self._pen.follow_scope(self._enrolled, owner=owner, deadline=deadline).values())
        except AccountError as error:
            logger.error("source policy's scope could not be changed", reason=error.reason, error=str(error))
            return [error]

    def _enrolled(self) -> frozenset[AccountId]:
        return frozenset(row.account_id for row in self._ledger.rows() if _is_in(row))

    def _sweep(self, request: Request, trigger: Trigger) -> _Tally:
        now = self._now()
        tally = _Tally()
        standing = self._pen.standing()
        seen: set[int] = set()
        retiring: list[Message] = []
        for chunk in _chunks(self._organization.accounts(by_ou=bool(request.ous))):
            rows = self._ledger.read(account.id for account in chunk)
            sending: list[Message] = []
            for account in chunk:
                row = rows.get(account.id)
                seen.add(int(account.id))
                ineligible = why_ineligible(account, row, self._settings, stopped=standing.stopped)
                tally.count(account, row, ineligible, now)
                if _is_selected(account, row, ineligible, request, let_in=_lets_in(account, standing)):
                    message = Message(account_id=account.id, trigger=trigger, account=account, listed_at=now)
                    would_retire = ineligible is not None and ineligible not in REMOVED and _is_in(row)
                    (retiring if would_retire else sending).append(message)
            self._queue.send(sending)
            tally.sent += len(sending)
        unheard: list[Message] = []
        in_policy = 0
        # Whom a policy that was taken in named, or a table that was put back, of whom no row tells.
        strangers = _strangers(standing, seen) if _is_whole(request) else set()
        for row in self._ledger.rows():
            in_policy += _is_in(row)
            if _is_gone(row, seen, request):
                (retiring if _is_in(row) else unheard).append(Message(account_id=row.account_id, trigger=trigger))
                strangers.discard(row.account_id)
        in_policy += len(strangers)
        retiring += [Message(account_id=account_id, trigger=trigger) for account_id in sorted(strangers)]
        self._queue.send(unheard)
        tally.sent += len(unheard)
        self._retire(retiring, in_policy, tally, force=request.force)
        return tally

    def _retire(self, retiring: list[Message], in_policy: int, tally: _Tally, *, force: bool) -> None:
        """Send the accounts that would leave the source policy, unless they are suspiciously many at once."""
        most = max(_FEW, in_policy * self._settings.max_retired_percent // 100)
        if len(retiring) > most and not force:
            tally.held_back = len(retiring)
            logger.error(
                "retirements held back: more accounts are gone or ineligible than MAX_RETIRED_PERCENT allows at once; "
                'if that is right, backfill with {"accounts": "all", "force": true}',
                would_retire=len(retiring),
                in_source_policy=in_policy,
                allowed=most,
            )
        else:
            self._queue.send(retiring)
            tally.sent += len(retiring)
        metrics.add_metric(Metric.RETIREMENTS_HELD_BACK, MetricUnit.Count, tally.held_back)

    def _readmit(self, account_ids: tuple[AccountId, ...]) -> None:
        """Lift the retirement of accounts that an operator names one by one."""
        rows = self._ledger.read(account_ids).values()
        for row in (row for row in rows if row.reason is Reason.RETIRED_BY_REQUEST):
            lifted = replace(
                row, outcome=Outcome.SKIPPED, reason=None, error=None, updated_at=written_moment(self._now())
            )
            if not self._ledger.write(lifted, over=row):
                raise RequestError(f"{row.account_id} is being worked on just now: ask again in a minute")

    def preview_retirement(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Tell what retiring accounts would take away."""
        return self._preview(request, self._chosen(request, stopped=False), deadline, retiring=True)

    def leftovers(self, after: str, *, deadline: float) -> tuple[list[dict[str, Any]], str]:
        """Look, in every account that the ledger knows and that can be reached, for a role that is ours.

        Answer what was found, or could not be looked at, and the account id to go on after if the time, or an answer, was too short.
        """
        # A row without a name is of an id that Organizations never told of: it is nobody's to enter.
        known = (row for row in self._ledger.rows() if row.name is not None)
        reachable = (row.account_id for row in known if row.reason not in OUT_OF_REACH)
        closed = () if self._settings.include_management_account else (self._settings.management_account_id,)
        pending = sorted(each for each in reachable if each > after and each not in closed)
        found: list[dict[str, Any]] = []
        size = 0

        def look(account_id: AccountId) -> Verdict:
            # Only Organizations' word has an account entered, and not that of a row.
            verdict = self._reconcile(account_id, None, stopped=True, dry_run=True)
            if verdict.reason is Reason.STOPPED:
                verdict.outcome = Outcome.RETIRED
                self._reconcile.remove(verdict, None, dry_run=True)
            return verdict

        with self._pool(self._settings.threads) as pool:
            for chunk in _chunks(pending, self._settings.threads * 2):
                told = [_told(verdict) for verdict in pool.map(look, chunk) if verdict.actions or verdict.error]
                found += told
                size += len(json.dumps(told))
                if chunk[-1] != pending[-1] and (size > _ANSWER or self._clock() > deadline - _RESERVE):
                    return found, chunk[-1]
        return found, ""

    def _preview(
        self,
        request: Request,
        selected: Iterable[tuple[AccountId, Account | None]],
        deadline: float,
        *,
        stopped: bool = False,
        retiring: bool = False,
    ) -> dict[str, Any]:
        """Tell, for each selected account by its id, what would change and why, by the plan that would be applied."""
        chosen = sorted(selected, key=lambda pair: pair[0])
        pending = [pair for pair in chosen if pair[0] > request.after]
        told: list[dict[str, Any]] = []
        moves: dict[Move, set[AccountId]] = {move: set() for move in Move}
        size = 0
        following: dict[str, Any] | None = None
        # Whether anybody at all could be named is found out before the accounts are looked at, as workers do.
        readiness = Readiness({}, None) if retiring else self._pen.foresee(frozenset({_ANYBODY}))

        def judge(pair: tuple[AccountId, Account | None]) -> Verdict:
            row = self._ledger.read([pair[0]]).get(pair[0])
            if retiring and row is not None:
                row = replace(row, outcome=Outcome.RETIRED, reason=Reason.RETIRED_BY_REQUEST)
            elif isinstance(request.accounts, tuple) and row is not None and row.reason is Reason.RETIRED_BY_REQUEST:
                row = replace(row, outcome=Outcome.SKIPPED, reason=None)
            refusal = None if pair[0] in readiness.placed else readiness.refusal
            verdict = self._reconcile(pair[0], row, listed=pair[1], refusal=refusal, stopped=stopped, dry_run=True)
            if verdict.reason in REMOVED:
                self._reconcile.remove(verdict, None, dry_run=True)
            return verdict

        with self._pool(self._settings.threads) as pool:
            for chunk in _chunks(pending, self._settings.threads * 2):
                for verdict in pool.map(judge, chunk):
                    told.append(_told(verdict))
                    moves[verdict.move].add(verdict.account_id)
                    size += len(json.dumps(told[-1]))
                if chunk[-1] != pending[-1] and (size > _ANSWER or self._clock() > deadline - _RESERVE):
                    following = write_request(replace(request, after=chunk[-1][0]))
                    break
        counts = Counter(f"{each['outcome']}" for each in told) + Counter(f"change_{each['change']}" for each in told)
        return {
            "counts": {"selected": len(chosen), **counts},
            "accounts": told,
            "source_policy": self._shards_after(moves),
            "next": following,
        }

    def _due(self, request: Request) -> Iterator[AccountId]:
        """List the failed accounts that a rerun is about."""
        rows: Iterable[LedgerRow] = self._ledger.rows()
        if isinstance(request.accounts, tuple):
            rows = self._ledger.read(request.accounts).values()
        now = self._now()
        return (row.account_id for row in rows if _is_due(row, request, now))

    def _chosen(self, request: Request, *, stopped: bool) -> Iterator[tuple[AccountId, Account | None]]:
        """List the accounts that a backfill or resync is about."""
        if isinstance(request.accounts, tuple):
            yield from ((account_id, None) for account_id in request.accounts)
            return
        standing = self._pen.standing()
        seen: set[int] = set()
        for chunk in _chunks(self._organization.accounts(by_ou=bool(request.ous))):
            rows = self._ledger.read(account.id for account in chunk)
            for account in chunk:
                seen.add(int(account.id))
                row = rows.get(account.id)
                ineligible = why_ineligible(account, row, self._settings, stopped=stopped)
                if _is_selected(account, row, ineligible, request, let_in=_lets_in(account, standing)):
                    yield account.id, account
        gone = {row.account_id for row in self._ledger.rows() if _is_gone(row, seen, request)}
        if _is_whole(request):
            gone |= _strangers(standing, seen)
        yield from ((account_id, None) for account_id in gone)

    def _shards_after(self, moves: dict[Move, set[AccountId]]) -> list[dict[str, Any]]:
        standing = self._pen.standing()
        asked = Moves(
            join=frozenset(moves[Move.JOIN]), leave=frozenset(moves[Move.LEAVE]), exclude=frozenset(moves[Move.EXCLUDE])
        )
        known = {shard.name: shard for shard in standing.shards}
        refusal = self._pen.foresee(asked.join).refusal if asked.join else None
        shards, refused = place_all_that_fit(standing.shards, asked, standing.in_force(self._settings))
        told = []
        for shard in shards:
            old = known.get(shard.name)
            told.append(
                {
                    "policy_name": shard.name,
                    "accounts": len(shard.accounts),
                    "capacity": capacity(self._settings),
                    "joining": sorted(shard.accounts - (old.accounts if old else frozenset())),
                    "leaving": sorted(old.accounts - shard.accounts) if old else [],
                    # Where there are more accounts than room, those that come last find none.
                    "error": str(refused or refusal) if refused or (refusal and old is None) else None,
                }
            )
        return told

    def _gauge(self, tally: _Tally) -> None:
        now = self._now()
        failing = sum(tally.failing.values())
        oldest = (now - tally.oldest_failure).total_seconds() if tally.oldest_failure else 0
        coverage = 100 * tally.enrolled / tally.eligible if tally.eligible else 100
        for name, unit, value in (
            (Metric.ELIGIBLE, MetricUnit.Count, tally.eligible),
            (Metric.ENROLLED, MetricUnit.Count, tally.enrolled),
            (Metric.SKIPPED, MetricUnit.Count, sum(tally.skipped.values())),
            (Metric.FAILING, MetricUnit.Count, failing),
            (Metric.NEEDING_ATTENTION, MetricUnit.Count, tally.given_up + tally.held_back),
            (Metric.COVERAGE, MetricUnit.Percent, coverage),
            (Metric.OLDEST_FAILURE, MetricUnit.Seconds, oldest),
            (Metric.EVENTS_MISSED, MetricUnit.Count, tally.missed),
            (Metric.FROZEN, MetricUnit.Count, any(shard.frozen for shard in self._pen.standing().shards)),
        ):
            metrics.add_metric(name, unit, value)
        try:
            metrics.add_metric(Metric.SOURCE_POLICY_FILL, MetricUnit.Percent, self._pen.fill_percent())
        except AccountError as error:
            logger.error("source policy's fill is not known", reason=error.reason, error=str(error))
        for name, by_reason in ((Metric.SKIPPED_FOR, tally.skipped), (Metric.FAILING_FOR, tally.failing)):
            for reason, count in by_reason.items():
                with single_metric(name=name, unit=MetricUnit.Count, value=count) as metric:
                    metric.add_dimension("service", f"rolecall-{self._settings.stage}")
                    metric.add_dimension("reason", reason)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


_T = TypeVar("_T")


def _chunks(items: Iterable[_T], size: int = _CHUNK) -> Iterator[list[_T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _is_in(row: LedgerRow | None) -> bool:
    return row is not None and row.policy_name is not None


def _is_selected(
    account: Account, row: LedgerRow | None, ineligible: Reason | None, request: Request, *, let_in: bool
) -> bool:
    if request.ous and not account.is_below(request.ous):
        return False
    if request.reasons and (row is None or row.reason not in request.reasons):
        return False
    if row is not None and ineligible in REMOVED and not (row.role_arn or row.error or let_in):
        return False  # Nothing is left to do for it.
    if request.accounts is Selection.ALL:
        return True
    if request.accounts is Selection.FAILED:
        return row is not None and row.outcome is Outcome.FAILED
    if row is None:
        return True
    if ineligible is None:
        return row.outcome in {Outcome.SKIPPED, Outcome.RETIRED} or (row.outcome is Outcome.ENROLLED and not let_in)
    return row.outcome in {Outcome.ENROLLED, Outcome.FAILED} or row.reason is not ineligible


def _lets_in(account: Account, standing: "Snapshot") -> bool:
    """Tell whether the source policy lets one in to an account, or will: what it left out, it forgot when it was uninstalled."""
    will = standing.names_everyone and not standing.shards and not standing.stopped
    return will or standing.lets_in(account.id)


def _is_whole(request: Request) -> bool:
    """Tell whether a request is about everyone."""
    return not (request.ous or request.reasons or request.accounts is Selection.FAILED)


def _strangers(standing: "Snapshot", seen: set[int]) -> set[AccountId]:
    """List the accounts that shards name and a listing of everyone lacks."""
    return {account_id for shard in standing.shards for account_id in shard.accounts if int(account_id) not in seen}


def _is_gone(row: LedgerRow, seen: set[int], request: Request) -> bool:
    """Tell whether a listing of everyone lacks an account that was a member when it was recorded."""
    at_rest = row.reason in {Reason.DEPARTED, *REMOVED} and not _is_in(row)
    return _is_whole(request) and int(row.account_id) not in seen and not at_rest


def _is_due(row: LedgerRow, request: Request, now: datetime) -> bool:
    """Tell whether a failed account should be sent again: never one whose message is still on its way.

    A schedule leaves growing spaces, so that a hopeless account isn't hammered; an operator wants it now.
    """
    if row.outcome is not Outcome.FAILED or (request.reasons and row.reason not in request.reasons):
        return False
    if row.reason in RETRIED:
        return not is_on_its_way(row, now)
    spacing = min(_FIRST_SPACING * 2 ** min(row.attempts - 1, 10), _LONGEST_SPACING)
    return not request.scheduled or now - moment(row.updated_at) >= spacing


def _told(verdict: Verdict) -> dict[str, Any]:
    return {
        "account_id": verdict.account_id,
        "outcome": verdict.outcome,
        "change": verdict.change,
        "reason": verdict.reason,
        "error": verdict.error,
        "actions": verdict.actions,
    }


def _steps(failures: Iterable[AccountError]) -> list[dict[str, Any]]:
    return [{"error": str(error), "reason": error.reason} for error in failures]


def _answer(counts: dict[str, Any], source_policy: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"counts": counts, "accounts": [], "source_policy": source_policy or [], "next": None}
