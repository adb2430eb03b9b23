"""The first run of publish after a deployment, which checks names, principals and room."""

from collections.abc import Mapping
from typing import Any

from rolecall.deploy.tables import Tables
from rolecall.errors import CommandError
from rolecall.stage import Stage


def run_publish(stage: Stage, values: Mapping[str, Any], tables: Tables) -> str | None:
    """Run publish once. Return a warning if it fails, or if new accounts can't be enrolled; otherwise None."""
    function = stage.resource_name("publish")
    try:
        stage.invoke("publish", {"Records": []})
    except CommandError as error:
        return f"{error}. See the log group /aws/lambda/{function}."
    blocked = tables.item(values["SourcePolicyTable"], policy_name="#status").get("blocked")
    if not blocked:
        return None
    reason = " ".join(str(blocked[key]) for key in ("reason", "error") if blocked.get(key))
    return f"New accounts are not enrolled: {reason}. See docs/runbook.md#publishing-blocked."
