"""Rows of the ledger, parsed from DynamoDB's items."""

from typing import Any

import pytest

from chalicelib.accounts import Access, Change, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.ledger import AccessRow, Ledger


class _Scanned:
    """Answers with its items."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = items

    def scan(self, **_: Any) -> dict[str, Any]:
        return {"Items": list(self._items)}


def _ledger(*items: dict[str, Any]) -> Ledger:
    client: Any = _Scanned(*items)
    return Ledger(client, "ledger")


@pytest.mark.parametrize("name", ["attempts", "revision"])
@pytest.mark.parametrize(
    ("written", "count"),
    [("3", 3), ("1.5", 1), ("-1" + 120 * "0", 0), ("1" + 125 * "0", 10**15)],
    ids=["some", "half", "few", "many"],
)
def test_a_count_that_nothing_can_be_computed_with_is_cut_down(name: str, written: str, count: int) -> None:
    (row,) = _ledger({"account_id": {"S": "000000000001"}, name: {"N": written}}).rows()

    assert getattr(row, name) == count


def test_what_is_of_another_type_is_not_known() -> None:
    names = ("outcome", "change", "reason", "attempts", "revision", "updated_at", "access", "in_force_since")
    item: dict[str, Any] = {name: {"M": {}} for name in names}
    ledger = _ledger({"account_id": {"S": "000000000001"}, **item})

    (row,) = ledger.rows()
    (access_row,) = ledger.accesses()

    assert (row.outcome, row.change, row.reason, row.access) == (Outcome.FAILED, Change.NONE, None, None)
    assert (row.attempts, row.revision, row.updated_at, row.in_force_since) == (0, 0, "", None)
    assert set(access_row[1:]) == {None}


@pytest.mark.parametrize("written", [*Access, "GRANTED", "reader", ""])
def test_an_access_that_is_none_of_the_list_counts_as_absent(written: str) -> None:
    ledger = _ledger({"account_id": {"S": "000000000001"}, "access": {"S": written}})

    (row,) = ledger.rows()
    (access_row,) = ledger.accesses()

    assert row.access == access_row.access == (Access(written) if written in set(Access) else None)


def test_publish_reads_the_access_and_what_it_measures() -> None:
    row = AccessRow(AccountId("000000000001"), Access.GRANTED, "2026-01-04", "2026-01-03", "2026-01-02", "event")
    item = {name: {"S": value} for name, value in row._asdict().items()}

    assert list(_ledger({**item, "name": {"S": "payments"}}).accesses()) == [row]


def test_what_is_no_account_is_passed_over() -> None:
    ledger = _ledger({"account_id": {"S": "#of-a-later-release"}}, {"account_id": {"S": "000000000001"}})

    assert [row.account_id for row in ledger.rows()] == ["000000000001"]
    assert [row.account_id for row in ledger.accesses()] == ["000000000001"]
