"""CloudWatch alarms: periods, missing data, dimensions and metric math."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from local.organization import LocalOrganization
from rolecall.deploy.stack_operations import FailedError

_PERIOD_SECONDS = 60


def put_metric(organization: LocalOrganization, name: str, values: str, **dimensions: str) -> None:
    """Put a data point for each period up to now: X is above the threshold, 0 is below, - is none."""
    points = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "Timestamp": time.time() - _PERIOD_SECONDS * (age + 0.5),
            "Value": 100 if value == "X" else 0,
        }
        for age, value in enumerate(reversed(values))
        if value != "-"
    ]
    if points:
        organization.client("cloudwatch").put_metric_data(Namespace="Tests", MetricData=points)


def create_alarm(organization: LocalOrganization, name: str, periods: int = 1, **settings: Any) -> None:
    """Create an alarm on the metric with the alarm's name."""
    common = {
        "Namespace": "Tests",
        "MetricName": name,
        "Statistic": "Maximum",
        "Period": _PERIOD_SECONDS,
        "EvaluationPeriods": periods,
        "Threshold": 50,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    organization.client("cloudwatch").put_metric_alarm(AlarmName=name, **common | settings)


KEPT = "INSUFFICIENT_DATA"  # the state of a new alarm
ALL = ("ALARM", "ALARM", "ALARM", "ALARM")
NONE = ("OK", "OK", "OK", "OK")


@pytest.mark.parametrize(
    ("values", "required", "states"),
    [
        ("0-X-X", 3, NONE),
        ("0----", 3, NONE),
        ("-----", 3, ("INSUFFICIENT_DATA", KEPT, "ALARM", "OK")),
        ("0XX-X", 3, ALL),
        ("--X--", 3, ("ALARM", KEPT, "ALARM", "OK")),
        ("----X", 3, ("INSUFFICIENT_DATA", KEPT, "ALARM", "OK")),
        ("0XX0X", 3, NONE),
        ("0-X-X", 2, ALL),
        ("00X0X", 2, ALL),
        ("0-X--", 2, ("OK", "OK", "ALARM", "OK")),
        ("----0", 2, ("OK", "OK", "ALARM", "OK")),
        ("---X-", 2, ("ALARM", KEPT, "ALARM", "OK")),
    ],
)
def test_missing_data_counts_only_without_earlier_data(
    organization: LocalOrganization, values: str, required: int, states: tuple[str, ...]
) -> None:
    """The tables of "Configuring how CloudWatch alarms treat missing data" in the Amazon CloudWatch User Guide."""
    metric = f"{values} {required}"
    put_metric(organization, metric, values)
    treatments = ("missing", "ignore", "breaching", "notBreaching")
    for treatment in treatments:
        settings = {"TreatMissingData": treatment, "MetricName": metric, "DatapointsToAlarm": required}
        create_alarm(organization, f"{metric} {treatment}", periods=3, **settings)
    observed = organization.alarm_states()
    assert tuple(observed[f"{metric} {treatment}"] for treatment in treatments) == states


def test_alarm_uses_the_metric_with_exactly_its_dimensions(organization: LocalOrganization) -> None:
    put_metric(organization, "dimensions", "X", service="other")
    put_metric(organization, "dimensions", "X", service="mine", reason="any")
    create_alarm(organization, "dimensions", Dimensions=[{"Name": "service", "Value": "mine"}])
    assert organization.alarm_states()["dimensions"] == "INSUFFICIENT_DATA"
    put_metric(organization, "dimensions", "X", service="mine")
    assert organization.alarm_states()["dimensions"] == "ALARM"


def deploy_alarms(organization: LocalOrganization, directory: Path, **expressions: str) -> None:
    """Deploy alarms on expressions over a metric with data, m1, and one without, m2."""
    metrics = [
        {
            "Id": query_id,
            "ReturnData": "false",
            "MetricStat": {
                "Metric": {"Namespace": "Tests", "MetricName": name},
                "Period": str(_PERIOD_SECONDS),
                "Stat": "Maximum",
            },
        }
        for query_id, name in (("m1", "math-data"), ("m2", "math-none"))
    ]
    resources = {
        name: {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "AlarmName": name,
                "Metrics": [*metrics, {"Id": "result", "Expression": expression}],
                "EvaluationPeriods": 1,
                "Threshold": 50,
                "ComparisonOperator": "GreaterThanThreshold",
                "TreatMissingData": "notBreaching",
            },
        }
        for name, expression in expressions.items()
    }
    (directory / "template.json").write_text(json.dumps({"Resources": resources}))
    (directory / "deployment.zip").touch()
    organization.deploy(secrets.token_hex(4), directory, {})


def test_alarm_on_metric_math_follows_its_expression(organization: LocalOrganization, tmp_path: Path) -> None:
    firing = {
        "Sum": "SUM(METRICS())",
        "Some": "MAX([m1, m2])",
        "Filled": "m1 + FILL(m2, 0)",
        "If": "IF(m1 > 9, m1, 0)",
        "Plus": "m1 + m2",
        "More": "IF(m1 > m2, m1, 0)",
    }
    quiet = {
        "Least": "MIN(FILL(METRICS(), 0))",
        "Divided": "m1 / (m1 - m1)",
        "Low": "m1 * 0.5",
        "None": "m2 + 99",
        "Average": "AVG(METRICS()) - 1",
        "Then": "IF(m1 > 9, m2, 99)",
        "Unknown": "IF(m2 > 9, 0, 99)",
    }
    deploy_alarms(organization, tmp_path, **firing, **quiet)
    assert {organization.alarm_states()[name] for name in (*firing, *quiet)} == {"OK"}

    put_metric(organization, "math-data", "X")

    states = organization.alarm_states()
    assert {name for name in (*firing, *quiet) if states[name] == "ALARM"} == set(firing)


@pytest.mark.parametrize("expression", ["RATE(m1)", "m1 + m3"])
def test_unsupported_metric_math_fails_the_deployment(
    organization: LocalOrganization, tmp_path: Path, expression: str
) -> None:
    with pytest.raises(FailedError, match="does not support"):
        deploy_alarms(organization, tmp_path, Unsupported=expression)
