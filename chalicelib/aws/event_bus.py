"""The event bus that outcomes are announced on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chalicelib.announcements import Announcement
from chalicelib.aws.errors import translated
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient


class EventBus:
    """Puts events."""

    def __init__(self, client: "EventBridgeClient", name: str, source: str) -> None:
        """Take a client, the bus's name and the events' source."""
        self._client = client
        self._name = name
        self._source = source

    def put(self, announcements: Sequence[Announcement]) -> list[int]:
        """Put at most ten events, in their order, and return the indexes of those that the bus did not accept."""
        with translated(f"putting events on bus {self._name}"):
            answer = self._client.put_events(
                Entries=[
                    {
                        "EventBusName": self._name,
                        "Source": self._source,
                        "DetailType": each.detail_type,
                        "Detail": each.detail,
                        "Time": each.changed_at,
                    }
                    for each in announcements
                ]
            )
        results = answer["Entries"]
        for each, result in zip(announcements, results, strict=True):
            named = {"account_id": each.account_id, "event": each.detail_type, "id": each.id}
            if "ErrorCode" in result:
                error = f"{result['ErrorCode']}: {result.get('ErrorMessage')}"
                logger.error("outcome not announced", extra={**named, "error": error})
            else:
                logger.info("outcome announced", extra=named)
        return [index for index, result in enumerate(results) if "ErrorCode" in result]
