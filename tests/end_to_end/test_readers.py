"""Source principals: roles and users with session tags and source identities, and a separate source account."""

from typing import Any

import pytest

from local.organization import Credentials, LocalOrganization, trust_policy
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.organization_changes import create_without_events

EXTERNAL_ID = "secret-of-the-reader"
TAGGED: dict[str, Any] = {
    "SourceIdentity": "alice",
    "Tags": [{"Key": "team", "Value": "audit"}],
    "TransitiveTagKeys": ["team"],
}


def create_user(organization: LocalOrganization, account_id: str) -> str:
    return str(organization.client("iam", account_id).create_user(UserName="reading")["User"]["Arn"])


def access_key(organization: LocalOrganization, account_id: str) -> Credentials:
    key: Credentials = organization.client("iam", account_id).create_access_key(UserName="reading")["AccessKey"]
    return key


@pytest.fixture(scope="module")
def federated(organization: LocalOrganization) -> str:
    """A role that can be assumed with tags and a source identity, as from an identity provider."""
    management = organization.management_account_id
    actions = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
    trust = trust_policy(f"arn:aws:iam::{management}:root", actions=actions)
    return organization.create_role(management, "Federated", trust)


@pytest.fixture(scope="module")
def stage(deploy: Deploy, organization: LocalOrganization, federated: str) -> DeployedStage:
    """A stage with an external id, and a role and a user of the management account as source principals."""
    user = create_user(organization, organization.management_account_id)
    return deploy("here", SourcePrincipalArns=f"{federated},{user}", ExternalId=EXTERNAL_ID)


@pytest.fixture(scope="module")
def source_account(organization: LocalOrganization) -> str:
    (account_id,) = create_without_events(organization)
    return account_id


@pytest.fixture(scope="module")
def separate(deploy: Deploy, organization: LocalOrganization, source_account: str) -> DeployedStage:
    """A stage with a role and a user of a member account as source principals."""
    role, user = (
        organization.create_source_principal("Reader", source_account),
        create_user(organization, source_account),
    )
    names = {"MemberRoleName": "Separate", "SourcePolicyName": "Separate"}
    return deploy("separate", SourcePrincipalArns=f"{role},{user}", **names)


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, stage: DeployedStage, separate: DeployedStage) -> str:
    """An account that both stages have enrolled."""
    account_id = organization.create_account("shared")
    stage.wait_for_outcome(account_id, "enrolled")
    separate.wait_for_outcome(account_id, "enrolled")
    return account_id


def test_readers_pass_on_session_tags_and_a_source_identity(
    organization: LocalOrganization, stage: DeployedStage, account: str, federated: str
) -> None:
    role = stage.member_role_arn(account)
    inherited = organization.assume(federated, **TAGGED)
    assert organization.assume(role, inherited, ExternalId=EXTERNAL_ID)
    user = access_key(organization, organization.management_account_id)
    for credentials in (organization.as_role(federated), user):
        session = organization.assume(role, credentials, ExternalId=EXTERNAL_ID, **TAGGED)
        assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]


def test_separate_source_account_has_the_source_policy_and_the_member_role(
    organization: LocalOrganization, separate: DeployedStage, account: str, source_account: str
) -> None:
    iam = organization.client("iam", source_account)
    policy = {"PolicyName": "Separate", "PolicyArn": f"arn:aws:iam::{source_account}:policy/Separate"}
    assert policy in iam.list_attached_role_policies(RoleName="Reader")["AttachedPolicies"]
    assert policy in iam.list_attached_user_policies(UserName="reading")["AttachedPolicies"]
    management = organization.client("iam").list_policies(Scope="Local")["Policies"]
    assert "Separate" not in [each["PolicyName"] for each in management]

    separate.enqueue(source_account)
    separate.wait_for_outcome(source_account, "enrolled")
    role = organization.as_role(f"arn:aws:iam::{source_account}:role/Reader")
    for credentials in (role, access_key(organization, source_account)):
        for account_id in (account, source_account):
            assert organization.assume(separate.member_role_arn(account_id), credentials, **TAGGED)


def test_readers_of_one_stage_can_not_assume_roles_of_another(
    organization: LocalOrganization,
    stage: DeployedStage,
    separate: DeployedStage,
    account: str,
    federated: str,
    source_account: str,
) -> None:
    other = organization.as_role(f"arn:aws:iam::{source_account}:role/Reader")
    for role, session in (
        (separate.member_role_arn(account), organization.as_role(federated)),
        (stage.member_role_arn(account), other),
    ):
        with denied("sts:AssumeRole"):
            organization.assume(role, session, ExternalId=EXTERNAL_ID)
