"""SQS: authorization of batches, locking of queues, dead letters of FIFO queues, and skipping of delays."""

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
from ministack.services import lambda_svc
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
_INTERNAL = ("_expire_retained", "_collect_msgs")

_in_progress: set[str] = set()  # ids of messages that a function is processing


def patch() -> None:
    """Wrap the IAM action of batches, everything that changes a queue's messages, and the processing of batches."""
    iam_actions.extract_iam_action = _without_batch_suffix(iam_actions.extract_iam_action)
    ministack._queues_lock = threading.RLock()
    ministack._dlq_sweep = _locked(_with_new_deduplication_ids(ministack._dlq_sweep))
    for name in (*_HANDLERS.values(), *_INTERNAL):
        setattr(ministack, name, _locked(getattr(ministack, name)))
    ministack._HANDLERS.update({operation: getattr(ministack, name) for operation, name in _HANDLERS.items()})
    lambda_svc._run_sqs_batch = _with_progress(lambda_svc._run_sqs_batch)


def _without_batch_suffix(extract_iam_action: Callable[..., str | None]) -> Callable[..., str | None]:
    """Authorize a batch as the single action: sqs:SendMessageBatch is not an IAM action."""

    def action(service: str, *request: Any) -> str | None:
        name = extract_iam_action(service, *request)
        return name.removesuffix("Batch") if name and service == "sqs" else name

    return action


def _locked(change: Callable[..., Any]) -> Callable[..., Any]:
    """Lock a change of a queue: ministack loses a message that is sent while another thread replaces the list."""

    @functools.wraps(change)
    def change_locked(*arguments: Any) -> Any:
        with ministack._queues_lock:
            return change(*arguments)

    return change_locked


def _with_new_deduplication_ids(sweep: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Give a message that moves to a FIFO dead-letter queue its message id as the deduplication id."""

    def sweep_and_replace(queue: dict[str, Any]) -> None:
        sweep(queue)
        policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
        dead_letters = ministack._queue_by_arn(policy.get("deadLetterTargetArn", "")) if queue["is_fifo"] else None
        for message in (dead_letters or {}).get("messages", []):
            if message["sys"].get("DeadLetterQueueSourceArn") == queue["attributes"]["QueueArn"]:
                message["dedup_id"] = message["id"]

    return sweep_and_replace


def _with_progress(run_batch: Callable[..., None]) -> Callable[..., None]:
    """Record which messages a function is processing."""

    def run_recorded(esm: Any, function: Any, event: Any, batch: list[dict[str, Any]], *queue: str) -> None:
        ids = {message["id"] for message in batch}
        _in_progress.update(ids)
        try:
            run_batch(esm, function, event, batch, *queue)
        finally:
            _in_progress.difference_update(ids)

    return run_recorded


def delays(queue: str) -> list[float]:
    """Return the seconds until each message that no function is processing becomes visible."""
    with request_scope(MANAGEMENT, "us-east-1"), ministack._queues_lock:
        return [message["visible_at"] - time.time() for message in _idle_messages(queue)]


def skip_delays(queue: str) -> None:
    """Make every message of a queue visible, except those that a function is processing."""
    with request_scope(MANAGEMENT, "us-east-1"), ministack._queues_lock:
        for message in _idle_messages(queue):
            message["visible_at"] = min(message["visible_at"], time.time())
    esm_wake.set()


def _idle_messages(queue: str) -> list[dict[str, Any]]:
    messages = ministack._queues[ministack._queue_url(queue)]["messages"]
    return [message for message in messages if message["id"] not in _in_progress]
