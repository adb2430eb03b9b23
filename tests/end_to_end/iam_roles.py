"""Member roles in IAM: everything that Rolecall manages, and drift of all of it."""

import json
from typing import Any

from local.organization import LocalOrganization, allow_policy, trust_policy

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
"""The actions that repair a role after `cause_drift`, as the log names them."""


def read_role(organization: LocalOrganization, account_id: str, name: str) -> Role | None:
    """Return a role, or None if it doesn't exist."""
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


def cause_drift(organization: LocalOrganization, account_id: str, name: str) -> None:
    """Change everything about a member role except its ownership tags."""
    iam = organization.client("iam", account_id)
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust_policy("*")))
    iam.update_role(RoleName=name, MaxSessionDuration=7200)
    iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary="arn:aws:iam::aws:policy/PowerUserAccess")
    iam.tag_role(RoleName=name, Tags=[{"Key": "team", "Value": "another"}])
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    iam.detach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam.put_role_policy(RoleName=name, PolicyName="DenyDataReads", PolicyDocument=json.dumps(allow_policy("ssm:*")))
    iam.put_role_policy(RoleName=name, PolicyName="More", PolicyDocument=json.dumps(allow_policy("s3:*")))
