import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from chalicelib.accounts import RETRYABLE_REASONS, ROLE_KEPT, Access, Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem, Records, Status
from rolecall.follow import Ending, Progress, Sent, Watch, follow
from rolecall.follow_text import shown, summary_lines
from rolecall.reasons import REMEDY
from tests.unit.ledger_rows import NOW, numbered, records, row, shard
from tests.unit.operated import OperatedStage

ONE, TWO, THREE = map(numbered, (1, 2, 3))
ALL = (ONE, TWO, THREE)
OLD = row(ONE).updated_at
WRITTEN = NOW + timedelta(minutes=1)
LATER = WRITTEN.isoformat()
FULL = Problem(Reason.QUOTA, "the source policy\nis full")


def written(
    number: int, outcome: Outcome = Outcome.ENROLLED, reason: Reason | None = None, **more: object
) -> LedgerRow:
    return row(
        numbered(number), outcome, **{"reason": reason, "updated_at": LATER, "name": f"Account {number}", **more}
    )


def sending(*numbers: int, count: int | None = None, leaving: bool = False) -> Sent:
    accounts = frozenset(map(numbered, numbers))
    return Sent(accounts=accounts, count=count or len(accounts), before={ONE: OLD}, leaving=leaving)


def followed(
    sent: Sent, stage: OperatedStage, timeout: float = 10_000
) -> tuple[Progress, Ending, list[tuple[int, int, float]]]:
    """Follow, and tell of each look how many had settled, how many were waiting, and when it was."""
    looks: list[tuple[int, int, float]] = []

    def show(progress: Progress) -> None:
        looks.append((len(progress.settled), len(progress.waiting), progress.seconds))

    watch = Watch(
        rows=lambda ids: stage.rows_of(ids).values(),
        status=lambda: stage.records().status,
        queued=lambda: stage.queued,
        clock=stage.clock,
        pause=stage.pause,
        timeout=timeout,
    )
    progress, ending = follow(sent, watch, show)
    return progress, ending, looks


def test_it_follows_until_each_account_has_settled() -> None:
    stage = OperatedStage(
        held=[row(ONE)],
        steps=[[written(1)], [written(2, Outcome.FAILED, Reason.NOT_READY)], [], [written(2), written(3)]],
    )
    progress, ending, looks = followed(sending(1, 2, 3), stage)
    assert ending is Ending.SETTLED
    assert looks == [(0, 0, 0), (1, 0, 0.5), (1, 1, 1), (1, 1, 1.5), (3, 0, 2)]
    assert set(progress.settled) == set(ALL)


def test_as_many_as_were_sent_have_to_settle_of_all_that_may_have_been() -> None:
    stage = OperatedStage(held=[row(ONE)], steps=[[written(2)], [written(4)], [written(3)]])
    progress, ending, _ = followed(sending(1, 2, 3, count=2), stage)
    assert ending is Ending.SETTLED
    assert set(progress.settled) == {TWO, THREE}  # The fourth joined meanwhile, and the first was not sent.


def test_row_from_before_is_no_news() -> None:
    sent = sending(1)
    for outcome in Outcome:
        assert not sent.is_settled(row(ONE, outcome))
        assert not sent.is_waiting(row(ONE, outcome, reason=Reason.NOT_READY))
    assert sent.is_settled(written(1))


@pytest.mark.parametrize("reason", Reason)
def test_failure_has_settled_unless_it_is_retried(reason: Reason) -> None:
    account = written(1, Outcome.FAILED, reason)
    for leaving in (False, True):
        sent = sending(1, leaving=leaving)
        assert sent.is_settled(account) is (reason not in RETRYABLE_REASONS)
        assert sent.is_waiting(account) is (reason in RETRYABLE_REASONS)


def pending(number: int) -> LedgerRow:
    return written(number, in_force_since=None)


def found(blocked: Problem | None, *, after: timedelta) -> Status:
    """Return what a run of publish found, so long after the rows were written."""
    status = records(shard(), blocked=blocked, looked_at=WRITTEN + after).status
    assert status is not None
    return status


def test_account_waits_until_its_access_is_in_force() -> None:
    sent, status = sending(1), found(None, after=timedelta(seconds=9))
    assert (sent.is_settled(pending(1), status), sent.is_waiting(pending(1), status)) == (False, True)
    assert sent.is_settled(written(1), status)


def test_pending_account_has_settled_once_publish_finds_it_can_not_grant() -> None:
    sent = sending(1)
    assert sent.is_settled(pending(1), found(FULL, after=timedelta(seconds=9)))
    # What blocked publishing before may be gone.
    assert sent.is_waiting(pending(1), found(FULL, after=timedelta(seconds=-9)))
    assert sent.is_waiting(pending(1), None)


def test_retired_account_has_settled_once_its_role_is_deleted() -> None:
    sent = sending(1, leaving=True)
    granted = written(
        1,
        Outcome.RETIRED,
        Reason.RETIRED_BY_REQUEST,
        access=Access.EXCLUDED,
        in_force_since=OLD,
        role_arn="arn",
        error=ROLE_KEPT,
    )
    revoked = replace(granted, in_force_since=None)
    for each in (granted, revoked):
        assert (sent.is_settled(each), sent.is_waiting(each)) == (False, True)
    assert sent.is_settled(replace(revoked, role_arn=None, error=None))
    assert sent.is_settled(replace(revoked, error="denied"))
    assert sending(1).is_waiting(revoked)  # a sweep may have sent it
    assert not sent.is_settled(written(1))  # another pass enrolled it before the request


def test_departed_account_has_settled_with_its_role_left() -> None:
    departed = written(1, Outcome.RETIRED, Reason.DEPARTED, access=Access.NONE, role_arn="arn")
    assert sending(1, leaving=True).is_settled(departed)
    assert sending(1).is_waiting(replace(departed, in_force_since=OLD))


def test_it_follows_accounts_until_publish_is_blocked() -> None:
    blocked = records(shard(), blocked=FULL, looked_at=WRITTEN + timedelta(seconds=9))
    stage = OperatedStage(steps=[[written(1), pending(2)], []], published=[Records(), blocked])
    progress, ending, looks = followed(sending(1, 2), stage)
    assert (ending, progress.blocked) == (Ending.SETTLED, FULL)
    assert looks == [(0, 0, 0), (1, 1, 0.5), (2, 0, 1)]


def test_it_ends_when_nothing_is_on_the_queue_and_nothing_comes() -> None:
    stage = OperatedStage(steps=[[written(1)]], queued=0)
    progress, ending, _ = followed(sending(1, 2), stage)
    assert (ending, set(progress.settled)) == (Ending.STALLED, {ONE})
    assert stage.seconds == 60.5


def test_it_goes_on_while_a_message_is_on_the_queue_until_the_time_is_over() -> None:
    stage = OperatedStage(steps=[[written(2, Outcome.FAILED, Reason.NOT_READY)]], queued=1)
    _, ending, looks = followed(sending(1, 2), stage, timeout=600)
    assert (ending, looks[-1]) == (Ending.TIMED_OUT, (0, 1, 600))


def test_ctrl_c_ends_the_watching_alone() -> None:
    stage = OperatedStage(steps=[[written(1)], KeyboardInterrupt()])
    progress, ending, _ = followed(sending(1, 2), stage)
    assert (ending, set(progress.settled)) == (Ending.INTERRUPTED, {ONE})


def test_the_more_there_is_to_read_the_longer_are_the_pauses() -> None:
    every = range(1, 700)
    stage = OperatedStage(steps=[[written(number) for number in every if number > 300], [*map(written, every)]])
    *_, looks = followed(sending(*every), stage)
    assert [seconds for *_, seconds in looks] == [0, 5, 5.5]


def printed(progress: Iterable[Progress], *, terminal: bool) -> str:
    out = io.StringIO()
    with shown(Console(file=out, force_terminal=terminal, width=100)) as show:
        for each in progress:
            show(each)
    return out.getvalue()


def four_looks() -> tuple[Progress, ...]:
    return (
        Progress(total=3),
        Progress(total=3, settled={TWO: written(2, change=Change.CREATED)}),
        Progress(
            total=3,
            settled={TWO: written(2, change=Change.CREATED)},
            waiting={ONE: written(1, Outcome.FAILED, Reason.NOT_READY)},
        ),
        Progress(
            total=3,
            settled={
                TWO: written(2, change=Change.CREATED),
                ONE: written(1),
                THREE: written(3, Outcome.FAILED, Reason.QUOTA, name="a\nb[red]\x1b[31m"),
            },
        ),
    )


def test_piped_it_prints_plain_lines_as_accounts_settle() -> None:
    assert printed(four_looks(), terminal=False).splitlines() == [
        "000000000002 Account 2 enrolled, role created",
        "1 of 3 settled: 1 enrolled",
        "000000000001 Account 1 waiting not_ready: it is retried",
        "1 of 3 settled: 1 enrolled, 1 waiting (not_ready)",
        "000000000001 Account 1 enrolled",
        "000000000003 a\\nb[red]\\x1b[31m failed quota",
        "3 of 3 settled: 2 enrolled, 1 failed",
    ]


def test_on_a_terminal_a_bar_moves() -> None:
    shown_bars = printed(four_looks(), terminal=True)
    for part in ("0/3", "1/3", "3/3", "━", "1 waiting (not_ready)", "2 enrolled, 1 failed", "\x1b["):
        assert part in shown_bars
    assert "Account" not in shown_bars


def summary(sent: Sent, progress: Progress, ending: Ending) -> list[str]:
    return [line.plain for line in summary_lines(sent, progress, ending)]


def test_the_summary_tells_outcomes_reasons_and_what_to_do() -> None:
    progress = replace(four_looks()[-1], seconds=7.4)
    progress.settled[THREE] = replace(progress.settled[THREE], error="roles:\n1000", name=None)
    assert summary(sending(1, 2, 3), progress, Ending.SETTLED) == [
        "3 of 3 accounts settled in 7 s; roles: 1 created",
        "      2 enrolled",
        "      1 failed quota",
        "        000000000003: roles:\\n1000",
        f"        → {REMEDY[Reason.QUOTA]}",
    ]


def test_the_summary_names_a_few_accounts_of_a_failure() -> None:
    settled = {numbered(each): written(each, Outcome.FAILED, Reason.QUOTA, error="full") for each in range(1, 9)}
    lines = summary(sending(*range(1, 9)), Progress(total=8, settled=settled), Ending.SETTLED)
    assert lines[1] == "      8 failed quota"
    assert lines[2:8] == [
        *(f"        {numbered(each)} Account {each}: full" for each in range(1, 6)),
        "        and 3 more",
    ]


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        (Ending.INTERRUPTED, "Stopped watching, 2 to go. The work goes on"),
        (Ending.TIMED_OUT, "Stopped watching after 60 s, 2 to go. The work goes on"),
        (Ending.STALLED, "2 never settled, and nothing is left on the queues."),
    ],
)
def test_the_summary_says_what_is_still_to_come(ending: Ending, says: str) -> None:
    lines = summary(sending(1, 2, 3), replace(four_looks()[2], seconds=60), ending)
    assert lines[0] == "1 of 3 accounts settled in 60 s; roles: 1 created"
    assert lines[2:5] == [
        "not settled:",
        "      1 failed not_ready",
        "        000000000001 Account 1: no error",
    ]
    assert lines[-1].startswith(says)


def test_a_role_that_is_left_of_a_retired_account_is_told() -> None:
    left = written(1, Outcome.RETIRED, Reason.RETIRED_BY_REQUEST, role_arn="arn", error="denied")
    lines = summary(sending(1, leaving=True), Progress(total=1, settled={ONE: left}), Ending.SETTLED)
    assert lines[1:3] == ["      1 retired retired_by_request", "        000000000001 Account 1: denied"]


def test_pending_accounts_are_shown_with_their_reason() -> None:
    progress = Progress(
        total=3,
        settled={ONE: pending(1), THREE: written(3)},
        waiting={TWO: written(2, Outcome.RETIRED, Reason.RETIRED_BY_REQUEST, role_arn="arn", error=ROLE_KEPT)},
    )
    unknown, blocked = printed([progress], terminal=False), printed([replace(progress, blocked=FULL)], terminal=False)
    assert unknown.splitlines() == [
        "000000000001 Account 1 pending source_policy_pending",
        "000000000003 Account 3 enrolled",
        "000000000002 Account 2 pending source_policy_pending",
        "2 of 3 settled: 1 enrolled, 1 pending, 1 waiting (source_policy_pending)",
    ]
    assert blocked.splitlines()[0] == "000000000001 Account 1 pending quota"


def test_summary_of_pending_accounts_says_what_blocks_them() -> None:
    progress = Progress(total=2, settled={ONE: pending(1), TWO: written(2)}, blocked=FULL)
    assert summary(sending(1, 2), progress, Ending.SETTLED)[1:] == [
        "      1 enrolled",
        "      1 pending quota",
        "        publishing is blocked: the source policy\\nis full",
        f"        → {REMEDY[Reason.QUOTA]}",
    ]
