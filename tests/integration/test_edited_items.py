"""Rows and records that were edited by hand, or written by a later release; the unit tests cover their forms."""

from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, SOURCE_POLICY, Organization
from tests.integration.stage import Stage


@pytest.mark.parametrize(
    ("key", "edited"),
    [
        (SOURCE_POLICY, {"applied": "*"}),
        (SOURCE_POLICY, {"error": "no"}),
        ("#status", {"names": "all"}),
        ("#status", {"room": {"a": "b"}}),
        ("#status", {"organization_id": "yes"}),
        ("#control", {"frozen": "true", "uninstalling": "yes", "check_requested_at": Decimal(3)}),
    ],
    ids=str,
)
def test_unreadable_item_is_restored_and_revokes_nothing(
    organization: Organization, key: str, edited: dict[str, Any]
) -> None:
    stage = Stage(organization)
    (account_id,) = stage.enroll_members(1)
    newcomer = organization.member("Newcomer")
    before = stage.items()
    stage.edit(key, **edited)

    stage.enqueue(newcomer)
    stage.drain()

    assert organization.granted() == stage.recorded() == {MANAGEMENT, account_id, newcomer}
    assert stage.status(newcomer) == ("enrolled", None)
    status = stage.item("#status")
    assert (status["names"], status["shards"]) == (before["#status"]["names"], 1)


def test_scan_is_read_page_by_page(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    accounts = stage.enroll_members(2)
    newcomer, departed = organization.member("Newcomer"), accounts[1]
    organization.depart(departed)

    def cut(response: dict[str, Any]) -> None:
        request = boundary.calls[-1].params
        if "ExclusiveStartKey" not in request and response["Items"]:
            key = "account_id" if request["TableName"] == stage.ledger.name else "policy_name"
            response["Items"] = response["Items"][:1]
            response["LastEvaluatedKey"] = {key: response["Items"][0][key]}

    boundary.edit_response("dynamodb:Scan", cut)

    stage.run_and_drain("resync", accounts="new")

    assert organization.granted() == {MANAGEMENT, accounts[0], newcomer}
    assert stage.status(departed) == ("retired", "departed")


def test_row_with_malformed_values_is_written_anew(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = stage.enroll_members(1)
    stage.put_row(
        account_id,
        outcome={"a": "b"},
        change={"a"},
        reason=["quota"],
        attempts="many",
        access=Decimal(1),
        in_force_since={"a"},
        updated_at=["2026-01-01"],
        revision=Decimal("-1.5"),  # moto can't compare text with a number, as DynamoDB does
    )

    stage.run("rerun")
    stage.run_and_drain("resync")

    assert stage.status(account_id) == ("enrolled", None)
    row = stage.row(account_id)
    assert (row["access"], row["revision"]) == ("granted", 1)
    assert organization.granted() == {MANAGEMENT, account_id}


def test_row_with_a_malformed_revision_can_be_retired(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = stage.enroll_members(1)
    stage.ledger.put_item(Item={**stage.row(account_id), "revision": "many"})

    stage.run("retire", {"accounts": [account_id]})

    assert "retirement_requested_at" in stage.row(account_id)


def test_retirement_that_cannot_be_recorded_is_an_error(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    (account_id,) = stage.enroll_members(1)
    boundary.fail("dynamodb:UpdateItem", "InternalServerError", status=500)

    with pytest.raises(ClientError, match="InternalServerError"):
        stage.run("retire", {"accounts": [account_id]})

    assert stage.queued() == []
