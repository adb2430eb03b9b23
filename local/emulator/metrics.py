"""CloudWatch metrics: from logs in the embedded metric format, and those of Lambda, SQS and EventBridge."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import cloudwatch, cloudwatch_logs, eventbridge, lambda_svc, sqs

_MAX_RECEIVES_OF_AGE = 3


def patch() -> None:
    """Wrap the ingestion of log events, and the invocation of functions and of rules' targets."""
    cloudwatch_logs._append_log_events = _extract_metrics(cloudwatch_logs._append_log_events)
    lambda_svc._emit_lambda_metrics = lambda *_, **__: None  # It counts an event twice, and no error of an event.
    lambda_svc._execute_function_dispatch = _count_invocations(lambda_svc._execute_function_dispatch)
    lambda_svc._acquire_execution_slot = _count_throttles(lambda_svc._acquire_execution_slot)
    eventbridge._invoke_target = _count_failed_invocations(eventbridge._invoke_target)


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


def _count_failed_invocations(invoke: Callable[..., None]) -> Callable[..., None]:
    """EventBridge counts matched events by rule, which has one target here, and failed invocations."""

    def invoke_and_count(target: dict[str, Any], event: Any, rule: dict[str, Any], *view: Any) -> None:
        cloudwatch.record_metric("AWS/Events", "TriggeredRules", 1, "Count", {"RuleName": rule["Name"]})
        if ":lambda:" in target["Arn"] and not lambda_svc._get_func_record_for_ref(target["Arn"])[0]:
            cloudwatch.record_metric("AWS/Events", "FailedInvocations", 1, "Count", {"RuleName": rule["Name"]})
        invoke(target, event, rule, *view)

    return invoke_and_count
