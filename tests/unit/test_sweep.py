"""Sweeps and dry runs: what they select, send and return, in organizations of any size."""

import json
import tracemalloc
from collections.abc import Iterator
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
from tests.unit.ledger_rows import NOW, SHARD, failed, numbered, row
from tests.unit.sweep_fakes import FAR, FakeAws, preview_of, recorded, sweep_of

ALL = Request(accounts=Selection.ALL)
FAILED = Request(accounts=Selection.FAILED)
SCHEDULED = Request(accounts=Selection.FAILED, scheduled=True)

RETRYABLE = (Reason.NOT_READY, Reason.THROTTLED, Reason.SOURCE_POLICY_PENDING, Reason.UNEXPECTED)
TERMINAL = (Reason.NO_ACCESS_ROLE, Reason.SCP_DENIED, Reason.RCP_DENIED, Reason.FOREIGN_ROLE, Reason.QUOTA)


@pytest.fixture(autouse=True)
def _no_metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Rolecall")
    yield
    metrics.clear_metrics()


# --- Size -------------------------------------------------------------------------------------------------------------


def _peak(accounts: int) -> int:
    aws = FakeAws(map(numbered, range(1, accounts + 1)))
    aws.keeps_messages = False
    sweep = sweep_of(aws)
    tracemalloc.start()
    try:
        counts = sweep.backfill(ALL, deadline=FAR)["counts"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (counts["listed"], counts["sent"], counts["eligible"]) == (accounts, accounts, accounts)
    return peak


def test_sweep_keeps_less_than_200_bytes_per_account() -> None:
    _peak(100)  # objects of the first use

    assert (_peak(5_000) - _peak(1_000)) / 4_000 < 200


def test_accounts_are_sent_during_the_listing() -> None:
    aws = FakeAws(map(numbered, range(1, 5_001)))

    sweep_of(aws).backfill(ALL, deadline=FAR)

    assert aws.sent == [numbered(number) for number in range(1, 5_001)]
    assert aws.listed_at_first_send is not None
    assert aws.listed_at_first_send <= 100


@pytest.mark.parametrize("limit", ["size", "time"])
def test_dry_run_is_continued_by_its_next_request(limit: str) -> None:
    accounts = [numbered(number) for number in range(1, 41)]
    request: dict[str, object] | None = {"dry_run": True}
    shown: list[str] = []
    responses = 0

    while request is not None:
        aws = FakeAws(reversed(accounts))
        # Each account takes a second.
        deadline = aws.clock + (35 if limit == "time" else 600)
        if limit == "size":
            aws.actions = [{"action": "CreateRole", "before": None, "after": "x" * 600_000}]
        response = sweep_of(aws).backfill(read_request(request, Selection.ALL), deadline=deadline)
        assert len(json.dumps(response)) < 6_000_000
        assert response["counts"]["selected"] == 40
        assert aws.sent == []
        shown += [account["account_id"] for account in response["accounts"]]
        request = response["next"]
        responses += 1

    assert shown == accounts
    assert 5 <= responses <= 10


# --- Rerun ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", TERMINAL)
@pytest.mark.parametrize(("attempts", "spacing"), [(1, 1), (2, 2), (8, 128), (9, 168), (10_000, 168)])
def test_only_a_scheduled_rerun_backs_off(reason: Reason, attempts: int, spacing: int) -> None:
    hours = timedelta(hours=spacing)
    early = failed(1, reason, attempts=attempts, ago=hours - timedelta(seconds=1))
    due = failed(2, reason, attempts=attempts, ago=hours)
    by_schedule, by_hand = FakeAws(rows=[early, due]), FakeAws(rows=[early, due])

    sweep_of(by_schedule).rerun(SCHEDULED, deadline=FAR)
    sweep_of(by_hand).rerun(FAILED, deadline=FAR)

    assert by_schedule.sent == [due.account_id]
    assert by_hand.sent == [early.account_id, due.account_id]


@pytest.mark.parametrize("reason", TERMINAL)
def test_changed_control_policies_make_their_denials_due(reason: Reason) -> None:
    """An account that was tried soon after the change is tried again: the change may not have been in effect yet."""
    before, soon_after = (failed(number, reason, attempts=20, ago=timedelta(hours=number)) for number in (2, 1))
    later = failed(3, reason, attempts=20, ago=timedelta(minutes=40))
    aws = FakeAws(rows=[before, soon_after, later])
    changed = Control(control_policies_changed_at=NOW - timedelta(minutes=65))
    aws.records = replace(aws.records, control=changed)

    sweep_of(aws).rerun(SCHEDULED, deadline=FAR)

    is_denial = reason in {Reason.SCP_DENIED, Reason.RCP_DENIED}
    assert sorted(aws.sent) == (sorted({before.account_id, soon_after.account_id}) if is_denial else [])


@pytest.mark.parametrize("reason", RETRYABLE)
@pytest.mark.parametrize("request_", [FAILED, SCHEDULED, Request(accounts=(numbered(1), numbered(2)))])
def test_account_is_not_rerun_while_the_queue_retries_it(reason: Reason, request_: Request) -> None:
    retry_pending = failed(1, reason, ago=timedelta(hours=6), attempts=20)
    lost = failed(2, reason, ago=timedelta(hours=6, seconds=1), attempts=20)
    aws = FakeAws(rows=[retry_pending, lost])

    response = sweep_of(aws).rerun(request_, deadline=FAR)

    assert aws.sent == [lost.account_id]
    assert response["counts"]["sent"] == 1


@pytest.mark.parametrize("accounts", [*Selection, tuple(numbered(number) for number in range(1, 7))])
def test_only_failed_accounts_are_rerun(accounts: Selection | tuple[str, ...]) -> None:
    day = timedelta(days=1)
    others = [
        row(numbered(1)),
        row(numbered(2), Outcome.SKIPPED, reason=Reason.EXCLUDED),
        row(numbered(3), Outcome.RETIRED, reason=Reason.RETIRED_BY_REQUEST),
    ]
    aws = FakeAws(rows=[*others, failed(4, Reason.QUOTA, ago=day), failed(5, Reason.FOREIGN_ROLE, ago=day)])
    aws.is_redriving = True

    response = sweep_of(aws).rerun(Request(accounts=accounts), deadline=FAR)  # type: ignore[arg-type]

    assert aws.sent == [numbered(4), numbered(5)]
    assert response["counts"] == {"sent": 2, "redrive_started": False}
    assert aws.publish.redriven
    assert aws.publish.sent == 1


def test_failed_accounts_are_rerun_by_reason() -> None:
    aws = FakeAws(rows=[failed(number, reason, ago=timedelta(days=1)) for number, reason in enumerate(TERMINAL)])
    reasons = frozenset(TERMINAL[1:3])

    sweep_of(aws).rerun(Request(accounts=Selection.ALL, reasons=reasons), deadline=FAR)

    assert aws.sent == [numbered(1), numbered(2)]


def test_rerun_by_organizational_unit_is_rejected() -> None:
    aws = FakeAws(rows=[failed(1, Reason.QUOTA, ago=timedelta(days=1))])

    with pytest.raises(RequestError, match="rerun can't select by OU"):
        sweep_of(aws).rerun(Request(accounts=Selection.ALL, ous=frozenset({"ou-ab12-11111111"})), deadline=FAR)

    assert aws.sent == []


# --- Deferred retirements ----------------------------------------------------------------------------------------------


@given(enrolled=st.integers(1, 60), missing=st.integers(0, 60), percent=st.integers(0, 100), force=st.booleans())
def test_too_many_retirements_are_deferred(enrolled: int, missing: int, percent: int, force: bool) -> None:
    missing = min(missing, enrolled)
    rows = [row(numbered(number)) for number in range(1, enrolled + 1)]
    aws = FakeAws((each.account_id for each in rows[missing:]), rows)
    allowed = missing <= max(2, enrolled * percent / 100)

    counts = sweep_of(aws, settings(MAX_RETIRED_PERCENT=str(percent))).backfill(
        Request(accounts=Selection.ALL, force=force), deadline=FAR
    )["counts"]

    retired = {each.account_id for each in rows[:missing]}
    assert set(aws.sent) == {each.account_id for each in rows} - (set() if allowed or force else retired)
    assert counts["deferred"] == (0 if allowed or force else missing)


@given(orphaned=st.integers(0, 30), granted=st.integers(0, 30))
def test_orphaned_accounts_count_as_retirements(orphaned: int, granted: int) -> None:
    members = [numbered(number) for number in range(1, granted + 1)]
    others = [numbered(number) for number in range(101, 101 + orphaned)]
    aws = FakeAws(members, [row(each) for each in members], recorded([*members, *others]))

    counts = sweep_of(aws).backfill(ALL, deadline=FAR)["counts"]

    allowed = orphaned <= max(2, (granted + orphaned) // 5)
    assert aws.sent == members + (others if allowed else [])
    assert counts["deferred"] == (0 if allowed else orphaned)


# --- Requests to publish ----------------------------------------------------------------------------------------------


def test_backfill_ends_an_uninstall_and_requests_publishing() -> None:
    for control in (Control(uninstalling=True), Control(uninstalling=True, uninstalled=True)):
        aws = FakeAws([numbered(1)], records=recorded(control=control))

        sweep_of(aws).backfill(ALL, deadline=FAR)

        assert aws.control == Control()
        assert aws.publish.sent == 1
        assert aws.sent == [numbered(1)]


def test_backfill_of_account_ids_lifts_their_retirements() -> None:
    aws = FakeAws(rows=[row(numbered(1), retirement_requested_at=NOW.isoformat())])

    response = sweep_of(aws).backfill(Request(accounts=(numbered(1), numbered(2))), deadline=FAR)

    assert aws.read([numbered(1)])[numbered(1)].retirement_requested_at is None
    assert aws.sent == [numbered(1), numbered(2)]
    assert response["counts"] == {"sent": 2}


@pytest.mark.parametrize(
    ("request_", "rows", "verify", "scope"),
    [
        (ALL, [row(numbered(1))], True, Scope.ACCOUNTS),
        (ALL, [], True, None),
        (ALL, [row(numbered(1), access=Access.EXCLUDED)], True, None),
        (ALL, [failed(1, Reason.SCP_DENIED, ago=timedelta(days=1))], True, Scope.ACCOUNTS),
        (Request(accounts=Selection.NEW), [row(numbered(1))], False, Scope.ACCOUNTS),
        (FAILED, [row(numbered(1))], False, None),
        (replace(ALL, ous=frozenset({"ou-ab12-11111111"})), [row(numbered(1))], True, None),
    ],
    ids=["recorded", "no row", "other access", "failed", "new accounts", "failed accounts", "by OU"],
)
def test_resync_requests_a_check_and_records_a_complete_ledger(
    request_: Request, rows: list[Any], verify: bool, scope: Scope | None
) -> None:
    aws = FakeAws([numbered(1)], rows)

    sweep_of(aws).resync(request_, deadline=FAR)

    assert aws.control == Control(
        check_requested_at=NOW, verify_requested_at=NOW if verify else None, scope_recorded=scope
    )
    assert aws.publish.sent == 2


def test_resync_before_the_first_run_has_no_repairs() -> None:
    aws = FakeAws([numbered(1)], records=Records(control=Control(uninstalling=True)))

    response = sweep_of(aws).resync(ALL, deadline=FAR)

    assert (response["source_policy"], response["counts"]["uninstalling"]) == ([], True)


def test_resync_returns_counts_state_and_the_last_repairs() -> None:
    repair = {"policy_name": SHARD, "action": "TagPolicy"}
    before = recorded([numbered(1)], control=Control(uninstalling=False))
    status = before.status and replace(before.status, repairs=(repair,))
    frozen = {0: replace(before.by_index[0], applied=AppliedShard(content=ShardContent(frozen=True)))}
    rows = [row(numbered(1)), row(numbered(2), in_force_since=None), row(numbered(3), Outcome.SKIPPED)]
    aws = FakeAws(map(numbered, (1, 2, 3)), rows, Records(status=status, by_index=frozen))

    response = sweep_of(aws).resync(ALL, deadline=FAR)

    counts = response["counts"]
    assert (counts["eligible"], counts["enrolled"], counts["pending"]) == (3, 1, 1)
    assert (counts["frozen"], counts["uninstalling"]) == (True, False)
    assert response["source_policy"] == [repair]


# --- Planned shards ---------------------------------------------------------------------------------------------------

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
        planned(SHARD, 2, granted=[numbered(4)], revoked=[numbered(2)]),
        planned(f"{SHARD}-2", 0, revoked=[numbered(3)]),
    ]


def test_first_shard_is_planned_before_the_first_run() -> None:
    nothing = Records()

    assert planned_shards(nothing, changed(granted=[1]), settings()) == [planned(SHARD, 1, granted=[numbered(1)])]
    assert planned_shards(nothing, changed(none=[1]), settings()) == []
    assert planned_shards(nothing, changed(granted=[1]), settings(SOURCE_POLICY_SCOPE="organization")) == [
        planned(SHARD, 0)
    ]


def test_planned_shards_contain_their_errors() -> None:
    before = recorded([numbered(1)])
    status = before.status and replace(before.status, blocked=FULL)
    failing = {0: replace(before.by_index[0], error=Problem(Reason.FOREIGN_SOURCE_POLICY, "foreign"))}

    (shown,) = planned_shards(Records(status=before.status, by_index=failing), {}, settings())
    (opened,) = planned_shards(Records(status=status), changed(granted=[1]), settings())

    assert shown["error"] == "foreign"
    assert opened["error"] == "the source policy is full"


def test_planned_shards_count_accounts_without_room() -> None:
    limit = capacity(settings())
    before = recorded(map(numbered, range(1, limit + 1)))
    status = before.status and replace(before.status, room=1)

    (shown,) = planned_shards(
        Records(status=status, by_index=before.by_index), changed(granted=[limit + 1, limit + 2]), settings()
    )

    assert shown["error"] == "no room for 2 accounts"


def test_scope_organization_plans_no_revocation() -> None:
    organization = AppliedShard(content=ShardContent(scope=Scope.ORGANIZATION))
    first = ShardRecord(name=SHARD, applied=organization)
    second = recorded([], [numbered(1)]).by_index[1]
    records = Records(status=recorded([], []).status, by_index={0: first, 1: second})

    assert planned_shards(records, {}, settings()) == [planned(SHARD, 0), planned(f"{SHARD}-2", 0)]


# --- Dry runs ---------------------------------------------------------------------------------------------------------


def test_dry_run_rejects_newcomers_while_publishing_is_blocked() -> None:
    before = recorded([numbered(1)])
    status = before.status and replace(before.status, blocked=FULL)
    aws = FakeAws(map(numbered, (1, 2)), [row(numbered(1))], replace(before, status=status))

    response = sweep_of(aws).backfill(replace(ALL, dry_run=True), deadline=FAR)

    assert [each["reason"] for each in response["accounts"]] == [None, Reason.QUOTA]
    assert aws.sent == []
    assert aws.publish.sent == 0


def test_dry_run_of_a_retirement_contains_the_changed_shards() -> None:
    aws = FakeAws([numbered(1)], [row(numbered(1))])

    request_ = Request(accounts=(numbered(1),), dry_run=True)
    response = preview_of(aws).plan(request_, [(numbered(1), None)], deadline=FAR, retiring=True)

    assert [each["outcome"] for each in response["accounts"]] == [Outcome.RETIRED]
    assert [each["revoked"] for each in response["source_policy"]] == [[numbered(1)]]
    assert aws.read([numbered(1)])[numbered(1)].retirement_requested_at is None


def test_dry_run_of_a_backfill_ignores_a_requested_retirement() -> None:
    aws = FakeAws(rows=[row(numbered(1), retirement_requested_at=NOW.isoformat())])

    response = sweep_of(aws).backfill(Request(accounts=(numbered(1),), dry_run=True), deadline=FAR)

    assert [each["outcome"] for each in response["accounts"]] == [Outcome.ENROLLED]


def test_remaining_roles_are_returned_in_several_responses() -> None:
    rows = [replace(row(numbered(number)), name="Account") for number in range(1, 41)]
    found: list[str] = []
    after, responses = "", 0
    while responses == 0 or after:
        aws = FakeAws(rows=rows)
        aws.actions = [{"action": "DeleteRole", "before": "x" * 600_000, "after": None}]
        accounts, after = preview_of(aws).find_roles(after, deadline=aws.clock + 600)
        assert len(json.dumps(accounts)) < 6_000_000
        found += [each["account_id"] for each in accounts]
        responses += 1

    assert found == [each.account_id for each in rows]


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (ALL, 1),
        (Request(accounts=Selection.NEW), 1),
        (Request(accounts=Selection.ALL, ous=frozenset({"ou-ab12-11111111"})), 3),
        (Request(accounts=(numbered(1), numbered(2), numbered(3))), 3),
        (FAILED, 0),
    ],
    ids=["all", "new", "by OU", "by id", "failed"],
)
def test_waves_are_of_sweeps_of_the_whole_organization(request_: Request, sent: int) -> None:
    """An operator who names accounts or organizational units has chosen the wave."""
    accounts = [numbered(number) for number in (1, 2, 3)]
    aws = FakeAws(accounts, [row(each, fingerprint="former") for each in accounts])
    in_waves = settings(THREADS="1", ROLLOUT_PERCENT="34")

    planned = sweep_of(aws, in_waves).backfill(replace(request_, dry_run=True), deadline=FAR)
    sweep_of(aws, in_waves).backfill(request_, deadline=FAR)

    assert aws.rolled_out == accounts[3 - sent :]
    assert len(aws.sent) == len(set(aws.sent))
    assert planned["counts"]["selected"] == sent
