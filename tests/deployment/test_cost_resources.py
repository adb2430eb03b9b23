"""The resources and defaults that the estimated cost counts are those of the template."""

from rolecall import cost
from tests.deployment.deployed import Deployment


def test_alarms_dashboard_and_keys_are_counted(deployment: Deployment) -> None:
    alarms = deployment.of_type("AWS::CloudWatch::Alarm").values()
    metrics = [each for alarm in alarms for each in alarm.get("Metrics", [{"MetricStat": {}}]) if "MetricStat" in each]
    assert len(metrics) == cost.ALARM_METRICS
    assert len(deployment.of_type("AWS::CloudWatch::Dashboard")) == cost.DASHBOARDS
    assert len(deployment.of_type("AWS::KMS::Key")) == cost.KEYS


def test_functions_have_the_memory_and_the_architecture(deployment: Deployment) -> None:
    functions = {
        each["FunctionName"].removeprefix("rolecall-dev-"): each
        for each in deployment.of_type("AWS::Lambda::Function").values()
    }
    assert {name: functions[name]["MemorySize"] / 1024 for name in cost.MEMORY_GB} == cost.MEMORY_GB
    # Without the property, it is x86.
    assert {each.get("Architectures", ["x86_64"])[0] for each in functions.values()} == {"x86_64"}


def test_queues_are_read_as_counted(deployment: Deployment) -> None:
    sources = deployment.of_type("AWS::Lambda::EventSourceMapping").values()
    batches = {each["BatchSize"]: each.get("ScalingConfig") for each in sources if ":sqs:" in each["EventSourceArn"]}
    assert set(batches) == {str(cost.BATCH_SIZE), 10}
    # With a maximum concurrency, Lambda never polls with less than five processes.
    assert batches[str(cost.BATCH_SIZE)] is not None


def test_schedules_logs_and_threads_have_the_defaults(deployment: Deployment) -> None:
    rules = deployment.of_type("AWS::Events::Rule").values()
    rates = {each["Name"]: each["ScheduleExpression"] for each in rules if "ScheduleExpression" in each}
    assert rates == {
        "rolecall-dev-resync": "rate(1 day)",
        "rolecall-dev-discovery": "rate(1 hour)",
        "rolecall-dev-rerun": "rate(1 hour)",
    }
    kept = {int(each["RetentionInDays"]) for each in deployment.of_type("AWS::Logs::LogGroup").values()}
    assert kept == {30 * cost.LOG_RETENTION_MONTHS}
    assert int(deployment.values["Threads"]) == cost.THREADS


def test_tables_are_paid_for_by_request_and_recoverable(deployment: Deployment) -> None:
    for table in deployment.of_type("AWS::DynamoDB::Table").values():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
