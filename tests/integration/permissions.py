"""What a recorded call needs by IAM's rules, and whether a policy allows it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.integration.boundary import Call

# Operations that IAM authorizes under another name ("Service Authorization Reference").
_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
# IAM asks for these too when the operation sets tags.
_TAGGING = {"iam:CreateRole": "iam:TagRole", "iam:CreatePolicy": "iam:TagPolicy"}

# SQS moves messages with the caller's permissions: to take them, and to send them where they came from.
_MOVING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

# Stands for the organization's id; the policy compares it with the caller's own.
_ORGANIZATION = "${aws:PrincipalOrgID}"


@dataclass(frozen=True)
class Request:
    """One action on one resource, as IAM decides on it."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def requests(call: Call) -> Iterator[Request]:
    """List what a call needs."""
    action = _ACTIONS.get(call.operation, call.operation)
    params = call.params
    for change in params.get("TransactItems", ()):
        ((verb, of),) = change.items()
        yield Request(f"dynamodb:{verb}Item", _regional(call, "dynamodb", f"table/{of['TableName']}"))
    context = {"aws:ResourceOrgID": _ORGANIZATION}
    if "PolicyArn" in params:
        context["iam:PolicyARN"] = params["PolicyArn"]
    if "PermissionsBoundary" in params:
        context["iam:PermissionsBoundary"] = params["PermissionsBoundary"]
    for resource in _resources(call):
        yield Request(action, resource, context)
        if "Tags" in params and call.operation in _TAGGING:
            yield Request(_TAGGING[call.operation], resource, context)
    if call.operation == "sqs:StartMessageMoveTask":
        yield from (Request(moving, params["SourceArn"]) for moving in _MOVING)
        yield Request("sqs:SendMessage", params["SourceArn"].removesuffix("-dlq"))


def _resources(call: Call) -> Iterable[str]:
    params, iam = call.params, f"arn:aws:iam::{call.account_id}:"
    match call.operation.split(":")[0]:
        case "sqs":
            if "SourceArn" in params:
                return [params["SourceArn"]]
            return [_regional(call, "sqs", params["QueueUrl"].rpartition("/")[2])]
        case "dynamodb":
            tables = {params["TableName"]} if "TableName" in params else set(params.get("RequestItems", ()))
            return [_regional(call, "dynamodb", f"table/{table}") for table in sorted(tables)]
        case "organizations":
            of = params.get("AccountId") or params.get("ChildId") or params.get("ParentId")
            kind = {"ou": "ou", "r": "root"}.get(str(of).partition("-")[0], "account")
            return [f"arn:aws:organizations::{call.account_id}:{kind}/o-example/{of}"] if of else ["*"]
        case "sts":
            return [params["RoleArn"]]
    if "RoleName" in params:
        return [call.role_arn or f"{iam}role/{params['RoleName']}"]
    if "UserName" in params:
        return [f"{iam}user/{params['UserName']}"]
    if "PolicyArn" in params:
        return [params["PolicyArn"]]
    return [f"{iam}policy/{params['PolicyName']}"] if "PolicyName" in params else ["*"]


def _regional(call: Call, service: str, rest: str) -> str:
    return f"arn:aws:{service}:us-east-1:{call.account_id}:{rest}"


def allowing(request: Request, policy: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """List the statements of a policy that allow a request; there are no denies among them."""
    for statement in policy:
        if (
            request.action in listed(statement["Action"])
            and any(fnmatchcase(request.resource, each) for each in listed(statement["Resource"]))
            and all(
                any(
                    fnmatchcase(request.context.get(key, ""), each) or request.context.get(key) == each
                    for each in listed(values)
                )
                for tests in statement.get("Condition", {}).values()
                for key, values in tests.items()
            )
        ):
            yield statement


def denied(call: Call) -> list[Request]:
    """List what of a call's needs its signer's policy does not allow."""
    return [request for request in requests(call) if not any(allowing(request, call.signer.policy))]


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
