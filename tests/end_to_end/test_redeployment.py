"""A stack that is deleted while accounts are enrolled, and deployed again."""

from pathlib import Path

from local.organization import LocalOrganization
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.exit_status import ExitStatus
from tests.deployment.deploying import Deploying
from tests.end_to_end.deployed_stage import DeployedStage
from tests.end_to_end.organization_changes import create_without_events

STAGE = "redeployed"


def test_redeployed_stack_keeps_rows_and_access(organization: LocalOrganization, packaged: Path, reader: str) -> None:
    stage, parameters = DeployedStage(organization, STAGE), {"SourcePrincipalArns": reader, "BatchingWindow": "1"}
    organization.deploy(STAGE, packaged, parameters)
    created = create_without_events(organization, 2)
    stage.invoke_and_wait("backfill")
    rows, policy, versions = stage.rows(), stage.source_policy(), stage.policy_versions()
    roles = {account_id: stage.role(account_id) for account_id in created}
    arns = {account_id: stage.member_role_arn(account_id) for account_id in created}

    organization.client("cloudformation").delete_stack(StackName=f"rolecall-{STAGE}")

    assert organization.client("lambda").list_functions()["Functions"] == []
    assert all(organization.assume(arn, organization.as_role(reader)) for arn in arns.values())

    assert Deploying(organization, PackagedApp(packaged), STAGE).deploy("BatchingWindow=1") is ExitStatus.OK
    assert stage.rows() == rows
    created += create_without_events(organization)
    stage.invoke_and_wait("resync", accounts="new")
    stage.invoke_and_wait("resync")

    assert all(stage.assume_member_role(account_id) for account_id in created)
    assert {account_id: stage.role(account_id) for account_id in roles} == roles
    assert stage.granted_accounts() == {*rows, *created}
    # Only the newcomer causes a new version.
    assert len(stage.policy_versions()) == len(versions) + 1
    assert policy != stage.source_policy()
    enrolled_at = {account_id: row["enrolled_at"] for account_id, row in stage.rows().items() if account_id in rows}
    assert enrolled_at == {account_id: row["enrolled_at"] for account_id, row in rows.items()}
