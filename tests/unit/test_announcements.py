"""Announcements: which changes of a row are announced, what the events contain, and in which order they are put."""

import json
import re
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import LedgerRow, Outcome, with_outcome
from chalicelib.announcements import DETAIL_TYPES, Announcement, Announcer, RowChange, announcement
from chalicelib.errors import Reason, RolecallError
from tests.conftest import ROOT
from tests.unit.ledger_rows import NOW, WORKED, numbered, row

SCHEMA = json.loads((ROOT / "docs" / "events.schema.json").read_text())
ID = numbered(1)
DENIED, EXCLUDED, CLOSED = Reason.ACCESS_DENIED, Reason.EXCLUDED, Reason.CLOSED
ENROLLED = row(ID, outcome_since=WORKED)
PENDING = row(ID, outcome_since=WORKED, in_force_since=None)
FAILED = row(ID, Outcome.FAILED, reason=DENIED)

Shown = tuple[Outcome | None, Reason | None]


def changed(before: LedgerRow | None, after: LedgerRow | None, number: int = 1) -> RowChange:
    return RowChange(id=f"e{number}", sequence_number=str(number), changed_at=NOW, before=before, after=after)


def detail(before: LedgerRow | None, after: LedgerRow | None) -> dict[str, Any] | None:
    """Return the detail of the event for a change, which has the documented form, or None."""
    found = announcement(changed(before, after))
    if found is None:
        return None
    content: dict[str, Any] = json.loads(found.detail)
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    assert content.keys() == SCHEMA["properties"].keys()
    return content


def states(before: LedgerRow | None, after: LedgerRow | None) -> tuple[Shown, Shown] | None:
    """Return the previous and the new state in the event for a change, or None."""
    found = detail(before, after)
    if found is None:
        return None
    return (found["previous_outcome"], found["previous_reason"]), (found["outcome"], found["reason"])


def then(before: LedgerRow, outcome: Outcome, reason: Reason | None = None) -> LedgerRow:
    """Return a row as enroll writes it over another."""
    return with_outcome(before, outcome, reason, NOW)


def marked(before: LedgerRow, since: str | None) -> LedgerRow:
    """Return a row as publish writes it over another that it has read."""
    return LedgerRow(
        **{name: getattr(before, name) for name in before.__slots__}
        | {"in_force_since": since, "marked_for": before.outcome_since}
    )


def test_event_in_the_document_matches_the_schema() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "events.md").read_text(), re.DOTALL)
    event = json.loads(example)

    jsonschema.validate(event["detail"], SCHEMA)
    assert event["detail"].keys() == SCHEMA["properties"].keys()
    assert event["detail-type"] == DETAIL_TYPES[Outcome(event["detail"]["outcome"])]


NEW = (None, None)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, ENROLLED, (NEW, ("enrolled", None))),
        (None, FAILED, (NEW, ("failed", DENIED))),
        (None, row(ID, Outcome.SKIPPED, reason=EXCLUDED), (NEW, ("skipped", EXCLUDED))),
        (ENROLLED, then(ENROLLED, Outcome.FAILED, DENIED), (("enrolled", None), ("failed", DENIED))),
        # Still granted, it was enrolled as soon as its check succeeded.
        (
            row(ID, Outcome.FAILED, reason=DENIED, in_force_since=WORKED),
            ENROLLED,
            (("failed", DENIED), ("enrolled", None)),
        ),
        (FAILED, then(FAILED, Outcome.FAILED, Reason.QUOTA), (("failed", DENIED), ("failed", Reason.QUOTA))),
        # Nothing to announce.
        (None, PENDING, None),
        (ENROLLED, None, None),
        (FAILED, row(ID, Outcome.FAILED, reason=DENIED, attempts=2, error="again"), None),
        (ENROLLED, then(ENROLLED, Outcome.RETIRED, EXCLUDED), None),
        (None, row("no account", Outcome.FAILED, reason=DENIED), None),
    ],
)
def test_change_of_the_shown_outcome_is_announced(
    before: LedgerRow | None, after: LedgerRow | None, expected: tuple[Shown, Shown] | None
) -> None:
    assert states(before, after) == expected


def test_enrolled_account_is_announced_once_its_access_is_in_force() -> None:
    pending = then(FAILED, Outcome.ENROLLED)

    assert states(FAILED, pending) is None
    assert states(pending, marked(pending, WORKED)) == (("failed", DENIED), ("enrolled", None))


def test_failure_while_pending_is_compared_with_what_was_shown() -> None:
    pending = then(FAILED, Outcome.ENROLLED)

    assert states(pending, then(pending, Outcome.FAILED, DENIED)) is None
    assert states(pending, then(pending, Outcome.FAILED, Reason.QUOTA)) == (
        ("failed", DENIED),
        ("failed", Reason.QUOTA),
    )


def test_access_that_lapses_and_returns_is_not_announced() -> None:
    lapsed = marked(ENROLLED, None)

    assert states(ENROLLED, lapsed) is None
    assert states(lapsed, marked(lapsed, WORKED)) is None
    assert states(lapsed, then(lapsed, Outcome.SKIPPED, EXCLUDED)) == (("enrolled", None), ("skipped", EXCLUDED))


def test_retirement_is_announced_once_access_is_revoked() -> None:
    """With the last of several reasons, and the outcome that was shown before the first."""
    excluded = then(ENROLLED, Outcome.RETIRED, EXCLUDED)
    closed = then(excluded, Outcome.RETIRED, CLOSED)

    assert states(excluded, closed) is None
    assert states(closed, marked(closed, None)) == (("enrolled", None), ("retired", CLOSED))


def test_account_included_again_before_it_is_revoked_stays_enrolled() -> None:
    excluded = then(ENROLLED, Outcome.RETIRED, EXCLUDED)

    assert states(excluded, then(excluded, Outcome.ENROLLED)) is None


def test_mark_that_an_older_run_sets_announces_no_other_outcome() -> None:
    """A run of publish marks the row of an account that was excluded meanwhile; the next removes the mark."""
    skipped = then(row(ID, Outcome.FAILED, reason=DENIED, outcome_since=WORKED), Outcome.SKIPPED, EXCLUDED)
    mistaken = marked(skipped, WORKED)

    assert states(skipped, mistaken) is None
    assert states(mistaken, marked(mistaken, None)) is None


def test_failure_shows_whether_the_queue_retries_it() -> None:
    retried = {
        reason: (detail(None, row(ID, Outcome.FAILED, reason=reason)) or {})["will_be_retried"]
        for reason in (Reason.NOT_READY, Reason.THROTTLED, DENIED, Reason.QUOTA)
    }

    assert retried == {Reason.NOT_READY: True, Reason.THROTTLED: True, DENIED: False, Reason.QUOTA: False}


@pytest.mark.parametrize(
    ("path", "expected"),
    [(None, None), ("", []), ("ou-ab12-11111111/ou-ab12-22222222", ["ou-ab12-11111111", "ou-ab12-22222222"])],
)
def test_path_is_a_list_of_units(path: str | None, expected: list[str] | None) -> None:
    assert (detail(None, row(ID, ou_path=path)) or {})["ou_path"] == expected


def test_ten_events_of_edited_rows_fit_into_one_request() -> None:
    long = 300_000 * "\0"
    texts = dict.fromkeys(("name", "error", "role_arn", "ou_path", "joined_at", "enrolled_at", "in_force_since"), long)
    found = announcement(changed(None, row(ID, Outcome.FAILED, reason=DENIED, **texts)))

    assert found is not None
    assert 10 * len(found.detail.encode()) < 250_000


class _Bus:
    """Accepts events in the order in which they are put; `rejected` are the numbers of those that it doesn't accept."""

    def __init__(self, rejected: frozenset[int] = frozenset(), *, broken_after: int | None = None) -> None:
        self.puts: list[list[Announcement]] = []
        self.accepted: list[Announcement] = []
        self._rejected, self._broken_after = rejected, broken_after

    def put(self, announcements: Sequence[Announcement]) -> list[int]:
        if len(self.puts) == self._broken_after:
            message = "the bus can't be reached"
            raise RolecallError(message)
        self.puts.append(list(announcements))
        failed = [index for index, each in enumerate(announcements) if int(each.sequence_number) in self._rejected]
        self.accepted += [each for index, each in enumerate(announcements) if index not in failed]
        return failed


def announce(bus: Any, changes: list[RowChange]) -> int | None:
    """Return the number of the first change that is not finished."""
    failures = Announcer(bus)(changes)["batchItemFailures"]
    return int(failures[0]["itemIdentifier"]) if failures else None


def failures_of(*accounts: int) -> list[RowChange]:
    """Return one failure of each account, which may be there several times."""
    rows = [row(numbered(account), Outcome.FAILED, reason=DENIED) for account in accounts]
    return [changed(None, each, number) for number, each in enumerate(rows, 1)]


@given(st.lists(st.integers(1, 6), max_size=40), st.frozensets(st.integers(1, 40), max_size=3))
def test_no_event_is_put_before_an_earlier_one_of_its_account(accounts: list[int], rejected: frozenset[int]) -> None:
    bus = _Bus(rejected)

    first = announce(bus, failures_of(*accounts))

    accepted = [int(each.sequence_number) for each in bus.accepted]
    failed = min((number for number in rejected if number <= len(accounts)), default=None)
    assert first == failed
    assert accepted == sorted(accepted)
    assert set(range(1, failed or len(accounts) + 1)) <= set(accepted)
    if failed is not None:
        assert not [number for number in accepted if number > failed and accounts[number - 1] == accounts[failed - 1]]


def test_events_of_ten_accounts_are_put_at_once() -> None:
    bus = _Bus()

    assert announce(bus, failures_of(*range(1, 22))) is None
    assert [len(each) for each in bus.puts] == [10, 10, 1]


def test_bus_that_breaks_repeats_only_what_is_not_announced() -> None:
    bus = _Bus(broken_after=1)

    assert announce(bus, failures_of(1, 1, 2)) == 2
    assert len(bus.accepted) == 1
    with pytest.raises(RolecallError, match="can't be reached"):
        announce(_Bus(broken_after=0), failures_of(1))


def test_change_without_an_event_is_finished() -> None:
    assert announce(_Bus(), [changed(ENROLLED, None), changed(ENROLLED, ENROLLED)]) is None
