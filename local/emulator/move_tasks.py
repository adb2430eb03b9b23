"""SQS's own redrive: tasks that move a dead-letter queue's messages back to the queues they came from."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from emulator.authorization import denied
from emulator.switches import SWITCHES
from ministack.core.responses import get_account_id, get_region, new_uuid, request_scope
from ministack.services import sqs

_MOST_LISTED = 10
_ON_THE_SOURCE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

_tasks: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)


def mend() -> None:
    """Add the two operations, and what they need beside the permission of their own name."""
    sqs._HANDLERS.update(StartMessageMoveTask=_start, ListMessageMoveTasks=_list)
    sqs.handle_request = _authorized(sqs.handle_request)


def _authorized(handle_request: Callable[..., Any]) -> Callable[..., Any]:
    """AWS moves messages with the caller's permissions: to receive and delete them, and to send them where they go."""

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if operation in {"StartMessageMoveTask", "ListMessageMoveTasks"}:
            request = json.loads(body)
            needed = [(action, request["SourceArn"]) for action in _ON_THE_SOURCE]
            if operation == "StartMessageMoveTask":
                destinations = [request["DestinationArn"]] if "DestinationArn" in request else _sources_of(request)
                needed += [("sqs:SendMessage", arn) for arn in destinations]
            for action, arn in needed:
                if refused := denied(headers, query, action, arn):
                    return refused
        return await handle_request(method, path, headers, body, query)

    return handle


def _sources_of(request: dict[str, Any]) -> list[str]:
    """List the queues whose dead letters go to a queue."""
    return [
        queue["attributes"]["QueueArn"]
        for queue in sqs._queues.values()
        if json.loads(queue["attributes"].get("RedrivePolicy") or "{}").get("deadLetterTargetArn")
        == request["SourceArn"]
    ]


def _queue(request: dict[str, Any], name: str, action: str) -> dict[str, Any]:
    found: dict[str, Any] | None = sqs._queue_by_arn(request[name])
    if found is None:
        raise sqs._Err(
            "ResourceNotFoundException", f"The resource that you specified for the {name} parameter doesn't exist.", 404
        )
    sqs._enforce_queue_policy(found, action)
    return found


def _start(request: dict[str, Any], _url: str) -> dict[str, Any]:
    """AWS moves what is in a dead-letter queue of queues, one task at a time, and on its own time."""
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

    timer = threading.Timer(SWITCHES.move_seconds, run)
    timer.daemon = True
    timer.start()
    return {"TaskHandle": task["TaskHandle"]}


def _move(source: dict[str, Any], task: dict[str, Any]) -> None:
    """On AWS a moved message is a new one, in its message group, with its deduplication id; one of unknown origin ends the task."""
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
    """AWS lists the latest tasks first, one if not told how many, and tells the handle only of one that runs."""
    _queue(request, "SourceArn", "sqs:ListMessageMoveTasks")
    most = min(request.get("MaxResults", 1), _MOST_LISTED)
    return {
        "Results": [
            {name: value for name, value in task.items() if name != "TaskHandle" or task["Status"] == "RUNNING"}
            for task in _tasks[request["SourceArn"]][:most]
        ]
    }
