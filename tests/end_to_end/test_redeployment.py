"""The stack is deleted while accounts are enrolled, and deployed again: nothing that was brought about is lost."""

from pathlib import Path
from typing import Any

import pytest

from deploy.aws import Aws, aws_cli
from deploy.deploy import deploy
from local.organization import REGION, LocalOrganization
from tests.deployment.aws_cli import in_this_process
from tests.end_to_end.swept_stage import SweptStage, unheard_of

STAGE = "end-to-end"  # the packaged template's own


@pytest.fixture
def aws(organization: LocalOrganization, monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ENDPOINT_URL", organization.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", organization.management_account_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    organization.client("s3").create_bucket(Bucket="artifacts")
    return aws_cli(REGION, in_this_process)


def test_a_stack_that_is_deleted_and_deployed_again_loses_no_access_and_no_row(
    organization: LocalOrganization, package: Path, reader: str, aws: Aws
) -> None:
    stage, parameters = SweptStage(organization, STAGE), {"SourcePrincipalArns": reader, "BatchingWindow": "1"}
    organization.deploy(STAGE, package, parameters)
    created = unheard_of(organization, 2)
    stage.sweep("backfill")
    rows, policy, versions = stage.rows(), stage.source_policy(), stage.versions()
    roles = {account_id: stage.role(account_id) for account_id in created}

    organization.client("cloudformation").delete_stack(StackName=f"rolecall-{STAGE}")

    assert organization.client("lambda").list_functions()["Functions"] == []
    assert all(reads(organization, account_id, reader) for account_id in created)

    named = " ".join(f"{name}={value}" for name, value in parameters.items())
    deploy(STAGE, "artifacts", package, named, aws=aws, region=REGION)
    assert stage.rows() == rows
    created += unheard_of(organization)
    stage.sweep("resync", accounts="new")
    stage.sweep("resync")

    assert all(reads(organization, account_id, reader) for account_id in created)
    assert {account_id: stage.role(account_id) for account_id in roles} == roles
    assert stage.named() == {*rows, *created}
    # The newcomer alone is a reason to write the source policy.
    assert len(stage.versions()) == len(versions) + 1
    assert policy != stage.source_policy()
    since = {account_id: row["enrolled_at"] for account_id, row in stage.rows().items() if account_id in rows}
    assert since == {account_id: row["enrolled_at"] for account_id, row in rows.items()}


def reads(organization: LocalOrganization, account_id: str, reader: str) -> Any:
    role = f"arn:aws:iam::{account_id}:role/CrossAccountReadOnlyRole"
    return organization.assume(role, organization.as_role(reader))
