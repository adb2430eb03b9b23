"""Rolecall's Lambda entry points: which event reaches which part of the application."""

import gc

gc.disable()  # What an import makes stays: to look through it for garbage takes a twentieth of the start.

from typing import Any

from chalice.app import Chalice, CloudWatchEvent, ConvertToMiddleware, SQSEvent

from chalicelib.bootstrap import application
from chalicelib.events import PATTERN
from chalicelib.telemetry import logger, metrics

gc.enable()

app = Chalice(app_name="rolecall")
app.register_middleware(ConvertToMiddleware(logger.inject_lambda_context(clear_state=True)))
app.register_middleware(ConvertToMiddleware(metrics.log_metrics))


class AnyEvent(CloudWatchEvent):
    """An event of whatever shape: Chalice's own class fails on one that lacks a part of the envelope."""

    def _extract_attributes(self, event_dict: dict[str, Any]) -> None:
        """Take nothing apart: what an event is about is found out in events.py."""


@app.on_cw_event(PATTERN)
def on_account_event(event: CloudWatchEvent) -> None:
    """Send the accounts that an Organizations or Control Tower event names to the queue."""
    application().enqueue(event.to_dict())


on_account_event.event_class = AnyEvent


# The queue's name and the batch size are settled in .chalice/resources.yaml, which is merged over these.
@app.on_sqs_message(queue="rolecall-accounts", batch_size=10)
def enroll(event: SQSEvent) -> dict[str, Any]:
    """Bring each account of a batch, and the source policy, to where they should be."""
    return application().enroll(event.to_dict()["Records"], event.context)


# Invoked by its queue, and by freeze, which waits for the result.
@app.on_sqs_message(queue="rolecall-publish.fifo", batch_size=10)
def publish(event: SQSEvent) -> dict[str, Any]:
    """Make the source policy in IAM what the ledger grants; the messages carry nothing."""
    return application().publish(event.to_dict().get("Records", []), event.context)


@app.lambda_function()
def backfill(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send the accounts that are older than the deployment to the queue, or plan them."""
    return application().backfill(event, context)


@app.lambda_function()
def rerun(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send failed accounts again, and have the dead-letter queue redriven."""
    return application().rerun(event, context)


@app.lambda_function()
def resync(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Verify the whole organization and the source policy, and tell how they stand."""
    return application().resync(event, context)


@app.lambda_function()
def retire(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take accounts out of the source policy and their roles away."""
    return application().retire(event, context)


@app.lambda_function()
def freeze(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Deny the readers everything, or no longer."""
    return application().freeze(event, context)
