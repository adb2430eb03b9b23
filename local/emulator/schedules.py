"""Scheduled rules of EventBridge: one may be fired now, instead of when its time has come."""

import threading

from emulator.organizations import MANAGEMENT
from ministack.services import eventbridge

_LOCK = threading.RLock()


def mend() -> None:
    """Let a rule that is fired by hand not be fired by the scheduler at the same moment."""
    tick = eventbridge._tick_scheduled_rules

    def tick_alone() -> None:
        with _LOCK:
            tick()

    eventbridge._tick_scheduled_rules = tick_alone


def fire(rule: str) -> None:
    """Let a scheduled rule of the management account be due now; one that is disabled is never due, as on AWS."""
    key = (MANAGEMENT, "us-east-1", eventbridge._rule_key(rule, "default"))
    found = eventbridge._rules.to_dict().get(key, {})
    if not found.get("ScheduleExpression") or found["State"] != "ENABLED":
        raise ValueError(f"there is no rule {rule} that is scheduled and enabled")
    with _LOCK:
        eventbridge._rule_last_fired[key] = 0.0
        eventbridge._tick_scheduled_rules()
