"""What others may do to a member role, and the one call that mends each."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.integration.organization import MEMBER_ROLE, READ_ONLY

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

BOUNDARY = "arn:aws:iam::aws:policy/ViewOnlyAccess"
ANOTHER_POLICY = "arn:aws:iam::aws:policy/SecurityAudit"
HARMLESS = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}]}
)
ANOTHER_TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}
)


@dataclass(frozen=True)
class Drift:
    """A change behind Rolecall's back, under some parameters of the stage's."""

    make: "Callable[[IAMClient], object]"
    mended_by: str
    parameters: dict[str, str] = field(default_factory=dict)


DRIFTS = {
    "trust": Drift(
        lambda iam: iam.update_assume_role_policy(RoleName=MEMBER_ROLE, PolicyDocument=ANOTHER_TRUST),
        "iam:UpdateAssumeRolePolicy",
    ),
    "a policy attached": Drift(
        lambda iam: iam.attach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=ANOTHER_POLICY), "iam:DetachRolePolicy"
    ),
    "a policy detached": Drift(
        lambda iam: iam.detach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=READ_ONLY), "iam:AttachRolePolicy"
    ),
    "a stray inline policy": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="Stray", PolicyDocument=HARMLESS),
        "iam:DeleteRolePolicy",
    ),
    "the deny weakened": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="DenyDataReads", PolicyDocument=HARMLESS),
        "iam:PutRolePolicy",
    ),
    "the deny deleted": Drift(
        lambda iam: iam.delete_role_policy(RoleName=MEMBER_ROLE, PolicyName="DenyDataReads"), "iam:PutRolePolicy"
    ),
    "a tag changed": Drift(
        lambda iam: iam.tag_role(RoleName=MEMBER_ROLE, Tags=[{"Key": "team", "Value": "another"}]),
        "iam:TagRole",
        {"MemberRoleTags": "team=security"},
    ),
    "a tag removed": Drift(
        lambda iam: iam.untag_role(RoleName=MEMBER_ROLE, TagKeys=["team"]),
        "iam:TagRole",
        {"MemberRoleTags": "team=security"},
    ),
    "a longer session": Drift(
        lambda iam: iam.update_role(RoleName=MEMBER_ROLE, MaxSessionDuration=43200), "iam:UpdateRole"
    ),
    "a boundary set": Drift(
        lambda iam: iam.put_role_permissions_boundary(RoleName=MEMBER_ROLE, PermissionsBoundary=BOUNDARY),
        "iam:DeleteRolePermissionsBoundary",
    ),
    "the boundary removed": Drift(
        lambda iam: iam.delete_role_permissions_boundary(RoleName=MEMBER_ROLE),
        "iam:PutRolePermissionsBoundary",
        {"PermissionsBoundaryArn": BOUNDARY},
    ),
    "the boundary changed": Drift(
        lambda iam: iam.put_role_permissions_boundary(RoleName=MEMBER_ROLE, PermissionsBoundary=ANOTHER_POLICY),
        "iam:PutRolePermissionsBoundary",
        {"PermissionsBoundaryArn": BOUNDARY},
    ),
}
