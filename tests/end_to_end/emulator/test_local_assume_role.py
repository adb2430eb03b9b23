"""AssumeRole: paths, session tags, source identities and durations."""

from typing import Any

import pytest

from local.organization import Credentials, LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.expected_errors import denied, rejected

ALL_ACTIONS = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
TAGS = {"Tags": [{"Key": "team", "Value": "audit"}]}


@pytest.fixture(scope="module")
def reader(organization: LocalOrganization) -> str:
    """A role of the management account that may assume every role, with tags and a source identity."""
    account_id = organization.management_account_id
    trust = trust_policy(f"arn:aws:iam::{account_id}:root", actions=ALL_ACTIONS)
    return organization.create_role(account_id, "Reader", trust, inline=allow_policy("sts:*"), path="/readers/")


@pytest.fixture(scope="module")
def session(organization: LocalOrganization, reader: str) -> Credentials:
    return organization.assume(reader)


def create_target(organization: LocalOrganization, account_id: str, name: str, **trust: Any) -> str:
    trusted = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root", **trust)
    return organization.create_role(account_id, name, trusted, path="/some/where/")


def test_paths_are_part_of_arns(
    organization: LocalOrganization, account: str, reader: str, session: Credentials
) -> None:
    assert ":role/readers/Reader" in reader
    arn = create_target(organization, account, "Path", condition={"ArnEquals": {"aws:PrincipalArn": reader}})
    assert organization.assume(arn, session)
    with denied("sts:AssumeRole"):
        organization.assume(f"arn:aws:iam::{account}:role/Path", session)


@pytest.mark.parametrize(
    ("request_", "transitive", "action"),
    [
        ({"SourceIdentity": "alice"}, {}, "sts:SetSourceIdentity"),
        (TAGS, {"TransitiveTagKeys": ["team"]}, "sts:TagSession"),
    ],
)
def test_tags_and_source_identity_need_both_policies_also_in_a_chain(
    organization: LocalOrganization,
    account: str,
    reader: str,
    request_: dict[str, Any],
    transitive: dict[str, Any],
    action: str,
) -> None:
    opened = create_target(organization, account, f"Opened-{action[4:]}", actions=ALL_ACTIONS)
    closed = create_target(organization, account, f"Closed-{action[4:]}")
    direct, chained = organization.assume(reader), organization.assume(reader, **request_ | transitive)
    assert organization.assume(opened, direct, **request_)
    assert organization.assume(opened, chained)
    with denied(action):
        organization.assume(closed, direct, **request_)
    with denied(action):
        organization.assume(closed, chained)

    management = organization.management_account_id
    plain = organization.create_role(
        management,
        f"Plain-{action[4:]}",
        trust_policy(f"arn:aws:iam::{management}:root"),
        inline=allow_policy("sts:AssumeRole"),
    )
    with denied(action):
        organization.assume(opened, organization.assume(plain), **request_)


def test_principal_that_a_trust_policy_names_needs_no_policy_in_its_account(
    organization: LocalOrganization, account: str
) -> None:
    management = organization.management_account_id
    principal = organization.create_role(management, "Powerless", trust_policy(f"arn:aws:iam::{management}:root"))
    session, named = organization.as_role(principal), trust_policy(principal)
    assert organization.assume(organization.create_role(management, "Named", named), session)
    delegating = create_target(organization, management, "Delegating")
    for arn in (delegating, organization.create_role(account, "Named", named)):
        with denied("sts:AssumeRole"):
            organization.assume(arn, session)


def test_external_id_is_no_condition_key_of_tags(
    organization: LocalOrganization, account: str, session: Credentials
) -> None:
    condition = {"StringEquals": {"sts:ExternalId": "secret"}}
    arn = create_target(organization, account, "External", actions=ALL_ACTIONS, condition=condition)
    assert organization.assume(arn, session, ExternalId="secret")
    with denied("sts:TagSession"):
        organization.assume(arn, session, ExternalId="secret", **TAGS)


def test_session_is_limited_by_its_role_and_by_chaining(
    organization: LocalOrganization, account: str, session: Credentials
) -> None:
    arn = create_target(organization, account, "Long")
    with rejected("ValidationError", "MaxSessionDuration"):
        organization.assume(arn, DurationSeconds=7200)
    organization.client("iam", account).update_role(RoleName="Long", MaxSessionDuration=7200)
    assert organization.assume(arn, DurationSeconds=7200)
    with rejected("ValidationError", "role chaining"):
        organization.assume(arn, session, DurationSeconds=7200)
