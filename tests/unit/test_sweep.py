"""What a sweep selects, keeps and answers, however large the organization is."""

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import Access, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason, RequestError
from chalicelib.requests import Request, Selection, read_request
from chalicelib.settings import Scope
from chalicelib.source_policy.documents import capacity
from chalicelib.source_policy.records import AppliedShard, Control, Problem, Records, ShardContent, ShardRecord
from chalicelib.sweep.preview import planned_shards
from chalicelib.telemetry import metrics
from tests.unit.builders import settings
from tests.unit.sweeping import FAR, NOW, World, failed, numbered, preview_of, recorded, row, sweep_of

EVERY = Request(accounts=Selection.ALL)
FAILED = Request(accounts=Selection.FAILED)
SCHEDULED = Request(accounts=Selection.FAILED, scheduled=True)

STILL_RETRIED = (Reason.NOT_READY, Reason.THROTTLED, Reason.SOURCE_POLICY_PENDING, Reason.UNEXPECTED)
GIVEN_UP = (Reason.NO_ACCESS_ROLE, Reason.SCP_DENIED, Reason.FOREIGN_ROLE, Reason.QUOTA)


@pytest.fixture(autouse=True)
def _no_metrics_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Rolecall")
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
def test_a_dry_run_fits_lambdas_limits_and_the_next_request_continues_it(limit: str) -> None:
    everyone = [numbered(number) for number in range(1, 41)]
    asked: dict[str, object] | None = {"dry_run": True}
    shown: list[str] = []
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
        shown += [account["account_id"] for account in answer["accounts"]]
        asked = answer["next"]
        answers += 1

    assert shown == everyone
    assert 5 <= answers <= 10


# --- Rerun ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", GIVEN_UP)
@pytest.mark.parametrize(
    ("attempts", "spacing"),
    [(1, 1), (2, 2), (3, 4), (4, 8), (8, 128), (9, 168), (10_000, 168)],
)
def test_a_schedule_backs_off_for_hours_and_an_operators_rerun_does_not(
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
def test_an_account_whose_message_is_still_retried_is_not_sent_again(reason: Reason, request_: Request) -> None:
    retry_pending = failed(1, reason, ago=timedelta(hours=6), attempts=20)
    lost = failed(2, reason, ago=timedelta(hours=6, seconds=1), attempts=20)
    world = World(rows=[retry_pending, lost])

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
    assert world.publish.redriven
    assert world.publish.asked == 1


def test_failures_are_rerun_by_their_reasons() -> None:
    world = World(rows=[failed(number, reason, ago=timedelta(days=1)) for number, reason in enumerate(GIVEN_UP)])
    reasons = frozenset(GIVEN_UP[1:3])

    sweep_of(world).rerun(Request(accounts=Selection.ALL, reasons=reasons), deadline=FAR)

    assert world.sent == [numbered(1), numbered(2)]


def test_failures_are_not_rerun_by_organizational_unit() -> None:
    world = World(rows=[failed(1, Reason.QUOTA, ago=timedelta(days=1))])

    with pytest.raises(RequestError, match="rerun can't select by OU"):
        sweep_of(world).rerun(Request(accounts=Selection.ALL, ous=frozenset({"ou-ab12-11111111"})), deadline=FAR)

    assert world.sent == []


# --- Retirements held back --------------------------------------------------------------------------------------------


@given(enrolled=st.integers(1, 60), gone=st.integers(0, 60), percent=st.integers(0, 100), force=st.booleans())
def test_no_account_is_retired_where_more_than_the_allowed_share_is_gone(
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
    assert counts["deferred"] == (0 if allowed or force else gone)


def test_leftovers_are_returned_in_answers_that_fit_lambdas_limits() -> None:
    rows = [replace(row(numbered(number)), name="Account") for number in range(1, 41)]
    found: list[str] = []
    after, answers = "", 0
    while answers == 0 or after:
        world = World(rows=rows)
        world.steps = [{"action": "DeleteRole", "before": "x" * 600_000, "after": None}]
        looked_at, after = preview_of(world).find_roles(after, deadline=world.clock + 600)
        assert len(json.dumps(looked_at)) < 6_000_000
        found += [each["account_id"] for each in looked_at]
        answers += 1

    assert found == [each.account_id for each in rows]


@given(orphaned=st.integers(0, 30), granted=st.integers(0, 30))
def test_orphaned_accounts_in_the_source_policy_count_as_retirements(orphaned: int, granted: int) -> None:
    members = [numbered(number) for number in range(1, granted + 1)]
    others = [numbered(number) for number in range(101, 101 + orphaned)]
    world = World(members, [row(each) for each in members], recorded([*members, *others]))

    counts = sweep_of(world).backfill(EVERY, deadline=FAR)["counts"]

    allowed = orphaned <= max(2, (granted + orphaned) // 5)
    assert world.sent == members + (others if allowed else [])
    assert counts["deferred"] == (0 if allowed else orphaned)


# --- What a sweep asks of publish -------------------------------------------------------------------------------------


def test_a_backfill_lifts_an_uninstall_and_starts_a_run() -> None:
    for control in (Control(uninstalling=True), Control(uninstalling=True, uninstalled=True)):
        world = World([numbered(1)], records=recorded(control=control))

        sweep_of(world).backfill(EVERY, deadline=FAR)

        assert world.control == Control()
        assert world.publish.asked == 1
        assert world.sent == [numbered(1)]


def test_a_backfill_of_named_accounts_lifts_their_retirements() -> None:
    marked = row(numbered(1), retirement_requested_at=NOW.isoformat())
    world = World(rows=[marked])

    answer = sweep_of(world).backfill(Request(accounts=(numbered(1), numbered(2))), deadline=FAR)

    assert world.read([numbered(1)])[numbered(1)].retirement_requested_at is None
    assert world.sent == [numbered(1), numbered(2)]
    assert answer["counts"] == {"sent": 2}


@pytest.mark.parametrize(
    ("request_", "rows", "verify", "scope"),
    [
        (EVERY, [row(numbered(1))], True, Scope.ACCOUNTS),
        (EVERY, [], True, None),
        (EVERY, [row(numbered(1), access=Access.EXCLUDED)], True, None),
        (EVERY, [failed(1, Reason.SCP_DENIED, ago=timedelta(days=1))], True, Scope.ACCOUNTS),
        (Request(accounts=Selection.NEW), [row(numbered(1))], False, Scope.ACCOUNTS),
        (FAILED, [row(numbered(1))], False, None),
        (replace(EVERY, ous=frozenset({"ou-ab12-11111111"})), [row(numbered(1))], True, None),
    ],
    ids=["recorded", "no row", "another access", "a failure", "new accounts", "failed accounts", "a unit"],
)
def test_a_resync_asks_for_a_check_and_says_whether_all_rows_are_there(
    request_: Request, rows: list[Any], verify: bool, scope: Scope | None
) -> None:
    world = World([numbered(1)], rows)

    sweep_of(world).resync(request_, deadline=FAR)

    assert world.control == Control(
        check_requested_at=NOW, verify_requested_at=NOW if verify else None, scope_recorded=scope
    )
    assert world.publish.asked == 2


def test_a_resync_returns_its_counts_the_state_and_the_last_repairs() -> None:
    repair = {"policy_name": "CrossAccountReadOnlyAccess", "action": "TagPolicy"}
    before = recorded([numbered(1)], control=Control(uninstalling=False))
    status = before.status and replace(before.status, repairs=(repair,))
    frozen = {0: replace(before.by_index[0], applied=AppliedShard(content=ShardContent(frozen=True)))}
    rows = [row(numbered(1)), row(numbered(2), in_force_since=None), row(numbered(3), Outcome.SKIPPED)]
    world = World(map(numbered, (1, 2, 3)), rows, Records(status=status, by_index=frozen))

    answer = sweep_of(world).resync(EVERY, deadline=FAR)

    counts = answer["counts"]
    assert (counts["eligible"], counts["enrolled"], counts["pending"]) == (3, 1, 1)
    assert (counts["frozen"], counts["uninstalling"]) == (True, False)
    assert answer["source_policy"] == [repair]


def test_a_resync_before_the_first_run_has_no_repairs() -> None:
    world = World([numbered(1)], records=Records(control=Control(uninstalling=True)))

    answer = sweep_of(world).resync(EVERY, deadline=FAR)

    assert answer["source_policy"] == []
    assert answer["counts"]["uninstalling"] is True


# --- Planned shards ---------------------------------------------------------------------------------------------------

NAME = "CrossAccountReadOnlyAccess"
FULL = Problem(Reason.QUOTA, "the source policy is full")


def changed(**accesses: list[int]) -> dict[Access, set[AccountId]]:
    return {Access(access): set(map(numbered, numbers)) for access, numbers in accesses.items()}


def planned(name: str, accounts: int, **more: Any) -> dict[str, Any]:
    nothing = {"capacity": capacity(settings()), "granted": [], "revoked": [], "error": None}
    return {"policy_name": name, "accounts": accounts} | nothing | more


def test_planned_shards_are_those_that_publish_would_write() -> None:
    records = recorded(map(numbered, (1, 2)), [numbered(3)])

    shown = planned_shards(records, changed(granted=[1, 4], none=[2], excluded=[3]), settings())

    assert shown == [
        planned(NAME, 2, granted=[numbered(4)], revoked=[numbered(2)]),
        planned(f"{NAME}-2", 0, revoked=[numbered(3)]),
    ]


def test_before_the_first_run_the_first_shard_is_planned() -> None:
    nothing = Records()

    assert planned_shards(nothing, changed(granted=[1]), settings()) == [planned(NAME, 1, granted=[numbered(1)])]
    assert planned_shards(nothing, changed(none=[1]), settings()) == []
    assert planned_shards(nothing, changed(granted=[1]), settings(SOURCE_POLICY_SCOPE="organization")) == [
        planned(NAME, 0)
    ]


def test_planned_shards_show_what_keeps_them_from_being_written() -> None:
    before = recorded([numbered(1)])
    status = before.status and replace(before.status, blocked=FULL)
    failing = {0: replace(before.by_index[0], error=Problem(Reason.FOREIGN_SOURCE_POLICY, "foreign"))}

    (shown,) = planned_shards(Records(status=before.status, by_index=failing), {}, settings())
    (opened,) = planned_shards(Records(status=status), changed(granted=[1]), settings())

    assert shown["error"] == "foreign"
    assert opened["error"] == "the source policy is full"


def test_planned_shards_show_how_many_accounts_find_no_room() -> None:
    limit = capacity(settings())
    before = recorded(map(numbered, range(1, limit + 1)))
    status = before.status and replace(before.status, room=1)

    (shown,) = planned_shards(
        Records(status=status, by_index=before.by_index), changed(granted=[limit + 1, limit + 2]), settings()
    )

    assert shown["error"] == "2 accounts find no room"


def test_in_scope_organization_no_account_is_planned_to_be_revoked() -> None:
    organization = AppliedShard(content=ShardContent(scope=Scope.ORGANIZATION))
    first = ShardRecord(name=NAME, applied=organization)
    second = recorded([], [numbered(1)]).by_index[1]
    records = Records(status=recorded([], []).status, by_index={0: first, 1: second})

    assert planned_shards(records, {}, settings()) == [planned(NAME, 0), planned(f"{NAME}-2", 0)]


# --- Dry runs ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_refuses_newcomers_of_a_blocked_source_policy() -> None:
    before = recorded([numbered(1)])
    status = before.status and replace(before.status, blocked=FULL)
    world = World(map(numbered, (1, 2)), [row(numbered(1))], replace(before, status=status))

    answer = sweep_of(world).backfill(replace(EVERY, dry_run=True), deadline=FAR)

    assert [each["reason"] for each in answer["accounts"]] == [None, Reason.QUOTA]
    assert world.sent == []
    assert world.publish.asked == 0


def test_a_retirement_is_planned_with_the_shards_it_changes() -> None:
    world = World([numbered(1)], [row(numbered(1))])

    request_ = Request(accounts=(numbered(1),), dry_run=True)
    answer = preview_of(world).plan(request_, [(numbered(1), None)], deadline=FAR, retiring=True)

    assert [each["outcome"] for each in answer["accounts"]] == [Outcome.RETIRED]
    assert [each["revoked"] for each in answer["source_policy"]] == [[numbered(1)]]
    assert world.read([numbered(1)])[numbered(1)].retirement_requested_at is None


def test_a_backfill_of_a_retired_account_is_planned_as_if_it_were_lifted() -> None:
    world = World(rows=[row(numbered(1), retirement_requested_at=NOW.isoformat())])

    answer = sweep_of(world).backfill(Request(accounts=(numbered(1),), dry_run=True), deadline=FAR)

    assert [each["outcome"] for each in answer["accounts"]] == [Outcome.ENROLLED]
