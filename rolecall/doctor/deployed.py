"""Checks that what was deployed exists and is enabled: functions, rule, mappings, schedules, log groups."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.member_role import why_name_taken
from chalicelib.settings import Settings
from rolecall.deploy.member_role_policies import unread_actions
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok, unknown
from rolecall.errors import InvalidSettingsError, NotDeployedError
from rolecall.stage import ANNOUNCER

if TYPE_CHECKING:
    from mypy_boto3_events.type_defs import DescribeRuleResponseTypeDef
    from mypy_boto3_lambda.type_defs import EventSourceMappingConfigurationTypeDef, GetFunctionResponseTypeDef

CONSUMERS = {"accounts": "enroll", "publish.fifo": "publish"}
"""The function that consumes each queue."""

SCHEDULES = {"resync": "resync", "discovery": "resync", "rerun": "rerun"}
"""The function that each scheduled rule invokes."""

_WORKING = {"Enabled", "Enabling", "Updating", "Creating"}
"""The states of an event source mapping that invokes its function, or soon does."""

_UNANNOUNCED = "changes of outcomes are not announced"
_RESTORE_STREAM = "see docs/runbook.md#announcements-after-a-restore"


def _check_stage(context: Context) -> CheckResult:
    stage = context.stage
    try:
        taken = why_name_taken(stage.settings)
    except InvalidSettingsError as error:
        return failed(
            f"stage {stage.name} is deployed with an invalid setting: {error}", context.deploy("--set NAME=VALUE")
        )
    except NotDeployedError:
        return failed(
            f"stage {stage.name} is not deployed in {stage.region} of account {context.account_id}",
            context.deploy("--source-principal ARN"),
        )
    if taken is not None:
        return failed(taken, context.deploy("--set MemberRoleName=…"))
    return ok(f"{stage.name} is deployed in {stage.region} with valid settings{beyond_reads(stage.settings)}")


def beyond_reads(settings: Settings) -> str:
    """Return what the operator's documents allow beyond reads, which only rolecall deploy checks."""
    policies = settings.member_role_policies
    denied = frozenset(filter(settings.denies, DENIED_DATA_READS))
    found = [f"{name} {what}" for name, document in policies.items() for what in unread_actions(document, denied)]
    return f"; of MemberRolePolicies, {'; '.join(found)}" if found else ""


def check_functions(found: "Mapping[str, GetFunctionResponseTypeDef | None]", context: Context) -> CheckResult:
    """Check what GetFunction returned of each function, or None for a missing one."""
    changing, redeploy = [], context.deploy()
    for name, function in found.items():
        if function is None:
            return failed(f"function {name} does not exist", redeploy)
        configuration = function["Configuration"]
        state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
        if function.get("Concurrency", {}).get("ReservedConcurrentExecutions") == 0:
            return failed(
                f"function {name} is stopped: its reserved concurrency is 0",
                context.aws(f"lambda delete-function-concurrency --function-name {name}"),
            )
        if "Failed" in {state, update}:
            reason = configuration.get("StateReason") or configuration.get("LastUpdateStatusReason")
            return failed(f"function {name} is {state}, its last update {update}: {reason}", redeploy)
        # An idle function becomes Inactive, and Pending while it is restored ("Lambda function states").
        if state == "Pending" or update == "InProgress":
            changing.append(name)
    if changing:
        return unknown(f"{', '.join(changing)}: an update is in progress", "rolecall doctor, again in a minute")
    return ok(f"all {len(found)} exist and are active")


def _check_functions(context: Context) -> CheckResult:
    client = context.stage.client("lambda")
    found: dict[str, GetFunctionResponseTypeDef | None] = {}
    for name in map(context.stage.resource_name, context.stage.functions):
        try:
            found[name] = client.get_function(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            found[name] = None
    return check_functions(found, context)


def check_rule(
    name: str,
    rule: "DescribeRuleResponseTypeDef | None",
    targets: Sequence[str],
    function: str,
    context: Context,
) -> CheckResult:
    """Check that a rule is enabled and has the function among its targets' ARNs."""
    if rule is None:
        return failed(f"rule {name} does not exist", context.deploy())
    if rule["State"] == "DISABLED":
        return failed(f"rule {name} is disabled", context.aws(f"events enable-rule --name {name}"))
    if not any(target.endswith(f":function:{function}") for target in targets):
        return failed(f"rule {name} does not invoke {function}", context.deploy())
    return ok(f"{name} is enabled and invokes {function}")


def _check_event_rule(context: Context) -> CheckResult:
    return _check_rule(context, "account-events", "on_account_event")


def _check_schedules(context: Context) -> CheckResult:
    for rule, function in SCHEDULES.items():
        result = _check_rule(context, rule, function)
        if result.remedy is not None:
            return result
    return ok(f"{', '.join(SCHEDULES)} are enabled")


def _check_rule(context: Context, rule: str, function: str) -> CheckResult:
    events, name = context.stage.client("events"), context.stage.resource_name(rule)
    try:
        described = events.describe_rule(Name=name)
    except events.exceptions.ResourceNotFoundException:
        return check_rule(name, None, (), context.stage.resource_name(function), context)
    targets = [target["Arn"] for target in events.list_targets_by_rule(Rule=name)["Targets"]]
    return check_rule(name, described, targets, context.stage.resource_name(function), context)


def check_mapping(
    mappings: "Sequence[EventSourceMappingConfigurationTypeDef]", queue: str, function: str, context: Context
) -> CheckResult:
    """Check that an event source mapping invokes a function with a queue's messages."""
    for mapping in mappings:
        if mapping["EventSourceArn"].endswith(f":{queue}"):
            if mapping["State"] in _WORKING:
                return ok(f"{queue} invokes {context.stage.resource_name(function)}")
            return failed(
                f"{queue} is not consumed: its event source mapping is {mapping['State']}",
                context.aws(f"lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"),
            )
    return failed(f"{queue} is not consumed: it has no event source mapping", context.deploy())


def _check_mappings(context: Context) -> CheckResult:
    client = context.stage.client("lambda")
    summaries = []
    for queue, function in ((queue, CONSUMERS[queue]) for queue in context.stage.deployed(CONSUMERS)):
        response = client.list_event_source_mappings(FunctionName=context.stage.resource_name(function))
        result = check_mapping(response["EventSourceMappings"], context.stage.resource_name(queue), function, context)
        if result.remedy is not None:
            return result
        summaries.append(result.summary)
    return ok(", ".join(summaries))


def check_stream(
    mappings: "Sequence[EventSourceMappingConfigurationTypeDef]", stream_arn: str | None, context: Context
) -> CheckResult:
    """Check that the ledger's stream invokes its function; a restored table has no stream, or another one."""
    if stream_arn is None:
        return failed(f"the ledger has no stream: {_UNANNOUNCED}", _RESTORE_STREAM)
    for mapping in mappings:
        if mapping["EventSourceArn"] == stream_arn:
            if mapping["State"] in _WORKING:
                return ok(f"the ledger's stream invokes {context.stage.resource_name(ANNOUNCER)}")
            return failed(
                f"the ledger's stream is not consumed: its event source mapping is {mapping['State']}",
                context.aws(f"lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"),
            )
    return failed(f"the ledger's stream has no event source mapping: {_UNANNOUNCED}", _RESTORE_STREAM)


def _check_announcements(context: Context) -> CheckResult:
    stage, bus = context.stage, context.stage.event_bus_name
    if not bus:
        return ok("outcomes are not announced: EventBusName is empty")
    events = stage.client("events")
    try:
        events.describe_event_bus(Name=bus)
    except events.exceptions.ResourceNotFoundException:
        return failed(
            f"event bus {bus} does not exist: {_UNANNOUNCED}", context.aws(f"events create-event-bus --name {bus}")
        )
    table = stage.client("dynamodb").describe_table(TableName=stage.environment["LEDGER_TABLE"])["Table"]
    is_enabled = table.get("StreamSpecification", {}).get("StreamEnabled", False)
    mappings = stage.client("lambda").list_event_source_mappings(FunctionName=stage.resource_name(ANNOUNCER))
    return check_stream(mappings["EventSourceMappings"], table.get("LatestStreamArn") if is_enabled else None, context)


def check_logs(retention: Mapping[str, int | None], groups: Sequence[str], context: Context) -> CheckResult:
    """Check that each log group exists and has a retention in days."""
    for group in groups:
        if group not in retention:
            return failed(f"log group {group} does not exist", context.deploy())
        if retention[group] is None:
            return failed(
                f"log group {group} has no retention: logs are kept forever",
                context.aws(f"logs put-retention-policy --log-group-name {group} --retention-in-days 90"),
            )
    days = sorted({str(retention[group]) for group in groups})
    return ok(f"kept for {' or '.join(days)} days")


def _check_logs(context: Context) -> CheckResult:
    prefix = f"/aws/lambda/rolecall-{context.stage.name}-"
    pages = context.stage.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    retention = {group["logGroupName"]: group.get("retentionInDays") for page in pages for group in page["logGroups"]}
    return check_logs(retention, [prefix + name for name in context.stage.functions], context)


_RULE_PERMISSIONS = ("events:DescribeRule", "events:ListTargetsByRule")

CHECKS = (
    Check(name="stage", run=_check_stage, permissions=("lambda:GetFunctionConfiguration",), needs_stage=False),
    Check(name="functions", run=_check_functions, permissions=("lambda:GetFunction",)),
    Check(name="rule", run=_check_event_rule, permissions=_RULE_PERMISSIONS),
    Check(name="queue mappings", run=_check_mappings, permissions=("lambda:ListEventSourceMappings",)),
    Check(
        name="announcements",
        run=_check_announcements,
        permissions=("events:DescribeEventBus", "dynamodb:DescribeTable", "lambda:ListEventSourceMappings"),
    ),
    Check(name="schedules", run=_check_schedules, permissions=_RULE_PERMISSIONS),
    Check(name="logs", run=_check_logs, permissions=("logs:DescribeLogGroups",)),
)
