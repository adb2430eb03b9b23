"""SQS: takes every message."""

from typing import Any

from benchmarks.stub.answer import Answer, Refusal, as_json


def answer(operation: str, content: dict[str, Any]) -> Answer:
    """Answer a call of SQS."""
    match operation:
        case "SendMessageBatch":
            return as_json({"Successful": [_taken(entry["Id"]) for entry in content["Entries"]], "Failed": []})
        case "SendMessage":
            return as_json({"MessageId": _MESSAGE_ID.format("0" * 12), "SequenceNumber": "18849496460467696128"})
        case "ChangeMessageVisibility":
            return as_json({})
        case _:
            raise Refusal("InvalidAction")


_MESSAGE_ID = "7a62c49f-347e-4fc4-9331-{}"


def _taken(entry_id: str) -> dict[str, str]:
    # Clients check a digest of the body only where one is answered.
    return {"Id": entry_id, "MessageId": _MESSAGE_ID.format(f"{entry_id:>012}")}
