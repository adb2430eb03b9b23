"""SQS moves a dead-letter queue's messages back by itself."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from local.organization import LocalOrganization, allowing, trusting
from local.waiting import until
from tests.end_to_end.emulator.refusals import denied, refused

NEEDED = ["sqs:StartMessageMoveTask", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]


@dataclass(frozen=True)
class Queues:
    """A queue, and the dead-letter queue to which its messages go when they were received once."""

    url: str
    dead_letter_url: str
    arn: str
    dead_letter_arn: str


def queues(organization: LocalOrganization, name: str, *messages: str) -> Queues:
    """Make both, and let messages become dead letters."""
    sqs = organization.client("sqs")
    dead_letter_url = sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:{name}"
    policy = json.dumps({"deadLetterTargetArn": f"{arn}-dlq", "maxReceiveCount": 1})
    url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"})["QueueUrl"]
    for message in messages:
        sqs.send_message(QueueUrl=url, MessageBody=message)
    for _ in ("received", "set aside"):
        sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return Queues(url, dead_letter_url, arn, f"{arn}-dlq")


def waiting(organization: LocalOrganization, url: str) -> list[dict[str, Any]]:
    answer = organization.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageSystemAttributeNames=["All"]
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def ended(organization: LocalOrganization, arn: str) -> dict[str, Any]:
    def task() -> dict[str, Any] | None:
        tasks = organization.client("sqs").list_message_move_tasks(SourceArn=arn)["Results"]
        found: dict[str, Any] = tasks[0]
        return None if found["Status"] == "RUNNING" else found

    return until(task, "the task ends")


def test_dead_letters_go_back_to_their_queue_as_new_messages(organization: LocalOrganization) -> None:
    made = queues(organization, "moved", "one", "two")
    before = waiting(organization, made.dead_letter_url)
    assert [message["Body"] for message in before] == ["one", "two"]

    organization.client("sqs").start_message_move_task(SourceArn=made.dead_letter_arn)

    task = ended(organization, made.dead_letter_arn)
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 2)
    assert "TaskHandle" not in task
    assert waiting(organization, made.dead_letter_url) == []
    after = waiting(organization, made.url)
    assert [message["Body"] for message in after] == ["one", "two"]
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in after} == {"1"}
    assert not {message["MessageId"] for message in after} & {message["MessageId"] for message in before}


def test_one_task_moves_a_queue_at_a_time(organization: LocalOrganization) -> None:
    made = queues(organization, "busy", "one")
    sqs = organization.client("sqs")
    organization.set_move_delay(1)
    handle = sqs.start_message_move_task(SourceArn=made.dead_letter_arn)["TaskHandle"]
    organization.set_move_delay(0)

    with refused("InvalidParameterValue", "already a task running"):
        sqs.start_message_move_task(SourceArn=made.dead_letter_arn)

    task = sqs.list_message_move_tasks(SourceArn=made.dead_letter_arn)["Results"][0]
    assert (task["TaskHandle"], task["ApproximateNumberOfMessagesToMove"]) == (handle, 1)
    ended(organization, made.dead_letter_arn)
    sqs.start_message_move_task(SourceArn=made.dead_letter_arn)
    assert len(sqs.list_message_move_tasks(SourceArn=made.dead_letter_arn, MaxResults=10)["Results"]) == 2


def test_only_a_dead_letter_queue_of_a_queue_is_moved(organization: LocalOrganization) -> None:
    made = queues(organization, "plain")
    with refused("InvalidParameterValue", "must be configured as a Dead Letter Queue"):
        organization.client("sqs").start_message_move_task(SourceArn=made.arn)
    with refused("ResourceNotFoundException", "SourceArn"):
        organization.client("sqs").start_message_move_task(SourceArn=f"{made.arn}-absent")


def test_a_message_of_unknown_origin_is_moved_only_where_it_is_told_to_go(organization: LocalOrganization) -> None:
    made, sqs = queues(organization, "direct"), organization.client("sqs")
    sqs.send_message(QueueUrl=made.dead_letter_url, MessageBody="sent directly")

    sqs.start_message_move_task(SourceArn=made.dead_letter_arn)
    task = ended(organization, made.dead_letter_arn)
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")

    sqs.start_message_move_task(SourceArn=made.dead_letter_arn, DestinationArn=made.arn)
    assert ended(organization, made.dead_letter_arn)["Status"] == "COMPLETED"
    assert [message["Body"] for message in waiting(organization, made.url)] == ["sent directly"]


@pytest.mark.parametrize("lacking", [*NEEDED, "sqs:SendMessage", None])
def test_a_move_needs_permissions_on_both_queues(organization: LocalOrganization, lacking: str | None) -> None:
    name = f"needs-{(lacking or 'all').rpartition(':')[2]}"
    made = queues(organization, name, "one")
    there = allowing(*[action for action in NEEDED if action != lacking], resource=made.dead_letter_arn)
    back = allowing("sqs:GetQueueUrl" if lacking == "sqs:SendMessage" else "sqs:SendMessage", resource=made.arn)
    policy = {"Version": "2012-10-17", "Statement": [*there["Statement"], *back["Statement"]]}
    account_id = organization.management_account_id
    trust = trusting(f"arn:aws:iam::{account_id}:root")
    session = organization.assume(organization.create_role(account_id, name, trust, inline=policy))
    mover = organization.client("sqs", credentials=session)

    if lacking:
        with denied(lacking):
            mover.start_message_move_task(SourceArn=made.dead_letter_arn)
    else:
        mover.start_message_move_task(SourceArn=made.dead_letter_arn)
        assert ended(organization, made.dead_letter_arn)["Status"] == "COMPLETED"
        with denied("sqs:ListMessageMoveTasks"):
            mover.list_message_move_tasks(SourceArn=made.dead_letter_arn)
