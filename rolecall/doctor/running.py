"""Whether work gets done, and somebody hears where it doesn't: queues, alarms, their topic, and the freeze."""

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.aws.shards import Snapshot
from rolecall.doctor.finding import Check, Finding, cant_tell, ok, wrong
from rolecall.doctor.patient import Patient
from rolecall.stage import Queue

ALARMS = (
    *("dead-letters", "accounts-need-attention", "queue-age", "function-errors", "invocations-turned-away"),
    *("rules-failed", "source-policy-full", "resync-missing", "source-policy-pending", "enrollment-slow"),
)
"""Each is a heading of docs/runbook.md."""


def judge_queues(queues: Sequence[Queue]) -> Finding:
    """Judge how many messages each queue holds."""
    held = {queue.name: queue.visible + queue.in_flight + queue.delayed for queue in queues}
    if held["accounts-dlq"]:
        return wrong(
            f"accounts-dlq is not empty ({held['accounts-dlq']}): work that never finished",
            "rolecall rerun, once what docs/runbook.md#dead-letters tells is mended",
        )
    if held["events-dlq"]:
        return wrong(
            f"events-dlq is not empty ({held['events-dlq']}): events that nobody could handle",
            "docs/runbook.md#dead-letters",
        )
    if held["accounts"]:
        return cant_tell(
            f"the queue is not empty ({held['accounts']}): accounts are being worked on",
            "rolecall doctor, once rolecall status tells that none is",
        )
    return ok("the queue and both dead-letter queues are empty")


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


def judge_freeze(shards: Snapshot) -> Finding:
    """Judge whether the readers may read at all."""
    if shards.stopped:
        return wrong(
            "enrolling is stopped, since an uninstall was begun",
            "rolecall uninstall to end it, or rolecall backfill to call it off",
        )
    if any(shard.frozen for shard in shards.shards):
        return wrong("the readers are denied every new session", "rolecall unfreeze")
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
        name="freeze",
        look=lambda patient: judge_freeze(patient.shards),
        permissions=("dynamodb:Scan", "dynamodb:GetItem"),
    ),
)
