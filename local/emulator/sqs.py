"""SQS: how batches are authorized; and time may be made to pass for the messages of a queue."""

import time
from typing import Any

from emulator.organizations import MANAGEMENT
from ministack.core import iam_actions
from ministack.core.concurrency import esm_wake
from ministack.core.responses import request_scope
from ministack.services import sqs as ministack


def mend() -> None:
    """AWS authorizes a batch as the single action: IAM knows no sqs:SendMessageBatch."""
    extract_iam_action = iam_actions.extract_iam_action

    def action(service: str, *request: Any) -> str | None:
        name: str | None = extract_iam_action(service, *request)
        return name.removesuffix("Batch") if name and service == "sqs" else name

    iam_actions.extract_iam_action = action


def skip_delays(queue: str) -> None:
    """Let every message of a queue of the management account be received now."""
    with request_scope(MANAGEMENT, "us-east-1"):
        for message in ministack._queues[ministack._queue_url(queue)]["messages"]:
            message["visible_at"] = min(message["visible_at"], time.time())
    esm_wake.set()
