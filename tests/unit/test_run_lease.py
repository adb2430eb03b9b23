"""The run lease: when a run of publish may still write."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.run_lease import LEASE_SECONDS, RunEndedError, RunLease
from chalicelib.source_policy.records import Control
from tests.unit.ledger_rows import NOW

DEADLINE = 1000.0


class _Table:
    """The run lease and the latest request for a freeze, of the source-policy table, in memory."""

    def __init__(self) -> None:
        self.owner: str | None = None
        self.until = 0.0
        self.freeze_requested_at: datetime | None = None

    def acquire_run(self, owner: str, *, now: float, until: float) -> bool:
        if self.owner not in {None, owner} and self.until >= now:
            return False
        self.owner, self.until = owner, until
        return True

    def renew_run(self, owner: str, *, until: float) -> bool:
        if self.owner != owner:
            return False
        self.until = until
        return True

    def release_run(self, owner: str) -> None:
        if self.owner == owner:
            self.owner = None

    def control(self) -> Control:
        return Control(freeze_requested_at=self.freeze_requested_at)


class _Run:
    def __init__(self, table: _Table, owner: str = "first") -> None:
        self.now = 0.0
        fake: Any = table
        self.lease = RunLease(fake, owner, deadline=DEADLINE, clock=lambda: self.now)


@pytest.fixture
def table() -> _Table:
    return _Table()


@pytest.fixture
def run(table: _Table) -> _Run:
    """A run with the lease."""
    run = _Run(table)
    assert run.lease.acquire()
    return run


def test_second_run_waits_until_the_lease_is_released_or_expires(table: _Table, run: _Run) -> None:
    second = _Run(table, "second")

    assert not second.lease.acquire()
    run.lease.release()
    assert second.lease.acquire()

    run.now = LEASE_SECONDS + 0.1
    assert run.lease.acquire()
    second.lease.release()
    assert table.owner == "first"


def test_run_that_writes_renews_its_lease(table: _Table, run: _Run) -> None:
    for second in range(1, 100):
        run.now = float(second)
        run.lease.hold()
        # A write that begins now ends before the lease expires.
        assert table.until - run.now > LEASE_SECONDS - 4


def test_run_ends_when_its_lease_is_taken(table: _Table, run: _Run) -> None:
    table.owner = "second"

    run.now = 4.0
    with pytest.raises(RunEndedError, match="another run"):
        run.lease.hold()


def test_run_begins_no_write_in_its_last_thirty_seconds(run: _Run) -> None:
    run.now = DEADLINE - 30.1
    run.lease.hold()
    run.now = DEADLINE - 30
    with pytest.raises(RunEndedError, match="time is nearly over"):
        run.lease.hold()


@pytest.mark.parametrize("before", [None, NOW - timedelta(seconds=1)])
def test_run_ends_when_a_freeze_is_requested_or_lifted(table: _Table, run: _Run, before: datetime | None) -> None:
    """Each request has another time."""
    run.lease.freeze_requested_at = table.freeze_requested_at = before

    run.now = 4.0
    run.lease.hold()
    table.freeze_requested_at = NOW
    run.now = 8.0
    with pytest.raises(RunEndedError, match="freeze"):
        run.lease.hold()
