"""Wait for accounts that were sent to the queue, by polling their ledger rows until each is finished."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from chalicelib.accounts import RETRYABLE_REASONS, ROLE_KEPT, LedgerRow, Outcome, parse_time, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.source_policy.records import Problem, Status

# Without progress for this long, the queues are counted; their counts may lag by as much ("Amazon SQS queues").
_QUIET_SECONDS = 60.0

FEW = 500
"""Up to so many rows are read by their ids, a hundred at a time; for more, a scan of the ledger costs less."""


class Ending(Enum):
    """Why polling ended."""

    FINISHED = auto()
    STALLED = auto()  # the queues are empty, and some accounts are not finished
    TIMED_OUT = auto()
    INTERRUPTED = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The accounts that a request sent to the queue.

    A response has the number of accounts and not their ids. So `accounts` are all that may have been sent, and `count` of them
    have to finish. `before` has each row's time of update at the request: a row with another time was written since. With
    `retiring`, the accounts are to lose their access and their role.
    """

    accounts: frozenset[AccountId]
    count: int
    before: Mapping[AccountId, str]
    retiring: bool = False

    def is_finished(self, row: LedgerRow, status: Status | None = None) -> bool:
        """Whether an account has its final outcome, which is not retried.

        A pending account is finished only if publish is blocked, and found that after the row was written.
        """
        if not self._is_updated(row):
            return False
        outcome, _ = shown_outcome(row)
        if outcome is Outcome.PENDING:
            # In scope none, an account whose role could not be deleted keeps its access.
            is_kept = row.outcome is not Outcome.ENROLLED and row.error not in {None, ROLE_KEPT}
            return is_kept if self.retiring else _is_blocked(row, status)
        if outcome is Outcome.FAILED:
            return row.reason not in RETRYABLE_REASONS
        return row.error != ROLE_KEPT and not (self.retiring and outcome is Outcome.ENROLLED)

    def is_waiting(self, row: LedgerRow, status: Status | None = None) -> bool:
        """Whether an account was handled and is not finished: it is retried, or publish has not granted or revoked access."""
        return self._is_updated(row) and not self.is_finished(row, status)

    def is_failing(self, row: LedgerRow) -> bool:
        """Whether a finished account doesn't have the requested outcome."""
        return shown_outcome(row)[0] in {Outcome.FAILED, Outcome.PENDING} or (self.retiring and row.error is not None)

    def _is_updated(self, row: LedgerRow) -> bool:
        return row.account_id in self.accounts and row.updated_at != self.before.get(row.account_id)


def _is_blocked(row: LedgerRow, status: Status | None) -> bool:
    """Whether publish is blocked, and found that after a row was written."""
    if status is None or status.blocked is None or status.looked_at is None:
        return False
    return status.looked_at > parse_time(row.updated_at)


@dataclass(kw_only=True, slots=True)
class Progress:
    """The rows of finished accounts and of those that were handled and are not finished; `blocked` is why publishing is blocked."""

    total: int
    finished: dict[AccountId, LedgerRow] = field(default_factory=dict)
    waiting: dict[AccountId, LedgerRow] = field(default_factory=dict)
    blocked: Problem | None = None
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """The number of finished accounts; more than were sent can finish meanwhile."""
        return min(len(self.finished), self.total)

    @property
    def is_done(self) -> bool:
        """Whether as many accounts are finished as were sent."""
        return len(self.finished) >= self.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Poller:
    """Reads rows, the status of publish and the number of queued messages; has a clock, a pause and a timeout in seconds."""

    rows: Callable[[Iterable[AccountId]], Iterable[LedgerRow]]
    status: Callable[[], Status | None]
    queued: Callable[[], int]
    clock: Callable[[], float]
    pause: Callable[[float], None]
    timeout: float = math.inf

    def follow(self, sent: Sent, display: Callable[[Progress], None]) -> tuple[Progress, Ending]:
        """Poll until every account is finished, displaying the progress each time; the work continues however this ends."""
        progress = Progress(total=sent.count)
        try:
            return progress, self._poll(sent, progress, display)
        except KeyboardInterrupt:
            return progress, Ending.INTERRUPTED

    def _poll(self, sent: Sent, progress: Progress, display: Callable[[Progress], None]) -> Ending:
        started = changed = self.clock()
        while True:
            previous = len(progress.finished), progress.waiting
            self._update(sent, progress)
            now = self.clock()
            progress.seconds = now - started
            display(progress)
            if progress.is_done:
                return Ending.FINISHED
            if (len(progress.finished), progress.waiting) != previous:
                changed = now
            elif now - changed >= _QUIET_SECONDS:
                if self.queued() == 0:
                    return Ending.STALLED
                changed = now
            if now - started >= self.timeout:
                return Ending.TIMED_OUT
            unfinished = len(sent.accounts) - len(progress.finished)
            self.pause(0.5 if unfinished <= FEW else 5.0)

    def _update(self, sent: Sent, progress: Progress) -> None:
        unfinished = sent.accounts - progress.finished.keys()
        rows = [row for row in self.rows(unfinished) if row.account_id in unfinished]
        pending = any(shown_outcome(row)[0] is Outcome.PENDING for row in rows if sent.is_waiting(row))
        status = self.status() if pending else None
        progress.blocked = status.blocked if status else progress.blocked
        progress.finished |= {row.account_id: row for row in rows if sent.is_finished(row, status)}
        progress.waiting = {row.account_id: row for row in rows if sent.is_waiting(row, status)}
