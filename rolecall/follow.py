"""Follow sent accounts by their ledger rows until each has settled."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from chalicelib.accounts import RETRYABLE_REASONS, ROLE_KEPT, LedgerRow, Outcome, parse_time, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.source_policy.records import Problem, Status

# Seconds without any news after which the queues are read; their counts may lag as long ("Amazon SQS queues").
_QUIET = 60.0


class Ending(Enum):
    """Why the watching ended."""

    SETTLED = auto()
    STALLED = auto()  # nothing is left on the queues, and some accounts have not settled
    TIMED_OUT = auto()
    INTERRUPTED = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What a request sent to the queue.

    An answer counts the accounts that were sent and doesn't name them. So `accounts` are all that it may have sent, as they were
    listed before, and `count` of them have to settle. `before` is when each was last recorded: a row with another time was
    written since. With `leaving`, the accounts are to lose their access and their role.
    """

    accounts: frozenset[AccountId]
    count: int
    before: Mapping[AccountId, str]
    leaving: bool = False

    def is_settled(self, row: LedgerRow, status: Status | None = None) -> bool:
        """Whether nothing more is to come for an account: its role and its access are as they should be, or an error stays.

        An account that is pending has settled only if publish is blocked, and has found that out since the row was written.
        """
        if not self._is_news(row):
            return False
        outcome, _ = shown_outcome(row)
        if outcome is Outcome.PENDING:
            return not self.leaving and _is_blocked(row, status)
        if outcome is Outcome.FAILED:
            return row.reason not in RETRYABLE_REASONS
        return row.error != ROLE_KEPT and not (self.leaving and outcome is Outcome.ENROLLED)

    def is_waiting(self, row: LedgerRow, status: Status | None = None) -> bool:
        """Whether an account was handled and has not settled: it is retried, or publish is still to grant or revoke access."""
        return self._is_news(row) and not self.is_settled(row, status)

    def _is_news(self, row: LedgerRow) -> bool:
        return row.account_id in self.accounts and row.updated_at != self.before.get(row.account_id)


def _is_blocked(row: LedgerRow, status: Status | None) -> bool:
    """Whether publish is blocked, and found that out after a row was written."""
    if status is None or status.blocked is None or status.looked_at is None:
        return False
    return status.looked_at > parse_time(row.updated_at)


@dataclass(kw_only=True, slots=True)
class Progress:
    """The rows of the accounts that have settled, and of those that were handled and have not; and why publishing is blocked."""

    total: int
    settled: dict[AccountId, LedgerRow] = field(default_factory=dict)
    waiting: dict[AccountId, LedgerRow] = field(default_factory=dict)
    blocked: Problem | None = None
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether every account that was sent has settled."""
        return len(self.settled) >= self.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """How to read some accounts' rows, what publish found, the number of queued messages and the clock, and how to pause."""

    rows: Callable[[Iterable[AccountId]], Iterable[LedgerRow]]
    status: Callable[[], Status | None]
    queued: Callable[[], int]
    clock: Callable[[], float]
    pause: Callable[[float], None]
    timeout: float = math.inf


def follow(sent: Sent, watch: Watch, show: Callable[[Progress], None]) -> tuple[Progress, Ending]:
    """Read the rows until every account has settled, showing the progress each time; the work goes on however this ends."""
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
        pending = any(shown_outcome(row)[0] is Outcome.PENDING for row in rows if sent.is_waiting(row))
        status = watch.status() if pending else None
        progress.blocked = status.blocked if status else progress.blocked
        progress.settled |= {row.account_id: row for row in rows if sent.is_settled(row, status)}
        progress.waiting = {row.account_id: row for row in rows if sent.is_waiting(row, status)}
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
    """Return the seconds to pause before the next read: the more it reads, the longer."""
    return 0.5 if accounts <= FEW else 5.0


FEW = 500
"""Accounts whose rows are read by their ids, a hundred at a time; for more, a scan of the ledger costs less."""
