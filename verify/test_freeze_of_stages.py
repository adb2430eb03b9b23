"""Freezes of deployed stages that wait for the lease of a killed run, or work on former names: too slow for make test."""

from local.organization import LocalOrganization
from local.waiting import wait_until
from tests.end_to_end import test_stage_settings
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import TIMEOUT_SECONDS, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.iam_roles import read_role
from tests.end_to_end.organization_changes import create_without_events
from tests.end_to_end.test_stage_freeze import enrolled, freeze, stage

__all__ = ["enrolled", "stage"]


def test_freeze_does_not_wait_for_a_killed_run(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]
) -> None:
    (created,) = create_without_events(organization)
    stage.invoke("backfill", accounts=[created])
    stage.wait_for_outcome(created, "enrolled")
    # Kill a run that has recorded `applying` and is writing to IAM.
    organization.slow_iam(1.5)
    organization.set_account_state(created, "SUSPENDED")
    stage.invoke("backfill", accounts=[created])
    wait_until(lambda: any(record.applying for record in stage.records().shards), "a shard is written", TIMEOUT_SECONDS)
    organization.kill(stage.function("publish"))
    organization.slow_iam(0)
    assert any(record.applying for record in stage.records().shards)

    freeze(stage, enrolled)

    organization.set_account_state(created, "ACTIVE")
    stage.skip_delays()
    stage.invoke_and_wait("backfill", accounts=[created])
    assert not any(record.applying for record in stage.records().shards)


def test_freeze_status_and_uninstall_work_under_former_names(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    """The functions' policies have the new names, and allow the former ones only for what has this stage's tags."""
    (account_id,) = create_without_events(organization)
    stage = test_stage_settings.enrolled(deploy, "Former", SourcePrincipalArns=reader)
    assert stage.assume_member_role(account_id)
    rolecall, arn = CommandLine(organization, "former"), f"arn:aws:iam::{account_id}:role/Former"
    deploy("former", SourcePrincipalArns=reader, MemberRoleName="Renamed", SourcePolicyName="Renamed")

    frozen, status = rolecall("freeze", "--yes"), rolecall("status")

    assert (frozen.returncode, status.returncode) == (0, 1), frozen.stdout + status.stdout
    assert "publishing is blocked: names_changed: MEMBER_ROLE_NAME is Renamed, and was Former" in status.stdout
    with denied("sts:AssumeRole"):
        organization.assume(arn, organization.as_role(reader))

    policy = f"arn:aws:iam::{organization.management_account_id}:policy/Former"
    organization.client("iam").detach_role_policy(RoleName="Reader", PolicyArn=policy)
    uninstalled = rolecall("uninstall", "--yes")

    assert uninstalled.returncode == 0, uninstalled.stdout + uninstalled.stderr
    for each in (account_id, organization.management_account_id):
        assert read_role(organization, each, "Former") is None
    names = [each["PolicyName"] for each in organization.client("iam").list_policies(Scope="Local")["Policies"]]
    assert not {"Former", "Renamed"} & set(names)
