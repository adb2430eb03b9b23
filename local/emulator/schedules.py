"""EventBridge's scheduled rules, which can be fired at any time."""

import threading

from emulator.organizations import MANAGEMENT
from ministack.services import eventbridge

_LOCK = threading.RLock()


def patch() -> None:
    """Lock the scheduler, so that it doesn't fire a rule at the same time as `fire`."""
    tick = eventbridge._tick_scheduled_rules

    def locked_tick() -> None:
        with _LOCK:
            tick()

    eventbridge._tick_scheduled_rules = locked_tick


def fire(rule: str) -> None:
    """Fire a scheduled rule of the management account. Raise ValueError if it is missing, not scheduled or disabled."""
    key = (MANAGEMENT, "us-east-1", eventbridge._rule_key(rule, "default"))
    record = eventbridge._rules.to_dict().get(key, {})
    if not record.get("ScheduleExpression") or record["State"] != "ENABLED":
        raise ValueError(f"{rule} is not an enabled scheduled rule")
    with _LOCK:
        eventbridge._rule_last_fired[key] = 0.0
        eventbridge._tick_scheduled_rules()
