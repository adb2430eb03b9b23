"""Delete a stage's stack, unless roles or policies are left that only this stage manages."""

from collections.abc import Iterator

from chalicelib.accounts import UNREACHABLE
from rolecall.deploy.changes_page import failure_lines, stack_operations
from rolecall.deploy.location import check_location, read_location
from rolecall.deploy.next_steps import rolecall_command
from rolecall.deploy.preflight import check_stage_name, stack_name
from rolecall.deploy.problems import Problems, RefusedError
from rolecall.deploy.stack import describe_stack
from rolecall.deploy.stack_operations import FailedError
from rolecall.deploy.tables import Tables
from rolecall.exit_status import ExitStatus
from rolecall.operation import Operation

_MAX_LISTED = 20


def undeploy(operation: Operation) -> ExitStatus:
    """Delete the stack after a confirmation, print what is kept, and return the exit status.

    Raise RefusedError if an account, role or policy is left.
    """
    stage, stacks = operation.stage, stack_operations(operation)
    name = stack_name(stage.name)
    kept = tuple(_existing_tables(operation))
    stack = describe_stack(stacks.cloudformation, name)
    if stack is None:
        raise RefusedError(
            "nothing was changed:", [f"stack {name} does not exist in {stage.region}: check the stage and --region"]
        )
    if stack.in_progress:
        operation.print(f"Stack {name} is {stack.status}: waiting for its end.", "yellow")
        stacks.wait(stack)
    operation.print(
        f"Stack {name} in {stage.region} will be deleted, with its functions, queues, alarms and logs.", "bold"
    )
    operation.confirm(f"Undeploy stage {stage.name}?", "undeploy")
    try:
        if describe_stack(stacks.cloudformation, name) is not None:
            stacks.delete(stack)
    except FailedError as error:
        for failed in failure_lines(error, f"remove the cause, and run rolecall undeploy {stage.name} again"):
            operation.print(failed)
        return ExitStatus.PROBLEM
    for line in _report(operation, kept):
        operation.print(line)
    return ExitStatus.OK


def _existing_tables(operation: Operation) -> Iterator[str]:
    """Yield the tables that are kept. Raise RefusedError if they show that something is left that needs the stage."""
    stage, problems = operation.stage, Problems()
    refused = f"stage {stage.name} can't be undeployed, and nothing was changed:"
    check_stage_name(stage.name, problems)
    if problems.found:
        raise RefusedError(refused, problems.found)
    check_location(stage.client, read_location(stage.client, stage.region), problems)
    tables = Tables(stage.client("dynamodb"))
    ledger, source_policy = (f"{stack_name(stage.name)}-{name}" for name in ("ledger", "source-policy"))
    existing = [name for name in (ledger, source_policy) if tables.exists(name)]
    left = [
        *(_roles(ledger, tables) if ledger in existing else ()),
        *(_policies(source_policy, tables) if source_policy in existing else ()),
    ]
    if left:
        more = [f"and {len(left) - _MAX_LISTED} more"] if len(left) > _MAX_LISTED else []
        problems.add(
            f"{len(left)} enrolled accounts, roles and policies are left",
            f"uninstall the stage first: {rolecall_command(stage.name, 'uninstall')} (docs/offboarding.md)",
        )
        problems.found += left[:_MAX_LISTED] + more
    if problems.found:
        raise RefusedError(refused, problems.found)
    yield from existing


def _roles(ledger: str, tables: Tables) -> list[str]:
    """Return the accounts that are enrolled, and those with a role that can still be deleted."""
    return sorted(
        f"{row['account_id']} {row['outcome']} {row['role_arn'] or ''}".rstrip()
        for row in tables.items(ledger, "account_id", "outcome", "role_arn", "reason")
        if row["outcome"] == "enrolled" or (row["role_arn"] and row["reason"] not in UNREACHABLE)
    )


def _policies(source_policy: str, tables: Tables) -> list[str]:
    """Return the shards of the source policy; the keys of all other items begin with a hash."""
    names = sorted(str(row["policy_name"]) for row in tables.items(source_policy, "policy_name"))
    return [f"policy {name}" for name in names if not name.startswith("#")]


def _report(operation: Operation, kept: tuple[str, ...]) -> Iterator[str]:
    stage = operation.stage
    yield f"Stack {stack_name(stage.name)} is deleted."
    if not kept:
        return
    yield f"Kept, and protected against deletion: {', '.join(kept)}. The next rolecall deploy {stage.name} imports them."
    yield "To delete them with all that is known about the accounts:"
    for name in kept:
        table = f"--table-name {name} --region {stage.region}"
        yield f"  aws dynamodb update-table {table} --no-deletion-protection-enabled"
        yield f"  aws dynamodb delete-table {table}"
    yield "The bucket of the deployments is kept, too: other stages may use it."
