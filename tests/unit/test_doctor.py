"""What each check makes of what AWS tells."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.doctor import access, deployed, place, readers, running
from rolecall.doctor.command import exit_status
from rolecall.doctor.examination import CHECKS, kept_out
from rolecall.doctor.finding import Check, Finding, Verdict, ok
from rolecall.doctor.patient import Patient
from rolecall.doctor.trail import Trail, judge
from rolecall.reasons import REMEDY
from rolecall.regions import EVENT_REGIONS
from rolecall.source_policy import RESTORE
from rolecall.stage import DEAD_LETTER_QUEUES, WORK_QUEUES, Queue, Stage
from tests.unit.builders import MANAGEMENT, MEMBER, SOURCE, settings
from tests.unit.ledger_rows import NOW, SHARD, records, shard

PATIENT = Patient(Stage("dev", boto3.Session("key", "secret", region_name="us-east-1")))
READER = settings().source_principals[0]
TEMPLATE = (Path(__file__).parents[2] / ".chalice" / "resources.yaml").read_text()
RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
TOPIC = "arn:aws:sns:us-east-1:111122223333:rolecall-dev-alarms"


def basic(**selector: Any) -> dict[str, Any]:
    return {"EventSelectors": [selector]}


def advanced(**fields: dict[str, list[str]]) -> dict[str, Any]:
    fields = {"eventCategory": {"Equals": ["Management"]}, **fields}
    return {"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": key, **value} for key, value in fields.items()]}]}


@pytest.mark.parametrize(
    ("selectors", "records"),
    [
        (basic(ReadWriteType="All", IncludeManagementEvents=True), True),
        (basic(ReadWriteType="WriteOnly", IncludeManagementEvents=True), True),
        (basic(ReadWriteType="ReadOnly", IncludeManagementEvents=True), False),
        (basic(ReadWriteType="All", IncludeManagementEvents=False), False),
        (basic(ReadWriteType="All", ExcludeManagementEventSources=["kms.amazonaws.com"]), True),
        (advanced(), True),
        (advanced(readOnly={"Equals": ["false"]}), True),
        (advanced(readOnly={"Equals": ["true"]}), False),
        (advanced(eventSource={"NotEquals": ["kms.amazonaws.com", "rdsdata.amazonaws.com"]}), True),
        (advanced(eventSource={"NotEquals": ["organizations.amazonaws.com"]}), False),
        (advanced(eventSource={"Equals": ["iam.amazonaws.com"]}), False),
        (advanced(eventSource={"StartsWith": ["org"]}), True),
        (advanced(eventSource={"NotStartsWith": ["org"]}), False),
        (advanced(eventSource={"EndsWith": [".amazonaws.com"], "NotEndsWith": [".com"]}), False),
        (advanced(eventCategory={"Equals": ["Data"]}), False),
        (advanced(somethingNew={"Equals": ["maybe"]}), False),
        ({}, False),
    ],
)
def test_a_trail_records_write_management_events_by_either_kind_of_selectors(
    selectors: dict[str, Any], records: bool
) -> None:
    assert Trail(name="trail", home_region="us-east-1", is_logging=True, selectors=selectors).records_writes is records


def trail(name: str, kind: str, *, is_logging: bool, home: str = "us-east-1") -> Trail:
    return Trail(name=name, home_region=home, is_logging=is_logging, selectors=basic(ReadWriteType=kind))


def test_one_trail_that_logs_is_enough_and_the_nearest_to_it_is_what_must_be_mended() -> None:
    idle, reading = (
        trail("idle", "All", is_logging=False, home="eu-west-1"),
        trail("reading", "ReadOnly", is_logging=True),
    )
    good, neither = trail("good", "All", is_logging=True), trail("neither", "ReadOnly", is_logging=False)
    assert judge([idle, reading, good], "us-east-1").verdict is Verdict.OK
    assert judge([reading, idle], "us-east-1") == Finding(
        Verdict.WRONG,
        "trail idle is not logging",
        "aws cloudtrail start-logging --name idle --region eu-west-1",
    )
    selectors = "--event-selectors ReadWriteType=All,IncludeManagementEvents=true"
    put = f"aws cloudtrail put-event-selectors --trail-name reading --region us-east-1 {selectors}"
    assert judge([reading], "us-east-1").mend == put
    start = "; aws cloudtrail start-logging --name neither --region us-east-1"
    assert judge([neither], "us-east-1").mend == put.replace("reading", "neither") + start
    assert "EventBridge hears nothing" in judge([], "us-east-1").saw


@pytest.mark.parametrize("region", EVENT_REGIONS.values())
def test_the_region_is_the_one_that_hears_the_organizations_events(region: str) -> None:
    assert place.judge_region(region, region).verdict is Verdict.OK
    assert place.judge_region("eu-west-1", region).mend == f"rolecall --region {region} doctor"


def test_the_account_is_the_one_that_leads_an_organization_with_all_features() -> None:
    whole = {"Id": "o-1", "MasterAccountId": MANAGEMENT, "FeatureSet": "ALL"}
    assert place.judge_account(MANAGEMENT, whole).verdict is Verdict.OK
    assert f"whose management account is {MANAGEMENT}" in place.judge_account(MEMBER, whole).saw
    assert place.judge_account(MEMBER, None).saw == f"{MEMBER} is in no organization"
    assert place.judge_features(whole).verdict is Verdict.OK
    billed = place.judge_features(whole | {"FeatureSet": "CONSOLIDATED_BILLING"})
    assert (billed.verdict, billed.mend) == (Verdict.WRONG, "aws organizations enable-all-features")
    assert place.judge_features(None).verdict is Verdict.WRONG


def function(**configuration: str) -> dict[str, Any]:
    return {"Configuration": configuration}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (function(State="Active", LastUpdateStatus="Successful"), Verdict.OK),
        (function(State="Inactive", LastUpdateStatus="Successful"), Verdict.OK),
        (function(State="Active", LastUpdateStatus="InProgress"), Verdict.CANT_TELL),
        (function(State="Pending"), Verdict.CANT_TELL),
        (function(State="Failed", StateReason="no subnet"), Verdict.WRONG),
        (function(State="Active", LastUpdateStatus="Failed"), Verdict.WRONG),
        (function(State="Active") | {"Concurrency": {"ReservedConcurrentExecutions": 0}}, Verdict.WRONG),
        (function(State="Active") | {"Concurrency": {"ReservedConcurrentExecutions": 5}}, Verdict.OK),
        (None, Verdict.WRONG),
    ],
)
def test_functions_are_there_and_can_run(found: dict[str, Any] | None, verdict: Verdict) -> None:
    judged = deployed.judge_functions({"well": function(State="Active"), "other": found}, "make deploy")
    assert judged.verdict is verdict
    assert verdict is Verdict.OK or "other" in judged.saw


def test_a_rule_is_enabled_and_invokes_its_function() -> None:
    target = f"arn:aws:lambda:us-east-1:{MANAGEMENT}:function:worker"

    def judged(state: str | None, *targets: str) -> Finding:
        return deployed.judge_rule("rule", {"State": state} if state else None, targets, "worker", PATIENT)

    assert judged("ENABLED", target).verdict is Verdict.OK
    assert judged("DISABLED", target).mend == "aws events enable-rule --name rule --region us-east-1"
    assert judged("ENABLED", target + "s").saw == "rule rule does not invoke worker"
    assert judged(None).saw == "there is no rule rule"


def test_queue_without_an_enabled_mapping_is_not_consumed() -> None:
    def judged(*states: str) -> Finding:
        mappings = [{"EventSourceArn": "arn:aws:sqs:::queue", "State": state, "UUID": "1"} for state in states]
        return deployed.judge_mapping(mappings, "queue", "enroll", PATIENT)

    assert judged("Enabled") == ok("queue invokes rolecall-dev-enroll")
    assert "update-event-source-mapping --uuid 1 --enabled" in (judged("Disabled").mend or "")
    assert "there is no event source mapping" in judged().saw


def test_logs_are_there_and_end() -> None:
    groups = ["/a", "/b"]
    assert deployed.judge_logs({"/a": 90, "/b": 90}, groups, PATIENT) == ok("kept for 90 days")
    assert deployed.judge_logs({"/a": 90, "/b": None}, groups, PATIENT).saw == "/b is kept for ever"
    assert deployed.judge_logs({"/a": 90}, groups, PATIENT).saw == "there is no log group /b"


def test_a_source_principal_is_there_by_its_whole_arn() -> None:
    assert readers.judge_principals(settings(), {READER.arn}, "").verdict is Verdict.OK
    with_path = f"arn:aws:iam::{SOURCE}:role/path/Reader"
    assert f"there is no {READER.arn}" in readers.judge_principals(settings(), {with_path}, "").saw
    root = settings(SOURCE_PRINCIPAL_ARNS=f"arn:aws:iam::{SOURCE}:root")
    assert readers.judge_principals(root, set(), "").verdict is Verdict.OK
    prefix = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Audit_"
    single_sign_on = settings(SOURCE_PRINCIPAL_ARNS=f"{prefix}*", ATTACH_SOURCE_POLICY="false")
    assert readers.judge_principals(single_sign_on, {f"{prefix}0123"}, "").verdict is Verdict.OK
    assert readers.judge_principals(single_sign_on, set(), "").verdict is Verdict.WRONG


def failed(reason: Reason) -> LedgerRow:
    return LedgerRow(account_id=MEMBER, outcome=Outcome.FAILED, reason=reason, error="what AWS said", updated_at="")


def test_principals_of_another_source_account_are_judged_by_what_publish_recorded() -> None:
    attached = shard(MEMBER, attached=frozenset({READER.arn}))
    assert readers.judge_principals_elsewhere(settings(), records(attached)).verdict is Verdict.OK
    assert readers.judge_principals_elsewhere(settings(), records(shard(MEMBER))).verdict is Verdict.CANT_TELL
    assert readers.judge_principals_elsewhere(settings(), Records()).verdict is Verdict.CANT_TELL
    missing = records(attached, principals=Problem(Reason.NO_SOURCE_PRINCIPAL, "no role Reader"))
    assert readers.judge_principals_elsewhere(settings(), missing) == Finding(
        Verdict.WRONG,
        f"publish can't attach in the source account {SOURCE}: no role Reader",
        REMEDY[Reason.NO_SOURCE_PRINCIPAL],
    )


def test_room_in_another_source_account_is_judged_by_what_publish_recorded() -> None:
    found = records(shard(MEMBER), ShardRecord(name=f"{SHARD}-2"), room=10, looked_at=NOW)
    assert readers.judge_room_elsewhere(settings(), found) == ok(
        f"1 of 10 shards that fit in the source account {SOURCE} are written"
    )
    assert readers.judge_room_elsewhere(settings(), Records()).verdict is Verdict.CANT_TELL
    assert readers.judge_room_elsewhere(settings(), records()).verdict is Verdict.CANT_TELL
    full = records(shard(MEMBER), looked_at=NOW, blocked=Problem(Reason.QUOTA, "full"))
    assert readers.judge_room_elsewhere(settings(), full).mend == REMEDY[Reason.QUOTA]


@pytest.mark.parametrize(
    ("others", "ours", "verdict"),
    [
        (0, ["policy"], Verdict.OK),
        (9, ["policy"], Verdict.OK),
        (9, [], Verdict.OK),
        (10, [], Verdict.WRONG),
    ],
)
def test_a_source_principal_has_room_for_the_source_policy(others: int, ours: list[str], verdict: Verdict) -> None:
    attached = [*(f"other-{number}" for number in range(others)), *ours]
    assert readers.judge_attachments(READER, attached, ["policy"], 10, settings()).verdict is verdict


def test_documents_and_names_fit_iams_quotas() -> None:
    fits = readers.judge_sizes(settings(), 2048, "make deploy")
    assert fits.saw == "role name 24 of 64 characters, trust policy 268 of 2048"
    assert readers.judge_sizes(settings(), 200, "make deploy").verdict is Verdict.WRONG
    arns = ",".join(f"arn:aws:iam::{SOURCE}:role/Reader{number:03}" for number in range(60))
    many = readers.judge_sizes(settings(SOURCE_PRINCIPAL_ARNS=arns), 4096, "make deploy")
    assert (many.verdict, "set fewer SOURCE_PRINCIPAL_ARNS" in many.saw) == (Verdict.WRONG, True)


def test_the_account_that_is_tried_is_one_that_kept_the_worker_out_before_any_other() -> None:
    enrolled = [
        LedgerRow(account_id=each, outcome=Outcome.ENROLLED, updated_at="")
        for each in (MANAGEMENT, AccountId("000000000001"))
    ]
    listed = [
        Account(id=MANAGEMENT, name="", state="ACTIVE", joined_at=None),
        Account(id=SOURCE, name="", state="CLOSED", joined_at=None),
        Account(id=MEMBER, name="", state="ACTIVE", joined_at=None),
    ]
    assert access.choose(settings(), [*enrolled, failed(Reason.NO_ACCESS_ROLE)], ()) == MEMBER
    assert access.choose(settings(), [*enrolled, failed(Reason.FOREIGN_ROLE)], ()) == "000000000001"
    assert access.choose(settings(), (), listed) == MEMBER
    assert access.choose(settings(), (), listed[:2]) is None


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({}, Verdict.OK),
        ({"actions": [{}]}, Verdict.OK),
        ({"outcome": "skipped", "reason": "excluded"}, Verdict.CANT_TELL),
        ({"outcome": "failed", "reason": "no_access_role", "error": "no access role"}, Verdict.WRONG),
    ],
)
def test_a_dry_run_tells_whether_the_account_can_be_entered(told: dict[str, Any], verdict: Verdict) -> None:
    account = {"account_id": MEMBER, "outcome": "enrolled", "reason": None, "error": None, "actions": []} | told
    assert access.judge(MEMBER, {"accounts": [account]}).verdict is verdict


@pytest.mark.parametrize(
    ("held", "verdict", "saw"),
    [
        ({}, Verdict.OK, "are empty"),
        ({"accounts": 1}, Verdict.CANT_TELL, "work is under way: accounts (1)"),
        ({"publish.fifo": 2, "accounts": 1}, Verdict.CANT_TELL, "accounts (1), publish.fifo (2)"),
        ({"accounts-dlq": 1}, Verdict.WRONG, "accounts-dlq is not empty (1)"),
        ({"accounts": 1, "events-dlq": 1}, Verdict.WRONG, "events-dlq is not empty (1)"),
        ({"publish-dlq.fifo": 3}, Verdict.WRONG, "publish-dlq.fifo is not empty (3)"),
    ],
)
def test_queues_are_empty(held: dict[str, int], verdict: Verdict, saw: str) -> None:
    queues = [
        Queue(name=name, visible=0, in_flight=0, delayed=held.get(name, 0))
        for name in (*WORK_QUEUES, *DEAD_LETTER_QUEUES)
    ]
    judged = running.judge_queues(queues)
    assert (judged.verdict, saw in judged.saw) == (verdict, True)


def alarms(**changed: Any) -> dict[str, dict[str, Any]]:
    """Describe all alarms, the one on the queue's age changed."""
    alarm = {"AlarmName": "rolecall-dev-any", "AlarmActions": [TOPIC], "ActionsEnabled": True, "StateValue": "OK"}
    return dict.fromkeys(running.ALARMS, alarm) | {"queue-age": alarm | changed}


def test_alarms_are_there_notify_and_are_quiet() -> None:
    assert running.judge_alarms(alarms(StateValue="INSUFFICIENT_DATA"), TOPIC, "").verdict is Verdict.OK
    assert running.judge_alarms(alarms(StateValue="ALARM"), TOPIC, "") == Finding(
        Verdict.WRONG, "queue-age in ALARM", "docs/runbook.md#queue-age"
    )
    assert "its actions are disabled" in running.judge_alarms(alarms(ActionsEnabled=False), TOPIC, "").saw
    assert "does not notify" in running.judge_alarms(alarms(AlarmActions=[]), TOPIC, "").saw
    some = {name: alarm for name, alarm in alarms().items() if name != "rules-failed"}
    assert running.judge_alarms(some, TOPIC, "make deploy").saw == "there is no alarm rules-failed"
    unscheduled = alarms() | {"resync-missing": alarms()["queue-age"] | {"ActionsEnabled": False}}
    assert running.judge_alarms(unscheduled, TOPIC, "").verdict is Verdict.OK


def test_only_a_confirmed_subscription_hears_the_alarms() -> None:
    pending = {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "ops@example.com"}
    confirmed = {"SubscriptionArn": f"{TOPIC}:1", "Protocol": "sqs", "Endpoint": "arn"}
    assert running.judge_topic([pending, confirmed], TOPIC, PATIENT) == ok("heard by sqs")
    assert "ops@example.com has not confirmed" in running.judge_topic([pending], TOPIC, PATIENT).saw
    assert "has no subscription" in running.judge_topic([], TOPIC, PATIENT).saw
    assert running.judge_topic(None, TOPIC, PATIENT).verdict is Verdict.WRONG


FULL = Problem(Reason.QUOTA, "the source policy is full")


@pytest.mark.parametrize(
    ("found", "verdict", "saw"),
    [
        (
            records(shard(MEMBER), room=10, looked_at=NOW, verified_at=NOW),
            Verdict.OK,
            "shards: 1 of 10 that fit; all verified: 2026-11-24 12:00",
        ),
        (records(shard(MEMBER)), Verdict.OK, "all verified: never"),
        (Records(), Verdict.CANT_TELL, "not known yet: publish has not run yet"),
        (Records(control=Control(uninstalled=True)), Verdict.OK, "nothing is left to publish"),
        (
            records(shard(MEMBER), blocked=FULL),
            Verdict.WRONG,
            "publishing is blocked: quota: the source policy is full",
        ),
        (records(replace(shard(MEMBER), error=FULL)), Verdict.WRONG, f"{SHARD}: the source policy is full"),
        (records(shard(MEMBER), scope=FULL), Verdict.WRONG, "the source policy is full"),
        (records(ShardRecord(name=SHARD)), Verdict.CANT_TELL, f"{SHARD}: not written completely"),
    ],
)
def test_source_policy_can_be_published(found: Records, verdict: Verdict, saw: str) -> None:
    judged = running.judge_source_policy(found, settings())
    assert (judged.verdict, saw in judged.saw) == (verdict, True)
    assert (judged.mend is None) is (verdict is Verdict.OK)


def test_lost_records_are_restored_by_publish_and_never_from_a_backup() -> None:
    judged = running.judge_source_policy(records(shards=1), settings())
    assert judged == Finding(Verdict.WRONG, f"records are lost in the source-policy table: {SHARD}", RESTORE)
    assert "Never put the table back from a backup" in RESTORE


DENYING = replace(shard(frozen=True, attached=frozenset({READER.arn})), denied_principals=frozenset({READER.arn}))


@pytest.mark.parametrize(
    ("found", "mend"),
    [
        (records(shard()), None),
        (records(DENYING, control=Control(frozen=True)), "rolecall unfreeze"),
        (records(shard(), control=Control(frozen=True)), "rolecall freeze"),
        (records(DENYING, control=Control(frozen=False)), "rolecall unfreeze"),
        (
            records(control=Control(uninstalling=True)),
            "rolecall uninstall to finish it, or rolecall backfill to stop it",
        ),
    ],
)
def test_neither_frozen_nor_uninstalling(found: Records, mend: str | None) -> None:
    assert running.judge_freeze(found, settings()).mend == mend


@pytest.mark.parametrize(
    ("answered", "operation", "mend"),
    [
        (
            "AccessDenied: … is not authorized to perform: sns:ListTopics on …",
            "",
            "allow these credentials sns:ListTopics",
        ),
        ("AccessDeniedException: You don't have permissions …", "Look", "allow these credentials a:Look"),
        ("AccessDeniedException: no", "Other", "allow these credentials a:Look, b:Read"),
    ],
)
def test_what_may_not_be_seen_names_the_permission_to_see_it(answered: str, operation: str, mend: str) -> None:
    check = Check(name="any", look=lambda _: ok(""), permissions=("a:Look", "b:Read"))
    assert kept_out(check, answered, operation) == Finding(Verdict.CANT_TELL, answered, mend)


def test_the_exit_status_is_the_worst_that_was_found() -> None:
    assert exit_status([Verdict.OK]) == 0
    assert exit_status([Verdict.CANT_TELL, Verdict.OK]) == 2
    assert exit_status([Verdict.CANT_TELL, Verdict.WRONG]) == 1


def test_what_is_looked_for_is_what_the_template_deploys() -> None:
    def named(key: str) -> set[str]:
        return set(re.findall(rf'\b{key}: !Sub "rolecall-\$\{{Stage\}}-([\w.-]+)"', TEMPLATE))

    assert named("AlarmName") == set(running.ALARMS)
    assert named("FunctionName") == set(deployed.FUNCTIONS)
    assert named("Name") == {*deployed.SCHEDULES}
    assert named("QueueName") == {*WORK_QUEUES, *DEAD_LETTER_QUEUES}
    assert named("RuleName") == {"account-events"}
    assert set(running.ALARMS) <= set(re.findall(r"^### (\S+)$", RUNBOOK, re.MULTILINE))
    assert len({check.name for check in CHECKS}) == len(CHECKS)
