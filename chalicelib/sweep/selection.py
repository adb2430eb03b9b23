"""Which accounts a backfill, rerun or resync selects, given the listing, the ledger and the records of the source policy."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from chalicelib.accounts import (
    CONTROL_POLICY_DENIALS,
    REMOVAL_REASONS,
    RETRYABLE_REASONS,
    Access,
    Account,
    LedgerRow,
    Outcome,
    is_retry_pending,
    parse_time,
)
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.requests import Request, Selection
from chalicelib.source_policy.records import Records

if TYPE_CHECKING:
    from chalicelib.aws.ledger import AccessRow

_FIRST_SPACING = timedelta(hours=1)
_MAX_SPACING = timedelta(days=7)
# "Changes that I make are not always immediately visible" in the IAM User Guide: an account that was tried within this time
# after a change of control policies is tried again.
_POLICIES_EFFECTIVE_AFTER = timedelta(minutes=15)


def covers_organization(request: Request) -> bool:
    """Whether a request is about every account, so that one that the listing lacks is gone."""
    is_limited = isinstance(request.accounts, tuple) or request.accounts is Selection.FAILED
    return not (is_limited or request.ous or request.reasons)


def is_selected(account: Account, row: LedgerRow | None, ineligible: Reason | None, request: Request) -> bool:
    """Whether a request selects a listed account; `ineligible` is why it must not be enrolled, or None."""
    if request.ous and not account.is_below(request.ous):
        return False
    if request.reasons and (row is None or row.reason not in request.reasons):
        return False
    if row is not None and ineligible in REMOVAL_REASONS and not (row.role_arn or row.error or row.has_access):
        return row.access is not Access.EXCLUDED  # otherwise it is offboarded completely
    if request.accounts is Selection.ALL:
        return True
    if request.accounts is Selection.FAILED:
        return row is not None and row.outcome is Outcome.FAILED
    if row is None:
        return True
    if ineligible is None:
        return row.outcome in {Outcome.SKIPPED, Outcome.RETIRED}
    return row.outcome in {Outcome.ENROLLED, Outcome.FAILED} or row.reason is not ineligible


def is_first_seen(row: LedgerRow | None) -> bool:
    """Whether a listed account has not been a member before, as far as the ledger shows."""
    return row is None or row.reason is Reason.DEPARTED


def loses_access(row: LedgerRow | None, ineligible: Reason | None) -> bool:
    """Whether an account would lose access although no operator asked for that."""
    return row is not None and row.has_access and ineligible is not None and ineligible not in REMOVAL_REASONS


def is_gone(row: "AccessRow", listed: Collection[int], request: Request) -> bool:
    """Whether a listing of the whole organization lacks an account that was a member when its row was written."""
    is_settled = row.reason in {Reason.DEPARTED, *REMOVAL_REASONS} and not row.has_access
    return covers_organization(request) and int(row.account_id) not in listed and not is_settled


def orphaned_accounts(records: Records, listed: Collection[int], request: Request) -> set[AccountId]:
    """Return the accounts that a shard names and a listing of the whole organization lacks.

    A table that was restored or edited may name accounts that have no row.
    """
    if not covers_organization(request):
        return set()
    return {account_id for account_id in records.maybe_named if int(account_id) not in listed}


def is_due(row: LedgerRow, request: Request, now: datetime, policies_changed_at: datetime | None) -> bool:
    """Whether a rerun sends a failed account again: never while its message is still being retried.

    Terminal failures are sent at growing intervals, of an hour to a week, unless an operator requests it, or the
    control policies that denied the account have changed since.
    """
    if row.outcome is not Outcome.FAILED or (request.reasons and row.reason not in request.reasons):
        return False
    if row.reason in RETRYABLE_REASONS:
        return not is_retry_pending(row, now)
    if row.attempts == 0:
        return True  # The source policy was blocked: it is due as soon as that is over.
    tried_at = parse_time(row.updated_at)
    changed_at = policies_changed_at if row.reason in CONTROL_POLICY_DENIALS else None
    if changed_at is not None and tried_at - changed_at < _POLICIES_EFFECTIVE_AFTER:
        return True
    spacing = min(_FIRST_SPACING * 2 ** min(row.attempts - 1, 10), _MAX_SPACING)
    return not request.scheduled or now - tried_at >= spacing
