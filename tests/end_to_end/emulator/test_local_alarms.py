"""Logs and services become metrics, and alarms tell of them as CloudWatch's do."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.deployment import DeploymentError
from local.organization import LocalOrganization
from local.waiting import until

_PERIOD = 60


def measure(organization: LocalOrganization, name: str, values: str, **dimensions: str) -> None:
    """Measure, in periods of which the last is now, X for what is over the threshold, 0 for what isn't, - for nothing."""
    points = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "Timestamp": time.time() - _PERIOD * (age + 0.5),
            "Value": 100 if value == "X" else 0,
        }
        for age, value in enumerate(reversed(values))
        if value != "-"
    ]
    if points:
        organization.client("cloudwatch").put_metric_data(Namespace="Tests", MetricData=points)


def alarm(organization: LocalOrganization, name: str, periods: int = 1, **settings: Any) -> None:
    """Make an alarm of the metric that has the alarm's name."""
    common = {
        "Namespace": "Tests",
        "MetricName": name,
        "Statistic": "Maximum",
        "Period": _PERIOD,
        "EvaluationPeriods": periods,
        "Threshold": 50,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    organization.client("cloudwatch").put_metric_alarm(AlarmName=name, **common | settings)


def deploy(organization: LocalOrganization, directory: Path, resources: dict[str, Any]) -> None:
    (directory / "template.yaml").write_text(yaml.safe_dump({"Resources": resources}))
    organization.deploy(secrets.token_hex(4), directory, {})


def watching(*queries: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Write an alarm over several metrics."""
    common = {
        "Metrics": list(queries),
        "EvaluationPeriods": 1,
        "Threshold": 50,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": common | settings}


def metric(query_id: str, name: str) -> dict[str, Any]:
    stat = {"Metric": {"Namespace": "Tests", "MetricName": name}, "Period": str(_PERIOD), "Stat": "Maximum"}
    return {"Id": query_id, "ReturnData": "false", "MetricStat": stat}


def expression(text: str) -> dict[str, Any]:
    return {"Id": "result", "Expression": text}


def test_a_log_line_in_the_embedded_format_is_metrics(organization: LocalOrganization) -> None:
    logs = organization.client("logs")
    logs.create_log_group(logGroupName="embedded")
    logs.create_log_stream(logGroupName="embedded", logStreamName="only")
    directive = {
        "Namespace": "Embedded",
        "Dimensions": [["service"], ["service", "reason"], ["absent"]],
        "Metrics": [{"Name": "Waited", "Unit": "Seconds"}, {"Name": "Seen", "Unit": "Count"}],
    }
    an_hour_ago = int(time.time() - 3600)
    document = {
        "_aws": {"Timestamp": an_hour_ago * 1000, "CloudWatchMetrics": [directive]},
        "service": "tests",
        "reason": "denied",
        "Waited": [1.5, 4],
        "Seen": 2,
    }

    lines = [json.dumps(document), '{"_aws": 1}', "no JSON with _aws in it"]
    events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines]
    logs.put_log_events(logGroupName="embedded", logStreamName="only", logEvents=events)

    found = organization.client("cloudwatch").list_metrics(Namespace="Embedded")["Metrics"]
    sets = {(each["MetricName"], *sorted(each["Name"] for each in each["Dimensions"])) for each in found}
    assert sets == {(name, *rest, "service") for name in ("Waited", "Seen") for rest in ((), ("reason",))}
    assert organization.metric("Waited", namespace="Embedded", service="tests") == [5.5]
    assert organization.metric("Waited", "Maximum", "Embedded", service="tests", reason="denied") == [4]
    assert organization.metric("Seen", namespace="Embedded", service="others") == []
    points = organization.client("cloudwatch").get_metric_statistics(
        Namespace="Embedded",
        MetricName="Waited",
        Dimensions=[{"Name": "service", "Value": "tests"}],
        StartTime=an_hour_ago,
        EndTime=an_hour_ago + 1,
        Period=1,
        Statistics=["SampleCount"],
    )["Datapoints"]
    assert [(point["SampleCount"], point["Unit"]) for point in points] == [(2, "Seconds")]


@pytest.mark.parametrize(
    ("values", "treated", "state"),
    [
        ("XXX", "missing", "ALARM"),
        ("0XX", "missing", "OK"),
        ("---", "missing", "INSUFFICIENT_DATA"),
        ("---", "breaching", "ALARM"),
        ("---", "notBreaching", "OK"),
        ("---", "ignore", "INSUFFICIENT_DATA"),
        ("X-X", "breaching", "ALARM"),
        ("X-X", "notBreaching", "OK"),
        ("X-X", "ignore", "INSUFFICIENT_DATA"),
        ("--0", "breaching", "OK"),
        ("--0", "ignore", "OK"),
    ],
)
def test_an_alarm_looks_at_its_periods_and_treats_missing_data_as_told(
    organization: LocalOrganization, values: str, treated: str, state: str
) -> None:
    name = f"{values} {treated}"
    measure(organization, name, values)
    alarm(organization, name, periods=3, TreatMissingData=treated)
    assert organization.alarm_states()[name] == state


def test_some_of_an_alarms_periods_may_suffice(organization: LocalOrganization) -> None:
    for values, state in (("X0X", "ALARM"), ("00X", "OK")):
        measure(organization, f"two of {values}", values)
        alarm(organization, f"two of {values}", 3, DatapointsToAlarm=2, TreatMissingData="notBreaching")
        assert organization.alarm_states()[f"two of {values}"] == state


def test_an_alarm_watches_the_metric_of_exactly_its_dimensions(organization: LocalOrganization) -> None:
    measure(organization, "dimensions", "X", service="other")
    measure(organization, "dimensions", "X", service="mine", reason="any")
    alarm(organization, "dimensions", Dimensions=[{"Name": "service", "Value": "mine"}])
    assert organization.alarm_states()["dimensions"] == "INSUFFICIENT_DATA"
    measure(organization, "dimensions", "X", service="mine")
    assert organization.alarm_states()["dimensions"] == "ALARM"


def test_time_passes_for_alarms(organization: LocalOrganization) -> None:
    for treated in ("notBreaching", "ignore"):
        measure(organization, treated, "X")
        alarm(organization, treated, TreatMissingData=treated)
        assert organization.alarm_states()[treated] == "ALARM"

    organization.age_metrics(_PERIOD)

    states = organization.alarm_states()
    assert (states["notBreaching"], states["ignore"]) == ("OK", "ALARM")


def test_queues_are_measured(organization: LocalOrganization) -> None:
    sqs = organization.client("sqs")
    url = sqs.create_queue(QueueName="measured")["QueueUrl"]
    for name, threshold in (("ApproximateNumberOfMessagesVisible", 1), ("ApproximateAgeOfOldestMessage", 600)):
        dimensions = [{"Name": "QueueName", "Value": "measured"}]
        alarm(organization, name, Namespace="AWS/SQS", Dimensions=dimensions, Threshold=threshold)

    sqs.send_message(QueueUrl=url, MessageBody="one")
    assert organization.alarm_states()["ApproximateNumberOfMessagesVisible"] == "OK"
    sqs.send_message(QueueUrl=url, MessageBody="two")
    assert organization.alarm_states()["ApproximateNumberOfMessagesVisible"] == "ALARM"
    assert organization.alarm_states()["ApproximateAgeOfOldestMessage"] == "OK"


def test_an_alarm_over_several_metrics_follows_its_expression(organization: LocalOrganization, tmp_path: Path) -> None:
    both = [metric("m1", "math-high"), metric("m2", "math-none")]
    firing = {"Sum": "SUM(METRICS())", "Some": "MAX([m1, m2])", "Filled": "m1 + FILL(m2, 0)", "If": "IF(m1 > 9, m1, 0)"}
    quiet = {"Plus": "m1 + m2", "Least": "MIN(FILL(METRICS(), 0))", "Divided": "m1 / (m1 - m1)", "Low": "m1 * 0.5"}
    resources = {name: watching(*both, expression(text), AlarmName=name) for name, text in (firing | quiet).items()}
    deploy(organization, tmp_path, resources)
    assert {organization.alarm_states()[name] for name in resources} == {"OK"}

    measure(organization, "math-high", "X")

    states = organization.alarm_states()
    assert {name for name in resources if states[name] == "ALARM"} == set(firing)
    described = organization.client("cloudwatch").describe_alarms(AlarmNames=["Sum"])["MetricAlarms"][0]
    assert [query["ReturnData"] for query in described["Metrics"]] == [False, False, True]
    assert "MetricName" not in described


@pytest.mark.parametrize(
    ("queries", "saying"),
    [
        ([metric("m1", "any"), expression("RATE(m1)")], "does not know"),
        ([metric("m1", "any"), expression("m1 + m3")], "does not know"),
        ([metric("m1", "any")], "Exactly one"),
    ],
)
def test_an_alarm_that_could_not_be_evaluated_is_not_deployed(
    organization: LocalOrganization, tmp_path: Path, queries: list[dict[str, Any]], saying: str
) -> None:
    with pytest.raises(DeploymentError, match=saying):
        deploy(organization, tmp_path, {"Alarm": watching(*queries)})


def test_an_alarm_tells_the_topics_subscribers(organization: LocalOrganization, tmp_path: Path) -> None:
    sends = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": {"Fn::GetAtt": ["Heard", "Arn"]},
    }
    allowed = {"Queues": [{"Ref": "Heard"}], "PolicyDocument": {"Version": "2012-10-17", "Statement": [sends]}}
    subscribed = {"TopicArn": {"Ref": "Topic"}, "Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Heard", "Arn"]}}
    watched = watching(
        metric("m1", "told"), expression("SUM(METRICS())"), AlarmName="told", AlarmActions=[{"Ref": "Topic"}]
    )
    resources = {
        "Heard": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "alarms-heard"}},
        "Allowed": {"Type": "AWS::SQS::QueuePolicy", "Properties": allowed},
        "Topic": {"Type": "AWS::SNS::Topic"},
        "Subscription": {"Type": "AWS::SNS::Subscription", "Properties": subscribed},
        "Alarm": watched,
    }
    deploy(organization, tmp_path, resources)

    measure(organization, "told", "X")

    sqs = organization.client("sqs")
    url = sqs.get_queue_url(QueueName="alarms-heard")["QueueUrl"]
    received = until(lambda: sqs.receive_message(QueueUrl=url).get("Messages"), "the topic tells")
    message = json.loads(json.loads(received[0]["Body"])["Message"])
    assert (message["AlarmName"], message["OldStateValue"], message["NewStateValue"]) == ("told", "OK", "ALARM")


def test_a_dashboard_is_json(organization: LocalOrganization, tmp_path: Path) -> None:
    def dashboard(body: str) -> dict[str, Any]:
        properties = {"DashboardName": "seen", "DashboardBody": {"Fn::Sub": body}}
        return {"Seen": {"Type": "AWS::CloudWatch::Dashboard", "Properties": properties}}

    deploy(organization, tmp_path, dashboard('{"widgets": ["${AWS::Region}", "${!literal}"]}'))
    body = organization.client("cloudwatch").get_dashboard(DashboardName="seen")["DashboardBody"]
    assert json.loads(body) == {"widgets": ["us-east-1", "${literal}"]}
    with pytest.raises(DeploymentError, match="Seen: "):
        deploy(organization, tmp_path, dashboard('{"widgets": ${AWS::Region}}'))


def test_who_is_mailed_has_not_confirmed_and_a_queue_need_not(organization: LocalOrganization) -> None:
    sns = organization.client("sns")
    topic = sns.create_topic(Name="mailed")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.com")
    queue = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:confirmed"
    confirmed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]
    listed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert {each["Protocol"]: each["SubscriptionArn"] for each in listed} == {
        "email": "PendingConfirmation",
        "sqs": confirmed,
    }
