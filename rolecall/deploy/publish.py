"""The first run of publish after a deployment, which checks names, principals and room."""

from rolecall.errors import CommandError
from rolecall.stage import Stage


def run_publish(stage: Stage) -> str | None:
    """Run publish once. Return a warning if it fails, or if new accounts can't be enrolled; otherwise None."""
    try:
        stage.invoke("publish", {"Records": []})
        status = stage.records().status
    except CommandError as error:
        return f"{error}. See the log group /aws/lambda/{stage.resource_name('publish')}."
    if status is None or status.blocked is None:
        return None
    return (
        f"New accounts are not enrolled: {status.blocked.reason} {status.blocked.error}. "
        "See docs/runbook.md#publishing-blocked."
    )
