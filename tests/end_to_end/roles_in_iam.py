"""Roles as IAM has them: everything about one that Rolecall keeps, and what may happen to it."""

import json
from typing import Any

from local.organization import LocalOrganization, allowing, trusting

Role = dict[str, Any]

REPAIRS = {
    "TagRole",
    "SetTrust",
    "SetMaxSession",
    "SetBoundary",
    "PutInlinePolicy",
    "DeleteInlinePolicy",
    "AttachPolicy",
    "DetachPolicy",
}
"""What mends a role that has been spoilt, by the names that the log has for it."""


def role_of(organization: LocalOrganization, account_id: str, name: str) -> Role | None:
    """Read a role, or tell by None that there is none."""
    iam = organization.client("iam", account_id)
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return None
    inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    return {
        "created": role["CreateDate"],
        "trust": role["AssumeRolePolicyDocument"],
        "max_session": role["MaxSessionDuration"],
        "boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        "tags": {tag["Key"]: tag["Value"] for tag in role.get("Tags", [])},
        "attached": {policy["PolicyArn"] for policy in attached},
        "inline": {each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in inline},
    }


def spoil(organization: LocalOrganization, account_id: str, name: str) -> None:
    """Let everything about a member role drift but the tags that mark it as ours."""
    iam = organization.client("iam", account_id)
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trusting("*")))
    iam.update_role(RoleName=name, MaxSessionDuration=7200)
    iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary="arn:aws:iam::aws:policy/PowerUserAccess")
    iam.tag_role(RoleName=name, Tags=[{"Key": "team", "Value": "another"}])
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    iam.detach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam.put_role_policy(RoleName=name, PolicyName="DenyDataReads", PolicyDocument=json.dumps(allowing("ssm:*")))
    iam.put_role_policy(RoleName=name, PolicyName="More", PolicyDocument=json.dumps(allowing("s3:*")))
