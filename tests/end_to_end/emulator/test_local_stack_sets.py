"""StackSets: automatic deployment as accounts are moved and leave, and what they skip."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.organization import LocalOrganization, trust_policy
from local.waiting import wait_until
from tests.end_to_end.organization_changes import create_unit, move_account, root_id

ROLE = "of-the-stack-set"


def create_stack(organization: LocalOrganization, target: str) -> None:
    role = {"RoleName": ROLE, "AssumeRolePolicyDocument": trust_policy("arn:aws:iam::111122223333:root")}
    template = {"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": role}}}
    properties: dict[str, Any] = {
        "StackSetName": "moving",
        "PermissionModel": "SERVICE_MANAGED",
        "AutoDeployment": {"Enabled": True, "RetainStacksOnAccountRemoval": False},
        "StackInstancesGroup": [
            {"DeploymentTargets": {"OrganizationalUnitIds": [target]}, "Regions": ["us-east-1"]},
        ],
        "Parameters": [],
        "Tags": [],
        "TemplateBody": json.dumps(template),
    }
    body = {"Resources": {"Roles": {"Type": "AWS::CloudFormation::StackSet", "Properties": properties}}}
    cloudformation = organization.client("cloudformation")
    cloudformation.create_stack(StackName="moving", TemplateBody=json.dumps(body))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="moving", WaiterConfig={"Delay": 1})


def wait_for_role(organization: LocalOrganization, account_id: str, *, exists: bool) -> None:
    def matches() -> bool:
        roles = organization.client("iam", account_id).list_roles()["Roles"]
        return (ROLE in {each["RoleName"] for each in roles}) == exists

    wait_until(matches, f"the role {'exists' if exists else 'is gone'} in {account_id}")


@pytest.fixture(scope="module")
def unit(organization: LocalOrganization) -> str:
    return create_unit(organization, "targeted")


def test_stack_set_follows_the_accounts_of_its_target(organization: LocalOrganization, unit: str) -> None:
    account_id, suspended = organization.create_accounts(2)
    organization.client("cloudformation").activate_organizations_access()
    create_stack(organization, unit)
    wait_for_role(organization, account_id, exists=False)
    organization.set_account_state(suspended, "SUSPENDED")

    for each in (suspended, account_id):
        move_account(organization, each, create_unit(organization, f"below-{each}", unit))
    wait_for_role(organization, account_id, exists=True)
    wait_for_role(organization, suspended, exists=False)

    move_account(organization, account_id, root_id(organization))
    wait_for_role(organization, account_id, exists=False)

    move_account(organization, account_id, unit)
    wait_for_role(organization, account_id, exists=True)
    organization.client("organizations").remove_account_from_organization(AccountId=account_id)
    wait_for_role(organization, account_id, exists=False)


def test_missing_stack_set_is_not_found(organization: LocalOrganization) -> None:
    with pytest.raises(ClientError, match="StackSetNotFoundException"):
        organization.client("cloudformation").describe_stack_set(StackSetName="missing")
