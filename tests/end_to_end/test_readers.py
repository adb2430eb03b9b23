"""Who reads, and how they come: with an external id, tags, a source identity; as a role or a user, from here or elsewhere."""

from typing import Any

import pytest

from local.organization import Credentials, LocalOrganization, trusting
from tests.end_to_end.deployed_stage import Deploy, Stage
from tests.end_to_end.emulator.refusals import denied

EXTERNAL_ID = "told-by-the-reader"
CARRIED: dict[str, Any] = {
    "SourceIdentity": "alice",
    "Tags": [{"Key": "team", "Value": "audit"}],
    "TransitiveTagKeys": ["team"],
}


def user(organization: LocalOrganization, account_id: str, name: str) -> str:
    return str(organization.client("iam", account_id).create_user(UserName=name)["User"]["Arn"])


def key_of(organization: LocalOrganization, account_id: str, name: str) -> Credentials:
    key: Credentials = organization.client("iam", account_id).create_access_key(UserName=name)["AccessKey"]
    return key


@pytest.fixture(scope="module")
def audited(organization: LocalOrganization) -> str:
    """A reader that may be entered with tags and a source identity, as from an identity provider."""
    management = organization.management_account_id
    actions = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
    return organization.create_role(management, "Audited", trusting(f"arn:aws:iam::{management}:root", actions=actions))


@pytest.fixture(scope="module")
def secretive(deploy: Deploy, organization: LocalOrganization, audited: str) -> Stage:
    """A stage of two readers in the management account, a role and a user, who must tell an external id."""
    reading_user = user(organization, organization.management_account_id, "reading")
    return deploy(
        "secretive",
        SourcePrincipalArns=f"{audited},{reading_user}",
        ExternalId=EXTERNAL_ID,
        MemberRoleName="Secretive",
        SourcePolicyName="Secretive",
    )


@pytest.fixture(scope="module")
def elsewhere(organization: LocalOrganization) -> str:
    """A member account that is the source account, older than the stage."""
    return organization.create_account("readers")


@pytest.fixture(scope="module")
def apart(deploy: Deploy, organization: LocalOrganization, elsewhere: str) -> Stage:
    """A stage of two readers in a member account."""
    role, reading_user = (
        organization.create_source_principal("Reader", elsewhere),
        user(organization, elsewhere, "reading"),
    )
    return deploy(
        "apart", SourcePrincipalArns=f"{role},{reading_user}", MemberRoleName="Apart", SourcePolicyName="Apart"
    )


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, secretive: Stage, apart: Stage) -> str:
    """An account that both stages have enrolled."""
    account_id = organization.create_account("shared")
    secretive.settled(account_id, "enrolled")
    apart.settled(account_id, "enrolled")
    return account_id


def test_the_external_id_must_be_told(
    organization: LocalOrganization, secretive: Stage, account: str, audited: str
) -> None:
    session, role = organization.as_role(audited), secretive.member_role(account)
    assert organization.assume(role, session, ExternalId=EXTERNAL_ID)
    for untold in ({}, {"ExternalId": "guessed"}):
        with denied("sts:AssumeRole"):
            organization.assume(role, session, **untold)


def test_a_reader_brings_its_tags_and_source_identity(
    organization: LocalOrganization, secretive: Stage, account: str, audited: str
) -> None:
    role = secretive.member_role(account)
    inherited = organization.assume(audited, **CARRIED)
    assert organization.assume(role, inherited, ExternalId=EXTERNAL_ID)
    plain = organization.as_role(audited)
    session = organization.assume(role, plain, ExternalId=EXTERNAL_ID, **CARRIED)
    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]


@pytest.mark.parametrize("carried", [{}, CARRIED], ids=["plain", "with tags and a source identity"])
def test_a_user_reads_too(
    organization: LocalOrganization, secretive: Stage, account: str, carried: dict[str, Any]
) -> None:
    key = key_of(organization, organization.management_account_id, "reading")
    role = secretive.member_role(account)
    session = organization.assume(role, key, ExternalId=EXTERNAL_ID, **carried)
    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]
    with denied("sts:AssumeRole"):
        organization.assume(role, key)


def test_the_source_policy_of_another_account_is_kept_there(
    organization: LocalOrganization, apart: Stage, account: str, elsewhere: str
) -> None:
    assert account in apart.named()
    iam = organization.client("iam", elsewhere)
    policy = {"PolicyName": "Apart", "PolicyArn": f"arn:aws:iam::{elsewhere}:policy/Apart"}
    assert policy in iam.list_attached_role_policies(RoleName="Reader")["AttachedPolicies"]
    assert policy in iam.list_attached_user_policies(UserName="reading")["AttachedPolicies"]
    management = organization.client("iam").list_policies(Scope="Local")["Policies"]
    assert "Apart" not in [each["PolicyName"] for each in management]

    for credentials in (
        organization.as_role(f"arn:aws:iam::{elsewhere}:role/Reader"),
        key_of(organization, elsewhere, "reading"),
    ):
        session = organization.assume(apart.member_role(account), credentials, **CARRIED)
        assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]


def test_each_stage_lets_in_its_own_readers_alone(
    organization: LocalOrganization, apart: Stage, secretive: Stage, account: str, audited: str, elsewhere: str
) -> None:
    theirs = organization.as_role(f"arn:aws:iam::{elsewhere}:role/Reader")
    for role, session in (
        (apart.member_role(account), organization.as_role(audited)),
        (secretive.member_role(account), theirs),
    ):
        with denied("sts:AssumeRole"):
            organization.assume(role, session, ExternalId=EXTERNAL_ID)


def test_the_source_account_carries_the_member_role_too(
    organization: LocalOrganization, apart: Stage, elsewhere: str
) -> None:
    apart.hear(elsewhere)
    apart.settled(elsewhere, "enrolled")
    reader = organization.as_role(f"arn:aws:iam::{elsewhere}:role/Reader")
    assert organization.assume(apart.member_role(elsewhere), reader)


def test_scope_organization_lets_the_reader_in_everywhere_but_where_it_is_left_out(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    left_out, enrolled = organization.create_account("left-out"), organization.create_account("whole")
    whole = deploy(
        "whole",
        SourcePrincipalArns=reader,
        SourcePolicyScope="organization",
        ExcludeAccountIds=left_out,
        MemberRoleName="Whole",
        SourcePolicyName="Whole",
    )
    whole.hear(left_out)
    whole.hear(enrolled)
    whole.settled(left_out, "skipped", "excluded")
    whole.settled(enrolled, "enrolled")

    (statement,) = whole.source_policy()["Statement"]
    assert statement["Condition"] == {
        "StringEquals": {"aws:ResourceOrgID": organization.organization_id},
        "StringNotEquals": {"aws:ResourceAccount": [left_out]},
    }
    outside = "555566667777"
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    for account_id in (left_out, outside):
        organization.create_role(account_id, "Whole", trust)
        with denied("sts:AssumeRole"):
            organization.assume(whole.member_role(account_id), organization.as_role(reader))
    assert organization.assume(whole.member_role(enrolled), organization.as_role(reader))

    versions = whole.versions()
    another = organization.create_account("whole-too")
    whole.settled(another, "enrolled")
    assert whole.versions() == versions
    assert organization.assume(whole.member_role(another), organization.as_role(reader))
