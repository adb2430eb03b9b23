"""Whether work is done and problems are reported: queues, alarms, their topic, publishing, and the freeze."""

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.doctor.finding import Check, Finding, cant_tell, ok, wrong
from rolecall.doctor.patient import Patient
from rolecall.source_policy import RESTORE, UNKNOWN, read_source_policy
from rolecall.stage import Queue

ALARMS = (
    *("dead-letters", "accounts-need-attention", "queue-age", "function-errors", "invocations-throttled"),
    *("rules-failed", "source-policy-full", "resync-missing", "publishing-blocked", "access-slow"),
)
"""Each is a heading of docs/runbook.md."""


_LEFT = {
    "accounts-dlq": (
        "accounts that were never finished",
        "rolecall rerun, once docs/runbook.md#dead-letters is followed",
    ),
    "publish-dlq.fifo": (
        "publish failed again and again, and the next run does all of it",
        "rolecall status, for why; then rolecall rerun: docs/runbook.md#dead-letters",
    ),
    "events-dlq": ("events that could not be handled", "docs/runbook.md#dead-letters"),
}
"""What messages in each dead-letter queue mean, and what to do."""


def judge_queues(queues: Sequence[Queue]) -> Finding:
    """Judge how many messages each queue holds."""
    for queue in queues:
        if queue.total and queue.name in _LEFT:
            means, mend = _LEFT[queue.name]
            return wrong(f"{queue.name} is not empty ({queue.total}): {means}", mend)
    working = [f"{queue.name} ({queue.total})" for queue in queues if queue.total]
    if working:
        return cant_tell(f"work is under way: {', '.join(working)}", "rolecall doctor, once rolecall status shows none")
    return ok("the queues and their dead-letter queues are empty")


def judge_alarms(alarms: Mapping[str, dict[str, Any]], topic_arn: str, deploy: str) -> Finding:
    """Judge the alarms, by their names without the stage's prefix: all there, notifying, and none of them ringing."""
    for name in ALARMS:
        if name not in alarms:
            return wrong(f"there is no alarm {name}", deploy)
        alarm = alarms[name]
        if topic_arn not in alarm.get("AlarmActions", ()):
            return wrong(f"alarm {name} does not notify {topic_arn}", deploy)
        # Without schedules no resync is missed, and the template switches that alarm off.
        if not alarm.get("ActionsEnabled", True) and name != "resync-missing":
            return wrong(
                f"alarm {name} notifies nobody: its actions are disabled",
                f"aws cloudwatch enable-alarm-actions --alarm-names {alarm['AlarmName']}",
            )
    ringing = [name for name in ALARMS if alarms[name]["StateValue"] == "ALARM"]
    if ringing:
        return wrong(f"{', '.join(ringing)} in ALARM", ", ".join(f"docs/runbook.md#{name}" for name in ringing))
    return ok(f"all {len(ALARMS)} are there, and none is in ALARM")


def judge_topic(subscriptions: Sequence[dict[str, Any]] | None, topic_arn: str, patient: Patient) -> Finding:
    """Judge who hears the alarms; a subscription has an ARN once it is confirmed."""
    if subscriptions is None:
        return wrong(f"there is no topic {topic_arn}", patient.deploy())
    confirmed = [each for each in subscriptions if each["SubscriptionArn"].startswith("arn:")]
    if confirmed:
        return ok(f"heard by {', '.join(sorted({each['Protocol'] for each in confirmed}))}")
    if subscriptions:
        pending = ", ".join(str(each["Endpoint"]) for each in subscriptions)
        return wrong(
            f"nobody hears the alarms: {pending} has not confirmed",
            "confirm it by the link in the mail from AWS Notifications",
        )
    return wrong(
        "nobody hears the alarms: their topic has no subscription",
        patient.aws(f"sns subscribe --topic-arn {topic_arn} --protocol email --notification-endpoint …"),
    )


def judge_source_policy(records: Records, settings: Settings) -> Finding:
    """Judge by its records whether the source policy can be published."""
    state = read_source_policy(records, settings)
    if state.lost:
        return wrong(f"records are lost in the source-policy table: {', '.join(state.lost)}", RESTORE)
    if state.uninstalled:
        return ok("nothing is left to publish")
    if not state.known:
        return cant_tell(f"not known yet: {UNKNOWN}", "rolecall resync")
    if state.blocked and state.remedy:
        return wrong(f"publishing is blocked: {state.blocked.reason}: {state.blocked.error}", state.remedy)
    for shard in state.shards:
        if shard.error:
            return wrong(f"{shard.policy_name}: {shard.error.error}", f"docs/runbook.md#{shard.error.reason}")
    if state.scope_problem:
        return wrong(state.scope_problem.error, "docs/runbook.md#quota; then rolecall resync")
    unfinished = [shard.policy_name for shard in state.shards if shard.unfinished]
    if unfinished:
        return cant_tell(f"{', '.join(unfinished)}: not written completely", "rolecall doctor, again in a minute")
    room = "" if state.room is None else f" of {state.room} that fit"
    verified = f"{state.verified_at:%Y-%m-%d %H:%M}" if state.verified_at else "never"
    return ok(f"shards: {len(state.shards)}{room}; all verified: {verified}")


def judge_freeze(records: Records, settings: Settings) -> Finding:
    """Judge whether the source principals may open sessions."""
    state = read_source_policy(records, settings)
    if state.uninstalling:
        return wrong(
            "no account is enrolled, since an uninstall was begun",
            "rolecall uninstall to finish it, or rolecall backfill to stop it",
        )
    if state.frozen and state.freeze_in_force:
        return wrong("every new session is denied", "rolecall unfreeze")
    if state.frozen:
        return wrong("a freeze was requested and is not in force", "rolecall freeze")
    if not state.freeze_in_force:
        return wrong("an unfreeze was requested and is not in force", "rolecall unfreeze")
    return ok("not frozen")


def _topic_arn(patient: Patient) -> str:
    stage = patient.stage
    return f"arn:{patient.partition}:sns:{stage.region}:{patient.account_id}:rolecall-{stage.name}-alarms"


def _alarms(patient: Patient) -> Finding:
    prefix = f"rolecall-{patient.stage.name}-"
    pages = patient.stage.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    found = {each["AlarmName"].removeprefix(prefix): each for page in pages for each in page["MetricAlarms"]}
    return judge_alarms(found, _topic_arn(patient), patient.deploy())


def _topic(patient: Patient) -> Finding:
    sns, topic_arn = patient.stage.client("sns"), _topic_arn(patient)
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    try:
        found = [each for page in pages for each in page["Subscriptions"]]
    except sns.exceptions.NotFoundException:
        return judge_topic(None, topic_arn, patient)
    return judge_topic(found, topic_arn, patient)


CHECKS = (
    Check(
        name="queues",
        look=lambda patient: judge_queues(patient.stage.queues()),
        permissions=("sqs:GetQueueUrl", "sqs:GetQueueAttributes"),
    ),
    Check(name="alarms", look=_alarms, permissions=("cloudwatch:DescribeAlarms",)),
    Check(name="alarm topic", look=_topic, permissions=("sns:ListSubscriptionsByTopic",)),
    Check(
        name="source policy",
        look=lambda patient: judge_source_policy(patient.records, patient.settings),
        permissions=("dynamodb:Scan",),
    ),
    Check(
        name="freeze",
        look=lambda patient: judge_freeze(patient.records, patient.settings),
        permissions=("dynamodb:Scan",),
    ),
)
