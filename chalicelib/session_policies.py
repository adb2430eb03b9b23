"""Every session policy: what an assumed access role may do, in a member account and in a separate source account."""

from collections.abc import Iterator
from typing import Any

from chalicelib.arns import policy_arn, role_arn
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.member_role import desired_role
from chalicelib.settings import Settings

SESSION_POLICY_LIMIT = 2048
"""Characters of an inline session policy (AssumeRole in the "AWS STS API Reference")."""

_ROLE_READS = ("iam:ListAttachedRolePolicies", "iam:ListRolePolicies", "iam:GetRolePolicy")
_ROLE_WRITES = (
    "iam:TagRole",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateRole",
    *_ROLE_READS,
    "iam:PutRolePolicy",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
)


def member_role_read(settings: Settings, account_id: str) -> Document:
    """Build the session policy for a dry run: reads of the member role."""
    role = _member_role(settings, account_id)
    return _policy(
        _find_member_role(settings, account_id),
        {"Effect": "Allow", "Action": list(_ROLE_READS), "Resource": role},
        *_find_stack(settings, account_id),
    )


def member_role_write(settings: Settings, account_id: str) -> Document:
    """Build the session policy for enrolling: Rolecall's calls, on the member role alone, attaching its policies alone."""
    role = _member_role(settings, account_id)
    desired = desired_role(settings, account_id)
    attach = {
        "Effect": "Allow",
        "Action": "iam:AttachRolePolicy",
        "Resource": role,
        "Condition": {"ArnEquals": {"iam:PolicyARN": sorted(desired.attached)}},
    }
    return _policy(
        _find_member_role(settings, account_id),
        {"Effect": "Allow", "Action": list(_ROLE_WRITES), "Resource": role},
        _create_and_bound(role, desired.boundary),
        attach,
        *_find_stack(settings, account_id),
    )


def member_role_delete(settings: Settings, account_id: str) -> Document:
    """Build the session policy for retiring: only what deletes the member role."""
    actions = ("iam:GetRole", *_ROLE_READS, "iam:DetachRolePolicy", "iam:DeleteRolePolicy", "iam:DeleteRole")
    return _policy({"Effect": "Allow", "Action": list(actions), "Resource": _member_role(settings, account_id)})


def _find_member_role(settings: Settings, account_id: str) -> dict[str, Any]:
    # A role of the same name with a path is authorized under its own ARN; it must be readable to be refused by name.
    with_path = role_arn(settings.partition, account_id, f"*/{settings.member_role_name}")
    return {"Effect": "Allow", "Action": "iam:GetRole", "Resource": [_member_role(settings, account_id), with_path]}


def _find_stack(settings: Settings, account_id: str) -> Iterator[dict[str, Any]]:
    """Allow finding the stack that contains a role, where one may be adopted. The stack's ARN isn't known before."""
    if settings.adopts(account_id):
        yield {"Effect": "Allow", "Action": "cloudformation:DescribeStackResources", "Resource": "*"}


def _member_role(settings: Settings, account_id: str) -> str:
    return role_arn(settings.partition, account_id, settings.member_role_name)


def _create_and_bound(role: str, boundary: str | None) -> dict[str, Any]:
    if boundary is None:
        return {"Effect": "Allow", "Action": ["iam:CreateRole", "iam:DeleteRolePermissionsBoundary"], "Resource": role}
    return {
        "Effect": "Allow",
        "Action": ["iam:CreateRole", "iam:PutRolePermissionsBoundary"],
        "Resource": role,
        "Condition": {"ArnEquals": {"iam:PermissionsBoundary": boundary}},
    }


def source_policy_read(settings: Settings) -> Document:
    """Build the session policy for reading a separate source account: the shards and the source principals."""
    statements = [_on_shards(settings, "GetPolicy", "GetPolicyVersion", "ListPolicyVersions", "ListEntitiesForPolicy")]
    if settings.attachable_principals:
        statements += [
            {"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": [f"iam:ListAttached{kind}Policies" for kind in _kinds(settings)],
                "Resource": _principal_arns(settings),
            },
        ]
    return _policy(*statements)


def source_policy_write(settings: Settings) -> Document:
    """Build the session policy for writing in a separate source account: the shards, and their attachments."""
    verbs = ("CreatePolicy", "TagPolicy", "GetPolicy", "ListPolicyVersions", "CreatePolicyVersion")
    statements = [_on_shards(settings, *verbs, "DeletePolicyVersion")]
    if settings.attachable_principals:
        statements.append(
            {
                "Effect": "Allow",
                "Action": [f"iam:Attach{kind}Policy" for kind in _kinds(settings)],
                "Resource": _principal_arns(settings),
                "Condition": _only_shards(settings),
            }
        )
    return _policy(*statements, *_detach(settings))


def source_policy_delete(settings: Settings) -> Document:
    """Build the session policy for uninstalling: only what deletes the shards from a separate source account."""
    verbs = ("ListPolicyVersions", "DeletePolicyVersion", "DeletePolicy", "ListEntitiesForPolicy")
    shards = _on_shards(settings, *verbs)
    return _policy(shards, *_detach(settings))


def _detach(settings: Settings) -> Iterator[dict[str, Any]]:
    """Allow detaching the shards from any former source principal."""
    if settings.attach_source_policy:
        account = f"arn:{settings.partition}:iam::{settings.source_account_id}"
        yield {
            "Effect": "Allow",
            "Action": ["iam:DetachRolePolicy", "iam:DetachUserPolicy"],
            "Resource": [f"{account}:role/*", f"{account}:user/*"],
            "Condition": _only_shards(settings),
        }


def _on_shards(settings: Settings, *verbs: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [f"iam:{verb}" for verb in verbs], "Resource": _shard_arns(settings)}


def _only_shards(settings: Settings) -> dict[str, Any]:
    return {"ArnLike": {"iam:PolicyARN": _shard_arns(settings)}}


def _shard_arns(settings: Settings) -> list[str]:
    first = policy_arn(settings.partition, settings.source_account_id, settings.source_policy_name)
    return [first, f"{first}-*"]


def _principal_arns(settings: Settings) -> list[str]:
    return [principal.arn for principal in settings.attachable_principals]


def _kinds(settings: Settings) -> list[str]:
    return sorted({principal.kind.title() for principal in settings.attachable_principals})


def _policy(*statements: dict[str, Any]) -> Document:
    return Document.of({"Version": "2012-10-17", "Statement": list(statements)})


def check_sizes(settings: Settings) -> None:
    """Raise SettingsError if STS would refuse a session policy for its size."""
    adopted = settings.adopt_existing_roles
    account_id = min(adopted) if isinstance(adopted, frozenset) else settings.management_account_id
    size = member_role_write(settings, account_id).size
    if size > SESSION_POLICY_LIMIT:
        message = f"the session policy for access roles would take {size} characters, and STS allows {SESSION_POLICY_LIMIT}: set fewer MEMBER_ROLE_POLICY_ARNS"
        raise SettingsError(message)
    if not settings.keeps_source_policy or settings.source_account_id == settings.management_account_id:
        return
    built = (source_policy_read(settings), source_policy_write(settings), source_policy_delete(settings))
    size = max(document.size for document in built)
    if size > SESSION_POLICY_LIMIT:
        message = f"the session policy for the source account would take {size} characters, and STS allows {SESSION_POLICY_LIMIT}: set fewer SOURCE_PRINCIPAL_ARNS"
        raise SettingsError(message)
