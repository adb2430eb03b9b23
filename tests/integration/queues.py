"""A deployment's queues: sending, receiving and finishing messages as Lambda does, without waiting for delays."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from moto.backends import get_backend

from tests.integration.deployment import Deployment
from tests.integration.organization import MANAGEMENT, REGION


@dataclass(frozen=True)
class Delivery:
    """The accounts, bodies or (of publish) message ids of a batch that were finished, and the delays of the others."""

    finished: list[str] = field(default_factory=list)
    delays: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Delivery") -> None:
        self.finished.extend(other.finished)
        self.delays.update(other.delays)


class Queues(Deployment):
    """The accounts queue, the publish queue, and their dead-letter queues."""

    def enqueue(self, *account_ids: str) -> None:
        for account_id in account_ids:
            self.send(json.dumps({"account_id": account_id, "trigger": "event"}))

    def send(self, body: str, queue: str = "AccountsQueue") -> None:
        """Send a message to a queue."""
        fifo: Any = {"MessageGroupId": "source-policy", "MessageDeduplicationId": uuid4().hex}
        self._sqs.send_message(
            QueueUrl=self._values[queue], MessageBody=body, **(fifo if queue.startswith("Publish") else {})
        )

    def receive(self, queue: str = "AccountsQueue") -> list[dict[str, Any]]:
        """Receive one batch, in the form of Lambda's event."""
        received = self._sqs.receive_message(
            QueueUrl=self._values[queue], MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        ).get("Messages", [])
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": {**message["Attributes"], "SentTimestamp": self._sent(message)},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": self._values[f"{queue}.Arn"],
                "awsRegion": REGION,
            }
            for message in received
        ]

    def _sent(self, message: Mapping[str, Any]) -> str:
        """Return when a message was sent, by the functions' clock."""
        return str(int(message["Attributes"]["SentTimestamp"]) + round(self.organization.clock.waited * 1000))

    def settle(
        self, records: Sequence[Mapping[str, Any]], response: Mapping[str, Any], queue: str = "AccountsQueue"
    ) -> Delivery:
        """Delete what was finished, as Lambda does after a partial batch response."""
        failed = {each["itemIdentifier"] for each in response["batchItemFailures"]}
        delivery = Delivery()
        for record in records:
            key = _account_id(record["body"]) if queue == "AccountsQueue" else record["messageId"]
            if record["messageId"] in failed:
                delivery.delays[key] = self._delay(queue, record["messageId"])
            else:
                self._sqs.delete_message(QueueUrl=self._values[queue], ReceiptHandle=record["receiptHandle"])
                delivery.finished.append(key)
        return delivery

    def purge(self) -> None:
        """Delete every message of the accounts queue."""
        self._messages("AccountsQueue").clear()

    def show_messages(self, seconds: float) -> None:
        """Make the messages visible that are hidden for at most so many seconds."""
        for queue in ("AccountsQueue", "PublishQueue"):
            for message in self._messages(queue):
                if message.visible_at <= (time.time() + seconds) * 1000:
                    message.visible_at = 0
                    self._queue(queue).pending_messages.discard(message)

    def is_visible(self, queue: str, seconds: float = 0.0) -> bool:
        """Whether a message can be received in so many seconds; a hidden one of a FIFO queue's group blocks the others."""
        visible = [message.visible_at <= (time.time() + seconds) * 1000 for message in self._messages(queue)]
        return all(visible) and visible != [] if queue == "PublishQueue" else any(visible)

    def redrive(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Move a dead-letter queue's messages to their source queue at once."""
        name = "Publish" if params["SourceArn"] == self._values["PublishDeadLetterQueue.Arn"] else "Accounts"
        messages = self._messages(f"{name}DeadLetterQueue")
        for message in messages:
            self.send(message.body, f"{name}Queue")
        messages.clear()
        return {"TaskHandle": "task"}

    def queued(self, queue: str = "AccountsQueue") -> list[str]:
        """Return the bodies of a queue's messages, visible or not."""
        return [message.body for message in self._messages(queue)]

    def _messages(self, queue: str) -> list[Any]:
        found = self._queue(queue)
        messages: list[Any] = found._messages if found else []  # In scope none there is no publish queue.
        return messages

    def _queue(self, queue: str) -> Any:
        return get_backend("sqs")[MANAGEMENT][REGION].queues.get(self._values[queue].rpartition("/")[2])

    def _delay(self, queue: str, message_id: str) -> int:
        (message,) = (each for each in self._messages(queue) if each.id == message_id)
        seconds: float = message.visible_at / 1000 - time.time()
        return round(seconds)


def _account_id(body: str) -> str:
    try:
        return str(json.loads(body)["account_id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return body
