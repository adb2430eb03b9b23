"""Retiring single accounts, and uninstalling a stage."""

import pytest

from local.organization import InvocationError, LocalOrganization
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.iam_roles import read_role
from tests.end_to_end.organization_changes import attached_policies, create_without_events


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> DeployedStage:
    create_without_events(organization, 4)
    stage = deploy("leaving", SourcePrincipalArns=reader)
    stage.invoke_and_wait("backfill")
    return stage


@pytest.fixture
def enrolled(stage: DeployedStage) -> list[str]:
    """All accounts of the organization, enrolled again after other tests."""
    stage.invoke_and_wait("backfill", accounts=sorted(stage.rows()))
    return sorted(stage.accounts_with_outcome("enrolled"))


def test_retired_account_stays_retired_until_a_backfill_names_it(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]
) -> None:
    account_id = next(each for each in enrolled if each != organization.management_account_id)
    (planned,) = stage.invoke("retire", accounts=[account_id], dry_run=True)["accounts"]
    assert (planned["account_id"], planned["outcome"], planned["change"]) == (account_id, "retired", "deleted")
    assert stage.assume_member_role(account_id)

    stage.invoke_and_wait("retire", accounts=[account_id])

    row = stage.wait_for_outcome(account_id, "retired", "retired_by_request")
    assert "role_arn" not in row
    assert stage.role(account_id) is None
    assert stage.granted_accounts() == set(enrolled) - {account_id}
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id)

    for function in ("resync", "rerun", "backfill"):
        stage.invoke_and_wait(function)
    stage.reconcile_again(account_id)
    stage.wait_for_outcome(account_id, "retired", "retired_by_request")
    assert stage.role(account_id) is None
    assert account_id not in stage.granted_accounts()

    stage.invoke_and_wait("backfill", accounts=[account_id])
    stage.wait_for_outcome(account_id, "enrolled")
    assert stage.assume_member_role(account_id)


def test_uninstall_deletes_all_roles_and_the_source_policy(
    organization: LocalOrganization, stage: DeployedStage, enrolled: list[str]
) -> None:
    everything = {"accounts": "all", "force": True}
    dry_run = stage.invoke("retire", accounts="all", dry_run=True)
    assert {each["account_id"] for each in dry_run["accounts"]} == set(enrolled)
    with pytest.raises(InvocationError, match="force"):
        stage.invoke("retire", accounts="all")
    assert stage.accounts_with_outcome("enrolled") == set(enrolled)

    response = stage.invoke_and_wait("retire", **everything)
    assert response["next"] == everything
    created = organization.create_account("created-while-uninstalling")
    stage.wait_for_outcome(created, "skipped", "uninstalled")
    for _ in range(3):
        if response["next"] is None:
            break
        response = stage.invoke_and_wait("retire", **response["next"])

    assert response == {"counts": {"left": 0, "shards_left": 0}, "accounts": [], "source_policy": [], "next": None}
    assert organization.client("iam").list_policies(Scope="Local")["Policies"] == []
    assert attached_policies(organization) == set()
    assert stage.records().status is None
    assert stage.invoke_and_wait("resync")["counts"]["uninstalling"] is True
    assert [each for each in (*enrolled, created) if read_role(organization, each, ROLE)] == []
    assert stage.accounts_with_outcome("enrolled") == set()

    stage.invoke_and_wait("backfill", accounts=sorted(stage.rows()))
    assert stage.accounts_with_outcome("enrolled") == {*enrolled, created}
    assert all(stage.assume_member_role(account_id) for account_id in (*enrolled, created))
