"""Whether what was deployed is there and switched on: functions, rule, queues' mappings, schedules, log groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from rolecall.doctor.finding import Check, Finding, cant_tell, ok, wrong
from rolecall.doctor.patient import Patient
from rolecall.errors import NotDeployedError, WrongSettingsError

FUNCTIONS = ("on_account_event", "enroll", "publish", "backfill", "rerun", "resync", "retire", "freeze")
CONSUMERS = {"accounts": "enroll", "publish.fifo": "publish"}
"""The function that consumes each queue."""

SCHEDULES = {"resync": "resync", "discovery": "resync", "rerun": "rerun"}
"""The function that each scheduled rule invokes."""


def _stage(patient: Patient) -> Finding:
    stage = patient.stage
    try:
        _ = stage.settings
    except WrongSettingsError as error:
        return wrong(f"stage {stage.name} is deployed with a wrong setting: {error}", patient.deploy("…"))
    except NotDeployedError:
        return wrong(
            f"stage {stage.name} is not deployed in {stage.region} of account {patient.account_id}",
            patient.deploy("SourcePrincipalArns=…"),
        )
    return ok(f"{stage.name} is deployed in {stage.region}, and its settings are sound")


def judge_functions(found: Mapping[str, dict[str, Any] | None], again: str) -> Finding:
    """Judge what GetFunction tells of each function, or None where it is not there."""
    changing = []
    for name, function in found.items():
        if function is None:
            return wrong(f"there is no function {name}", again)
        configuration = function["Configuration"]
        state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
        if function.get("Concurrency", {}).get("ReservedConcurrentExecutions") == 0:
            return wrong(
                f"function {name} is stopped: its reserved concurrency is 0",
                f"aws lambda delete-function-concurrency --function-name {name}",
            )
        if "Failed" in {state, update}:
            why = configuration.get("StateReason") or configuration.get("LastUpdateStatusReason")
            return wrong(f"function {name} is {state}, its last update {update}: {why}", again)
        # One that slept for long is Inactive, and Pending while it wakes ("Lambda function states").
        if state == "Pending" or update == "InProgress":
            changing.append(name)
    if changing:
        return cant_tell(f"{', '.join(changing)} is just being changed", "rolecall doctor, again in a minute")
    return ok(f"all {len(found)} are there and active")


def _functions(patient: Patient) -> Finding:
    client = patient.stage.client("lambda")
    found: dict[str, dict[str, Any] | None] = {}
    for name in map(patient.stage.function, FUNCTIONS):
        try:
            found[name] = client.get_function(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            found[name] = None
    return judge_functions(found, patient.deploy())


def judge_rule(
    name: str, rule: dict[str, Any] | None, targets: Sequence[str], function: str, patient: Patient
) -> Finding:
    """Judge a rule and its targets' ARNs."""
    if rule is None:
        return wrong(f"there is no rule {name}", patient.deploy())
    if rule["State"] == "DISABLED":
        return wrong(f"rule {name} is disabled", patient.aws(f"events enable-rule --name {name}"))
    if not any(target.endswith(f":function:{function}") for target in targets):
        return wrong(f"rule {name} does not invoke {function}", patient.deploy())
    return ok(f"{name} is enabled, and invokes {function}")


def _rule(patient: Patient) -> Finding:
    return _judged_rule(patient, "account-events", "on_account_event")


def _schedules(patient: Patient) -> Finding:
    for rule, function in SCHEDULES.items():
        found = _judged_rule(patient, rule, function)
        if found.mend is not None:
            return found
    return ok(f"{', '.join(SCHEDULES)} are enabled")


def _judged_rule(patient: Patient, rule: str, function: str) -> Finding:
    events, name = patient.stage.client("events"), patient.stage.function(rule)
    try:
        described = events.describe_rule(Name=name)
    except events.exceptions.ResourceNotFoundException:
        return judge_rule(name, None, (), patient.stage.function(function), patient)
    targets = [target["Arn"] for target in events.list_targets_by_rule(Rule=name)["Targets"]]
    return judge_rule(name, described, targets, patient.stage.function(function), patient)


def judge_mapping(mappings: Sequence[dict[str, Any]], queue: str, function: str, patient: Patient) -> Finding:
    """Judge the event source mapping that invokes a function with a queue's messages."""
    for mapping in mappings:
        if mapping["EventSourceArn"].endswith(f":{queue}"):
            if mapping["State"] in {"Enabled", "Enabling", "Updating", "Creating"}:
                return ok(f"{queue} invokes {patient.stage.function(function)}")
            return wrong(
                f"{queue} is not consumed: its event source mapping is {mapping['State']}",
                patient.aws(f"lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"),
            )
    return wrong(f"{queue} is not consumed: there is no event source mapping", patient.deploy())


def _mappings(patient: Patient) -> Finding:
    client = patient.stage.client("lambda")
    found = []
    for queue, function in CONSUMERS.items():
        answer = client.list_event_source_mappings(FunctionName=patient.stage.function(function))
        judged = judge_mapping(answer["EventSourceMappings"], patient.stage.function(queue), function, patient)
        if judged.mend is not None:
            return judged
        found.append(judged.saw)
    return ok(", ".join(found))


def judge_logs(retention: Mapping[str, int | None], groups: Sequence[str], patient: Patient) -> Finding:
    """Judge for how many days each log group is kept."""
    for group in groups:
        if group not in retention:
            return wrong(f"there is no log group {group}", patient.deploy())
        if retention[group] is None:
            return wrong(
                f"{group} is kept for ever",
                patient.aws(f"logs put-retention-policy --log-group-name {group} --retention-in-days 90"),
            )
    days = sorted({str(retention[group]) for group in groups})
    return ok(f"kept for {' or '.join(days)} days")


def _logs(patient: Patient) -> Finding:
    prefix = f"/aws/lambda/rolecall-{patient.stage.name}-"
    pages = patient.stage.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    retention = {group["logGroupName"]: group.get("retentionInDays") for page in pages for group in page["logGroups"]}
    return judge_logs(retention, [prefix + name for name in FUNCTIONS], patient)


CHECKS = (
    Check(name="stage", look=_stage, permissions=("lambda:GetFunctionConfiguration",), of_stage=False),
    Check(name="functions", look=_functions, permissions=("lambda:GetFunction",)),
    Check(name="rule", look=_rule, permissions=("events:DescribeRule", "events:ListTargetsByRule")),
    Check(name="queue mappings", look=_mappings, permissions=("lambda:ListEventSourceMappings",)),
    Check(name="schedules", look=_schedules, permissions=("events:DescribeRule", "events:ListTargetsByRule")),
    Check(name="logs", look=_logs, permissions=("logs:DescribeLogGroups",)),
)
