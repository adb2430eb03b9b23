"""What to do after a deployment, as commands."""

from collections.abc import Iterator, Mapping
from typing import Any

from rolecall.deploy.location import Location
from rolecall.stages import DEFAULT_STAGE


def rolecall_command(stage: str, command: str) -> str:
    """Return a command for a stage."""
    return f"rolecall {command}" if stage == DEFAULT_STAGE else f"rolecall --stage {stage} {command}"


def next_steps(stage: str, location: Location, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to do next."""
    place = f"in {location.region} of account {location.account_id}"
    yield f"Stage {stage} is deployed: stack rolecall-{stage} {place}. It is protected against deletion."
    steps = [
        ("doctor", "checks the trail that delivers events, the access role and the source principals"),
        ("plan", "shows what a backfill changes"),
        ("backfill", "enrolls the existing accounts"),
        ("prove --reader-profile NAME", "tests who can read what, with a source principal's credentials"),
        ("status", "shows the accounts, the source policy, the queues and the alarms"),
    ]
    yield "Next:"
    width = max(len(rolecall_command(stage, command)) for command, _ in steps)
    for command, does in steps:
        yield f"  {rolecall_command(stage, command):{width}}  {does}"
    if not values["AlarmEmail"]:
        yield f"To be notified of alarms: rolecall deploy {stage} --alarm-email ADDRESS"
    yield f"To change settings, run rolecall deploy {stage} with other options; all others keep their values."
