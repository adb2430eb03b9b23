"""Backfill, rerun and resync: list the organization, select accounts, and send them to the queue, or plan them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.accounts import Account, LedgerRow, why_ineligible
from chalicelib.arns import AccountId
from chalicelib.chunks import chunked
from chalicelib.errors import Reason, RequestError
from chalicelib.messages import Message, Trigger
from chalicelib.requests import Request, Selection
from chalicelib.rollout import Rollout
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from chalicelib.sweep.gauges import Tally, emit_gauges
from chalicelib.sweep.preview import Preview
from chalicelib.sweep.selection import (
    covers_organization,
    is_due,
    is_first_seen,
    is_gone,
    is_selected,
    loses_access,
    orphaned_accounts,
)
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import Ledger
    from chalicelib.aws.organizations import Organization
    from chalicelib.aws.queues import AccountsQueue, NoPublishQueue, PublishQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable

_CHUNK = 100  # accounts whose rows are read at once
_MIN_RETIREMENTS_ALLOWED = 2  # however small the organization


class Sweep:
    """Decides which accounts are sent; enroll decides what becomes of each."""

    def __init__(
        self,
        settings: Settings,
        organization: "Organization",
        ledger: "Ledger",
        table: "SourcePolicyTable",
        accounts: "AccountsQueue",
        publish: "PublishQueue | NoPublishQueue",
        preview: Preview,
        clock: Callable[[], float],
    ) -> None:
        """Take a clock in seconds since the epoch."""
        self._settings = settings
        self._organization = organization
        self._ledger = ledger
        self._table = table
        self._accounts = accounts
        self._publish = publish
        self._preview = preview
        self._clock = clock

    def backfill(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Send every selected account to the queue, or with `dry_run` return what would become of it."""
        if request.dry_run:
            return self._plan(request, deadline, uninstalling=False)
        records = self._table.load()
        if records.control.uninstalling or records.control.uninstalled:
            self._table.set_uninstalling(uninstalling=False)
            records = self._table.load()
        # Before the accounts: publish checks again what blocked the source policy.
        self._publish.send()
        if isinstance(request.accounts, tuple):
            for account_id in request.accounts:
                self._ledger.request_retirement(account_id, None)
            named = (Message(each, Trigger.BACKFILL, rolls_out=True) for each in request.accounts)
            self._accounts.send(named)
            return _response({"sent": len(request.accounts)})
        tally = self._send_selected(request, Trigger.BACKFILL, records)
        metrics.add_metric(Metric.ACCOUNTS_SENT, MetricUnit.Count, tally.sent)
        return _response(tally.counts())

    def rerun(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Have SQS redrive the dead-letter queues, and send failed accounts again."""
        if request.ous:
            raise RequestError(
                "rerun can't select by OU, which the ledger doesn't contain: give account ids or reasons"
            )
        if not isinstance(request.accounts, tuple):
            request = replace(request, accounts=Selection.FAILED)
        if request.dry_run:
            due = ((account_id, None) for account_id in self._due(request))
            return self._preview.plan(request, due, deadline=deadline)
        self._publish.send()
        self._publish.redrive()
        redriven = self._accounts.redrive()
        sent = 0
        for chunk in chunked(list(self._due(request)), _CHUNK):
            self._accounts.send(Message(account_id=each, trigger=Trigger.RERUN) for each in chunk)
            sent += len(chunk)
        metrics.add_metric(Metric.ACCOUNTS_RERUN, MetricUnit.Count, sent)
        return _response({"sent": sent, "redrive_started": redriven})

    def _due(self, request: Request) -> Iterator[AccountId]:
        rows: Iterable[LedgerRow] = self._ledger.rows()
        if isinstance(request.accounts, tuple):
            rows = self._ledger.read(request.accounts).values()
        now, changed_at = self._now(), self._table.load().control.control_policies_changed_at
        return (row.account_id for row in rows if is_due(row, request, now, changed_at))

    def resync(self, request: Request, *, deadline: float) -> dict[str, Any]:
        """Send accounts, request a check of the source policy from publish, and measure the organization."""
        if isinstance(request.accounts, tuple):
            raise RequestError("resync covers the organization: give single accounts to backfill or rerun")
        records = self._table.load()
        uninstalling = records.control.uninstalling
        if request.dry_run:
            return self._plan(request, deadline, uninstalling=uninstalling)
        self._publish.send()
        tally = self._send_selected(request, Trigger.RESYNC, records)
        if self._settings.keeps_source_policy:
            # The scope may change only once the ledger contains every listed account.
            is_complete = covers_organization(request) and not tally.unrecorded
            scope = self._settings.source_policy_scope if is_complete else None
            self._table.request_check(self._now(), verify=request.accounts is Selection.ALL, scope_recorded=scope)
            self._publish.send()
        elif request.accounts is Selection.ALL:
            metrics.add_metric(Metric.RESYNCS, MetricUnit.Count, 1)  # which publish otherwise counts
        emit_gauges(tally, self._settings.stage, self._now())
        logger.info("resync", selection=request.accounts, **tally.counts())
        frozen = any(record.is_frozen for record in records.shards)
        state = {"frozen": frozen, "uninstalling": uninstalling}
        repairs = [dict(each) for each in records.status.repairs] if records.status else []
        return _response(tally.counts() | state, repairs)

    def _send_selected(self, request: Request, trigger: Trigger, records: Records) -> Tally:
        """Send what a request selects; the accounts that would lose access come last, and only if they are not too many."""
        now, tally, rollout = self._now(), Tally(), self._rollout(request)
        listed: set[int] = set()
        losing: list[Message] = []
        verified: list[Message] = []
        # Where an operator chose the accounts, all of them are changed.
        rolls_out = not covers_organization(request)
        for chunk in self._listing(request, uninstalling=records.control.uninstalling):
            messages: list[Message] = []
            for account, row, ineligible in chunk:
                listed.add(int(account.id))
                tally.count(account, row, ineligible, now)
                waits = rollout.count(account, row, ineligible, now)
                if is_selected(account, row, ineligible, request):
                    # An operator waits for a backfill, so its denials are reported at once.
                    first_seen_at = now if trigger is Trigger.RESYNC and is_first_seen(row) else None
                    message = Message(account.id, trigger, account, now, first_seen_at, rolls_out)
                    (losing if loses_access(row, ineligible) else verified if waits else messages).append(message)
            self._send(messages, tally)
        self._send_wave(rollout, verified, trigger, now, tally)
        orphaned = orphaned_accounts(records, listed, request)
        with_access = 0
        gone: list[Message] = []
        for each in self._ledger.accesses():
            with_access += each.has_access
            if is_gone(each, listed, request):
                orphaned.discard(each.account_id)
                (losing if each.has_access else gone).append(Message(account_id=each.account_id, trigger=trigger))
        self._send(gone, tally)
        losing += [Message(account_id=account_id, trigger=trigger) for account_id in sorted(orphaned)]
        self._send_losing(losing, with_access + len(orphaned), tally, force=request.force)
        return tally

    def _send(self, messages: list[Message], tally: Tally) -> None:
        self._accounts.send(messages)
        tally.sent += len(messages)

    def _rollout(self, request: Request) -> Rollout:
        return Rollout.to(self._settings) if covers_organization(request) else Rollout()

    def _send_wave(
        self, rollout: Rollout, selected: list[Message], trigger: Trigger, now: datetime, tally: Tally
    ) -> None:
        """Send the wave, and the selected accounts that wait for a later one, whose roles are only verified."""
        wave = {account.id: Message(account.id, trigger, account, now, rolls_out=True) for account in rollout.wave()}
        self._send([*wave.values(), *(each for each in selected if each.account_id not in wave)], tally)
        tally.rollout_waiting, tally.rollout_stopped = rollout.waiting, rollout.is_stopped
        if rollout.is_stopped:
            logger.error(
                "rollout stopped: accounts failed with the current settings; correct the cause, or deploy the former settings",
                failed=dict(rollout.failed),
                waiting=rollout.waiting,
            )

    def _send_losing(self, losing: list[Message], with_access: int, tally: Tally, *, force: bool) -> None:
        """Send the accounts that would lose access, unless they are too many at once: a listing may be wrong."""
        allowed = max(_MIN_RETIREMENTS_ALLOWED, with_access * self._settings.max_retired_percent // 100)
        if len(losing) > allowed and not force:
            tally.deferred = len(losing)
            logger.error(
                "retirements deferred: more accounts are gone or ineligible than MAX_RETIRED_PERCENT allows at once; "
                'if that is right, backfill with {"accounts": "all", "force": true}',
                would_retire=len(losing),
                in_source_policy=with_access,
                allowed=allowed,
            )
        else:
            self._send(losing, tally)
        metrics.add_metric(Metric.RETIREMENTS_DEFERRED, MetricUnit.Count, tally.deferred)

    def _plan(self, request: Request, deadline: float, *, uninstalling: bool) -> dict[str, Any]:
        """Return what would become of the accounts that a backfill or resync would send."""
        rollout = self._rollout(request)
        selected = list(self._selected(request, rollout, uninstalling=uninstalling))
        waiting = rollout.waiting
        return self._preview.plan(request, selected, deadline=deadline, uninstalling=uninstalling, waiting=waiting)

    def _selected(
        self, request: Request, rollout: Rollout, *, uninstalling: bool
    ) -> Iterator[tuple[AccountId, Account | None]]:
        """Yield the accounts that a backfill or resync would send, and count those of the rollout."""
        if isinstance(request.accounts, tuple):
            yield from ((account_id, None) for account_id in request.accounts)
            return
        records, now = self._table.load(), self._now()
        listed: set[int] = set()
        for chunk in self._listing(request, uninstalling=uninstalling):
            listed.update(int(account.id) for account, _, _ in chunk)
            for account, row, ineligible in chunk:
                waits = rollout.count(account, row, ineligible, now)
                if not waits and is_selected(account, row, ineligible, request):
                    yield account.id, account
        yield from ((account.id, account) for account in rollout.wave())
        gone = {row.account_id for row in self._ledger.accesses() if is_gone(row, listed, request)}
        yield from ((account_id, None) for account_id in gone | orphaned_accounts(records, listed, request))

    def _listing(
        self, request: Request, *, uninstalling: bool
    ) -> Iterator[list[tuple[Account, LedgerRow | None, Reason | None]]]:
        """Yield every listed account in chunks, with its row and why it must not be enrolled, or None."""
        for chunk in chunked(self._organization.accounts(by_ou=bool(request.ous)), _CHUNK):
            rows = self._ledger.read(account.id for account in chunk)
            known = ((account, rows.get(account.id)) for account in chunk)
            yield [
                (account, row, why_ineligible(account, row, self._settings, uninstalling=uninstalling))
                for account, row in known
            ]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _response(counts: dict[str, Any], source_policy: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"counts": counts, "accounts": [], "source_policy": source_policy or [], "next": None}
