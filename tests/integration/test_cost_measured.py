"""The calls, metrics and sizes that the cost is estimated from are those of the functions."""

import io
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from chalicelib.source_policy.documents import capacity
from chalicelib.telemetry import metrics
from rolecall import cost
from rolecall.calls import RERUN, RESYNC, RUN
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, Organization
from tests.integration.stage import Invoke, Stage
from tests.unit.builders import settings

ACCOUNTS = 10  # of a batch
_OF_THE_LISTING = ("organizations:ListAccounts", "dynamodb:BatchGetItem", "sqs:SendMessageBatch")
_SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": []}


class Measured:
    """Runs functions as Lambda does, and measures each."""

    def __init__(
        self, stage: Stage, boundary: Boundary, invoke: Invoke, log: io.StringIO, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.stage, self._boundary, self._invoke, self._log, self._capsys = stage, boundary, invoke, log, capsys
        self.metrics: set[str] = set()
        self.log_bytes = 0

    def run(self, function: str, payload: Any) -> dict[str, int]:
        """Return the calls of an invocation; keep its metrics and the bytes that it logged."""
        metrics.clear_metrics()
        self._capsys.readouterr()
        calls, logged = len(self._boundary.calls), len(self._log.getvalue())
        self._invoke(self.stage, function, payload)
        emitted = self._capsys.readouterr().out
        groups = [each for line in emitted.splitlines() for each in json.loads(line)["_aws"]["CloudWatchMetrics"]]
        self.metrics = {metric["Name"] for group in groups for metric in group["Metrics"]}
        self.log_bytes = len(self._log.getvalue()) - logged + len(emitted)
        return dict(Counter(call.operation for call in self._boundary.calls[calls:]))


@pytest.fixture
def measured(
    organization: Organization,
    boundary: Boundary,
    invoke: Invoke,
    log: io.StringIO,
    capsys: pytest.CaptureFixture[str],
) -> Measured:
    """A stage whose accounts are enrolled."""
    stage = Stage(organization)
    stage.enroll(*organization.members(ACCOUNTS - 1), MANAGEMENT)
    stage.drain()
    return Measured(stage, boundary, invoke, log, capsys)


def without_listing(calls: Mapping[str, int]) -> dict[str, int]:
    return {call: number for call, number in calls.items() if call not in _OF_THE_LISTING}


def test_hourly_functions_make_the_counted_calls(measured: Measured) -> None:
    assert without_listing(measured.run("resync", {"accounts": "new"})) == RESYNC
    measured.stage.drain()
    assert measured.run("publish", {}) == RUN
    assert measured.run("rerun", _SCHEDULED) == RERUN


def test_hourly_functions_send_the_counted_metrics(measured: Measured) -> None:
    hourly: set[str] = set()
    for function, payload in (("resync", {"accounts": "new"}), ("publish", {}), ("rerun", _SCHEDULED)):
        measured.run(function, payload)
        hourly |= measured.metrics
    assert len(hourly) == cost.HOURLY_METRICS

    measured.run("resync", {"accounts": "all"})
    measured.run("enroll", {"Records": measured.stage.receive()})
    daily = measured.metrics
    measured.run("publish", {})
    daily |= measured.metrics - hourly
    assert len(daily) == cost.DAILY_METRICS


def test_new_account_sends_the_counted_metrics(measured: Measured, organization: Organization) -> None:
    measured.run("resync", {"accounts": "all"})
    resyncs = measured.metrics
    measured.stage.drain()
    measured.run("publish", {})
    usual = resyncs | measured.metrics
    measured.stage.enqueue(organization.member("New"))

    measured.run("enroll", {"Records": measured.stage.receive()})
    sent = measured.metrics
    measured.run("publish", {})
    sent |= measured.metrics

    # And EventsReceived, of its event.
    assert len(sent - usual) + 1 == cost.EVENT_METRICS


def test_rows_and_records_are_at_most_as_large(measured: Measured) -> None:
    long = measured.stage.row(measured.stage.enroll_members(1)[0]) | {
        "name": "n" * 50,
        "ou_path": "/".join(["ou-ab12-11111111"] * 3),
    }
    assert cost.ROW_BYTES * 0.8 < _size(long) <= cost.ROW_BYTES
    assert capacity(settings()) == cost.SHARD_ACCOUNTS


def test_logs_are_at_most_as_large(measured: Measured) -> None:
    measured.run("resync", {"accounts": "all"})
    resync = measured.log_bytes
    measured.run("enroll", {"Records": measured.stage.receive()})
    enroll = measured.log_bytes
    measured.run("publish", {})
    of_lambda = 500  # START, END and REPORT
    assert max(resync, measured.log_bytes) + of_lambda <= cost.LOG_BYTES_PER_INVOCATION
    assert enroll + of_lambda <= ACCOUNTS * cost.LOG_BYTES_PER_ACCOUNT + cost.LOG_BYTES_PER_INVOCATION
    assert enroll > ACCOUNTS * cost.LOG_BYTES_PER_ACCOUNT * 0.6


def _size(item: Mapping[str, Any]) -> int:
    """Return the bytes of names and values ("DynamoDB item sizes and formats" in the Amazon DynamoDB Developer Guide)."""
    return sum(len(name) + len(str(value)) for name, value in item.items())
