"""The permissions that a recorded call needs, and whether a policy allows it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.integration.boundary import Call

# Operations that IAM authorizes under another name ("Service Authorization Reference").
_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "lambda:Invoke": "lambda:InvokeFunction",
    "resource-groups-tagging-api:GetResources": "tag:GetResources",
    "eventbridge:PutEvents": "events:PutEvents",
}
# IAM requires these as well if the operation sets tags.
_TAGGING = {"iam:CreateRole": "iam:TagRole", "iam:CreatePolicy": "iam:TagPolicy"}

# SQS moves messages with the caller's permissions to receive them, and to send them to their source queue.
_MOVING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

_ATTRIBUTE = re.compile(r"(?<![:\w.#])#?[A-Za-z_]\w*\b(?!\s*\()")
_KEYWORDS = {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT"}

# In place of the organization's id, which the policy compares with the caller's own.
_ORGANIZATION = "${aws:PrincipalOrgID}"


@dataclass(frozen=True)
class Request:
    """One action on one resource, as IAM evaluates it."""

    action: str
    resource: str
    context: Mapping[str, str | list[str]] = field(default_factory=dict)


def requests(call: Call) -> Iterator[Request]:
    """Yield the permissions that a call needs."""
    action = _ACTIONS.get(call.operation, call.operation)
    params = call.params
    context: dict[str, str | list[str]] = {"aws:ResourceOrgID": _ORGANIZATION}
    if call.operation == "sts:AssumeRole":
        context["aws:ResourceAccount"] = params["RoleArn"].split(":")[4]
    if call.operation in {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}:
        context |= _item_context(params)
    if call.operation == "eventbridge:PutEvents":
        context["events:source"] = sorted({entry["Source"] for entry in params["Entries"]})
    context |= {f"aws:ResourceTag/{key}": value for key, value in call.tags.items()}
    if "PolicyArn" in params:
        context["iam:PolicyARN"] = params["PolicyArn"]
    if "PermissionsBoundary" in params:
        context["iam:PermissionsBoundary"] = params["PermissionsBoundary"]
    for resource in _resources(call):
        yield Request(action, resource, context)
        if "Tags" in params and call.operation in _TAGGING:
            yield Request(_TAGGING[call.operation], resource, context)
    if call.operation == "sqs:StartMessageMoveTask":
        yield from (Request(action, params["SourceArn"]) for action in _MOVING)
        yield Request("sqs:SendMessage", params["SourceArn"].replace("-dlq", ""))


def _item_context(params: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield DynamoDB's condition keys: the item's key, and every attribute that the request names."""
    of = params.get("Key") or params["Item"]
    key = next(iter(of)) if "Key" in params else "policy_name" if "policy_name" in of else "account_id"
    yield "dynamodb:LeadingKeys", [of[key]["S"]]
    names = params.get("ExpressionAttributeNames", {})
    expressions = (params.get(each, "") for each in ("UpdateExpression", "ConditionExpression"))
    found = {names.get(name, name) for each in expressions for name in _ATTRIBUTE.findall(each)}
    yield "dynamodb:Attributes", sorted({*of, *found} - _KEYWORDS)


def _resources(call: Call) -> Iterable[str]:
    params, iam = call.params, f"arn:aws:iam::{call.account_id}:"
    match call.operation.split(":")[0]:
        case "sqs":
            queue = params.get("QueueUrl", "").rpartition("/")[2]
            return [params.get("SourceArn") or _regional(call, "sqs", queue)]
        case "dynamodb":
            tables = {params["TableName"]} if "TableName" in params else set(params.get("RequestItems", ()))
            return [_regional(call, "dynamodb", f"table/{table}") for table in sorted(tables)]
        case "organizations":
            of = next(
                (params[key] for key in ("AccountId", "ChildId", "ParentId", "ResourceId") if key in params), None
            )
            kind = {"ou": "ou", "r": "root"}.get(str(of).partition("-")[0], "account")
            return [f"arn:aws:organizations::{call.account_id}:{kind}/o-example/{of}"] if of else ["*"]
        case "sts":
            return [params["RoleArn"]]
        case "eventbridge":
            return sorted(
                {_regional(call, "events", f"event-bus/{each['EventBusName']}") for each in params["Entries"]}
            )
        case "lambda":
            return [_regional(call, "lambda", f"function:{params['FunctionName']}")]
    if "RoleName" in params:
        return [call.role_arn or f"{iam}role/{params['RoleName']}"]
    if "UserName" in params:
        return [f"{iam}user/{params['UserName']}"]
    if "PolicyArn" in params:
        return [params["PolicyArn"]]
    return [f"{iam}policy/{params['PolicyName']}"] if "PolicyName" in params else ["*"]


def _regional(call: Call, service: str, rest: str) -> str:
    return f"arn:aws:{service}:us-east-1:{call.account_id}:{rest}"


def is_allowed(request: Request, policy: Iterable[Mapping[str, Any]]) -> bool:
    """Whether statements together allow a request: an explicit deny overrides every allow."""
    effects = {statement["Effect"] for statement in matching(request, policy)}
    return effects == {"Allow"}


def matching(request: Request, policy: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the statements of a policy that match a request; the functions' policies contain no Deny."""
    for statement in policy:
        if (
            request.action in listed(statement["Action"])
            and any(fnmatchcase(request.resource, each) for each in listed(statement["Resource"]))
            and all(
                _matches(operator, request.context.get(key), listed(values))
                for operator, tests in statement.get("Condition", {}).items()
                for key, values in tests.items()
            )
        ):
            yield statement


def _matches(operator: str, actual: str | list[str] | None, values: list[str]) -> bool:
    """Whether a request's value of a condition key matches; None if the request lacks the key."""
    match operator:
        case "Null":
            return values == ["true" if actual is None else "false"]
        case "ForAllValues:StringEquals":
            return set(listed(actual or [])) <= set(values)
        case "ForAllValues:StringNotEquals":
            return set(listed(actual or [])).isdisjoint(values)
        case "StringEqualsIfExists":
            return actual is None or actual in values
        case "StringEquals":
            return actual in values
        case "StringNotEquals":
            return actual not in values
        case "ArnLike" | "ArnEquals":
            return any(fnmatchcase(str(actual or ""), each) for each in values)
    message = f"the condition operator {operator} is not implemented"
    raise ValueError(message)


def denied(call: Call) -> list[Request]:
    """Return the permissions that a call needs and its signer's policy does not allow."""
    return [request for request in requests(call) if not any(matching(request, call.signer.policy))]


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
