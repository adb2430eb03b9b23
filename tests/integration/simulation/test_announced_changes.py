"""Every change of an account's outcome is announced: at least once, in order, and under the same id if repeated."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from chalicelib.errors import RolecallError
from tests.integration.simulation.calls import Call, Caller
from tests.integration.simulation.environment import member_role_arn
from tests.integration.simulation.faults import KILLS, KilledError
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.ledger_stream import State, StreamReader, announced, required
from tests.integration.simulation.scenario import SHARD
from tests.integration.simulation.simulated_stage import SimulatedStage

ACCOUNTS = 1_000
OUTAGE_SECONDS = 3600.0
ENROLLED = ("enrolled", None)
WAITING = ("failed", "source_policy_pending")  # for the first run of publish


@dataclass
class AnnouncingStage(SimulatedStage):
    """A stage with a reader of the ledger's stream; functions may be killed at random calls."""

    random: Random = field(default_factory=lambda: Random(17))  # noqa: S311 - repeatable, not secret
    killing: float = 0.0
    killed: Counter[str] = field(default_factory=Counter)

    def _fault(self, call: Call, caller: Caller) -> str | None:
        if self.random.random() >= self.killing:
            return super()._fault(call, caller)
        self.killed[caller.function] += 1
        return self.random.choice(KILLS)

    def join(self, number: int) -> list[str]:
        ids = [f"{index:012}" for index in range(1, number + 1)]
        for account_id in ids:
            self.cloud.join(account_id)
        self.cloud.tables.page = self.cloud.members.page = number
        return ids

    def announce(self, reader: StreamReader) -> None:
        """Deliver the stream until nothing is left of it."""
        while not reader.is_finished:
            with suppress(KilledError, RolecallError):
                reader.deliver(lambda batch: self.invoke("announce_outcome", batch))

    def require_announced(self) -> dict[str, list[State]]:
        """Return each account's announced states, after requiring that they are all and in order."""
        changes = announced(self.cloud.bus.events)
        assert changes == required(self.cloud.stream.records)
        return {account_id: [state for _, state in each] for account_id, each in changes.items()}


@pytest.fixture
def stage() -> Iterator[AnnouncingStage]:
    with simulated() as harness:
        stage = AnnouncingStage(harness)
        harness.start(stage)
        yield stage


def test_each_change_is_announced_in_order_whatever_is_killed(stage: AnnouncingStage) -> None:
    """A thousand accounts are backfilled, some change, and every batch of the stream is delivered twice."""
    ids = stage.join(ACCOUNTS)
    denied, retired, closed = ids[:20], ids[20:40], ids[40:60]
    stage.cloud.denied = dict.fromkeys(denied, "")
    stage.killing = 0.004
    stage.request("backfill", {})
    stage.drain()
    stage.cloud.denied.clear()
    for account_id in closed:
        stage.cloud.members.change(account_id, state="CLOSED")
    stage.send_events(*denied, *closed)
    stage.request("retire", {"accounts": retired})
    stage.drain()
    stage.request("backfill", {"accounts": retired})
    stage.drain()
    stage.killing = 0.05
    stage.cloud.bus.reject = lambda _: "ThrottlingException" if stage.random.random() < 0.05 else None

    stage.announce(StreamReader(stage.cloud.stream, deliveries=2))

    states = stage.require_announced()
    assert {tuple(states[each]) for each in ids[60:]} == {(ENROLLED,)}
    assert all(states[each][0][0] == "failed" and states[each][-1] == ENROLLED for each in denied)
    assert all(states[each] == [ENROLLED, ("retired", "retired_by_request"), ENROLLED] for each in retired)
    assert all(states[each] == [ENROLLED, ("retired", "closed")] for each in closed)
    assert stage.killed.keys() >= {"enroll", "publish", "announce_outcome"}


def test_outage_of_the_bus_delays_and_loses_nothing(stage: AnnouncingStage) -> None:
    reader, first = StreamReader(stage.cloud.stream), stage.join(20)
    broken: set[str] = set()
    stage.cloud.bus.reject = lambda _: "InternalFailure"
    began = stage.cloud.now
    for account_id in first:
        stage.send_events(account_id)
        stage.drain()
        reader.deliver(lambda batch: stage.invoke("announce_outcome", batch))
        broken |= {account_id} if "in_force_since" in stage.cloud.row(account_id) else set()
        stage.pause(OUTAGE_SECONDS / len(first))
    assert broken == set(first)
    assert stage.cloud.now - began >= OUTAGE_SECONDS
    assert not stage.cloud.bus.events
    stage.cloud.bus.reject = lambda _: None

    stage.announce(reader)

    assert set(stage.require_announced()) == set(first)


def test_announced_account_can_be_entered_at_once(stage: AnnouncingStage) -> None:
    """At every event, the role is there and the source policy grants the account."""
    reader, ids = StreamReader(stage.cloud.stream), stage.join(20)
    entered: dict[str, bool] = {}

    def enter(entry: Mapping[str, Any]) -> None:
        account_id = json.loads(entry["Detail"])["account_id"]
        role = stage.cloud.iam.role(member_role_arn(account_id))
        entered[account_id] = role is not None and stage.cloud.grants(account_id)

    stage.cloud.bus.reject = enter
    stage.request("backfill", {})
    queues = stage.cloud.queues
    while queues.messages:
        for function in ("enroll", "publish"):
            stage.deliver(function)
            stage.announce(reader)
        stage.cloud.pass_time(queues.next_at() if queues.messages else stage.cloud.now)

    assert entered == dict.fromkeys(entered, True)
    assert entered.keys() >= set(ids)


def test_access_that_lapses_is_not_announced_again(stage: AnnouncingStage) -> None:
    """The source policy and its record are lost, and IAM denies writing it for an hour."""
    (account_id,) = stage.join(1)
    stage.send_events(account_id)
    stage.drain()
    iam, cloud = stage.cloud.iam, stage.cloud
    iam.detach(cloud.source_principal, SHARD)
    iam.put(SHARD, None)
    cloud.lose("shard record lost")
    cloud.unwritable.add(SHARD)
    stage.resync()
    lapsed = "in_force_since" not in cloud.row(account_id)
    cloud.unwritable.clear()
    stage.resync()

    stage.announce(StreamReader(cloud.stream))

    assert lapsed
    assert "in_force_since" in cloud.row(account_id)
    assert stage.require_announced()[account_id] == [WAITING, ENROLLED]


def test_deleted_row_is_not_announced_and_comes_back_as_new(stage: AnnouncingStage) -> None:
    (account_id,) = stage.join(1)
    stage.send_events(account_id)
    stage.drain()
    stage.cloud.lose("ledger lost")
    stage.send_events(account_id)
    stage.drain()

    stage.announce(StreamReader(stage.cloud.stream))

    assert stage.require_announced()[account_id] == [WAITING, ENROLLED, ENROLLED]
