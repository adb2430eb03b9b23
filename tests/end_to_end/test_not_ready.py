"""Accounts whose access role can't be assumed yet, or never can."""

import json
from datetime import timedelta

import pytest

from local.organization import LocalOrganization, allowing, trusting
from local.waiting import until
from tests.end_to_end.deployed_stage import PATIENCE, Deploy, Stage, logged_at
from tests.end_to_end.roles_in_iam import role_of

NEVER = 86400


@pytest.fixture(scope="module")
def patient(deploy: Deploy, reader: str) -> Stage:
    return deploy("patient", SourcePrincipalArns=reader)


@pytest.fixture(scope="module")
def impatient(deploy: Deploy, reader: str) -> Stage:
    return deploy(
        "impatient",
        SourcePrincipalArns=reader,
        ReadyGraceSeconds="1",
        MemberRoleName="Impatient",
        SourcePolicyName="Impatient",
    )


def given_up(stage: Stage, account_id: str, reason: str = "no_access_role") -> str:
    """Skip all delays until an account has failed for good, and tell the error."""

    def finished() -> bool:
        stage.hurry()
        passes = stage.passes(account_id)
        return bool(passes) and not passes[-1]["retry"]

    until(finished, f"{account_id} has failed for good", PATIENCE)
    return str(stage.settled(account_id, "failed", reason)["error"])


def test_an_account_that_is_not_ready_comes_back_after_30_seconds(
    organization: LocalOrganization, patient: Stage
) -> None:
    organization.set_ready_delay(NEVER)
    account_id = organization.create_account("late")
    row = patient.settled(account_id, "failed", "not_ready", hurrying=False)
    assert row["attempts"] == 1
    assert account_id not in patient.named()
    patient.send("garbage")
    organization.set_ready_delay(0)

    row = patient.settled(account_id, "enrolled", hurrying=False)

    assert row["attempts"] == 0
    assert account_id in patient.named()
    first, second = patient.passed(account_id, 2)
    assert (first["retry"], second["retry"], second.get("reason")) == (True, False, None)
    assert timedelta(seconds=29) < logged_at(second) - logged_at(first) < timedelta(seconds=45)

    def refused() -> bool:
        refusals = [logged_at(line) for line in patient.log() if line.get("message") == "message can't be read"]
        return len(refusals) > 1 and timedelta(seconds=29) < refusals[1] - refusals[0] < timedelta(seconds=45)

    until(refused, "garbage comes back as soon", PATIENCE)


def test_an_account_that_never_gets_ready_has_failed_once_the_grace_is_over(
    organization: LocalOrganization, impatient: Stage
) -> None:
    organization.set_ready_delay(NEVER)
    try:
        account_id = organization.create_account("never")
        error = given_up(impatient, account_id)
    finally:
        organization.set_ready_delay(0)
    assert "OrganizationAccountAccessRole, AWSControlTowerExecution" in error
    assert "AccessRoleNames" in error
    assert role_of(organization, account_id, "Impatient") is None
    assert account_id not in impatient.named()


def test_an_invited_account_is_enrolled_once_it_has_an_access_role(
    organization: LocalOrganization, impatient: Stage
) -> None:
    account_id = organization.invite_account()
    assert "Invited accounts have none" in given_up(impatient, account_id)

    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, "AWSControlTowerExecution", trust, inline=allowing("*"))
    impatient.hear(account_id)

    row = impatient.settled(account_id, "enrolled")
    assert row["access_role"] == "AWSControlTowerExecution"
    assert account_id in impatient.named()
    assert impatient.waiting("accounts-dlq") == 0


def test_an_access_role_that_may_do_too_little_is_told_apart(organization: LocalOrganization, impatient: Stage) -> None:
    account_id = organization.invite_account()
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, "OrganizationAccountAccessRole", trust, inline=allowing("iam:GetRole"))
    impatient.send(json.dumps({"account_id": account_id, "trigger": "rerun"}))

    assert "iam:CreateRole" in given_up(impatient, account_id, "access_denied")
    assert account_id not in impatient.named()


def test_a_service_control_policy_that_denies_is_told_apart_at_once(
    organization: LocalOrganization, patient: Stage
) -> None:
    organization.drop_events(dropped=True)
    account_id = organization.create_account("controlled")
    organization.drop_events(dropped=False)
    organizations = organization.client("organizations")
    deny = {"Effect": "Deny", "Action": "iam:CreateRole", "Resource": "*"}
    policy = organizations.create_policy(
        Name="NoRoles",
        Description="",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps({"Version": "2012-10-17", "Statement": [deny]}),
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=account_id)

    patient.hear(account_id)

    assert "service control policy" in given_up(patient, account_id, "scp_denied")
    organizations.detach_policy(PolicyId=policy, TargetId=account_id)
    assert patient.checked_again(account_id)["outcome"] == "enrolled"
    patient.settled(account_id, "enrolled")
    assert account_id in patient.named()
