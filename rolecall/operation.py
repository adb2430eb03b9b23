"""One operation on a stage: how its operator is told and asked, and how what was sent is watched."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.text import Text

from chalicelib.accounts import LedgerRow
from chalicelib.arns import AccountId
from rolecall.errors import CommandError
from rolecall.follow import FEW, Ending, Sent, Watch, follow
from rolecall.follow_text import accounts, is_failing, print_line, shown, summary_lines
from rolecall.stage import WORK_QUEUES, Stage

FINE, FAILING, UNKNOWN, INTERRUPTED = 0, 1, 2, 130

_STATUS = {Ending.STALLED: UNKNOWN, Ending.TIMED_OUT: UNKNOWN, Ending.INTERRUPTED: INTERRUPTED}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A stage, where to print, and what the operator said beforehand: not to be asked, not to wait, how long to watch."""

    stage: Stage
    console: Console
    ask: Callable[[str], bool] | None = None  # none where there is no terminal
    yes: bool = False
    wait: bool = True
    timeout: float = 3600.0
    now: Callable[[], datetime] = _now
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def say(self, line: Text | str, style: str = "") -> None:
        """Tell the operator."""
        print_line(self.console, line, style)

    def consent(self, question: str) -> None:
        """Ask before access is taken away; no answer is never a yes."""
        if self.yes:
            return
        if self.ask is None:
            raise CommandError(
                "this takes access away, and there is no terminal to ask on: nothing was done; say --yes"
            )
        if not self.ask(question):
            raise typer.Abort

    def recorded(self, account_ids: Iterable[AccountId]) -> dict[AccountId, str]:
        """Tell when each account was last recorded."""
        return {account_id: row.updated_at for account_id, row in self.stage.rows_of(account_ids).items()}

    def follow(self, sent: Sent) -> int:
        """Follow what was sent until it has settled, print the summary, and return the exit status."""
        if sent.count == 0:
            self.say("No account was sent: none is concerned.")
            return FINE
        self.say(f"{accounts(sent.count)} sent to the queue.")
        if not self.wait:
            self.say("Not waiting for them: rolecall status shows how far they are.")
            return FINE
        with shown(self.console) as show:
            progress, ending = follow(sent, self._watch(), show)
        for line in summary_lines(sent, progress, ending):
            self.say(line)
        if ending in _STATUS:
            return _STATUS[ending]
        return FAILING if any(is_failing(sent, row) for row in progress.settled.values()) else FINE

    def wait_until(self, is_done: Callable[[], bool], seconds: float, pause: float = 2.0) -> bool:
        """Pause until something is done, at most for some seconds; return whether it is."""
        started = self.clock()
        while not is_done():
            if self.clock() - started >= seconds:
                return False
            self.pause(pause)
        return True

    def _watch(self) -> Watch:
        return Watch(
            rows=self._rows,
            status=lambda: self.stage.records().status,
            queued=self._queued,
            clock=self.clock,
            pause=self.pause,
            timeout=self.timeout,
        )

    def _rows(self, account_ids: Iterable[AccountId]) -> Iterable[LedgerRow]:
        wanted = frozenset(account_ids)
        return self.stage.rows_of(wanted).values() if len(wanted) <= FEW else self.stage.rows()

    def _queued(self) -> int:
        """Count the messages that are not finished."""
        return sum(queue.total for queue in self.stage.queues() if queue.name in WORK_QUEUES)
