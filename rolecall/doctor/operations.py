"""Checks of the running stage: queues, alarms and their topic, publishing, and the freeze."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok, unknown
from rolecall.source_policy_state import LEFT_OVER, NEVER_PUBLISHED, NO_SOURCE_POLICY, RESTORE, SourcePolicyState
from rolecall.stage import ALARMS, OPTIONAL_ALARMS, QueueCounts

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef
    from mypy_boto3_sns.type_defs import SubscriptionTypeDef

_DEAD_LETTERS = {
    "accounts-dlq": (
        "accounts that were not finished",
        "rolecall rerun, after the steps in docs/runbook.md#dead-letters",
    ),
    "publish-dlq.fifo": (
        "publish failed repeatedly; its next run makes up for it",
        "rolecall status, for the reason; then rolecall rerun: docs/runbook.md#dead-letters",
    ),
    "events-dlq": ("events that could not be handled", "see docs/runbook.md#dead-letters"),
    "announcements-dlq": ("changes of outcomes that were not announced", "see docs/runbook.md#dead-letters"),
}
"""What messages in each dead-letter queue mean, and what to do."""

_ALARM_REMEDIES = {"resync-missing": "rolecall resync"}
"""The commands that end an alarm; the runbook has what to do about any other."""


def check_queues(queues: Sequence[QueueCounts]) -> CheckResult:
    """Check that no queue has messages."""
    for queue in queues:
        if queue.total and queue.name in _DEAD_LETTERS:
            meaning, remedy = _DEAD_LETTERS[queue.name]
            return failed(f"{queue.name} is not empty ({queue.total}): {meaning}", remedy)
    busy = [f"{queue.name} ({queue.total})" for queue in queues if queue.total]
    if busy:
        return unknown(
            f"messages are being processed: {', '.join(busy)}", "rolecall doctor, once rolecall status shows none"
        )
    return ok("the queues and their dead-letter queues are empty")


def check_alarms(
    alarms: "Mapping[str, MetricAlarmTypeDef]", topic_arn: str, context: Context, names: Sequence[str] = ALARMS
) -> CheckResult:
    """Check that all alarms exist, notify the topic, and are not in ALARM; the keys are their names without the stage."""
    existing = [name for name in (*names, *OPTIONAL_ALARMS) if name in alarms]
    for name in (*names, *existing):
        if name not in alarms:
            return failed(f"alarm {name} does not exist", context.deploy())
        alarm = alarms[name]
        if topic_arn not in alarm.get("AlarmActions", ()):
            return failed(f"alarm {name} does not notify {topic_arn}", context.deploy())
        # Without schedules no resync is missing, so the template disables that alarm's actions.
        if not alarm.get("ActionsEnabled", True) and name != "resync-missing":
            return failed(
                f"alarm {name} sends no notifications: its actions are disabled",
                context.aws(f"cloudwatch enable-alarm-actions --alarm-names {alarm['AlarmName']}"),
            )
    in_alarm = [name for name in existing if alarms[name]["StateValue"] == "ALARM"]
    if in_alarm:
        remedies = [_ALARM_REMEDIES.get(name, f"see docs/runbook.md#{name}") for name in in_alarm]
        return failed(f"{', '.join(in_alarm)} in ALARM", ", ".join(remedies))
    return ok(f"all {len(existing)} exist, and none is in ALARM")


def check_topic(subscriptions: "Sequence[SubscriptionTypeDef] | None", topic_arn: str, context: Context) -> CheckResult:
    """Check that the alarms' topic has a confirmed subscription, which is one with an ARN."""
    if subscriptions is None:
        return failed(f"topic {topic_arn} does not exist", context.deploy())
    confirmed = [each for each in subscriptions if each["SubscriptionArn"].startswith("arn:")]
    if confirmed:
        return ok(f"subscribed by {', '.join(sorted({each['Protocol'] for each in confirmed}))}")
    if subscriptions:
        pending = ", ".join(str(each["Endpoint"]) for each in subscriptions)
        return failed(
            f"alarm notifications are not delivered: {pending} has not confirmed the subscription",
            "confirm it with the link in the mail from AWS Notifications",
        )
    return failed(
        "alarm notifications are not delivered: the topic has no subscription",
        context.aws(f"sns subscribe --topic-arn {topic_arn} --protocol email --notification-endpoint …"),
    )


def check_source_policy(state: SourcePolicyState) -> CheckResult:
    """Check that the source policy is published and unchanged."""
    if state.lost:
        return failed(f"records of the source-policy table are lost: {', '.join(state.lost)}", RESTORE)
    if state.is_left_over:
        return failed(LEFT_OVER, "see docs/runbook.md#names_changed")
    if state.uninstalled or not state.is_kept:
        return ok("nothing left to publish" if state.is_kept else NO_SOURCE_POLICY)
    if not state.known:
        return unknown(NEVER_PUBLISHED, "rolecall resync")
    if state.blocked and state.remedy:
        return failed(f"publishing is blocked: {state.blocked.reason}: {state.blocked.error}", state.remedy)
    for shard in state.shards:
        if shard.error:
            return failed(f"{shard.policy_name}: {shard.error.error}", f"see docs/runbook.md#{shard.error.reason}")
        if shard.drift:
            return failed(f"{shard.policy_name} was changed by others: {shard.drift}", "rolecall resync")
    if state.scope_problem:
        return failed(state.scope_problem.error, "see docs/runbook.md#quota; then rolecall resync")
    unfinished = [shard.policy_name for shard in state.shards if shard.unfinished]
    if unfinished:
        return unknown(f"not completely written: {', '.join(unfinished)}", "rolecall doctor, again in a minute")
    room = "" if state.room is None else f" of {state.room} that fit"
    verified = f"{state.verified_at:%Y-%m-%d %H:%M}" if state.verified_at else "never"
    return ok(f"shards: {len(state.shards)}{room}; all verified: {verified}")


def check_freeze(state: SourcePolicyState, stage: str) -> CheckResult:
    """Check that source principals can open sessions."""
    if state.uninstalled:
        return failed(
            "no account is enrolled: the stage is uninstalled",
            f"rolecall undeploy {stage}, or rolecall backfill to enroll every account again",
        )
    if state.uninstalling:
        return failed(
            "no account is enrolled: an uninstall was started",
            "rolecall uninstall to continue, or rolecall backfill to cancel",
        )
    if not state.is_kept:
        return ok(NO_SOURCE_POLICY)
    if state.frozen and state.freeze_in_force:
        return failed("every new session is denied", "rolecall unfreeze")
    if state.frozen:
        return failed("a freeze was requested and is not in force", "rolecall freeze")
    if not state.freeze_in_force:
        return failed("an unfreeze was requested and is not in force", "rolecall unfreeze")
    return ok("not frozen")


def _topic_arn(context: Context) -> str:
    stage = context.stage
    return f"arn:{context.partition}:sns:{stage.region}:{context.account_id}:rolecall-{stage.name}-alarms"


def _check_alarms(context: Context) -> CheckResult:
    stage = context.stage
    return check_alarms(stage.described_alarms(), _topic_arn(context), context, stage.deployed(ALARMS))


def _check_topic(context: Context) -> CheckResult:
    sns, topic_arn = context.stage.client("sns"), _topic_arn(context)
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    try:
        found = [each for page in pages for each in page["Subscriptions"]]
    except sns.exceptions.NotFoundException:
        return check_topic(None, topic_arn, context)
    return check_topic(found, topic_arn, context)


CHECKS = (
    Check(
        name="queues",
        run=lambda context: check_queues(context.stage.queues()),
        permissions=("sqs:GetQueueUrl", "sqs:GetQueueAttributes"),
    ),
    Check(name="alarms", run=_check_alarms, permissions=("cloudwatch:DescribeAlarms",)),
    Check(name="alarm topic", run=_check_topic, permissions=("sns:ListSubscriptionsByTopic",)),
    Check(
        name="source policy",
        run=lambda context: check_source_policy(context.source_policy),
        permissions=("dynamodb:Scan", "iam:GetPolicy"),
    ),
    Check(
        name="freeze",
        run=lambda context: check_freeze(context.source_policy, context.stage.name),
        permissions=("dynamodb:Scan", "iam:GetPolicy"),
    ),
)
