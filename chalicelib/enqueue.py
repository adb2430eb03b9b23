"""Send the accounts of an event to the queue, and record changes of control policies."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.events import account_ids, changes_control_policies, is_membership_event, reports_member
from chalicelib.messages import Message, Trigger
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.queues import AccountsQueue
    from chalicelib.aws.source_policy_table import SourcePolicyTable


def enqueue_accounts(
    event: object,
    tag_keys: Collection[str],
    queue: "AccountsQueue",
    table: Callable[[], "SourcePolicyTable"],
    clock: Callable[[], datetime],
) -> None:
    """Send an event's accounts to the queue, and record a change of control policies; any other event is counted as ignored.

    `tag_keys` are the keys of the tags whose change makes an account due.
    The accounts that a changed policy denied are not looked up here: the next scheduled rerun sends them.
    """
    found, now = account_ids(event, tag_keys), clock()
    changes_policies = changes_control_policies(event)
    if changes_policies:
        table().record_control_policy_change(now)
    first_seen_at = now if reports_member(event) else None
    queue.send(Message(account_id=each, trigger=Trigger.EVENT, first_seen_at=first_seen_at) for each in found)
    detail = event.get("detail") if isinstance(event, dict) else None
    name = detail.get("eventName") if isinstance(detail, dict) else None
    # An event may be forged: only what can be a name is logged.
    known = name if isinstance(name, str) and name.isalnum() and len(name) <= 64 else None  # noqa: PLR2004
    logger.info("event", event_name=known, accounts=found)
    is_used = found or changes_policies
    metrics.add_metric(Metric.EVENTS_RECEIVED if is_used else Metric.EVENTS_IGNORED, MetricUnit.Count, 1)
    if not found and is_membership_event(event):
        metrics.add_metric(Metric.EVENTS_WITHOUT_ACCOUNT, MetricUnit.Count, 1)
