"""The two queues: accounts to enroll, and requests to publish."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.exceptions import ClientError

from chalicelib.aws.errors import error_code
from chalicelib.chunks import chunked
from chalicelib.errors import RolecallError
from chalicelib.messages import Message, write_message
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH = 10  # entries of one SendMessageBatch ("Amazon SQS message quotas")
_GROUP = "source-policy"
_MOVE_UNDER_WAY = {"InvalidParameterValue", "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation"}


class _Queue:
    """Redriving and delaying messages."""

    def __init__(self, client: "SQSClient", url: str, dead_letter_arn: str) -> None:
        """Take a client, the queue's URL and its dead-letter queue's ARN."""
        self._client = client
        self._url = url
        self._dead_letter_arn = dead_letter_arn

    def redrive(self) -> bool:
        """Start moving the dead-letter queue's messages back, or return False if another move is under way.

        SQS moves them itself, one task a queue at a time (StartMessageMoveTask in the "Amazon SQS API Reference").
        """
        running = self._client.list_message_move_tasks(SourceArn=self._dead_letter_arn, MaxResults=1).get("Results", [])
        if any(task.get("Status") in {"RUNNING", "CANCELLING"} for task in running):
            return False
        try:
            self._client.start_message_move_task(SourceArn=self._dead_letter_arn)
        except ClientError as error:
            if error_code(error) not in _MOVE_UNDER_WAY:
                raise
            # It began a moment ago, and is not listed yet.
            logger.warning("redrive not started", queue=self._dead_letter_arn, error=str(error))
            return False
        return True

    def delay(self, record: dict[str, Any], seconds_after: Callable[[int], int]) -> None:
        """Set a received message's visibility timeout; `seconds_after` maps the number of receives to seconds.

        A failure is logged: the message returns all the same, after the queue's visibility timeout.
        """
        received = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        try:
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds_after(received)
            )
        except Exception:  # noqa: BLE001
            logger.exception("message delay not set; the message returns after the queue's visibility timeout")


class AccountsQueue(_Queue):
    """The accounts to enroll."""

    def __init__(self, client: "SQSClient", url: str, dead_letter_arn: str, pool: Callable[[], Executor]) -> None:
        """Take also what opens the pool in which batches are sent."""
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


class NoPublishQueue:
    """In place of the publish queue in scope none, which has nothing to publish."""

    def send(self) -> None:
        """Request nothing."""

    def redrive(self) -> bool:
        """Return False: there is no dead-letter queue."""
        return False


class PublishQueue(_Queue):
    """The FIFO queue that invokes publish; with its one message group, SQS runs one invocation at a time."""

    def send(self) -> None:
        """Request a run; the message has no content."""
        # SQS drops a second message with the same id within five minutes.
        self._client.send_message(
            QueueUrl=self._url, MessageBody="{}", MessageGroupId=_GROUP, MessageDeduplicationId=uuid4().hex
        )
