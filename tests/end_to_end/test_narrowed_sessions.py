"""The session policies that the functions pass to access roles: they allow the functions' work and nothing else."""

from typing import Any

import pytest

from chalicelib.session_policies import (
    member_role_delete,
    member_role_read,
    member_role_write,
    source_policy_delete,
    source_policy_read,
    source_policy_write,
)
from local.organization import Credentials, LocalOrganization, trust_policy
from tests.end_to_end.calls import (
    ADMINISTRATOR,
    ALLOW_EVERYTHING,
    OTHER_BOUNDARIES,
    READ_ONLY,
    TRUST_ANY_PRINCIPAL,
    Call,
    call,
)
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.function_sessions import function_session
from tests.end_to_end.iam_roles import REPAIRS, cause_drift
from tests.end_to_end.organization_changes import create_without_events

BOUNDARY = "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"

ANYWHERE = [
    call("iam:CreateUser", "create_user", UserName="intruder"),
    call("iam:CreateAccessKey", "create_access_key", UserName="intruder"),
    call("iam:CreateRole", "create_role", RoleName="Intruder", AssumeRolePolicyDocument=TRUST_ANY_PRINCIPAL),
    call("iam:ListRoles", "list_roles"),
    call("sts:AssumeRole", "assume_role", RoleArn="arn:aws:iam::<account>:role/Other", RoleSessionName="on"),
    call("s3:ListAllMyBuckets", "list_buckets"),
    call("s3:CreateBucket", "create_bucket", Bucket="intruder"),
    call("ec2:DescribeInstances", "describe_instances"),
    call("ec2:RunInstances", "run_instances", ImageId="ami-12345678", MinCount=1, MaxCount=1),
    call("ssm:GetParameter", "get_parameter", Name="/secret"),
    call("secretsmanager:ListSecrets", "list_secrets"),
    call("lambda:ListFunctions", "list_functions"),
    call("dynamodb:ListTables", "list_tables"),
    call("organizations:LeaveOrganization", "leave_organization"),
]

IN_A_MEMBER_ACCOUNT = [
    *ANYWHERE,
    # Another role.
    call("iam:GetRole", "get_role", RoleName="Other"),
    call(
        "iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Other", PolicyDocument=TRUST_ANY_PRINCIPAL
    ),
    call("iam:UpdateRole", "update_role", RoleName="Other", MaxSessionDuration=43200),
    call("iam:TagRole", "tag_role", RoleName="Other", Tags=[{"Key": "managed-by", "Value": "rolecall"}]),
    call("iam:PutRolePolicy", "put_role_policy", RoleName="Other", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Other", PolicyArn=READ_ONLY),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Other", PolicyArn=READ_ONLY),
    call(
        "iam:UpdateAssumeRolePolicy",
        "update_assume_role_policy",
        RoleName="OrganizationAccountAccessRole",
        PolicyDocument=TRUST_ANY_PRINCIPAL,
    ),
    # The member role, with other policies than the configured ones.
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=ADMINISTRATOR),
    call(
        "iam:PutRolePermissionsBoundary", "put_role_permissions_boundary", RoleName=ROLE, PermissionsBoundary=BOUNDARY
    ),
    call("iam:UntagRole", "untag_role", RoleName=ROLE, TagKeys=["managed-by"]),
    # Policies.
    call("iam:CreatePolicy", "create_policy", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
]

WRITES = [
    call("iam:CreateRole", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=TRUST_ANY_PRINCIPAL),
    call("iam:TagRole", "tag_role", RoleName=ROLE, Tags=[{"Key": "managed-by", "Value": "another"}]),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName=ROLE, PolicyDocument=TRUST_ANY_PRINCIPAL),
    call("iam:UpdateRole", "update_role", RoleName=ROLE, MaxSessionDuration=43200),
    call("iam:PutRolePolicy", "put_role_policy", RoleName=ROLE, PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=READ_ONLY),
]
DELETIONS = [call("iam:DeleteRole", "delete_role", RoleName=ROLE)]
DETACHMENTS = [
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName=ROLE, PolicyArn=READ_ONLY),
    call("iam:DeleteRolePolicy", "delete_role_policy", RoleName=ROLE, PolicyName="DenyDataReads"),
]
MEMBER_SESSIONS = {
    "read": (member_role_read, [*WRITES, *DETACHMENTS, *DELETIONS]),
    "write": (member_role_write, DELETIONS),
    "delete": (member_role_delete, WRITES),
}
"""Each session policy for a member account, and the calls on the member role that it doesn't allow."""

OURS, OTHERS = "arn:aws:iam::<account>:policy/Apart", "arn:aws:iam::<account>:policy/Others"

IN_THE_SOURCE_ACCOUNT = [
    *ANYWHERE,
    # Another policy.
    call("iam:CreatePolicy", "create_policy", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OTHERS, PolicyDocument=ALLOW_EVERYTHING),
    call("iam:GetPolicyVersion", "get_policy_version", PolicyArn=OTHERS, VersionId="v1"),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    # The source policy, on other principals.
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Other", PolicyArn=OURS),
    call("iam:AttachUserPolicy", "attach_user_policy", UserName="other", PolicyArn=OURS),
    call("iam:SetDefaultPolicyVersion", "set_default_policy_version", PolicyArn=OURS, VersionId="v1"),
    # The source principal itself, and other roles.
    call("iam:PutRolePolicy", "put_role_policy", RoleName="Reader", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call(
        "iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Reader", PolicyDocument=TRUST_ANY_PRINCIPAL
    ),
    call("iam:DeleteRole", "delete_role", RoleName="Reader"),
    call("iam:GetRole", "get_role", RoleName="Other"),
]

POLICY_WRITES = [
    call("iam:CreatePolicy", "create_policy", PolicyName="Apart-9", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OURS, PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OURS),
]
POLICY_DELETIONS = [call("iam:DeletePolicy", "delete_policy", PolicyArn=OURS)]
POLICY_DETACHMENTS = [
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OURS),
    call("iam:DeletePolicyVersion", "delete_policy_version", PolicyArn=OURS, VersionId="v1"),
]
SOURCE_SESSIONS = {
    "read": (source_policy_read, [*POLICY_WRITES, *POLICY_DETACHMENTS, *POLICY_DELETIONS]),
    "write": (source_policy_write, POLICY_DELETIONS),
    "delete": (source_policy_delete, POLICY_WRITES),
}
"""Each session policy for a separate source account, and the calls on the source policy that it doesn't allow."""


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy("narrow", SourcePrincipalArns=reader, MemberRoleTags="team=audit")


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, stage: DeployedStage) -> str:
    """An enrolled account with another role."""
    account_id = organization.create_account("member")
    organization.create_role(account_id, "Other", trust_policy(f"arn:aws:iam::{account_id}:root"), [READ_ONLY])
    stage.wait_for_outcome(account_id, "enrolled")
    return account_id


@pytest.fixture(scope="module")
def source_account(organization: LocalOrganization) -> str:
    """A source account with a policy, a role and a user that Rolecall doesn't manage."""
    (account_id,) = create_without_events(organization)
    iam = organization.client("iam", account_id)
    others = iam.create_policy(PolicyName="Others", PolicyDocument=ALLOW_EVERYTHING)["Policy"]["Arn"]
    trust = trust_policy(f"arn:aws:iam::{account_id}:root")
    organization.create_role(account_id, "Reader", trust, [others])
    organization.create_role(account_id, "Other", trust)
    iam.create_user(UserName="other")
    return account_id


@pytest.fixture(scope="module")
def separate(deploy: Deploy, source_account: str) -> DeployedStage:
    """A stage with a separate source account."""
    reader = f"arn:aws:iam::{source_account}:role/Reader"
    stage = deploy("separate", SourcePrincipalArns=reader, MemberRoleName="Apart", SourcePolicyName="Apart")
    stage.enqueue(source_account)
    stage.wait_for_outcome(source_account, "enrolled")
    return stage


@pytest.fixture(scope="module")
def bounded(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy(
        "bounded",
        SourcePrincipalArns=reader,
        MemberRoleName="Bounded",
        SourcePolicyName="Bounded",
        PermissionsBoundaryArn=BOUNDARY,
    )


def access_role_session(organization: LocalOrganization, account_id: str, policy: Any) -> Credentials:
    return organization.assume(f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole", Policy=policy.text)


@pytest.mark.parametrize("purpose", MEMBER_SESSIONS)
def test_session_in_a_member_account_is_denied_everything_else(
    organization: LocalOrganization, stage: DeployedStage, account: str, purpose: str, subtests: pytest.Subtests
) -> None:
    policy, others = MEMBER_SESSIONS[purpose]
    session = access_role_session(organization, account, policy(stage.settings, account))
    for each in [*IN_A_MEMBER_ACCOUNT, *others]:
        with subtests.test(str(each)):
            each.is_denied(organization, session, "session policy", account=account)


@pytest.mark.parametrize("purpose", SOURCE_SESSIONS)
def test_session_in_the_source_account_is_denied_everything_else(
    organization: LocalOrganization,
    separate: DeployedStage,
    source_account: str,
    purpose: str,
    subtests: pytest.Subtests,
) -> None:
    policy, others = SOURCE_SESSIONS[purpose]
    session = access_role_session(organization, source_account, policy(separate.settings))
    for each in [*IN_THE_SOURCE_ACCOUNT, *others]:
        with subtests.test(str(each)):
            each.is_denied(organization, session, "session policy", account=source_account)


def test_publish_assumes_access_roles_only_in_the_source_account(
    organization: LocalOrganization, separate: DeployedStage, account: str, source_account: str
) -> None:
    session = function_session(organization, separate, "publish")
    access_role = "arn:aws:iam::{}:role/OrganizationAccountAccessRole"
    assert organization.assume(access_role.format(source_account), session)
    with denied("sts:AssumeRole"):
        organization.assume(access_role.format(account), session)


@pytest.mark.parametrize("denied_call", OTHER_BOUNDARIES, ids=str)
def test_session_can_not_remove_or_replace_the_permissions_boundary(
    organization: LocalOrganization, bounded: DeployedStage, source_account: str, denied_call: Call
) -> None:
    session = access_role_session(organization, source_account, member_role_write(bounded.settings, source_account))
    denied_call.is_denied(organization, session, "session policy")


def test_session_repairs_everything_about_the_member_role(
    organization: LocalOrganization, stage: DeployedStage, account: str
) -> None:
    role = stage.role(account)
    cause_drift(organization, account, ROLE)

    repair = stage.reconcile_again(account)

    assert (repair["outcome"], repair["change"]) == ("enrolled", "updated")
    assert set(repair["actions"]) == REPAIRS
    assert stage.role(account) == role


def test_session_creates_and_repairs_a_role_with_a_boundary(
    organization: LocalOrganization, bounded: DeployedStage, account: str
) -> None:
    bounded.enqueue(account)
    bounded.wait_until_idle()
    role = bounded.role(account)
    assert role
    assert role["boundary"] == BOUNDARY
    iam = organization.client("iam", account)

    iam.delete_role_permissions_boundary(RoleName="Bounded")
    assert bounded.reconcile_again(account)["actions"] == ["SetBoundary"]
    assert bounded.role(account) == role

    iam.put_role_permissions_boundary(RoleName="Bounded", PermissionsBoundary=ADMINISTRATOR)
    assert bounded.reconcile_again(account)["actions"] == ["SetBoundary"]
    assert bounded.role(account) == role


def test_session_deletes_old_versions_of_the_source_policy(
    organization: LocalOrganization, separate: DeployedStage, source_account: str
) -> None:
    for _ in range(3):
        for frozen in (True, False):
            assert separate.invoke("freeze", frozen=frozen)["in_force"]

    assert separate.granted_accounts() >= {source_account}
    versions = sorted(int(version.removeprefix("v")) for version in separate.policy_versions())
    assert len(versions) == 5
    assert versions[-1] >= 7
    iam = organization.client("iam", source_account)
    attached = iam.list_attached_role_policies(RoleName="Reader")["AttachedPolicies"]
    assert {policy["PolicyName"] for policy in attached} == {"Apart", "Others"}
