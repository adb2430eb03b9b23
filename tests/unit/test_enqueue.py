import io
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.aws.queues import AccountsQueue
from chalicelib.enqueue import enqueue_accounts
from chalicelib.messages import Message, Trigger
from chalicelib.telemetry import logger, metrics

EVENTS = Path(__file__).parents[1] / "events"
ABOUT = "444455556666"


class MemoryQueue(AccountsQueue):
    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, messages: Iterable[Message]) -> None:
        self.messages += messages


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    logger.clear_state()  # Whatever an invocation in the same process has left in it.
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logger.registered_formatter)
    logger.addHandler(handler)
    yield written
    logger.handlers.remove(handler)


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    metrics.clear_metrics()
    yield
    metrics.clear_metrics()


def payload(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((EVENTS / f"{name}.json").read_text()))


def counted() -> dict[str, float]:
    return {name: sum(metric["Value"]) for name, metric in metrics.metric_set.items()}


def test_an_events_accounts_are_sent_to_the_queue_told_and_counted(queue: MemoryQueue, log: io.StringIO) -> None:
    enqueue_accounts(payload("create_account_result"), queue)

    (line,) = log.getvalue().splitlines()
    told = json.loads(line)
    assert [(message.account_id, message.trigger) for message in queue.messages] == [(ABOUT, Trigger.EVENT)]
    assert (told["level"], told["message"]) == ("INFO", "event")
    assert (told["event_name"], told["accounts"]) == ("CreateAccountResult", [ABOUT])
    assert counted() == {"EventsReceived": 1}


@pytest.mark.parametrize(
    "name", ["create_account_in_progress", "create_account_result_failed", "remove_account_denied"]
)
def test_an_event_that_is_about_no_account_is_told_and_counted(queue: MemoryQueue, log: io.StringIO, name: str) -> None:
    event = payload(name)

    enqueue_accounts(event, queue)

    told = json.loads(log.getvalue())
    assert queue.messages == []
    assert (told["event_name"], told["accounts"]) == (event["detail"]["eventName"], [])
    assert counted() == {"EventsIgnored": 1}


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_nothing_of_an_event_is_logged_but_its_name_and_its_accounts(
    queue: MemoryQueue, log: io.StringIO, name: str
) -> None:
    event = payload(name)
    secret = "jo@example.com"
    detail = event["detail"]
    detail |= {"requestParameters": (detail.get("requestParameters") or {}) | {"email": secret}, "eventID": secret}

    enqueue_accounts(event, queue)

    told = json.loads(log.getvalue())
    assert secret not in log.getvalue()
    assert told.keys() - {"event_name", "accounts"} == {"level", "location", "message", "timestamp", "service"}


@pytest.mark.parametrize("name", ["jo@example.com", "x" * 65, "two words", "", {"email": "jo@example.com"}, 5, None])
def test_what_is_no_name_of_aws_is_not_logged_as_one(queue: MemoryQueue, log: io.StringIO, name: Any) -> None:
    enqueue_accounts({"detail": {"eventName": name}}, queue)

    assert "event_name" not in json.loads(log.getvalue())


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event=st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["detail", "eventName", "x"]), inner),
        max_leaves=5,
    )
)
def test_junk_is_counted_and_passed_over(queue: MemoryQueue, log: io.StringIO, event: object) -> None:
    metrics.clear_metrics()
    log.seek(0)
    log.truncate()

    enqueue_accounts(event, queue)

    assert json.loads(log.getvalue())["accounts"] == []
    assert queue.messages == []
    assert counted() == {"EventsIgnored": 1}
