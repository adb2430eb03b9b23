import io
import json
import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from chalicelib.aws.queues import AccountsQueue
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.enqueue import enqueue_accounts
from chalicelib.messages import Message, Trigger
from chalicelib.telemetry import logger, metrics

EVENTS = Path(__file__).parents[1] / "events"
ACCOUNT = "444455556666"
NOW = datetime(2026, 3, 15, 8, 30, tzinfo=UTC)


class MemoryQueue(AccountsQueue):
    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, messages: Iterable[Message]) -> None:
        self.messages += messages


class MemoryTable(SourcePolicyTable):
    def __init__(self) -> None:
        self.policies_changed_at: datetime | None = None

    def record_control_policy_change(self, now: datetime) -> None:
        self.policies_changed_at = now


def enqueue(event: object, queue: MemoryQueue, tag_keys: frozenset[str] = frozenset()) -> datetime | None:
    """Enqueue an event's accounts, and return when it recorded a change of control policies, if it did."""
    table = MemoryTable()
    enqueue_accounts(event, tag_keys, queue, lambda: table, lambda: NOW)
    return table.policies_changed_at


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    logger.clear_state()  # keys of earlier invocations in this process
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logger.registered_formatter)
    logger.addHandler(handler)
    yield stream
    logger.handlers.remove(handler)


@pytest.fixture(autouse=True)
def _no_metrics() -> Iterator[None]:
    metrics.clear_metrics()
    yield
    metrics.clear_metrics()


def payload(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((EVENTS / f"{name}.json").read_text()))


def counts() -> dict[str, float]:
    return {name: sum(metric["Value"]) for name, metric in metrics.metric_set.items()}


def test_accounts_of_an_event_are_sent_logged_and_counted(queue: MemoryQueue, log: io.StringIO) -> None:
    enqueue(payload("create_account_result"), queue)

    (line,) = log.getvalue().splitlines()
    record = json.loads(line)
    assert [(message.account_id, message.trigger) for message in queue.messages] == [(ACCOUNT, Trigger.EVENT)]
    assert (record["level"], record["message"]) == ("INFO", "event")
    assert (record["event_name"], record["accounts"]) == ("CreateAccountResult", [ACCOUNT])
    assert counts() == {"EventsReceived": 1}


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_message_of_a_joining_event_has_when_it_was_received(queue: MemoryQueue, log: io.StringIO, name: str) -> None:
    enqueue(payload(name), queue)

    joins = name in {"accept_handshake", "account_joined_service_event", "create_account_result"}
    assert log.getvalue()
    assert {message.first_seen_at for message in queue.messages} <= {NOW if joins else None}


@pytest.mark.parametrize(
    "name", ["create_account_in_progress", "create_account_result_failed", "remove_account_denied"]
)
def test_event_without_an_account_is_logged_and_counted(queue: MemoryQueue, log: io.StringIO, name: str) -> None:
    event = payload(name)

    enqueue(event, queue)

    record = json.loads(log.getvalue())
    assert queue.messages == []
    assert (record["event_name"], record["accounts"]) == (event["detail"]["eventName"], [])
    assert counts() == {"EventsIgnored": 1}


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_only_the_name_and_accounts_of_an_event_are_logged(queue: MemoryQueue, log: io.StringIO, name: str) -> None:
    event = payload(name)
    secret = "jo@example.com"
    detail = event["detail"]
    detail |= {"requestParameters": (detail.get("requestParameters") or {}) | {"email": secret}, "eventID": secret}

    enqueue(event, queue)

    record = json.loads(log.getvalue())
    assert secret not in log.getvalue()
    assert record.keys() - {"event_name", "accounts"} == {"level", "location", "message", "timestamp", "service"}


@pytest.mark.parametrize("name", ["jo@example.com", "x" * 65, "two words", "", {"email": "jo@example.com"}, 5, None])
def test_malformed_event_name_is_not_logged(queue: MemoryQueue, log: io.StringIO, name: Any) -> None:
    enqueue({"detail": {"eventName": name}}, queue)

    assert "event_name" not in json.loads(log.getvalue())


@pytest.mark.parametrize("event", [None, [], "event", {}, {"detail": None}, {"detail": ["eventName"]}])
def test_malformed_event_is_counted_and_ignored(queue: MemoryQueue, log: io.StringIO, event: object) -> None:
    enqueue(event, queue)

    assert json.loads(log.getvalue())["accounts"] == []
    assert queue.messages == []
    assert counts() == {"EventsIgnored": 1}


@pytest.mark.parametrize("name", ["AccountJoinedOrganization", "AccountDepartedOrganization"])
def test_membership_event_without_an_account_is_counted(queue: MemoryQueue, log: io.StringIO, name: str) -> None:
    enqueue({"detail": {"eventName": name}}, queue)

    assert json.loads(log.getvalue())["event_name"] == name
    assert queue.messages == []
    assert counts() == {"EventsIgnored": 1, "EventsWithoutAccount": 1}


@pytest.mark.parametrize(
    ("name", "accounts"), [("detach_policy_from_account", [ACCOUNT]), ("update_service_control_policy", [])]
)
def test_change_of_control_policies_is_recorded(
    queue: MemoryQueue, log: io.StringIO, name: str, accounts: list[str]
) -> None:
    assert enqueue(payload(name), queue) == NOW

    assert [message.account_id for message in queue.messages] == json.loads(log.getvalue())["accounts"] == accounts
    assert counts() == {"EventsReceived": 1}


@pytest.mark.parametrize(
    ("keys", "counted"), [({"team"}, "EventsReceived"), ({"env"}, "EventsIgnored"), ((), "EventsIgnored")]
)
def test_tagged_account_is_sent_if_the_settings_select_by_the_key(
    queue: MemoryQueue, log: io.StringIO, keys: Iterable[str], counted: str
) -> None:
    enqueue(payload("tag_account"), queue, frozenset(keys))

    assert [message.account_id for message in queue.messages] == json.loads(log.getvalue())["accounts"]
    assert bool(queue.messages) == ("team" in keys)
    assert counts() == {counted: 1}


@pytest.mark.parametrize("name", ["update_backup_policy", "enable_tag_policies", "detach_policy_denied"])
def test_other_event_records_no_change_of_control_policies(queue: MemoryQueue, log: io.StringIO, name: str) -> None:
    assert enqueue(payload(name), queue) is None
    assert json.loads(log.getvalue())["message"] == "event"
