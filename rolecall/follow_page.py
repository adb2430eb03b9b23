"""The progress of accounts, as a bar on a terminal and as lines in a pipe, and the summary at the end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from chalicelib.accounts import ROLE_KEPT, Change, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem
from rolecall.console import counted, print_indented, print_line, printable
from rolecall.follow import Ending, Progress, Sent
from rolecall.reasons import REMEDY

_STYLES = {
    Outcome.ENROLLED: "green",
    Outcome.PENDING: "yellow",
    Outcome.SKIPPED: "yellow",
    Outcome.FAILED: "red",
    Outcome.RETIRED: "yellow",
}
_MAX_ERRORS = 5  # of one reason in the summary


@contextmanager
def progress_display(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that displays progress: as a bar on a terminal, otherwise as a line for each account and count."""
    if not console.is_interactive:
        yield _ProgressLines(console)
        return
    bar = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[outcomes]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,  # The summary follows.
    )
    with bar:
        task = bar.add_task("finished", total=None, outcomes="")

        def display(progress: Progress) -> None:
            bar.update(task, total=progress.total, completed=progress.count, outcomes=_outcomes(progress), refresh=True)

        yield display


class _ProgressLines:
    """Prints a line for each account that is finished or waiting, and the counts when they change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        blocked = progress.blocked.reason if progress.blocked else None
        lines = [_account_line(row, blocked) for row in _by_id(progress.finished)]
        lines += [_waiting_line(row, blocked) for row in _by_id(progress.waiting)]
        new = [line for line in lines if line not in self._printed]
        self._printed.update(new)
        for line in new:
            print_indented(self._console, line)
        if new and not progress.is_done:  # Then the summary follows.
            print_line(self._console, f"{progress.count} of {progress.total} finished: {_outcomes(progress)}")


def _by_id(rows: Mapping[AccountId, LedgerRow]) -> list[LedgerRow]:
    return [rows[account_id] for account_id in sorted(rows)]


def _account_line(row: LedgerRow, blocked: Reason | None) -> str:
    outcome, reason = _shown(row, blocked)
    state = f"{outcome} {reason}" if reason else f"{outcome}"
    changed = f", role {row.change}" if row.change is not Change.NONE else ""
    return f"{_id_and_name(row)} {state}{changed}"


def _waiting_line(row: LedgerRow, blocked: Reason | None) -> str:
    outcome, reason = _shown(row, blocked)
    if outcome is Outcome.FAILED:
        return f"{_id_and_name(row)} failed {reason}, will be retried"
    return _account_line(row, blocked)


def _shown(row: LedgerRow, blocked: Reason | None) -> tuple[Outcome, Reason | None]:
    """Return the outcome and reason to show; a retired account is pending until its role is deleted, too."""
    if row.error == ROLE_KEPT:
        return Outcome.PENDING, Reason.SOURCE_POLICY_PENDING
    return shown_outcome(row, blocked)


def _outcomes(progress: Progress) -> str:
    blocked = progress.blocked.reason if progress.blocked else None
    counts = Counter(_shown(row, blocked)[0] for row in progress.finished.values())
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    waiting = Counter(f"{_shown(row, blocked)[1]}" for row in progress.waiting.values())
    parts += [f"{count} waiting ({reason})" for reason, count in sorted(waiting.items())]
    return ", ".join(parts) or "none"


def summary_lines(sent: Sent, progress: Progress, ending: Ending) -> Iterator[Text]:
    """Yield the number of accounts by outcome and reason, with what to do, and why polling ended before all were finished."""
    changes = Counter(row.change for row in progress.finished.values())
    changed = [
        f"{counted(changes[each], 'role')} {each}" for each in Change if each is not Change.NONE and changes[each]
    ]
    total, roles = counted(sent.count, "account"), ", ".join(changed) or "no roles changed"
    if progress.is_done:
        yield Text(f"Done: {total} in {progress.seconds:.0f} s, {roles}", "bold")
    else:
        yield Text(f"Not done: {progress.count} of {total} finished in {progress.seconds:.0f} s, {roles}", "bold")
    yield from _reason_lines(progress.finished.values(), progress.blocked, retiring=sent.retiring)
    if progress.waiting:
        yield Text("not finished:", "yellow")
        yield from _reason_lines(progress.waiting.values(), progress.blocked, retiring=False)
    yield from _ending_lines(ending, counted(sent.count - len(progress.finished), "account"), progress.seconds)


def _ending_lines(ending: Ending, remaining: str, seconds: float) -> Iterator[Text]:
    match ending:
        case Ending.INTERRUPTED:
            yield Text(
                f"Interrupted; {remaining} not finished. The work continues: rolecall status shows the progress.",
                "yellow",
            )
        case Ending.TIMED_OUT:
            yield Text(
                f"Timed out after {seconds:.0f} s; {remaining} not finished. The work continues: rolecall status shows the "
                "progress. --timeout sets how long to wait.",
                "yellow",
            )
        case Ending.STALLED:
            yield Text(
                f"{remaining} not finished, and the queues are empty. Check rolecall status: failed messages are in the "
                "dead-letter queues, and rolecall rerun redrives them.",
                "red",
            )
        case Ending.FINISHED:
            pass


def _reason_lines(rows: Iterable[LedgerRow], blocked: Problem | None, *, retiring: bool) -> Iterator[Text]:
    groups: dict[tuple[Outcome, Reason | None, bool], list[LedgerRow]] = {}
    for row in sorted(rows, key=lambda row: row.account_id):
        outcome, reason = _shown(row, blocked.reason if blocked else None)
        groups.setdefault((outcome, reason, retiring and row.error is not None), []).append(row)
    for (outcome, reason, role_left), members in sorted(groups.items(), key=lambda group: f"{group[0]}"):
        yield Text(f"  {len(members):>5} {outcome}" + (f" {reason}" if reason else ""), _STYLES[outcome])
        if role_left or outcome is Outcome.FAILED:
            yield from (
                Text(f"        {_id_and_name(row)}: {printable(row.error or 'no error')}")
                for row in members[:_MAX_ERRORS]
            )
            if len(members) > _MAX_ERRORS:
                yield Text(f"        and {len(members) - _MAX_ERRORS} more")
        if blocked and outcome is Outcome.PENDING and reason is blocked.reason:
            yield Text(f"        publishing is blocked: {printable(blocked.error)}", "red")
        if (
            reason
            and outcome is not Outcome.ENROLLED
            and not (retiring and outcome is Outcome.RETIRED and not role_left)
        ):
            yield Text(f"        → {REMEDY[reason]}")


def _id_and_name(row: LedgerRow) -> str:
    return f"{row.account_id} {printable(row.name)}" if row.name else row.account_id
