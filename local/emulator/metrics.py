"""CloudWatch metrics: from logs in the embedded metric format, and those of Lambda and SQS."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import cloudwatch, cloudwatch_logs, lambda_svc, sqs

_NO_DESTINATION = "none"
_MAX_RECEIVES_OF_AGE = 3


def patch() -> None:
    """Wrap the ingestion of log events and the invocation of functions."""
    cloudwatch_logs._append_log_events = _extract_metrics(cloudwatch_logs._append_log_events)
    lambda_svc._emit_lambda_metrics = lambda *_, **__: None  # It counts an event twice, and no error of an event.
    lambda_svc._execute_function_dispatch = _count_invocations(lambda_svc._execute_function_dispatch)
    lambda_svc._acquire_execution_slot = _count_throttles(lambda_svc._acquire_execution_slot)
    lambda_svc._route_async_failure = _count_dropped_events(lambda_svc._route_async_failure)
    lambda_svc.invoke_async_with_retry = _with_destination(lambda_svc.invoke_async_with_retry)


def sample_queues() -> None:
    """Record the metrics of all queues, which SQS does every minute; here, before alarms are evaluated."""
    for queue in list(sqs._queues.values()):
        sqs._refresh_counts(queue)
        values = {
            "ApproximateNumberOfMessagesVisible": queue["attributes"]["ApproximateNumberOfMessages"],
            "ApproximateNumberOfMessagesNotVisible": queue["attributes"]["ApproximateNumberOfMessagesNotVisible"],
            "ApproximateNumberOfMessagesDelayed": queue["attributes"]["ApproximateNumberOfMessagesDelayed"],
            "ApproximateAgeOfOldestMessage": _age_of_oldest(queue),
        }
        for name, value in values.items():
            cloudwatch.record_metric("AWS/SQS", name, value, dimensions={"QueueName": queue["name"]})


def age_metrics(seconds: float) -> None:
    """Move all data points into the past."""
    for _, points in cloudwatch._metrics.all_items():
        for point in points:
            point["Timestamp"] -= seconds


def _age_of_oldest(queue: dict[str, Any]) -> float:
    """Return a queue's age, which for a standard queue ignores messages that were received more than three times."""
    max_receives = float("inf") if queue["is_fifo"] else _MAX_RECEIVES_OF_AGE
    sent = [each["sent_at"] for each in queue["messages"] if each["receive_count"] <= max_receives]
    return time.time() - min(sent) if sent else 0.0


def _extract_metrics(append: Callable[..., None]) -> Callable[..., None]:
    """CloudWatch extracts metrics from log events in the embedded metric format."""

    def append_and_extract(stream: dict[str, Any], events: list[dict[str, Any]]) -> None:
        append(stream, events)
        metrics = [datum for event in events if '"_aws"' in event["message"] for datum in _embedded(event["message"])]
        for datum in metrics:
            cloudwatch._store_datum(*datum)
        if metrics:
            cloudwatch._evaluate_all_alarms()

    return append_and_extract


def _embedded(message: str) -> Iterator[tuple[Any, ...]]:
    """Yield the metrics in a log event: each value, once for each set of dimensions."""
    try:
        document = json.loads(message)
        timestamp = document["_aws"]["Timestamp"] / 1_000
        directives = document["_aws"]["CloudWatchMetrics"]
    except (ValueError, KeyError, TypeError):
        return
    for directive in directives:
        for names in directive["Dimensions"]:
            if not all(name in document for name in names):
                continue
            dimensions = {name: str(document[name]) for name in names}
            for metric in directive["Metrics"]:
                values = document[metric["Name"]]
                unit = metric.get("Unit", "None")
                listed = values if isinstance(values, list) else [values]
                yield directive["Namespace"], metric["Name"], dimensions, timestamp, unit, None, listed, None, None


def _count(name: str, function: str, value: float = 1, unit: str = "Count") -> None:
    cloudwatch.record_metric("AWS/Lambda", name, value, unit, {"FunctionName": function})


def _count_invocations(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """Lambda counts invocations of every type, and those that end with an error."""

    def execute(func: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> Any:
        result = dispatch(func, config, event, request_id, started)
        name = config["FunctionName"]
        _count("Invocations", name)
        _count("Errors", name, bool(result.get("error")))
        _count("Duration", name, (time.time() - started) * 1_000, "Milliseconds")
        return result

    return execute


def _count_throttles(acquire: Callable[..., Any]) -> Callable[..., Any]:
    """Lambda counts a throttled invocation neither as an invocation nor as an error."""

    def acquire_and_count(func: Any, config: dict[str, Any]) -> Any:
        slot, limit = acquire(func, config)
        if slot is None:
            _count("Throttles", config["FunctionName"])
        return slot, limit

    return acquire_and_count


def _count_dropped_events(route: Callable[..., None]) -> Callable[..., None]:
    """Lambda counts each event that it drops, with and without a destination."""

    def route_and_count(destination: str, function: str, event: Any, result: Any) -> None:
        _count("AsyncEventsDropped", function)
        if destination != _NO_DESTINATION:
            route(destination, function, event, result)

    return route_and_count


def _with_destination(invoke: Callable[..., None]) -> Callable[..., None]:
    """Give every function a failure destination: ministack routes dropped events only if there is one."""

    def invoke_with_destination(func: dict[str, Any], event: Any) -> None:
        config = func.get("config") or func
        settings = func.get("event_invoke_config") or (func.get("event_invoke_configs") or {}).get("$LATEST") or {}
        configured = ((settings.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        destination = configured or (config.get("DeadLetterConfig") or {}).get("TargetArn") or _NO_DESTINATION
        changed = settings | {"DestinationConfig": {"OnFailure": {"Destination": destination}}}
        invoke(func | {"event_invoke_config": changed}, event)

    return invoke_with_destination
