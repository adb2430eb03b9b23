"""Lost tables: nothing is revoked or unfrozen, and the next full resync restores rows and records."""

from collections.abc import Iterator

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.organization_changes import create_without_events

LEDGER, RECORDS = ("LEDGER_TABLE", "account_id"), ("SOURCE_POLICY_TABLE", "policy_name")
LOST = {"ledger": [LEDGER], "source-policy table": [RECORDS], "both": [LEDGER, RECORDS]}


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> DeployedStage:
    create_without_events(organization, 3)
    stage = deploy("lossy", SourcePrincipalArns=reader)
    stage.invoke_and_wait("backfill")
    return stage


@pytest.fixture
def frozen(stage: DeployedStage, request: pytest.FixtureRequest) -> Iterator[bool]:
    frozen: bool = request.param
    assert stage.invoke("freeze", frozen=frozen)["in_force"]
    yield frozen
    assert stage.invoke("freeze", frozen=False)["in_force"]
    assert all(stage.assume_member_role(account_id) for account_id in stage.rows())


def delete_items(stage: DeployedStage, variable: str, key: str) -> None:
    dynamodb, table = stage.organization.client("dynamodb"), stage.environment[variable]
    for item in dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]:
        dynamodb.delete_item(TableName=table, Key={key: item[key]})
    assert dynamodb.scan(TableName=table, ConsistentRead=True)["Count"] == 0


@pytest.mark.parametrize("frozen", [False, True], indirect=True, ids=["not frozen", "frozen"])
@pytest.mark.parametrize("lost", LOST)
def test_lost_table_revokes_nothing_and_is_restored(stage: DeployedStage, lost: str, frozen: bool) -> None:
    accounts, policy = set(stage.rows()), stage.source_policy()
    roles = {account_id: stage.role(account_id) for account_id in accounts}
    contents = [record.content for record in stage.records().shards]

    for table in LOST[lost]:
        delete_items(stage, *table)
    stage.organization.start_publish(stage.name)
    stage.invoke_and_wait("resync", accounts="failed")

    # A restored record is written to IAM once more, since IAM's reads may be out of date.
    assert stage.source_policy() == policy
    versions = stage.policy_versions()
    for account_id in accounts:
        if frozen:
            with denied("sts:AssumeRole"):
                stage.assume_member_role(account_id)
        else:
            assert stage.assume_member_role(account_id)

    stage.invoke_and_wait("resync")

    assert stage.accounts_with_outcome("enrolled") == set(stage.rows()) == accounts
    assert all("in_force_since" in row for row in stage.rows().values())
    assert [record.content for record in stage.records().shards] == contents
    assert (stage.source_policy(), stage.policy_versions()) == (policy, versions)
    assert {account_id: stage.role(account_id) for account_id in accounts} == roles
    assert stage.latest_metric("Frozen", "publish") == frozen
