"""A change set: created, read and executed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from botocore.exceptions import ClientError

from rolecall.aws_errors import translate_errors
from rolecall.errors import CommandError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import (
        ChangeTypeDef,
        CreateChangeSetInputTypeDef,
        CreateChangeSetOutputTypeDef,
        ParameterTypeDef,
        ResourceToImportTypeDef,
    )

_PAUSE_SECONDS = 1.0
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """What happens to one resource; `replaced` is whether it is created anew, where CloudFormation knows."""

    action: str
    logical_id: str
    kind: str
    properties: tuple[str, ...] = ()
    replaced: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the change as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """A change set that can be executed."""

    id: str
    stack_id: str
    changes: tuple[ResourceChange, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeRequest:
    """What a stack is created or updated with, or which resources it imports."""

    stack_name: str
    kind: Literal["CREATE", "UPDATE", "IMPORT"]
    template_url: str = ""
    template_body: str = ""
    parameters: Sequence["ParameterTypeDef"] = ()
    tags: Mapping[str, str] | None = None
    imports: Sequence["ResourceToImportTypeDef"] = ()

    def as_input(self, name: str) -> "CreateChangeSetInputTypeDef":
        """Return the request of the API for a change set of this name."""
        request: CreateChangeSetInputTypeDef = {
            "StackName": self.stack_name,
            "ChangeSetName": name,
            "ChangeSetType": self.kind,
            "Parameters": self.parameters,
            # The roles of the functions have generated names; the template is expanded by SAM's transform.
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        }
        if self.template_url:
            request["TemplateURL"] = self.template_url
        else:
            request["TemplateBody"] = self.template_body
        if self.tags is not None:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        if self.imports:
            request["ResourcesToImport"] = self.imports
        return request


def create_change_set(
    cloudformation: "CloudFormationClient", request: ChangeRequest, pause: Callable[[float], None]
) -> ChangeSet | None:
    """Create a change set, and return it, or None if nothing changes; one that isn't returned is deleted.

    Its name is unique, so that no run disturbs another. One that a killed run left is deleted by CloudFormation when another
    one is executed ("ExecuteChangeSet").
    Raise CommandError if CloudFormation can't create it.
    """
    stack_name, name = request.stack_name, f"rolecall-{uuid4()}"
    try:
        with translate_errors(f"creating a change set of {stack_name}"):
            created = cloudformation.create_change_set(**request.as_input(name))
            while True:
                described = cloudformation.describe_change_set(StackName=stack_name, ChangeSetName=created["Id"])
                if described["Status"] in {"CREATE_COMPLETE", "FAILED"}:
                    break
                pause(_PAUSE_SECONDS)
            if described["Status"] == "CREATE_COMPLETE":
                return _complete(cloudformation, created)
    except BaseException:
        if request.kind == "UPDATE":
            with suppress(CommandError):  # It may be in progress, and the former error matters more.
                delete_change_set(cloudformation, stack_name, name)
        raise
    reason = described.get("StatusReason", "no reason given")
    if request.kind == "UPDATE":
        delete_change_set(cloudformation, stack_name, name)
        if any(each in reason for each in _NO_CHANGES):
            return None
    raise CommandError(f"CloudFormation rejected the changes of {stack_name}: {reason}")


def _complete(cloudformation: "CloudFormationClient", created: "CreateChangeSetOutputTypeDef") -> ChangeSet:
    """Return a change set with all pages of its changes."""
    pages = cloudformation.get_paginator("describe_change_set").paginate(
        StackName=created["StackId"], ChangeSetName=created["Id"]
    )
    changes = [change for page in pages for change in page["Changes"]]
    return ChangeSet(created["Id"], created["StackId"], tuple(map(_change, changes)))


def _change(change: "ChangeTypeDef") -> ResourceChange:
    resource = change.get("ResourceChange", {})
    targets = [detail.get("Target", {}) for detail in resource.get("Details", [])]
    names = [target.get("Name") or target.get("Attribute", "") for target in targets]
    return ResourceChange(
        action=resource.get("Action", ""),
        logical_id=resource.get("LogicalResourceId", ""),
        kind=resource.get("ResourceType", ""),
        properties=tuple(dict.fromkeys(filter(None, names))),
        replaced=resource.get("Replacement") == "True",
    )


def delete_change_set(cloudformation: "CloudFormationClient", stack_name: str, name: str) -> None:
    """Delete a change set, if it exists."""
    with translate_errors(f"deleting a change set of {stack_name}"):
        try:
            cloudformation.delete_change_set(StackName=stack_name, ChangeSetName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"ChangeSetNotFound", "ChangeSetNotFoundException"}:
                raise


def execute_change_set(cloudformation: "CloudFormationClient", change_set: ChangeSet) -> str:
    """Execute a change set, and return the token of the operation's events."""
    token = f"rolecall-{uuid4()}"
    with translate_errors("executing the change set"):
        cloudformation.execute_change_set(
            StackName=change_set.stack_id, ChangeSetName=change_set.id, ClientRequestToken=token
        )
    return token
