"""What becomes of a batch's messages and rows where a table, a message or the time fails."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.requests import Message, Trigger, write_message
from tests.integration.boundary import Boundary
from tests.integration.organization import SOURCE_POLICY, Organization
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
    [
        "dynamodb:BatchGetItem",
        "dynamodb:GetItem",
        "dynamodb:Scan",
        "dynamodb:TransactWriteItems",
        "dynamodb:UpdateItem",
        "dynamodb:PutItem",
    ],
)
def test_every_message_comes_back_with_a_delay_when_a_table_fails_and_nothing_is_lost(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    accounts = {organization.member("One"), organization.member("Two")}
    stage = Stage(organization)
    boundary.fail(operation, "InternalServerError", status=500)

    delivery = stage.enroll(*accounts)

    assert delivery.delays == dict.fromkeys(accounts, 30)
    assert [stage.row(account_id) for account_id in accounts] == [{}, {}]

    boundary.mend()
    # As the lease runs out, where its holder could not give it back.
    stage.shards.delete_item(Key={"policy_name": "#pen"})
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


def test_a_row_that_another_worker_wrote_meanwhile_is_left_and_looked_at_again(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    theirs = {
        "account_id": account_id,
        "outcome": "retired",
        "reason": "closed",
        "updated_at": "2026-01-01T00:00:00.000000+00:00",
    }
    boundary.edit("organizations:DescribeAccount", lambda _: stage.ledger.put_item(Item=theirs))

    delivery = stage.enroll(account_id)

    assert delivery.delays == {account_id: 30}
    assert stage.row(account_id) == theirs

    boundary.mend()
    stage.let_delays_pass()
    assert stage.deliver().finished == [account_id]
    assert stage.verdict(account_id) == ("enrolled", None)


def test_a_row_says_what_the_source_policy_says_where_an_outdated_listing_took_an_account_out_that_cannot_be_entered(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.grow_old(account_id, hours=1)
    enrolled = stage.row(account_id)
    listed = Account(id=AccountId(account_id), name="", state="SUSPENDED", joined_at=None)
    stage.send(
        write_message(
            Message(account_id=listed.id, trigger=Trigger.RESYNC, account=listed, listed_at=datetime.now(UTC))
        )
    )

    # WHEN another worker records the account just as it leaves by the listing, and it can't be entered from then on
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    theirs = {**enrolled, "outcome": "failed", "reason": "access_denied", "updated_at": moment}
    boundary.edit("dynamodb:TransactWriteItems", lambda _: stage.ledger.put_item(Item=theirs))
    assert stage.deliver().delays == {account_id: 30}
    assert account_id not in organization.named()
    boundary.mend()
    boundary.fail("sts:AssumeRole", account_id=account_id)
    stage.let_delays_pass()
    stage.deliver()

    # THEN it is said to have no place, and has its place again once it can be entered
    assert stage.row(account_id)["outcome"] == "failed"
    assert "policy_name" not in stage.row(account_id)

    boundary.mend()
    stage.enroll(account_id)
    assert stage.row(account_id)["policy_name"] == SOURCE_POLICY
    assert organization.named() == {account_id}


@pytest.mark.parametrize("operation", ["iam:CreatePolicyVersion", "organizations:DescribeAccount"])
def test_an_account_whose_leave_is_not_written_yet_is_not_lost_sight_of(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    account_id, stays = organization.member(), organization.member("Stays")
    stage = Stage(organization)
    stage.enroll(account_id, stays)
    organization.depart(account_id)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)
    stage.enroll(account_id)

    # WHEN it is looked at again, and the source policy still can't be written, or the account not be looked at
    boundary.mend()
    boundary.fail(operation, "ServiceFailure", status=500)
    stage.let_delays_pass()
    stage.deliver()

    row = stage.row(account_id)
    assert (row["outcome"], row["policy_name"]) == ("failed", SOURCE_POLICY)

    boundary.mend()
    stage.let_delays_pass()
    stage.deliver()
    assert stage.verdict(account_id)[0] == "retired"
    assert organization.named() == {stays}


def test_a_row_says_so_too_where_the_organizations_source_policy_leaves_an_account_out_that_cannot_be_entered(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization, SourcePolicyScope="organization")
    stage.enroll(account_id)
    assert stage.row(account_id)["policy_name"] == SOURCE_POLICY
    boundary.fail("sts:AssumeRole", account_id=account_id)
    stage.enroll(account_id)
    assert stage.row(account_id)["policy_name"] == SOURCE_POLICY

    # WHEN somebody leaves it out, and is stopped before the row is written
    stage.shards.update_item(
        Key={"policy_name": SOURCE_POLICY},
        UpdateExpression="SET excluded = :excluded",
        ExpressionAttributeValues={":excluded": {account_id}},
    )
    stage.enroll(account_id)

    assert stage.row(account_id)["outcome"] == "failed"
    assert "policy_name" not in stage.row(account_id)


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


def test_a_placement_that_no_other_try_would_mend_is_not_tried_again(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    too_large: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": "canceled"},
        "CancellationReasons": [{"Code": "None"}, {"Code": "ValidationError"}],
    }
    boundary.break_off("dynamodb:TransactWriteItems", ClientError(too_large, "TransactWriteItems"))

    with boundary.watching() as calls:
        assert stage.enroll(account_id).delays == {account_id: 30}

    assert [call.operation for call in calls].count("dynamodb:TransactWriteItems") == 1
    assert stage.row(account_id) == {}
