"""SQS in memory: one queue and its dead-letter queue, as Lambda polls them."""

from dataclasses import dataclass, field
from typing import Any

VISIBILITY = 3600.0
RECEIVES = 20


@dataclass
class Queued:
    """A message, which may be in the hands of more than one."""

    id: str
    body: str
    visible_at: float
    sent_at: float
    receives: int = 0


@dataclass
class Queues:
    """The queue of accounts, at a clock that is told."""

    messages: dict[str, Queued] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    now: float = 0.0
    _put: int = 0

    def answer(self, operation: str, params: Any) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params))

    def put(self, body: str) -> None:
        self._put += 1
        message = Queued(f"m{self._put}", body, self.now, self.now)
        self.messages[message.id] = message

    def visible(self) -> list[Queued]:
        return [message for message in self.messages.values() if message.visible_at <= self.now]

    def receive(self, wanted: list[Queued], *, twice: bool = False) -> list[dict[str, Any]]:
        """Hand some visible messages out; what was received too often goes to the dead-letter queue."""
        records = []
        for message in wanted:
            message.receives += 1
            if message.receives > RECEIVES:
                self.dead.append(self.messages.pop(message.id).body)
                continue
            message.visible_at = self.now + (0.0 if twice else VISIBILITY)
            attributes = {
                "ApproximateReceiveCount": str(message.receives),
                "SentTimestamp": str(int(message.sent_at * 1000)),
            }
            records.append(
                {
                    "messageId": message.id,
                    "receiptHandle": message.id,
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
            if record["messageId"] not in failed:
                self.messages.pop(record["messageId"], None)

    def _SendMessageBatch(self, asked: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        for entry in asked["Entries"]:
            self.put(entry["MessageBody"])
        return {"Successful": [], "Failed": []}

    def _ChangeMessageVisibility(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        message = self.messages.get(asked["ReceiptHandle"])
        if message is not None:
            message.visible_at = self.now + asked["VisibilityTimeout"]
        return {}

    def _ListMessageMoveTasks(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"Results": []}

    def _StartMessageMoveTask(self, _: Any) -> dict[str, Any]:  # noqa: N802
        for body in self.dead:
            self.put(body)
        self.dead.clear()
        return {"TaskHandle": "task"}
