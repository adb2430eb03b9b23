"""The functions' sessions in other accounts: what they are for works, and nothing else does, whatever the access role may."""

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
from local.organization import Credentials, LocalOrganization, trusting
from tests.end_to_end.calls import ADMINISTRATOR, ANYBODY, ANYTHING, OTHER_BOUNDARIES, READ_ONLY, Call, call
from tests.end_to_end.deployed_stage import Deploy, Stage
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.function_sessions import session_of
from tests.end_to_end.roles_in_iam import REPAIRS, role_of, spoil

ROLE = "CrossAccountReadOnlyRole"
BOUNDARY = "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"

ANYWHERE = [
    call("iam:CreateUser", "create_user", UserName="intruder"),
    call("iam:CreateAccessKey", "create_access_key", UserName="intruder"),
    call("iam:CreateRole", "create_role", RoleName="Intruder", AssumeRolePolicyDocument=ANYBODY),
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
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Other", PolicyDocument=ANYBODY),
    call("iam:UpdateRole", "update_role", RoleName="Other", MaxSessionDuration=43200),
    call("iam:TagRole", "tag_role", RoleName="Other", Tags=[{"Key": "managed-by", "Value": "rolecall"}]),
    call("iam:PutRolePolicy", "put_role_policy", RoleName="Other", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Other", PolicyArn=READ_ONLY),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Other", PolicyArn=READ_ONLY),
    call(
        "iam:UpdateAssumeRolePolicy",
        "update_assume_role_policy",
        RoleName="OrganizationAccountAccessRole",
        PolicyDocument=ANYBODY,
    ),
    # The member role, but not what it should be.
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=ADMINISTRATOR),
    call(
        "iam:PutRolePermissionsBoundary", "put_role_permissions_boundary", RoleName=ROLE, PermissionsBoundary=BOUNDARY
    ),
    call("iam:UntagRole", "untag_role", RoleName=ROLE, TagKeys=["managed-by"]),
    # Policies.
    call("iam:CreatePolicy", "create_policy", PolicyName="more", PolicyDocument=ANYTHING),
]

WRITES = [
    call("iam:CreateRole", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=ANYBODY),
    call("iam:TagRole", "tag_role", RoleName=ROLE, Tags=[{"Key": "managed-by", "Value": "another"}]),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName=ROLE, PolicyDocument=ANYBODY),
    call("iam:UpdateRole", "update_role", RoleName=ROLE, MaxSessionDuration=43200),
    call("iam:PutRolePolicy", "put_role_policy", RoleName=ROLE, PolicyName="more", PolicyDocument=ANYTHING),
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
"""Each session policy for a member account, and what of the member role it leaves to the others."""

OURS, OTHERS = "arn:aws:iam::<account>:policy/Apart", "arn:aws:iam::<account>:policy/Others"

IN_THE_SOURCE_ACCOUNT = [
    *ANYWHERE,
    # Another policy.
    call("iam:CreatePolicy", "create_policy", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OTHERS, PolicyDocument=ANYTHING),
    call("iam:GetPolicyVersion", "get_policy_version", PolicyArn=OTHERS, VersionId="v1"),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    # Ours, but to others.
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Other", PolicyArn=OURS),
    call("iam:AttachUserPolicy", "attach_user_policy", UserName="other", PolicyArn=OURS),
    call("iam:SetDefaultPolicyVersion", "set_default_policy_version", PolicyArn=OURS, VersionId="v1"),
    # The source principal itself, and others.
    call("iam:PutRolePolicy", "put_role_policy", RoleName="Reader", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Reader", PolicyDocument=ANYBODY),
    call("iam:DeleteRole", "delete_role", RoleName="Reader"),
    call("iam:GetRole", "get_role", RoleName="Other"),
]

POLICY_WRITES = [
    call("iam:CreatePolicy", "create_policy", PolicyName="Apart-9", PolicyDocument=ANYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OURS, PolicyDocument=ANYTHING),
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
"""Each session policy for a separate source account, and what of the source policy it leaves to the others."""


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> Stage:
    return deploy("narrow", SourcePrincipalArns=reader, MemberRoleTags="team=audit")


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, stage: Stage) -> str:
    """An enrolled account that has another role, too."""
    account_id = organization.create_account("member")
    organization.create_role(account_id, "Other", trusting(f"arn:aws:iam::{account_id}:root"), [READ_ONLY])
    stage.settled(account_id, "enrolled")
    return account_id


@pytest.fixture(scope="module")
def source_account(organization: LocalOrganization) -> str:
    """A source account with a policy, a role and a user that are none of ours."""
    account_id = organization.create_account("source")
    iam = organization.client("iam", account_id)
    others = iam.create_policy(PolicyName="Others", PolicyDocument=ANYTHING)["Policy"]["Arn"]
    trust = trusting(f"arn:aws:iam::{account_id}:root")
    organization.create_role(account_id, "Reader", trust, [others])
    organization.create_role(account_id, "Other", trust)
    iam.create_user(UserName="other")
    return account_id


@pytest.fixture(scope="module")
def apart(deploy: Deploy, organization: LocalOrganization, source_account: str) -> Stage:
    stage = deploy(
        "apart",
        SourcePrincipalArns=f"arn:aws:iam::{source_account}:role/Reader",
        MemberRoleName="Apart",
        SourcePolicyName="Apart",
    )
    first = organization.create_account("first")
    stage.settled(first, "enrolled")
    return stage


@pytest.fixture(scope="module")
def bounded(deploy: Deploy, reader: str) -> Stage:
    return deploy(
        "bounded",
        SourcePrincipalArns=reader,
        MemberRoleName="Bounded",
        SourcePolicyName="Bounded",
        PermissionsBoundaryArn=BOUNDARY,
    )


def entered(organization: LocalOrganization, account_id: str, policy: Any) -> Credentials:
    return organization.assume(f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole", Policy=policy.text)


@pytest.mark.parametrize("powers", MEMBER_SESSIONS)
def test_a_session_in_a_member_account_may_do_nothing_else(
    organization: LocalOrganization, stage: Stage, account: str, powers: str, subtests: pytest.Subtests
) -> None:
    policy, others = MEMBER_SESSIONS[powers]
    session = entered(organization, account, policy(stage.settings, account))
    for asked in [*IN_A_MEMBER_ACCOUNT, *others]:
        with subtests.test(str(asked)):
            asked.is_denied(organization, session, "session policy", account=account)


@pytest.mark.parametrize("powers", SOURCE_SESSIONS)
def test_a_session_in_the_source_account_may_do_nothing_else(
    organization: LocalOrganization, apart: Stage, source_account: str, powers: str, subtests: pytest.Subtests
) -> None:
    policy, others = SOURCE_SESSIONS[powers]
    session = entered(organization, source_account, policy(apart.settings))
    for asked in [*IN_THE_SOURCE_ACCOUNT, *others]:
        with subtests.test(str(asked)):
            asked.is_denied(organization, session, "session policy", account=source_account)


def test_publish_assumes_access_roles_in_the_source_account_alone(
    organization: LocalOrganization, apart: Stage, account: str, source_account: str
) -> None:
    session = session_of(organization, apart, "publish")
    access_role = "arn:aws:iam::{}:role/OrganizationAccountAccessRole"
    assert organization.assume(access_role.format(source_account), session)
    with denied("sts:AssumeRole"):
        organization.assume(access_role.format(account), session)


@pytest.fixture(scope="module")
def unheard(organization: LocalOrganization) -> str:
    """Name an account that no stage has heard of, so that no role is there yet, whatever was deployed before."""
    organization.drop_events(True)
    account_id = organization.create_account("unheard")
    organization.drop_events(False)
    return account_id


@pytest.mark.parametrize("asked", OTHER_BOUNDARIES, ids=str)
def test_the_session_sets_no_boundary_but_the_configured_one(
    organization: LocalOrganization, bounded: Stage, unheard: str, asked: Call
) -> None:
    session = entered(organization, unheard, member_role_write(bounded.settings, unheard))
    asked.is_denied(organization, session, "session policy")


def test_the_session_creates_and_repairs_everything_about_the_member_role(
    organization: LocalOrganization, stage: Stage, account: str
) -> None:
    made = role_of(organization, account, ROLE)
    spoil(organization, account, ROLE)

    repair = stage.checked_again(account)

    assert (repair["outcome"], repair["change"]) == ("enrolled", "updated")
    assert set(repair["actions"]) == REPAIRS
    assert role_of(organization, account, ROLE) == made


def test_the_session_creates_and_repairs_a_role_with_a_boundary(
    organization: LocalOrganization, bounded: Stage
) -> None:
    account_id = organization.create_account("bounded")
    bounded.settled(account_id, "enrolled")
    made = role_of(organization, account_id, "Bounded")
    assert made
    assert made["boundary"] == BOUNDARY
    iam = organization.client("iam", account_id)

    iam.delete_role_permissions_boundary(RoleName="Bounded")
    assert bounded.checked_again(account_id)["actions"] == ["SetBoundary"]
    assert role_of(organization, account_id, "Bounded") == made

    iam.put_role_permissions_boundary(RoleName="Bounded", PermissionsBoundary=ADMINISTRATOR)
    assert bounded.checked_again(account_id)["actions"] == ["SetBoundary"]
    assert role_of(organization, account_id, "Bounded") == made


def test_the_session_keeps_the_source_policy_past_its_five_versions(
    organization: LocalOrganization, apart: Stage, source_account: str
) -> None:
    created = [organization.create_account(f"named-{index}") for index in range(2)]
    for account_id in created:
        apart.settled(account_id, "enrolled")
    for _ in range(5):
        organization.set_account_state(created[0], "SUSPENDED")
        apart.hear(created[0])
        apart.settled(created[0], "retired", "suspended")
        organization.set_account_state(created[0], "ACTIVE")
        apart.hear(created[0])
        apart.settled(created[0], "enrolled")
    assert apart.named() >= set(created)
    versions = sorted(int(version.removeprefix("v")) for version in apart.versions())
    assert len(versions) == 5
    assert versions[-1] >= 10
    iam = organization.client("iam", source_account)
    attached = iam.list_attached_role_policies(RoleName="Reader")["AttachedPolicies"]
    assert {policy["PolicyName"] for policy in attached} == {"Apart", "Others"}
