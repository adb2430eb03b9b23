"""`rolecall doctor` on a stage where all is well, and on one where one thing after the other is broken by hand."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from chalicelib.settings import Settings
from local.organization import REGION, Credentials, LocalOrganization, trust_policy
from local.waiting import wait_until
from rolecall.doctor.checks import CHECKS, run_checks
from rolecall.doctor.context import Context
from rolecall.doctor.result import CheckResult, CheckStatus
from rolecall.stage import Stage
from tests.end_to_end.calls import ADMINISTRATOR
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import POLICY, Deploy, DeployedStage

TRAIL = "management-events"
TEN_MINUTES = 600
ACCESS_ROLE = "OrganizationAccountAccessRole"
Mend = Callable[[], object]


@pytest.fixture(scope="module")
def member(organization: LocalOrganization) -> str:
    return organization.create_account("member")


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str, member: str) -> DeployedStage:
    """A stage of two accounts where all is well: its trail logs, somebody hears its alarms, a resync has verified it."""
    made = DeployedStage(organization, deploy("healthy", SourcePrincipalArns=reader, AlarmEmail="ops@example.com").name)
    make_trail(organization)
    listen(made)
    made.invoke_and_wait("backfill")
    made.invoke_and_wait("resync")
    made.wait_for_outcome(member, "enrolled")
    return made


def make_trail(organization: LocalOrganization) -> None:
    cloudtrail = organization.client("cloudtrail")
    cloudtrail.create_trail(Name=TRAIL, S3BucketName="trails", IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name=TRAIL)


def listen(stage: DeployedStage) -> str:
    """Have a queue hear the alarms."""
    queue = f"arn:aws:sqs:{REGION}:{stage.organization.management_account_id}:heard"
    topic = f"arn:aws:sns:{REGION}:{stage.organization.management_account_id}:rolecall-{stage.name}-alarms"
    subscribed = stage.organization.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    return str(subscribed["SubscriptionArn"])


def examined(
    stage: DeployedStage, keys: Credentials | None = None, *, region: str = REGION, account: str | None = None
) -> dict[str, CheckResult]:
    """Examine the stage as the root of the management account, or of another, or with a session's credentials."""
    used = keys or {"AccessKeyId": account or stage.organization.management_account_id, "SecretAccessKey": "test"}
    session = boto3.Session(used["AccessKeyId"], used["SecretAccessKey"], used.get("SessionToken"), region_name=region)
    context = Context(Stage(stage.name, session, stage.organization.endpoint_url))
    return {check.name: finding for check, finding in run_checks(context)}


def bad(found: dict[str, CheckResult]) -> dict[str, str]:
    return {name: finding.summary for name, finding in found.items() if finding.status is CheckStatus.FAILED}


def no_trail(stage: DeployedStage) -> Mend:
    stage.organization.client("cloudtrail").delete_trail(Name=TRAIL)
    return lambda: make_trail(stage.organization)


def idle_trail(stage: DeployedStage) -> Mend:
    cloudtrail = stage.organization.client("cloudtrail")
    cloudtrail.stop_logging(Name=TRAIL)
    return lambda: cloudtrail.start_logging(Name=TRAIL)


def reading_trail(stage: DeployedStage) -> Mend:
    cloudtrail = stage.organization.client("cloudtrail")

    def select(kind: str) -> None:
        selectors = [{"ReadWriteType": kind, "IncludeManagementEvents": True, "DataResources": []}]
        cloudtrail.put_event_selectors(TrailName=TRAIL, EventSelectors=selectors)

    select("ReadOnly")
    return lambda: select("All")


def no_reader(stage: DeployedStage) -> Mend:
    iam, organization = stage.organization.client("iam"), stage.organization
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
    iam.delete_role(RoleName="Reader")

    def mend() -> None:
        organization.create_source_principal("Reader")
        iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)

    return mend


def full_reader(stage: DeployedStage) -> Mend:
    """The reader lost the source policy, and other policies took all the room."""
    iam, management = stage.organization.client("iam"), stage.organization.management_account_id
    ours = f"arn:aws:iam::{management}:policy/{POLICY}"
    document = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}})
    others = [
        iam.create_policy(PolicyName=f"Other{number}", PolicyDocument=document)["Policy"]["Arn"] for number in range(10)
    ]
    iam.detach_role_policy(RoleName="Reader", PolicyArn=ours)
    for arn in others:
        iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)

    def mend() -> None:
        for arn in others:
            iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
            iam.delete_policy(PolicyArn=arn)
        iam.attach_role_policy(RoleName="Reader", PolicyArn=ours)

    return mend


def detached(stage: DeployedStage) -> Mend:
    iam, management = stage.organization.client("iam"), stage.organization.management_account_id
    policy = {"RoleName": "Reader", "PolicyArn": f"arn:aws:iam::{management}:policy/{POLICY}"}
    iam.detach_role_policy(**policy)
    return lambda: iam.attach_role_policy(**policy)


def no_access_role(stage: DeployedStage) -> Mend:
    (member,) = set(stage.rows()) - {stage.organization.management_account_id}
    iam = stage.organization.client("iam", member)
    iam.detach_role_policy(RoleName=ACCESS_ROLE, PolicyArn=ADMINISTRATOR)
    iam.delete_role(RoleName=ACCESS_ROLE)

    def mend() -> None:
        trust = trust_policy(f"arn:aws:iam::{stage.organization.management_account_id}:root")
        stage.organization.create_role(member, ACCESS_ROLE, trust, policies=[ADMINISTRATOR])

    return mend


def disabled_rule(stage: DeployedStage) -> Mend:
    events, name = stage.organization.client("events"), stage.function("account-events")
    events.disable_rule(Name=name)
    return lambda: events.enable_rule(Name=name)


def disabled_schedule(stage: DeployedStage) -> Mend:
    events, name = stage.organization.client("events"), stage.function("discovery")
    events.disable_rule(Name=name)
    return lambda: events.enable_rule(Name=name)


def disabled_mapping(stage: DeployedStage) -> Mend:
    functions = stage.organization.client("lambda")
    (mapping,) = functions.list_event_source_mappings(FunctionName=stage.function("enroll"))["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    return lambda: functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def stopped_function(stage: DeployedStage) -> Mend:
    functions, name = stage.organization.client("lambda"), stage.function("on_account_event")
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    return lambda: functions.delete_function_concurrency(FunctionName=name)


def logs_for_ever(stage: DeployedStage) -> Mend:
    logs, group = stage.organization.client("logs"), f"/aws/lambda/{stage.function('enroll')}"
    logs.delete_retention_policy(logGroupName=group)
    return lambda: logs.put_retention_policy(logGroupName=group, retentionInDays=90)


def dead_letter(stage: DeployedStage) -> Mend:
    sqs = stage.organization.client("sqs")
    url = sqs.get_queue_url(QueueName=stage.function("accounts-dlq"))["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="garbage")

    def mend() -> None:
        sqs.purge_queue(QueueUrl=url)
        stage.organization.age_metrics(TEN_MINUTES)

    return mend


def nobody_listens(stage: DeployedStage) -> Mend:
    """Whom the alarms are mailed to has not confirmed, and nothing else hears them."""
    sns = stage.organization.client("sns")
    sns.unsubscribe(SubscriptionArn=listen(stage))
    return lambda: listen(stage)


def frozen(stage: DeployedStage) -> Mend:
    stage.invoke_and_wait("freeze", frozen=True)
    return lambda: stage.invoke_and_wait("freeze", frozen=False)


def no_alarm(stage: DeployedStage) -> Mend:
    cloudwatch, name = stage.organization.client("cloudwatch"), stage.function("queue-age")
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    cloudwatch.delete_alarms(AlarmNames=[name])
    kept: set[str] = set(cloudwatch.meta.service_model.operation_model("PutMetricAlarm").input_shape.members)
    return lambda: cloudwatch.put_metric_alarm(**{key: value for key, value in alarm.items() if key in kept})


BROKEN: list[tuple[Callable[[DeployedStage], Mend], dict[str, str]]] = [
    (no_trail, {"trail": "no trail in us-east-1"}),
    (idle_trail, {"trail": f"trail {TRAIL} is not logging"}),
    (reading_trail, {"trail": f"trail {TRAIL} records no write management events"}),
    (no_reader, {"source principals": "source principal arn:aws:iam::111122223333:role/Reader does not exist"}),
    (full_reader, {"attachments": f"10 of 10 policies are attached to Reader: no room for {POLICY}"}),
    (detached, {"attachments": f"{POLICY} is not attached to Reader"}),
    (no_access_role, {"access role": "no access role could be assumed"}),
    (disabled_rule, {"rule": "rule rolecall-healthy-account-events is disabled"}),
    (disabled_schedule, {"schedules": "rule rolecall-healthy-discovery is disabled"}),
    (disabled_mapping, {"queue mappings": "its event source mapping is Disabled"}),
    (stopped_function, {"functions": "function rolecall-healthy-on_account_event is stopped"}),
    (logs_for_ever, {"logs": "log group /aws/lambda/rolecall-healthy-enroll has no retention"}),
    (dead_letter, {"queues": "accounts-dlq is not empty (1)", "alarms": "dead-letters in ALARM"}),
    (no_alarm, {"alarms": "alarm queue-age does not exist"}),
    (nobody_listens, {"alarm topic": "ops@example.com has not confirmed the subscription"}),
    (frozen, {"freeze": "every new session is denied"}),
]


@pytest.mark.parametrize(("broken", "faults"), BROKEN, ids=[each.__name__ for each, _ in BROKEN])
def test_each_fault_is_named_and_nothing_else_is(
    stage: DeployedStage, broken: Callable[[DeployedStage], Mend], faults: dict[str, str]
) -> None:
    mend = broken(stage)
    try:
        found = examined(stage)
    finally:
        mend()
    assert bad(found) == {name: found[name].summary for name in faults}
    for name, fault in faults.items():
        assert fault in found[name].summary
        assert found[name].remedy


def test_where_all_is_well_every_line_says_so(stage: DeployedStage, organization: LocalOrganization) -> None:
    ran = CommandLine(organization, stage.name)("doctor")
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    *lines, counts = ran.stdout.splitlines()
    assert [line[0] for line in lines] == ["✔"] * len(CHECKS)
    assert [line[2:].startswith(check.name) for line, check in zip(lines, CHECKS, strict=True)] == [True] * len(CHECKS)
    assert counts == f"{len(CHECKS)} ok, 0 failed, 0 unknown"


def test_what_is_wrong_stands_beside_what_mends_it(
    stage: DeployedStage, organization: LocalOrganization, member: str
) -> None:
    rolecall = CommandLine(organization, stage.name)
    mend = disabled_mapping(stage)
    try:
        ran, told = rolecall("doctor"), rolecall("doctor", "--account", member, "--json")
    finally:
        mend()
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("✘")]
    (check,) = [each for each in json.loads(told.stdout)["checks"] if each["status"] == "failed"]
    assert line == f"✘ queue mappings     {check['summary']} → {check['remedy']}"
    assert (ran.returncode, told.returncode, check["name"]) == (1, 1, "queue mappings")
    assert check["remedy"].startswith("aws lambda update-event-source-mapping --uuid ")


def test_another_accounts_credentials_and_another_region_are_named_and_what_they_cannot_show_is_left_open(
    stage: DeployedStage, organization: LocalOrganization, member: str
) -> None:
    elsewhere = bad(examined(stage, account=member))
    assert "whose management account is 111122223333" in elsewhere["account"]
    assert "stage healthy is not deployed in us-east-1" in elsewhere["stage"]
    ran = CommandLine(organization, stage.name)("--region", "eu-west-1", "doctor")
    assert ran.returncode == 1
    assert "✘ region             eu-west-1: organization events are delivered only in us-east-1" in ran.stdout
    assert "✔ trail" in ran.stdout
    assert "? rule               stage healthy is not deployed" in ran.stdout


def test_what_may_not_be_looked_at_cannot_be_told_and_the_permission_is_named(
    stage: DeployedStage, organization: LocalOrganization
) -> None:
    denied = ["events:DescribeRule", "organizations:DescribeOrganization", "dynamodb:Scan", "lambda:InvokeFunction"]
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": denied, "Resource": "*"},
    ]
    management = organization.management_account_id
    onlooker = organization.create_role(
        management,
        "Onlooker",
        trust_policy(f"arn:aws:iam::{management}:root"),
        inline={"Version": "2012-10-17", "Statement": statements},
    )
    found = examined(stage, organization.as_role(onlooker))
    open_ = {name: finding.remedy for name, finding in found.items() if finding.status is not CheckStatus.OK}
    described, scanned = "events:DescribeRule", "dynamodb:Scan"
    assert open_ == {
        name: f"allow these credentials {permission}"
        for name, permission in {
            "account": "organizations:DescribeOrganization",
            "features": "organizations:DescribeOrganization",
            "rule": described,
            "schedules": described,
            "attachments": scanned,
            "access role": scanned,
            "freeze": scanned,
            "source policy": scanned,
        }.items()
    }


def test_a_stage_whose_settings_are_wrong_says_which(stage: DeployedStage) -> None:
    functions, name = stage.organization.client("lambda"), stage.function("enroll")
    variables = stage.environment
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": variables | {"ACCESS_ROLE_NAMES": "a b"}}
    )
    try:
        assert "ACCESS_ROLE_NAMES holds 'a b'" in bad(examined(stage))["stage"]
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        wait_until(lambda: examined(stage)["functions"].status is CheckStatus.OK, "the function is changed")
    assert stage.settings == Settings.from_env(variables)
