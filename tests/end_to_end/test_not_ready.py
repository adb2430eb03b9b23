"""Accounts whose access role can't be assumed yet, can't be assumed at all, or has too few permissions."""

import pytest

from local.organization import LocalOrganization, allow_policy, trust_policy
from local.waiting import wait_until
from tests.end_to_end.deployed_stage import TIMEOUT_SECONDS, Deploy, DeployedStage
from tests.end_to_end.organization_changes import create_without_events, deny_policy, scp_attached

DAY_SECONDS = 86400


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy("grace", SourcePrincipalArns=reader)


@pytest.fixture(scope="module")
def without_grace(deploy: Deploy, reader: str) -> DeployedStage:
    """A stage that gives up a new account after a second."""
    names = {"MemberRoleName": "Impatient", "SourcePolicyName": "Impatient"}
    return deploy("no-grace", SourcePrincipalArns=reader, ReadyGraceSeconds="1", **names)


def terminal_error(stage: DeployedStage, account_id: str, reason: str = "no_access_role") -> str:
    """Wait, without delays, until an account has failed terminally, and return the error."""

    def has_failed() -> bool:
        stage.skip_delays()
        passes = stage.passes(account_id)
        return bool(passes) and not passes[-1]["retry"]

    wait_until(has_failed, f"{account_id} has failed terminally", TIMEOUT_SECONDS)
    return str(stage.wait_for_outcome(account_id, "failed", reason)["error"])


def test_account_that_is_not_ready_is_retried_after_30_seconds(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    organization.set_ready_delay(DAY_SECONDS)
    account_id = organization.create_account("late")
    row = stage.wait_for_outcome(account_id, "failed", "not_ready", skip_delays=False)
    assert row["attempts"] == 1
    assert account_id not in stage.granted_accounts()
    delay = wait_until(lambda: organization.delays(stage.queue("accounts")), "the message is returned to the queue")
    assert 20 < delay[0] <= 30

    organization.set_ready_delay(0)

    row = stage.wait_for_outcome(account_id, "enrolled")
    assert row["attempts"] == 0
    assert account_id in stage.granted_accounts()


def test_account_without_an_access_role_fails_after_the_grace_period(
    organization: LocalOrganization, without_grace: DeployedStage
) -> None:
    organization.set_ready_delay(DAY_SECONDS)
    try:
        account_id = organization.create_account("never")
        error = terminal_error(without_grace, account_id)
    finally:
        organization.set_ready_delay(0)
    assert "OrganizationAccountAccessRole, AWSControlTowerExecution" in error
    assert "AccessRoleNames" in error
    assert without_grace.role(account_id) is None
    assert account_id not in without_grace.granted_accounts()


def test_invited_account_is_enrolled_once_it_has_an_access_role(
    organization: LocalOrganization, without_grace: DeployedStage
) -> None:
    account_id = organization.invite_account()
    assert "Invited accounts have none" in terminal_error(without_grace, account_id)

    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, "AWSControlTowerExecution", trust, inline=allow_policy("*"))
    without_grace.enqueue(account_id)

    row = without_grace.wait_for_outcome(account_id, "enrolled")
    assert row["access_role"] == "AWSControlTowerExecution"
    assert account_id in without_grace.granted_accounts()
    assert without_grace.message_count("accounts-dlq") == 0


def test_access_role_with_too_few_permissions_has_its_own_reason(
    organization: LocalOrganization, without_grace: DeployedStage
) -> None:
    account_id = organization.invite_account()
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, "OrganizationAccountAccessRole", trust, inline=allow_policy("iam:GetRole"))
    without_grace.enqueue(account_id, "rerun")

    assert "iam:CreateRole" in terminal_error(without_grace, account_id, "access_denied")
    assert account_id not in without_grace.granted_accounts()


def test_service_control_policy_that_denies_has_its_own_reason(
    organization: LocalOrganization, without_grace: DeployedStage
) -> None:
    (account_id,) = create_without_events(organization)
    with scp_attached(organization, deny_policy("iam:CreateRole"), [account_id]):
        without_grace.enqueue(account_id)
        assert "service control policy" in terminal_error(without_grace, account_id, "scp_denied")

    without_grace.enqueue(account_id)
    without_grace.wait_for_outcome(account_id, "enrolled")
    assert account_id in without_grace.granted_accounts()
