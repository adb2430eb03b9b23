"""Send the accounts of an event to the queue."""

from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.events import account_ids, is_membership_event
from chalicelib.messages import Message, Trigger
from chalicelib.telemetry import Metric, logger, metrics

if TYPE_CHECKING:
    from chalicelib.aws.queues import AccountsQueue


def enqueue_accounts(event: object, queue: "AccountsQueue") -> None:
    """Send an event's accounts to the queue; an event without one is counted as ignored."""
    found = account_ids(event)
    queue.send(Message(account_id=account_id, trigger=Trigger.EVENT) for account_id in found)
    detail = event.get("detail") if isinstance(event, dict) else None
    name = detail.get("eventName") if isinstance(detail, dict) else None
    # An event may be forged: only what can be a name is logged.
    known = name if isinstance(name, str) and name.isalnum() and len(name) <= 64 else None  # noqa: PLR2004
    logger.info("event", event_name=known, accounts=found)
    metrics.add_metric(Metric.EVENTS_RECEIVED if found else Metric.EVENTS_IGNORED, MetricUnit.Count, 1)
    if not found and is_membership_event(event):
        metrics.add_metric(Metric.EVENTS_WITHOUT_ACCOUNT, MetricUnit.Count, 1)
