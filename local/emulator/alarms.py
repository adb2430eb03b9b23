"""CloudWatch alarms: by metric or metric math, period by period, with missing data treated as told."""

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
_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_OF_ONE_METRIC = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit")


def mend() -> None:
    """Replace how one alarm is evaluated, and wrap how alarms are made and described."""
    cloudwatch._evaluate_alarm = _evaluate
    cloudwatch._describe_alarms = _evaluated_first(cloudwatch._describe_alarms)
    provisioners._cw_metric_alarm_record = _with_metric_math(provisioners._cw_metric_alarm_record)


def _evaluated_first(describe: Callable[..., Any]) -> Callable[..., Any]:
    """CloudWatch evaluates alarms every minute; here they are whenever one looks at them or a metric arrives."""

    def look(*request: Any) -> Any:
        with _LOCK:
            sample_queues()
            cloudwatch._evaluate_all_alarms()
        return describe(*request)

    return look


def _evaluate(alarm: dict[str, Any]) -> None:
    with _LOCK:
        state = _state(alarm)
        if state != alarm["StateValue"]:
            reason = f"Evaluated {alarm['EvaluationPeriods']} periods against the threshold {alarm['Threshold']}"
            change = {"AlarmName": alarm["AlarmName"], "StateValue": state, "StateReason": reason}
            cloudwatch._set_alarm_state({}, change, is_cbor=True)


def _state(alarm: dict[str, Any]) -> str:
    """Missing data counts as breaching, as not breaching, or leaves the state where it could decide; or is no data at all."""
    values = _values(alarm)
    breaches = _BREACHES[alarm["ComparisonOperator"]]
    breaching = sum(breaches(value, alarm["Threshold"]) for value in values if value is not None)
    missing, treated = values.count(None), alarm["TreatMissingData"]
    needed = alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    if treated == "missing" and missing == len(values):
        return "INSUFFICIENT_DATA"
    if breaching + (missing if treated == "breaching" else 0) >= needed:
        return "ALARM"
    if treated == "ignore" and breaching + missing >= needed:
        return str(alarm["StateValue"])
    return "OK"


def _values(alarm: dict[str, Any]) -> list[float | None]:
    """Tell an alarm's value in each of its periods, of which the last ends now."""
    now = time.time()
    queries = alarm.get("Metrics") or [{"Id": "only", "MetricStat": _only_metric(alarm), "ReturnData": True}]
    stats = {query["Id"]: query["MetricStat"] for query in queries if "MetricStat" in query}
    period = next(iter(stats.values()))["Period"]
    return [
        metric_math.value_of(
            _returned(queries),
            _expressions(queries),
            {name: _measured(stat, now - number * period) for name, stat in stats.items()},
        )
        for number in range(alarm["EvaluationPeriods"])
    ]


def _only_metric(alarm: dict[str, Any]) -> dict[str, Any]:
    return {
        "Metric": {name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions")},
        "Period": alarm["Period"],
        "Stat": alarm["ExtendedStatistic"] or alarm["Statistic"],
    }


def _expressions(queries: list[dict[str, Any]]) -> dict[str, str]:
    return {query["Id"]: query["Expression"] for query in queries if "Expression" in query}


def _returned(queries: list[dict[str, Any]]) -> str:
    """Tell the one metric or expression that the alarm watches: CloudWatch refuses none and several."""
    returned = [query["Id"] for query in queries if query["ReturnData"]]
    if len(returned) != 1:
        raise ValueError("Exactly one element of the metrics list should return data.")
    return str(returned[0])


def _measured(stat: dict[str, Any], until: float) -> float | None:
    """Measure a metric of exactly these dimensions: with one more, CloudWatch takes it for another metric."""
    metric = stat["Metric"]
    dimensions = cloudwatch._dims_key(cloudwatch._dims_from_list(metric.get("Dimensions") or []))
    points = [
        point
        for point in cloudwatch._metrics.get((metric["Namespace"], metric["MetricName"], dimensions)) or []
        if until - stat["Period"] < point["Timestamp"] <= until
    ]
    if not points:
        return None
    found: float | None = cloudwatch._stat_value(cloudwatch._calc_stats(points), stat["Stat"], points)
    return found


def _with_metric_math(record: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """CloudFormation takes alarms of expressions over several metrics, too."""

    def make(name: str, props: dict[str, Any]) -> dict[str, Any]:
        if "Metrics" not in props:
            return record(name, props)
        queries = [_query(query) for query in props["Metrics"]]
        metrics = [query["Id"] for query in queries if "MetricStat" in query]
        metric_math.value_of(_returned(queries), _expressions(queries), dict.fromkeys(metrics, 1.0))
        of_one = {key: value for key, value in props.items() if key != "Metrics"}
        made = record(name, of_one | {"MetricName": "of several", "Namespace": "of several"})
        return {key: value for key, value in made.items() if key not in _OF_ONE_METRIC} | {"Metrics": queries}

    return make


def _query(query: dict[str, Any]) -> dict[str, Any]:
    typed = query | {"ReturnData": str(query.get("ReturnData", True)).lower() == "true"}
    if stat := query.get("MetricStat"):
        typed["MetricStat"] = stat | {"Period": int(stat["Period"])}
    return typed
