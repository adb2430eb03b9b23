"""What is shown while accounts settle, a bar on a terminal and plain lines elsewhere, and the summary in the end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from chalicelib.accounts import ROLE_KEPT, Change, LedgerRow, Outcome, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem
from rolecall.console import printable
from rolecall.follow import Ending, Progress, Sent
from rolecall.reasons import REMEDY

_STYLES = {
    Outcome.ENROLLED: "green",
    Outcome.PENDING: "yellow",
    Outcome.SKIPPED: "yellow",
    Outcome.FAILED: "red",
    Outcome.RETIRED: "yellow",
}
_NAMED = 5  # accounts of a reason that the summary names


@contextmanager
def shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Show progress as suits where it goes: a moving bar, or a line for each account and each count."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[stands]}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("settled", total=None, stands="")

        def show(progress: Progress) -> None:
            settled = min(len(progress.settled), progress.total)
            bar.update(task, total=progress.total, completed=settled, stands=_stands(progress), refresh=True)

        yield show


class _Lines:
    """Prints each account once as it settles or has to wait, and how many have settled whenever that changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        blocked = progress.blocked.reason if progress.blocked else None
        lines = [_account(row, blocked) for row in _by_id(progress.settled)]
        lines += [_waiting(row, blocked) for row in _by_id(progress.waiting)]
        news = [line for line in lines if line not in self._told]
        self._told.update(news)
        for line in news:
            print_line(self._console, line)
        if news:
            settled = min(len(progress.settled), progress.total)
            print_line(self._console, f"{settled} of {progress.total} settled: {_stands(progress)}")


def _by_id(rows: Mapping[AccountId, LedgerRow]) -> list[LedgerRow]:
    return [rows[account_id] for account_id in sorted(rows)]


def _account(row: LedgerRow, blocked: Reason | None) -> str:
    changed = f", role {row.change}" if row.change is not Change.NONE else ""
    return f"{_named(row)} {_state(row, blocked)}{changed}"


def _waiting(row: LedgerRow, blocked: Reason | None) -> str:
    outcome, reason = _shown(row, blocked)
    return f"{_named(row)} waiting {reason}: it is retried" if outcome is Outcome.FAILED else _account(row, blocked)


def _shown(row: LedgerRow, blocked: Reason | None) -> tuple[Outcome, Reason | None]:
    """Return the outcome and reason to show; a retired account is pending until its role is deleted, too."""
    if row.error == ROLE_KEPT:
        return Outcome.PENDING, Reason.SOURCE_POLICY_PENDING
    return shown_outcome(row, blocked)


def _state(row: LedgerRow, blocked: Reason | None) -> str:
    outcome, reason = _shown(row, blocked)
    return f"{outcome} {reason}" if reason else f"{outcome}"


def _stands(progress: Progress) -> str:
    blocked = progress.blocked.reason if progress.blocked else None
    counts = Counter(_shown(row, blocked)[0] for row in progress.settled.values())
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    waiting = Counter(f"{_shown(row, blocked)[1]}" for row in progress.waiting.values())
    parts += [f"{count} waiting ({reason})" for reason, count in sorted(waiting.items())]
    return ", ".join(parts) or "nothing yet"


def summary_lines(sent: Sent, progress: Progress, ending: Ending) -> Iterator[Text]:
    """Yield how it ended: the accounts by outcome and reason, with what to do, and what is not finished."""
    changes = Counter(row.change for row in progress.settled.values())
    done = ", ".join(
        f"{changes[change]} {change}" for change in Change if change is not Change.NONE and changes[change]
    )
    yield Text(
        f"{min(len(progress.settled), sent.count)} of {accounts(sent.count)} settled in {progress.seconds:.0f} s; "
        f"roles: {done or 'none changed'}",
        "bold",
    )
    yield from _by_reason(progress.settled.values(), progress.blocked, leaving=sent.leaving)
    if progress.waiting:
        yield Text("not settled:", "yellow")
        yield from _by_reason(progress.waiting.values(), progress.blocked, leaving=False)
    left = sent.count - len(progress.settled)
    match ending:
        case Ending.INTERRUPTED:
            yield Text(
                f"Stopped watching, {left} to go. The work goes on: rolecall status shows how far it is.", "yellow"
            )
        case Ending.TIMED_OUT:
            yield Text(
                f"Stopped watching after {progress.seconds:.0f} s, {left} to go. The work goes on: rolecall status shows "
                "how far it is, and --timeout watches longer.",
                "yellow",
            )
        case Ending.STALLED:
            yield Text(
                f"{left} never settled, and nothing is left on the queues. Look at rolecall status: failed messages are in "
                "the dead-letter queues, and rolecall rerun sends them again.",
                "red",
            )
        case Ending.SETTLED:
            pass


def _by_reason(rows: Iterable[LedgerRow], blocked: Problem | None, *, leaving: bool) -> Iterator[Text]:
    groups: dict[tuple[Outcome, Reason | None, bool], list[LedgerRow]] = {}
    for row in sorted(rows, key=lambda row: row.account_id):
        outcome, reason = _shown(row, blocked.reason if blocked else None)
        groups.setdefault((outcome, reason, leaving and row.error is not None), []).append(row)
    for (outcome, reason, unfinished), members in sorted(groups.items(), key=lambda group: f"{group[0]}"):
        yield Text(f"  {len(members):>5} {outcome}" + (f" {reason}" if reason else ""), _STYLES[outcome])
        if unfinished or outcome is Outcome.FAILED:
            yield from (
                Text(f"        {_named(row)}: {printable(row.error or 'no error')}") for row in members[:_NAMED]
            )
            if len(members) > _NAMED:
                yield Text(f"        and {len(members) - _NAMED} more")
        if blocked and outcome is Outcome.PENDING and reason is blocked.reason:
            yield Text(f"        publishing is blocked: {printable(blocked.error)}", "red")
        if reason and outcome is not Outcome.ENROLLED:
            yield Text(f"        → {REMEDY[reason]}")


def _named(row: LedgerRow) -> str:
    return f"{row.account_id} {printable(row.name)}" if row.name else row.account_id


def is_failing(sent: Sent, row: LedgerRow) -> bool:
    """Whether a settled account is not as it was asked to be."""
    return shown_outcome(row)[0] in {Outcome.FAILED, Outcome.PENDING} or (sent.leaving and row.error is not None)


def accounts(count: int) -> str:
    """Say how many accounts."""
    return "1 account" if count == 1 else f"{count} accounts"


def print_line(console: Console, line: Text | str, style: str = "") -> None:
    """Print a line as it is, however wide the terminal is, and nothing in it as markup."""
    console.print(line, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)
