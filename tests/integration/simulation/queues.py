"""SQS in memory: the standard queue of accounts, the FIFO queue of publish, and the dead-letter queue of each."""

from dataclasses import dataclass, field
from typing import Any

from tests.integration.simulation.answers import refusal

DEDUPLICATED = 300.0
"""Seconds within which a FIFO queue drops a message of the same deduplication id ("Amazon SQS FIFO queues")."""

BATCH = 10


@dataclass
class Queued:
    """A message, which more than one receiver may have in a standard queue."""

    id: str
    body: str
    visible_at: float
    sent_at: float
    receives: int = 0

    @property
    def receipt(self) -> str:
        return f"{self.id}#{self.receives}"


@dataclass
class Queue:
    """A standard queue, as Lambda polls it."""

    visibility: float
    max_receives: int
    messages: dict[str, Queued] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    now: float = 0.0
    _put: int = 0

    def put(self, body: str) -> None:
        self._put += 1
        message = Queued(f"m{self._put}", body, self.now, self.now)
        self.messages[message.id] = message

    def visible(self) -> list[Queued]:
        return [message for message in self.messages.values() if message.visible_at <= self.now]

    def next_at(self) -> float | None:
        """Return when something can be received, or None if the queue is empty."""
        return min((message.visible_at for message in self.messages.values()), default=None)

    def receive(self, wanted: list[Queued], *, twice: bool = False) -> list[dict[str, Any]]:
        """Hand out visible messages; a message that was received too often goes to the dead-letter queue."""
        records = []
        for message in wanted:
            message.receives += 1
            if message.receives > self.max_receives:
                self.dead.append(self.messages.pop(message.id).body)
                continue
            message.visible_at = self.now + (0.0 if twice else self.visibility)
            attributes = {
                "ApproximateReceiveCount": str(message.receives),
                "SentTimestamp": str(int(message.sent_at * 1000)),
            }
            records.append(
                {
                    "messageId": message.id,
                    "receiptHandle": message.receipt,
                    "body": message.body,
                    "attributes": attributes,
                    "eventSource": "aws:sqs",
                }
            )
        return records

    def settle(self, records: list[dict[str, Any]], answer: dict[str, Any]) -> None:
        """Delete what was finished, as Lambda does with a partial batch response."""
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed and self.is_deletable(record["receiptHandle"]):
                self.messages.pop(record["messageId"], None)

    def is_deletable(self, receipt: str) -> bool:  # noqa: ARG002 - a standard queue takes any receipt handle
        return True

    def hide(self, receipt: str, seconds: float) -> None:
        message = self.messages.get(receipt.partition("#")[0])
        if message is not None:
            message.visible_at = self.now + seconds

    def redrive(self) -> None:
        for body in self.dead:
            self.put(body)
        self.dead.clear()


@dataclass
class FifoQueue(Queue):
    """A FIFO queue of one message group: while one of its messages is in flight, no other is received."""

    _seen: dict[str, float] = field(default_factory=dict)

    def send(self, body: str, deduplication_id: str) -> None:
        """Take a message, unless one of the same deduplication id was sent within five minutes."""
        sent_at = self._seen.get(deduplication_id)
        if sent_at is None or self.now - sent_at >= DEDUPLICATED:
            self._seen[deduplication_id] = self.now
            self.put(body)

    def visible(self) -> list[Queued]:
        """List what can be received: the first ten messages, or nothing while the group is blocked."""
        if any(message.visible_at > self.now for message in self.messages.values()):
            return []
        return list(self.messages.values())[:BATCH]

    def next_at(self) -> float | None:
        """Return when the whole group can be received."""
        return max((message.visible_at for message in self.messages.values()), default=None)

    def is_deletable(self, receipt: str) -> bool:
        """Whether a message is still in the hands of the receiver: a FIFO queue refuses an older receipt handle."""
        message = self.messages.get(receipt.partition("#")[0])
        return message is not None and message.receipt == receipt and message.visible_at > self.now

    def hide(self, receipt: str, seconds: float) -> None:
        if not self.is_deletable(receipt):
            raise refusal("InvalidParameterValue", "The receipt handle has expired.")
        super().hide(receipt, seconds)


class Queues:
    """Both queues, at a clock that is set."""

    def __init__(self) -> None:
        self.accounts = Queue(visibility=3600.0, max_receives=20)
        self.publish = FifoQueue(visibility=720.0, max_receives=60)

    def pass_time(self, now: float) -> None:
        self.accounts.now = self.publish.now = now

    @property
    def messages(self) -> list[Queued]:
        return [*self.accounts.messages.values(), *self.publish.messages.values()]

    def next_at(self) -> float:
        times = [when for queue in (self.accounts, self.publish) if (when := queue.next_at()) is not None]
        return max(self.accounts.now, min(times))

    def answer(self, operation: str, params: Any) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params))

    def _of(self, name: str) -> Queue:
        return self.publish if "publish" in name else self.accounts

    def _SendMessageBatch(self, asked: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        assert "accounts" in asked["QueueUrl"], "accounts are sent to their queue"
        for entry in asked["Entries"]:
            self.accounts.put(entry["MessageBody"])
        return {"Successful": [], "Failed": []}

    def _SendMessage(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        assert "publish.fifo" in asked["QueueUrl"], "a run of publish is asked for in its queue"
        assert asked["MessageGroupId"] == "source-policy", "there is one message group"
        self.publish.send(asked["MessageBody"], asked["MessageDeduplicationId"])
        return {"MessageId": "m"}

    def _ChangeMessageVisibility(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        self._of(asked["QueueUrl"]).hide(asked["ReceiptHandle"], asked["VisibilityTimeout"])
        return {}

    def _ListMessageMoveTasks(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Results": []}

    def _StartMessageMoveTask(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        self._of(asked["SourceArn"]).redrive()
        return {"TaskHandle": "task"}
