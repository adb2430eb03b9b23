"""Alarms: each fires by what the functions, Lambda and SQS measure, and recovers once its cause is fixed."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from chalicelib.accounts import format_time
from local.organization import REGION, LocalOrganization, allow_policy, trust_policy
from rolecall.errors import FunctionError
from rolecall.stage import ALARMS, Stage
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage, displayed_outcome, environment_changed
from tests.end_to_end.organization_changes import create_without_events, events_dropped

TWO_DAYS = 2 * 86_400


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> DeployedStage:
    """A stage without alarms, whose reader has room for all shards."""
    create_without_events(organization, 4)
    stage = deploy("watched", SourcePrincipalArns=reader, SourcePolicyFillPercent="1")
    assert_recovery(stage)
    return stage


def assert_recovery(stage: DeployedStage) -> None:
    """Run a resync, let two days pass, run another, and check that no alarm is left."""
    stage.invoke_and_wait("resync")
    stage.organization.age_metrics(TWO_DAYS)
    stage.invoke_and_wait("resync")
    assert in_alarm(stage) == set()


def in_alarm(stage: DeployedStage) -> set[str]:
    prefix = f"rolecall-{stage.name}-"
    states = {name.removeprefix(prefix): state for name, state in stage.organization.alarm_states().items()}
    assert states.keys() == set(ALARMS)
    assert set(states.values()) <= {"OK", "ALARM"}
    return {name for name, state in states.items() if state == "ALARM"}


@contextmanager
def foreign_role(stage: DeployedStage) -> Iterator[None]:
    """Create a role with the member role's name in a new account."""
    organization = stage.organization
    (account_id,) = create_without_events(organization)
    organization.create_role(account_id, ROLE, trust_policy(f"arn:aws:iam::{account_id}:root"))
    stage.invoke_and_wait("backfill", accounts=[account_id])
    stage.wait_for_outcome(account_id, "failed", "foreign_role")
    stage.invoke_and_wait("resync")
    yield
    organization.client("iam", account_id).delete_role(RoleName=ROLE)


@contextmanager
def many_policies(stage: DeployedStage) -> Iterator[None]:
    """Attach other policies to the reader until only one shard has room."""
    iam = stage.organization.client("iam")
    quota = iam.get_account_summary()["SummaryMap"]["AttachedPoliciesPerRoleQuota"]
    document = json.dumps(allow_policy("s3:*"))
    arns = [
        iam.create_policy(PolicyName=f"Other{number}", PolicyDocument=document)["Policy"]["Arn"]
        for number in range(1, quota)
    ]
    for arn in arns:
        iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)
    stage.invoke_and_wait("resync", accounts="failed")
    yield
    for arn in arns:
        iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
        iam.delete_policy(PolicyArn=arn)


@contextmanager
def failed_schedule(stage: DeployedStage) -> Iterator[None]:
    """Fire the schedule of a function that has an invalid setting."""
    with environment_changed(stage, "resync", SOURCE_PRINCIPAL_ARNS="invalid"):
        stage.fire("discovery", "resync")
    yield


@contextmanager
def rule_without_function(stage: DeployedStage) -> Iterator[None]:
    """Fire a schedule whose function doesn't exist."""
    events, rule = stage.organization.client("events"), stage.function("rerun")
    targets = events.list_targets_by_rule(Rule=rule)["Targets"]
    events.put_targets(Rule=rule, Targets=[each | {"Arn": f"{each['Arn']}-missing"} for each in targets])
    stage.organization.fire(rule)
    yield
    events.put_targets(Rule=rule, Targets=targets)


@contextmanager
def throttled_invocation(stage: DeployedStage) -> Iterator[None]:
    functions, name = stage.organization.client("lambda"), stage.function("freeze")
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(functions.exceptions.TooManyRequestsException):
        stage.invoke("freeze")
    yield
    functions.delete_function_concurrency(FunctionName=name)


@contextmanager
def missing_principal(stage: DeployedStage) -> Iterator[None]:
    """Configure a second source principal that doesn't exist."""
    missing = f"arn:aws:iam::{stage.organization.management_account_id}:role/Missing"
    principals = f"{stage.environment['SOURCE_PRINCIPAL_ARNS']},{missing}"
    with environment_changed(stage, "publish", SOURCE_PRINCIPAL_ARNS=principals):
        stage.invoke_and_wait("resync", accounts="failed")
        yield


@contextmanager
def late_event(stage: DeployedStage) -> Iterator[None]:
    """Deliver the event of an account that joined two hours ago."""
    with events_dropped(stage.organization):
        account_id = stage.organization.create_account("late")
    stage.organization.age_account(account_id, 7200)
    stage.enqueue(account_id)
    stage.wait_until_idle()
    yield


@contextmanager
def throttled_iam(stage: DeployedStage) -> Iterator[None]:
    """Throttle IAM while an account that was granted access two hours ago is still pending."""
    (account_id,) = create_without_events(stage.organization)
    at = {"S": format_time(datetime.now(UTC) - timedelta(hours=2))}
    row = {"account_id": {"S": account_id}, "outcome": {"S": "enrolled"}, "access": {"S": "granted"}}
    stage.organization.client("dynamodb").put_item(
        TableName=stage.environment["LEDGER_TABLE"], Item=row | {"enrolled_at": at, "updated_at": at}
    )
    stage.organization.throttle(1)
    stage.organization.start_publish(stage.name)
    assert displayed_outcome(stage.rows()[account_id]) == ("pending", "source_policy_pending")
    yield
    stage.organization.throttle(0)


@contextmanager
def no_resync(stage: DeployedStage) -> Iterator[None]:
    stage.organization.age_metrics(TWO_DAYS)
    yield


@pytest.mark.parametrize(
    "causes",
    [
        [
            (failed_schedule, "function-errors"),
            (rule_without_function, "rules-failed"),
            (throttled_invocation, "invocations-throttled"),
            (foreign_role, "accounts-need-attention"),
            (many_policies, "source-policy-full"),
        ],
        [(late_event, "access-slow"), (missing_principal, "publishing-blocked")],
        [(throttled_iam, "access-slow"), (no_resync, "resync-missing")],
    ],
)
def test_alarms_fire_one_by_one_and_recover(
    stage: DeployedStage, causes: list[tuple[Callable[[DeployedStage], AbstractContextManager[None]], str]]
) -> None:
    fired = set()
    with ExitStack() as fixes:
        for cause, alarm in causes:
            fixes.enter_context(cause(stage))
            fired.add(alarm)
            assert in_alarm(stage) == fired
    assert_recovery(stage)


def test_rejected_request_raises_no_alarm(stage: DeployedStage) -> None:
    organization = stage.organization
    session = boto3.Session(organization.management_account_id, "test", region_name=REGION)
    command_line = Stage(stage.name, session, organization.endpoint_url)
    with pytest.raises(FunctionError, match="rolecall-watched-backfill rejected the request: ous contains 'foo'"):
        command_line.invoke("backfill", {"ous": ["foo"], "dry_run": True})
    assert in_alarm(stage) == set()


def test_alarm_on_missing_resyncs_begins_after_thirty_hours(stage: DeployedStage) -> None:
    stage.organization.age_metrics(29 * 3600)
    assert in_alarm(stage) == set()
    stage.organization.age_metrics(1.5 * 3600)
    assert in_alarm(stage) == {"resync-missing"}
    assert_recovery(stage)


def test_resync_that_can_not_verify_the_source_policy_is_no_heartbeat(stage: DeployedStage) -> None:
    iam, management = stage.organization.client("iam"), stage.organization.management_account_id
    arn = f"arn:aws:iam::{management}:policy/{stage.settings.source_policy_name}"
    stage.organization.age_metrics(TWO_DAYS)
    iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "rolecall-stage", "Value": "another"}])
    stage.age_records()
    try:
        stage.invoke_and_wait("resync")
        error = stage.records().shards[0].error
        assert error
        assert error.reason == "foreign_source_policy"
        assert "resync-missing" in in_alarm(stage)
    finally:
        iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "rolecall-stage", "Value": stage.name}])
    assert_recovery(stage)
