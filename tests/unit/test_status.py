"""The status of a stage, and its page."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from chalicelib.accounts import LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.member_role import fingerprint
from chalicelib.settings import Scope
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.access_role_stack_set import FailedInstance
from rolecall.reasons import MEANING, REMEDY
from rolecall.source_policy_state import RESTORE, SourcePolicyState, read_source_policy
from rolecall.stage import Alarm, QueueCounts, parse_log_line
from rolecall.status import Coverage, Resync, RolloutState, StageStatus, count_coverage, parse_resyncs, read_rollout
from rolecall.status_page import build_status_page, watch_pages
from tests.unit.builders import settings
from tests.unit.ledger_rows import SHARD, account, records, row, shard

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C, D, E = (AccountId(str(digit) * 12) for digit in range(1, 6))
PRINCIPALS = frozenset({"arn:aws:iam::111122223333:role/Reader"})
FULL = Problem(Reason.QUOTA, "the source policy is full")
FOREIGN = Problem(Reason.FOREIGN_SOURCE_POLICY, "not ours\x1b[31m")
PUBLISHED = records(
    shard(A, B, attached=PRINCIPALS),
    room=10,
    looked_at=NOW - timedelta(hours=1),
    checked_at=NOW - timedelta(minutes=20),
    verified_at=NOW - timedelta(days=1),
)
NEVER_PUBLISHED = Records()
UNINSTALLED = Records(control=Control(uninstalling=True, uninstalled=True))
FROZEN = records(
    replace(shard(A, frozen=True, attached=PRINCIPALS), denied_principals=PRINCIPALS), control=Control(frozen=True)
)
UNFREEZING = records(shard(A, frozen=True), control=Control(frozen=False))
DRIFT = {SHARD: "its default version is v1, not v3"}
WHOLE = shard(scope=Scope.ORGANIZATION, excluded=frozenset({A}), attached=PRINCIPALS)


def queue(name: str, visible: int = 0) -> QueueCounts:
    return QueueCounts(name=name, visible=visible, in_flight=0, delayed=0)


def alarm(name: str, state: str = "OK", *, notifies: bool = True) -> Alarm:
    since = NOW - timedelta(hours=2)
    return Alarm(
        name=f"rolecall-dev-{name}", state=state, description=f"What {name} means.", since=since, notifies=notifies
    )


def state_of(found: Records, drift: Mapping[str, str] | None = MappingProxyType({})) -> SourcePolicyState:
    return read_source_policy(found, settings(), drift)


def published(**status: Any) -> Records:
    """Build the records with another status of publish."""
    assert PUBLISHED.status is not None
    return replace(PUBLISHED, status=replace(PUBLISHED.status, **status))


HEALTHY = StageStatus(
    stage="dev",
    region="us-east-1",
    account_id="999999999999",
    at=NOW,
    coverage=count_coverage([account(A), account(B)], [row(A), row(B)], PUBLISHED, settings()),
    source_policy=state_of(PUBLISHED),
    last_resync=Resync(at=NOW - timedelta(minutes=20), selection="new"),
    last_full_resync=Resync(at=NOW - timedelta(days=1), selection="all"),
    queues=tuple(map(queue, ("accounts", "publish.fifo", "accounts-dlq", "publish-dlq.fifo", "events-dlq"))),
    alarms=(alarm("dead-letters"), alarm("queue-age")),
)


def page_lines(status: StageStatus) -> list[str]:
    console = Console(width=1000, color_system=None)
    with console.capture() as captured:
        console.print(build_status_page(status))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_each_listed_account_counts_once() -> None:
    rows = [
        row(A),
        row(B, Outcome.FAILED, reason=Reason.QUOTA),
        row(C, Outcome.RETIRED, reason=Reason.SUSPENDED),  # eligible again
        row(D, Outcome.SKIPPED, reason=Reason.SUSPENDED),
    ]
    counted = count_coverage(
        [account(A), account(B), account(C), account(D, state="SUSPENDED"), account(E)],
        rows,
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
        retired={},
        failing={Reason.QUOTA: 1},
        still_granted=(),
    )


@pytest.mark.parametrize(("blocked", "reason"), [(None, Reason.SOURCE_POLICY_PENDING), (FULL, Reason.QUOTA)])
def test_account_without_access_in_force_is_pending(blocked: Problem | None, reason: Reason) -> None:
    older, newer = "2026-03-01T09:00:00+00:00", "2026-03-01T10:00:00+00:00"
    rows = [row(A), *(row(each, in_force_since=None, enrolled_at=at) for each, at in ((B, newer), (C, older)))]
    counted = count_coverage(map(account, (A, B, C)), rows, records(shard(A), blocked=blocked), settings())
    assert (counted.enrolled, counted.pending, counted.pending_reason) == (1, 2, reason)
    assert counted.pending_since == datetime(2026, 3, 1, 9, tzinfo=UTC)


def test_most_frequent_reason_comes_first() -> None:
    reasons = {A: Reason.QUOTA, B: Reason.SCP_DENIED, C: Reason.SCP_DENIED}
    rows = [row(account_id, Outcome.FAILED, reason=reason) for account_id, reason in reasons.items()]
    counted = count_coverage(map(account, reasons), rows, records(), settings())
    assert list(counted.failing.items()) == [(Reason.SCP_DENIED, 2), (Reason.QUOTA, 1)]


def test_ineligible_account_in_a_record_or_row_is_still_granted() -> None:
    listed = [account(A), account(B, state="CLOSED"), account(D, state="CLOSED")]
    rows = [row(A), row(B, Outcome.RETIRED), row(D, Outcome.RETIRED, in_force_since="2026-01-01T00:00:00+00:00")]
    counted = count_coverage(listed, rows, records(shard(A, B, C)), settings())
    assert counted.still_granted == (B, C, D)  # closed, departed, and granted by the organization's statement


@pytest.mark.parametrize("control", [Control(uninstalling=True), Control(uninstalled=True)])
def test_no_account_is_eligible_during_an_uninstall(control: Control) -> None:
    counted = count_coverage([account(A)], [row(A)], records(shard(A), control=control), settings())
    assert (counted.eligible, counted.pending, counted.still_granted) == (0, 1, (A,))
    assert counted.percent is None


def test_percent_is_rounded_down() -> None:
    assert replace(HEALTHY.coverage, eligible=5000, enrolled=4999).percent == pytest.approx(99.9)


def test_shard_has_its_capacity_and_unfinished_writes() -> None:
    second = replace(shard(C, name=f"{SHARD}-2"), error=FULL)
    unfinished = replace(second, applying=second.applied)
    written = shard(A, B, attached=frozenset({"z", "y"}))
    state = state_of(records(written, unfinished, ShardRecord(name=f"{SHARD}-3")))
    assert [(each.policy_name, each.accounts, each.unfinished, each.error) for each in state.shards] == [
        (SHARD, 2, False, None),
        (f"{SHARD}-2", 1, True, FULL),
        (f"{SHARD}-3", 0, True, None),
    ]
    assert (state.shards[0].capacity, state.shards[0].attached) == (capacity(settings()), ("y", "z"))


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (replace(records(shard(A), shards=3), unreadable={f"{SHARD}-2": "KeyError"}), (f"{SHARD}-2", f"{SHARD}-3")),
        (records(shards=1, used=settings(SOURCE_POLICY_NAME="Recorded")), ("Recorded",)),
        (Records(by_index={0: shard(A)}), ("#status",)),
    ],
)
def test_missing_and_unreadable_records_are_lost(found: Records, lost: tuple[str, ...]) -> None:
    assert state_of(found).lost == lost


@pytest.mark.parametrize(
    ("requested", "record", "frozen", "in_force"),
    [
        (None, shard(A), False, True),
        (None, shard(A, frozen=True), True, False),
        (True, shard(A), True, False),
        (True, FROZEN.by_index[0], True, True),
        (True, shard(A, frozen=True, attached=PRINCIPALS), True, False),  # not confirmed by a read of IAM
        (False, shard(A, frozen=True), False, False),
        (False, shard(A), False, True),
    ],
)
def test_freeze_is_in_force_once_a_read_of_iam_confirms_it(
    *, requested: bool | None, record: ShardRecord, frozen: bool, in_force: bool
) -> None:
    state = state_of(records(record, control=Control(frozen=requested)))
    assert (state.frozen, state.freeze_in_force) == (frozen, in_force)


def test_freeze_that_others_may_have_undone_is_not_in_force() -> None:
    state = state_of(FROZEN, DRIFT)

    assert (state.frozen, state.freeze_in_force) == (True, False)
    assert "a freeze was requested and is not in force" in state.problems
    assert "freeze         frozen but not in force: rolecall freeze waits for it and shows why" in page_lines(
        replace(HEALTHY, source_policy=state)
    )


def test_page_shows_what_others_changed_and_what_was_not_compared() -> None:
    changed, uncompared = (
        page_lines(replace(HEALTHY, source_policy=state_of(PUBLISHED, drift))) for drift in (DRIFT, None)
    )

    at = changed.index(f"                 changed by others: {DRIFT[SHARD]}")
    assert changed[at + 1] == "                 → rolecall resync"
    line = "               not compared with IAM now: these credentials are not of the source account"
    assert (line in uncompared, line in changed) == (True, False)


IN_WAVES = settings(ROLLOUT_PERCENT="50")
STOPPED = RolloutState(current=6, total=60, wave=0, failed={Reason.NO_SUCH_POLICY: 2}, stopped=True)


def rollout_of(*rows: LedgerRow, control: Control | None = None) -> RolloutState | None:
    return read_rollout(map(account, (A, B, C)), rows, records(control=control), IN_WAVES, NOW)


def test_rollout_counts_roles_until_all_have_the_current_settings() -> None:
    current: dict[str, Any] = {"fingerprint": fingerprint(IN_WAVES)}
    failed = row(C, Outcome.FAILED, reason=Reason.NO_SUCH_POLICY, attempted_fingerprint="any")
    assert rollout_of(row(A, **current), row(B), row(C)) == RolloutState(
        current=1, total=3, wave=1, failed={}, stopped=False
    )
    assert rollout_of(row(A, **current), row(B), failed) == RolloutState(
        current=1, total=3, wave=0, failed={Reason.NO_SUCH_POLICY: 1}, stopped=True
    )
    assert rollout_of(row(A, **current), row(B, **current)) is None
    assert rollout_of(row(A), control=Control(uninstalling=True)) is None


@pytest.mark.parametrize(
    ("rollout", "line"),
    [
        (STOPPED, "6 of 60 roles at the current settings; waits: 2 failed (no_such_policy)"),
        (
            replace(STOPPED, failed={Reason.THROTTLED: 1}, stopped=False),
            "6 of 60 roles at the current settings; waits: 1 retried (throttled)",
        ),
        (replace(STOPPED, wave=6, failed={}, stopped=False), "6 of 60 roles at the current settings; next wave: 6"),
    ],
)
def test_page_shows_how_far_a_rollout_is(rollout: RolloutState, line: str) -> None:
    status = replace(HEALTHY, rollout=rollout)
    assert f"rollout        {line}" in page_lines(status)
    assert status.as_json()["rollout"]["current"] == 6


def covering(**changes: Any) -> dict[str, Any]:
    return {"coverage": replace(HEALTHY.coverage, **changes)}


def with_records(found: Records) -> dict[str, Any]:
    return {"source_policy": state_of(found)}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (covering(failing={Reason.QUOTA: 2, Reason.SCP_DENIED: 1}), "3 accounts failing"),
        (covering(pending=1, pending_since=NOW, pending_reason=Reason.QUOTA), "1 account pending: quota"),
        (covering(waiting=1), "1 account waiting to be enrolled"),
        (covering(still_granted=(A,)), "1 account still granted access"),
        ({"rollout": STOPPED}, f"the rollout is stopped: {STOPPED.sentence}"),
        ({"queues": (queue("accounts", 9), queue("accounts-dlq", 1))}, "accounts-dlq is not empty"),
        ({"queues": (queue("publish.fifo", 9), queue("publish-dlq.fifo", 1))}, "publish-dlq.fifo is not empty"),
        ({"queues": (queue("events-dlq", 1),)}, "events-dlq is not empty"),
        ({"alarms": (alarm("queue-age", "ALARM"), alarm("rules-failed"))}, "in alarm: queue-age"),
        (with_records(UNINSTALLED), "the stage is uninstalled"),
        (with_records(NEVER_PUBLISHED), "the state of the source policy is unknown: publish has not run yet"),
        (with_records(replace(PUBLISHED, control=Control(uninstalling=True))), "the stage is being uninstalled"),
        (with_records(FROZEN), "frozen: every new session is denied"),
        (with_records(records(control=Control(frozen=True))), "a freeze was requested and is not in force"),
        (with_records(UNFREEZING), "an unfreeze was requested and is not in force"),
        (with_records(published(blocked=FULL)), "publishing is blocked: quota: the source policy is full"),
        (with_records(records(replace(shard(A), error=FULL))), f"{SHARD}: the source policy is full"),
        (with_records(records(ShardRecord(name=SHARD))), f"{SHARD} is not completely written"),
        (with_records(published(shards=2)), f"records are lost: {SHARD}-2"),
        (with_records(published(scope=FULL)), "the source policy is full"),
        (
            {"source_policy": state_of(PUBLISHED, DRIFT)},
            f"{SHARD} was changed by others: its default version is v1, not v3: run rolecall resync",
        ),
        (
            with_records(records(WHOLE)),
            "the source policy has scope organization: the next resync changes it to accounts",
        ),
    ],
)
def test_problem_fails_the_command(changes: dict[str, Any], problem: str) -> None:
    status = replace(HEALTHY, **changes)
    assert (status.problems, status.exit_status) == ((problem,), 1)
    assert page_lines(status)[-1] == f"✘ {problem}"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"queues": (queue("accounts", 100), queue("publish.fifo", 3))},
        {"alarms": (alarm("resync-missing", "ALARM", notifies=False), alarm("queue-age", "INSUFFICIENT_DATA"))},
        {"last_resync": None, "last_full_resync": None},
    ],
)
def test_queued_messages_and_disabled_alarms_are_no_problem(changes: dict[str, Any]) -> None:
    status = replace(HEALTHY, **changes)
    assert (status.problems, status.exit_status) == ((), 0)


def test_missing_resync_is_expected_until_the_first_is_due() -> None:
    alarms = (alarm("resync-missing", "ALARM"), alarm("dead-letters"))
    waiting = replace(HEALTHY, alarms=alarms, last_full_resync=None)
    assert waiting.problems == ()
    assert page_lines(waiting)[-3].strip().startswith("rolecall-dev-resync-missing: expected until the first resync")
    overdue = replace(waiting, at=NOW + timedelta(hours=30))
    stopped = replace(HEALTHY, alarms=alarms)
    assert [status.problems for status in (overdue, stopped)] == [("in alarm: resync-missing",)] * 2


def test_resyncs_are_parsed_from_the_log_in_order() -> None:
    earlier, later = NOW - timedelta(hours=1), NOW
    lines: list[tuple[datetime, dict[str, Any]]] = [
        (later, {"message": "resync", "timestamp": "unreadable", "selection": "new"}),
        (earlier, {"_aws": {}, "service": "rolecall-dev"}),
        (earlier, {"message": "retirements deferred"}),
        (earlier, {"message": "resync", "selection": "all", "pending": 0}),
    ]
    assert parse_resyncs(lines) == (Resync(at=earlier, selection="all"), Resync(at=later, selection="new"))


@pytest.mark.parametrize("message", ["START RequestId: 1", "", '{"message": "res', "[1]", "null"])
def test_other_log_lines_are_ignored(message: str) -> None:
    assert parse_log_line(message) is None


def test_json_has_the_status_and_what_follows_from_it() -> None:
    found = published(blocked=FULL, repairs=({"policy_name": SHARD, "action": "WriteVersion"},))
    data = replace(HEALTHY, source_policy=state_of(found, DRIFT)).as_json()
    policy = data["source_policy"]
    assert policy["blocked"] == {"reason": "quota", "error": "the source policy is full"}
    assert policy["remedy"] == REMEDY[Reason.QUOTA]
    assert policy["repairs"] == (f"WriteVersion {SHARD}",)
    assert (policy["compared"], policy["shards"][0]["drift"]) == (True, DRIFT[SHARD])
    assert (data["coverage"]["enrolled"], data["coverage"]["percent"]) == (2, 100.0)
    assert data["problems"][0] == "publishing is blocked: quota: the source policy is full"
    assert data["exit_status"] == 1


def test_page_of_a_healthy_stage() -> None:
    assert page_lines(HEALTHY) == [
        "stage dev in us-east-1 of account 999999999999",
        "",
        "accounts       2 (2 eligible)",
        f"enrolled       2 of 2  {'█' * 30}  100%",
        "failing        none",
        "skipped        none",
        "retired        none",
        f"source policy  {SHARD}: 2 of {capacity(settings())} accounts, attached to role/Reader",
        "publishing     not blocked",
        "               10 shards fit; source principals read 1 hour ago",
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


def test_page_shows_what_needs_attention() -> None:
    found = records(
        replace(shard(A, frozen=True), error=FOREIGN),
        control=Control(frozen=True),
        blocked=FOREIGN,
        repairs=({"policy_name": SHARD, "action": "AttachTo"},),
    )
    status = replace(
        HEALTHY,
        coverage=replace(
            HEALTHY.coverage,
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
        source_policy=state_of(found),
    )
    assert page_lines(status)[3:-2] == [
        "enrolled       1 of 2  ███████████████░░░░░░░░░░░░░░░  50%",
        f"pending        2, the oldest for 7 minutes: quota: {MEANING[Reason.QUOTA]}",
        f"failing        1  quota  {MEANING[Reason.QUOTA]}",
        "skipped        none",
        "retired        none",
        f"still granted  {A}, {B}, {C}, {D}, {E} and 1 more",
        f"source policy  {SHARD}: 1 of {capacity(settings())} accounts, not attached by Rolecall, frozen",
        r"                 failed: foreign_source_policy: not ours\x1b[31m",
        r"publishing     blocked: foreign_source_policy: not ours\x1b[31m",
        f"               → {REMEDY[Reason.FOREIGN_SOURCE_POLICY]}",
        "               checked against IAM never, all verified never",
        f"               repaired by the last check: AttachTo {SHARD}",
        "freeze         frozen but not in force: rolecall freeze waits for it and shows why",
        "last resync    none in the last 14 days",
        "queues         publish-dlq.fifo: 2 visible",
        "alarms         1 ALARM, 1 OK",
        "               rolecall-dev-queue-age, 2 hours ago: What queue-age means.",
    ]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (NEVER_PUBLISHED, "publishing     unknown: publish has not run yet"),
        (UNINSTALLED, "publishing     nothing left to publish"),
        (
            UNINSTALLED,
            "uninstall      uninstalled: rolecall undeploy dev deletes the stack; rolecall backfill would enroll every account again",
        ),
        (FROZEN, "freeze         frozen and in force: every new session is denied until rolecall unfreeze"),
        (UNFREEZING, "freeze         not frozen, but a shard still denies everything: rolecall unfreeze waits for it"),
        (
            replace(PUBLISHED, control=Control(uninstalling=True)),
            "uninstall      uninstalling: continue with rolecall uninstall, or cancel with rolecall backfill",
        ),
        (
            records(WHOLE),
            (
                f"source policy  {SHARD}: the whole organization except 1 of at most {exclusion_capacity(settings())} "
                "accounts, attached to role/Reader"
            ),
        ),
    ],
)
def test_page_shows_the_state_of_the_source_policy(found: Records, line: str) -> None:
    assert line in page_lines(replace(HEALTHY, source_policy=state_of(found)))


def test_page_of_a_new_stage_shows_no_resync_yet() -> None:
    status = replace(HEALTHY, last_resync=None, last_full_resync=None)
    new, old = (replace(status, deployed_at=NOW - timedelta(days=days)) for days in (2, 20))
    assert "last resync    none since the deployment, 2 days ago" in page_lines(new)
    assert "last resync    none in the last 14 days" in page_lines(old)


def test_page_names_alarms_without_data() -> None:
    alarms = (alarm("queue-age", "INSUFFICIENT_DATA"), alarm("dead-letters"), alarm("access-slow", "INSUFFICIENT_DATA"))
    assert "alarms         2 INSUFFICIENT_DATA (queue-age, access-slow), 1 OK" in page_lines(
        replace(HEALTHY, alarms=alarms)
    )


def test_uninstalled_stage_needs_no_resync() -> None:
    status = replace(
        HEALTHY,
        alarms=(alarm("resync-missing", "ALARM"),),
        last_full_resync=None,
        source_policy=state_of(UNINSTALLED),
    )
    assert page_lines(status)[-3].endswith("resync-missing: expected until the first resync, which is scheduled")


def test_page_shows_how_to_restore_lost_records() -> None:
    lines = page_lines(replace(HEALTHY, source_policy=state_of(records(shards=1))))
    assert f"publishing     records are lost: {SHARD}" in lines
    assert f"               → {RESTORE}" in lines


def test_watched_page_is_printed_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    pages, pauses = iter(["one", "two"]), []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch_pages(lambda: next(pages), pause)
    assert (capsys.readouterr().out, pauses) == ("one\ntwo\n", [5.0, 5.0])


def test_failed_instances_of_the_stack_set_are_a_problem() -> None:
    instances = [
        FailedInstance(account_id=f"{number:012}", unit_id="r-ab12", state="FAILED", reason="exists\x1b[31m")
        for number in range(7)
    ]
    status = replace(HEALTHY, failed_instances=tuple(instances))

    assert status.problems == ("the access role's StackSet failed in 7 accounts",)
    lines = page_lines(status)
    assert sum("StackSet failed in 0000" in line for line in lines) == 5
    assert any(r"000000000000 FAILED: exists\x1b[31m" in line for line in lines)
    assert any("and 2 more → docs/access-roles.md#failed-instances" in line for line in lines)
