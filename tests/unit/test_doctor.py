"""What each check of `rolecall doctor` finds in AWS's answers."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from rich.console import Console

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.access_role_stack_set import FailedInstance
from rolecall.console import output_console
from rolecall.doctor import access_role, account_tags, deployed, location, operations, principals, stack_set
from rolecall.doctor.checks import CHECKS, denied
from rolecall.doctor.command import grouped_unknown, overall_status, print_result
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, CheckStatus, failed, ok, unknown
from rolecall.doctor.trail import Trail, check_trails
from rolecall.partitions import EVENT_REGIONS
from rolecall.reasons import REMEDY
from rolecall.source_policy_state import RESTORE, read_source_policy
from rolecall.stage import (
    ALARMS,
    DEAD_LETTER_QUEUES,
    FUNCTIONS,
    OPTIONAL_ALARMS,
    WORK_QUEUES,
    QueueCounts,
    Stage,
)
from tests.unit.builders import EXTRA, MANAGEMENT, MEMBER, SOURCE, settings
from tests.unit.ledger_rows import NOW, SHARD, records, row, shard

OK, FAILED, UNKNOWN = CheckStatus
CONTEXT = Context(Stage("dev", boto3.Session("key", "secret", region_name="us-east-1")))
PRINCIPAL = settings().source_principals[0]
ROOT = Path(__file__).parents[2]
TOPIC = "arn:aws:sns:us-east-1:111122223333:rolecall-dev-alarms"


def basic(**selector: Any) -> dict[str, Any]:
    return {"EventSelectors": [selector]}


def advanced(**fields: dict[str, list[str]]) -> dict[str, Any]:
    fields = {"eventCategory": {"Equals": ["Management"]}, **fields}
    return {"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": key, **value} for key, value in fields.items()]}]}


def trail(name: str, selectors: dict[str, Any], *, is_logging: bool = True, home: str = "us-east-1") -> Trail:
    return Trail(name=name, home_region=home, is_logging=is_logging, selectors=selectors)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selectors", "records_writes"),
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
def test_trail_selects_write_management_events(selectors: dict[str, Any], records_writes: bool) -> None:
    assert trail("trail", selectors).records_writes is records_writes


@pytest.mark.parametrize(
    ("changes", "status", "summary"),
    [
        ({"INCLUDE_TAGS": "env=prod"}, OK, "of 3 accounts, 2 have one of IncludeTags"),
        ({"EXCLUDE_TAGS": "env=test"}, OK, "of 3 accounts, 0 have one of ExcludeTags"),
        (
            {"INCLUDE_TAGS": "env=*", "EXCLUDE_TAGS": "env=dev"},
            OK,
            "of 3 accounts, 3 have one of IncludeTags and 1 have one of ExcludeTags",
        ),
        (
            {"INCLUDE_TAGS": "team=*,env=Prod"},
            FAILED,
            "none of 3 accounts has a tag of IncludeTags (env=Prod, team=*), so none is enrolled",
        ),
    ],
)
def test_an_account_must_have_a_tag_by_which_accounts_are_included(
    changes: dict[str, str], status: CheckStatus, summary: str
) -> None:
    tagged = [
        Account(id=MEMBER, name="", state="ACTIVE", joined_at=None, tags={"env": env, "team": None})
        for env in ("prod", "prod", "dev")
    ]
    result = account_tags.check_account_tags(tagged, settings(**changes))
    assert (result.status, result.summary) == (status, summary)
    assert (result.remedy is None) == (status is OK)


PUT = "aws cloudtrail put-event-selectors --trail-name {} --region us-east-1 --event-selectors ReadWriteType=All,IncludeManagementEvents=true"
IDLE = trail("idle", basic(ReadWriteType="All"), is_logging=False, home="eu-west-1")
READING = trail("reading", basic(ReadWriteType="ReadOnly"))


@pytest.mark.parametrize(
    ("trails", "status", "remedy"),
    [
        ([IDLE, READING, trail("good", basic(ReadWriteType="All"))], OK, ""),
        ([READING, IDLE], FAILED, "aws cloudtrail start-logging --name idle --region eu-west-1"),
        ([READING], FAILED, PUT.format("reading")),
        (
            [trail("neither", basic(ReadWriteType="ReadOnly"), is_logging=False)],
            FAILED,
            PUT.format("neither") + "; aws cloudtrail start-logging --name neither --region us-east-1",
        ),
        (
            [],
            FAILED,
            f"aws cloudformation deploy --stack-name management-events --template-file {ROOT}/docs/trail.yaml",
        ),
    ],
)
def test_one_trail_must_log_write_management_events(trails: list[Trail], status: CheckStatus, remedy: str) -> None:
    result = check_trails(trails, "us-east-1")
    assert result.status is status
    assert (result.remedy or "").startswith(remedy)
    assert ("this replaces all selectors of the trail" in str(result.remedy)) is ("put-event-selectors" in remedy)


ORGANIZATION: Any = {"Id": "o-1", "MasterAccountId": MANAGEMENT, "FeatureSet": "ALL"}


@pytest.mark.parametrize("region", EVENT_REGIONS.values())
def test_region_must_be_the_one_with_the_events(region: str) -> None:
    assert location.check_region(region, region).status is OK
    assert location.check_region("eu-west-1", region).remedy == f"rolecall --region {region} doctor"


def test_account_must_be_the_management_account_with_all_features() -> None:
    ours, theirs = (f"arn:aws:iam::{account_id}:user/alice" for account_id in (MANAGEMENT, MEMBER))
    assert location.check_credentials(ours, ORGANIZATION).status is OK
    result = location.check_credentials(theirs, ORGANIZATION)
    assert result.summary == f"{theirs} is not of the management account of {ORGANIZATION['Id']}, {MANAGEMENT}"
    assert location.check_credentials(theirs, None).summary == f"{theirs} is not of an account in an organization"
    assert location.check_features(ORGANIZATION).status is OK
    assert location.check_features(ORGANIZATION | {"FeatureSet": "CONSOLIDATED_BILLING"}).status is FAILED
    assert location.check_features(None).status is FAILED


def function(state: str = "Active", **configuration: str) -> dict[str, Any]:
    return {"Configuration": {"State": state, **configuration}}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (function(LastUpdateStatus="Successful"), OK),
        (function("Inactive", LastUpdateStatus="Successful"), OK),
        (function(LastUpdateStatus="InProgress"), UNKNOWN),
        (function("Pending"), UNKNOWN),
        (function("Failed", StateReason="no subnet"), FAILED),
        (function(LastUpdateStatus="Failed"), FAILED),
        (function() | {"Concurrency": {"ReservedConcurrentExecutions": 0}}, FAILED),
        (function() | {"Concurrency": {"ReservedConcurrentExecutions": 5}}, OK),
        (None, FAILED),
    ],
)
def test_functions_must_be_active(found: Any, status: CheckStatus) -> None:
    functions: Any = {"well": function(), "other": found}
    result = deployed.check_functions(functions, CONTEXT)
    assert result.status is status
    assert status is OK or "other" in result.summary
    assert not (result.remedy or "").startswith("aws ") or "--region us-east-1" in str(result.remedy)


def test_rule_must_be_enabled_and_invoke_its_function() -> None:
    target = f"arn:aws:lambda:us-east-1:{MANAGEMENT}:function:worker"

    def check(state: str | None, *targets: str) -> CheckResult:
        rule: Any = {"State": state} if state else None
        return deployed.check_rule("rule", rule, targets, "worker", CONTEXT)

    assert check("ENABLED", target).status is OK
    assert check("DISABLED", target).remedy == "aws events enable-rule --name rule --region us-east-1"
    assert check("ENABLED", target + "s").summary == "rule rule does not invoke worker"
    assert check(None).summary == "rule rule does not exist"


def test_queue_must_have_an_enabled_mapping() -> None:
    def check(*states: str) -> CheckResult:
        mappings: Any = [{"EventSourceArn": "arn:aws:sqs:::queue", "State": state, "UUID": "1"} for state in states]
        return deployed.check_mapping(mappings, "queue", "enroll", CONTEXT)

    assert check("Enabled") == ok("queue invokes rolecall-dev-enroll")
    assert "update-event-source-mapping --uuid 1 --enabled" in (check("Disabled").remedy or "")
    assert "it has no event source mapping" in check().summary


def test_ledgers_stream_must_have_an_enabled_mapping() -> None:
    """A restored table has no stream, and one of the same name another."""

    def check(stream: str | None, *states: str) -> CheckResult:
        mappings: Any = [{"EventSourceArn": "arn:a", "State": state, "UUID": "1"} for state in states]
        return deployed.check_stream(mappings, stream, CONTEXT)

    assert check("arn:a", "Enabled") == ok("the ledger's stream invokes rolecall-dev-announce_outcome")
    assert "update-event-source-mapping --uuid 1 --enabled" in (check("arn:a", "Disabled").remedy or "")
    restored = (check(None, "Enabled"), check("arn:another", "Enabled"), check("arn:a"))
    assert {each.status for each in restored} == {FAILED}
    assert {each.remedy for each in restored} == {"see docs/runbook.md#announcements-after-a-restore"}


@pytest.mark.parametrize(
    ("retention", "summary"),
    [
        ({"/a": 90, "/b": 90}, "kept for 90 days"),
        ({"/a": 90, "/b": None}, "log group /b has no retention: logs are kept forever"),
        ({"/a": 90}, "log group /b does not exist"),
    ],
)
def test_log_groups_must_have_a_retention(retention: dict[str, int | None], summary: str) -> None:
    assert deployed.check_logs(retention, ["/a", "/b"], CONTEXT).summary == summary


SINGLE_SIGN_ON = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Audit_"


@pytest.mark.parametrize(
    ("arn", "found", "status"),
    [
        (PRINCIPAL.arn, {PRINCIPAL.arn}, OK),
        (PRINCIPAL.arn, {f"arn:aws:iam::{SOURCE}:role/path/Reader"}, FAILED),
        (f"arn:aws:iam::{SOURCE}:root", set(), OK),
        (f"{SINGLE_SIGN_ON}*", {f"{SINGLE_SIGN_ON}0123"}, OK),
        (f"{SINGLE_SIGN_ON}*", set(), FAILED),
    ],
)
def test_source_principal_must_exist_with_its_path(arn: str, found: set[str], status: CheckStatus) -> None:
    given = settings(SOURCE_PRINCIPAL_ARNS=arn, ATTACH_SOURCE_POLICY="false")
    assert principals.check_principals(given.source_principals, found, "").status is status


ATTACHED = shard(MEMBER, attached=frozenset({PRINCIPAL.arn}))
NO_PRINCIPAL = Problem(Reason.NO_SOURCE_PRINCIPAL, "no role Reader")


@pytest.mark.parametrize(
    ("check", "found", "status"),
    [
        (principals.check_principals_elsewhere, records(ATTACHED), OK),
        (principals.check_principals_elsewhere, records(shard(MEMBER)), UNKNOWN),
        (principals.check_principals_elsewhere, Records(), UNKNOWN),
        (principals.check_principals_elsewhere, records(ATTACHED, principals=NO_PRINCIPAL), FAILED),
        (principals.check_room_elsewhere, records(shard(MEMBER), room=10, looked_at=NOW), OK),
        (principals.check_room_elsewhere, Records(), UNKNOWN),
        (principals.check_room_elsewhere, records(), UNKNOWN),
        (principals.check_room_elsewhere, records(looked_at=NOW, blocked=Problem(Reason.QUOTA, "full")), FAILED),
    ],
)
def test_another_source_account_is_checked_by_the_records(
    check: Callable[[Settings, Records], CheckResult], found: Records, status: CheckStatus
) -> None:
    assert check(settings(), found).status is status


@pytest.mark.parametrize(
    ("others", "ours", "status"), [(0, ["policy"], OK), (9, ["policy"], OK), (9, [], OK), (10, [], FAILED)]
)
def test_source_principal_must_have_room(others: int, ours: list[str], status: CheckStatus) -> None:
    attached = [*(f"other-{number}" for number in range(others)), *ours]
    assert principals.check_attachments(PRINCIPAL, attached, ["policy"], 10, settings()).status is status


def test_names_and_documents_must_fit_iams_quotas() -> None:
    assert principals.check_quotas(settings(), 2048, "rolecall deploy") == ok(
        "role name 24 of 64 characters, trust policy 268 of 2048"
    )
    assert principals.check_quotas(settings(), 200, "rolecall deploy").status is FAILED
    arns = ",".join(f"arn:aws:iam::{SOURCE}:role/Reader{number:03}" for number in range(60))
    assert principals.check_quotas(settings(SOURCE_PRINCIPAL_ARNS=arns), 4096, "rolecall deploy").status is FAILED


def failure(reason: Reason) -> LedgerRow:
    return row(MEMBER, Outcome.FAILED, reason=reason)


ENROLLED = [row(MANAGEMENT), row("000000000001")]
LISTED = [
    Account(id=account_id, name="", state=state, joined_at=None)
    for account_id, state in ((MANAGEMENT, "ACTIVE"), (SOURCE, "CLOSED"), (MEMBER, "ACTIVE"))
]


@pytest.mark.parametrize(
    ("rows", "listed", "chosen"),
    [
        ([*ENROLLED, failure(Reason.NO_ACCESS_ROLE)], [], MEMBER),
        ([*ENROLLED, failure(Reason.FOREIGN_ROLE)], [], "000000000001"),
        ([], LISTED, MEMBER),
        ([], LISTED[:2], None),
    ],
)
def test_access_role_is_checked_where_it_failed_first(
    rows: list[LedgerRow], listed: list[Account], chosen: AccountId | None
) -> None:
    assert access_role.choose_account(settings(), rows, listed) == chosen


@pytest.mark.parametrize(
    ("changes", "packed", "status"),
    [
        ({}, 12, OK),
        ({"actions": [{}]}, 12, OK),
        ({}, 95, FAILED),
        ({"outcome": "skipped", "reason": "excluded"}, 0, UNKNOWN),
        ({"outcome": "failed", "reason": "no_access_role", "error": "no access role"}, 0, FAILED),
    ],
)
def test_dry_run_must_access_the_account(changes: dict[str, Any], packed: int, status: CheckStatus) -> None:
    account = {"account_id": MEMBER, "outcome": "enrolled", "reason": None, "error": None, "actions": []} | changes
    response = {"accounts": [account], "packed_policy_percent": packed}
    assert access_role.check_dry_run(MEMBER, response).status is status


RETRY = (
    "aws cloudformation update-stack-instances --stack-set-name rolecall-dev-access --region us-east-1 --regions us-east-1 "
    "--deployment-targets OrganizationalUnitIds=r-ab12,Accounts=000000000000,000000000001,AccountFilterType=INTERSECTION"
)
FAILURES = [
    FailedInstance(account_id=f"{number:012}", unit_id="r-ab12", state="FAILED", reason="exists" if number else "")
    for number in range(7)
]


@pytest.mark.parametrize(
    ("access", "failures", "summary", "remedy"),
    [
        ("DISABLED", [], "the trusted access of StackSets is DISABLED", "aws cloudformation activate-"),
        ("ENABLED", None, "StackSet rolecall-dev-access does not exist", "rolecall deploy"),
        (
            "ENABLED",
            FAILURES[:2],
            "failed in 2 accounts: 000000000000 FAILED: CloudFormation shows no reason; 000000000001 FAILED: exists",
            f"remove the cause (docs/access-roles.md#failed-instances), then {RETRY}",
        ),
        ("ENABLED", FAILURES, "000000000004 FAILED: exists and 2 more", "remove the cause"),
    ],
)
def test_stack_set_must_have_deployed_everywhere(
    access: str, failures: list[FailedInstance] | None, summary: str, remedy: str
) -> None:
    result = stack_set.check_stack_set(CONTEXT, "rolecall-dev-access", access, failures)
    assert result is not None
    assert result.status is FAILED
    assert summary in result.summary
    assert (result.remedy or "").startswith(remedy)


def test_stack_set_without_failures_is_no_problem() -> None:
    assert stack_set.check_stack_set(CONTEXT, "rolecall-dev-access", "ENABLED", ()) is None


def test_accounts_entered_by_another_role_than_the_stack_sets_are_listed() -> None:
    role = "rolecall-dev-access"
    entered = [row(MEMBER, access_role=role), row(MANAGEMENT, access_role=None)]
    assert stack_set.check_entered(role, entered).status is OK
    result = stack_set.check_entered(role, [*entered, row(SOURCE, access_role="Administrator")])
    assert result.status is FAILED
    assert f"{SOURCE} by Administrator" in result.summary


@pytest.mark.parametrize(
    ("counts", "status", "summary"),
    [
        ({}, OK, "are empty"),
        ({"publish.fifo": 2, "accounts": 1}, UNKNOWN, "accounts (1), publish.fifo (2)"),
        ({"accounts": 1, "accounts-dlq": 1}, FAILED, "accounts-dlq is not empty (1)"),
        ({"events-dlq": 1}, FAILED, "events-dlq is not empty (1)"),
        ({"publish-dlq.fifo": 3}, FAILED, "publish-dlq.fifo is not empty (3)"),
    ],
)
def test_queues_must_be_empty(counts: dict[str, int], status: CheckStatus, summary: str) -> None:
    queues = [
        QueueCounts(name=name, visible=0, in_flight=0, delayed=counts.get(name, 0))
        for name in (*WORK_QUEUES, *DEAD_LETTER_QUEUES)
    ]
    result = operations.check_queues(queues)
    assert result.status is status
    assert summary in result.summary


def alarms(name: str = "queue-age", **changed: Any) -> dict[str, Any]:
    """Describe all alarms, with one of them changed."""
    alarm = {"AlarmName": "rolecall-dev-any", "AlarmActions": [TOPIC], "ActionsEnabled": True, "StateValue": "OK"}
    return dict.fromkeys(ALARMS, alarm) | {name: alarm | changed}


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        (alarms(StateValue="INSUFFICIENT_DATA"), "all 10 exist, and none is in ALARM"),
        (alarms("resync-missing", ActionsEnabled=False), "all 10 exist, and none is in ALARM"),
        (alarms(StateValue="ALARM"), "queue-age in ALARM"),
        (alarms("tripwire"), "all 11 exist, and none is in ALARM"),
        (alarms("tripwire", StateValue="ALARM"), "tripwire in ALARM"),
        (alarms("tripwire", AlarmActions=[]), f"alarm tripwire does not notify {TOPIC}"),
        (alarms(ActionsEnabled=False), "alarm queue-age sends no notifications: its actions are disabled"),
        (alarms(AlarmActions=[]), f"alarm queue-age does not notify {TOPIC}"),
        (
            {name: alarm for name, alarm in alarms().items() if name != "rules-failed"},
            "alarm rules-failed does not exist",
        ),
    ],
)
def test_alarms_must_notify_and_not_be_in_alarm(found: dict[str, Any], summary: str) -> None:
    result = operations.check_alarms(found, TOPIC, CONTEXT)
    assert result.summary == summary
    assert not (result.remedy or "").startswith("aws ") or "--region us-east-1" in str(result.remedy)


PENDING = {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "ops@example.com"}
CONFIRMED = {"SubscriptionArn": f"{TOPIC}:1", "Protocol": "sqs", "Endpoint": "arn"}


@pytest.mark.parametrize(
    ("subscriptions", "summary"),
    [
        ([PENDING, CONFIRMED], "subscribed by sqs"),
        ([PENDING], "alarm notifications are not delivered: ops@example.com has not confirmed the subscription"),
        ([], "alarm notifications are not delivered: the topic has no subscription"),
        (None, f"topic {TOPIC} does not exist"),
    ],
)
def test_topic_must_have_a_confirmed_subscription(subscriptions: Any, summary: str) -> None:
    assert operations.check_topic(subscriptions, TOPIC, CONTEXT).summary == summary


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (records(shard()), ok("shards: 1; all verified: never")),
        (
            records(shard(), room=9, looked_at=NOW, verified_at=NOW),
            ok("shards: 1 of 9 that fit; all verified: 2026-11-24 12:00"),
        ),
        (Records(control=Control(uninstalled=True)), ok("nothing left to publish")),
        (Records(), unknown("publish has not run yet", "rolecall resync")),
        (
            records(ShardRecord(name=SHARD)),
            unknown(f"not completely written: {SHARD}", "rolecall doctor, again in a minute"),
        ),
        (records(shards=1), failed(f"records of the source-policy table are lost: {SHARD}", RESTORE)),
        (
            records(shard(), blocked=Problem(Reason.QUOTA, "full")),
            failed("publishing is blocked: quota: full", REMEDY[Reason.QUOTA]),
        ),
        (
            records(replace(shard(), error=Problem(Reason.REJECTED, "denied"))),
            failed(f"{SHARD}: denied", "see docs/runbook.md#rejected"),
        ),
        (
            records(shard(), scope=Problem(Reason.QUOTA, "no room")),
            failed("no room", "see docs/runbook.md#quota; then rolecall resync"),
        ),
    ],
)
def test_source_policy_must_be_published(found: Records, expected: CheckResult) -> None:
    assert operations.check_source_policy(read_source_policy(found, settings())) == expected


def test_shard_must_be_as_it_was_written() -> None:
    state = read_source_policy(records(shard()), settings(), {SHARD: "it does not exist"})
    expected = failed(f"{SHARD} was changed by others: it does not exist", "rolecall resync")
    assert operations.check_source_policy(state) == expected


DENYING = replace(shard(frozen=True, attached=frozenset({PRINCIPAL.arn})), denied_principals=frozenset({PRINCIPAL.arn}))


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (records(shard()), None),
        (records(DENYING, control=Control(frozen=True)), "rolecall unfreeze"),
        (records(shard(), control=Control(frozen=True)), "rolecall freeze"),
        (records(DENYING, control=Control(frozen=False)), "rolecall unfreeze"),
        (
            records(control=Control(uninstalling=True)),
            "rolecall uninstall to continue, or rolecall backfill to cancel",
        ),
        (
            records(control=Control(uninstalling=True, uninstalled=True)),
            "rolecall undeploy dev, or rolecall backfill to enroll every account again",
        ),
    ],
)
def test_stage_must_not_be_frozen_or_uninstalling(found: Records, remedy: str | None) -> None:
    assert operations.check_freeze(read_source_policy(found, settings()), "dev").remedy == remedy


def test_documents_that_write_are_shown() -> None:
    """They may have been deployed by other means than rolecall deploy."""
    policies = f'{{"Reads":{EXTRA},"Writes":{EXTRA.replace("macie2:GetMacieSession", "s3:PutObject")}}}'
    shown = deployed.beyond_reads(settings(MEMBER_ROLE_POLICIES=policies))
    assert shown == "; of MemberRolePolicies, Writes allows s3:PutObject, which doesn't only read"
    assert not deployed.beyond_reads(settings())


@pytest.mark.parametrize(
    ("message", "operation", "permissions"),
    [
        ("AccessDenied: … is not authorized to perform: sns:ListTopics on …", "", "sns:ListTopics"),
        ("AccessDeniedException: You don't have permissions …", "Look", "a:Look"),
        ("AccessDeniedException: no", "Other", "a:Look, b:Read"),
    ],
)
def test_denied_check_names_the_permission(message: str, operation: str, permissions: str) -> None:
    check = Check(name="any", run=lambda _: ok(""), permissions=("a:Look", "b:Read"))
    assert denied(check, message, operation) == unknown(message, f"allow these credentials {permissions}")


@pytest.mark.parametrize(
    ("results", "status"),
    [([ok("")], OK), ([unknown("", ""), ok("")], UNKNOWN), ([unknown("", ""), failed("", "")], FAILED)],
)
def test_overall_status_is_the_worst(results: list[CheckResult], status: CheckStatus) -> None:
    assert overall_status(results) is status


def test_checks_match_the_template_and_the_runbook() -> None:
    template = (ROOT / ".chalice" / "resources.yaml").read_text()
    runbook = (ROOT / "docs" / "runbook.md").read_text()

    def names(key: str) -> set[str]:
        return set(re.findall(rf'\b{key}: !Sub "rolecall-\$\{{Stage\}}-([\w.-]+)"', template))

    assert names("AlarmName") == {*ALARMS, *OPTIONAL_ALARMS}
    assert names("FunctionName") == set(FUNCTIONS)
    assert names("Name") == {*deployed.SCHEDULES, "tripwire"}
    assert names("QueueName") == {*WORK_QUEUES, *DEAD_LETTER_QUEUES}
    assert names("RuleName") == {"account-events"}
    assert {*ALARMS, *OPTIONAL_ALARMS} <= set(re.findall(r"^### (\S+)$", runbook, re.MULTILINE))
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_result_fits_a_terminal_of_80_columns_and_its_remedy_can_be_copied() -> None:
    out = io.StringIO()
    remedy = "aws cloudtrail start-logging --name a-trail-with-a-long-name-that-logs-everything --region us-east-1"
    print_result(
        Console(file=out, width=80, force_terminal=True, force_interactive=True, color_system=None),
        "trail",
        failed(
            "the trail management-events records no write management events, and another one is not logging", remedy
        ),
    )
    *lines, last = out.getvalue().splitlines()
    assert lines == [
        "✘ trail              the trail management-events records no write management",
        "                     events, and another one is not logging",
    ]
    assert last == f"  → {remedy}"


def test_checks_that_could_not_be_made_are_grouped_by_their_cause() -> None:
    results = [
        unknown("denied", "allow it"),
        ok("fine"),
        unknown("denied", "allow another"),
        unknown("denied", "allow it"),
    ]
    assert list(grouped_unknown(zip(CHECKS, results, strict=False))) == [
        ("2 checks", unknown(f"denied: {CHECKS[0].name}, {CHECKS[3].name}", "allow it")),
        (CHECKS[2].name, unknown("denied", "allow another")),
    ]


def test_result_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(output_console(), "trail", failed(" ".join(["no trail"] * 20), "docs/runbook.md"))
    assert capsys.readouterr().out == f"✘ trail              {' '.join(['no trail'] * 20)} → docs/runbook.md\n"
