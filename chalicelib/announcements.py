"""Announcements: an event for every change of an account's shown outcome, in the order in which the ledger changed."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chalicelib.accounts import (
    RETRYABLE_REASONS,
    LedgerRow,
    Outcome,
    format_time,
    settled_outcome,
    shown_outcome,
)
from chalicelib.arns import AccountId, is_account_id
from chalicelib.errors import RolecallError
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from chalicelib.aws.event_bus import EventBus

SCHEMA_VERSION = 1
"""Of the events' detail (docs/events.md)."""

DETAIL_TYPES = {
    Outcome.ENROLLED: "Account Enrolled",
    Outcome.FAILED: "Account Failed",
    Outcome.SKIPPED: "Account Skipped",
    Outcome.RETIRED: "Account Retired",
}

_PUT_AT_ONCE = 10  # entries of one PutEvents ("PutEvents" in the Amazon EventBridge API Reference)
# Ten events are smaller than the 256 KB that one PutEvents may contain, whatever an edited row contains.
_MAX_CHARS = 200
_MAX_LONG_CHARS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RowChange:
    """A change of a ledger row, as the table's stream shows it: absent rows are None."""

    id: str
    sequence_number: str
    changed_at: datetime
    before: LedgerRow | None
    after: LedgerRow | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """An event to be put on the bus, and the change that it announces."""

    id: str
    sequence_number: str
    account_id: AccountId
    detail_type: str
    detail: str
    changed_at: datetime


class Announcer:
    """Announces the changes of a batch of the stream."""

    def __init__(self, bus: "EventBus") -> None:
        """Take the bus."""
        self._bus = bus

    def __call__(self, changes: Iterable[RowChange]) -> dict[str, Any]:
        """Return the first change that is not finished: the stream delivers it again, and all after it.

        Raise RolecallError if the bus can't be reached at all, so that the failure is an error of the function.
        """
        is_first = True
        for entries in _rounds(each for change in changes if (each := announcement(change)) is not None):
            try:
                failed = self._bus.put(entries)
            except RolecallError:
                if is_first:
                    raise
                logger.exception("events not put")
                failed = [0]
            if failed:
                return {"batchItemFailures": [{"itemIdentifier": entries[min(failed)].sequence_number}]}
            is_first = False
        return {"batchItemFailures": []}


def announcement(change: RowChange) -> Announcement | None:
    """Return the event for a change of the shown outcome or its reason, or None if neither changed.

    Pending is not announced, and what an account was before is what it was before that. A deleted row shows no outcome.
    """
    row = change.after
    if row is None or not is_account_id(row.account_id):
        return None
    outcome, reason = shown_outcome(row)
    previous = settled_outcome(change.before) if change.before is not None else (None, None)
    if outcome is Outcome.PENDING or (outcome, reason) == previous:
        return None
    previous_outcome, previous_reason = previous
    detail = {
        "schema_version": SCHEMA_VERSION,
        "id": change.id,
        "sequence_number": change.sequence_number,
        "account_id": row.account_id,
        "name": _cut(row.name),
        "ou_path": _ou_path(row.ou_path),
        "outcome": outcome,
        "reason": reason,
        "error": _cut(row.error, _MAX_LONG_CHARS),
        "will_be_retried": outcome is Outcome.FAILED and reason in RETRYABLE_REASONS,
        "role_arn": _cut(row.role_arn),
        "previous_outcome": previous_outcome,
        "previous_reason": previous_reason,
        "changed_at": format_time(change.changed_at),
        "enrolled_at": _cut(row.enrolled_at),
        "in_force_since": _cut(row.in_force_since),
        "joined_at": _cut(row.joined_at),
    }
    return Announcement(
        id=change.id,
        sequence_number=change.sequence_number,
        account_id=row.account_id,
        detail_type=DETAIL_TYPES[outcome],
        detail=json.dumps(detail, ensure_ascii=False, separators=(",", ":")),
        changed_at=change.changed_at,
    )


def _cut(text: str | None, most: int = _MAX_CHARS) -> str | None:
    return text[:most] if text is not None else None


def _ou_path(path: str | None) -> list[str] | None:
    """Return a list: a rule's pattern matches any of its elements, so one OU's id matches all accounts below it."""
    return None if path is None else [ou_id for ou_id in path[:_MAX_LONG_CHARS].split("/") if ou_id]


def _rounds(announcements: Iterable[Announcement]) -> Iterator[list[Announcement]]:
    """Yield the events that may be put at once: at most one of each account, so that its events stay in order."""
    entries: list[Announcement] = []
    for each in announcements:
        if len(entries) == _PUT_AT_ONCE or any(each.account_id == other.account_id for other in entries):
            yield entries
            entries = []
        entries.append(each)
    if entries:
        yield entries
