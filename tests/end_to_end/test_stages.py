"""Stages beside each other, and what was there before them."""

import json

import pytest

from local.organization import LocalOrganization, allowing, trusting
from tests.end_to_end.deployed_stage import Deploy, Stage
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.roles_in_iam import role_of
from tests.end_to_end.swept_stage import SweptStage, attached_to


@pytest.fixture(scope="module")
def first(deploy: Deploy, reader: str) -> Stage:
    return deploy("first", SourcePrincipalArns=reader)


def unheard_of(organization: LocalOrganization, name: str) -> str:
    """Create an account that no stage hears of."""
    organization.drop_events(dropped=True)
    try:
        return organization.create_account(name)
    finally:
        organization.drop_events(dropped=False)


def test_two_stages_with_names_of_their_own_live_side_by_side(
    deploy: Deploy, organization: LocalOrganization, first: Stage, reader: str
) -> None:
    other = organization.create_source_principal("Other")
    second = deploy("second", SourcePrincipalArns=other, MemberRoleName="Second", SourcePolicyName="Second")

    # The stages of other tests, deployed before in some orders, must not receive this event.
    account_id = unheard_of(organization, "both")

    for stage, principal in ((first, reader), (second, other)):
        stage.hear(account_id)
        stage.settled(account_id, "enrolled")
        assert account_id in stage.named()
        assert organization.assume(stage.member_role(account_id), organization.as_role(principal))
    for stage, principal in ((first, other), (second, reader)):
        with denied("sts:AssumeRole"):
            organization.assume(stage.member_role(account_id), organization.as_role(principal))


def test_a_second_stage_with_the_same_role_name_is_refused(
    deploy: Deploy, organization: LocalOrganization, first: Stage, reader: str
) -> None:
    rival = deploy("rival", SourcePrincipalArns=reader, SourcePolicyName="Rival")
    account_id = unheard_of(organization, "wanted")
    first.hear(account_id)
    first.settled(account_id, "enrolled")
    role = role_of(organization, account_id, "CrossAccountReadOnlyRole")

    rival.hear(account_id)

    error = rival.settled(account_id, "failed", "foreign_role")["error"]
    assert "rolecall-stage=first" in error
    assert "MemberRoleName" in error
    assert role_of(organization, account_id, "CrossAccountReadOnlyRole") == role
    assert account_id not in rival.named()


def test_a_second_stage_with_the_same_source_policy_name_is_refused_before_it_writes_a_role(
    deploy: Deploy, organization: LocalOrganization, first: Stage, reader: str
) -> None:
    shared = unheard_of(organization, "shared")
    first.hear(shared)
    first.settled(shared, "enrolled")
    policy = first.source_policy()
    twin = deploy("twin", SourcePrincipalArns=reader, MemberRoleName="Twin")

    twin.hear(shared)

    error = twin.settled(shared, "failed", "foreign_source_policy")["error"]
    assert "rolecall-stage=first" in error
    assert "SourcePolicyName" in error
    assert role_of(organization, shared, "Twin") is None
    assert first.source_policy() == policy


def test_a_role_made_by_hand_is_adopted_and_a_source_policy_never(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    management = organization.management_account_id
    by_hand, new = unheard_of(organization, "by-hand"), unheard_of(organization, "new")
    trust = trusting(f"arn:aws:iam::{management}:root")
    role = organization.create_role(by_hand, "ByHand", trust, ["arn:aws:iam::aws:policy/SecurityAudit"])
    iam = organization.client("iam")
    document = allowing("sts:AssumeRole", resource=[role])
    arn = iam.create_policy(PolicyName="ByHand", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)
    names = {"MemberRoleName": "ByHand", "AdoptExistingRoles": "true"}
    heir = deploy("heir", SourcePrincipalArns=reader, SourcePolicyName="ByHand", **names)

    heir.hear(by_hand)

    assert "SourcePolicyName" in heir.settled(by_hand, "failed", "foreign_source_policy")["error"]
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v1"
    assert organization.assume(role, organization.as_role(reader))

    heir = deploy("second-heir", SourcePrincipalArns=reader, SourcePolicyName="Heir", **names)
    for account_id in (by_hand, new):
        heir.hear(account_id)
        heir.settled(account_id, "enrolled")

    iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
    assert organization.assume(role, organization.as_role(reader))
    assert heir.named() == {by_hand, new}
    row = heir.row(by_hand)
    assert row
    assert row["change"] == "updated"
    adopted, made = role_of(organization, by_hand, "ByHand"), role_of(organization, new, "ByHand")
    assert adopted
    assert made
    assert adopted | {"created": None} == made | {"created": None}


def test_a_changed_setting_reaches_the_role_at_the_next_pass_and_the_source_policy_at_the_next_resync(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    names = {"MemberRoleName": "Changing", "SourcePolicyName": "Changing"}
    account_id = unheard_of(organization, "changing")
    changing = SweptStage(organization, deploy("changing", SourcePrincipalArns=reader, **names).name)
    changing.hear(account_id)
    changing.settled(account_id, "enrolled")
    successor = organization.create_source_principal("Successor")
    organization.client("ssm", account_id).put_parameter(Name="/open", Value="data", Type="String")

    deploy("changing", SourcePrincipalArns=successor, DenyDataReads="false", **names)
    assert changing.checked_again(account_id)["change"] == "updated"
    assert "Changing" in attached_to(organization)
    changing.sweep("resync", accounts="failed")

    session = organization.assume(changing.member_role(account_id), organization.as_role(successor))
    assert organization.client("ssm", credentials=session).get_parameter(Name="/open")["Parameter"]["Value"] == "data"
    with denied("sts:AssumeRole"):
        organization.assume(changing.member_role(account_id), organization.as_role(reader))
    assert "Changing" not in attached_to(organization)
