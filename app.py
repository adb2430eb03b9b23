"""Rolecall's Lambda functions: each passes its event to the application."""

import gc

gc.disable()  # Imported objects stay: collecting garbage meanwhile takes a twentieth of the start.

from collections.abc import Callable
from typing import Any

from chalice.app import Chalice, CloudWatchEvent, ConvertToMiddleware, DynamoDBEvent, SQSEvent

from chalicelib.bootstrap import announcer, application
from chalicelib.errors import RequestError
from chalicelib.events import PATTERN
from chalicelib.telemetry import logger, metrics

gc.enable()

app = Chalice(app_name="rolecall")
app.register_middleware(ConvertToMiddleware(logger.inject_lambda_context(clear_state=True)))
app.register_middleware(ConvertToMiddleware(metrics.log_metrics))


@app.middleware("pure_lambda")
def return_rejections(event: Any, get_response: Callable[[Any], Any]) -> Any:
    """Return why a request is rejected, in the form of Lambda's errors; raised, it would count as an error of the function."""
    try:
        return get_response(event)
    except RequestError as error:
        logger.warning("request rejected", error=str(error))
        return {"errorType": type(error).__name__, "errorMessage": str(error)}


class AnyEvent(CloudWatchEvent):
    """An event of any shape: Chalice's own class fails on one that lacks a part of the envelope."""

    def _extract_attributes(self, event_dict: dict[str, Any]) -> None:
        """Do nothing: events.py parses the event."""


@app.on_cw_event(PATTERN)
def on_account_event(event: CloudWatchEvent) -> None:
    """Send the accounts that an Organizations or Control Tower event names to the queue."""
    application().enqueue(event.to_dict())


on_account_event.event_class = AnyEvent


# .chalice/resources.yaml overrides the queue's name and the batch size.
@app.on_sqs_message(queue="rolecall-accounts", batch_size=10)
def enroll(event: SQSEvent) -> dict[str, Any]:
    """Reconcile each account of a batch."""
    return application().enroll(event.to_dict()["Records"], event.context)


# Invoked by its queue, and by freeze, which waits for the response.
@app.on_sqs_message(queue="rolecall-publish.fifo", batch_size=10)
def publish(event: SQSEvent) -> dict[str, Any]:
    """Write the source policy that the ledger grants; the messages have no content."""
    return application().publish(event.to_dict().get("Records", []), event.context)


@app.lambda_function()
def backfill(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send the organization's accounts to the queue, or plan them."""
    return application().backfill(event, context)


@app.lambda_function()
def rerun(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send failed accounts again, and redrive the dead-letter queues."""
    return application().rerun(event, context)


@app.lambda_function()
def resync(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send accounts to be verified, request a check of the source policy, and measure the organization."""
    return application().resync(event, context)


@app.lambda_function()
def retire(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Revoke accounts and delete their roles, or uninstall everything."""
    return application().retire(event, context)


@app.lambda_function()
def freeze(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Deny the source principals everything, or lift that."""
    return application().freeze(event, context)


# .chalice/resources.yaml overrides the stream and the batch size.
@app.on_dynamodb_record(stream_arn="rolecall-ledger")
def announce_outcome(event: DynamoDBEvent) -> dict[str, Any]:
    """Put an event on the event bus for every change of an account's outcome."""
    return announcer()(event.to_dict()["Records"])
