"""docs/coming-from.md: roles made by hand, by a stack and by Terraform are adopted, and readers keep access."""

import json
from typing import Any

import boto3
import pytest

from local.organization import LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage
from tests.end_to_end.organization_changes import create_without_events

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
STACK, REGION = "StackSet-readers-1", "eu-central-1"
FOREIGN, ENROLLED = ("failed", "foreign_role"), ("enrolled", None)


class Elsewhere:
    """Three accounts with a member role each, and the policy that lets the reader assume all of them."""

    def __init__(self, organization: LocalOrganization, reader: str) -> None:
        self.organization, self.reader = organization, reader
        self.by_hand, self.by_stack, self.by_terraform = create_without_events(organization, 3)
        self.accounts = [self.by_hand, self.by_stack, self.by_terraform]
        self.trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
        for account_id in (self.by_hand, self.by_terraform):
            organization.create_role(account_id, ROLE, self.trust, [READ_ONLY])
        tags = [{"Key": "ManagedBy", "Value": "Terraform"}]
        organization.client("iam", self.by_terraform).tag_role(RoleName=ROLE, Tags=tags)
        self.deploy_stack(create=True)
        iam, document = (
            organization.client("iam"),
            allow_policy("sts:AssumeRole", resource=f"arn:aws:iam::*:role/{ROLE}"),
        )
        created = iam.create_policy(PolicyName="AssumeReadOnlyRoles", PolicyDocument=json.dumps(document))
        self.policy = str(created["Policy"]["Arn"])
        iam.attach_role_policy(RoleName="Reader", PolicyArn=self.policy)

    @property
    def cloudformation(self) -> Any:
        """CloudFormation in the account of the stack, in another region than the stage's."""
        endpoint = self.organization.endpoint_url
        session = boto3.Session(self.by_stack, "test", region_name=REGION)
        return session.client("cloudformation", endpoint_url=endpoint)

    def deploy_stack(self, *, create: bool) -> None:
        """Create the stack, or update it so that deleting it keeps the role."""
        properties = {"RoleName": ROLE, "AssumeRolePolicyDocument": self.trust, "ManagedPolicyArns": [READ_ONLY]}
        role = {"Type": "AWS::IAM::Role", "Properties": properties} | ({} if create else {"DeletionPolicy": "Retain"})
        deploy = self.cloudformation.create_stack if create else self.cloudformation.update_stack
        template = json.dumps({"Resources": {"Role": role}})
        deploy(StackName=STACK, TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"])
        self._wait_for_stack("stack_create_complete" if create else "stack_update_complete")

    def give_up_role(self) -> None:
        """Delete the stack, as deleting the instances of the StackSet does in each account."""
        self.deploy_stack(create=False)
        self.cloudformation.delete_stack(StackName=STACK)
        self._wait_for_stack("stack_delete_complete")

    def _wait_for_stack(self, waiter: str) -> None:
        self.cloudformation.get_waiter(waiter).wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def readable(self) -> list[str]:
        """Assume every role as the reader, and return the accounts."""
        session = self.organization.as_role(self.reader)
        for account_id in self.accounts:
            self.organization.assume(f"arn:aws:iam::{account_id}:role/{ROLE}", session)
        return self.accounts


@pytest.fixture(scope="module")
def elsewhere(organization: LocalOrganization, reader: str) -> Elsewhere:
    return Elsewhere(organization, reader)


def deployed(deploy: Deploy, elsewhere: Elsewhere, adopting: str) -> DeployedStage:
    options = {"AdoptExistingRoles": adopting, "IncludeManagementAccount": "false", "Schedules": "DISABLED"}
    return deploy("elsewhere", SourcePrincipalArns=elsewhere.reader, **options)


def outcomes(stage: DeployedStage, elsewhere: Elsewhere) -> list[tuple[str, str | None]]:
    rows = stage.rows()
    return [(rows[account_id]["outcome"], rows[account_id].get("reason")) for account_id in elsewhere.accounts]


def test_roles_from_elsewhere_are_adopted_and_readers_keep_access(deploy: Deploy, elsewhere: Elsewhere) -> None:
    iam = elsewhere.organization.client("iam")
    stage = deployed(deploy, elsewhere, "true")
    show_what_would_change(stage, elsewhere)

    # With true, only the role that was made by hand is adopted.
    stage.invoke_and_wait("backfill")
    assert outcomes(stage, elsewhere) == [ENROLLED, FOREIGN, FOREIGN]
    assert STACK in stage.rows()[elsewhere.by_stack]["error"]
    assert elsewhere.readable() == elsewhere.accounts

    # The others follow once nothing else manages them.
    elsewhere.give_up_role()
    stage = deployed(deploy, elsewhere, f"{elsewhere.by_terraform},{elsewhere.by_stack}")
    stage.invoke_and_wait("rerun", accounts=elsewhere.accounts)
    assert outcomes(stage, elsewhere) == [ENROLLED] * 3
    assert elsewhere.readable() == elsewhere.accounts

    # The reader's former policy is no longer needed.
    iam.detach_role_policy(RoleName="Reader", PolicyArn=elsewhere.policy)
    assert elsewhere.readable() == elsewhere.accounts

    iam.attach_role_policy(RoleName="Reader", PolicyArn=elsewhere.policy)
    go_back(stage, elsewhere)
    assert elsewhere.readable() == elsewhere.accounts


def show_what_would_change(stage: DeployedStage, elsewhere: Elsewhere) -> None:
    before = [stage.role(account_id) for account_id in elsewhere.accounts]

    ran = CommandLine(elsewhere.organization, stage.name)("plan", "--adopt", "--json")

    planned = {each["account_id"]: each for each in json.loads(ran.stdout)["accounts"] if each["adopts"]}
    assert ran.returncode == 1
    assert {each: (planned[each]["plan"], planned[each]["adopts"]["managed_by"]) for each in planned} == {
        elsewhere.by_hand: ("update", None),
        elsewhere.by_terraform: ("update", "tag ManagedBy=Terraform"),
        elsewhere.by_stack: ("failing", f"CloudFormation stack {STACK} in {REGION}"),
    }
    assert [stage.role(account_id) for account_id in elsewhere.accounts] == before


def go_back(stage: DeployedStage, elsewhere: Elsewhere) -> None:
    """Take a role back from Rolecall: without the ownership tags, retiring its account leaves it as it is."""
    iam = elsewhere.organization.client("iam", elsewhere.by_hand)
    iam.untag_role(RoleName=ROLE, TagKeys=["managed-by", "rolecall-stage"])
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(elsewhere.trust))
    before = stage.role(elsewhere.by_hand)

    stage.invoke("retire", accounts=[elsewhere.by_hand])
    stage.wait_for_outcome(elsewhere.by_hand, "retired", "retired_by_request")
    stage.wait_until_idle()

    assert elsewhere.by_hand not in stage.granted_accounts()
    assert stage.role(elsewhere.by_hand) == before
