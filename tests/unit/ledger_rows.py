"""Accounts and ledger rows, made up for what is computed from them."""

from typing import Any

from chalicelib.accounts import Account, Change, LedgerRow, Outcome
from chalicelib.arns import AccountId

WORKED = "2026-03-01T10:00:30.000001+00:00"


def account(account_id: str, name: str = "", state: str = "ACTIVE", ou_ids: tuple[str, ...] = ()) -> Account:
    return Account(id=AccountId(account_id), name=name, state=state, joined_at=None, ou_ids=ou_ids)


def row(account_id: str, outcome: Outcome = Outcome.ENROLLED, **more: Any) -> LedgerRow:
    named = {"policy_name": "CrossAccountReadOnlyAccess", "enrolled_at": WORKED} if outcome is Outcome.ENROLLED else {}
    told = {"change": Change.NONE, "updated_at": WORKED, **named, **more}
    return LedgerRow(account_id=AccountId(account_id), outcome=outcome, **told)
