"""Delete a stage's stack, unless roles or policies are left that only this stage manages."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from rich.text import Text

from chalicelib.accounts import UNREACHABLE
from chalicelib.settings import stack_set_role_name
from rolecall.access_role_stack_set import read_failed_instances
from rolecall.deploy.artifacts import Artifacts
from rolecall.deploy.changes_page import await_end, report_failure, stack_operations
from rolecall.deploy.location import check_location, read_location
from rolecall.deploy.preflight import check_stage_name
from rolecall.deploy.problems import Problems, RefusedError
from rolecall.deploy.stack import Stack, describe_stack, resource_names, stack_name
from rolecall.deploy.stack_operations import FailedError, StackOperations
from rolecall.deploy.stack_status import NEVER_CREATED, ONLY_DELETED, check_owner, is_imported, table_names
from rolecall.deploy.tables import Tables
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from rolecall.operation import Operation
from rolecall.stages import command_for, stage_names

_MAX_LISTED = 20
ALL_VERSIONS = "{Objects: [Versions, DeleteMarkers][].{Key: Key, VersionId: VersionId}}"
"""JMESPath: what DeleteObjects takes, from what ListObjectVersions returns."""


def undeploy(operation: Operation) -> ExitStatus:
    """Delete the stack after a confirmation, print what is kept, and return the exit status.

    Raise RefusedError if an account, role or policy is left, or if that can't be known.
    """
    stage, stacks = operation.stage, stack_operations(operation)
    tables, name = Tables(stage.client("dynamodb")), stack_name(stage.name)
    _check_location(operation)
    if describe_stack(stacks.cloudformation, name) is None:
        raise _refused(operation, [f"stack {name} does not exist in {stage.region}: check the stage and --region"])
    stack = _checked_stack(operation, stacks, tables)
    if stack is not None:
        operation.require_answer("undeploy")
        operation.print(
            f"Stack {name} in {stage.region} will be deleted, with its functions, queues, alarms and logs.", "bold"
        )
        operation.confirm(f"Undeploy stage {stage.name}?", "undeploy")
        # The stage may have enrolled accounts until the answer.
        stack = _checked_stack(operation, stacks, tables)
    try:
        if stack is not None:
            stacks.delete(stack)
    except FailedError as error:
        report_failure(operation, error, f"remove the cause, and run rolecall undeploy {stage.name} again")
        if stack is not None and stack.parameters.get("AccessRoleStackSet") == "true":
            for line in _instance_lines(operation, stacks):
                operation.print(line)
        return ExitStatus.PROBLEM
    kept = _existing(name, tables)
    left = _left(name, kept, tables)  # and until its functions were deleted
    operation.record.details |= {"kept": list(kept), "left": left}
    lines: Iterator[Text | str] = _left_lines(operation, left) if left else _report(operation, kept)
    for printed in lines:
        operation.print(printed)
    return ExitStatus.PROBLEM if left else ExitStatus.OK


def _instance_lines(operation: Operation, stacks: StackOperations) -> Iterator[str]:
    """Yield the accounts in which the access role could not be deleted."""
    failures = read_failed_instances(stacks.cloudformation, stack_set_role_name(operation.stage.name)) or ()
    if failures:
        yield f"The StackSet failed in {len(failures)} accounts (docs/access-roles.md#failed-instances):"
        yield from (f"  {each}" for each in _listed(list(map(str, failures))))


def _refused(operation: Operation, problems: Iterable[str]) -> RefusedError:
    return RefusedError(f"stage {operation.stage.name} can't be undeployed, and nothing was changed:", problems)


def _check_location(operation: Operation) -> None:
    """Raise RefusedError for an invalid name of a stage, and for credentials of another account or region."""
    stage, problems = operation.stage, Problems()
    check_stage_name(stage.name, problems)
    if not problems.found:
        check_location(stage.client, read_location(stage.client, stage.region), problems)
    if problems.found:
        raise _refused(operation, problems.found)


def _checked_stack(operation: Operation, stacks: StackOperations, tables: Tables) -> Stack | None:
    """Return the stack once no operation runs on it, or None if it does not exist.

    Raise RefusedError if it isn't the stage's, or if something is left that needs it.
    """
    stage, problems = operation.stage, Problems()
    name = stack_name(stage.name)
    while True:
        stack = describe_stack(stacks.cloudformation, name)
        if stack is None:
            return None
        check_owner(stack, resource_names(stacks.cloudformation, stack), problems)
        if problems.found:
            raise _refused(operation, problems.found)
        if not stack.in_progress:
            break
        await_end(operation, stacks, stack)
    if stack.status in ONLY_DELETED:  # Nothing can be uninstalled before the next deployment.
        return stack
    existing = _existing(name, tables)
    _check_tables(stack, existing, problems)
    left = _left(name, existing, tables)
    if left:
        problems.add(
            f"{len(left)} enrolled accounts, roles and policies are left",
            f"uninstall the stage first: {command_for(stage.client, stage.name, 'uninstall')} (docs/offboarding.md)",
        )
        problems.found += _listed(left)
    if problems.found:
        raise _refused(operation, problems.found)
    return stack


def _check_tables(stack: Stack, existing: Collection[str], problems: Problems) -> None:
    """Add a problem for each missing table of a stack that was created completely."""
    if stack.status in NEVER_CREATED or is_imported(stack):
        return
    for table in table_names(stack.name):
        if table not in existing:
            problems.add(
                f"table {table} does not exist, so whether roles or policies are left is unknown",
                f"restore it from a backup; if nothing is installed, delete stack {stack.name} in CloudFormation",
            )


def _existing(name: str, tables: Tables) -> tuple[str, ...]:
    """Return the stack's tables that exist."""
    return tuple(table for table in table_names(name) if tables.exists(table))


def _left(name: str, existing: Collection[str], tables: Tables) -> list[str]:
    """Return the accounts, roles and policies that only the stage manages."""
    ledger, source_policy = table_names(name)
    return [
        *(_roles(ledger, tables) if ledger in existing else ()),
        *(_policies(source_policy, tables) if source_policy in existing else ()),
    ]


def _listed(left: Sequence[str]) -> list[str]:
    more = [f"and {len(left) - _MAX_LISTED} more"] if len(left) > _MAX_LISTED else []
    return [*left[:_MAX_LISTED], *more]


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


def _left_lines(operation: Operation, left: Sequence[str]) -> Iterator[str]:
    """Yield what is left although the stack is deleted, and what to do."""
    stage, uninstall = operation.stage.name, command_for(operation.stage.client, operation.stage.name, "uninstall")
    yield f"Stack {stack_name(stage)} is deleted, and {len(left)} enrolled accounts, roles and policies are left:"
    yield from (f"  {each}" for each in _listed(left))
    yield f"What to do: run rolecall deploy {stage}, {uninstall}, and rolecall undeploy {stage} again."


def _report(operation: Operation, kept: tuple[str, ...]) -> Iterator[Text | str]:
    stage = operation.stage
    yield f"Stack {stack_name(stage.name)} is deleted."
    if kept:
        yield from _kept_tables(operation, kept)
    yield from _kept_bucket(operation)


def _kept_tables(operation: Operation, kept: tuple[str, ...]) -> Iterator[Text | str]:
    stage = operation.stage
    yield f"Kept, and protected against deletion: {', '.join(kept)}. The next rolecall deploy {stage.name} imports them."
    yield "To delete them with all that is known about the accounts:"
    for name in kept:
        table = f"--table-name {name} --region {stage.region}"
        yield Text(f"  aws dynamodb update-table {table} --no-deletion-protection-enabled", no_wrap=True)
        yield Text(f"  aws dynamodb delete-table {table}", no_wrap=True)


def _kept_bucket(operation: Operation) -> Iterator[Text | str]:
    """Yield the bucket with the template and the code, and how to delete it if no other stage uses it."""
    stage = operation.stage
    try:
        artifacts = Artifacts.connect(stage.client, read_location(stage.client, stage.region), None)
        exists, others = artifacts.exists(), [name for name in stage_names(stage.client) if name != stage.name]
    except CommandError as error:
        yield f"The bucket of the deployments is kept; whether other stages use it is unknown: {error}"
        return
    if not exists:
        return
    if others:
        yield f"Kept, because it has the code of other stages ({', '.join(others)}): bucket {artifacts.bucket}."
        return
    bucket = f"--bucket {artifacts.bucket} --region {stage.region}"
    yield f"Kept: bucket {artifacts.bucket}, with the template and the code. To delete it with all versions (1,000 at a time):"
    listed = f"aws s3api list-object-versions {bucket} --max-items 1000 --query '{ALL_VERSIONS}' --output json"
    yield Text(f'  aws s3api delete-objects {bucket} --delete "$({listed})"', no_wrap=True)
    yield Text(f"  aws s3api delete-bucket {bucket}", no_wrap=True)
