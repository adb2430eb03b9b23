"""The two tables of a stage: which exist, what they contain, and their import into a new stack."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from rolecall.aws_errors import translate_errors
from rolecall.deploy.change_set import ChangeRequest
from rolecall.deploy.intrinsics import resolve

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_TABLE = "AWS::DynamoDB::Table"


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of an account and region."""

    dynamodb: "DynamoDBClient"

    def exists(self, name: str) -> bool:
        """Whether a table exists."""
        with translate_errors(f"describing table {name}"):
            try:
                self.dynamodb.describe_table(TableName=name)
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return False
                raise
        return True

    def has_stream(self, name: str) -> bool:
        """Whether a table's stream is enabled."""
        with translate_errors(f"describing table {name}"):
            table = self.dynamodb.describe_table(TableName=name)["Table"]
        return table.get("StreamSpecification", {}).get("StreamEnabled", False)

    def item(self, name: str, **key: str) -> dict[str, Any]:
        """Return a table's item, or an empty dict if it does not exist."""
        with translate_errors(f"reading table {name}"):
            found = self.dynamodb.get_item(
                TableName=name, Key={each: {"S": value} for each, value in key.items()}, ConsistentRead=True
            )
        return _deserialized(found.get("Item", {}))

    def items(self, name: str, *attributes: str) -> Iterator[dict[str, Any]]:
        """Yield some attributes of a table's items; absent ones are None."""
        names = {f"#{index}": attribute for index, attribute in enumerate(attributes)}
        pages = self.dynamodb.get_paginator("scan").paginate(
            TableName=name,
            ConsistentRead=True,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
        )
        with translate_errors(f"reading table {name}"):
            for page in pages:
                yield from (dict.fromkeys(attributes) | _deserialized(item) for item in page["Items"])


def _deserialized(item: Mapping[str, "AttributeValueTypeDef"]) -> dict[str, Any]:
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}


def existing_tables(template: Mapping[str, Any], values: Mapping[str, Any], tables: Tables) -> dict[str, str]:
    """Map the logical ids of the template's tables that exist already to their names: CloudFormation can't create them again."""
    declared = {name: values[name] for name, each in template["Resources"].items() if each["Type"] == _TABLE}
    return {logical_id: name for logical_id, name in declared.items() if tables.exists(name)}


def import_request(
    stack_name: str, template: Mapping[str, Any], values: Mapping[str, Any], existing: Mapping[str, str], tables: Tables
) -> ChangeRequest:
    """Return the request that creates a stack of existing tables; an import allows no transform and no other change.

    A table without a stream is imported without one: an import compares nothing, and an update would not enable what
    the stack's template has already.
    """
    resources = {logical_id: resolve(template["Resources"][logical_id], values) for logical_id in existing}
    for logical_id, name in existing.items():
        if not tables.has_stream(name):
            resources[logical_id]["Properties"].pop("StreamSpecification", None)
    return ChangeRequest(
        stack_name=stack_name,
        kind="IMPORT",
        template_body=json.dumps({"Resources": resources}),
        imports=[
            {
                "ResourceType": _TABLE,
                "LogicalResourceId": logical_id,
                "ResourceIdentifier": {"TableName": name},
            }
            for logical_id, name in existing.items()
        ],
    )
