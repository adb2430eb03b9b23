"""Rows of the ledger, parsed from DynamoDB's items."""

from typing import Any

import pytest

from chalicelib.accounts import Access, Change, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.ledger import AccessRow, Ledger


class _Client:
    """A client whose scan returns these items."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = items

    def scan(self, **_: Any) -> dict[str, Any]:
        return {"Items": list(self._items)}


def _ledger(*items: dict[str, Any]) -> Ledger:
    client: Any = _Client(*items)
    return Ledger(client, "ledger")


@pytest.mark.parametrize("name", ["attempts", "revision"])
@pytest.mark.parametrize(
    ("written", "count"),
    [("3", 3), ("1.5", 1), ("-1" + 120 * "0", 0), ("1" + 125 * "0", 10**15)],
    ids=["integer", "fraction", "negative", "large"],
)
def test_edited_count_is_limited_to_a_valid_range(name: str, written: str, count: int) -> None:
    (row,) = _ledger({"account_id": {"S": "000000000001"}, name: {"N": written}}).rows()

    assert getattr(row, name) == count


def test_attribute_of_another_type_is_absent() -> None:
    names = ("outcome", "change", "reason", "attempts", "revision", "updated_at", "access", "in_force_since")
    item: dict[str, Any] = {name: {"M": {}} for name in names}
    ledger = _ledger({"account_id": {"S": "000000000001"}, **item})

    (row,) = ledger.rows()
    (access_row,) = ledger.accesses()

    assert (row.outcome, row.change, row.reason, row.access) == (Outcome.FAILED, Change.NONE, None, None)
    assert (row.attempts, row.revision, row.updated_at, row.in_force_since) == (0, 0, "", None)
    assert set(access_row[1:]) == {None}


def test_outcome_that_is_only_shown_is_not_read() -> None:
    item = {name: {"S": "pending"} for name in ("outcome", "previous_outcome")}

    (row,) = _ledger({"account_id": {"S": "000000000001"}, **item}).rows()

    assert (row.outcome, row.previous_outcome) == (Outcome.FAILED, None)


@pytest.mark.parametrize("written", [*Access, "GRANTED", "reader", ""])
def test_unknown_access_is_absent(written: str) -> None:
    ledger = _ledger({"account_id": {"S": "000000000001"}, "access": {"S": written}})

    (row,) = ledger.rows()
    (access_row,) = ledger.accesses()

    assert row.access == access_row.access == (Access(written) if written in set(Access) else None)


def test_accesses_returns_the_attributes_that_publish_reads() -> None:
    row = AccessRow(AccountId("000000000001"), Access.GRANTED, "2026-01-04", "2026-01-03", "2026-01-02", "event")
    item = {name: {"S": value} for name, value in row._asdict().items()}

    assert list(_ledger({**item, "name": {"S": "payments"}}).accesses()) == [row]


def test_item_of_another_key_is_ignored() -> None:
    ledger = _ledger({"account_id": {"S": "#other"}}, {"account_id": {"S": "000000000001"}})

    assert [row.account_id for row in ledger.rows()] == ["000000000001"]
    assert [row.account_id for row in ledger.accesses()] == ["000000000001"]
