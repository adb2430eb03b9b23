"""The stream of the ledger, a bus for announcements, and what has to be announced on it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib.announcements import announcement
from chalicelib.aws.ledger_stream import row_changes
from tests.integration.simulation.calls import Call
from tests.integration.simulation.tables import Item, plain

BATCH = 100
_PENDING = {("enrolled", False), ("skipped", True), ("retired", True)}
"""The outcomes that are not in force: access is still to be opened, or to be revoked."""

State = tuple[str | None, str | None]


class LedgerStream:
    """Every change of the ledger's rows, as DynamoDB's stream records it."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._rows: dict[str, Item] = {}

    def note(self, account_id: str, row: Item | None, now: float) -> None:
        """Record how a row changed; items are never modified, so an unchanged one is the same object."""
        before = self._rows.pop(account_id, None)
        if row is not None:
            self._rows[account_id] = row
        if row is before:
            return
        images = {name: image for name, image in (("OldImage", before), ("NewImage", row)) if image is not None}
        number = len(self.records) + 1
        change = {"SequenceNumber": f"{number:021}", "ApproximateCreationDateTime": now, **images}
        self.records.append({"eventID": f"event-{number}", "dynamodb": change})


class Bus:
    """The default event bus. `reject` returns an error code for an event that it should not accept."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.reject: Callable[[Mapping[str, Any]], str | None] = lambda _: None

    def answer(self, call: Call) -> dict[str, Any]:
        assert call.name == "PutEvents", call.name
        codes = [self.reject(entry) for entry in call.params["Entries"]]
        accepted = [entry for entry, code in zip(call.params["Entries"], codes, strict=True) if code is None]
        self.events += [{**entry, "Detail": json.loads(entry["Detail"])} for entry in accepted]
        results = [{"EventId": "e"} if code is None else {"ErrorCode": code, "ErrorMessage": "later"} for code in codes]
        return {"FailedEntryCount": len(codes) - codes.count(None), "Entries": results}


class StreamReader:
    """Delivers the stream in order, as Lambda does; a failed batch again, from the first reported record."""

    def __init__(self, stream: LedgerStream, *, deliveries: int = 1) -> None:
        """Take how often each batch is delivered."""
        self._stream = stream
        self._deliveries = deliveries
        self.position = 0

    @property
    def is_finished(self) -> bool:
        return self.position == len(self._stream.records)

    def deliver(self, announce: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        """Deliver one batch; what `announce` raises leaves the position."""
        batch = self._stream.records[self.position : self.position + BATCH]
        for _ in range(self._deliveries):
            failures = announce(batch)["batchItemFailures"]
        failed = {each["itemIdentifier"] for each in failures}
        unfinished = [i for i, each in enumerate(batch) if each["dynamodb"]["SequenceNumber"] in failed]
        self.position += min(unfinished, default=len(batch))


def required(records: list[dict[str, Any]]) -> dict[str, list[tuple[State, State]]]:
    """Return each account's changes of the shown outcome and reason, after pending: before and after."""
    changes: dict[str, list[tuple[State, State]]] = {}
    last: dict[str, State] = {}
    for record in records:
        images = record["dynamodb"]
        (account_id,) = {images[name]["account_id"]["S"] for name in ("OldImage", "NewImage") if name in images}
        if "NewImage" not in images:
            last.pop(account_id)
            continue
        row = plain(images["NewImage"])
        if (row["outcome"], "in_force_since" in row) in _PENDING:
            last.setdefault(account_id, (None, None))
            continue
        state, before = (row["outcome"], row.get("reason")), last.get(account_id, (None, None))
        if state != before:
            changes.setdefault(account_id, []).append((before, state))
        last[account_id] = state
    return changes


def announcements(records: list[dict[str, Any]]) -> dict[str, list[tuple[State, State]]]:
    """Return each account's changes as they are announced if nothing fails."""
    found = [each for change in row_changes(records) if (each := announcement(change)) is not None]
    return announced([{"DetailType": each.detail_type, "Detail": json.loads(each.detail)} for each in found])


def announced(events: list[dict[str, Any]]) -> dict[str, list[tuple[State, State]]]:
    """Return each account's announced changes, as a receiver has them that ignores repeated ids."""
    changes: dict[str, list[tuple[State, State]]] = {}
    by_id: dict[str, dict[str, Any]] = {}
    for event in events:
        detail = event["Detail"]
        if detail["id"] in by_id:
            assert event == by_id[detail["id"]], f"a repeated event differs: {event}"
            continue
        by_id[detail["id"]] = event
        assert event["DetailType"] == f"Account {detail['outcome'].title()}"
        before = (detail["previous_outcome"], detail["previous_reason"])
        changes.setdefault(detail["account_id"], []).append((before, (detail["outcome"], detail["reason"])))
    return changes
