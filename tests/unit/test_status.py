"""The status of a stage, computed from what was read of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from chalicelib.accounts import Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Scope
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.reasons import MEANING, REMEDY
from rolecall.source_policy import RESTORE, SourcePolicyState, read_source_policy
from rolecall.stage import Alarm, Queue
from rolecall.status import Coverage, Resync, Status, cover, read_resyncs
from rolecall.status_page import page
from tests.unit.builders import settings
from tests.unit.ledger_rows import SHARD, account, records, row, shard

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C, D, E = (AccountId(str(digit) * 12) for digit in range(1, 6))
READER = "arn:aws:iam::111122223333:role/Reader"
FULL = Problem(Reason.QUOTA, "the source policy is full")
FOREIGN = Problem(Reason.FOREIGN_SOURCE_POLICY, "not ours\x1b[31m")
FOUND: dict[str, Any] = {
    "room": 10,
    "looked_at": NOW - timedelta(hours=1),
    "checked_at": NOW - timedelta(minutes=20),
    "verified_at": NOW - timedelta(days=1),
}
RECORDS = records(shard(A, B, attached=frozenset({READER})), **FOUND)
BEFORE_PUBLISH = Records()


def queue(name: str, visible: int = 0) -> Queue:
    return Queue(name=name, visible=visible, in_flight=0, delayed=0)


def alarm(name: str, state: str = "OK", *, notifies: bool = True) -> Alarm:
    since = NOW - timedelta(hours=2)
    return Alarm(
        name=f"rolecall-dev-{name}", state=state, description=f"What {name} means.", since=since, notifies=notifies
    )


def status_of(found: Records, **more: Any) -> Status:
    """Return the status of a stage where two accounts are enrolled, with other records."""
    return replace(WELL, source_policy=read_source_policy(found, settings()), **more)


def changed(**found: Any) -> Records:
    """Return the records with other findings of publish."""
    assert RECORDS.status is not None
    return replace(RECORDS, status=replace(RECORDS.status, **found))


WELL = Status(
    stage="dev",
    region="us-east-1",
    account_id="999999999999",
    at=NOW,
    coverage=cover([account(A), account(B)], [row(A), row(B)], RECORDS, settings()),
    source_policy=read_source_policy(RECORDS, settings()),
    last_resync=Resync(at=NOW - timedelta(minutes=20), selection="new"),
    last_full_resync=Resync(at=NOW - timedelta(days=1), selection="all"),
    queues=tuple(map(queue, ("accounts", "publish.fifo", "accounts-dlq", "publish-dlq.fifo", "events-dlq"))),
    alarms=(alarm("dead-letters"), alarm("queue-age")),
)


def text(status: Status) -> list[str]:
    console = Console(width=220, color_system=None)
    with console.capture() as captured:
        console.print(page(status))
    return [line.rstrip() for line in captured.get().splitlines()]


# Coverage.


def test_each_listed_account_counts_once() -> None:
    counted = cover(
        [account(A), account(B), account(C), account(D, state="SUSPENDED"), account(E)],
        [row(A), row(B, Outcome.FAILED, reason=Reason.QUOTA), row(D, Outcome.SKIPPED, reason=Reason.SUSPENDED)],
        records(shard(A)),
        settings(EXCLUDE_ACCOUNT_IDS=E),
    )
    assert counted == Coverage(
        listed=5,
        eligible=3,
        enrolled=1,
        pending=0,
        pending_since=None,
        pending_reason=None,
        waiting=1,
        skipped={Reason.EXCLUDED: 1, Reason.SUSPENDED: 1},
        failing={Reason.QUOTA: 1},
        still_granted=(),
    )
    assert counted.percent == pytest.approx(33.3)


@pytest.mark.parametrize(("blocked", "reason"), [(None, Reason.SOURCE_POLICY_PENDING), (FULL, Reason.QUOTA)])
def test_account_whose_access_is_not_in_force_is_pending(blocked: Problem | None, reason: Reason) -> None:
    older, newer = "2026-03-01T09:00:00+00:00", "2026-03-01T10:00:00+00:00"
    rows = [row(A), *(row(each, in_force_since=None, enrolled_at=at) for each, at in ((B, newer), (C, older)))]
    counted = cover(map(account, (A, B, C)), rows, records(shard(A), blocked=blocked), settings())
    assert (counted.enrolled, counted.pending, counted.pending_reason) == (1, 2, reason)
    assert counted.pending_since == datetime(2026, 3, 1, 9, tzinfo=UTC)


def test_retired_account_that_is_eligible_again_waits() -> None:
    counted = cover([account(A)], [row(A, Outcome.RETIRED, reason=Reason.SUSPENDED)], records(shard()), settings())
    assert (counted.eligible, counted.waiting, counted.pending) == (1, 1, 0)


def test_commonest_reason_comes_first() -> None:
    failed = [row(A, Outcome.FAILED, reason=Reason.QUOTA)] + [
        row(each, Outcome.FAILED, reason=Reason.SCP_DENIED) for each in (B, C)
    ]
    counted = cover(map(account, (A, B, C)), failed, records(), settings())
    assert list(counted.failing.items()) == [(Reason.SCP_DENIED, 2), (Reason.QUOTA, 1)]


def test_ineligible_account_that_a_record_or_row_grants_is_still_granted() -> None:
    listed = [account(A), account(B, state="CLOSED"), account(D, state="CLOSED")]
    rows = [row(A), row(B, Outcome.RETIRED), row(D, Outcome.RETIRED, in_force_since="2026-01-01T00:00:00+00:00")]
    counted = cover(listed, rows, records(shard(A, B, C)), settings())
    assert counted.still_granted == (B, C, D)  # closed, departed, and granted by the organization's statement


@pytest.mark.parametrize("control", [Control(uninstalling=True), Control(uninstalled=True)])
def test_while_uninstalling_no_account_is_eligible(control: Control) -> None:
    counted = cover([account(A)], [row(A)], records(shard(A), control=control), settings())
    assert (counted.eligible, dict(counted.skipped), counted.still_granted) == (0, {Reason.UNINSTALLED: 1}, (A,))
    assert counted.percent == 100


def test_percent_is_rounded_down() -> None:
    counted = replace(WELL.coverage, eligible=5000, enrolled=4999)
    assert counted.percent == pytest.approx(99.9)


# The source policy.


def state_of(found: Records, **changes: str) -> SourcePolicyState:
    return read_source_policy(found, settings(**changes))


def test_shard_shows_its_room_and_whether_its_write_is_finished() -> None:
    written = shard(A, B, attached=frozenset({"z", "y"}))
    second = replace(shard(C, name=f"{SHARD}-2"), error=FULL)
    unfinished = replace(second, applying=second.applied)
    state = state_of(records(written, unfinished, ShardRecord(name=f"{SHARD}-3")))
    assert [(each.policy_name, each.accounts, each.unfinished) for each in state.shards] == [
        (SHARD, 2, False),
        (f"{SHARD}-2", 1, True),
        (f"{SHARD}-3", 0, True),
    ]
    assert (state.shards[0].capacity, state.shards[0].attached) == (capacity(settings()), ("y", "z"))
    assert state.shards[1].error == FULL


def test_shard_of_the_whole_organization_shows_its_exclusions() -> None:
    state = state_of(
        records(shard(scope=Scope.ORGANIZATION, excluded=frozenset({A}))), SOURCE_POLICY_SCOPE="organization"
    )
    assert (state.scope, state.problems) == (Scope.ORGANIZATION, ())
    assert (state.shards[0].excluded, state.shards[0].capacity) == (1, exclusion_capacity(settings()))


def test_before_the_first_run_nothing_is_known() -> None:
    state = state_of(BEFORE_PUBLISH)
    assert (state.known, state.room, state.blocked, state.looked_at) == (False, None, None, None)
    assert state.problems == ("the state of the source policy is not known: publish has not run yet",)


def test_after_an_uninstall_there_is_nothing_to_know() -> None:
    state = state_of(Records(control=Control(uninstalling=True, uninstalled=True)))
    assert state.problems == ("everything is uninstalled",)


def test_missing_and_unreadable_records_are_lost() -> None:
    found = replace(records(shard(A), shards=3), unreadable={f"{SHARD}-2": "KeyError: 'accounts'"})
    assert state_of(found).lost == (f"{SHARD}-2", f"{SHARD}-3")


def test_lost_records_have_the_recorded_policy_name() -> None:
    found = records(shards=1, used=settings(SOURCE_POLICY_NAME="Before"))
    assert state_of(found).lost == ("Before",)


def test_shards_without_a_status_mean_that_it_was_lost() -> None:
    state = state_of(Records(by_index={0: shard(A)}))
    assert (state.known, state.lost) == (False, ("#status",))
    assert state.problems == ("records are lost: #status",)


@pytest.mark.parametrize(
    ("asked", "record", "frozen", "in_force"),
    [
        (None, shard(A), False, True),
        (None, shard(A, frozen=True), True, False),
        (True, shard(A), True, False),
        (
            True,
            replace(shard(A, frozen=True, attached=frozenset({READER})), denied_principals=frozenset({READER})),
            True,
            True,
        ),
        (True, shard(A, frozen=True, attached=frozenset({READER})), True, False),  # IAM was not read back yet
        (False, shard(A, frozen=True), False, False),
        (False, shard(A), False, True),
    ],
)
def test_freeze_is_in_force_once_iam_was_read_back(
    *, asked: bool | None, record: ShardRecord, frozen: bool, in_force: bool
) -> None:
    state = state_of(records(record, control=Control(frozen=asked)))
    assert (state.frozen, state.freeze_in_force) == (frozen, in_force)


# Problems and the exit status.


def test_there_is_no_problem_where_every_eligible_account_is_enrolled() -> None:
    assert WELL.problems == ()
    assert WELL.exit_status == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"coverage": replace(WELL.coverage, failing={Reason.QUOTA: 2, Reason.SCP_DENIED: 1})}, "3 accounts failing"),
        (
            {"coverage": replace(WELL.coverage, pending=1, pending_since=NOW, pending_reason=Reason.QUOTA)},
            "1 account pending: quota",
        ),
        ({"coverage": replace(WELL.coverage, waiting=1)}, "1 account waiting to be enrolled"),
        ({"coverage": replace(WELL.coverage, still_granted=(A,))}, "1 account still granted access"),
        ({"queues": (queue("accounts", 9), queue("accounts-dlq", 1))}, "accounts-dlq holds messages"),
        ({"queues": (queue("publish.fifo", 9), queue("publish-dlq.fifo", 1))}, "publish-dlq.fifo holds messages"),
        ({"queues": (queue("events-dlq", 1),)}, "events-dlq holds messages"),
        ({"alarms": (alarm("queue-age", "ALARM"), alarm("rules-failed"))}, "in alarm: queue-age"),
    ],
)
def test_problem_fails_the_command(changes: dict[str, Any], problem: str) -> None:
    status = replace(WELL, **changes)
    assert status.problems == (problem,)
    assert status.exit_status == 1
    assert text(status)[-1] == f"✘ {problem}"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (replace(RECORDS, control=Control(uninstalling=True)), "everything is being uninstalled"),
        (replace(RECORDS, control=Control(frozen=True)), "a freeze was requested and is not in force"),
        (
            records(shard(A, frozen=True), control=Control(frozen=False)),
            "an unfreeze was requested and is not in force",
        ),
        (changed(blocked=FULL), "publishing is blocked: quota: the source policy is full"),
        (records(replace(shard(A), error=FULL)), f"{SHARD}: the source policy is full"),
        (records(ShardRecord(name=SHARD)), f"{SHARD} is not written completely"),
        (changed(shards=2), f"records are lost: {SHARD}-2"),
        (changed(scope=Problem(Reason.QUOTA, "no room for 3 accounts")), "no room for 3 accounts"),
        (
            records(shard(scope=Scope.ORGANIZATION)),
            "the source policy has scope organization: the next resync changes it to accounts",
        ),
    ],
)
def test_problem_of_the_source_policy_fails_the_command(found: Records, problem: str) -> None:
    status = status_of(found)
    assert status.problems == (problem,)
    assert text(status)[-1] == f"✘ {problem}"


@pytest.mark.parametrize(
    "changes",
    [
        {"queues": (queue("accounts", 100), queue("publish.fifo", 3))},
        {"alarms": (alarm("resync-missing", "ALARM", notifies=False), alarm("queue-age", "INSUFFICIENT_DATA"))},
        {"last_resync": None, "last_full_resync": None},
    ],
)
def test_work_under_way_and_silenced_alarms_are_no_problem(changes: dict[str, Any]) -> None:
    assert replace(WELL, **changes).problems == ()


# What is shown.


def test_resyncs_are_read_from_the_log_in_order() -> None:
    lines: list[dict[str, Any]] = [
        {"message": "resync", "timestamp": "2026-03-01 11:00:00,250+0000", "selection": "new"},
        {"_aws": {}, "service": "rolecall-dev"},
        {"message": "retirements held back", "timestamp": "2026-03-01 09:59:59,000+0000"},
        {"message": "resync", "timestamp": "2026-03-01 10:00:00,000+0000", "selection": "all", "pending": 0},
    ]
    assert read_resyncs(lines) == (
        Resync(at=datetime(2026, 3, 1, 10, tzinfo=UTC), selection="all"),
        Resync(at=datetime(2026, 3, 1, 11, 0, 0, 250_000, tzinfo=UTC), selection="new"),
    )


def test_json_has_all_of_it() -> None:
    written = status_of(changed(blocked=FULL, repairs=({"policy_name": SHARD, "action": "WriteVersion"},))).as_json()
    assert written["coverage"] == {
        "listed": 2,
        "eligible": 2,
        "enrolled": 2,
        "pending": 0,
        "pending_since": None,
        "pending_reason": None,
        "waiting": 0,
        "skipped": {},
        "failing": {},
        "still_granted": (),
        "percent": 100.0,
    }
    policy = written["source_policy"]
    assert policy["blocked"] == {"reason": "quota", "error": "the source policy is full"}
    assert policy["remedy"] == REMEDY[Reason.QUOTA]
    assert (policy["frozen"], policy["freeze_in_force"], policy["room"]) == (False, True, 10)
    assert policy["repairs"] == (f"WriteVersion {SHARD}",)
    assert written["problems"] == ["publishing is blocked: quota: the source policy is full"]
    assert written["exit_status"] == 1


def test_page_of_a_stage_without_problems() -> None:
    assert text(WELL) == [
        "stage dev in us-east-1 of account 999999999999",
        "",
        "accounts       2, of which 2 eligible",
        f"enrolled       2 of 2  {'█' * 30}  100 %",
        "failing        none",
        "skipped        none",
        f"source policy  {SHARD}: 2 of {capacity(settings())} accounts, attached to role/Reader",
        "publishing     not blocked",
        "               room for 10 shards in all, as the source principals were read 1 hour ago",
        "               checked against IAM 20 minutes ago, all verified 1 day ago",
        "freeze         not frozen",
        "last resync    new, 20 minutes ago",
        "               all, 1 day ago",
        "queues         accounts: empty",
        "               publish.fifo: empty",
        "               accounts-dlq: empty",
        "               publish-dlq.fifo: empty",
        "               events-dlq: empty",
        "alarms         2 OK",
        "",
        "✔ all 2 eligible accounts are enrolled",
    ]


def test_page_of_a_stage_with_problems() -> None:
    lines = text(
        replace(
            WELL,
            coverage=replace(
                WELL.coverage,
                enrolled=1,
                pending=2,
                pending_since=NOW - timedelta(minutes=7),
                pending_reason=Reason.QUOTA,
                failing={Reason.QUOTA: 1},
                still_granted=(A, B, C, D, E, A),
            ),
            alarms=(alarm("queue-age", "ALARM"), alarm("dead-letters")),
            queues=(queue("publish-dlq.fifo", 2),),
            last_resync=None,
            last_full_resync=None,
            source_policy=read_source_policy(records(), settings()),
        )
    )
    for line in (
        "enrolled       1 of 2  ███████████████░░░░░░░░░░░░░░░  50 %",
        f"pending        2, the oldest for 7 minutes: quota: {MEANING[Reason.QUOTA]}",
        f"failing        1  quota  {MEANING[Reason.QUOTA]}",
        f"still granted  {A}, {B}, {C}, {D}, {E} and 1 more",
        "source policy  none",
        "last resync    never, as far back as 14 days",
        "queues         publish-dlq.fifo: 2 to be received",
        "               rolecall-dev-queue-age, 2 hours ago: What queue-age means.",
    ):
        assert line in lines


def test_page_of_a_blocked_source_policy_shows_the_remedy() -> None:
    found = records(
        replace(shard(A, frozen=True), error=FOREIGN),
        control=Control(frozen=True),
        blocked=FOREIGN,
        repairs=({"policy_name": SHARD, "action": "AttachTo"},),
    )
    lines = text(status_of(found))
    assert (
        f"source policy  {SHARD}: 1 of {capacity(settings())} accounts, attached to nothing by Rolecall, frozen"
        in lines
    )
    assert r"                 failed: foreign_source_policy: not ours\x1b[31m" in lines
    at = lines.index(r"publishing     blocked: foreign_source_policy: not ours\x1b[31m")
    assert lines[at + 1 : at + 5] == [
        f"               → {REMEDY[Reason.FOREIGN_SOURCE_POLICY]}",
        "               checked against IAM never, all verified never",
        f"               repaired by the last check: AttachTo {SHARD}",
        "freeze         frozen, but not in force: rolecall freeze waits for it and shows why",
    ]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (BEFORE_PUBLISH, "publishing     not known yet: publish has not run yet"),
        (Records(control=Control(uninstalled=True)), "publishing     nothing is left to publish"),
        (
            Records(control=Control(uninstalled=True)),
            "freeze         everything is uninstalled: rolecall backfill would enroll every account again",
        ),
        (records(shards=1), f"publishing     records are lost: {SHARD}"),
        (
            records(
                replace(shard(A, frozen=True, attached=frozenset({READER})), denied_principals=frozenset({READER})),
                control=Control(frozen=True),
            ),
            "freeze         frozen and in force: every new session is denied, until rolecall unfreeze",
        ),
        (
            records(shard(A, frozen=True), control=Control(frozen=False)),
            "freeze         not frozen, but a shard still denies everything: rolecall unfreeze waits for it",
        ),
        (
            replace(RECORDS, control=Control(uninstalling=True)),
            "freeze         everything is being uninstalled: continue with rolecall uninstall, or stop it with rolecall backfill",
        ),
        (
            records(shard(scope=Scope.ORGANIZATION, excluded=frozenset({A}), attached=frozenset({READER}))),
            (
                f"source policy  {SHARD}: the whole organization, but 1 of at most {exclusion_capacity(settings())} accounts, "
                "attached to role/Reader"
            ),
        ),
    ],
)
def test_page_shows_the_state_of_the_source_policy(found: Records, line: str) -> None:
    assert line in text(status_of(found))


def test_page_says_how_lost_records_are_restored() -> None:
    lines = " ".join(" ".join(text(status_of(records(shards=1)))).split())
    assert RESTORE in lines
