"""What a sweep selects, keeps and answers, however large the organization is."""

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import Outcome
from chalicelib.errors import Reason, RequestError
from chalicelib.requests import Request, Selection, read_request
from chalicelib.telemetry import metrics
from tests.unit.builders import settings
from tests.unit.sweeping import FAR, World, failed, numbered, row, sweep_of

EVERY = Request(accounts=Selection.ALL)
FAILED = Request(accounts=Selection.FAILED)
SCHEDULED = Request(accounts=Selection.FAILED, scheduled=True)

STILL_RETRIED = (Reason.NOT_READY, Reason.THROTTLED, Reason.SOURCE_POLICY_PENDING, Reason.UNEXPECTED)
GIVEN_UP = (Reason.NO_ACCESS_ROLE, Reason.SCP_DENIED, Reason.FOREIGN_ROLE, Reason.QUOTA)


@pytest.fixture(autouse=True)
def _no_metrics_left() -> Iterator[None]:
    yield
    metrics.clear_metrics()


# --- Size -------------------------------------------------------------------------------------------------------------


@contextmanager
def _traced() -> Iterator[list[int]]:
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _peak(accounts: int) -> int:
    world = World(map(numbered, range(1, accounts + 1)))
    world.keeps = False
    sweep = sweep_of(world)
    with _traced() as peak:
        counts = sweep.backfill(EVERY, deadline=FAR)["counts"]
    assert (counts["listed"], counts["sent"], counts["eligible"]) == (accounts, accounts, accounts)
    return peak[0]


def test_a_sweep_keeps_less_than_two_hundred_bytes_of_an_account() -> None:
    _peak(100)  # what is made on first use

    assert (_peak(5_000) - _peak(1_000)) / 4_000 < 200


def test_five_thousand_accounts_are_sent_while_the_listing_goes_on() -> None:
    world = World(map(numbered, range(1, 5_001)))

    sweep_of(world).backfill(EVERY, deadline=FAR)

    assert world.sent == [numbered(number) for number in range(1, 5_001)]
    assert world.first_sent_after is not None
    assert world.first_sent_after <= 100


@pytest.mark.parametrize("limit", ["size", "time"])
def test_a_dry_run_stays_within_lambdas_limits_and_the_next_request_continues_it(limit: str) -> None:
    everyone = [numbered(number) for number in range(1, 41)]
    asked: dict[str, object] | None = {"dry_run": True}
    told: list[str] = []
    answers = 0

    while asked is not None:
        world = World(reversed(everyone))
        # Each account takes a second.
        deadline = world.clock + (35 if limit == "time" else 600)
        if limit == "size":
            world.steps = [{"action": "CreateRole", "before": None, "after": "x" * 600_000}]
        answer = sweep_of(world).backfill(read_request(asked, Selection.ALL), deadline=deadline)
        assert len(json.dumps(answer)) < 6_000_000
        assert answer["counts"]["selected"] == 40
        assert world.sent == []
        told += [account["account_id"] for account in answer["accounts"]]
        asked = answer["next"]
        answers += 1

    assert told == everyone
    assert 5 <= answers <= 10


# --- Rerun ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", GIVEN_UP)
@pytest.mark.parametrize(
    ("attempts", "spacing"),
    [(1, 1), (2, 2), (3, 4), (4, 8), (8, 128), (9, 168), (10_000, 168)],
)
def test_a_schedule_leaves_growing_spaces_of_hours_that_an_operator_needs_not_wait_for(
    reason: Reason, attempts: int, spacing: int
) -> None:
    hours = timedelta(hours=spacing)
    early = failed(1, reason, attempts=attempts, ago=hours - timedelta(seconds=1))
    due = failed(2, reason, attempts=attempts, ago=hours)
    by_schedule, by_hand = World(rows=[early, due]), World(rows=[early, due])

    sweep_of(by_schedule).rerun(SCHEDULED, deadline=FAR)
    sweep_of(by_hand).rerun(FAILED, deadline=FAR)

    assert by_schedule.sent == [due.account_id]
    assert by_hand.sent == [early.account_id, due.account_id]


@pytest.mark.parametrize("reason", STILL_RETRIED)
@pytest.mark.parametrize("request_", [FAILED, SCHEDULED, Request(accounts=(numbered(1), numbered(2)))])
def test_an_account_whose_message_is_still_on_its_way_is_not_sent_again(reason: Reason, request_: Request) -> None:
    on_its_way = failed(1, reason, ago=timedelta(hours=6), attempts=20)
    lost = failed(2, reason, ago=timedelta(hours=6, seconds=1), attempts=20)
    world = World(rows=[on_its_way, lost])

    answer = sweep_of(world).rerun(request_, deadline=FAR)

    assert world.sent == [lost.account_id]
    assert answer["counts"]["sent"] == 1


@pytest.mark.parametrize("accounts", [*Selection, tuple(numbered(number) for number in range(1, 7))])
def test_only_what_failed_is_rerun_whatever_is_asked_for(accounts: Selection | tuple[str, ...]) -> None:
    day = timedelta(days=1)
    others = [
        row(numbered(1)),
        row(numbered(2), Outcome.SKIPPED, reason=Reason.EXCLUDED),
        row(numbered(3), Outcome.RETIRED, reason=Reason.RETIRED_BY_REQUEST),
    ]
    world = World(rows=[*others, failed(4, Reason.QUOTA, ago=day), failed(5, Reason.FOREIGN_ROLE, ago=day)])
    world.moving = True

    answer = sweep_of(world).rerun(Request(accounts=accounts), deadline=FAR)  # type: ignore[arg-type]

    assert world.sent == [numbered(4), numbered(5)]
    assert answer["counts"] == {"sent": 2, "redrive_started": False}


def test_failures_are_rerun_by_their_reasons() -> None:
    world = World(rows=[failed(number, reason, ago=timedelta(days=1)) for number, reason in enumerate(GIVEN_UP)])
    reasons = frozenset(GIVEN_UP[1:3])

    sweep_of(world).rerun(Request(accounts=Selection.ALL, reasons=reasons), deadline=FAR)

    assert world.sent == [numbered(1), numbered(2)]


def test_failures_are_not_rerun_by_organizational_unit() -> None:
    world = World(rows=[failed(1, Reason.QUOTA, ago=timedelta(days=1))])

    with pytest.raises(RequestError, match="rerun knows no OUs"):
        sweep_of(world).rerun(Request(accounts=Selection.ALL, ous=frozenset({"ou-ab12-11111111"})), deadline=FAR)

    assert world.sent == []


# --- Retirements held back --------------------------------------------------------------------------------------------


@given(enrolled=st.integers(1, 60), gone=st.integers(0, 60), percent=st.integers(0, 100), force=st.booleans())
def test_nobody_is_retired_where_more_than_the_allowed_share_is_gone(
    enrolled: int, gone: int, percent: int, force: bool
) -> None:
    gone = min(gone, enrolled)
    rows = [row(numbered(number)) for number in range(1, enrolled + 1)]
    world = World((each.account_id for each in rows[gone:]), rows)
    allowed = gone <= max(2, enrolled * percent / 100)

    counts = sweep_of(world, settings(MAX_RETIRED_PERCENT=str(percent))).backfill(
        Request(accounts=Selection.ALL, force=force), deadline=FAR
    )["counts"]

    retired = {each.account_id for each in rows[:gone]}
    assert set(world.sent) == {each.account_id for each in rows} - (set() if allowed or force else retired)
    assert counts["held_back"] == (0 if allowed or force else gone)


def test_what_is_found_in_the_end_is_told_in_answers_that_lambda_can_give() -> None:
    rows = [replace(row(numbered(number)), name="Account") for number in range(1, 41)]
    found: list[str] = []
    after, answers = "", 0
    while answers == 0 or after:
        world = World(rows=rows)
        world.steps = [{"action": "DeleteRole", "before": "x" * 600_000, "after": None}]
        looked_at, after = sweep_of(world).leftovers(after, deadline=world.clock + 600)
        assert len(json.dumps(looked_at)) < 6_000_000
        found += [each["account_id"] for each in looked_at]
        answers += 1

    assert found == [each.account_id for each in rows]
