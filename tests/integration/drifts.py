"""Drifts of a member role, by the stage's parameters, and the one call that repairs each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.integration.organization import MEMBER_ROLE, READ_ONLY

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

PERMISSIONS_BOUNDARY = "arn:aws:iam::aws:policy/ViewOnlyAccess"
OTHER_POLICY = "arn:aws:iam::aws:policy/SecurityAudit"
OTHER_DOCUMENT = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}]}
)
_OTHER_TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}
)


@dataclass(frozen=True)
class Drift:
    """A change of a member role, and the operation that reverts it."""

    make: "Callable[[IAMClient], object]"
    repaired_by: str


_WITH_DEFAULTS = {
    "Trust": Drift(
        lambda iam: iam.update_assume_role_policy(RoleName=MEMBER_ROLE, PolicyDocument=_OTHER_TRUST),
        "iam:UpdateAssumeRolePolicy",
    ),
    "PolicyAttached": Drift(
        lambda iam: iam.attach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=OTHER_POLICY), "iam:DetachRolePolicy"
    ),
    "PolicyDetached": Drift(
        lambda iam: iam.detach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=READ_ONLY), "iam:AttachRolePolicy"
    ),
    "StrayInlinePolicy": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="Stray", PolicyDocument=OTHER_DOCUMENT),
        "iam:DeleteRolePolicy",
    ),
    "DenyWeakened": Drift(
        lambda iam: iam.put_role_policy(
            RoleName=MEMBER_ROLE, PolicyName="DenyDataReads", PolicyDocument=OTHER_DOCUMENT
        ),
        "iam:PutRolePolicy",
    ),
    "DenyDeleted": Drift(
        lambda iam: iam.delete_role_policy(RoleName=MEMBER_ROLE, PolicyName="DenyDataReads"), "iam:PutRolePolicy"
    ),
    "LongerSession": Drift(
        lambda iam: iam.update_role(RoleName=MEMBER_ROLE, MaxSessionDuration=43200), "iam:UpdateRole"
    ),
    "BoundarySet": Drift(
        lambda iam: iam.put_role_permissions_boundary(RoleName=MEMBER_ROLE, PermissionsBoundary=PERMISSIONS_BOUNDARY),
        "iam:DeleteRolePermissionsBoundary",
    ),
}

_WITH_TAGS_AND_BOUNDARY = {
    "TagChanged": Drift(
        lambda iam: iam.tag_role(RoleName=MEMBER_ROLE, Tags=[{"Key": "team", "Value": "another"}]), "iam:TagRole"
    ),
    "TagRemoved": Drift(lambda iam: iam.untag_role(RoleName=MEMBER_ROLE, TagKeys=["team"]), "iam:TagRole"),
    "BoundaryChanged": Drift(
        lambda iam: iam.put_role_permissions_boundary(RoleName=MEMBER_ROLE, PermissionsBoundary=OTHER_POLICY),
        "iam:PutRolePermissionsBoundary",
    ),
    "BoundaryRemoved": Drift(
        lambda iam: iam.delete_role_permissions_boundary(RoleName=MEMBER_ROLE), "iam:PutRolePermissionsBoundary"
    ),
}

_EXTRA = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Action": "macie2:GetMacieSession",
            "Resource": "arn:{partition}:macie2:*:{account_id}:*",
            "Condition": {"StringEquals": {"aws:ResourceOrgID": "{organization_id}"}},
        },
    }
)
_OF_ANOTHER_ACCOUNT = (
    _EXTRA.replace("{partition}", "aws")
    .replace("{account_id}", "111122223333")
    .replace("{organization_id}", "o-another")
)

_WITH_DOCUMENTS = {
    "DocumentEdited": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="Extra", PolicyDocument=OTHER_DOCUMENT),
        "iam:PutRolePolicy",
    ),
    "DocumentOfAnotherAccount": Drift(
        lambda iam: iam.put_role_policy(RoleName=MEMBER_ROLE, PolicyName="Extra", PolicyDocument=_OF_ANOTHER_ACCOUNT),
        "iam:PutRolePolicy",
    ),
    "DocumentDeleted": Drift(
        lambda iam: iam.delete_role_policy(RoleName=MEMBER_ROLE, PolicyName="Extra"), "iam:PutRolePolicy"
    ),
    "StrayBesideDocument": _WITH_DEFAULTS["StrayInlinePolicy"],
}

DRIFTS: tuple[tuple[Mapping[str, str], Mapping[str, Drift]], ...] = (
    ({}, _WITH_DEFAULTS),
    ({"MemberRoleTags": "team=security", "PermissionsBoundaryArn": PERMISSIONS_BOUNDARY}, _WITH_TAGS_AND_BOUNDARY),
    ({"MemberRolePolicies": f'{{"Extra":{_EXTRA}}}'}, _WITH_DOCUMENTS),
)
"""Every possible drift, by the parameters under which it is possible."""
