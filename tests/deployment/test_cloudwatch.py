"""Alarms and the dashboard use metrics that exist, and each alarm names its section of the runbook."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.telemetry import Metric
from rolecall.stage import DEAD_LETTER_QUEUES
from tests.conftest import ROOT
from tests.deployment.deployed import Deployment

# The metrics of AWS services by dimension, with the page that documents them.
_NATIVE = {
    # "Types of metrics for Lambda functions" in the AWS Lambda Developer Guide
    ("AWS/Lambda", "FunctionName"): {"Errors", "Throttles", "Duration", "IteratorAge"},
    # "Available CloudWatch metrics for Amazon SQS" in the Amazon SQS Developer Guide
    ("AWS/SQS", "QueueName"): {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
    },
    # "Monitoring Amazon EventBridge" in the Amazon EventBridge User Guide; rules of the default bus have only this dimension
    ("AWS/Events", "RuleName"): {"FailedInvocations"},
}
_BY_REASON = {Metric.SKIPPED_FOR, Metric.FAILING_FOR}
_GAUGES = ("AccountsNeedingAttention", "SourcePolicyFillPercent", "PublishingBlocked")
_EXPRESSIONS = {
    "queue-age": "MAX([queue1, queue2, stream / 1000])",
    "access-slow": "MAX(METRICS())",
    "resync-missing": "FILL(resyncs, 0)",
}
"""The expressions that are no sum."""

_DAY = 86400
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_SECONDS = {"minute": 60, "hour": 3600, "day": _DAY}


def _alarms(deployment: Deployment) -> dict[str, dict[str, Any]]:
    return {each["AlarmName"]: each for each in deployment.of_type("AWS::CloudWatch::Alarm").values()}


def _watched(alarm: dict[str, Any]) -> list[tuple[dict[str, Any], int]]:
    """Return the metrics of an alarm, each with its period."""
    if "Metrics" in alarm:
        stats = [each["MetricStat"] for each in alarm["Metrics"] if "MetricStat" in each]
        return [(stat["Metric"], stat["Period"]) for stat in stats]
    return [(alarm, alarm["Period"])]


def _known(deployment: Deployment) -> dict[str, set[str]]:
    """Return the names of the functions, queues and rules, by dimension."""
    return {
        "FunctionName": {each["FunctionName"] for each in deployment.of_type("AWS::Lambda::Function").values()},
        "QueueName": {each["QueueName"] for each in deployment.of_type("AWS::SQS::Queue").values()},
        "RuleName": {each["Name"] for each in deployment.of_type("AWS::Events::Rule").values()},
    }


def _why_unknown(namespace: str, name: str, dimensions: dict[str, str], deployment: Deployment) -> str | None:
    if namespace == "Rolecall":
        known = name in set(Metric) - _BY_REASON and dimensions == {"service": "rolecall-dev"}
    else:
        ((dimension, value),) = dimensions.items()
        known = name in _NATIVE.get((namespace, dimension), ()) and value in _known(deployment)[dimension]
    return None if known else f"{namespace} {name} {dimensions}"


def _slug(heading: str) -> str:
    """Return a heading's anchor on GitHub."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def _sections(path: str) -> dict[str, str]:
    parts = re.split(r"^#+ (.+)$", (ROOT / path).read_text(), flags=re.MULTILINE)
    return {_slug(heading): text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_ten_alarms_notify_the_topic(deployment: Deployment) -> None:
    alarms = _alarms(deployment)
    assert len(alarms) == 10
    topic = deployment.values["AlarmTopic"]
    assert all(each["AlarmActions"] == each["OKActions"] == [topic] for each in alarms.values())
    assert all(name.startswith("rolecall-dev-") for name in alarms)


def test_every_alarm_names_its_section_of_the_runbook(deployment: Deployment) -> None:
    sections = _sections("docs/runbook.md")
    for name, alarm in _alarms(deployment).items():
        summary, _, section = alarm["AlarmDescription"].rstrip(".").partition(" See docs/runbook.md#")
        assert section == name.removeprefix("rolecall-dev-")
        assert sections[section], section
        assert summary.endswith(".")
        assert "${" not in summary


def test_alarms_use_metrics_that_exist(deployment: Deployment) -> None:
    unknown = [
        _why_unknown(
            metric["Namespace"],
            metric["MetricName"],
            {each["Name"]: each["Value"] for each in metric["Dimensions"]},
            deployment,
        )
        for alarm in _alarms(deployment).values()
        for metric, _ in _watched(alarm)
    ]
    assert [each for each in unknown if each] == []


def test_every_function_rule_and_queue_has_its_alarms(deployment: Deployment) -> None:
    watched = {
        (metric["MetricName"], metric["Dimensions"][0]["Value"].removeprefix("rolecall-dev-"))
        for alarm in _alarms(deployment).values()
        for metric, _ in _watched(alarm)
    }
    functions = {name.removeprefix("rolecall-dev-") for name in _known(deployment)["FunctionName"]}
    rules = {name.removeprefix("rolecall-dev-") for name in _known(deployment)["RuleName"]}
    assert watched == {
        *((name, function) for name in ("Errors", "Throttles") for function in functions),
        *(("FailedInvocations", rule) for rule in rules),
        *(("ApproximateNumberOfMessagesVisible", name) for name in DEAD_LETTER_QUEUES),
        ("IteratorAge", "announce_outcome"),
        *(("ApproximateAgeOfOldestMessage", name) for name in ("accounts", "publish.fifo")),
        *((metric, "rolecall-dev") for metric in (*_GAUGES, "AccessSeconds", "AccessPendingSeconds", "Resyncs")),
    }


def test_alarms_are_within_cloudwatchs_limits(deployment: Deployment) -> None:
    """PutMetricAlarm and MetricDataQuery in the Amazon CloudWatch API Reference."""
    for name, alarm in _alarms(deployment).items():
        metrics = _watched(alarm)
        assert len(alarm.get("Metrics", ())) <= 10, name
        for _, period in metrics:
            assert period in {10, 20, 30} or period % 60 == 0, name
            longest = 7 * _DAY if period >= 3600 else _DAY
            assert period * alarm["EvaluationPeriods"] <= longest, name
        if "Metrics" in alarm:
            (watched,) = [each for each in alarm["Metrics"] if each.get("ReturnData", True)]
            assert watched["Expression"] == _EXPRESSIONS.get(name.removeprefix("rolecall-dev-"), "SUM(METRICS())"), name
            assert len({period for _, period in metrics}) == 1, name
            assert len({each["Id"] for each in alarm["Metrics"]}) == len(metrics) + 1, name
            assert all(re.fullmatch(r"[a-z]\w*", each["Id"]) for each in alarm["Metrics"]), name


def test_resync_alarm_allows_the_longest_rate(template: dict[str, Any], deployment: Deployment) -> None:
    alarm = _alarms(deployment)["rolecall-dev-resync-missing"]
    ((metric, period),) = _watched(alarm)
    assert (metric["MetricName"], alarm["TreatMissingData"]) == (Metric.RESYNCS, "breaching")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    rate = template["Parameters"]["ResyncRate"]
    allowed = ["rate(1 day)", "rate(1 hour)", *(f"rate({hours} hours)" for hours in range(2, 100)), "rate(2 days)"]
    longest = max(
        int(found[1]) * _SECONDS[found[2]]
        for each in allowed
        if re.fullmatch(rate["AllowedPattern"], each) and (found := _RATE.fullmatch(each))
    )
    # A run may start late and takes some minutes.
    assert period * alarm["EvaluationPeriods"] >= longest + 3600
    assert f"for {period * alarm['EvaluationPeriods'] // 3600} hours" in alarm["AlarmDescription"]
    assert deployment.expanded["Resources"]["ResyncMissingAlarm"]["Properties"]["ActionsEnabled"] == {
        "Fn::If": ["SchedulesAreEnabled", True, False]
    }


def test_missing_gauges_keep_the_state_of_their_alarms(deployment: Deployment) -> None:
    """Gauges are written by resyncs and runs of publish, which may be hours apart."""
    found = {
        metric["MetricName"]: (alarm["TreatMissingData"], period)
        for alarm in _alarms(deployment).values()
        for metric, period in _watched(alarm)
        if metric["MetricName"] in {*_GAUGES, "AccessPendingSeconds"}
    }
    assert found == dict.fromkeys((*_GAUGES, "AccessPendingSeconds"), ("ignore", 3600))


def test_alarm_on_one_blocked_run_of_publish(deployment: Deployment) -> None:
    alarm = _alarms(deployment)["rolecall-dev-publishing-blocked"]
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("Maximum", "GreaterThanThreshold")
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (0, 1)


def test_access_alarm_has_the_parameters_threshold(deployment: Deployment) -> None:
    alarm = _alarms(deployment)["rolecall-dev-access-slow"]
    assert alarm["Threshold"] == deployment.values["AccessSeconds"] == "3600"


def test_cloudwatch_may_publish_to_the_encrypted_topic(deployment: Deployment) -> None:
    topic = deployment["AlarmTopic"]
    assert topic["TopicName"] == "rolecall-dev-alarms"
    assert topic["KmsMasterKeyId"] == deployment.values["AlarmKey.Arn"]
    allowed = [
        each
        for each in deployment["AlarmKey"]["KeyPolicy"]["Statement"]
        if each["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    ]
    assert [(each["Effect"], each["Action"]) for each in allowed] == [
        ("Allow", ["kms:Decrypt", "kms:GenerateDataKey*"])
    ]


def test_topic_accepts_only_the_alarms_of_its_stage(deployment: Deployment) -> None:
    allow, _ = deployment["AlarmTopicPolicy"]["PolicyDocument"]["Statement"]
    alarms = {deployment.values[f"{name}.Arn"] for name in deployment.of_type("AWS::CloudWatch::Alarm")}
    assert set(allow["Condition"]["ArnEquals"]["aws:SourceArn"]) == alarms


def test_mail_address_is_subscribed_if_set(deployment: Deployment) -> None:
    resource = deployment.expanded["Resources"]["AlarmMail"]
    assert resource["Condition"] == "AlarmsAreMailed"
    assert resource["Properties"]["Endpoint"] == {"Ref": "AlarmEmail"}


def _dashboard(deployment: Deployment) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(deployment["Dashboard"]["DashboardBody"].replace("${!", "${"))
    return body


def _expanded(metrics: list[Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield a widget's metrics; a dot repeats the value of the metric before."""
    previous: list[str] = []
    for metric in metrics:
        texts = [each for each in metric if isinstance(each, str)]
        if texts:
            previous = [previous[index] if each == "." else each for index, each in enumerate(texts)]
            yield previous[0], previous[1], dict(zip(previous[2::2], previous[3::2], strict=True))


def test_dashboard_shows_every_metric_and_only_existing_ones(deployment: Deployment) -> None:
    widgets = [each for each in _dashboard(deployment)["widgets"] if each["type"] == "metric"]
    shown = [metric for widget in widgets for metric in _expanded(widget["properties"]["metrics"])]
    assert [unknown for metric in shown if (unknown := _why_unknown(*metric, deployment))] == []
    searches = [
        metric[0]["expression"]
        for widget in widgets
        for metric in widget["properties"]["metrics"]
        if isinstance(metric[0], dict)
    ]
    assert searches == [
        f"""SEARCH('{{Rolecall,reason,service}} MetricName="{metric}" service="rolecall-dev"', 'Maximum', 3600)"""
        for metric in (Metric.FAILING_FOR, Metric.SKIPPED_FOR)
    ]
    own = {name for namespace, name, _ in shown if namespace == "Rolecall"}
    assert own == set(Metric) - _BY_REASON


def test_dashboard_shows_every_alarm(deployment: Deployment) -> None:
    (widget,) = [each for each in _dashboard(deployment)["widgets"] if each["type"] == "alarm"]
    arns = {deployment.values[f"{name}.Arn"] for name in deployment.of_type("AWS::CloudWatch::Alarm")}
    assert set(widget["properties"]["alarms"]) == arns


def test_dashboard_widgets_do_not_overlap(deployment: Deployment) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in _dashboard(deployment)["widgets"]:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not taken & cells, widget["properties"].get("title")
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_dashboard_keeps_the_periods_of_its_widgets(deployment: Deployment) -> None:
    """Its sums and gauges are of an hour or of five minutes, also when a week is shown."""
    assert _dashboard(deployment)["periodOverride"] == "inherit"
    metrics = [each["properties"] for each in _dashboard(deployment)["widgets"] if each["type"] == "metric"]
    assert all("period" in each or "SEARCH" in str(each["metrics"]) for each in metrics)


def test_dashboard_thresholds_are_numbers(deployment: Deployment) -> None:
    lines = [
        line["value"]
        for widget in _dashboard(deployment)["widgets"]
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
    ]
    assert lines == [3600]


@pytest.mark.parametrize(
    ("metric", "dimensions"),
    [
        (("AWS/SQS", "ApproximateNumberOfMessages"), {"QueueName": "rolecall-dev-accounts"}),
        (("AWS/SQS", "ApproximateAgeOfOldestMessage"), {"QueueName": "rolecall-dev-account"}),
        (("AWS/Lambda", "Errors"), {"RuleName": "rolecall-dev-resync"}),
        (("Rolecall", "Coverage"), {"service": "rolecall-dev"}),
        (("Rolecall", "CoveragePercent"), {"stage": "dev"}),
    ],
)
def test_unknown_metric_is_detected(
    metric: tuple[str, str], dimensions: dict[str, str], deployment: Deployment
) -> None:
    assert _why_unknown(*metric, dimensions, deployment)
