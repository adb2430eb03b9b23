"""A source policy that can't grant access to newcomers: they get no role, and every output shows the cause and the remedy."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from chalicelib.errors import Reason
from local.organization import LocalOrganization, allow_policy
from rolecall.reasons import REMEDY
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
from tests.end_to_end.organization_changes import create_without_events


@dataclass(frozen=True)
class Cause:
    """What blocks a source policy, its reason and remedy, and how the test creates and fixes it."""

    reason: str
    remedy: str
    create: Callable[[LocalOrganization, str], object]
    fix: Callable[[LocalOrganization, str], object]


def create_policy(organization: LocalOrganization, name: str) -> None:
    document = json.dumps(allow_policy("sts:AssumeRole", resource="arn:aws:iam::444455556666:role/Other"))
    organization.client("iam").create_policy(PolicyName=name, PolicyDocument=document)


def delete_policy(organization: LocalOrganization, name: str) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/{name}"
    organization.client("iam").delete_policy(PolicyArn=arn)


def fill_quota(organization: LocalOrganization, name: str) -> None:
    iam = organization.client("iam")
    organization.create_source_principal(name)
    for number in range(iam.get_account_summary()["SummaryMap"]["AttachedPoliciesPerRoleQuota"]):
        create_policy(organization, f"Other{number}")
        arn = f"arn:aws:iam::{organization.management_account_id}:policy/Other{number}"
        iam.attach_role_policy(RoleName=name, PolicyArn=arn)


def free_quota(organization: LocalOrganization, name: str) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/Other0"
    organization.client("iam").detach_role_policy(RoleName=name, PolicyArn=arn)


def create_foreign_policy(organization: LocalOrganization, name: str) -> None:
    organization.create_source_principal(name)
    create_policy(organization, name)


CAUSES = {
    "Foreign": Cause("foreign_source_policy", "set another SourcePolicyName", create_foreign_policy, delete_policy),
    "Missing": Cause(
        "no_source_principal", "correct SourcePrincipalArns", lambda *_: None, LocalOrganization.create_source_principal
    ),
    "Full": Cause("quota", "detach other policies", fill_quota, free_quota),
}


@pytest.fixture(params=CAUSES)
def blocked(
    organization: LocalOrganization, deploy: Deploy, request: pytest.FixtureRequest
) -> tuple[DeployedStage, Cause]:
    name = request.param
    CAUSES[name].create(organization, name)
    principal = f"arn:aws:iam::{organization.management_account_id}:role/{name}"
    stage = deploy(name.lower(), SourcePrincipalArns=principal, MemberRoleName=f"{name}Member", SourcePolicyName=name)
    return stage, CAUSES[name]


def test_blocked_source_policy_stops_newcomers_until_it_is_fixed(
    organization: LocalOrganization, blocked: tuple[DeployedStage, Cause]
) -> None:
    stage, cause = blocked
    (newcomer,) = create_without_events(organization)
    stage.invoke_and_wait("backfill")

    rows = stage.rows()
    assert newcomer in rows
    for account_id, row in rows.items():
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", cause.reason, 0)
        assert cause.remedy in row["error"]
        assert "access" not in row
        assert stage.role(account_id) is None
    assert [stage.message_count(queue) for queue in ("accounts-dlq", "publish-dlq.fifo")] == [0, 0]
    assert stage.records().shards == ()
    assert stage.alarm_state("publishing-blocked") == "ALARM"
    *_, line = (line for line in stage.log("publish") if line.get("message") == "publish")
    assert (line["level"], line["blocked"]) == ("WARNING", cause.reason)
    assert_command_line_shows(stage, cause, newcomer, rows[newcomer]["error"])

    cause.fix(organization, stage.settings.source_policy_name)
    organization.age_metrics(2 * 3600)
    stage.invoke_and_wait("resync")

    assert stage.accounts_with_outcome("enrolled") == set(rows) == stage.granted_accounts()
    assert stage.alarm_state("publishing-blocked") == "OK"
    principal = f"arn:aws:iam::{organization.management_account_id}:role/{stage.settings.source_policy_name}"
    assert stage.assume_member_role(newcomer, principal)


def assert_command_line_shows(stage: DeployedStage, cause: Cause, account_id: str, error: str) -> None:
    rolecall = CommandLine(stage.organization, stage.name)
    status = rolecall("status")
    assert (status.returncode, status.stderr) == (1, "")
    assert f"publishing is blocked: {cause.reason}: {error}" in status.stdout.splitlines()[-1]
    account = " ".join(rolecall("show", account_id).stdout.split())
    assert f"failed: {cause.reason}" in account
    assert REMEDY[Reason(cause.reason)].split(":")[0] in account
