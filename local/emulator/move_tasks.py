"""SQS message move tasks, which redrive a dead-letter queue's messages to their source queues."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from emulator.authorization import denied
from ministack.core.responses import get_account_id, get_region, new_uuid, request_scope
from ministack.services import sqs

_MAX_LISTED = 10
_MOVE_SECONDS = 0.1
_ACTIONS_ON_SOURCE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

_tasks: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)


def patch() -> None:
    """Add the two operations, with the further permissions that they need."""
    sqs._HANDLERS.update(StartMessageMoveTask=_start, ListMessageMoveTasks=_list)
    sqs.handle_request = _authorized(sqs.handle_request)


def reset() -> None:
    """Forget all tasks."""
    _tasks.clear()


def _authorized(handle_request: Callable[..., Any]) -> Callable[..., Any]:
    """Require the caller's permissions to receive and delete messages, and to send them to the destination."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if operation in {"StartMessageMoveTask", "ListMessageMoveTasks"}:
            request = json.loads(body)
            required = [(action, request["SourceArn"]) for action in _ACTIONS_ON_SOURCE]
            if operation == "StartMessageMoveTask":
                destinations = [request["DestinationArn"]] if "DestinationArn" in request else _sources_of(request)
                required += [("sqs:SendMessage", arn) for arn in destinations]
            for action, arn in required:
                if error := denied(headers, query, action, arn):
                    return error
        return await handle_request(method, path, headers, body, query)

    return handle


def _sources_of(request: dict[str, Any]) -> list[str]:
    """Return the ARNs of the queues whose dead-letter queue this is."""
    return [
        queue["attributes"]["QueueArn"]
        for queue in sqs._queues.values()
        if json.loads(queue["attributes"].get("RedrivePolicy") or "{}").get("deadLetterTargetArn")
        == request["SourceArn"]
    ]


def _queue(request: dict[str, Any], name: str, action: str) -> dict[str, Any]:
    queue: dict[str, Any] | None = sqs._queue_by_arn(request[name])
    if queue is None:
        raise sqs._Err(
            "ResourceNotFoundException", f"The resource that you specified for the {name} parameter doesn't exist.", 404
        )
    sqs._enforce_queue_policy(queue, action)
    return queue


def _start(request: dict[str, Any], _url: str) -> dict[str, Any]:
    """Start to move the messages of a dead-letter queue, which may have one active task."""
    source = _queue(request, "SourceArn", "sqs:StartMessageMoveTask")
    if "DestinationArn" in request:
        _queue(request, "DestinationArn", "sqs:SendMessage")
    if not _sources_of(request):
        raise sqs._Err("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
    tasks = _tasks[request["SourceArn"]]
    if any(task["Status"] == "RUNNING" for task in tasks):
        raise sqs._Err(
            "InvalidParameterValue",
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        )
    sqs._refresh_counts(source)
    task = {name: request[name] for name in ("SourceArn", "DestinationArn") if name in request} | {
        "TaskHandle": new_uuid(),
        "Status": "RUNNING",
        "StartedTimestamp": int(time.time() * 1_000),
        "ApproximateNumberOfMessagesMoved": 0,
        "ApproximateNumberOfMessagesToMove": int(source["attributes"]["ApproximateNumberOfMessages"]),
    }
    tasks.insert(0, task)
    account_id, region = get_account_id(), get_region()

    def run() -> None:
        with request_scope(account_id, region):
            _move(source, task)

    timer = threading.Timer(_MOVE_SECONDS, run)
    timer.daemon = True
    timer.start()
    return {"TaskHandle": task["TaskHandle"]}


def _move(source: dict[str, Any], task: dict[str, Any]) -> None:
    """Send each message as a new one with the same group and deduplication id; fail at one of unknown origin."""
    with sqs._queues_lock:
        for message in [each for each in source["messages"] if each["visible_at"] <= time.time()]:
            origin = task.get("DestinationArn") or message["sys"].get("DeadLetterQueueSourceArn")
            if origin is None:
                task.update(Status="FAILED", FailureReason="CouldNotDetermineMessageSource")
                return
            request = {"MessageBody": message["body"], "MessageAttributes": message["message_attributes"]}
            if source["is_fifo"]:
                request |= {"MessageGroupId": message["group_id"], "MessageDeduplicationId": message["dedup_id"]}
            sqs._act_send_message(request, sqs._queue_url(origin.rpartition(":")[2]))
            source["messages"].remove(message)
            task["ApproximateNumberOfMessagesMoved"] += 1
    task["Status"] = "COMPLETED"


def _list(request: dict[str, Any], _url: str) -> dict[str, Any]:
    """List tasks, latest first, one by default, with a handle only while they run."""
    _queue(request, "SourceArn", "sqs:ListMessageMoveTasks")
    limit = min(request.get("MaxResults", 1), _MAX_LISTED)
    return {
        "Results": [
            {name: value for name, value in task.items() if name != "TaskHandle" or task["Status"] == "RUNNING"}
            for task in _tasks[request["SourceArn"]][:limit]
        ]
    }
