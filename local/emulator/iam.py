"""IAM: quotas, further checks, and managed policies that ministack lacks."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from emulator.authorization import denied
from ministack.app import _routing_params
from ministack.core import iam_actions
from ministack.core.responses import get_account_id, get_region
from ministack.services import iam as ministack
from ministack.services import tagging

Params = dict[str, Any]
Handler = Callable[[Params], Any]

_MAX_MANAGED_POLICY_CHARS = 6_144
_MAX_ROLE_INLINE_CHARS = 10_240
_MAX_TRUST_POLICY_CHARS = 2_048
_MAX_ATTACHED_POLICIES = 10
_TAG_ACTIONS = {"CreateRole": "iam:TagRole", "CreateUser": "iam:TagUser", "CreatePolicy": "iam:TagPolicy"}


def patch() -> None:
    """Add checks to operations, and add the missing managed policies."""
    for name, check in _CHECKS.items():
        ministack._IAM_HANDLERS[name] = _checked(ministack._IAM_HANDLERS[name], check)
    ministack.handle_request = _with_tag_permission(ministack.handle_request)
    tagging._RESOURCE_TAG_COLLECTORS["iam"] = _tagged
    add_managed_policies()


def _tagged() -> Iterator[tuple[str, Any]]:
    """Yield the tags of users and roles, and those of managed policies, which ministack's `aws:ResourceTag` lacks."""
    yield from tagging._collect_iam()
    for arn, policy in ministack._policies.items():
        yield arn, policy["Tags"]


def add_managed_policies() -> None:
    """Add the managed policies that ministack lacks, also after a reset."""
    for name, document in _MANAGED_POLICIES.items():
        record = ministack._make_aws_managed_record(name, json.dumps(document))
        ministack._aws_managed_policies.setdefault(record["Arn"], record)


def _checked(handler: Handler, check: Handler) -> Handler:
    return lambda params: check(params) or handler(params)


def _with_tag_permission(handle_request: Callable[..., Any]) -> Callable[..., Any]:
    """On AWS, a Create call with tags needs the permission to tag, too."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Params) -> Any:
        params = _routing_params(method, path, headers, body, query)
        name = ministack._p(params, "Action")
        if name in _TAG_ACTIONS and ministack._p(params, "Tags.member.1.Key"):
            action = _TAG_ACTIONS[name]
            request = (method, path, headers, body, params, get_region(), get_account_id())
            arn = iam_actions.extract_resource_arn("iam", *request)
            keys = iam_actions.request_tag_context("iam", f"iam:{name}", body, params)
            if error := denied(headers, query, action, arn, keys):
                return error
        return await handle_request(method, path, headers, body, query)

    return handle


def _size(document: Any) -> int:
    """Return a document's size as IAM counts it: in characters without white space."""
    return len("".join(str(document).split()))


def _limit_exceeded(quota: str, limit: int) -> Any:
    return ministack._error(409, "LimitExceeded", f"Cannot exceed quota for {quota}: {limit}")


def _check_managed_policy(params: Params) -> Any:
    """Reject a managed policy of more than 6,144 characters."""
    if _size(ministack._p(params, "PolicyDocument")) > _MAX_MANAGED_POLICY_CHARS:
        return _limit_exceeded("PolicySize", _MAX_MANAGED_POLICY_CHARS)
    return None


def _check_trust_policy(member: str) -> Handler:
    """Reject a trust policy that has more than 2,048 characters or isn't JSON."""

    def check(params: Params) -> Any:
        document = ministack._p(params, member)
        try:
            json.loads(document)
        except ValueError:
            return ministack._error(400, "MalformedPolicyDocument", "This policy contains invalid Json")
        too_long = _size(document) > _MAX_TRUST_POLICY_CHARS
        return _limit_exceeded("ACLSizePerRole", _MAX_TRUST_POLICY_CHARS) if too_long else None

    return check


def _check_new_role(params: Params) -> Any:
    """Reject a role whose name differs from another one's by case, or whose trust policy is rejected."""
    name = ministack._p(params, "RoleName")
    if name not in ministack._roles and name.lower() in (role.lower() for role, _ in ministack._roles.items()):
        return ministack._error(409, "EntityAlreadyExists", f"Role with name {name} already exists.")
    return _check_trust_policy("AssumeRolePolicyDocument")(params)


def _check_inline_policies(params: Params) -> Any:
    """Reject inline policies of a role that together have more than 10,240 characters."""
    name = ministack._p(params, "RoleName")
    existing = (ministack._roles.get(name) or {}).get("InlinePolicies") or {}
    policies = existing | {ministack._p(params, "PolicyName"): ministack._p(params, "PolicyDocument")}
    if sum(map(_size, policies.values())) > _MAX_ROLE_INLINE_CHARS:
        message = f"Maximum policy size of {_MAX_ROLE_INLINE_CHARS} bytes exceeded for role {name}"
        return ministack._error(409, "LimitExceeded", message)
    return None


def _check_attachment(kind: str) -> Handler:
    """Reject the attachment of a policy that does not exist, or of more than ten to one role or user."""

    def check(params: Params) -> Any:
        store = ministack._roles if kind == "Role" else ministack._users
        entity, arn = store.get(ministack._p(params, f"{kind}Name")), ministack._p(params, "PolicyArn")
        if not ministack._policy_exists(arn):
            return ministack._error(404, "NoSuchEntity", f"Policy {arn} does not exist or is not attachable.")
        attached = (entity or {}).get("AttachedPolicies", [])
        too_many = len({*attached, arn}) > _MAX_ATTACHED_POLICIES
        return _limit_exceeded(f"PoliciesPer{kind}", _MAX_ATTACHED_POLICIES) if too_many else None

    return check


_CHECKS: dict[str, Handler] = {
    "CreatePolicy": _check_managed_policy,
    "CreatePolicyVersion": _check_managed_policy,
    "CreateRole": _check_new_role,
    "UpdateAssumeRolePolicy": _check_trust_policy("PolicyDocument"),
    "PutRolePolicy": _check_inline_policies,
    "AttachRolePolicy": _check_attachment("Role"),
    "AttachUserPolicy": _check_attachment("User"),
}

# The part of AWS's policy that concerns services of ministack.
_MANAGED_POLICIES = {
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
