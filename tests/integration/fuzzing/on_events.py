"""Events as EventBridge hands them over: what they name is looked up, and nothing else is done."""

import json
from pathlib import Path
from typing import Any

from app import AnyEvent
from chalicelib.events import PATTERN
from tests.integration.fuzzing.target import Target, World, work_once
from tests.integration.simulation.changes import STRANGER
from tests.integration.simulation.stages import event
from tests.integration.simulation.strangers import MEMBER, nobody_else_was_entered

_RECORDED = Path(__file__).parents[2] / "events"


def _run(world: World, content: Any) -> None:
    stage = world.strangers.enrolled()
    stage.invoke("on_account_event", AnyEvent(content, None).to_dict())
    for _ in range(3):
        work_once(stage)
    nobody_else_was_entered(stage)


def _seeds() -> list[Any]:
    recorded = [json.loads(path.read_text()) for path in sorted(_RECORDED.glob("*.json"))]
    relayed = {**event(STRANGER), "detail": json.dumps(event(STRANGER)["detail"])}
    return [*recorded, event(MEMBER), event(STRANGER), relayed]


EVENTS = Target(
    "events",
    _run,
    _seeds,
    words=(
        *PATTERN["detail"]["eventName"],
        "SUCCEEDED",
        "ACCEPTED",
        "ACCOUNT",
        "accountId",
        "ACCOUNTID",
        "{",
        '{"a":1}',
    ),
)
