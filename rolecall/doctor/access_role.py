"""The check that `enroll` can assume an access role, made in one account by a dry run of the deployed functions."""

from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, why_not_selected
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok, unknown
from rolecall.errors import FunctionError
from rolecall.partitions import add_account_arguments
from rolecall.reasons import runbook_section

_FULL_PERCENT = 90  # the packed size also depends on the account's id and on the role
_NO_ACCESS = {Reason.NO_ACCESS_ROLE, Reason.NOT_READY, Reason.ACCESS_DENIED, Reason.SCP_DENIED, Reason.RCP_DENIED}


def choose_account(settings: Settings, rows: Iterable[LedgerRow], listed: Iterable[Account]) -> AccountId | None:
    """Return the account to check: one where access failed, else an enrolled one, else an eligible one, else None.

    Never the management account, which needs no access role.
    """
    members = [row for row in rows if row.account_id != settings.management_account_id]
    for row in members:
        if row.outcome is Outcome.FAILED and row.reason in _NO_ACCESS:
            return row.account_id
    for row in members:
        if row.outcome is Outcome.ENROLLED:
            return row.account_id
    for account in listed:
        if account.id != settings.management_account_id and why_not_selected(account, settings) is None:
            return account.id
    return None


def check_dry_run(account_id: AccountId, response: Mapping[str, Any]) -> CheckResult:
    """Check that a dry run reached the account."""
    account = response["accounts"][0]
    if account["error"] is not None:
        return failed(
            f"{account_id}: {account['reason']}: {account['error']}",
            f"rolecall rerun {account_id}, after the steps in {runbook_section(Reason(account['reason']))}",
        )
    if account["outcome"] != Outcome.ENROLLED:
        return unknown(
            f"{account_id} was not accessed because it is {account['outcome']}: {account['reason']}",
            "rolecall doctor --account …, with an eligible account",
        )
    actions = len(account["actions"])
    planned = f"; {actions} changes are planned there" if actions else ""
    packed = response["packed_policy_percent"]
    if packed > _FULL_PERCENT:
        return failed(
            f"enroll can access {account_id}, but the packed session policy takes {packed} % of its limit",
            "rolecall deploy, with fewer MemberRolePolicyArns",
        )
    return ok(f"enroll can access {account_id}; the packed session policy takes {packed} % of its limit{planned}")


def _check(context: Context) -> CheckResult:
    account_id = (
        context.account
        or choose_account(context.settings, context.rows, ())
        or choose_account(context.settings, (), context.stage.accounts())
    )
    if account_id is None:
        return unknown("there is no account to check", f"aws {add_account_arguments(context.partition)}")
    try:
        response = context.stage.invoke("backfill", {"accounts": [account_id], "dry_run": True})
    except FunctionError as error:
        return failed(
            str(error), f"see docs/runbook.md#function-errors; rolecall --stage {context.stage.name} show {account_id}"
        )
    return check_dry_run(account_id, response)


CHECKS = (
    Check(
        name="access role",
        run=_check,
        permissions=("lambda:InvokeFunction", "dynamodb:Scan", "organizations:ListAccounts"),
    ),
)
