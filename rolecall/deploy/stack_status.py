"""What a deployment does about the status that an earlier operation left a stack in ("Stack status codes")."""

from collections.abc import Set as AbstractSet
from enum import Enum, auto

from rolecall.deploy.problems import Problems
from rolecall.deploy.stack import Stack

NEVER_CREATED = {"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"}
"""The states of a stack whose first deployment failed."""

ONLY_DELETED = {"DELETE_FAILED", "IMPORT_ROLLBACK_FAILED"}
"""The states of a stack that can only be deleted."""

_TABLES = ("ledger", "source-policy")


class Step(Enum):
    """What is done first."""

    CREATE = auto()  # there is no stack
    UPDATE = auto()
    REPLACE = auto()  # delete the stack of a failed first deployment, and create it again with its settings
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


def table_names(stack_name: str) -> tuple[str, str]:
    """Return the names of a stack's ledger and source-policy tables."""
    ledger, source_policy = (f"{stack_name}-{name}" for name in _TABLES)
    return ledger, source_policy


def is_imported(stack: Stack) -> bool:
    """Whether a stack has no parameter yet: it imported the tables of an earlier one, and no update followed."""
    return not stack.parameters


def check_owner(stack: Stack, resources: AbstractSet[str], problems: Problems) -> None:
    """Add a problem for a stack that isn't the stage's.

    The stage's has its name as a parameter, or only its tables. An update that adds the rest has no parameters, either, while
    it is rolled back.
    """
    stage, tables = stack.stage, set(table_names(stack.name))
    in_rollback = stack.in_progress or stack.status == "UPDATE_ROLLBACK_FAILED"
    if is_imported(stack):
        is_ours = resources <= tables or (in_rollback and bool(resources & tables))
    else:
        is_ours = stack.parameters.get("Stage") == stage
    if not is_ours:
        problems.add(
            f"stack {stack.name} exists and was not deployed from Rolecall's template for stage {stage}",
            "choose another name for the stage",
        )


def check_status(stack: Stack, problems: Problems) -> None:
    """Add a problem for a stack that can't be deployed to."""
    if stack.status == "DELETE_FAILED":
        problems.add(f"stack {stack.name} was not deleted completely", f"finish it: rolecall undeploy {stack.stage}")
    elif stack.status == "IMPORT_ROLLBACK_FAILED":
        problems.add(
            f"the import of tables into stack {stack.name} could not be rolled back",
            f"the tables are kept when you delete the stack: rolecall undeploy {stack.stage}",
        )
