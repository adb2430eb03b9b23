"""IAM's quotas, what it checks beyond ministack, and the managed policies that ministack lacks."""

import json
from collections.abc import Callable
from typing import Any

from emulator.authorization import denied
from ministack.app import _routing_params
from ministack.core import iam_actions
from ministack.core.responses import get_account_id, get_region
from ministack.services import iam as ministack

Params = dict[str, Any]
Handler = Callable[[Params], Any]

_MANAGED_POLICY = 6_144
_ROLE_INLINE = 10_240
_USER_INLINE = 2_048
_TRUST = 2_048
_ATTACHED = 10
_TAGGING = {"CreateRole": "iam:TagRole", "CreateUser": "iam:TagUser", "CreatePolicy": "iam:TagPolicy"}


def mend() -> None:
    """Put a check before each call that has one, and add the missing policies."""
    for name, check in _CHECKS.items():
        ministack._IAM_HANDLERS[name] = _checked(ministack._IAM_HANDLERS[name], check)
    ministack.handle_request = _with_tags_authorized(ministack.handle_request)
    for name, document in _MANAGED.items():
        record = ministack._make_aws_managed_record(name, json.dumps(document))
        ministack._aws_managed_policies.setdefault(record["Arn"], record)


def _checked(handler: Handler, check: Handler) -> Handler:
    return lambda params: check(params) or handler(params)


def _with_tags_authorized(handle_request: Callable[..., Any]) -> Callable[..., Any]:
    """On AWS a create with tags needs the permission to tag, too."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Params) -> Any:
        params = _routing_params(method, path, headers, body, query)
        name = ministack._p(params, "Action")
        if name in _TAGGING and ministack._p(params, "Tags.member.1.Key"):
            action = _TAGGING[name]
            request = (method, path, headers, body, params, get_region(), get_account_id())
            arn = iam_actions.extract_resource_arn("iam", *request)
            keys = iam_actions.request_tag_context("iam", f"iam:{name}", body, params)
            if refused := denied(headers, query, action, arn, keys):
                return refused
        return await handle_request(method, path, headers, body, query)

    return handle


def _size(document: Any) -> int:
    """IAM counts a document's characters without its white space."""
    return len("".join(str(document).split()))


def _limit_exceeded(what: str, most: int) -> Any:
    return ministack._error(409, "LimitExceeded", f"Cannot exceed quota for {what}: {most}")


def _managed_policy_size(params: Params) -> Any:
    """Refuse a managed policy of more than 6,144 characters."""
    if _size(ministack._p(params, "PolicyDocument")) > _MANAGED_POLICY:
        return _limit_exceeded("PolicySize", _MANAGED_POLICY)
    return None


def _trust_policy(member: str) -> Handler:
    """Refuse a trust policy of more than 2,048 characters, or that is no JSON."""

    def check(params: Params) -> Any:
        document = ministack._p(params, member)
        try:
            json.loads(document)
        except ValueError:
            return ministack._error(400, "MalformedPolicyDocument", "This policy contains invalid Json")
        return _limit_exceeded("ACLSizePerRole", _TRUST) if _size(document) > _TRUST else None

    return check


def _role_inline_size(params: Params) -> Any:
    """Refuse inline policies of a role that have more than 10,240 characters together."""
    role = ministack._roles.get(ministack._p(params, "RoleName")) or {}
    after = (role.get("InlinePolicies") or {}) | {
        ministack._p(params, "PolicyName"): ministack._p(params, "PolicyDocument")
    }
    if sum(map(_size, after.values())) > _ROLE_INLINE:
        message = f"Maximum policy size of {_ROLE_INLINE} bytes exceeded for role {ministack._p(params, 'RoleName')}"
        return ministack._error(409, "LimitExceeded", message)
    return None


def _user_inline_size(params: Params) -> Any:
    """Refuse inline policies of a user that have more than 2,048 characters together."""
    user = ministack._p(params, "UserName")
    there = ministack._user_inline_policies.get(user) or {}
    after = there | {ministack._p(params, "PolicyName"): ministack._p(params, "PolicyDocument")}
    if sum(map(_size, after.values())) > _USER_INLINE:
        message = f"Maximum policy size of {_USER_INLINE} bytes exceeded for user {user}"
        return ministack._error(409, "LimitExceeded", message)
    return None


def _attachment(kind: str) -> Handler:
    """Refuse to attach a policy that does not exist, or more than ten to one role or user."""

    def check(params: Params) -> Any:
        store = ministack._roles if kind == "Role" else ministack._users
        entity, arn = store.get(ministack._p(params, f"{kind}Name")), ministack._p(params, "PolicyArn")
        if not ministack._policy_exists(arn):
            return ministack._error(404, "NoSuchEntity", f"Policy {arn} does not exist or is not attachable.")
        attached = (entity or {}).get("AttachedPolicies", [])
        return _limit_exceeded(f"PoliciesPer{kind}", _ATTACHED) if len({*attached, arn}) > _ATTACHED else None

    return check


_CHECKS: dict[str, Handler] = {
    "CreatePolicy": _managed_policy_size,
    "CreatePolicyVersion": _managed_policy_size,
    "CreateRole": _trust_policy("AssumeRolePolicyDocument"),
    "UpdateAssumeRolePolicy": _trust_policy("PolicyDocument"),
    "PutRolePolicy": _role_inline_size,
    "PutUserPolicy": _user_inline_size,
    "AttachRolePolicy": _attachment("Role"),
    "AttachUserPolicy": _attachment("User"),
}

# AWS's own is far longer; this much of it is about the services that ministack has.
_MANAGED = {
    "job-function/ViewOnlyAccess": {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "cloudformation:DescribeStacks",
                    "cloudformation:ListStacks",
                    "dynamodb:ListTables",
                    "ec2:Describe*",
                    "iam:GetAccountSummary",
                    "iam:List*",
                    "lambda:List*",
                    "logs:DescribeLogGroups",
                    "s3:ListAllMyBuckets",
                    "sns:ListTopics",
                    "sqs:ListQueues",
                ],
                "Resource": "*",
            }
        ],
    }
}
