"""Watching sent accounts settle, by the ledger: the only place that tells where an account stands."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from chalicelib.accounts import RETRIED, LedgerRow, Outcome
from chalicelib.arns import AccountId

_RETIRE = "retire"  # the trigger that a worker records for it
_QUIET = (
    60.0  # seconds without any news after which the queue is asked; its counts may lag as long ("Amazon SQS queues")
)


class Ending(Enum):
    """Why the watching ended."""

    SETTLED = auto()
    STALLED = auto()  # nothing is left on the queue, and some accounts were never recorded
    TIMED_OUT = auto()
    INTERRUPTED = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What a request sent to the queue.

    An answer tells how many accounts were sent, not which. So `accounts` are all that it may have sent, as they were listed
    before, and `count` of them have to settle. That needs no second copy of the rules by which a sweep selects, and an
    account that joins meanwhile is not taken for one of those sent. `before` is when each was last recorded: a row written
    since tells where the account stands now, whatever the clocks here and there say.
    """

    accounts: frozenset[AccountId]
    count: int
    before: Mapping[AccountId, str]
    leaving: bool = False

    def is_settled(self, row: LedgerRow) -> bool:
        """Tell whether a row says where its account has come to stand."""
        if not self._is_news(row):
            return False
        if row.outcome is Outcome.FAILED:
            return row.reason not in RETRIED
        if self.leaving:
            # Marked by the request first, with what it had; then worked on, and recorded by the worker.
            taken_away = row.policy_name is None and row.role_arn is None
            return taken_away or (row.trigger == _RETIRE and row.policy_name is None)
        # Marked by the request, so that a retired account may be enrolled again.
        return not (row.outcome is Outcome.SKIPPED and row.reason is None)

    def is_waiting(self, row: LedgerRow) -> bool:
        """Tell whether a row says that its account's message was handed back, to come again."""
        if not self._is_news(row):
            return False
        retried = row.outcome is Outcome.FAILED and row.reason in RETRIED
        return retried or (self.leaving and row.error is not None and not self.is_settled(row))

    def _is_news(self, row: LedgerRow) -> bool:
        return row.account_id in self.accounts and row.updated_at != self.before.get(row.account_id)


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far it is: the rows of accounts that have settled, and of those that are handed back for now."""

    total: int
    settled: dict[AccountId, LedgerRow] = field(default_factory=dict)
    waiting: dict[AccountId, LedgerRow] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """Tell whether every account that was sent has settled."""
        return len(self.settled) >= self.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """How to look: at some accounts' rows, at the queue, at the clock, and how to wait between looks."""

    rows: Callable[[Iterable[AccountId]], Iterable[LedgerRow]]
    queued: Callable[[], int]
    clock: Callable[[], float]
    pause: Callable[[float], None]
    timeout: float = math.inf


def follow(sent: Sent, watch: Watch, show: Callable[[Progress], None]) -> tuple[Progress, Ending]:
    """Look until every account has settled, showing each look; what is looked at goes on, however this ends."""
    progress = Progress(total=sent.count)
    try:
        return progress, _settled(sent, watch, progress, show)
    except KeyboardInterrupt:
        return progress, Ending.INTERRUPTED


def _settled(sent: Sent, watch: Watch, progress: Progress, show: Callable[[Progress], None]) -> Ending:
    started = news = watch.clock()
    while True:
        known = len(progress.settled), progress.waiting
        unsettled = sent.accounts - progress.settled.keys()
        rows = [row for row in watch.rows(unsettled) if row.account_id in unsettled]
        progress.settled |= {row.account_id: row for row in rows if sent.is_settled(row)}
        progress.waiting = {row.account_id: row for row in rows if sent.is_waiting(row)}
        now = watch.clock()
        progress.seconds = now - started
        show(progress)
        if progress.is_done:
            return Ending.SETTLED
        if (len(progress.settled), progress.waiting) != known:
            news = now
        elif now - news >= _QUIET:
            if watch.queued() == 0:
                return Ending.STALLED
            news = now
        if now - started >= watch.timeout:
            return Ending.TIMED_OUT
        watch.pause(_pace(len(sent.accounts) - len(progress.settled)))


def _pace(accounts: int) -> float:
    """Tell how many seconds to wait before the next look: the more it reads, the longer."""
    return 0.5 if accounts <= FEW else 5.0


FEW = 500
"""Accounts whose rows are read by their ids, a hundred at a time; for more, a scan of the ledger costs less."""
