"""`rolecall doctor` on a healthy stage and after several faults; tests/unit/test_doctor.py has those of each check."""

import json
import shlex
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from chalicelib.arns import AccountId
from local.organization import REGION, Credentials, LocalOrganization, trust_policy
from local.waiting import wait_until
from rolecall.doctor.checks import CHECKS, run_checks
from rolecall.doctor.context import Context
from rolecall.doctor.result import CheckResult, CheckStatus
from rolecall.doctor.trail import check_trails
from rolecall.stage import Stage
from tests.conftest import ROOT
from tests.end_to_end.calls import ADMINISTRATOR
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import POLICY, Deploy, DeployedStage, environment_changed

TRAIL = "management-events"
TEN_MINUTES = 600
ACCESS_ROLE = "OrganizationAccountAccessRole"
Repair = Callable[[], object]
Fault = Callable[[DeployedStage], Repair]


@pytest.fixture(scope="module")
def member(organization: LocalOrganization) -> str:
    return organization.create_account("member")


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str, member: str) -> DeployedStage:
    """A healthy stage: its trail logs, its alarms have a subscriber, and a resync has verified it."""
    healthy = deploy("healthy", SourcePrincipalArns=reader, AlarmEmail="ops@example.com", EventBusName="default")
    create_trail(organization)
    subscribe(healthy)
    healthy.invoke_and_wait("backfill")
    healthy.invoke_and_wait("resync")
    healthy.wait_for_outcome(member, "enrolled")
    return healthy


def create_trail(organization: LocalOrganization) -> None:
    """Create the stack that the check's remedy deploys; verify/test_remedies.py runs the command itself."""
    words = shlex.split(check_trails([], REGION).remedy or "")
    options = dict(zip(words[3::2], words[4::2], strict=True))
    template = (ROOT / options["--template-file"]).read_text()
    cloudformation = organization.client("cloudformation")
    cloudformation.create_stack(StackName=options["--stack-name"], TemplateBody=template)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=TRAIL, WaiterConfig={"Delay": 1})


def subscribe(stage: DeployedStage) -> str:
    """Subscribe a queue to the alarms' topic."""
    account_id = stage.organization.management_account_id
    subscription = stage.organization.client("sns").subscribe(
        TopicArn=f"arn:aws:sns:{REGION}:{account_id}:rolecall-{stage.name}-alarms",
        Protocol="sqs",
        Endpoint=f"arn:aws:sqs:{REGION}:{account_id}:notifications",
    )
    return str(subscription["SubscriptionArn"])


def results_of(
    stage: DeployedStage, keys: Credentials | None = None, account: str | None = None
) -> dict[str, CheckResult]:
    """Run the checks as root of an account, by default the management account, or with a session's credentials."""
    used = keys or {"AccessKeyId": account or stage.organization.management_account_id, "SecretAccessKey": "test"}
    session = boto3.Session(used["AccessKeyId"], used["SecretAccessKey"], used.get("SessionToken"), region_name=REGION)
    context = Context(Stage(stage.name, session, stage.organization.endpoint_url))
    return {check.name: result for check, result in run_checks(context)}


def failures(results: dict[str, CheckResult]) -> dict[str, str]:
    return {name: result.summary for name, result in results.items() if result.status is CheckStatus.FAILED}


def policy_arn(stage: DeployedStage) -> str:
    return f"arn:aws:iam::{stage.organization.management_account_id}:policy/{POLICY}"


def no_trail(stage: DeployedStage) -> Repair:
    cloudformation = stage.organization.client("cloudformation")
    cloudformation.delete_stack(StackName=TRAIL)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=TRAIL, WaiterConfig={"Delay": 1})
    return lambda: create_trail(stage.organization)


def no_source_principal(stage: DeployedStage) -> Repair:
    iam, policy = stage.organization.client("iam"), policy_arn(stage)
    iam.detach_role_policy(RoleName="Reader", PolicyArn=policy)
    iam.delete_role(RoleName="Reader")

    def repair() -> None:
        stage.organization.create_source_principal("Reader")
        iam.attach_role_policy(RoleName="Reader", PolicyArn=policy)

    return repair


def detached(stage: DeployedStage) -> Repair:
    iam, policy = stage.organization.client("iam"), policy_arn(stage)
    iam.detach_role_policy(RoleName="Reader", PolicyArn=policy)
    return lambda: iam.attach_role_policy(RoleName="Reader", PolicyArn=policy)


def no_access_role(stage: DeployedStage) -> Repair:
    management = stage.organization.management_account_id
    (member,) = set(stage.rows()) - {management}
    iam = stage.organization.client("iam", member)
    iam.detach_role_policy(RoleName=ACCESS_ROLE, PolicyArn=ADMINISTRATOR)
    iam.delete_role(RoleName=ACCESS_ROLE)
    trust = trust_policy(f"arn:aws:iam::{management}:root")
    return lambda: stage.organization.create_role(member, ACCESS_ROLE, trust, policies=[ADMINISTRATOR])


def disabled_schedule(stage: DeployedStage) -> Repair:
    events, name = stage.organization.client("events"), stage.function("discovery")
    events.disable_rule(Name=name)
    return lambda: events.enable_rule(Name=name)


def disabled_mapping(stage: DeployedStage) -> Repair:
    functions = stage.organization.client("lambda")
    (mapping,) = functions.list_event_source_mappings(FunctionName=stage.function("enroll"))["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    return lambda: functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def dead_letter(stage: DeployedStage) -> Repair:
    sqs = stage.organization.client("sqs")
    url = sqs.get_queue_url(QueueName=stage.queue("accounts-dlq"))["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="garbage")

    def repair() -> None:
        sqs.purge_queue(QueueUrl=url)
        stage.organization.age_metrics(TEN_MINUTES)

    return repair


FAULTS: list[tuple[Fault, dict[str, str]]] = [
    (no_trail, {"trail": "no trail in us-east-1"}),
    (no_source_principal, {"source principals": "arn:aws:iam::111122223333:role/Reader does not exist"}),
    (detached, {"attachments": f"{POLICY} is not attached to Reader"}),
    (no_access_role, {"access role": "no access role could be assumed"}),
    (disabled_schedule, {"schedules": "rule rolecall-healthy-discovery is disabled"}),
    (disabled_mapping, {"queue mappings": "its event source mapping is Disabled"}),
    (dead_letter, {"queues": "accounts-dlq is not empty (1)", "alarms": "dead-letters in ALARM"}),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_fault_fails_its_check_and_no_other(stage: DeployedStage, fault: Fault, expected: dict[str, str]) -> None:
    repair = fault(stage)
    try:
        results = results_of(stage)
    finally:
        repair()
    found = failures(results)
    assert found.keys() == expected.keys()
    for name, summary in expected.items():
        assert summary in found[name]
        assert results[name].remedy


def test_healthy_stage_passes_every_check(stage: DeployedStage, organization: LocalOrganization) -> None:
    ran = CommandLine(organization, stage.name)("doctor")
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    *lines, counts = ran.stdout.splitlines()
    for line, check in zip(lines, CHECKS, strict=True):
        assert line.startswith(f"✔ {check.name}")
    assert counts == f"{len(CHECKS)} ok, 0 failed, 0 unknown"


def test_failed_check_has_its_remedy_on_the_same_line(
    stage: DeployedStage, organization: LocalOrganization, member: str
) -> None:
    rolecall = CommandLine(organization, stage.name)
    repair = disabled_mapping(stage)
    try:
        page, data = rolecall("doctor"), rolecall("doctor", "--account", member, "--json")
    finally:
        repair()
    (line,) = [line for line in page.stdout.splitlines() if line.startswith("✘")]
    (check,) = [each for each in json.loads(data.stdout)["checks"] if each["status"] == "failed"]
    assert line == f"✘ queue mappings     {check['summary']} → {check['remedy']}"
    assert (page.returncode, data.returncode, check["name"]) == (1, 1, "queue mappings")
    assert check["remedy"].startswith("aws lambda update-event-source-mapping --uuid ")


def test_other_account_and_region_fail(stage: DeployedStage, organization: LocalOrganization, member: str) -> None:
    results = results_of(stage, account=AccountId(member))
    found = failures(results)
    assert found.keys() == {"credentials"}
    assert f"arn:aws:iam::{member}:root is not of the management account of " in found["credentials"]
    assert results["stage"].summary == "not checked with these credentials"
    ran = CommandLine(organization, stage.name)("--region", "eu-west-1", "doctor")
    assert ran.returncode == 1
    assert "✘ region             eu-west-1: organization events are delivered only in us-east-1" in ran.stdout
    assert "✔ trail" in ran.stdout
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("?")]
    assert " checks          stage healthy is not deployed: functions, rule, queue mappings, " in line


def test_denied_check_is_unknown_and_names_the_permission(
    stage: DeployedStage, organization: LocalOrganization
) -> None:
    denied = ["events:DescribeRule", "organizations:DescribeOrganization", "dynamodb:Scan", "lambda:InvokeFunction"]
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": denied, "Resource": "*"},
    ]
    management = organization.management_account_id
    role = organization.create_role(
        management,
        "Limited",
        trust_policy(f"arn:aws:iam::{management}:root"),
        inline={"Version": "2012-10-17", "Statement": statements},
    )
    results = results_of(stage, organization.as_role(role))
    remedies = {name: result.remedy for name, result in results.items() if result.status is not CheckStatus.OK}
    checks = {
        "organizations:DescribeOrganization": ("credentials", "features"),
        "events:DescribeRule": ("rule", "schedules"),
        "dynamodb:Scan": ("attachments", "access role", "freeze", "source policy"),
    }
    assert remedies == {
        name: f"allow these credentials {permission}" for permission, names in checks.items() for name in names
    }


@pytest.mark.usefixtures("stage")
def test_source_principals_credentials_fail_one_check(organization: LocalOrganization, reader: str) -> None:
    keys = organization.as_role(reader)
    ran = CommandLine(organization, "")(
        "doctor",
        AWS_ACCESS_KEY_ID=keys["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=keys["SecretAccessKey"],
        AWS_SESSION_TOKEN=keys["SessionToken"],
    )
    assert (ran.returncode, ran.stderr) == (1, "")
    credentials, region, others, counts = ran.stdout.splitlines()
    assert credentials.startswith("✘ credentials        arn:aws:sts::111122223333:assumed-role/Reader/")
    assert " may read neither the organization nor stage prod" in credentials
    assert region.startswith("✔ region")
    assert f"? {len(CHECKS) - 2} checks          not checked with these credentials: features, trail, " in others
    assert counts == f"1 ok, 1 failed, {len(CHECKS) - 2} unknown"


def test_invalid_setting_fails_the_stage_check(stage: DeployedStage) -> None:
    with environment_changed(stage, "enroll", ACCESS_ROLE_NAMES="a b"):
        assert "ACCESS_ROLE_NAMES contains 'a b'" in failures(results_of(stage))["stage"]
    wait_until(lambda: results_of(stage)["functions"].status is CheckStatus.OK, "the update of enroll is complete")
