"""Operations on a stack, each followed to its end: create, update, import, delete, and continue a rollback."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from rolecall.aws_errors import translate_errors
from rolecall.deploy.change_set import ChangeRequest, ChangeSet, create_change_set, execute_change_set
from rolecall.deploy.stack import Stack, describe_stack, protect_stack
from rolecall.deploy.stack_events import Ended, Event, follow_current_operation, follow_operation
from rolecall.errors import CommandError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient


class FailedError(CommandError):
    """An operation on a stack failed; the message has the resources that failed, with AWS's reasons."""

    def __init__(self, stack_name: str, ended: Ended) -> None:
        """Take how the operation ended."""
        self.stack_name = stack_name
        self.status = ended.status
        self.failures = ended.failures
        super().__init__("\n  ".join([f"stack {stack_name} is {ended.status}:", *ended.failures]))


@dataclass(frozen=True, kw_only=True, slots=True)
class StackOperations:
    """Runs operations and displays their events. An operation continues in CloudFormation if following it is interrupted."""

    cloudformation: "CloudFormationClient"
    display: Callable[[Sequence[Event]], None]
    pause: Callable[[float], None]

    def prepare(self, request: ChangeRequest) -> ChangeSet | None:
        """Create a change set, and return it, or None if nothing changes."""
        return create_change_set(self.cloudformation, request, self.pause)

    def execute(self, request: ChangeRequest, change_set: ChangeSet) -> None:
        """Execute a change set. Raise FailedError if the stack isn't changed accordingly."""
        token = execute_change_set(self.cloudformation, change_set)
        self._follow(request.stack_name, change_set.stack_id, token, f"{request.kind}_COMPLETE")

    def apply(self, request: ChangeRequest) -> None:
        """Create and execute a change set, unless nothing changes."""
        change_set = self.prepare(request)
        if change_set is not None:
            self.execute(request, change_set)

    def delete(self, stack: Stack) -> None:
        """Turn off a stack's termination protection, and delete it."""
        protect_stack(self.cloudformation, stack, protected=False)
        token = _new_token()
        with translate_errors(f"deleting stack {stack.name}"):
            self.cloudformation.delete_stack(StackName=stack.id, ClientRequestToken=token)
        self._follow(stack.name, stack.id, token, "DELETE_COMPLETE")

    def continue_rollback(self, stack: Stack) -> None:
        """Continue the rollback of an update."""
        token = _new_token()
        with translate_errors(f"continuing the rollback of stack {stack.name}"):
            self.cloudformation.continue_update_rollback(StackName=stack.name, ClientRequestToken=token)
        self._follow(stack.name, stack.id, token, "UPDATE_ROLLBACK_COMPLETE")

    def wait(self, stack: Stack) -> None:
        """Wait for the end of the operation that runs, however it ends."""
        follow_current_operation(self.cloudformation, stack.id, self.display, self.pause)

    def _follow(self, name: str, stack_id: str, token: str, expected: str) -> None:
        ended = follow_operation(self.cloudformation, stack_id, token, self.display, self.pause)
        if ended.status != expected:
            raise FailedError(name, ended)

    def describe(self, name: str) -> Stack:
        """Return a stack that exists."""
        stack = describe_stack(self.cloudformation, name)
        if stack is None:
            raise CommandError(f"stack {name} was deleted meanwhile: run the command again")
        return stack


def _new_token() -> str:
    return f"rolecall-{uuid4()}"
