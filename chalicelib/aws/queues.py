"""The two queues: accounts to enroll, and the request to publish."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from chalicelib.chunks import chunked
from chalicelib.errors import RolecallError
from chalicelib.messages import Message, write_message
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH = 10  # entries of one SendMessageBatch ("Amazon SQS message quotas")
_GROUP = "source-policy"


class _Queue:
    """What both queues can do."""

    def __init__(self, client: "SQSClient", url: str, dead_letter_arn: str) -> None:
        """Take a client, the queue's URL and its dead-letter queue's ARN."""
        self._client = client
        self._url = url
        self._dead_letter_arn = dead_letter_arn

    def redrive(self) -> bool:
        """Start moving the dead-letter queue's messages back, or return False if a move is under way already.

        SQS moves them itself, one task a queue at a time (StartMessageMoveTask in the "Amazon SQS API Reference").
        """
        running = self._client.list_message_move_tasks(SourceArn=self._dead_letter_arn, MaxResults=1).get("Results", [])
        if any(task.get("Status") == "RUNNING" for task in running):
            return False
        self._client.start_message_move_task(SourceArn=self._dead_letter_arn)
        return True

    def delay(self, record: dict[str, Any], seconds_after: Callable[[int], int]) -> None:
        """Hide a received message, after which it is delivered again; `seconds_after` says how long by the number of receives.

        Log a failure: one message's never stops another's, and the message comes back all the same.
        """
        received = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        try:
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds_after(received)
            )
        except Exception:  # noqa: BLE001
            logger.exception("a message's delay could not be set: it comes back after the queue's visibility timeout")


class AccountsQueue(_Queue):
    """The accounts to enroll."""

    def __init__(self, client: "SQSClient", url: str, dead_letter_arn: str, pool: Callable[[], Executor]) -> None:
        """Take what opens the pool that batches are sent by, besides."""
        super().__init__(client, url, dead_letter_arn)
        self._pool = pool

    def send(self, messages: Iterable[Message]) -> None:
        """Send messages; raise RolecallError if SQS rejects any of them."""
        with self._pool() as pool:
            rejected = [each for some in pool.map(self._send, chunked(messages, _BATCH)) for each in some]
        if rejected:
            message = f"SQS rejected the messages of {', '.join(rejected)}"
            raise RolecallError(message)

    def _send(self, batch: list[Message]) -> list[str]:
        answer = self._client.send_message_batch(
            QueueUrl=self._url,
            Entries=[{"Id": str(index), "MessageBody": write_message(message)} for index, message in enumerate(batch)],
        )
        return [f"{batch[int(each['Id'])].account_id} ({each['Code']})" for each in answer.get("Failed", [])]


class PublishQueue(_Queue):
    """The FIFO queue that publish is invoked by; its one message group lets one run work at a time."""

    def send(self) -> None:
        """Ask for a run; the message carries nothing."""
        # A new id each: within five minutes SQS would drop a second message of the same one.
        self._client.send_message(
            QueueUrl=self._url, MessageBody="{}", MessageGroupId=_GROUP, MessageDeduplicationId=uuid4().hex
        )
