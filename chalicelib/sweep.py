"""The whole organization: backfill, rerun and resync are one sweep with different selections."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from chalicelib.accounts import (
    REMOVAL_REASONS,
    RETRYABLE_REASONS,
    UNREACHABLE,
    Access,
    Account,
    LedgerRow,
    Outcome,
    access_for,
    format_time,
    is_retry_pending,
    parse_time,
    shown_outcome,
    why_ineligible,
)
from chalicelib.arns import AccountId
from chalicelib.errors import Reason, RequestError
from chalicelib.reconciler import Reconciler, Verdict
from chalicelib.requests import Message, Request, Selection, Trigger, write_request
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import MAX_SHARDS, Records, ShardRecord, assign, capacity, shard_name
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.organizations import Organization
    from chalicelib.aws.queues import AccountsQueue, PublishQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable

_CHUNK = 100  # accounts whose ledger rows are read at once
_RESERVE = 30.0  # seconds of a function's time that are kept for its answer
_ANSWER = 4_000_000  # characters of an answer's accounts; Lambda answers 6 MB at most ("Lambda quotas")
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
    deferred: int = 0
    eligible: int = 0
    enrolled: int = 0
    pending: int = 0
    missed: int = 0
    given_up: int = 0
    unrecorded: int = 0
    skipped: Counter[Reason] = field(default_factory=Counter)
    failing: Counter[Reason] = field(default_factory=Counter)
    oldest_failure: datetime | None = None

    def count(self, account: Account, row: LedgerRow | None, ineligible: Reason | None, now: datetime) -> None:
        """Count one listed account."""
        self.listed += 1
        self.unrecorded += not _is_recorded(account, row, ineligible)
        if ineligible is not None:
            self.skipped[ineligible] += 1
            return
        self.eligible += 1
        if row is None:
            joined = now - account.joined_at if account.joined_at else None
            self.missed += joined is not None and _UNHEARD < joined < _LATELY
        elif row.outcome is Outcome.ENROLLED:
            in_force = shown_outcome(row)[0] is Outcome.ENROLLED
            self.enrolled += in_force
            self.pending += not in_force
        elif row.outcome is Outcome.FAILED:
            self.failing[row.reason or Reason.UNEXPECTED] += 1
            self.given_up += not is_retry_pending(row, now)
            since = parse_time(row.failed_at or row.updated_at)
            self.oldest_failure = min(self.oldest_failure or since, since)

    def counts(self) -> dict[str, Any]:
        """Return the counts that an operator is shown."""
        return {
            "listed": self.listed,
            "sent": self.sent,
            "deferred": self.deferred,
            "eligible": self.eligible,
            "enrolled": self.enrolled,
            "pending": self.pending,
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
        table: "SourcePolicyTable",
        accounts: "AccountsQueue",
        publish: "PublishQueue",
        reconciler: Reconciler,
        clock: Callable[[], float],
        pool: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> None:
        """Take a clock in seconds since the epoch, and what opens a pool of so many threads."""
        self._settings = settings
        self._organization = organization
        self._ledger = ledger
        self._table = table
        self._accounts = accounts
        self._publish = publish
        self._reconciler = reconciler
        self._clock = clock
        self._pool = pool

    def backfill(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Send every selected account to the queue, or with `dry_run` return what would become of it."""
        if request.dry_run:
            return self._preview(request, self._chosen(request, uninstalling=False), deadline, uninstalling=False)
        records = self._table.load()
        if records.control.uninstalling or records.control.uninstalled:
            self._table.set_uninstalling(uninstalling=False)
            records = self._table.load()
        # A run before the accounts: what blocked the source policy is looked at again.
        self._publish.send()
        if isinstance(request.accounts, tuple):
            for account_id in request.accounts:
                self._ledger.request_retirement(account_id, None)
            self._accounts.send(Message(account_id=each, trigger=Trigger.BACKFILL) for each in request.accounts)
            return _answer({"sent": len(request.accounts)})
        tally = self._sweep(request, Trigger.BACKFILL, records)
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, tally.sent)
        return _answer(tally.counts())

    def rerun(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Have SQS move the dead-letter queues' messages back, and send failed accounts again."""
        if request.ous:
            raise RequestError("rerun knows no OUs: the ledger doesn't keep them; name the accounts, or their reasons")
        if not isinstance(request.accounts, tuple):
            request = replace(request, accounts=Selection.FAILED)  # Whatever is asked for, only what failed is rerun.
        if request.dry_run:
            return self._preview(request, ((account_id, None) for account_id in self._due(request)), deadline)
        self._publish.send()
        self._publish.redrive()
        redriven = self._accounts.redrive()
        sent = 0
        for chunk in _chunks(list(self._due(request))):
            self._accounts.send(Message(account_id=each, trigger=Trigger.RERUN) for each in chunk)
            sent += len(chunk)
        metrics.add_metric(Metric.ACCOUNTS_RERUN, MetricUnit.Count, sent)
        return _answer({"sent": sent, "redrive_started": redriven})

    def resync(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Send accounts, ask publish to check the source policy against IAM, and measure the organization."""
        if isinstance(request.accounts, tuple):
            raise RequestError("resync sweeps the organization: name single accounts to backfill or rerun")
        records = self._table.load()
        uninstalling = records.control.uninstalling
        if request.dry_run:
            chosen = self._chosen(request, uninstalling=uninstalling)
            return self._preview(request, chosen, deadline, uninstalling=uninstalling)
        self._publish.send()
        tally = self._sweep(request, Trigger.RESYNC, records)
        # The scope may change only once the ledger holds every listed account.
        is_ready = _is_whole(request) and not tally.unrecorded
        scope = self._settings.source_policy_scope if is_ready else None
        self._table.request_check(self._now(), verify=request.accounts is Selection.ALL, scope_recorded=scope)
        self._publish.send()
        self._gauge(tally)
        logger.info("resync", selection=request.accounts, **tally.counts())
        frozen = any(record.is_frozen for record in records.shards)
        state = {"frozen": frozen, "uninstalling": uninstalling}
        return _answer(
            tally.counts() | state, [dict(each) for each in records.status.repairs] if records.status else []
        )

    def _sweep(self, request: Request, trigger: Trigger, records: Records) -> _Tally:
        now = self._now()
        tally = _Tally()
        seen: set[int] = set()
        retiring: list[Message] = []
        for chunk in _chunks(self._organization.accounts(by_ou=bool(request.ous))):
            rows = self._ledger.read(account.id for account in chunk)
            sending: list[Message] = []
            for account in chunk:
                row = rows.get(account.id)
                seen.add(int(account.id))
                ineligible = self._ineligible(account, row, records)
                tally.count(account, row, ineligible, now)
                if _is_selected(account, row, ineligible, request):
                    message = Message(account_id=account.id, trigger=trigger, account=account, listed_at=now)
                    has_access = row is not None and row.has_access
                    would_retire = has_access and ineligible is not None and ineligible not in REMOVAL_REASONS
                    (retiring if would_retire else sending).append(message)
            self._accounts.send(sending)
            tally.sent += len(sending)
        self._send_unlisted(request, trigger, records, seen, retiring, tally)
        return tally

    def _ineligible(self, account: Account, row: LedgerRow | None, records: Records) -> Reason | None:
        return why_ineligible(account, row, self._settings, uninstalling=records.control.uninstalling)

    def _send_unlisted(
        self,
        request: Request,
        trigger: Trigger,
        records: Records,
        seen: set[int],
        retiring: list[Message],
        tally: _Tally,
    ) -> None:
        """Send the accounts that the ledger or the source policy names and the listing lacks; those that would lose access come last."""
        unlisted: list[Message] = []
        granted = 0
        # A table that was restored, or edited, may name accounts that have no row.
        orphaned = _orphaned(records, seen) if _is_whole(request) else set()
        for row in self._ledger.rows():
            granted += row.has_access
            if _is_gone(row, seen, request):
                (retiring if row.has_access else unlisted).append(Message(account_id=row.account_id, trigger=trigger))
                orphaned.discard(row.account_id)
        granted += len(orphaned)
        retiring += [Message(account_id=account_id, trigger=trigger) for account_id in sorted(orphaned)]
        self._accounts.send(unlisted)
        tally.sent += len(unlisted)
        self._retire(retiring, granted, tally, force=request.force)

    def _retire(self, retiring: list[Message], granted: int, tally: _Tally, *, force: bool) -> None:
        """Send the accounts that would lose access, unless they are suspiciously many at once."""
        most = max(_FEW, granted * self._settings.max_retired_percent // 100)
        if len(retiring) > most and not force:
            tally.deferred = len(retiring)
            logger.error(
                "retirements held back: more accounts are gone or ineligible than MAX_RETIRED_PERCENT allows at once; "
                'if that is right, backfill with {"accounts": "all", "force": true}',
                would_retire=len(retiring),
                in_source_policy=granted,
                allowed=most,
            )
        else:
            self._accounts.send(retiring)
            tally.sent += len(retiring)
        metrics.add_metric(Metric.RETIREMENTS_DEFERRED, MetricUnit.Count, tally.deferred)

    def preview_retirement(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Return what retiring accounts would delete."""
        return self._preview(request, self._chosen(request, uninstalling=False), deadline, retiring=True)

    def leftovers(self, after: str, *, deadline: float) -> tuple[list[dict[str, Any]], str]:
        """Look, in every account that the ledger knows and that can be reached, for a role that is this stage's.

        Return what was found, or could not be looked at, and the account id to go on after if the time, or the size of an
        answer, was too short.
        """
        # A row without a name is of an id that Organizations never listed: it is not entered.
        known = (row for row in self._ledger.rows() if row.name is not None)
        reachable = (row.account_id for row in known if row.reason not in UNREACHABLE)
        closed = () if self._settings.include_management_account else (self._settings.management_account_id,)
        pending = sorted(each for each in reachable if each > after and each not in closed)
        found: list[dict[str, Any]] = []
        size = 0

        def look(account_id: AccountId) -> Verdict:
            # An account is entered only if Organizations lists it, whatever a row says.
            return self._reconciler(account_id, None, uninstalling=True, removable=True, dry_run=True)

        with self._pool(self._settings.threads) as pool:
            for chunk in _chunks(pending, self._settings.threads * 2):
                shown = [_shown(verdict) for verdict in pool.map(look, chunk) if verdict.actions or verdict.error]
                found += shown
                size += len(json.dumps(shown))
                if chunk[-1] != pending[-1] and (size > _ANSWER or self._clock() > deadline - _RESERVE):
                    return found, chunk[-1]
        return found, ""

    def _preview(
        self,
        request: Request,
        selected: Iterable[tuple[AccountId, Account | None]],
        deadline: float,
        *,
        uninstalling: bool = False,
        retiring: bool = False,
    ) -> dict[str, Any]:
        """Return, for each selected account by its id, what would change and why, by the plan that would be applied."""
        chosen = sorted(selected, key=lambda pair: pair[0])
        pending = [pair for pair in chosen if pair[0] > request.after]
        shown: list[dict[str, Any]] = []
        changes: dict[Access, set[AccountId]] = {access: set() for access in Access}
        size = 0
        following: dict[str, Any] | None = None
        records = self._table.load()

        def judge(pair: tuple[AccountId, Account | None]) -> Verdict:
            row = self._ledger.read([pair[0]]).get(pair[0])
            if retiring and row is not None:
                row = replace(row, retirement_requested_at=format_time(self._now()))
            elif isinstance(request.accounts, tuple) and row is not None:
                row = replace(row, retirement_requested_at=None)
            refusal = None
            if records.status is not None:  # Before the first run of publish nothing is known to refuse an account.
                access = row.access if row else None
                refusal = records.refusal(pair[0], access, self._settings, asked_at=None)
            return self._reconciler(
                pair[0],
                row,
                listed=pair[1],
                refusal=refusal,
                removable=True,
                uninstalling=uninstalling,
                dry_run=True,
            )

        with self._pool(self._settings.threads) as pool:
            for chunk in _chunks(pending, self._settings.threads * 2):
                for verdict in pool.map(judge, chunk):
                    shown.append(_shown(verdict))
                    if verdict.access is not None:
                        changes[verdict.access].add(verdict.account_id)
                    size += len(json.dumps(shown[-1]))
                if chunk[-1] != pending[-1] and (size > _ANSWER or self._clock() > deadline - _RESERVE):
                    following = write_request(replace(request, after=chunk[-1][0]))
                    break
        counts = Counter(f"{each['outcome']}" for each in shown) + Counter(f"change_{each['change']}" for each in shown)
        return {
            "counts": {"selected": len(chosen), **counts},
            "accounts": shown,
            "source_policy": planned_shards(records, changes, self._settings),
            "next": following,
        }

    def _due(self, request: Request) -> Iterator[AccountId]:
        """List the failed accounts that a rerun is about."""
        rows: Iterable[LedgerRow] = self._ledger.rows()
        if isinstance(request.accounts, tuple):
            rows = self._ledger.read(request.accounts).values()
        now = self._now()
        return (row.account_id for row in rows if _is_due(row, request, now))

    def _chosen(self, request: Request, *, uninstalling: bool) -> Iterator[tuple[AccountId, Account | None]]:
        """Yield the accounts that a backfill or resync is about."""
        if isinstance(request.accounts, tuple):
            yield from ((account_id, None) for account_id in request.accounts)
            return
        records = self._table.load()
        seen: set[int] = set()
        for chunk in _chunks(self._organization.accounts(by_ou=bool(request.ous))):
            rows = self._ledger.read(account.id for account in chunk)
            for account in chunk:
                seen.add(int(account.id))
                row = rows.get(account.id)
                ineligible = why_ineligible(account, row, self._settings, uninstalling=uninstalling)
                if _is_selected(account, row, ineligible, request):
                    yield account.id, account
        gone = {row.account_id for row in self._ledger.rows() if _is_gone(row, seen, request)}
        if _is_whole(request):
            gone |= _orphaned(records, seen)
        yield from ((account_id, None) for account_id in gone)

    def _gauge(self, tally: _Tally) -> None:
        now = self._now()
        failing = sum(tally.failing.values())
        oldest = (now - tally.oldest_failure).total_seconds() if tally.oldest_failure else 0
        coverage = 100 * tally.enrolled / tally.eligible if tally.eligible else 100
        for name, unit, value in (
            (Metric.ELIGIBLE, MetricUnit.Count, tally.eligible),
            (Metric.ENROLLED, MetricUnit.Count, tally.enrolled),
            (Metric.PENDING, MetricUnit.Count, tally.pending),
            (Metric.SKIPPED, MetricUnit.Count, sum(tally.skipped.values())),
            (Metric.FAILING, MetricUnit.Count, failing),
            (Metric.NEEDING_ATTENTION, MetricUnit.Count, tally.given_up + tally.deferred),
            (Metric.COVERAGE, MetricUnit.Percent, coverage),
            (Metric.OLDEST_FAILURE, MetricUnit.Seconds, oldest),
            (Metric.EVENTS_MISSED, MetricUnit.Count, tally.missed),
        ):
            metrics.add_metric(name, unit, value)
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


def planned_shards(
    records: Records, changes: Mapping[Access, Collection[AccountId]], settings: Settings
) -> list[dict[str, Any]]:
    """Return what the shards would grant after changes of access, as publish would assign them.

    Before the first run of publish it is not known whether a policy of a shard's name exists, or how much room there is.
    """
    # Where a record was lost, publish has yet to restore it.
    held = [records.by_index.get(index, ShardRecord(name="")) for index in range(max(records.by_index, default=-1) + 1)]
    contents = [record.content for record in held]
    scope = records.scope if contents else settings.source_policy_scope
    room = min(records.status.room, MAX_SHARDS) if records.status and records.status.looked_at else MAX_SHARDS
    assignment = assign(contents, changes, settings, scope=scope, max_shards=room)
    blocked = records.status.blocked if records.status else None
    shown = []
    for index, content in enumerate(assignment.contents):
        old = contents[index].accounts if index < len(contents) else frozenset[AccountId]()
        problem = held[index].error if index < len(held) else blocked
        shown.append(
            {
                "policy_name": shard_name(settings, index),
                "accounts": len(content.accounts),
                "capacity": capacity(settings),
                "granted": sorted(content.accounts - old),
                "revoked": sorted(old - content.accounts) if scope is Scope.ACCOUNTS else [],
                "error": problem.error if problem else None,
            }
        )
    if assignment.unassigned and shown:
        shown[-1]["error"] = f"{len(assignment.unassigned)} accounts find no room"
    return shown


def _is_recorded(account: Account, row: LedgerRow | None, ineligible: Reason | None) -> bool:
    """Whether the row says what the listing says, or why an eligible account failed, which leaves its access as it was."""
    if row is None:
        return False
    failed = row.access is None or row.outcome is Outcome.FAILED
    return row.access is access_for(account, ineligible) or (ineligible is None and failed)


def _is_selected(account: Account, row: LedgerRow | None, ineligible: Reason | None, request: Request) -> bool:
    if request.ous and not account.is_below(request.ous):
        return False
    if request.reasons and (row is None or row.reason not in request.reasons):
        return False
    if row is not None and ineligible in REMOVAL_REASONS and not (row.role_arn or row.error or row.has_access):
        return row.access is not Access.EXCLUDED  # Nothing is left to do for one that is.
    if request.accounts is Selection.ALL:
        return True
    if request.accounts is Selection.FAILED:
        return row is not None and row.outcome is Outcome.FAILED
    if row is None:
        return True
    if ineligible is None:
        return row.outcome in {Outcome.SKIPPED, Outcome.RETIRED}
    return row.outcome in {Outcome.ENROLLED, Outcome.FAILED} or row.reason is not ineligible


def _is_whole(request: Request) -> bool:
    """Tell whether a request is about everyone."""
    return not (request.ous or request.reasons or request.accounts is Selection.FAILED)


def _orphaned(records: Records, seen: set[int]) -> set[AccountId]:
    """Return the accounts that a shard names and a listing of the whole organization lacks."""
    return {account_id for account_id in records.maybe_named if int(account_id) not in seen}


def _is_gone(row: LedgerRow, seen: set[int], request: Request) -> bool:
    """Whether a listing of the whole organization lacks an account that was a member when it was recorded."""
    at_rest = row.reason in {Reason.DEPARTED, *REMOVAL_REASONS} and not row.has_access
    return _is_whole(request) and int(row.account_id) not in seen and not at_rest


def _is_due(row: LedgerRow, request: Request, now: datetime) -> bool:
    """Tell whether a failed account should be sent again: never one whose message is still on its way.

    A schedule leaves growing spaces, so that a hopeless account isn't hammered; an operator wants it now.
    """
    if row.outcome is not Outcome.FAILED or (request.reasons and row.reason not in request.reasons):
        return False
    if row.reason in RETRYABLE_REASONS:
        return not is_retry_pending(row, now)
    if row.attempts == 0:
        return True  # The source policy refused it; it is due as soon as it refuses no longer.
    spacing = min(_FIRST_SPACING * 2 ** min(row.attempts - 1, 10), _LONGEST_SPACING)
    return not request.scheduled or now - parse_time(row.updated_at) >= spacing


def _shown(verdict: Verdict) -> dict[str, Any]:
    return {
        "account_id": verdict.account_id,
        "outcome": verdict.outcome,
        "change": verdict.change,
        "reason": verdict.reason,
        "error": verdict.error,
        "actions": list(verdict.actions),
    }


def _answer(counts: dict[str, Any], source_policy: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"counts": counts, "accounts": [], "source_policy": source_policy or [], "next": None}
