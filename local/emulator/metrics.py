"""CloudWatch metrics: what functions log as metrics, and what Lambda and SQS measure by themselves."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import cloudwatch, cloudwatch_logs, lambda_svc, sqs

_NOWHERE = "nowhere"
_OFTEN_RECEIVED = 3


def mend() -> None:
    """Wrap where log events arrive, and where functions run."""
    cloudwatch_logs._append_log_events = _read_for_metrics(cloudwatch_logs._append_log_events)
    lambda_svc._emit_lambda_metrics = lambda *_, **__: None  # It counts an event twice, and no error of an event.
    lambda_svc._execute_function_dispatch = _measured(lambda_svc._execute_function_dispatch)
    lambda_svc._acquire_execution_slot = _throttles_counted(lambda_svc._acquire_execution_slot)
    lambda_svc._route_async_failure = _drops_counted(lambda_svc._route_async_failure)
    lambda_svc.invoke_async_with_retry = _never_without_destination(lambda_svc.invoke_async_with_retry)


def sample_queues() -> None:
    """SQS measures its queues every minute; here they are measured whenever alarms are looked at."""
    for queue in list(sqs._queues.values()):
        sqs._refresh_counts(queue)
        measured = {
            "ApproximateNumberOfMessagesVisible": queue["attributes"]["ApproximateNumberOfMessages"],
            "ApproximateNumberOfMessagesNotVisible": queue["attributes"]["ApproximateNumberOfMessagesNotVisible"],
            "ApproximateNumberOfMessagesDelayed": queue["attributes"]["ApproximateNumberOfMessagesDelayed"],
            "ApproximateAgeOfOldestMessage": _age_of_oldest(queue),
        }
        for name, value in measured.items():
            cloudwatch.record_metric("AWS/SQS", name, value, dimensions={"QueueName": queue["name"]})


def age_metrics(seconds: float) -> None:
    """Let everything that was measured so far have been measured some time earlier."""
    for _, points in cloudwatch._metrics.all_items():
        for point in points:
            point["Timestamp"] -= seconds


def _age_of_oldest(queue: dict[str, Any]) -> float:
    """SQS leaves messages that were received more than three times out of a standard queue's age, not of a FIFO queue's."""
    often = float("inf") if queue["is_fifo"] else _OFTEN_RECEIVED
    counted = [each["sent_at"] for each in queue["messages"] if each["receive_count"] <= often]
    return time.time() - min(counted) if counted else 0.0


def _read_for_metrics(append: Callable[..., None]) -> Callable[..., None]:
    """CloudWatch makes metrics of every log event in the embedded metric format."""

    def read(stream: dict[str, Any], events: list[dict[str, Any]]) -> None:
        append(stream, events)
        found = [datum for event in events if '"_aws"' in event["message"] for datum in _embedded(event["message"])]
        for datum in found:
            cloudwatch._store_datum(*datum)
        if found:
            cloudwatch._evaluate_all_alarms()

    return read


def _embedded(message: str) -> Iterator[tuple[Any, ...]]:
    """Read a log event's metrics: each of its values, once for each set of dimensions."""
    try:
        document = json.loads(message)
        measured_at = document["_aws"]["Timestamp"] / 1_000
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
                yield directive["Namespace"], metric["Name"], dimensions, measured_at, unit, None, listed, None, None


def _count(name: str, function: str, value: float = 1, unit: str = "Count") -> None:
    cloudwatch.record_metric("AWS/Lambda", name, value, unit, {"FunctionName": function})


def _measured(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """Lambda counts every invocation, however it came about, and whether it ended with an error."""

    def execute(func: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> Any:
        result = dispatch(func, config, event, request_id, started)
        name = config["FunctionName"]
        _count("Invocations", name)
        _count("Errors", name, bool(result.get("error")))
        _count("Duration", name, (time.time() - started) * 1_000, "Milliseconds")
        return result

    return execute


def _throttles_counted(acquire: Callable[..., Any]) -> Callable[..., Any]:
    """Lambda counts what it throttles, and counts it neither as an invocation nor as an error."""

    def counted(func: Any, config: dict[str, Any]) -> Any:
        slot, limit = acquire(func, config)
        if slot is None:
            _count("Throttles", config["FunctionName"])
        return slot, limit

    return counted


def _drops_counted(route: Callable[..., None]) -> Callable[..., None]:
    """Lambda counts each event that it gives up, whether or not it goes to a destination then."""

    def counted(destination: str, function: str, event: Any, result: Any) -> None:
        _count("AsyncEventsDropped", function)
        if destination != _NOWHERE:
            route(destination, function, event, result)

    return counted


def _never_without_destination(invoke: Callable[..., None]) -> Callable[..., None]:
    """Have ministack tell of every event that it gives up: it does so only where there is a destination."""

    def with_destination(func: dict[str, Any], event: Any) -> None:
        config = func.get("config") or func
        how = func.get("event_invoke_config") or (func.get("event_invoke_configs") or {}).get("$LATEST") or {}
        destination = ((how.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
        given_up = destination or (config.get("DeadLetterConfig") or {}).get("TargetArn") or _NOWHERE
        told = how | {"DestinationConfig": {"OnFailure": {"Destination": given_up}}}
        invoke(func | {"event_invoke_config": told}, event)

    return with_destination
