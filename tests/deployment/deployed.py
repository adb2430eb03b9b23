"""A stage as CloudFormation would deploy it in one partition."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from samtranslator.translator.transform import transform

from rolecall.deploy.intrinsics import resolve
from rolecall.deploy.location import Location
from rolecall.deploy.parameters import known_values, merge_parameters
from rolecall.partitions import EVENT_REGIONS

MANAGEMENT_ACCOUNT = "111122223333"

_ARNS = {
    "AWS::CloudWatch::Alarm": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:${AlarmName}",
    "AWS::DynamoDB::Table": "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${TableName}",
    "AWS::Events::Rule": "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/${Name}",
    "AWS::IAM::Role": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/of-a-function",
    "AWS::KMS::Key": "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/11112222-3333-4444-5555-666677778888",
    "AWS::Lambda::Function": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${FunctionName}",
    "AWS::Logs::LogGroup": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${LogGroupName}:*",
    "AWS::SQS::Queue": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${QueueName}",
}


@dataclass(frozen=True)
class Deployment:
    """A stage in one partition: the template after SAM's transform, and the values of its references."""

    location: Location
    values: Mapping[str, str]
    expanded: Mapping[str, Any]

    def __getitem__(self, logical_id: str) -> Any:
        return resolve(self.expanded["Resources"][logical_id]["Properties"], self.values)

    def of_type(self, *kinds: str) -> dict[str, Any]:
        return {
            name: self[name]
            for name, each in self.expanded["Resources"].items()
            if each["Type"] in kinds and self.values.get(each.get("Condition", ""), True)
        }

    def only(self, kind: str) -> Any:
        (found,) = self.of_type(kind).values()
        return found


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


def deployed(template: Mapping[str, Any], partition: str, **parameters: str) -> Deployment:
    """Expand the template and resolve its references, with defaults for the other parameters."""
    location = Location(partition, MANAGEMENT_ACCOUNT, EVENT_REGIONS[partition])
    account = f"arn:{location.partition}:iam::{MANAGEMENT_ACCOUNT}"
    given = {"Stage": "dev", "SourcePrincipalArns": f"{account}:role/Reader,{account}:user/reader"} | parameters
    uploaded = copy.deepcopy(template)
    for resource in uploaded["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = {"Bucket": "artifacts", "Key": "deployment.zip"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", location.region)
        expanded = transform(uploaded, {}, _NoManagedPolicies())
    values = known_values(template, merge_parameters(template["Parameters"], given, {}), location)
    # Functions first: their names are referred to.
    in_order = sorted(expanded["Resources"].items(), key=lambda each: each[1]["Type"] != "AWS::Lambda::Function")
    for name, resource in in_order:
        properties = resource["Properties"]
        names = {key: resolve(value, values) for key, value in properties.items() if key.endswith("Name")}
        values.setdefault(name, names.get("FunctionName", name))
        if resource["Type"] in _ARNS:
            values[f"{name}.Arn"] = resolve({"Fn::Sub": _ARNS[resource["Type"]]}, {**values, **names})
        if "StreamSpecification" in properties:
            values[f"{name}.StreamArn"] = f"{values[f'{name}.Arn']}/stream/label"
    return Deployment(location, values, expanded)
