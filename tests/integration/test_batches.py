"""What becomes of a batch's messages and rows where a table, a message or the time fails."""

import json
from typing import Any

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import Organization
from tests.integration.stage import Stage

GARBAGE = [
    "not JSON",
    "[]",
    '"123456789012"',
    "{}",
    '{"account_id": "12345", "trigger": "event"}',
    '{"account_id": 123456789012, "trigger": "event"}',
    '{"account_id": "111122223333", "trigger": "whim"}',
    "[" * 5_000,
]


def test_garbage_comes_back_with_a_delay_and_ends_in_the_dead_letter_queue(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    for body in GARBAGE:
        stage.send(body)
    stage.ask(account_id)

    delivery = stage.deliver()

    assert delivery.finished == [account_id]
    assert sorted(delivery.delays.values()) == [30] * len(GARBAGE)

    for _ in range(20):
        stage.let_delays_pass()
        stage.deliver()
    assert stage.waiting() == []
    assert sorted(stage.waiting("AccountsDeadLetterQueue")) == sorted(GARBAGE)


@pytest.mark.parametrize(
    "operation",
    ["dynamodb:BatchGetItem", "dynamodb:Scan", "dynamodb:UpdateItem"],
)
def test_every_message_comes_back_with_a_delay_when_a_table_fails_and_nothing_is_lost(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    accounts = {organization.member("One"), organization.member("Two")}
    stage = Stage(organization)
    boundary.fail(operation, "InternalServerError", status=500)

    stage.ask(*accounts)
    delivery = stage.deliver_accounts()

    assert delivery.delays == dict.fromkeys(accounts, 30)
    assert [stage.row(account_id) for account_id in accounts] == [{}, {}]

    boundary.mend()
    stage.let_delays_pass()
    assert set(stage.deliver().finished) == accounts
    assert organization.named() == accounts
    assert {stage.verdict(account_id) for account_id in accounts} == {("enrolled", None)}


def test_keys_that_dynamodb_leaves_unread_are_asked_for_again(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    since = stage.row(account_id)["enrolled_at"]
    left = [True]

    def leave_unread(answer: dict[str, Any]) -> None:
        if left:
            left.clear()
            keys = [{"account_id": {"S": account_id}}]
            answer["Responses"] = {}
            answer["UnprocessedKeys"] = {stage.ledger.name: {"Keys": keys, "ConsistentRead": True}}

    boundary.edit("dynamodb:BatchGetItem", leave_unread)

    assert stage.enroll(account_id).finished == [account_id]

    assert stage.row(account_id)["enrolled_at"] == since


def test_a_batch_comes_back_when_dynamodb_leaves_its_keys_unread_for_good(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.edit(
        "dynamodb:BatchGetItem",
        lambda answer: answer.update(
            Responses={}, UnprocessedKeys={stage.ledger.name: {"Keys": [{"account_id": {"S": account_id}}]}}
        ),
    )

    assert stage.enroll(account_id).delays == {account_id: 30}

    assert organization.role(account_id) is None


def test_a_delay_that_can_not_be_set_keeps_no_other_from_being_set(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    for body in GARBAGE[:3]:
        stage.send(body)
    boundary.fail("sqs:ChangeMessageVisibility", "InternalError", times=1)

    delivery = stage.deliver()

    assert sorted(delivery.delays.values()) == [30, 30, 3600]


def test_accounts_whose_turn_comes_too_late_are_handed_back_untouched(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    delivery = stage.enroll(account_id, seconds=59)

    assert delivery.delays == {account_id: 30}
    assert stage.row(account_id) == {}
    assert account_id not in {call.account_id for call in boundary.calls}


def test_a_row_that_another_worker_wrote_meanwhile_is_reconciled_again(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    theirs: dict[str, str | int] = {
        "account_id": account_id,
        "outcome": "retired",
        "reason": "closed",
        "access": "none",
        "revision": 1,
        "updated_at": "2026-01-01T00:00:00.000000+00:00",
    }
    boundary.edit("organizations:DescribeAccount", lambda _: stage.ledger.put_item(Item=theirs))

    delivery = stage.enroll(account_id)

    assert delivery.delays == {account_id: 30}
    assert stage.row(account_id) == theirs
    assert organization.named() == set()

    boundary.mend()
    stage.let_delays_pass()
    assert stage.deliver().finished == [account_id]
    assert stage.verdict(account_id) == ("enrolled", None)
    assert stage.row(account_id)["revision"] == 2


def test_a_retirement_during_a_pass_wins(organization: Organization, boundary: Boundary) -> None:
    """The mark raises the revision, so the pass that read the row before it is repeated."""
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.ask(account_id)
    boundary.edit("organizations:DescribeAccount", lambda _: stage.run("retire", {"accounts": [account_id]}))

    assert stage.deliver_accounts().delays == {account_id: 30}

    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert stage.verdict(account_id) == ("retired", "retired_by_request")
    assert organization.role(account_id) is None
    assert organization.named() == set()


def test_publishing_during_a_pass_is_no_conflict(organization: Organization, boundary: Boundary) -> None:
    """in_force_since is written without raising the revision."""
    account_id = organization.member()
    stage = Stage(organization)
    stage.ask(account_id)
    stage.deliver_accounts()
    stage.ask(account_id)
    boundary.edit("organizations:DescribeAccount", lambda _: stage.publish())

    assert stage.deliver_accounts().finished == [account_id]

    row = stage.row(account_id)
    assert "in_force_since" in row
    assert row["revision"] == 2


def test_a_failure_leaves_access_as_it_was(organization: Organization, boundary: Boundary) -> None:
    account_id, unseen = organization.member(), organization.member("Unseen")
    stage = Stage(organization)
    stage.enroll(account_id)
    boundary.fail("organizations:DescribeAccount", "ServiceException", status=500)

    stage.enroll(account_id, unseen)

    assert stage.row(account_id)["access"] == "granted"
    assert "access" not in stage.row(unseen)
    assert organization.named() == {account_id}


def test_rows_of_earlier_and_later_releases_are_read_and_written_over(organization: Organization) -> None:
    rows: list[dict[str, str]] = [
        {"outcome": "enrolled", "updated_at": "2020-01-01T00:00:00+00:00"},
        {"outcome": "failed", "reason": "of_a_later_one", "updated_at": "2030-01-01T00:00:00+00:00", "shade": "blue"},
        {"outcome": "of_a_later_one", "change": "of_a_later_one", "updated_at": "2030-01-01T00:00:00+00:00"},
        {"outcome": "enrolled"},
        {},
    ]
    accounts = [organization.member(f"Workload{number}") for number in range(len(rows))]
    stage = Stage(organization)
    for account_id, row in zip(accounts, rows, strict=True):
        stage.ledger.put_item(Item={"account_id": account_id, **row})

    delivery = stage.enroll(*accounts)

    assert sorted(delivery.finished) == sorted(accounts)
    assert [stage.verdict(account_id) for account_id in accounts] == [("enrolled", None)] * len(rows)
    assert organization.named() == set(accounts)


def test_more_messages_than_a_batch_holds_are_all_sent_and_an_unsent_one_is_told(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    refusal = {"Id": "0", "SenderFault": False, "Code": "InternalError"}
    boundary.edit("sqs:SendMessageBatch", lambda answer: answer.update(Failed=[refusal]))

    with pytest.raises(Exception, match=rf"{account_id} \(InternalError\)"):
        stage.announce("CreateAccountResult", account_id)

    assert json.loads(stage.waiting()[0])["account_id"] == account_id


@pytest.mark.parametrize("first", ["listing", "event"])
def test_a_listing_is_not_believed_where_the_same_batch_holds_a_message_that_has_none(
    organization: Organization, first: str
) -> None:
    account_id, unit = organization.member(), organization.unit()
    stage = Stage(organization, ExcludeOuIds=unit)
    stage.enroll(account_id)
    stage.grow_old(account_id, hours=1)
    if first == "event":
        stage.ask(account_id)
    stage.run("resync")
    organization.move(account_id, unit)
    if first == "listing":
        stage.ask(account_id)

    stage.deliver()

    assert stage.verdict(account_id) == ("retired", "excluded")
    assert stage.waiting() == []
