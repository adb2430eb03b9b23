"""What a deployment does about the status that an earlier operation left a stack in ("Stack status codes")."""

from enum import Enum, auto

from rolecall.deploy.problems import Problems
from rolecall.deploy.stack import Stack

NEVER_CREATED = {"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"}
"""The states of a stack whose first deployment failed."""


class Step(Enum):
    """What is done first."""

    CREATE = auto()  # there is no stack
    UPDATE = auto()
    REPLACE = auto()  # delete the stack of a failed first deployment, and create it again
    CONTINUE_ROLLBACK = auto()  # of a failed update, then update
    WAIT = auto()  # for the operation that runs


def next_step(stack: Stack | None, *, has_resources: bool) -> Step:
    """Return the first step for a stack. A stack without resources is left by a failed import, and deleting it loses nothing."""
    if stack is None:
        return Step.CREATE
    if stack.in_progress:
        return Step.WAIT
    if stack.status in NEVER_CREATED or (stack.status == "IMPORT_ROLLBACK_COMPLETE" and not has_resources):
        return Step.REPLACE
    return Step.CONTINUE_ROLLBACK if stack.status == "UPDATE_ROLLBACK_FAILED" else Step.UPDATE


def check_status(stack: Stack, problems: Problems) -> None:
    """Add a problem for a stack that can't be deployed to, or that isn't Rolecall's."""
    stage = stack.name.removeprefix("rolecall-")
    if stack.status == "DELETE_FAILED":
        problems.add(f"stack {stack.name} was not deleted completely", f"finish it: rolecall undeploy {stage}")
    elif stack.status == "IMPORT_ROLLBACK_FAILED":
        problems.add(
            f"the import of tables into stack {stack.name} could not be rolled back",
            f"the tables are kept when you delete the stack: rolecall undeploy {stage}",
        )
    elif stack.parameters and stack.parameters.get("Stage") != stage:
        problems.add(
            f"stack {stack.name} exists and was not deployed from Rolecall's template",
            "choose another name for the stage",
        )
