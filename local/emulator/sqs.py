"""SQS: how batches are authorized, how messages are kept while several threads work on a queue, and FIFO dead letters."""

import functools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from emulator.organizations import MANAGEMENT
from ministack.core import iam_actions
from ministack.core.concurrency import esm_wake
from ministack.core.responses import request_scope
from ministack.services import sqs as ministack

_HANDLERS = {
    "SendMessage": "_act_send_message",
    "SendMessageBatch": "_act_send_message_batch",
    "DeleteMessage": "_act_delete_message",
    "DeleteMessageBatch": "_act_delete_message_batch",
    "ChangeMessageVisibility": "_act_change_visibility",
    "ChangeMessageVisibilityBatch": "_act_change_visibility_batch",
    "PurgeQueue": "_act_purge_queue",
}
_WITHIN = ("_expire_retained", "_collect_msgs")


def mend() -> None:
    """Wrap how a batch's action is named, what changes a queue's messages, and how these become dead letters."""
    iam_actions.extract_iam_action = _as_the_single_action(iam_actions.extract_iam_action)
    ministack._queues_lock = threading.RLock()
    ministack._dlq_sweep = _locked(_with_new_deduplication_ids(ministack._dlq_sweep))
    for name in (*_HANDLERS.values(), *_WITHIN):
        setattr(ministack, name, _locked(getattr(ministack, name)))
    ministack._HANDLERS.update({operation: getattr(ministack, name) for operation, name in _HANDLERS.items()})


def _as_the_single_action(extract_iam_action: Callable[..., str | None]) -> Callable[..., str | None]:
    """AWS authorizes a batch as the single action: IAM knows no sqs:SendMessageBatch."""

    def action(service: str, *request: Any) -> str | None:
        name = extract_iam_action(service, *request)
        return name.removesuffix("Batch") if name and service == "sqs" else name

    return action


def _locked(change: Callable[..., Any]) -> Callable[..., Any]:
    """SQS loses no message; ministack drops one that is sent while another thread replaces the list of messages."""

    @functools.wraps(change)
    def alone(*arguments: Any) -> Any:
        with ministack._queues_lock:
            return change(*arguments)

    return alone


def _with_new_deduplication_ids(sweep: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """SQS replaces the deduplication id of a message that moves to a FIFO dead-letter queue by the message's id."""

    def swept(queue: dict[str, Any]) -> None:
        sweep(queue)
        policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
        dead_letters = ministack._queue_by_arn(policy.get("deadLetterTargetArn", "")) if queue["is_fifo"] else None
        for message in (dead_letters or {}).get("messages", []):
            if message["sys"].get("DeadLetterQueueSourceArn") == queue["attributes"]["QueueArn"]:
                message["dedup_id"] = message["id"]

    return swept


def skip_delays(queue: str) -> None:
    """Let every message of a queue of the management account be received now."""
    with request_scope(MANAGEMENT, "us-east-1"), ministack._queues_lock:
        for message in ministack._queues[ministack._queue_url(queue)]["messages"]:
            message["visible_at"] = min(message["visible_at"], time.time())
    esm_wake.set()
