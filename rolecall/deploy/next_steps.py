"""What to do after a deployment, as commands."""

from collections.abc import Iterator, Mapping
from typing import Any

from chalicelib.settings import stack_set_role_name
from rolecall.clients import ClientFactory
from rolecall.deploy.location import Location
from rolecall.deploy.stack import stack_name
from rolecall.stages import command_for


def next_steps(client: ClientFactory, stage: str, location: Location, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to do next."""
    place = f"in {location.region} of account {location.account_id}"
    yield f"Stage {stage} is deployed: stack {stack_name(stage)} {place}. It is protected against deletion."
    steps = [
        ("doctor", "checks the trail that delivers events, the access role and the source principals"),
        ("plan", "shows what a backfill changes"),
        ("backfill", "enrolls the existing accounts"),
        ("prove --reader-profile NAME", "tests who can read what, with a source principal's credentials"),
        ("status", "shows the accounts, the source policy, the queues and the alarms"),
    ]
    yield "Next:"
    begins = command_for(client, stage, "")
    width = max(len(begins + command) for command, _ in steps)
    for command, does in steps:
        yield f"  {begins + command:{width}}  {does}"
    if values["AccessRoleStackSet"] == "true":
        yield (
            f"StackSet {stack_set_role_name(stage)} creates the access role in {values['AccessRoleTargets']}, in new accounts, "
            "too; doctor and status show where it fails."
        )
    if not values["AlarmEmail"]:
        yield f"To be notified of alarms: rolecall deploy {stage} --alarm-email ADDRESS"
    yield f"To change settings, run rolecall deploy {stage} with other options; all others keep their values."
