"""The queue of accounts to reconcile."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chalicelib.errors import RolecallError
from chalicelib.requests import Message, write_message

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH = 10  # entries of one SendMessageBatch ("Amazon SQS message quotas")


class Queue:
    """Sends accounts to the queue and hands failed messages back to it."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        """Take a client and the queue's URL."""
        self._client = client
        self._url = url

    def send(self, messages: Iterable[Message]) -> None:
        """Send messages; a RolecallError tells of any that SQS did not take."""
        waiting = list(messages)
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            answer = self._client.send_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(index), "MessageBody": write_message(message)} for index, message in enumerate(batch)
                ],
            )
            refused = [f"{batch[int(each['Id'])].account_id} ({each['Code']})" for each in answer.get("Failed", [])]
            if refused:
                message = f"SQS did not take the messages of {', '.join(refused)}"
                raise RolecallError(message)

    def delay(self, receipt_handle: str, seconds: int) -> None:
        """Keep a message that was received from coming back before some seconds have passed."""
        self._client.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
        )
