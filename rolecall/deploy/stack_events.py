"""The events of a stack's operation, followed until its end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolecall.aws_errors import translate_errors
from rolecall.deploy.stack import describe_stack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef

_PAUSE_SECONDS = 2.0
_NO_REASON = {"", "User Initiated"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """What happened to a resource, or to the whole stack."""

    id: str
    logical_id: str
    kind: str
    status: str
    reason: str
    is_stack: bool
    token: str | None

    @property
    def is_failure(self) -> bool:
        """Whether a resource failed by itself, not because another one did."""
        return not self.is_stack and self.status.endswith("_FAILED") and "cancelled" not in self.reason

    @property
    def is_end(self) -> bool:
        """Whether the stack's operation ended with this event."""
        return self.is_stack and not self.status.endswith("_IN_PROGRESS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How an operation ended: the stack's status, and why it failed."""

    status: str
    failures: tuple[str, ...]

    @classmethod
    def from_events(cls, events: Sequence[Event]) -> "Ended":
        """Return the end of an operation; without a failed resource, the reasons are the stack's own."""
        failed = [each for each in events if each.is_failure] or [each for each in events if each.is_stack]
        reasons = dict.fromkeys(f"{each.logical_id}: {each.reason}" for each in failed if each.reason not in _NO_REASON)
        return cls(status=events[-1].status, failures=tuple(reasons))


def follow_operation(
    cloudformation: "CloudFormationClient",
    stack_id: str,
    token: str | None,
    display: Callable[[Sequence[Event]], None],
    pause: Callable[[float], None],
) -> Ended:
    """Display the events of the operation with a client request token, each once, and return how it ended."""
    displayed: set[str] = set()
    while True:
        events = _operation_events(cloudformation, stack_id, token)
        new = [event for event in events if event.id not in displayed]
        displayed.update(event.id for event in new)
        display(new)
        if events and events[-1].is_end:
            return Ended.from_events(events)
        if not events and _is_deleted(cloudformation, stack_id):
            return Ended(status="DELETE_COMPLETE", failures=())
        pause(_PAUSE_SECONDS)


def follow_current_operation(
    cloudformation: "CloudFormationClient",
    stack_id: str,
    display: Callable[[Sequence[Event]], None],
    pause: Callable[[float], None],
) -> Ended:
    """Follow the operation that runs, whatever began it."""
    token = next((each.token for each in _newest_first(cloudformation, stack_id)), None)
    return follow_operation(cloudformation, stack_id, token, display, pause)


def _operation_events(cloudformation: "CloudFormationClient", stack_id: str, token: str | None) -> list[Event]:
    """Return the events of an operation, oldest first. They follow each other, since a stack has one operation at a time."""
    events: list[Event] = []
    for event in _newest_first(cloudformation, stack_id):
        if event.token == token:
            events.append(event)
        elif events:
            break
    return events[::-1]


def _is_deleted(cloudformation: "CloudFormationClient", stack_id: str) -> bool:
    """Whether a stack is deleted: one under review leaves no events."""
    stack = describe_stack(cloudformation, stack_id)
    return stack is None or stack.status == "DELETE_COMPLETE"


def _newest_first(cloudformation: "CloudFormationClient", stack_id: str) -> Iterator[Event]:
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id)
    with translate_errors("reading the events of the stack"):
        for page in pages:
            yield from map(_event, page["StackEvents"])


def _event(event: "StackEventTypeDef") -> Event:
    return Event(
        id=event["EventId"],
        logical_id=event.get("LogicalResourceId", ""),
        kind=event.get("ResourceType", ""),
        status=event.get("ResourceStatus", ""),
        reason=event.get("ResourceStatusReason", ""),
        is_stack=event.get("PhysicalResourceId") == event["StackId"],
        token=event.get("ClientRequestToken"),
    )
