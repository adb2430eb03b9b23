"""Each of the stage's own metrics is driven over its threshold by the code that measures it, and back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.accounts import format_time
from local.organization import InvocationError, LocalOrganization, allowing, trusting
from tests.end_to_end.deployed_stage import Deploy, shown
from tests.end_to_end.swept_stage import ROLE, SweptStage, events_dropped, unheard_of

OWN = {
    "accounts-need-attention",
    "source-policy-full",
    "resync-missing",
    "publishing-blocked",
    "access-slow",
}
OTHERS = {"dead-letters", "queue-age", "function-errors", "invocations-throttled", "rules-failed"}
TWO_DAYS = 2 * 86_400


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> SweptStage:
    """A stage of five accounts, whose reader has room for all the shards that there may be."""
    unheard_of(organization, 4)
    return SweptStage(organization, deploy("watched", SourcePrincipalArns=reader, SourcePolicyFillPercent="1").name)


@pytest.fixture
def quiet(stage: SweptStage) -> SweptStage:
    """All is well, and a resync has just said so."""
    stage.sweep("resync")
    stage.organization.age_metrics(TWO_DAYS)
    stage.sweep("resync")
    assert states(stage) == dict.fromkeys(OWN | OTHERS, "OK")
    return stage


def states(stage: SweptStage) -> dict[str, str]:
    prefix = f"rolecall-{stage.name}-"
    return {name.removeprefix(prefix): state for name, state in stage.organization.alarm_states().items()}


def fail(stage: SweptStage) -> Callable[[], object]:
    """An account has a role of that name that is somebody else's."""
    organization = stage.organization
    (account_id,) = unheard_of(organization)
    organization.create_role(account_id, ROLE, trusting(f"arn:aws:iam::{account_id}:root"))
    stage.sweep("backfill", accounts=[account_id])
    stage.settled(account_id, "failed", "foreign_role")
    stage.sweep("resync")
    return lambda: organization.client("iam", account_id).delete_role(RoleName=ROLE)


def fill(stage: SweptStage) -> Callable[[], object]:
    """The reader has so many other policies that one shard is all that it has room for."""
    iam = stage.organization.client("iam")
    quota = iam.get_account_summary()["SummaryMap"]["AttachedPoliciesPerRoleQuota"]
    others = [
        iam.create_policy(PolicyName=f"Other{number}", PolicyDocument=json.dumps(allowing("s3:*")))["Policy"]["Arn"]
        for number in range(1, quota)
    ]
    for arn in others:
        iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)
    stage.sweep("resync")

    def mend() -> None:
        for arn in others:
            iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
            iam.delete_policy(PolicyArn=arn)

    return mend


def stop_resyncs(stage: SweptStage) -> Callable[[], object]:
    """For two days no resync ran."""
    stage.organization.age_metrics(TWO_DAYS)
    return lambda: None


def lose_a_principal(stage: SweptStage) -> Callable[[], object]:
    """One of two source principals does not exist."""
    functions, function, right = stage.organization.client("lambda"), stage.function("publish"), stage.environment
    both = f"{right['SOURCE_PRINCIPAL_ARNS']},arn:aws:iam::{stage.organization.management_account_id}:role/Missing"
    wrong = right | {"SOURCE_PRINCIPAL_ARNS": both}
    functions.update_function_configuration(FunctionName=function, Environment={"Variables": wrong})
    stage.sweep("resync", accounts="failed")
    return lambda: functions.update_function_configuration(FunctionName=function, Environment={"Variables": right})


def throttle(stage: SweptStage) -> Callable[[], object]:
    """IAM throttles every call, and an account was granted access two hours ago."""
    (account_id,) = unheard_of(stage.organization)
    at = {"S": format_time(datetime.now(UTC) - timedelta(hours=2))}
    row = {"account_id": {"S": account_id}, "outcome": {"S": "enrolled"}, "access": {"S": "granted"}}
    stage.organization.client("dynamodb").put_item(
        TableName=stage.environment["LEDGER_TABLE"], Item=row | {"enrolled_at": at, "updated_at": at}
    )
    stage.organization.throttle(1)
    stage.organization.start_publish(stage.name)
    assert shown(stage.rows()[account_id]) == ("pending", "source_policy_pending")
    return lambda: stage.organization.throttle(0)


def enroll_late(stage: SweptStage) -> Callable[[], object]:
    """The event that tells of a new account arrives two hours after it joined."""
    with events_dropped(stage.organization):
        account_id = stage.organization.create_account("late")
    stage.organization.age_account(account_id, 7200)
    stage.hear(account_id)
    stage.settled(account_id, "enrolled")
    return lambda: None


@pytest.mark.parametrize(
    ("drive", "alarm"),
    [
        (fail, "accounts-need-attention"),
        (fill, "source-policy-full"),
        (stop_resyncs, "resync-missing"),
        (lose_a_principal, "publishing-blocked"),
        (throttle, "access-slow"),
        (enroll_late, "access-slow"),
    ],
)
def test_an_alarm_of_our_own_fires_by_what_the_functions_measure_and_ends_when_it_is_mended(
    quiet: SweptStage, drive: Callable[[SweptStage], Callable[[], object]], alarm: str
) -> None:
    mend = drive(quiet)
    try:
        assert states(quiet) == dict.fromkeys(OWN | OTHERS, "OK") | {alarm: "ALARM"}
    finally:
        mend()
    quiet.sweep("resync")
    quiet.organization.age_metrics(TWO_DAYS)
    quiet.sweep("resync")
    assert states(quiet)[alarm] == "OK"


def test_a_resync_that_cannot_verify_the_source_policy_is_no_heartbeat(quiet: SweptStage) -> None:
    iam, management = quiet.organization.client("iam"), quiet.organization.management_account_id
    arn = f"arn:aws:iam::{management}:policy/{quiet.settings.source_policy_name}"
    quiet.organization.age_metrics(TWO_DAYS)
    iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "rolecall-stage", "Value": "another"}])
    quiet.age_records()
    try:
        quiet.sweep("resync")
        error = quiet.records().shards[0].error
        assert error
        assert error.reason == "foreign_source_policy"
        assert quiet.alarm("resync-missing") == "ALARM"
    finally:
        iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "rolecall-stage", "Value": quiet.name}])


def test_the_functions_own_errors_are_alarmed_on(quiet: SweptStage) -> None:
    with pytest.raises(InvocationError):
        quiet.ask("backfill", accounts=[])
    assert quiet.alarm("function-errors") == "ALARM"
