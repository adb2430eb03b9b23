"""How a stage stands, computed from what was read of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from chalicelib.accounts import Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.shards import Snapshot
from chalicelib.errors import Reason
from chalicelib.source_policy import Shard, capacity
from rolecall.stage import Alarm, Queue
from rolecall.status import Coverage, Resync, Status, cover, fills, read_resyncs
from rolecall.status_page import page
from tests.unit.builders import settings
from tests.unit.ledger_rows import account, row

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C, D, E = (AccountId(str(digit) * 12) for digit in range(1, 6))
NAME = "CrossAccountReadOnlyAccess"


def shards(*shards: Shard, stopped: bool = False) -> Snapshot:
    return Snapshot(1, shards, stopped)


def written(*account_ids: AccountId, **more: Any) -> Shard:
    return Shard(name=NAME, accounts=frozenset(account_ids), version=3, written=3, **more)


def queue(name: str, visible: int = 0) -> Queue:
    return Queue(name=name, visible=visible, in_flight=0, delayed=0)


def alarm(name: str, state: str = "OK", *, notifies: bool = True) -> Alarm:
    since = NOW - timedelta(hours=2)
    return Alarm(
        name=f"rolecall-dev-{name}", state=state, description=f"What {name} means.", since=since, notifies=notifies
    )


WELL = Status(
    stage="dev",
    region="us-east-1",
    account_id="999999999999",
    at=NOW,
    coverage=cover([account(A), account(B)], [row(A), row(B)], shards(written(A, B)), settings()),
    scope="accounts",
    scope_asked_for="accounts",
    shards=fills(shards(written(A, B, attached=frozenset({"arn:aws:iam::111122223333:role/Reader"}))), settings()),
    frozen=False,
    stopped=False,
    last_resync=Resync(at=NOW - timedelta(minutes=20), selection="new", repairs=(), error=None),
    last_full_resync=Resync(at=NOW - timedelta(days=1), selection="all", repairs=(f"WriteVersion {NAME}",), error=None),
    queues=(queue("accounts"), queue("accounts-dlq"), queue("events-dlq")),
    alarms=(alarm("dead-letters"), alarm("queue-age")),
)


def text(status: Status) -> list[str]:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(page(status))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_each_listed_account_counts_once_by_where_it_stands() -> None:
    counted = cover(
        [account(A), account(B), account(C), account(D, state="SUSPENDED"), account(E)],
        [row(A), row(B, Outcome.FAILED, reason=Reason.QUOTA), row(D, Outcome.SKIPPED, reason=Reason.SUSPENDED)],
        shards(written(A)),
        settings(EXCLUDE_ACCOUNT_IDS=E),
    )
    assert counted == Coverage(
        listed=5,
        eligible=3,
        enrolled=1,
        waiting=1,
        skipped={Reason.EXCLUDED: 1, Reason.SUSPENDED: 1},
        failing={Reason.QUOTA: 1},
        overstaying=(),
    )
    assert counted.percent == pytest.approx(33.3)


def test_the_commonest_reason_comes_first() -> None:
    failed = [row(A, Outcome.FAILED, reason=Reason.QUOTA)] + [
        row(each, Outcome.FAILED, reason=Reason.SCP_DENIED) for each in (B, C)
    ]
    counted = cover(map(account, (A, B, C)), failed, shards(), settings())
    assert list(counted.failing.items()) == [(Reason.SCP_DENIED, 2), (Reason.QUOTA, 1)]


def test_an_account_named_without_being_eligible_overstays() -> None:
    listed = [account(A), account(B, state="CLOSED")]
    counted = cover(listed, [row(A), row(B), row(C)], shards(written(A, B, C)), settings())
    assert counted.overstaying == (B, C)  # closed, and departed


def test_while_everything_is_uninstalled_no_account_is_eligible() -> None:
    counted = cover([account(A)], [row(A)], shards(written(A), stopped=True), settings())
    assert (counted.eligible, dict(counted.skipped), counted.overstaying) == (0, {Reason.STOPPED: 1}, (A,))
    assert counted.percent == 100


def test_almost_all_is_not_all() -> None:
    counted = replace(WELL.coverage, eligible=5000, enrolled=4999)
    assert counted.percent == pytest.approx(99.9)


def test_a_shard_is_told_with_its_room_and_whether_it_is_written() -> None:
    pending = Shard(name=f"{NAME}-2", accounts=frozenset({C}), version=2, written=1)
    first, second = fills(shards(written(A, B, attached=frozenset({"z", "y"})), pending), settings())
    assert (first.accounts, first.capacity, first.attached, first.pending) == (
        2,
        capacity(settings()),
        ("y", "z"),
        False,
    )
    assert (second.policy_name, second.accounts, second.pending) == (f"{NAME}-2", 1, True)


def test_resyncs_are_read_out_of_the_log_in_their_order() -> None:
    lines: list[dict[str, Any]] = [
        {"message": "resync", "timestamp": "2026-03-01 11:00:00,250+0000", "selection": "new", "repairs": []},
        {"_aws": {}, "service": "rolecall-dev"},
        {"message": "retirements held back", "timestamp": "2026-03-01 09:59:59,000+0000"},
        {
            "message": "resync",
            "timestamp": "2026-03-01 10:00:00,000+0000",
            "selection": "all",
            "repairs": [{"policy_name": NAME, "action": "WriteVersion"}, {"error": "no room", "reason": "quota"}],
        },
    ]
    assert read_resyncs(lines) == (
        Resync(
            at=datetime(2026, 3, 1, 10, tzinfo=UTC), selection="all", repairs=(f"WriteVersion {NAME}",), error="no room"
        ),
        Resync(at=datetime(2026, 3, 1, 11, 0, 0, 250_000, tzinfo=UTC), selection="new", repairs=(), error=None),
    )


def test_all_is_well_where_every_eligible_account_is_enrolled() -> None:
    assert WELL.worries == ()
    assert WELL.exit_status == 0


@pytest.mark.parametrize(
    ("changes", "worry"),
    [
        ({"stopped": True}, "everything is being uninstalled"),
        ({"frozen": True}, "the readers are denied every new session: frozen"),
        ({"coverage": replace(WELL.coverage, failing={Reason.QUOTA: 2, Reason.SCP_DENIED: 1})}, "3 accounts failing"),
        ({"coverage": replace(WELL.coverage, waiting=1)}, "1 account waiting to be enrolled"),
        ({"coverage": replace(WELL.coverage, overstaying=(A,))}, "1 account still named that should not be"),
        ({"shards": (replace(WELL.shards[0], pending=True),)}, "the source policy is yet to be written"),
        (
            {"scope_asked_for": "organization"},
            "the source policy is still of scope accounts: the next resync changes it to organization",
        ),
        ({"queues": (queue("accounts", 9), queue("accounts-dlq", 1))}, "accounts-dlq holds messages"),
        ({"queues": (queue("events-dlq", 1),)}, "events-dlq holds messages"),
        ({"alarms": (alarm("queue-age", "ALARM"), alarm("rules-failed"))}, "in alarm: queue-age"),
    ],
)
def test_what_is_not_as_it_should_be_worries(changes: dict[str, Any], worry: str) -> None:
    status = replace(WELL, **changes)
    assert status.worries == (worry,)
    assert status.exit_status == 1
    assert text(status)[-1] == f"✘ {worry}"


@pytest.mark.parametrize(
    "changes",
    [
        {"queues": (queue("accounts", 100),)},
        {"alarms": (alarm("resync-missing", "ALARM", notifies=False), alarm("queue-age", "INSUFFICIENT_DATA"))},
        {"last_resync": None, "last_full_resync": None},
    ],
)
def test_work_under_way_and_silenced_alarms_worry_nobody(changes: dict[str, Any]) -> None:
    assert replace(WELL, **changes).worries == ()


def test_json_has_all_of_it_and_what_follows() -> None:
    told = replace(WELL, frozen=True).as_json()
    assert told["coverage"] == {
        "listed": 2,
        "eligible": 2,
        "enrolled": 2,
        "waiting": 0,
        "skipped": {},
        "failing": {},
        "overstaying": (),
        "percent": 100.0,
    }
    assert told["worries"] == ["the readers are denied every new session: frozen"]
    assert told["exit_status"] == 1
    assert told["last_full_resync"]["repairs"] == (f"WriteVersion {NAME}",)


def test_a_person_reads_it_at_a_glance() -> None:
    assert text(WELL) == [
        "stage dev in us-east-1 of account 999999999999",
        "",
        "accounts       2, of which 2 eligible",
        f"enrolled       2 of 2  {'█' * 30}  100 %",
        "failing        none",
        "skipped        none",
        f"source policy  {NAME}: 2 of {capacity(settings())} accounts, attached to role/Reader",
        "readers        not frozen",
        "last resync    new, 20 minutes ago",
        f"               all, 1 day ago; repaired in the source policy: WriteVersion {NAME}",
        "queues         accounts: empty",
        "               accounts-dlq: empty",
        "               events-dlq: empty",
        "alarms         2 OK",
        "",
        "✔ all 2 eligible accounts are enrolled",
    ]


def test_a_person_reads_what_is_wrong_and_what_it_means() -> None:
    lines = text(
        replace(
            WELL,
            coverage=replace(WELL.coverage, enrolled=1, failing={Reason.QUOTA: 1}, overstaying=(A, B, C, D, E, A)),
            alarms=(alarm("queue-age", "ALARM"), alarm("dead-letters")),
            last_resync=None,
            last_full_resync=None,
            shards=(),
        )
    )
    assert "enrolled       1 of 2  ███████████████░░░░░░░░░░░░░░░  50 %" in lines
    assert (
        "failing        1  quota  An IAM quota is reached in the account or the source account, or the source policy is full."
        in lines
    )
    assert f"still named    {A}, {B}, {C}, {D}, {E} and 1 more" in lines
    assert "source policy  none" in lines
    assert "last resync    never, as far back as 14 days" in lines
    assert "               rolecall-dev-queue-age, 2 hours ago: What queue-age means." in lines
