"""One operation on a stage: its output, its confirmation prompt, and waiting for the accounts that it sent."""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from chalicelib.accounts import LedgerRow, shown_outcome
from chalicelib.arns import AccountId
from rolecall.console import counted, is_terminal, output_console, print_indented
from rolecall.document_links import linked
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from rolecall.follow import FEW, Ending, Poller, Sent
from rolecall.follow_page import progress_display, summary_lines
from rolecall.stage import WORK_QUEUES, Stage

_EXIT_STATUSES = {
    Ending.STALLED: ExitStatus.UNKNOWN,
    Ending.TIMED_OUT: ExitStatus.UNKNOWN,
    Ending.INTERRUPTED: ExitStatus.INTERRUPTED,
}


def _now() -> datetime:
    return datetime.now(UTC)


def start_operation(
    stage: Stage, *, yes: bool = False, wait: bool = True, timeout: float = 3600.0, as_json: bool = False
) -> "Operation":
    """Return an operation at the terminal of this process; with JSON as its output, the rest goes to standard error."""

    def ask(question: str) -> bool:
        """Return the answer of the terminal; Ctrl-C and Ctrl-D are no."""
        try:
            return typer.confirm(question, err=as_json)
        except typer.Abort:
            typer.echo(err=as_json)  # The prompt is on the same line.
            return False

    return Operation(
        stage=stage,
        console=output_console(stderr=as_json),
        prompt=ask if is_terminal(sys.stdin) else None,
        yes=yes,
        wait=wait,
        timeout=timeout,
    )


@dataclass(kw_only=True, slots=True)
class Record:
    """What an operation printed, how many accounts it sent, and their rows, finished and waiting.

    `details` are further keys of its JSON.
    """

    messages: list[str] = field(default_factory=list)
    sent: int = 0
    finished: dict[AccountId, LedgerRow] = field(default_factory=dict)
    waiting: dict[AccountId, LedgerRow] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A stage, the console to print on, and the options: no confirmation, no waiting, how many seconds to wait."""

    stage: Stage
    console: Console
    prompt: Callable[[str], bool] | None = None  # None without a terminal
    yes: bool = False
    wait: bool = True
    timeout: float = 3600.0
    now: Callable[[], datetime] = _now
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    record: Record = field(default_factory=Record)

    def print(self, line: Text | str, style: str = "") -> None:
        """Print a line, and record it."""
        line = linked(line) if isinstance(line, str) else line
        self.record.messages.append(str(line))
        print_indented(self.console, line, style)

    def confirm(self, question: str, refused: str = "revoke access", *, unchanged: str = "nothing was changed") -> None:
        """Ask before something is done. Raise CommandError if the answer is no, or without a terminal.

        `unchanged` is what a negative answer leaves as it was.
        """
        self.require_answer(refused)
        if not self.yes and self.prompt is not None and not self.prompt(question):
            raise CommandError(f"not confirmed: {unchanged}")

    def require_answer(self, refused: str) -> None:
        """Raise CommandError if something can't be confirmed, because there is no terminal."""
        if not self.yes and self.prompt is None:
            raise CommandError(f"refusing to {refused} without confirmation: not a terminal; pass --yes")

    def as_json(self, status: ExitStatus) -> dict[str, Any]:
        """Return what the operation did as JSON data."""
        rows = [
            (row, finished)
            for rows, finished in ((self.record.finished, True), (self.record.waiting, False))
            for row in rows.values()
        ]
        return {
            "stage": self.stage.name,
            "exit_status": status,
            "sent": self.record.sent,
            "accounts": [
                _account_json(row, finished=finished)
                for row, finished in sorted(rows, key=lambda pair: pair[0].account_id)
            ],
            "messages": self.record.messages,
            **self.record.details,
        }

    def update_times(self, account_ids: Iterable[AccountId]) -> dict[AccountId, str]:
        """Map the accounts to the time of their rows' last update. Accounts without a row are omitted."""
        return {account_id: row.updated_at for account_id, row in self.stage.rows_of(account_ids).items()}

    def follow(self, sent: Sent) -> ExitStatus:
        """Wait until the accounts that were sent are finished, print the summary, and return the exit status."""
        if sent.count == 0:
            self.print("Nothing to do: no matching accounts.")
            return ExitStatus.OK
        self.print(f"{counted(sent.count, 'account')} sent to the queue.")
        self.record.sent += sent.count
        if not self.wait:
            self.print("Not waiting: rolecall status shows the progress.")
            return ExitStatus.OK
        with progress_display(self.console) as display:
            progress, ending = self._poller().follow(sent, display)
        self.record.finished |= progress.finished
        self.record.waiting = progress.waiting
        for line in summary_lines(sent, progress, ending):
            self.print(line)
        if ending in _EXIT_STATUSES:
            return _EXIT_STATUSES[ending]
        return ExitStatus.PROBLEM if any(map(sent.is_failing, progress.finished.values())) else ExitStatus.OK

    def wait_until(self, is_done: Callable[[], bool], seconds: float, pause: float = 2.0) -> bool:
        """Poll until a condition is true, for at most some seconds, and return whether it is."""
        started = self.clock()
        while not is_done():
            if self.clock() - started >= seconds:
                return False
            self.pause(pause)
        return True

    def _poller(self) -> Poller:
        return Poller(
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
        """Return the number of messages on the work queues, those in flight included."""
        return sum(queue.total for queue in self.stage.queues() if queue.name in WORK_QUEUES)


def _account_json(row: LedgerRow, *, finished: bool) -> dict[str, Any]:
    outcome, reason = shown_outcome(row)
    return {
        "account_id": row.account_id,
        "name": row.name,
        "finished": finished,
        "outcome": outcome,
        "reason": reason,
        "change": row.change,
        "error": row.error,
    }
