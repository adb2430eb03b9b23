"""Polling until accounts are finished, the progress on a terminal and in a pipe, and the summary."""

import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from chalicelib.accounts import RETRYABLE_REASONS, ROLE_KEPT, Access, Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem, Records, Status
from rolecall.follow import Ending, Poller, Progress, Sent
from rolecall.follow_page import progress_display, summary_lines
from rolecall.reasons import REMEDY
from tests.unit.ledger_rows import NOW, numbered, records, row, shard
from tests.unit.operated import OperatedStage

ONE, TWO, THREE = map(numbered, (1, 2, 3))
BEFORE = row(ONE).updated_at
WRITTEN = NOW + timedelta(minutes=1)
FULL = Problem(Reason.QUOTA, "the source policy\nis full")


def written(
    number: int, outcome: Outcome = Outcome.ENROLLED, reason: Reason | None = None, **more: object
) -> LedgerRow:
    values = {"reason": reason, "updated_at": WRITTEN.isoformat(), "name": f"Account {number}", **more}
    return row(numbered(number), outcome, **values)


def pending(number: int) -> LedgerRow:
    return written(number, in_force_since=None)


def retired(number: int, **more: object) -> LedgerRow:
    values = {"access": Access.EXCLUDED, "role_arn": "arn", **more}
    return written(number, Outcome.RETIRED, Reason.RETIRED_BY_REQUEST, **values)


def sent(*numbers: int, count: int | None = None, retiring: bool = False) -> Sent:
    accounts = frozenset(map(numbered, numbers))
    return Sent(accounts=accounts, count=count or len(accounts), before={ONE: BEFORE}, retiring=retiring)


def publish_status(blocked: Problem | None, *, after: timedelta) -> Status:
    """Build the status of a run of publish, so long after the rows were written."""
    status = records(shard(), blocked=blocked, looked_at=WRITTEN + after).status
    assert status is not None
    return status


def follow(
    accounts: Sent, stage: OperatedStage, timeout: float = 10_000
) -> tuple[Progress, Ending, list[tuple[int, int, float]]]:
    """Follow accounts, and return the numbers of finished and waiting ones and the time of each poll, too."""
    polls: list[tuple[int, int, float]] = []

    def display(progress: Progress) -> None:
        polls.append((len(progress.finished), len(progress.waiting), progress.seconds))

    poller = Poller(
        rows=lambda ids: stage.rows_of(ids).values(),
        status=lambda: stage.records().status,
        queued=lambda: stage.queued,
        clock=stage.clock,
        pause=stage.pause,
        timeout=timeout,
    )
    progress, ending = poller.follow(accounts, display)
    return progress, ending, polls


def test_polls_until_each_account_is_finished() -> None:
    stage = OperatedStage(
        ledger=[row(ONE)],
        steps=[[written(1)], [written(2, Outcome.FAILED, Reason.NOT_READY)], [], [written(2), written(3)]],
    )
    progress, ending, polls = follow(sent(1, 2, 3), stage)
    assert ending is Ending.FINISHED
    assert polls == [(0, 0, 0), (1, 0, 0.5), (1, 1, 1), (1, 1, 1.5), (3, 0, 2)]
    assert set(progress.finished) == {ONE, TWO, THREE}


def test_as_many_accounts_have_to_finish_as_were_sent() -> None:
    stage = OperatedStage(ledger=[row(ONE)], steps=[[written(2)], [written(4)], [written(3)]])
    progress, ending, _ = follow(sent(1, 2, 3, count=2), stage)
    assert ending is Ending.FINISHED
    assert set(progress.finished) == {TWO, THREE}  # not one that joined meanwhile, or that was not sent


def test_row_from_before_the_request_is_ignored() -> None:
    for outcome in Outcome:
        old = row(ONE, outcome, reason=Reason.NOT_READY)
        assert not sent(1).is_finished(old)
        assert not sent(1).is_waiting(old)


@pytest.mark.parametrize("retiring", [False, True])
@pytest.mark.parametrize("reason", Reason)
def test_failure_is_finished_unless_it_is_retried(reason: Reason, retiring: bool) -> None:
    account, retried = written(1, Outcome.FAILED, reason), reason in RETRYABLE_REASONS
    assert sent(1, retiring=retiring).is_finished(account) is not retried
    assert sent(1, retiring=retiring).is_waiting(account) is retried


@pytest.mark.parametrize(
    ("account", "status", "finished"),
    [
        (written(1), publish_status(None, after=timedelta(seconds=9)), True),
        (pending(1), publish_status(None, after=timedelta(seconds=9)), False),
        (pending(1), publish_status(FULL, after=timedelta(seconds=9)), True),
        (pending(1), publish_status(FULL, after=timedelta(seconds=-9)), False),  # may be resolved since
        (pending(1), None, False),
        (retired(1, error=ROLE_KEPT), None, False),  # sent by a sweep
        (retired(1, in_force_since=BEFORE), None, False),
    ],
)
def test_account_waits_until_publish_has_handled_it(account: LedgerRow, status: Status | None, finished: bool) -> None:
    assert (sent(1).is_finished(account, status), sent(1).is_waiting(account, status)) == (finished, not finished)


@pytest.mark.parametrize(
    ("account", "finished"),
    [
        (retired(1, in_force_since=BEFORE, error=ROLE_KEPT), False),
        (retired(1, error=ROLE_KEPT), False),
        (retired(1, role_arn=None), True),
        (retired(1, error="denied"), True),
        (written(1), False),  # enrolled by another pass before the request
        (written(1, Outcome.RETIRED, Reason.DEPARTED, access=Access.NONE, role_arn="arn"), True),
    ],
)
def test_retired_account_is_finished_once_its_role_is_deleted(account: LedgerRow, finished: bool) -> None:
    assert sent(1, retiring=True).is_finished(account) is finished


def test_pending_account_is_finished_once_publish_is_blocked() -> None:
    blocked = records(shard(), blocked=FULL, looked_at=WRITTEN + timedelta(seconds=9))
    stage = OperatedStage(steps=[[written(1), pending(2)], []], published=[Records(), blocked])
    progress, ending, polls = follow(sent(1, 2), stage)
    assert (ending, progress.blocked) == (Ending.FINISHED, FULL)
    assert polls == [(0, 0, 0), (1, 1, 0.5), (2, 0, 1)]


def test_polling_stalls_on_empty_queues_without_progress() -> None:
    stage = OperatedStage(steps=[[written(1)]], queued=0)
    progress, ending, _ = follow(sent(1, 2), stage)
    assert (ending, set(progress.finished), stage.seconds) == (Ending.STALLED, {ONE}, 60.5)


def test_polling_times_out_while_messages_are_queued() -> None:
    stage = OperatedStage(steps=[[written(2, Outcome.FAILED, Reason.NOT_READY)]], queued=1)
    _, ending, polls = follow(sent(1, 2), stage, timeout=600)
    assert (ending, polls[-1]) == (Ending.TIMED_OUT, (0, 1, 600))


def test_interrupt_ends_polling_with_the_progress_so_far() -> None:
    progress, ending, _ = follow(sent(1, 2), OperatedStage(steps=[[written(1)], KeyboardInterrupt()]))
    assert (ending, set(progress.finished)) == (Ending.INTERRUPTED, {ONE})


def test_many_unfinished_accounts_are_polled_less_often() -> None:
    numbers = range(1, 700)
    stage = OperatedStage(steps=[[written(number) for number in numbers if number > 300], [*map(written, numbers)]])
    *_, polls = follow(sent(*numbers), stage)
    assert [seconds for *_, seconds in polls] == [0, 5, 5.5]


def displayed(polls: Iterable[Progress], *, terminal: bool) -> str:
    out = io.StringIO()
    with progress_display(Console(file=out, force_terminal=terminal, width=100)) as display:
        for progress in polls:
            display(progress)
    return out.getvalue()


CREATED = {TWO: written(2, change=Change.CREATED)}
WAITING = {ONE: written(1, Outcome.FAILED, Reason.NOT_READY)}
FAILED = written(3, Outcome.FAILED, Reason.QUOTA, name="a\nb[red]\x1b[31m")
POLLS = (
    Progress(total=3),
    Progress(total=3, finished=CREATED),
    Progress(total=3, finished=CREATED, waiting=WAITING),
    Progress(total=3, finished=CREATED | {ONE: written(1), THREE: FAILED}),
)


def test_pipe_gets_a_line_for_each_account_and_count() -> None:
    assert displayed(POLLS, terminal=False).splitlines() == [
        "000000000002 Account 2 enrolled, role created",
        "1 of 3 finished: 1 enrolled",
        "000000000001 Account 1 failed not_ready, will be retried",
        "1 of 3 finished: 1 enrolled, 1 waiting (not_ready)",
        "000000000001 Account 1 enrolled",
        "000000000003 a\\nb[red]\\x1b[31m failed quota",
    ]


def test_terminal_gets_a_bar() -> None:
    output = displayed(POLLS, terminal=True)
    for part in ("0/3", "1/3", "3/3", "━", "1 waiting (not_ready)", "2 enrolled, 1 failed", "\x1b["):
        assert part in output
    assert "Account" not in output


def test_pending_accounts_have_the_reason_that_publishing_is_blocked() -> None:
    progress = Progress(
        total=3, finished={ONE: pending(1), THREE: written(3)}, waiting={TWO: retired(2, error=ROLE_KEPT)}
    )
    assert displayed([progress], terminal=False).splitlines() == [
        "000000000001 Account 1 pending source_policy_pending",
        "000000000003 Account 3 enrolled",
        "000000000002 Account 2 pending source_policy_pending",
        "2 of 3 finished: 1 enrolled, 1 pending, 1 waiting (source_policy_pending)",
    ]
    blocked = displayed([replace(progress, blocked=FULL)], terminal=False)
    assert blocked.splitlines()[0] == "000000000001 Account 1 pending quota"


def summary(accounts: Sent, progress: Progress, ending: Ending = Ending.FINISHED) -> list[str]:
    return [line.plain for line in summary_lines(accounts, progress, ending)]


def test_summary_has_outcomes_reasons_and_remedies() -> None:
    failed = replace(FAILED, error="roles:\n1000", name=None)
    progress = Progress(
        total=4,
        finished=CREATED | {ONE: written(1), THREE: failed, numbered(4): pending(4)},
        blocked=FULL,
        seconds=7.4,
    )
    assert summary(sent(1, 2, 3, 4), progress) == [
        "Done: 4 accounts in 7 s, 1 role created",
        "      2 enrolled",
        "      1 failed quota",
        "        000000000003: roles:\\n1000",
        f"        → {REMEDY[Reason.QUOTA]}",
        "      1 pending quota",
        "        publishing is blocked: the source policy\\nis full",
        f"        → {REMEDY[Reason.QUOTA]}",
    ]


def test_summary_lists_some_errors_of_a_reason() -> None:
    numbers = range(1, 9)
    finished = {numbered(each): written(each, Outcome.FAILED, Reason.QUOTA, error="full") for each in numbers}
    assert summary(sent(*numbers), Progress(total=8, finished=finished))[:8] == [
        "Done: 8 accounts in 0 s, no roles changed",
        "      8 failed quota",
        *(f"        {numbered(each)} Account {each}: full" for each in range(1, 6)),
        "        and 3 more",
    ]


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending.INTERRUPTED, "Interrupted; 2 accounts not finished. The work continues"),
        (Ending.TIMED_OUT, "Timed out after 60 s; 2 accounts not finished. The work continues"),
        (Ending.STALLED, "2 accounts not finished, and the queues are empty."),
    ],
)
def test_summary_shows_why_polling_ended_early(ending: Ending, text: str) -> None:
    lines = summary(sent(1, 2, 3), replace(POLLS[2], seconds=60), ending)
    assert lines[0] == "Not done: 1 of 3 accounts finished in 60 s, 1 role created"
    assert lines[2:5] == ["not finished:", "      1 failed not_ready", "        000000000001 Account 1: no error"]
    assert lines[-1].startswith(text)


def test_summary_shows_the_error_of_a_role_that_is_left() -> None:
    progress = Progress(total=1, finished={ONE: retired(1, error="denied")})
    lines = summary(sent(1, retiring=True), progress)
    assert lines[1:3] == ["      1 retired retired_by_request", "        000000000001 Account 1: denied"]
