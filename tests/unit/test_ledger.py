"""Rows of the ledger, as DynamoDB's items tell them."""

from typing import Any

import pytest

from chalicelib.accounts import Change, Outcome
from chalicelib.aws.ledger import Ledger


class _Scanned:
    """Answers with its items."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = items

    def scan(self, **_: Any) -> dict[str, Any]:
        return {"Items": list(self._items)}


def _ledger(*items: dict[str, Any]) -> Ledger:
    client: Any = _Scanned(*items)
    return Ledger(client, "ledger")


@pytest.mark.parametrize(
    ("written", "attempts"),
    [("3", 3), ("1.5", 1), ("-1" + 120 * "0", 0), ("1" + 125 * "0", 1_000_000)],
    ids=["some", "half", "few", "many"],
)
def test_a_count_that_nothing_can_be_computed_with_is_cut_down(written: str, attempts: int) -> None:
    (row,) = _ledger({"account_id": {"S": "000000000001"}, "attempts": {"N": written}}).rows()

    assert row.attempts == attempts


def test_what_is_of_another_type_is_not_known() -> None:
    item: dict[str, Any] = {
        name: {"M": {}} for name in ("outcome", "change", "reason", "attempts", "updated_at", "policy_name")
    }

    (row,) = _ledger({"account_id": {"S": "000000000001"}, **item}).rows()

    assert (row.outcome, row.change, row.reason) == (Outcome.FAILED, Change.NONE, None)
    assert (row.attempts, row.updated_at, row.policy_name) == (0, "", None)


def test_what_is_no_account_is_passed_over() -> None:
    ledger = _ledger({"account_id": {"S": "#of-a-later-release"}}, {"account_id": {"S": "000000000001"}})

    assert [row.account_id for row in ledger.rows()] == ["000000000001"]
