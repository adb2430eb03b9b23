"""What a deployment will change: parameters and resources, as a diff with a line that counts the changes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from chalicelib.documents import Document
from rolecall.console import first_of, printable
from rolecall.deploy.change_set import ResourceChange
from rolecall.deploy.member_role_policies import PARAMETER, parsed
from rolecall.deploy.preflight import Plan
from rolecall.deploy.role_changes import role_lines
from rolecall.deploy.stack import Stack
from rolecall.deploy.stack_events import Event
from rolecall.deploy.stack_operations import FailedError, StackOperations
from rolecall.deploy.stack_status import Step
from rolecall.document_diff import diff_lines
from rolecall.operation import Operation

_MARKS = {
    "Add": ("+", "green", "created"),
    "Modify": ("~", "yellow", "updated"),
    "Replace": ("±", "bold red", "replaced"),
    "Import": ("<", "cyan", "imported"),
    "Remove": ("-", "red", "deleted"),
}
_SECRET = {"ExternalId"}
_MAX_NAMES = 4  # resources of one type on a line

NEW = {Step.CREATE, Step.REPLACE}
"""The steps that create a stack."""

_FIRST_STEPS = {
    Step.REPLACE: "the stack of a deployment that failed ({status}) is deleted first, and created again with its settings",
    Step.CONTINUE_ROLLBACK: "the rollback of a failed update is continued first ({status})",
}


def change_lines(plan: Plan, declared: Mapping[str, Any], changes: Sequence[ResourceChange] | None) -> Iterator[Text]:
    """Yield what a deployment will change; `changes` of an existing stack are unknown before its change set exists."""
    location = plan.location
    yield Text(f"Stack {plan.stack_name} in {location.region} of account {location.account_id}", "bold")
    if plan.stack is not None and plan.step in _FIRST_STEPS:
        yield Text(f"  ! {_FIRST_STEPS[plan.step].format(status=plan.stack.status)}", "yellow")
    if not plan.artifacts.exists():
        yield Text(f"  + bucket {plan.artifacts.bucket}, private and encrypted, for the template and the code", "green")
    yield from parameter_lines(plan.given, plan.kept, declared)
    for warning in plan.warnings:
        yield Text(f"  ! {printable(warning)}", "yellow")
    if plan.roles is not None:
        yield from role_lines(plan.roles)
    if changes is None:
        known = "the rollback is finished" if plan.step is Step.CONTINUE_ROLLBACK else "the bucket exists"
        yield Text(f"  the changes of resources are shown once {known}", "yellow")
        return
    yield from resource_lines(changes, are_expanded=plan.step not in NEW)


def parameter_lines(given: Mapping[str, str], kept: Mapping[str, str], declared: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the parameters that differ from the stack's, or from the defaults."""
    for name, value in given.items():
        before = kept.get(name, str(declared[name].get("Default", "")))
        if value == before:
            continue
        if name == PARAMETER:
            yield from _document_lines(parsed(before), parsed(value))
            continue
        if name in _SECRET:
            yield Text(f"  ~ {name}: changed (not shown)", "yellow")
        elif name in kept:
            yield Text(f"  ~ {name}: {_shown(before)} → {_shown(value)}", "yellow")
        else:
            yield Text(f"  + {name}: {_shown(value)}", "green")


def _document_lines(before: Mapping[str, Document], after: Mapping[str, Document]) -> Iterator[Text]:
    """Yield the documents that differ, each as a diff."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            mark, style = ("+", "green") if old is None else ("-", "red") if new is None else ("~", "yellow")
            yield Text(f"  {mark} {PARAMETER}: {name}", style)
            yield from diff_lines(old and old.content, new and new.content)


def _shown(value: str) -> str:
    return printable(value) if value else "(empty)"


def new_stack_changes(
    template: Mapping[str, Any], values: Mapping[str, Any], imported: Iterable[str]
) -> list[ResourceChange]:
    """Return what the template's resources become in a new stack; SAM's transform adds their permissions and event sources."""
    known = set(imported)
    return [
        ResourceChange("Import" if name in known else "Add", name, each["Type"])
        for name, each in template["Resources"].items()
        if "Condition" not in each or values[each["Condition"]]
    ]


def _action(change: ResourceChange) -> str:
    return "Replace" if change.action == "Modify" and change.replaced else change.action


def resource_lines(changes: Sequence[ResourceChange], *, are_expanded: bool = True) -> Iterator[Text]:
    """Yield a line for each changed resource, those that are only created grouped by type, and a line that counts them.

    A change set has the resources that SAM's transform adds, too; a template doesn't (`are_expanded`).
    """
    added: dict[str, list[str]] = {}
    for change in changes:
        if change.action == "Add":
            added.setdefault(change.kind, []).append(change.logical_id)
    for kind, names in sorted(added.items()):
        yield Text(f"  + {len(names)} {kind}: {first_of(names, _MAX_NAMES)}", "green")
    for change in changes:
        mark, style, _ = _MARKS.get(_action(change), ("~", "yellow", ""))
        if change.action != "Add":
            properties = f": {', '.join(change.properties)}" if change.properties else ""
            yield Text(f"  {mark} {change.logical_id} ({change.kind}){properties}", style)
    more = "" if are_expanded else ", and what SAM's transform adds to the functions: permissions, mappings and rules"
    yield Text(_summary(changes) + more, "bold")


def _summary(changes: Sequence[ResourceChange]) -> str:
    counts = Counter(map(_action, changes))
    parts = [f"{counts[action]} {word}" for action, (_, _, word) in _MARKS.items() if counts[action]]
    return f"Resources: {', '.join(parts) or 'nothing changes'}"


def event_display(print_line: Callable[[Text], None], clock: Callable[[], float]) -> Callable[[Sequence[Event]], None]:
    """Return a function that prints the resources whose change ended, in a line for each result, and a line for each failure."""
    started = clock()

    def display(events: Sequence[Event]) -> None:
        for line in _event_lines(events):
            print_line(Text(f"  {clock() - started:4.0f} s  ").append_text(line))

    return display


def _event_lines(events: Sequence[Event]) -> Iterator[Text]:
    ended: dict[str, list[str]] = {}
    for event in events:
        if event.status.endswith("_FAILED"):
            yield Text(f"{_word(event.status)}: {event.logical_id}: {printable(event.reason)}", "bold red")
        elif event.status.endswith("_COMPLETE"):
            ended.setdefault(event.status, []).append(event.logical_id)
    for status, names in ended.items():
        undone = "ROLLBACK" in status or status.startswith("DELETE")
        yield Text(f"{_word(status)}: {first_of(names, _MAX_NAMES)}", "yellow" if undone else "green")


def _word(status: str) -> str:
    return status.lower().replace("_", " ")


def failure_lines(error: FailedError, advice: str) -> Iterator[Text]:
    """Yield why an operation failed, and what to do."""
    yield Text(f"Failed: stack {error.stack_name} is {error.status}.", "bold red")
    for failure in error.failures:
        yield Text(f"  {printable(failure)}", "red")
    yield Text(f"What to do: {advice}.")


def report_failure(operation: Operation, error: FailedError, advice: str) -> None:
    """Print why an operation failed and what to do, and record the reasons."""
    for line in failure_lines(error, advice):
        operation.print(line)
    operation.record.details["failures"] = list(error.failures)


def await_end(operation: Operation, stacks: StackOperations, stack: Stack) -> None:
    """Wait for the end of the operation that runs on a stack, and print that."""
    operation.print(f"Stack {stack.name} is {stack.status}: waiting for its end.", "yellow")
    stacks.wait(stack)


def stack_operations(operation: Operation) -> StackOperations:
    """Return the operations on stacks whose events are printed."""
    return StackOperations(
        cloudformation=operation.stage.client("cloudformation"),
        display=event_display(operation.print, operation.clock),
        pause=operation.pause,
    )
