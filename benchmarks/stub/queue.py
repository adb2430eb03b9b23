"""SQS: accepts every message."""

from typing import Any

from benchmarks.stub.response import Response, ServiceError, json_response


def handle(operation: str, content: dict[str, Any]) -> Response:
    """Return the response to a call of SQS."""
    match operation:
        case "SendMessageBatch":
            return json_response({"Successful": [_accepted(entry["Id"]) for entry in content["Entries"]], "Failed": []})
        case "SendMessage":
            return json_response({"MessageId": _MESSAGE_ID.format("0" * 12), "SequenceNumber": "18849496460467696128"})
        case "ChangeMessageVisibility":
            return json_response({})
        case _:
            raise ServiceError("InvalidAction")


_MESSAGE_ID = "7a62c49f-347e-4fc4-9331-{}"


def _accepted(entry_id: str) -> dict[str, str]:
    # Clients verify the body's MD5 only if the response has one.
    return {"Id": entry_id, "MessageId": _MESSAGE_ID.format(f"{entry_id:>012}")}
