"""AssumeRole lets in, and hands on, what AWS does."""

import json
from typing import Any

import pytest

from local.organization import Credentials, LocalOrganization, allowing, trusting
from tests.end_to_end.emulator.refusals import denied, refused

ALL_THREE = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")


@pytest.fixture(scope="module")
def reader(organization: LocalOrganization) -> str:
    """A role of the management account that may assume anything, with tags and a source identity."""
    account_id = organization.management_account_id
    trust = trusting(f"arn:aws:iam::{account_id}:root", actions=ALL_THREE)
    return organization.create_role(account_id, "AnyReader", trust, inline=allowing("sts:*", "iam:GetAccountSummary"))


@pytest.fixture(scope="module")
def reading(organization: LocalOrganization, reader: str) -> Credentials:
    return organization.assume(reader)


def target(organization: LocalOrganization, account_id: str, name: str, **trust: Any) -> str:
    return organization.create_role(
        account_id, name, trusting(f"arn:aws:iam::{organization.management_account_id}:root", **trust)
    )


def test_an_external_id_must_be_given(organization: LocalOrganization, account: str, reading: Credentials) -> None:
    arn = target(organization, account, "External", condition={"StringEquals": {"sts:ExternalId": "secret"}})
    assert organization.assume(arn, reading, ExternalId="secret")
    for wrong in ({}, {"ExternalId": "guess"}):
        with denied("sts:AssumeRole"):
            organization.assume(arn, reading, **wrong)


def test_a_trust_may_be_narrowed_to_a_role_whatever_its_path(organization: LocalOrganization, account: str) -> None:
    management = organization.management_account_id
    named, other = (
        organization.create_role(
            management, name, trusting(f"arn:aws:iam::{management}:root"), inline=allowing("sts:AssumeRole"), path=path
        )
        for name, path in (("NamedReader", "/readers/"), ("OtherReader", "/"))
    )
    assert ":role/readers/NamedReader" in named
    arn = target(organization, account, "Narrowed", condition={"ArnEquals": {"aws:PrincipalArn": named}})

    assert organization.assume(arn, organization.assume(named))
    with denied("sts:AssumeRole"):
        organization.assume(arn, organization.assume(other))


def test_a_role_with_a_path_is_assumed_by_its_whole_arn(
    organization: LocalOrganization, account: str, reading: Credentials
) -> None:
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account, "Deep", trust, path="/some/where/")
    assert organization.assume(f"arn:aws:iam::{account}:role/some/where/Deep", reading)
    with denied("sts:AssumeRole"):
        organization.assume(f"arn:aws:iam::{account}:role/Deep", reading)


def test_a_source_identity_needs_the_trust(organization: LocalOrganization, account: str, reading: Credentials) -> None:
    closed = target(organization, account, "NoIdentity")
    opened = target(organization, account, "Identity", actions=ALL_THREE)
    assert organization.assume(opened, reading, SourceIdentity="alice")
    with denied("sts:SetSourceIdentity"):
        organization.assume(closed, reading, SourceIdentity="alice")


def test_tags_need_the_trust(organization: LocalOrganization, account: str, reading: Credentials) -> None:
    tags = [{"Key": "team", "Value": "audit"}]
    closed = target(organization, account, "NoTags")
    opened = target(organization, account, "Tags", actions=ALL_THREE)
    assert organization.assume(opened, reading, Tags=tags)
    with denied("sts:TagSession"):
        organization.assume(closed, reading, Tags=tags)


@pytest.mark.parametrize(
    ("request_", "action"),
    [
        ({"SourceIdentity": "alice"}, "sts:SetSourceIdentity"),
        ({"Tags": [{"Key": "team", "Value": "audit"}]}, "sts:TagSession"),
    ],
)
def test_they_need_the_callers_policy_too(
    organization: LocalOrganization, account: str, request_: dict[str, Any], action: str
) -> None:
    management, name = organization.management_account_id, f"Plain-{action[4:]}"
    plain = organization.create_role(
        management, name, trusting(f"arn:aws:iam::{management}:root"), inline=allowing("sts:AssumeRole")
    )
    opened = target(organization, account, name, actions=ALL_THREE)
    session = organization.assume(plain)
    assert organization.assume(opened, session)
    with denied(action):
        organization.assume(opened, session, **request_)


@pytest.mark.parametrize(
    ("carried", "action"),
    [
        ({"SourceIdentity": "alice"}, "sts:SetSourceIdentity"),
        ({"Tags": [{"Key": "team", "Value": "audit"}], "TransitiveTagKeys": ["team"]}, "sts:TagSession"),
    ],
)
def test_what_a_session_carries_along_a_chain_must_be_let_in(
    organization: LocalOrganization, account: str, reader: str, carried: dict[str, Any], action: str
) -> None:
    name = action[4:]
    session = organization.assume(reader, **carried)
    opened = target(organization, account, f"Opened-{name}", actions=ALL_THREE)
    closed = target(organization, account, f"Closed-{name}")
    assert organization.assume(opened, session)
    with denied(action):
        organization.assume(closed, session)


def test_plain_tags_stay_behind(organization: LocalOrganization, account: str, reader: str) -> None:
    session = organization.assume(reader, Tags=[{"Key": "team", "Value": "audit"}])
    assert organization.assume(target(organization, account, "Behind"), session)


def test_a_session_lasts_as_long_as_its_role_allows_and_an_hour_in_a_chain(
    organization: LocalOrganization, account: str, reading: Credentials
) -> None:
    arn = target(organization, account, "Long")
    with refused("ValidationError", "MaxSessionDuration"):
        organization.assume(arn, DurationSeconds=7200)
    organization.client("iam", account).update_role(RoleName="Long", MaxSessionDuration=7200)
    assert organization.assume(arn, DurationSeconds=7200)
    with refused("ValidationError", "role chaining"):
        organization.assume(arn, reading, DurationSeconds=7200)


def test_a_session_policy_narrows(organization: LocalOrganization, account: str) -> None:
    session = organization.assume(
        f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", Policy=json.dumps(allowing("iam:ListRoles"))
    )
    assert organization.client("iam", credentials=session).list_roles()["Roles"]
    with denied("iam:ListUsers"):
        organization.client("iam", credentials=session).list_users()
    with denied("s3:ListAllMyBuckets"):
        organization.client("s3", credentials=session).list_buckets()


def test_a_session_policy_holds_2048_characters(organization: LocalOrganization, account: str) -> None:
    policy = json.dumps(allowing("iam:ListRoles", resource="arn:aws:iam::*:role/" + "a" * 2048))
    with refused("ValidationError", "2048"):
        organization.assume(f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", Policy=policy)
