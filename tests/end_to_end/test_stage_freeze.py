"""A freeze denies every new session within 30 seconds, also during other work, and lifting it restores access."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.source_policy.documents import capacity
from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import POLICY, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.function_sessions import role_name
from tests.end_to_end.organization_changes import create_without_events

IN_FORCE_SECONDS = 30
FROZEN = {"frozen": True, "in_force": True, "why": None}
UNFROZEN = {"frozen": False, "in_force": True, "why": None}


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> DeployedStage:
    """A stage whose first shard was created during a freeze."""
    create_without_events(organization, 2)
    stage = deploy("cold", SourcePrincipalArns=reader)
    response = stage.invoke("freeze", frozen=True)
    assert (response["frozen"], response["in_force"]) == (True, False)
    assert "each shard is frozen as it is created" in response["why"]
    stage.invoke_and_wait("backfill")
    assert [statement["Effect"] for statement in stage.source_policy()["Statement"]] == ["Allow", "Deny"]
    assert stage.invoke("freeze", frozen=False) == UNFROZEN
    return stage


@pytest.fixture
def enrolled(stage: DeployedStage) -> Iterator[list[str]]:
    """The enrolled accounts, which the reader can enter before the test and after lifting the freeze."""
    accounts = sorted(stage.accounts_with_outcome("enrolled"))
    yield accounts
    assert stage.invoke("freeze", frozen=False) == UNFROZEN
    stage.invoke_and_wait("resync", accounts="failed")
    assert all(stage.assume_member_role(account_id) for account_id in accounts)


def freeze(stage: DeployedStage, accounts: list[str]) -> None:
    """Freeze, and check that it is in force in time and in every account."""
    started = time.monotonic()
    assert stage.invoke("freeze", frozen=True) == FROZEN
    assert time.monotonic() - started < IN_FORCE_SECONDS
    for account_id in accounts:
        with denied("sts:AssumeRole"):
            stage.assume_member_role(account_id)


def test_freeze_denies_all_accounts_until_it_is_lifted(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]
) -> None:
    freeze(stage, enrolled)
    created = organization.create_account("created-while-frozen")
    stage.wait_for_outcome(created, "enrolled")
    assert stage.invoke_and_wait("resync")["counts"]["frozen"] is True
    assert stage.latest_metric("Frozen", "publish") == 1
    with denied("sts:AssumeRole"):
        stage.assume_member_role(created)

    assert stage.invoke("freeze", frozen=False) == UNFROZEN

    assert all(stage.assume_member_role(account_id) for account_id in (*enrolled, created))
    assert stage.invoke_and_wait("resync")["counts"]["frozen"] is False
    assert stage.latest_metric("Frozen", "publish") == 0


def test_freeze_that_others_undid_is_carried_out_again(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]
) -> None:
    iam, prefix = organization.client("iam"), f"arn:aws:iam::{organization.management_account_id}:policy/"
    before = {prefix + each.name: json.dumps(stage.source_policy(each.name)) for each in stage.records().shards}
    freeze(stage, enrolled)
    for arn, document in before.items():
        for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    assert stage.assume_member_role(enrolled[0])

    freeze(stage, enrolled)


def test_freeze_does_not_wait_for_queued_accounts(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]
) -> None:
    created = create_without_events(organization, 25)
    stage.invoke("backfill")
    freeze(stage, enrolled)
    stage.wait_until_idle()

    assert stage.accounts_with_outcome("enrolled") == {*enrolled, *created}
    for account_id in created:
        stage.wait_for_outcome(account_id, "enrolled")
        with denied("sts:AssumeRole"):
            stage.assume_member_role(account_id)

    assert stage.invoke("freeze", frozen=False) == UNFROZEN
    assert all(stage.assume_member_role(account_id) for account_id in created)


def test_freeze_is_in_force_with_one_shard_that_can_not_be_written(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str], second_shard: str
) -> None:
    iam, publish = organization.client("iam"), role_name(stage, "publish")
    first = f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    deny = {"Effect": "Deny", "Action": "iam:CreatePolicyVersion", "Resource": first}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    iam.put_role_policy(RoleName=publish, PolicyName="denied", PolicyDocument=document)

    freeze(stage, enrolled)

    frozen = {record.name: record.is_frozen for record in stage.records().shards}
    assert frozen == {POLICY: False, second_shard: True}
    iam.delete_role_policy(RoleName=publish, PolicyName="denied")
    organization.start_publish(stage.name)
    assert all(record.is_frozen for record in stage.records().shards)


@pytest.fixture
def second_shard(organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]) -> Iterator[str]:
    """A second shard, because forged rows fill the first."""
    forged = [str(900_000_000_000 + number) for number in range(capacity(stage.settings) - len(enrolled) + 1)]
    write_rows(stage, forged, "granted")
    organization.start_publish(stage.name)
    _, second = stage.records().shards
    yield second.name
    write_rows(stage, forged, "none")
    organization.start_publish(stage.name)
    batch_write(stage, [{"DeleteRequest": {"Key": {"account_id": {"S": account_id}}}} for account_id in forged])


def write_rows(stage: DeployedStage, account_ids: list[str], access: str) -> None:
    rest = {"outcome": {"S": "skipped"}, "access": {"S": access}, "updated_at": {"S": "2026-01-01T00:00:00+00:00"}}
    batch_write(stage, [{"PutRequest": {"Item": {"account_id": {"S": each}} | rest}} for each in account_ids])


def batch_write(stage: DeployedStage, requests: list[dict[str, Any]]) -> None:
    dynamodb, table = stage.organization.client("dynamodb"), stage.environment["LEDGER_TABLE"]
    for start in range(0, len(requests), 25):
        dynamodb.batch_write_item(RequestItems={table: requests[start : start + 25]})
