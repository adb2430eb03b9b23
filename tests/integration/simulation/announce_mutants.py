"""Mutants of the announcements: of what is shown, and of what was shown before."""

from typing import Any

from chalicelib.accounts import LedgerRow
from tests.integration.simulation.mutants import mutates

ANNOUNCEMENTS = "chalicelib.announcements"
IN_ORDER = "is announced in order"


@mutates(ANNOUNCEMENTS, "shown_outcome", IN_ORDER)
def pending_account_is_announced(_: Any, row: LedgerRow) -> Any:
    return row.outcome, row.reason


@mutates(ANNOUNCEMENTS, "settled_outcome", IN_ORDER)
def pending_account_counts_as_announced(_: Any, row: LedgerRow) -> Any:
    return row.outcome, row.reason
