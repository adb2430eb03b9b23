"""CloudWatch alarms: on a metric or metric math, evaluated per period, with TreatMissingData and the evaluation range."""

import operator
import threading
import time
from collections.abc import Callable
from typing import Any

from emulator import metric_math
from emulator.metrics import sample_queues
from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

_LOCK = threading.RLock()
# CloudWatch looks further back than the evaluated periods for existing data; in the examples of "Configuring how CloudWatch
# alarms treat missing data" in the "Amazon CloudWatch User Guide" by two periods.
_ADDITIONAL_PERIODS = 2
_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_SINGLE_METRIC_PROPERTIES = (
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Period",
    "Dimensions",
    "Unit",
)


def patch() -> None:
    """Replace the evaluation of an alarm, and wrap the creation and description of alarms."""
    cloudwatch._evaluate_alarm = _evaluate
    cloudwatch._describe_alarms = _evaluate_before(cloudwatch._describe_alarms)
    provisioners._cw_metric_alarm_record = _with_metric_math(provisioners._cw_metric_alarm_record)


def _evaluate_before(describe: Callable[..., Any]) -> Callable[..., Any]:
    """CloudWatch evaluates alarms every minute; here they are evaluated when described and when a metric arrives."""

    def describe_evaluated(*request: Any) -> Any:
        with _LOCK:
            sample_queues()
            cloudwatch._evaluate_all_alarms()
        return describe(*request)

    return describe_evaluated


def _evaluate(alarm: dict[str, Any]) -> None:
    with _LOCK:
        state = _state(alarm)
        if state != alarm["StateValue"]:
            reason = f"Evaluated {alarm['EvaluationPeriods']} periods against the threshold {alarm['Threshold']}"
            change = {"AlarmName": alarm["AlarmName"], "StateValue": state, "StateReason": reason}
            cloudwatch._set_alarm_state({}, change, is_cbor=True)


def _state(alarm: dict[str, Any]) -> str:
    """Return an alarm's state. Missing data counts only if the evaluation range has too little existing data."""
    values = _values(alarm)
    breaches, evaluated = _BREACHES[alarm["ComparisonOperator"]], alarm["EvaluationPeriods"]
    existing = [breaches(value, alarm["Threshold"]) for value in values if value is not None][:evaluated]
    missing, treatment = evaluated - len(existing), alarm["TreatMissingData"]
    required = alarm.get("DatapointsToAlarm", evaluated)
    if sum(existing) + (missing if treatment == "breaching" else 0) >= required:
        return "ALARM"
    if not missing or not all(existing) or treatment in {"breaching", "notBreaching"}:
        return "OK"
    if treatment == "ignore":
        return str(alarm["StateValue"])
    return "ALARM" if any(value is not None for value in values[required - 1 :]) else "INSUFFICIENT_DATA"


def _values(alarm: dict[str, Any]) -> list[float | None]:
    """Return an alarm's value in each period of its evaluation range, the latest of which ends now."""
    now = time.time()
    queries = alarm.get("Metrics") or [{"Id": "single", "MetricStat": _single_metric(alarm), "ReturnData": True}]
    stats = {query["Id"]: query["MetricStat"] for query in queries if "MetricStat" in query}
    period = next(iter(stats.values()))["Period"]
    return [
        metric_math.evaluate(
            _returned_id(queries),
            _expressions(queries),
            {query_id: _statistic(stat, now - number * period) for query_id, stat in stats.items()},
        )
        for number in range(alarm["EvaluationPeriods"] + _ADDITIONAL_PERIODS)
    ]


def _single_metric(alarm: dict[str, Any]) -> dict[str, Any]:
    return {
        "Metric": {name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions")},
        "Period": alarm["Period"],
        "Stat": alarm["ExtendedStatistic"] or alarm["Statistic"],
    }


def _expressions(queries: list[dict[str, Any]]) -> dict[str, str]:
    return {query["Id"]: query["Expression"] for query in queries if "Expression" in query}


def _returned_id(queries: list[dict[str, Any]]) -> str:
    """Return the id of the one query with ReturnData; CloudWatch rejects none and several."""
    returned = [query["Id"] for query in queries if query["ReturnData"]]
    if len(returned) != 1:
        raise ValueError("Exactly one element of the metrics list should return data.")
    return str(returned[0])


def _statistic(stat: dict[str, Any], end: float) -> float | None:
    """Return a metric's statistic in a period; CloudWatch treats each set of dimensions as a metric of its own."""
    metric = stat["Metric"]
    dimensions = cloudwatch._dims_key(cloudwatch._dims_from_list(metric.get("Dimensions") or []))
    points = [
        point
        for point in cloudwatch._metrics.get((metric["Namespace"], metric["MetricName"], dimensions)) or []
        if end - stat["Period"] < point["Timestamp"] <= end
    ]
    if not points:
        return None
    value: float | None = cloudwatch._stat_value(cloudwatch._calc_stats(points), stat["Stat"], points)
    return value


def _with_metric_math(record: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """CloudFormation creates alarms on expressions over several metrics, too."""

    def create(name: str, props: dict[str, Any]) -> dict[str, Any]:
        if "Metrics" not in props:
            return record(name, props)
        queries = [_query(query) for query in props["Metrics"]]
        metrics = [query["Id"] for query in queries if "MetricStat" in query]
        metric_math.evaluate(_returned_id(queries), _expressions(queries), dict.fromkeys(metrics, 1.0))
        rest = {key: value for key, value in props.items() if key != "Metrics"}
        created = record(name, rest | {"MetricName": "several", "Namespace": "several"})
        kept = {key: value for key, value in created.items() if key not in _SINGLE_METRIC_PROPERTIES}
        return kept | {"Metrics": queries}

    return create


def _query(query: dict[str, Any]) -> dict[str, Any]:
    typed = query | {"ReturnData": str(query.get("ReturnData", True)).lower() == "true"}
    if stat := query.get("MetricStat"):
        typed["MetricStat"] = stat | {"Period": int(stat["Period"])}
    return typed
