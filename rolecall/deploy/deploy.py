"""Deploy or upgrade a stage, or change its settings: the checked plan, its changes, a confirmation, and the operations on the stack."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rolecall.deploy.change_set import ChangeRequest, ChangeSet, ResourceChange, delete_change_set
from rolecall.deploy.changes_page import (
    NEW,
    await_end,
    change_lines,
    new_stack_changes,
    report_failure,
    stack_operations,
)
from rolecall.deploy.next_steps import next_steps
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.preflight import Given, Plan, check_deployment
from rolecall.deploy.publish import run_publish
from rolecall.deploy.stack import protect_stack, protect_tables
from rolecall.deploy.stack_operations import FailedError, StackOperations
from rolecall.deploy.stack_status import Step
from rolecall.deploy.tables import Tables, existing_tables, import_request
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from rolecall.operation import Operation

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef


def deploy(operation: Operation, given: Given, app: PackagedApp, *, dry_run: bool) -> ExitStatus:
    """Deploy a stage, and return the exit status. Raise RefusedError with everything that is wrong, before anything changes."""
    run = _Run(operation, app, stack_operations(operation))
    plan = run.plan(given)
    if not dry_run:
        operation.require_answer("deploy")
    try:
        if plan.step is Step.CONTINUE_ROLLBACK and not dry_run:
            run.continue_rollback(plan)
            plan = run.plan(given)
        if dry_run:
            run.preview(plan)
            return ExitStatus.OK
        run.deploy(plan)
    except FailedError as error:
        report_failure(operation, error, _advice(plan.stage, error))
        return ExitStatus.PROBLEM
    run.finish(plan)
    return ExitStatus.OK


def _advice(stage: str, error: FailedError) -> str:
    """Return what to do about a failed deployment."""
    again = f"remove the cause, and run rolecall deploy {stage} again"
    match error.status:
        case "UPDATE_ROLLBACK_FAILED":
            return (
                f"{again}, which continues the rollback. A resource that can't be rolled back can be skipped: aws cloudformation "
                f"continue-update-rollback --stack-name {error.stack_name} --resources-to-skip NAME"
            )
        case "UPDATE_ROLLBACK_COMPLETE":
            return f"the stage is as it was before; {again}"
    return f"{again}, which starts from the beginning"


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the command."""

    operation: Operation
    app: PackagedApp
    stacks: StackOperations

    def plan(self, given: Given) -> Plan:
        """Return the checked plan, once no operation runs on the stack: an interrupted run's continues in CloudFormation."""
        while True:
            plan = check_deployment(given, self.app, self.operation.stage.client, self.operation.stage.region)
            if plan.step is not Step.WAIT or plan.stack is None:
                return plan
            await_end(self.operation, self.stacks, plan.stack)

    def continue_rollback(self, plan: Plan) -> None:
        """Continue the rollback of a failed update, after a confirmation."""
        self._show(plan, None)
        self.operation.confirm(f"Continue the rollback of {plan.stack_name}?", "continue the rollback")
        if plan.stack is not None:
            self.stacks.continue_rollback(plan.stack)

    def preview(self, plan: Plan) -> None:
        """Show what would change. Only the template and the code are stored, in a bucket that exists."""
        request = self._request(plan, "UPDATE") if plan.step is Step.UPDATE and plan.artifacts.exists() else None
        change_set = self.stacks.prepare(request) if request else None
        try:
            self._show(plan, _changes(change_set) if request else None)
        finally:
            self._discard(plan, change_set)
        stored = f" The template and the code are stored in bucket {plan.artifacts.bucket}." if request else ""
        self.operation.print(f"Dry run: nothing was changed.{stored}")

    def deploy(self, plan: Plan) -> None:
        """Show the changes, and make them after a confirmation."""
        if plan.step in NEW:
            self._show(plan, None)
            self.operation.confirm(_question(plan), "deploy")
            self._create(plan)
            return
        self._set_up_bucket(plan)
        request = self._request(plan, "UPDATE")
        change_set = self.stacks.prepare(request)
        try:
            self._show(plan, _changes(change_set))
            if change_set is not None:
                stored = (
                    f"the stage was not changed; its new template and code are stored in bucket {plan.artifacts.bucket}"
                )
                self.operation.confirm(_question(plan), "deploy", unchanged=stored)
        except BaseException:
            self._discard(plan, change_set)
            raise
        if change_set is not None:
            self.stacks.execute(request, change_set)

    def finish(self, plan: Plan) -> None:
        """Protect what is deployed, run publish once, and print the next steps."""
        stage, dynamodb = self.operation.stage, self.operation.stage.client("dynamodb")
        protect_stack(self.stacks.cloudformation, self.stacks.describe(plan.stack_name), protected=True)
        protect_tables(dynamodb, (plan.values["LedgerTable"], plan.values["SourcePolicyTable"]))
        warning = run_publish(stage) if plan.values["SourcePolicyIsKept"] else None
        for line in [*([warning] if warning else []), *(f"Not checked: {each}" for each in plan.unchecked)]:
            self.operation.print(line, "yellow")
        for line in next_steps(stage.client, plan.stage, plan.location, plan.values):
            self.operation.print(line)

    def _create(self, plan: Plan) -> None:
        """Create the stack, in place of one that failed; it imports the tables that an earlier one left."""
        template, existing = self.app.template, plan.tables
        tables = Tables(self.operation.stage.client("dynamodb"))
        self._set_up_bucket(plan)
        if plan.stack is not None:
            # Another run may have finished it while this one waited for the answer.
            status = self.stacks.describe(plan.stack.id).status
            if status != plan.stack.status:
                raise CommandError(f"stack {plan.stack_name} is {status} meanwhile: run the command again")
            self.stacks.delete(plan.stack)
            existing = existing_tables(template, plan.values, tables)
        kind: Literal["CREATE", "UPDATE"] = "CREATE"
        if existing:
            self.stacks.apply(import_request(plan.stack_name, template, plan.values, existing, tables))
            kind = "UPDATE"
        self.stacks.apply(self._request(plan, kind))

    def _set_up_bucket(self, plan: Plan) -> None:
        if plan.artifacts.is_default:
            plan.artifacts.create()

    def _request(self, plan: Plan, kind: Literal["CREATE", "UPDATE"]) -> ChangeRequest:
        """Upload the code and the template, and return the request for the change set."""
        kept = {name: value for name, value in plan.kept.items() if name in self.app.template["Parameters"]}
        given = {**plan.given, "Stage": plan.stage}
        if plan.step is Step.REPLACE:  # The new stack has no previous values.
            given, kept = {**kept, **given}, {}
        parameters: list[ParameterTypeDef] = [
            {"ParameterKey": name, "ParameterValue": value} for name, value in given.items()
        ]
        parameters += [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept.keys() - given.keys())]
        return ChangeRequest(
            stack_name=plan.stack_name,
            kind=kind,
            template_url=plan.artifacts.upload(self.app),
            parameters=parameters,
            tags={"managed-by": "rolecall", "rolecall-stage": plan.stage},
        )

    def _show(self, plan: Plan, changes: list[ResourceChange] | None) -> None:
        if plan.step in NEW:
            changes = new_stack_changes(self.app.template, plan.values, plan.tables)
        shown = None if changes is None else [change.as_json() for change in changes]
        self.operation.record.details["changes"] = shown
        for line in change_lines(plan, self.app.template["Parameters"], changes):
            self.operation.print(line)

    def _discard(self, plan: Plan, change_set: ChangeSet | None) -> None:
        if change_set is not None:
            delete_change_set(self.stacks.cloudformation, plan.stack_name, change_set.id)


def _question(plan: Plan) -> str:
    return f"Deploy stage {plan.stage}?"


def _changes(change_set: ChangeSet | None) -> list[ResourceChange]:
    return list(change_set.changes) if change_set else []
