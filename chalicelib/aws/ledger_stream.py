"""The stream of the ledger, as Lambda delivers its records."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from chalicelib.announcements import RowChange
from chalicelib.aws.ledger import parse_row


def row_changes(records: Iterable[dict[str, Any]]) -> Iterator[RowChange]:
    """Yield the change of each record."""
    for record in records:
        change = record["dynamodb"]
        before, after = (change.get(image) for image in ("OldImage", "NewImage"))
        yield RowChange(
            id=record["eventID"],
            sequence_number=change["SequenceNumber"],
            changed_at=datetime.fromtimestamp(change["ApproximateCreationDateTime"], UTC),
            before=parse_row(before) if before else None,
            after=parse_row(after) if after else None,
        )
