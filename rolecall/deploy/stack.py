"""A CloudFormation stack: its name, its description, its deletion, and the protection of what would be lost with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from rolecall.aws_errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_dynamodb import DynamoDBClient


_PREFIX = "rolecall-"


def stack_name(stage: str) -> str:
    """Return the name of a stage's stack."""
    return _PREFIX + stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """A stack as CloudFormation describes it."""

    id: str
    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    protected: bool

    @property
    def stage(self) -> str:
        """The stage of a stack of this name."""
        return self.name.removeprefix(_PREFIX)

    @property
    def in_progress(self) -> bool:
        """Whether an operation runs."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"


def describe_stack(cloudformation: "CloudFormationClient", name: str) -> Stack | None:
    """Return a stack by its name or id, or None if it does not exist."""
    with translate_errors(f"describing stack {name}"):
        try:
            described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise
    return _stack(described)


def _stack(described: "StackTypeDef") -> Stack:
    return Stack(
        id=described.get("StackId", described["StackName"]),
        name=described["StackName"],
        status=described["StackStatus"],
        parameters={
            each.get("ParameterKey", ""): each.get("ParameterValue", "") for each in described.get("Parameters", [])
        },
        outputs={each.get("OutputKey", ""): each.get("OutputValue", "") for each in described.get("Outputs", [])},
        protected=described.get("EnableTerminationProtection", False),
    )


def resource_names(cloudformation: "CloudFormationClient", stack: Stack) -> set[str]:
    """Return the physical ids of the resources that a stack has; those that were never created or are deleted are left out."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.id)
    with translate_errors(f"listing the resources of {stack.name}"):
        return {
            each["PhysicalResourceId"]
            for page in pages
            for each in page["StackResourceSummaries"]
            if each.get("PhysicalResourceId") and each["ResourceStatus"] != "DELETE_COMPLETE"
        }


def protect_stack(cloudformation: "CloudFormationClient", stack: Stack, *, protected: bool) -> None:
    """Turn a stack's termination protection on or off."""
    if stack.protected is not protected:
        with translate_errors(f"changing the termination protection of {stack.name}"):
            cloudformation.update_termination_protection(StackName=stack.name, EnableTerminationProtection=protected)


def protect_tables(dynamodb: "DynamoDBClient", names: Iterable[str]) -> None:
    """Turn the deletion protection of tables on.

    Not in the template: CloudFormation couldn't delete the tables of a stack whose creation it rolls back.
    """
    for name in names:
        with translate_errors(f"turning on the deletion protection of table {name}"):
            table: dict[str, Any] = {**dynamodb.describe_table(TableName=name)["Table"]}
            if not table.get("DeletionProtectionEnabled"):
                dynamodb.update_table(TableName=name, DeletionProtectionEnabled=True)
