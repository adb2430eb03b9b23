"""Member roles in IAM, in the account that has been entered."""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_never

from botocore.exceptions import ClientError

from chalicelib.accounts import format_time
from chalicelib.aws.errors import account_error, error_code, translated
from chalicelib.data_read_denies import DENY_POLICY_NAME
from chalicelib.documents import Document
from chalicelib.member_role import (
    Action,
    AttachPolicy,
    CreateRole,
    DeleteInlinePolicy,
    DeleteRole,
    DetachPolicy,
    MemberRole,
    PutInlinePolicy,
    SetBoundary,
    SetMaxSession,
    SetTrust,
    TagRole,
)

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

_UNREAD = Document("{}")


class IamRoles:
    """Reads the member role and carries out the actions of its plan."""

    def __init__(self, client: "IAMClient") -> None:
        """Take the client that signs for the entered account."""
        self._client = client

    def observe(self, desired: MemberRole) -> MemberRole | None:
        """Return the role, or None. Of inline policies that are not desired, only the deny is read."""
        doing, name = f"reading {desired.arn}", _name(desired.arn)
        with translated(doing):
            try:
                role = self._client.get_role(RoleName=name)["Role"]
            except ClientError as error:
                if error_code(error) == "NoSuchEntity":
                    return None
                raise account_error(error, doing) from error
            seen = MemberRole(
                arn=role["Arn"],
                trust=iam_document(role["AssumeRolePolicyDocument"]),
                max_session=role["MaxSessionDuration"],
                boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
                tags={tag["Key"]: tag["Value"] for tag in role.get("Tags", [])},
                attached=frozenset(),
                inline={},
                last_used_at=_time(role.get("RoleLastUsed", {}).get("LastUsedDate")),
            )
            # A role with a path is foreign, and the session isn't allowed to list its policies.
            return seen if seen.arn != desired.arn else self._with_policies(seen, desired)

    def _with_policies(self, seen: MemberRole, desired: MemberRole) -> MemberRole:
        role = _name(seen.arn)
        attached = self._client.get_paginator("list_attached_role_policies").paginate(RoleName=role)
        inline = self._client.get_paginator("list_role_policies").paginate(RoleName=role)
        names = [name for page in inline for name in page["PolicyNames"]]
        read = {*desired.inline, DENY_POLICY_NAME}  # an edited one may allow anything
        return replace(
            seen,
            attached=frozenset(policy["PolicyArn"] for page in attached for policy in page["AttachedPolicies"]),
            inline={name: self._inline(role, name) if name in read else _UNREAD for name in names},
        )

    def _inline(self, role: str, policy_name: str) -> Document:
        return iam_document(self._client.get_role_policy(RoleName=role, PolicyName=policy_name)["PolicyDocument"])

    def carry_out(self, action: Action, arn: str) -> None:
        """Carry out one action on a role."""
        with translated(f"{type(action).__name__} on {arn}"):
            self._carry_out(action, _name(arn))

    def _carry_out(self, action: Action, role_name: str) -> None:
        match action:
            case CreateRole(role):
                boundary: Any = {"PermissionsBoundary": role.boundary} if role.boundary else {}
                self._client.create_role(
                    RoleName=role_name,
                    AssumeRolePolicyDocument=role.trust.text,
                    Description="Read-only role that Rolecall keeps in every account of the organization",
                    MaxSessionDuration=role.max_session,
                    Tags=[{"Key": key, "Value": value} for key, value in sorted(role.tags.items())],
                    **boundary,
                )
            case TagRole(tags):
                self._client.tag_role(
                    RoleName=role_name, Tags=[{"Key": key, "Value": value} for key, value in sorted(tags.items())]
                )
            case SetTrust(trust):
                self._client.update_assume_role_policy(RoleName=role_name, PolicyDocument=trust.text)
            case SetMaxSession(seconds):
                self._client.update_role(RoleName=role_name, MaxSessionDuration=seconds)
            case SetBoundary(boundary_arn):
                self._set_boundary(role_name, boundary_arn)
            case PutInlinePolicy(name, document):
                self._client.put_role_policy(RoleName=role_name, PolicyName=name, PolicyDocument=document.text)
            case DeleteInlinePolicy(name):
                self._client.delete_role_policy(RoleName=role_name, PolicyName=name)
            case AttachPolicy(policy_arn):
                self._client.attach_role_policy(RoleName=role_name, PolicyArn=policy_arn)
            case DetachPolicy(policy_arn):
                self._client.detach_role_policy(RoleName=role_name, PolicyArn=policy_arn)
            case DeleteRole():
                self._client.delete_role(RoleName=role_name)
            case _:
                assert_never(action)

    def _set_boundary(self, role_name: str, boundary_arn: str | None) -> None:
        if boundary_arn is None:
            self._client.delete_role_permissions_boundary(RoleName=role_name)
        else:
            self._client.put_role_permissions_boundary(RoleName=role_name, PermissionsBoundary=boundary_arn)


def _time(moment: datetime | None) -> str | None:
    return format_time(moment) if moment else None


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def iam_document(answered: Any) -> Document:  # noqa: ANN401 - botocore's stubs and botocore differ
    """Return a document that IAM returned and botocore decoded."""
    return Document.of(answered)
