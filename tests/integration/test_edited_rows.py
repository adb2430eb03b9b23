"""Rows of the ledger that a later release wrote, or somebody by hand: one of them keeps nothing from going on."""

from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, Organization
from tests.integration.stage import Stage
from tests.integration.test_offboarding_uninstall import backfilled, uninstalled

OUTSIDE = "999988887777"


@pytest.mark.parametrize(
    "updated_at", [None, "", Decimal(7), ["2026-01-01"]], ids=["missing", "empty", "number", "list"]
)
def test_values_of_other_types_are_not_known_and_the_row_is_written_anew(
    organization: Organization, updated_at: Any
) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    edited: dict[str, Any] = {
        "outcome": {"a": "b"},
        "change": {"a"},
        "reason": ["quota"],
        "attempts": "many",
        "access": Decimal(1),
        "in_force_since": {"a"},
        "revision": Decimal("-1.5"),  # moto compares no text with a number, which DynamoDB does
    }
    timed: dict[str, Any] = {} if updated_at is None else {"updated_at": updated_at}
    stage.ledger.put_item(Item={"account_id": account_id, **edited, **timed})

    stage.run("rerun")
    stage.run("resync")
    stage.work()

    assert stage.verdict(account_id) == ("enrolled", None)
    row = stage.row(account_id)
    assert (row["access"], row["revision"]) == ("granted", 1)
    assert organization.named() == {MANAGEMENT, account_id}


def test_what_is_no_account_in_the_ledger_is_passed_over(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    stage.ledger.put_item(Item={"account_id": "#of-a-later-release", "outcome": "failed"})

    answer = stage.run("resync")
    stage.work()

    assert answer["counts"]["listed"] == 2
    assert stage.verdict(account_id) == ("enrolled", None)
    assert set(stage.row("#of-a-later-release")) == {"account_id", "outcome"}


def test_uninstalling_looks_into_no_account_that_organizations_does_not_confirm(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    stage.ledger.put_item(Item={"account_id": OUTSIDE, "outcome": "skipped", "updated_at": "2026-01-01T00:00:00+00:00"})

    with boundary.watching() as calls:
        *_, last = uninstalled(stage)

    assert (last["counts"], last["accounts"]) == ({"left": 0, "shards_left": 0}, [])
    assert {call.about for call in calls if call.operation == "sts:AssumeRole"} == {account_id}


def test_a_row_whose_revision_was_edited_is_retired(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    stage.ledger.update_item(
        Key={"account_id": account_id},
        UpdateExpression="SET revision = :text",
        ExpressionAttributeValues={":text": "many"},
    )

    stage.run("retire", {"accounts": [account_id]})

    assert "retirement_requested_at" in stage.row(account_id)


def test_a_mark_that_dynamodb_refuses_is_an_error(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    boundary.fail("dynamodb:UpdateItem", "InternalServerError", status=500)

    with pytest.raises(ClientError, match="InternalServerError"):
        stage.run("retire", {"accounts": [account_id]})

    assert stage.waiting() == []
