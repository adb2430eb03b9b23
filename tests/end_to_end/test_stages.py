"""Several stages in one organization."""

import json

import pytest

from local.organization import LocalOrganization
from rolecall.stage import ALARMS
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.iam_roles import read_role
from tests.end_to_end.organization_changes import create_without_events


@pytest.fixture(scope="module")
def first(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy("first", SourcePrincipalArns=reader)


def test_stages_with_different_names_are_independent(
    deploy: Deploy, organization: LocalOrganization, first: DeployedStage, reader: str
) -> None:
    other = organization.create_source_principal("Other")
    second = deploy("second", SourcePrincipalArns=other, MemberRoleName="Second", SourcePolicyName="Second")

    # An event would reach the stages of the other test, too.
    (account_id,) = create_without_events(organization)

    for stage, principal in ((first, reader), (second, other)):
        stage.enqueue(account_id)
        stage.wait_for_outcome(account_id, "enrolled")
        assert account_id in stage.granted_accounts()
        assert stage.assume_member_role(account_id, principal)
    for stage, principal in ((first, other), (second, reader)):
        with denied("sts:AssumeRole"):
            stage.assume_member_role(account_id, principal)


def test_status_has_only_the_alarms_of_its_own_stage(
    deploy: Deploy, organization: LocalOrganization, first: DeployedStage, reader: str
) -> None:
    deploy("first-eu", SourcePrincipalArns=reader, MemberRoleName="Europe", SourcePolicyName="Europe")

    status = json.loads(CommandLine(organization, first.name)("status", "--json").stdout)

    assert {alarm["name"] for alarm in status["alarms"]} == {f"rolecall-first-{name}" for name in ALARMS}


def test_stage_with_the_names_of_another_stage_changes_nothing(
    deploy: Deploy, organization: LocalOrganization, first: DeployedStage, reader: str
) -> None:
    (account_id,) = create_without_events(organization)
    first.enqueue(account_id)
    first.wait_for_outcome(account_id, "enrolled")
    role, policy = first.role(account_id), first.source_policy()
    same_role = deploy("same-role", SourcePrincipalArns=reader, SourcePolicyName="Third")
    same_policy = deploy("same-policy", SourcePrincipalArns=reader, MemberRoleName="Third")

    for stage, reason, parameter in (
        (same_role, "foreign_role", "MemberRoleName"),
        (same_policy, "foreign_source_policy", "SourcePolicyName"),
    ):
        stage.enqueue(account_id)
        error = stage.wait_for_outcome(account_id, "failed", reason)["error"]
        assert "rolecall-stage=first" in error
        assert parameter in error

    assert (read_role(organization, account_id, ROLE), first.source_policy()) == (role, policy)
    assert read_role(organization, account_id, "Third") is None
    assert account_id not in same_role.granted_accounts()
