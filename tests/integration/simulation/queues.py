"""SQS in memory: the standard queue of accounts and the FIFO queue of publish, each with its dead-letter queue."""

from dataclasses import dataclass, field
from typing import Any

from tests.integration.simulation.calls import client_error

DEDUPLICATION_SECONDS = (
    300.0  # in which a FIFO queue drops a message of the same deduplication id ("Amazon SQS FIFO queues")
)
BATCH = 10


@dataclass
class Queued:
    """A message, which a standard queue may deliver to several receivers."""

    id: str
    body: str
    visible_at: float
    sent_at: float
    receives: int = 0

    @property
    def receipt(self) -> str:
        return f"{self.id}#{self.receives}"

    @property
    def record(self) -> dict[str, Any]:
        sent_at, receives = str(int(self.sent_at * 1000)), str(self.receives)
        attributes = {"ApproximateReceiveCount": receives, "SentTimestamp": sent_at}
        return {"messageId": self.id, "receiptHandle": self.receipt, "body": self.body, "attributes": attributes}


@dataclass
class Queue:
    """A standard queue, polled by Lambda."""

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
        """Return when the next message becomes visible, or None if the queue is empty."""
        return min((message.visible_at for message in self.messages.values()), default=None)

    def receive(self, messages: list[Queued], *, twice: bool = False) -> list[dict[str, Any]]:
        """Return the records of messages; one received too often is moved to the dead-letter queue.

        Delivered `twice`, a message stays visible.
        """
        records = []
        for message in messages:
            message.receives += 1
            if message.receives > self.max_receives:
                self.dead.append(self.messages.pop(message.id).body)
                continue
            message.visible_at = self.now + (0.0 if twice else self.visibility)
            records.append(message.record)
        return records

    def delete_finished(self, records: list[dict[str, Any]], response: dict[str, Any]) -> None:
        """Delete the messages that a partial batch response doesn't contain, as Lambda does."""
        failed = {each["itemIdentifier"] for each in response["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed and self.is_deletable(record["receiptHandle"]):
                self.messages.pop(record["messageId"], None)

    def is_deletable(self, receipt: str) -> bool:  # noqa: ARG002 - a standard queue accepts any receipt handle
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
    """A FIFO queue with one message group: while a message is in flight, no other is received."""

    _sent: dict[str, float] = field(default_factory=dict)

    def send(self, body: str, deduplication_id: str) -> None:
        """Add a message unless one with the same deduplication id was sent within five minutes."""
        sent_at = self._sent.get(deduplication_id)
        if sent_at is None or self.now - sent_at >= DEDUPLICATION_SECONDS:
            self._sent[deduplication_id] = self.now
            self.put(body)

    def visible(self) -> list[Queued]:
        """Return the first ten messages, or none while one is in flight."""
        if any(message.visible_at > self.now for message in self.messages.values()):
            return []
        return list(self.messages.values())[:BATCH]

    def next_at(self) -> float | None:
        return max((message.visible_at for message in self.messages.values()), default=None)

    def is_deletable(self, receipt: str) -> bool:
        """Whether the receipt handle is current and its visibility timeout not over; a FIFO queue accepts no other."""
        message = self.messages.get(receipt.partition("#")[0])
        return message is not None and message.receipt == receipt and message.visible_at > self.now

    def hide(self, receipt: str, seconds: float) -> None:
        if not self.is_deletable(receipt):
            raise client_error("InvalidParameterValue", "The receipt handle has expired.")
        super().hide(receipt, seconds)


class Queues:
    """SQS's API."""

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

    def _queue(self, name: str) -> Queue:
        return self.publish if "publish" in name else self.accounts

    def _SendMessageBatch(self, params: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        assert "accounts" in params["QueueUrl"], "accounts are sent to the accounts queue"
        for entry in params["Entries"]:
            self.accounts.put(entry["MessageBody"])
        return {"Successful": [], "Failed": []}

    def _SendMessage(self, params: Any) -> dict[str, Any]:  # noqa: N802
        assert "publish.fifo" in params["QueueUrl"], "publish is requested on the publish queue"
        assert params["MessageGroupId"] == "source-policy", "there is one message group"
        self.publish.send(params["MessageBody"], params["MessageDeduplicationId"])
        return {"MessageId": "m"}

    def _ChangeMessageVisibility(self, params: Any) -> dict[str, Any]:  # noqa: N802
        self._queue(params["QueueUrl"]).hide(params["ReceiptHandle"], params["VisibilityTimeout"])
        return {}

    def _ListMessageMoveTasks(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Results": []}

    def _StartMessageMoveTask(self, params: Any) -> dict[str, Any]:  # noqa: N802
        self._queue(params["SourceArn"]).redrive()
        return {"TaskHandle": "task"}
