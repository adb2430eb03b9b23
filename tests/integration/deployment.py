"""What a deployment creates: the template's queues, tables, environment and policies, for some parameters."""

import json
import runpy
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from rolecall.deploy.intrinsics import resolve
from rolecall.deploy.location import Location
from rolecall.deploy.parameters import known_values, merge_parameters
from tests.integration.boundary import FUNCTION_KEYS, Signer
from tests.integration.organization import MANAGEMENT, REGION, SOURCE_PRINCIPAL, Organization

_DIRECTORY = Path(__file__).parents[2] / ".chalice"
_PACKAGE = runpy.run_path(str(_DIRECTORY / "package.py"))
_ARNS = {
    "AWS::DynamoDB::Table": ("dynamodb", "table/{TableName}"),
    "AWS::SQS::Queue": ("sqs", "{QueueName}"),
    "AWS::Logs::LogGroup": ("logs", "log-group:{LogGroupName}:*"),
}


class Deployment:
    """The template's resources in moto; deployed again with other parameters, the queues and tables stay."""

    def __init__(self, organization: Organization, stage: str, parameters: Mapping[str, str]) -> None:
        self.organization = organization
        template = _template()
        # moto is not thread-safe.
        given = {"SourcePrincipalArns": SOURCE_PRINCIPAL, "Threads": "1", **parameters, "Stage": stage}
        self._values = known_values(
            template, merge_parameters(template["Parameters"], given, {}), Location("aws", MANAGEMENT, REGION)
        )
        for name, resource in template["Resources"].items():
            if resource.get("Type") in _ARNS:
                service, path = _ARNS[resource["Type"]]
                properties = resource["Properties"]
                names = {key: resolve(properties[key], self._values) for key in properties if key.endswith("Name")}
                self._values[f"{name}.Arn"] = f"arn:aws:{service}:{REGION}:{MANAGEMENT}:{path.format(**names)}"
        self._values["LedgerTable.StreamArn"] = f"{self._values['LedgerTable.Arn']}/stream/label"
        self._values["Publish.Arn"] = f"arn:aws:lambda:{REGION}:{MANAGEMENT}:function:rolecall-{stage}-publish"
        self.environ: dict[str, str] = resolve(
            template["Globals"]["Function"]["Environment"]["Variables"], self._values
        )
        self._sqs = organization.operator.sqs
        self._dynamodb = organization.operator.dynamodb
        for name in ("AccountsDeadLetterQueue", "AccountsQueue", "PublishDeadLetterQueue", "PublishQueue"):
            resource = template["Resources"][name]
            if self._values.get(resource.get("Condition"), True):
                self._create_queue(resource["Properties"])
        for name in ("LedgerTable", "SourcePolicyTable"):
            self._create_table(template["Resources"][name]["Properties"])
        self.ledger = self._dynamodb.Table(self.environ["LEDGER_TABLE"])
        self.records = self._dynamodb.Table(self.environ["SOURCE_POLICY_TABLE"])

    def _create_queue(self, properties: Mapping[str, Any]) -> None:
        resolved = resolve(properties, self._values)
        attributes: Any = {"VisibilityTimeout": str(resolved.get("VisibilityTimeout", 30))}
        if "RedrivePolicy" in resolved:
            attributes["RedrivePolicy"] = json.dumps(resolved["RedrivePolicy"])
        if resolved.get("FifoQueue"):
            attributes["FifoQueue"] = "true"
        self._sqs.create_queue(QueueName=resolved["QueueName"], Attributes=attributes)

    def _create_table(self, properties: Mapping[str, Any]) -> None:
        resolved = resolve(properties, self._values)
        client = self._dynamodb.meta.client
        if resolved["TableName"] not in client.list_tables()["TableNames"]:
            used = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema")
            client.create_table(**{key: resolved[key] for key in used})

    def policy_of(self, function: str) -> tuple[dict[str, Any], ...]:
        """Return the statements of a function's policy in this stage."""
        return tuple(resolve(_policy_template(function), self._values))

    @cached_property
    def signers(self) -> dict[str, Signer]:
        return {key: Signer(function, MANAGEMENT, self.policy_of(function)) for function, key in FUNCTION_KEYS.items()}


@cache
def _template() -> dict[str, Any]:
    template: Any = yaml_parse((_DIRECTORY / "resources.yaml").read_text())
    return dict(template)


@cache
def _policy_template(function: str) -> list[dict[str, Any]]:
    policy, shared = (
        json.loads((_DIRECTORY / f"{name}.json").read_text()) for name in (f"policy-{function}", "statements")
    )
    statements: list[dict[str, Any]] = _PACKAGE["expanded_statements"](policy["Statement"], shared)
    return statements
