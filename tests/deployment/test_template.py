"""The template in each partition: settings, queues, schedules and tables."""

import json
import re
from typing import Any

import pytest

from chalicelib.events import PATTERN
from chalicelib.requests import Selection, read_request
from chalicelib.settings import Settings
from rolecall.deploy.intrinsics import resolve
from rolecall.deploy.parameters import merge_parameters
from tests.deployment.deployed import Deployment
from tests.unit.builders import EXAMPLES


def _environment(template: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
    resolved: dict[str, str] = resolve(template["Globals"]["Function"]["Environment"]["Variables"], values)
    return resolved


def _parameters(value: Any) -> list[str]:
    """Return the parameters that a variable's value refers to."""
    return re.findall(r'"Ref": "(\w+)"', json.dumps(value))


def _known(deployment: Deployment, template: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    return {**deployment.values, **merge_parameters(template["Parameters"], given, {})}


def test_each_parameter_reaches_its_setting(template: dict[str, Any], deployment: Deployment) -> None:
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    account = f"arn:{deployment.location.partition}:iam::444455556666"
    given = {parameter: text for name, (text, _) in EXAMPLES.items() for parameter in _parameters(variables[name])}
    given["SourcePrincipalArns"] = f"{account}:role/path/Reader"

    settings = Settings.from_env(_environment(template, _known(deployment, template, given)))

    assert {name: getattr(settings, name.lower()) for name in EXAMPLES} == {
        name: value for name, (_, value) in EXAMPLES.items()
    }
    assert settings.source_principals[0].path == "/path/"


def test_template_and_code_have_the_same_defaults(template: dict[str, Any], deployment: Deployment) -> None:
    environment = _environment(template, dict(deployment.values))
    bare = ("STAGE", "PARTITION", "MANAGEMENT_ACCOUNT_ID", "SOURCE_PRINCIPAL_ARNS")
    assert Settings.from_env(environment) == Settings.from_env({name: environment[name] for name in bare})


def test_partition_and_account_come_from_pseudo_parameters(template: dict[str, Any], deployment: Deployment) -> None:
    settings = Settings.from_env(_environment(template, dict(deployment.values)))

    assert settings.stage == "dev"
    assert settings.partition == deployment.location.partition
    assert settings.management_account_id == deployment.location.account_id


def test_every_parameter_is_described_and_grouped(template: dict[str, Any]) -> None:
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert {"AllowedPattern", "AllowedValues", "MaxValue"} & parameter.keys(), name
        assert "AllowedPattern" not in parameter or parameter["ConstraintDescription"], name
        assert "Default" in parameter or name in {"Stage", "SourcePrincipalArns"}


def test_every_arn_has_the_partition(deployment: Deployment) -> None:
    resources = [deployment[name] | {"TemplateBody": ""} for name in deployment.expanded["Resources"]]
    resolved = json.dumps(resources)  # without the StackSet's template, which test_access_roles.py checks
    partitions = {text.partition(":")[0] for text in resolved.split("arn:")[1:]}
    # The code replaces "{partition}" in managed policies; a delimiter of Join can't contain a reference.
    assert partitions == {deployment.location.partition, "{partition}", "*"}


def test_functions_have_their_names_runtime_and_timeouts(deployment: Deployment) -> None:
    functions = deployment.of_type("AWS::Lambda::Function").values()
    assert {each["Runtime"] for each in functions} == {"python3.13"}
    assert {each["FunctionName"].removeprefix("rolecall-dev-"): each["Timeout"] for each in functions} == {
        "on_account_event": 30,
        "announce_outcome": 60,
        "enroll": 600,
        "publish": 120,
        "freeze": 60,
        **dict.fromkeys(("backfill", "rerun", "resync", "retire"), 900),
    }


def test_every_log_group_has_the_retention(deployment: Deployment) -> None:
    groups = deployment.of_type("AWS::Logs::LogGroup")
    for function in deployment.of_type("AWS::Lambda::Function").values():
        group = groups[function["LoggingConfig"]["LogGroup"]]
        assert group["LogGroupName"] == f"/aws/lambda/{function['FunctionName']}"
        assert group["RetentionInDays"] == "90"


@pytest.mark.parametrize("function", ["Enroll", "Publish"])
def test_batch_may_fail_in_part(function: str, deployment: Deployment) -> None:
    queue = "AccountsQueue" if function == "Enroll" else "PublishQueue"
    source = deployment[f"{function}{function}SqsEventSource"]
    assert source["EventSourceArn"] == deployment.values[f"{queue}.Arn"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert deployment[queue]["VisibilityTimeout"] >= 6 * deployment[function]["Timeout"]


def test_accounts_are_enrolled_in_parallel_batches(deployment: Deployment) -> None:
    source = deployment["EnrollEnrollSqsEventSource"]
    assert 2 <= int(source["ScalingConfig"]["MaximumConcurrency"]) <= 1000
    assert (source["BatchSize"], source["MaximumBatchingWindowInSeconds"]) == ("50", "1")


def test_publish_queue_runs_one_batch_at_a_time(template: dict[str, Any], deployment: Deployment) -> None:
    """Properties that Lambda rejects for a FIFO queue are absent, not 0."""
    source, queue = deployment["PublishPublishSqsEventSource"], deployment["PublishQueue"]
    assert source.keys() == {"EventSourceArn", "FunctionName", "BatchSize", "FunctionResponseTypes"}
    assert source["BatchSize"] == 10
    assert "MaximumBatchingWindowInSeconds" not in str(template["Resources"]["Publish"])
    assert "ReservedConcurrentExecutions" not in deployment["Publish"]
    assert (queue["FifoQueue"], queue["ContentBasedDeduplication"]) == (True, False)
    assert (queue["VisibilityTimeout"], queue["RedrivePolicy"]["maxReceiveCount"]) == (720, 60)


def test_environment_names_the_publish_function_and_queues(template: dict[str, Any], deployment: Deployment) -> None:
    environment = _environment(template, dict(deployment.values))
    assert environment["PUBLISH_FUNCTION"] == deployment["Publish"]["FunctionName"]
    assert environment["PUBLISH_QUEUE_URL"].endswith(deployment["PublishQueue"]["QueueName"])
    assert environment["PUBLISH_DEAD_LETTER_QUEUE_ARN"] == deployment.values["PublishDeadLetterQueue.Arn"]


def test_queue_retries_longer_than_the_longest_grace(template: dict[str, Any], deployment: Deployment) -> None:
    redrive = deployment["AccountsQueue"]["RedrivePolicy"]
    delays = [min(30 * 2**attempt, 900) for attempt in range(redrive["maxReceiveCount"] - 1)]
    assert sum(delays) > template["Parameters"]["ReadyGraceSeconds"]["MaxValue"]


@pytest.mark.parametrize("name", ["Accounts", "Publish"])
def test_dead_letter_queue_keeps_messages_longer_than_the_queue(name: str, deployment: Deployment) -> None:
    queue, dead = deployment[f"{name}Queue"], deployment[f"{name}DeadLetterQueue"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == deployment.values[f"{name}DeadLetterQueue.Arn"]
    assert queue.get("FifoQueue") == dead.get("FifoQueue")
    assert dead["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [deployment.values[f"{name}Queue.Arn"]],
    }
    assert (
        dead["MessageRetentionPeriod"]
        > queue["MessageRetentionPeriod"]
        > queue["RedrivePolicy"]["maxReceiveCount"] * 900
    )


def test_queues_are_encrypted_and_deny_plain_http(deployment: Deployment) -> None:
    queues = deployment.of_type("AWS::SQS::Queue")
    assert sorted(each["QueueName"] for each in queues.values()) == [
        "rolecall-dev-accounts",
        "rolecall-dev-accounts-dlq",
        "rolecall-dev-announcements-dlq",
        "rolecall-dev-events-dlq",
        "rolecall-dev-publish-dlq.fifo",
        "rolecall-dev-publish.fifo",
    ]
    assert all(each["SqsManagedSseEnabled"] for each in queues.values())
    rejecting = set()
    for policy in deployment.of_type("AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                rejecting |= set(policy["Queues"])
    assert rejecting == {deployment.values[name] for name in queues}


def test_rule_matches_the_events_and_has_a_dead_letter_queue(deployment: Deployment) -> None:
    rule = deployment["OnAccountEventOnAccountEventEvent"]
    (target,) = rule["Targets"]
    assert rule["EventPattern"] == PATTERN
    assert target["Arn"] == deployment.values["OnAccountEvent.Arn"]
    assert target["DeadLetterConfig"]["Arn"] == deployment.values["EventsDeadLetterQueue.Arn"]
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    permission = deployment["OnAccountEventOnAccountEventEventPermission"]
    assert permission["SourceArn"] == deployment.values["OnAccountEventOnAccountEventEvent.Arn"]


def test_only_the_rule_may_send_to_the_events_dead_letter_queue(deployment: Deployment) -> None:
    statements = deployment["EventsDeadLetterQueuePolicy"]["PolicyDocument"]["Statement"]
    (allow,) = [statement for statement in statements if statement["Effect"] == "Allow"]
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert (allow["Action"], allow["Resource"]) == ("sqs:SendMessage", deployment.values["EventsDeadLetterQueue.Arn"])
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": deployment.values["OnAccountEventOnAccountEventEvent.Arn"]}
    }


def test_event_that_the_function_fails_on_is_kept(deployment: Deployment) -> None:
    failed = deployment["OnAccountEventEventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"]
    (policy,) = deployment["OnAccountEventRole"]["Policies"]
    sends = [each for each in policy["PolicyDocument"]["Statement"] if each["Action"] == "sqs:SendMessage"]
    assert failed == deployment.values["EventsDeadLetterQueue.Arn"]
    assert failed in [each["Resource"] for each in sends]


def test_change_is_retried_until_shortly_before_the_stream_drops_it(deployment: Deployment) -> None:
    """Once a record is gone from the stream after 24 hours, nothing reaches the dead-letter queue."""
    mapping = deployment["AnnounceOutcomeAnnounceOutcomeDynamodbEventSource"]
    assert mapping["EventSourceArn"] == deployment.values["LedgerTable.StreamArn"]
    assert deployment["LedgerTable"]["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert (mapping["StartingPosition"], mapping["MaximumRetryAttempts"]) == ("TRIM_HORIZON", -1)
    assert 22 * 3600 <= mapping["MaximumRecordAgeInSeconds"] < 24 * 3600
    failed = mapping["DestinationConfig"]["OnFailure"]["Destination"]
    assert failed == deployment.values["AnnouncementsDeadLetterQueue.Arn"]


def test_without_a_bus_nothing_is_announced(deployment: Deployment) -> None:
    resources = deployment.expanded["Resources"]
    conditional = {name for name, each in resources.items() if each.get("Condition") == "OutcomesAreAnnounced"}
    assert conditional == {
        *("AnnounceOutcome", "AnnounceOutcomeRole", "AnnounceOutcomeLogs"),
        "AnnounceOutcomeAnnounceOutcomeDynamodbEventSource",
        *("AnnouncementsDeadLetterQueue", "AnnouncementsDeadLetterQueuePolicy"),
    }
    others = {name: each for name, each in resources.items() if name not in conditional}
    assert not [name for name in conditional if f'"{name}"' in json.dumps(others)]
    assert deployment.expanded["Conditions"]["OutcomesAreAnnounced"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "EventBusName"}, ""]}]
    }


def test_lambda_retries_only_on_account_event(deployment: Deployment) -> None:
    configs = deployment.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert {each["FunctionName"] for each in configs if each["MaximumRetryAttempts"] == 0} == {
        f"rolecall-dev-{name}" for name in ("publish", "backfill", "rerun", "resync", "retire", "freeze")
    }


def test_schedules_send_valid_requests_and_can_be_disabled(template: dict[str, Any], deployment: Deployment) -> None:
    rules = deployment.of_type("AWS::Events::Rule").values()
    schedules = {each["Name"]: each for each in rules if "ScheduleExpression" in each}
    inputs = {name: each["Targets"][0].get("Input") for name, each in schedules.items()}
    scheduled_event = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    requests = {
        name: read_request(json.loads(text) if text else scheduled_event, Selection.FAILED)
        for name, text in inputs.items()
    }
    assert {name: (each.accounts, each.scheduled) for name, each in requests.items()} == {
        "rolecall-dev-resync": (Selection.ALL, False),
        "rolecall-dev-discovery": (Selection.NEW, False),
        "rolecall-dev-rerun": (Selection.FAILED, True),
    }
    assert {each["State"] for each in schedules.values()} == {"ENABLED"}
    disabled = _known(
        deployment,
        template,
        {"Schedules": "DISABLED"} | {"SourcePrincipalArns": deployment.values["SourcePrincipalArns"]},
    )
    states = {
        resolve(each["Properties"]["State"], disabled)
        for each in deployment.expanded["Resources"].values()
        if "ScheduleExpression" in each["Properties"]
    }
    assert states == {"DISABLED"}


@pytest.mark.parametrize(
    "rate", ["rate(1 hours)", "rate(25 hours)", "rate(2 days)", "rate(0 hours)", "rate(4 minutes)"]
)
def test_rates_that_eventbridge_or_the_alarms_reject_are_not_allowed(rate: str, template: dict[str, Any]) -> None:
    for name in ("ResyncRate", "DiscoveryRate", "RerunRate"):
        assert not re.fullmatch(template["Parameters"][name]["AllowedPattern"], rate)


@pytest.mark.parametrize(
    ("logical_id", "name", "key"),
    [
        ("LedgerTable", "rolecall-dev-ledger", "account_id"),
        ("SourcePolicyTable", "rolecall-dev-source-policy", "policy_name"),
    ],
)
def test_tables_outlive_the_stack(logical_id: str, name: str, key: str, deployment: Deployment) -> None:
    resource, table = deployment.expanded["Resources"][logical_id], deployment[logical_id]
    assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource["UpdateReplacePolicy"] == "Retain"
    assert (table["TableName"], table["KeySchema"]) == (name, [{"AttributeName": key, "KeyType": "HASH"}])
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}


def test_every_resource_has_the_ownership_tags(deployment: Deployment) -> None:
    kinds = (
        "AWS::CloudWatch::Alarm",
        "AWS::DynamoDB::Table",
        "AWS::IAM::Role",
        "AWS::KMS::Key",
        "AWS::Lambda::Function",
        "AWS::Logs::LogGroup",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
    )
    tagged = deployment.of_type(*kinds)
    assert {deployment.expanded["Resources"][name]["Type"] for name in tagged} == set(kinds)
    for name, properties in tagged.items():
        tags = {tag["Key"]: tag["Value"] for tag in properties["Tags"]}
        assert (tags["managed-by"], tags["rolecall-stage"]) == ("rolecall", "dev"), name
