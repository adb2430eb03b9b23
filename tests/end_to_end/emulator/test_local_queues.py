"""SQS: FIFO queues, dead letters and message move tasks."""

import json
from typing import Any

import pytest

from local.organization import LocalOrganization, allow_policy, trust_policy
from local.waiting import wait_until
from tests.end_to_end.expected_errors import denied

MOVE_ACTIONS = ["sqs:StartMessageMoveTask", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]


def create_queue(organization: LocalOrganization, name: str, **attributes: str) -> str:
    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    return str(organization.client("sqs").create_queue(QueueName=name, Attributes=fifo | attributes)["QueueUrl"])


def create_with_dead_letters(organization: LocalOrganization, name: str, suffix: str = "") -> tuple[str, str]:
    """Create a queue that retries no message and its dead-letter queue, and return both URLs."""
    dead_letters = create_queue(organization, f"{name}-dlq{suffix}")
    arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:{name}-dlq{suffix}"
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    return create_queue(organization, f"{name}{suffix}", RedrivePolicy=redrive, VisibilityTimeout="0"), dead_letters


def send(organization: LocalOrganization, url: str, body: str, deduplication: str | None = None) -> str:
    fifo = {"MessageGroupId": "only", "MessageDeduplicationId": deduplication or body} if url.endswith(".fifo") else {}
    return str(organization.client("sqs").send_message(QueueUrl=url, MessageBody=body, **fifo)["MessageId"])


def receive(organization: LocalOrganization, url: str) -> list[dict[str, Any]]:
    response = organization.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
    )
    messages: list[dict[str, Any]] = response.get("Messages", [])
    return messages


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["Body"] for message in messages]


def wait_for_move(organization: LocalOrganization, arn: str) -> str:
    """Wait until a queue's latest move task has ended, and return its status."""

    def ended() -> str | None:
        tasks = organization.client("sqs").list_message_move_tasks(SourceArn=arn)["Results"]
        status = str(tasks[0]["Status"])
        return None if status == "RUNNING" else status

    return wait_until(ended, "the move task has ended")


def test_message_in_flight_blocks_its_group(organization: LocalOrganization) -> None:
    url, sqs = create_queue(organization, "blocking.fifo"), organization.client("sqs")
    send(organization, url, "first")
    handle = receive(organization, url)[0]["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=900)
    send(organization, url, "second")
    assert receive(organization, url) == []
    assert max(organization.delays("blocking.fifo")) > 800

    organization.skip_delays("blocking.fifo")

    received = receive(organization, url)
    assert bodies(received) == ["first", "second"]
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in received] == ["2", "1"]


def test_deduplication_id_is_accepted_once(organization: LocalOrganization) -> None:
    url = create_queue(organization, "once.fifo")
    first = send(organization, url, "one", "a")
    (received,) = receive(organization, url)
    organization.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=received["ReceiptHandle"])
    assert send(organization, url, "two", "a") == first
    assert send(organization, url, "three", "b") != first
    assert bodies(receive(organization, url)) == ["three"]


def test_fifo_dead_letters_are_redriven_in_order(organization: LocalOrganization) -> None:
    url, dead_letters = create_with_dead_letters(organization, "moved", ".fifo")
    arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:moved-dlq.fifo"
    sent = [send(organization, url, body) for body in ("one", "two")]
    assert bodies(receive(organization, url)) == ["one", "two"]
    assert receive(organization, url) == []

    dead = receive(organization, dead_letters)
    assert bodies(dead) == ["one", "two"]
    assert [each["Attributes"]["MessageDeduplicationId"] for each in dead] == sent
    organization.skip_delays("moved-dlq.fifo")
    organization.client("sqs").start_message_move_task(SourceArn=arn)

    assert wait_for_move(organization, arn) == "COMPLETED"
    redriven = receive(organization, url)
    assert bodies(redriven) == ["one", "two"]
    assert {each["Attributes"]["MessageGroupId"] for each in redriven} == {"only"}
    assert receive(organization, dead_letters) == []


@pytest.mark.parametrize("missing", [*MOVE_ACTIONS, "sqs:SendMessage"])
def test_move_task_needs_permissions_on_both_queues(organization: LocalOrganization, missing: str) -> None:
    name = f"needs-{missing[4:]}"
    create_with_dead_letters(organization, name)
    arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:{name}"
    source = allow_policy(*[action for action in MOVE_ACTIONS if action != missing], resource=f"{arn}-dlq")
    destination = allow_policy("sqs:GetQueueUrl" if missing == "sqs:SendMessage" else "sqs:SendMessage", resource=arn)
    policy = {"Version": "2012-10-17", "Statement": [*source["Statement"], *destination["Statement"]]}
    account_id = organization.management_account_id
    trust = trust_policy(f"arn:aws:iam::{account_id}:root")
    session = organization.assume(organization.create_role(account_id, name, trust, inline=policy))
    with denied(missing):
        organization.client("sqs", credentials=session).start_message_move_task(SourceArn=f"{arn}-dlq")
