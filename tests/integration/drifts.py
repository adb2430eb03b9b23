"""What others may do to a member role, under some parameters of the stage's, and the one call that mends each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """A change behind Rolecall's back, and what mends it."""

    make: "Callable[[IAMClient], object]"
    mended_by: str


WITH_DEFAULTS = {
    "Trust": Drift(
        lambda iam: iam.update_assume_role_policy(RoleName=MEMBER_ROLE, PolicyDocument=ANOTHER_TRUST),
        "iam:UpdateAssumeRolePolicy",
    ),
    "PolicyAttached": Drift(
        lambda iam: iam.attach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=ANOTHER_POLICY), "iam:DetachRolePolicy"
    ),
    "PolicyDetached": Drift(
        lambda iam: iam.detach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=READ_ONLY), "iam:AttachRolePolicy"
    ),
    "StrayInlinePolicy": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="Stray", PolicyDocument=HARMLESS),
        "iam:DeleteRolePolicy",
    ),
    "DenyWeakened": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="DenyDataReads", PolicyDocument=HARMLESS),
        "iam:PutRolePolicy",
    ),
    "DenyDeleted": Drift(
        lambda iam: iam.delete_role_policy(RoleName=MEMBER_ROLE, PolicyName="DenyDataReads"), "iam:PutRolePolicy"
    ),
    "LongerSession": Drift(
        lambda iam: iam.update_role(RoleName=MEMBER_ROLE, MaxSessionDuration=43200), "iam:UpdateRole"
    ),
    "BoundarySet": Drift(
        lambda iam: iam.put_role_permissions_boundary(RoleName=MEMBER_ROLE, PermissionsBoundary=BOUNDARY),
        "iam:DeleteRolePermissionsBoundary",
    ),
}

WITH_TAGS_AND_BOUNDARY = {
    "TagChanged": Drift(
        lambda iam: iam.tag_role(RoleName=MEMBER_ROLE, Tags=[{"Key": "team", "Value": "another"}]), "iam:TagRole"
    ),
    "TagRemoved": Drift(lambda iam: iam.untag_role(RoleName=MEMBER_ROLE, TagKeys=["team"]), "iam:TagRole"),
    "BoundaryChanged": Drift(
        lambda iam: iam.put_role_permissions_boundary(RoleName=MEMBER_ROLE, PermissionsBoundary=ANOTHER_POLICY),
        "iam:PutRolePermissionsBoundary",
    ),
    "BoundaryRemoved": Drift(
        lambda iam: iam.delete_role_permissions_boundary(RoleName=MEMBER_ROLE), "iam:PutRolePermissionsBoundary"
    ),
}

DRIFTS: tuple[tuple[Mapping[str, str], Mapping[str, Drift]], ...] = (
    ({}, WITH_DEFAULTS),
    ({"MemberRoleTags": "team=security", "PermissionsBoundaryArn": BOUNDARY}, WITH_TAGS_AND_BOUNDARY),
)
"""The drifts that there can be, by the parameters under which there can be."""
