"""Events from EventBridge: the accounts that they name are checked, and nothing else is done."""

import json
from pathlib import Path
from typing import Any

from app import AnyEvent
from chalicelib.events import PATTERN
from tests.integration.fuzzing.target import Target, deliver_once
from tests.integration.simulation.environment import event
from tests.integration.simulation.example_stages import MEMBER, ExampleStages, check_unknown_account
from tests.integration.simulation.members import UNKNOWN_ACCOUNT

_RECORDED = Path(__file__).parents[2] / "events"


def _run(stages: ExampleStages, content: Any) -> None:
    stage = stages.enrolled()
    stage.invoke("on_account_event", AnyEvent(content, None).to_dict())
    for _ in range(3):
        deliver_once(stage)
    check_unknown_account(stage)


def _seeds() -> list[Any]:
    recorded = [json.loads(path.read_text()) for path in sorted(_RECORDED.glob("*.json"))]
    relayed = {**event(UNKNOWN_ACCOUNT), "detail": json.dumps(event(UNKNOWN_ACCOUNT)["detail"])}
    return [*recorded, event(MEMBER), event(UNKNOWN_ACCOUNT), relayed]


_NAMES = ("SUCCEEDED", "ACCEPTED", "ACCOUNT", "accountId", "ACCOUNTID", "{", '{"a":1}')
EVENTS = Target("events", _run, _seeds, words=(*PATTERN["detail"]["eventName"], *_NAMES))
