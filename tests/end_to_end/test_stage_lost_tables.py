"""Tables that are lost: nothing is revoked or unfrozen, and the next resync restores rows and records."""

from collections.abc import Iterator
from typing import Any

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.swept_stage import SweptStage, unheard_of

LEDGER, RECORDS = ("LEDGER_TABLE", "account_id"), ("SOURCE_POLICY_TABLE", "policy_name")
LOST = {"ledger": [LEDGER], "source-policy table": [RECORDS], "both": [LEDGER, RECORDS]}


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> SweptStage:
    unheard_of(organization, 3)
    stage = SweptStage(organization, deploy("lossy", SourcePrincipalArns=reader).name)
    stage.sweep("backfill")
    return stage


@pytest.fixture
def frozen(stage: SweptStage, request: pytest.FixtureRequest) -> Iterator[bool]:
    frozen: bool = request.param
    assert stage.ask("freeze", frozen=frozen)["in_force"]
    yield frozen
    assert stage.ask("freeze", frozen=False)["in_force"]
    assert all(reads(stage, account_id) for account_id in stage.rows())


def reads(stage: SweptStage, account_id: str) -> Any:
    reader = f"arn:aws:iam::{stage.organization.management_account_id}:role/Reader"
    return stage.organization.assume(stage.member_role(account_id), stage.organization.as_role(reader))


def lose(stage: SweptStage, variable: str, key: str) -> None:
    """Delete every item of a table."""
    dynamodb, table = stage.organization.client("dynamodb"), stage.environment[variable]
    for item in dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]:
        dynamodb.delete_item(TableName=table, Key={key: item[key]})
    assert dynamodb.scan(TableName=table, ConsistentRead=True)["Count"] == 0


@pytest.mark.parametrize("frozen", [False, True], indirect=True, ids=["not frozen", "frozen"])
@pytest.mark.parametrize("lost", LOST)
def test_a_lost_table_revokes_nothing_and_is_restored_by_a_resync(stage: SweptStage, lost: str, frozen: bool) -> None:
    accounts, policy = set(stage.rows()), stage.source_policy()
    roles = {account_id: stage.role(account_id) for account_id in accounts}
    contents = [record.content for record in stage.records().shards]

    for table in LOST[lost]:
        lose(stage, *table)
    stage.organization.start_publish(stage.name)
    stage.sweep("resync", accounts="failed")

    # IAM may show an older version than it was given, so what a restored record says is written once more.
    assert stage.source_policy() == policy
    versions = stage.versions()
    for account_id in accounts:
        if frozen:
            with denied("sts:AssumeRole"):
                reads(stage, account_id)
        else:
            assert reads(stage, account_id)

    stage.sweep("resync")

    assert stage.with_outcome("enrolled") == set(stage.rows()) == accounts
    assert all("in_force_since" in row for row in stage.rows().values())
    assert [record.content for record in stage.records().shards] == contents
    assert (stage.source_policy(), stage.versions()) == (policy, versions)
    assert {account_id: stage.role(account_id) for account_id in accounts} == roles
    assert stage.gauge("Frozen", "publish") == frozen
