"""A batch's messages and rows when a table, a message or the time fails."""

from typing import Any

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import Organization
from tests.integration.stage import Stage

MALFORMED = [
    "not JSON",
    "[]",
    '"123456789012"',
    "{}",
    '{"account_id": "12345", "trigger": "event"}',
    '{"account_id": 123456789012, "trigger": "event"}',
    '{"account_id": "111122223333", "trigger": "whim"}',
    "[" * 5_000,
]


def test_malformed_messages_end_in_the_dead_letter_queue(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    for body in MALFORMED:
        stage.send(body)
    stage.enqueue(account_id)

    delivery = stage.deliver()

    assert delivery.finished == [account_id]
    assert sorted(delivery.delays.values()) == [30] * len(MALFORMED)
    for _ in range(20):
        stage.skip_delays()
        stage.deliver()
    assert stage.queued() == []
    assert sorted(stage.queued("AccountsDeadLetterQueue")) == sorted(MALFORMED)


@pytest.mark.parametrize("operation", ["dynamodb:BatchGetItem", "dynamodb:Scan", "dynamodb:UpdateItem"])
def test_failed_table_returns_every_message(organization: Organization, boundary: Boundary, operation: str) -> None:
    accounts = set(organization.members(2))
    stage = Stage(organization)
    boundary.fail(operation, "InternalServerError", status=500)

    stage.enqueue(*accounts)
    delivery = stage.deliver_accounts()

    assert delivery.delays == dict.fromkeys(accounts, 30)
    assert stage.statuses() == {}
    boundary.stop_faults()
    stage.skip_delays()
    assert set(stage.deliver().finished) == accounts
    assert organization.granted() == accounts
    assert stage.statuses() == dict.fromkeys(accounts, ("enrolled", None))


def test_unprocessed_keys_are_read_again(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    since = stage.row(account_id)["enrolled_at"]
    responses = iter([True])

    def leave_unprocessed(response: dict[str, Any]) -> None:
        if next(responses, False):
            keys = [{"account_id": {"S": account_id}}]
            response["Responses"] = {}
            response["UnprocessedKeys"] = {stage.ledger.name: {"Keys": keys, "ConsistentRead": True}}

    boundary.edit_response("dynamodb:BatchGetItem", leave_unprocessed)

    assert stage.enroll(account_id).finished == [account_id]

    assert stage.row(account_id)["enrolled_at"] == since


def test_batch_is_returned_if_keys_stay_unprocessed(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    unprocessed = {stage.ledger.name: {"Keys": [{"account_id": {"S": account_id}}]}}
    boundary.edit_response(
        "dynamodb:BatchGetItem", lambda response: response.update(Responses={}, UnprocessedKeys=unprocessed)
    )

    assert stage.enroll(account_id).delays == {account_id: 30}

    assert not organization.has_role(account_id)


def test_delay_that_cannot_be_set_affects_no_other_message(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    for body in MALFORMED[:3]:
        stage.send(body)
    boundary.fail("sqs:ChangeMessageVisibility", "InternalError", times=1)

    delivery = stage.deliver()

    assert sorted(delivery.delays.values()) == [30, 30, 3600]


def test_accounts_are_returned_untouched_when_time_runs_out(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    delivery = stage.enroll(account_id, seconds=59)

    assert delivery.delays == {account_id: 30}
    assert stage.row(account_id) == {}
    assert account_id not in {call.account_id for call in boundary.calls}


def test_row_written_during_a_pass_repeats_the_pass(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    written: dict[str, Any] = {
        "account_id": account_id,
        "outcome": "retired",
        "reason": "closed",
        "access": "none",
        "revision": 1,
        "updated_at": "2026-01-01T00:00:00.000000+00:00",
    }
    boundary.edit_response("organizations:DescribeAccount", lambda _: stage.put_row(**written))

    delivery = stage.enroll(account_id)

    assert delivery.delays == {account_id: 30}
    assert stage.row(account_id) == written
    assert organization.granted() == set()
    boundary.stop_faults()
    stage.skip_delays()
    assert stage.deliver().finished == [account_id]
    assert stage.status(account_id) == ("enrolled", None)
    assert stage.row(account_id)["revision"] == 2


def test_publishing_during_a_pass_is_no_conflict(organization: Organization, boundary: Boundary) -> None:
    """in_force_since is written without raising the revision."""
    account_id = organization.member()
    stage = Stage(organization)
    stage.enqueue(account_id)
    stage.deliver_accounts()
    stage.enqueue(account_id)
    boundary.edit_response("organizations:DescribeAccount", lambda _: stage.publish())

    assert stage.deliver_accounts().finished == [account_id]

    row = stage.row(account_id)
    assert "in_force_since" in row
    assert row["revision"] == 2


def test_message_that_sqs_rejects_is_an_error(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    rejected = {"Id": "0", "SenderFault": False, "Code": "InternalError"}
    boundary.edit_response("sqs:SendMessageBatch", lambda response: response.update(Failed=[rejected]))

    with pytest.raises(Exception, match=rf"{account_id} \(InternalError\)"):
        stage.send_event("CreateAccountResult", account_id)


@pytest.mark.parametrize("first", ["listing", "event"])
def test_message_without_a_listing_takes_precedence(organization: Organization, first: str) -> None:
    account_id, unit = organization.member(), organization.unit()
    stage = Stage(organization, ExcludeOuIds=unit)
    stage.enroll(account_id)
    stage.age_row(account_id, hours=1)
    if first == "event":
        stage.enqueue(account_id)
    stage.run("resync")
    organization.move(account_id, unit)
    if first == "listing":
        stage.enqueue(account_id)

    stage.deliver()

    assert stage.status(account_id) == ("retired", "excluded")
    assert stage.queued() == []
