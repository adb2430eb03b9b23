"""A stage whose only access role is that of its StackSet, in the local AWS organization."""

import json
import re
import secrets

import pytest

from local.organization import LocalOrganization, trust_policy
from local.waiting import wait_until
from rolecall.doctor.result import CheckResult, CheckStatus
from tests.end_to_end.authorization.entering import (
    ACCESS_ROLE_SETTINGS,
    ADMINISTRATORS,
    may_enter,
    stack_set_role,
)
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import TIMEOUT_SECONDS, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.function_sessions import FUNCTIONS, function_session
from tests.end_to_end.iam_roles import read_role
from tests.end_to_end.organization_changes import root_id
from tests.end_to_end.test_command_doctor import results_of

ALONE = ACCESS_ROLE_SETTINGS["StackSet alone"]
OWN = stack_set_role("alone")


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> DeployedStage:
    existing = organization.invite_account()
    organization.client("cloudformation").activate_organizations_access()
    deployed = deploy(
        "alone", SourcePrincipalArns=reader, AccessRoleTargets=root_id(organization), EventBusName="default", **ALONE
    )
    deployed.invoke_and_wait("backfill")
    deployed.wait_for_outcome(existing, "enrolled")
    return deployed


def create_foreign_role(organization: LocalOrganization, account_id: str) -> None:
    """Create a role of the access role's name, with which CloudFormation can't create it."""
    organization.create_role(account_id, OWN, trust_policy(f"arn:aws:iam::{account_id}:root"))


def test_created_and_invited_accounts_are_enrolled_by_themselves(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    for account_id in (organization.create_account("created"), organization.invite_account()):
        row = stage.wait_for_outcome(account_id, "enrolled")
        assert row["access_role"] == OWN
        assert stage.assume_member_role(account_id)


def test_no_function_may_assume_an_administrator_role(organization: LocalOrganization, stage: DeployedStage) -> None:
    account_id = organization.create_account("administered")
    stage.wait_for_outcome(account_id, "enrolled")
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, ADMINISTRATORS[1], trust)

    for function in FUNCTIONS:
        session = function_session(organization, stage, function)
        for role in (*ADMINISTRATORS, OWN):
            arn = f"arn:aws:iam::{account_id}:role/{role}"
            if may_enter(function, role, stage.name, ALONE):
                assert organization.assume(arn, session)
            else:
                with denied("sts:AssumeRole"):
                    organization.assume(arn, session)


def test_failed_instance_is_shown_and_enrolled_after_its_repair(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    account_id = "".join(secrets.choice("0123456789") for _ in range(12))
    create_foreign_role(organization, account_id)
    organization.invite_account(account_id)
    stage.wait_for_outcome(account_id, "failed", "not_ready")

    def shown() -> CheckResult | None:
        result = results_of(stage)["StackSet"]
        return result if result.status is CheckStatus.FAILED else None

    found = wait_until(shown, "doctor shows the failed instance", TIMEOUT_SECONDS)
    assert f"StackSet {OWN} failed in 1 account: {account_id} FAILED: " in found.summary
    assert "already exists" in found.summary
    status = json.loads(CommandLine(organization, stage.name)("status", "--json").stdout)
    assert [each["account_id"] for each in status["failed_instances"]] == [account_id]
    assert "the access role's StackSet failed in 1 account" in status["problems"]

    organization.client("iam", account_id).delete_role(RoleName=OWN)
    _update_stack_instances(organization, str(found.remedy).partition(", then aws ")[2])

    stage.wait_for_outcome(account_id, "enrolled")
    assert shown() is None


def _update_stack_instances(organization: LocalOrganization, command: str) -> None:
    """Call what a command of the AWS CLI calls."""
    words = command.split()
    assert words[:2] == ["cloudformation", "update-stack-instances"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    # In the shorthand, a comma separates the values of a list, and its items.
    found = re.fullmatch(
        "OrganizationalUnitIds=(.+),Accounts=(.+),AccountFilterType=(.+)", options["--deployment-targets"]
    )
    assert found is not None
    units, accounts, kind = found.groups()
    organization.client("cloudformation").update_stack_instances(
        StackSetName=options["--stack-set-name"],
        Regions=[options["--regions"]],
        DeploymentTargets={
            "OrganizationalUnitIds": units.split(","),
            "Accounts": accounts.split(","),
            "AccountFilterType": kind,
        },
    )


def test_retired_accounts_member_role_is_deleted_by_the_access_role(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    """tests/deployment/test_stack_set.py shows that undeploying, which needs that, deletes the access role."""
    account_id = organization.invite_account()
    stage.wait_for_outcome(account_id, "enrolled")

    stage.invoke_and_wait("retire", accounts=[account_id])

    stage.wait_for_outcome(account_id, "retired", "retired_by_request")
    assert stage.role(account_id) is None
    assert read_role(organization, account_id, OWN)
