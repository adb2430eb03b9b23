"""Whether the worker can enter an account: tried in one, by the worker's own dry run, since nobody else may."""

from collections.abc import Iterable
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, eligibility
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.settings import Settings
from rolecall.doctor.finding import Check, Finding, cant_tell, ok, wrong
from rolecall.doctor.patient import Patient
from rolecall.errors import FunctionError

_KEPT_OUT = {Reason.NO_ACCESS_ROLE, Reason.NOT_READY, Reason.ACCESS_DENIED, Reason.SCP_DENIED, Reason.RCP_DENIED}


def choose(settings: Settings, rows: Iterable[LedgerRow], listed: Iterable[Account]) -> AccountId | None:
    """Choose the account to try: one where the worker was kept out, else one that is enrolled, else one that should be.

    Never the management account, which the worker enters without an access role.
    """
    known = [row for row in rows if row.account_id != settings.management_account_id]
    for row in known:
        if row.outcome is Outcome.FAILED and row.reason in _KEPT_OUT:
            return row.account_id
    for row in known:
        if row.outcome is Outcome.ENROLLED:
            return row.account_id
    for account in listed:
        if account.id != settings.management_account_id and eligibility(account, settings) is None:
            return account.id
    return None


def judge(account_id: str, answer: dict[str, Any]) -> Finding:
    """Judge what a dry run tells of the account."""
    told = answer["accounts"][0]
    if told["error"] is not None:
        return wrong(
            f"{account_id}: {told['reason']}: {told['error']}",
            f"rolecall rerun {account_id}, once that is mended: docs/runbook.md#{told['reason']}",
        )
    if told["outcome"] != Outcome.ENROLLED:
        return cant_tell(
            f"{account_id} was not entered, since it is {told['outcome']}: {told['reason']}",
            "rolecall doctor --account …, with an account that should be enrolled",
        )
    planned = f", where {len(told['actions'])} changes are due" if told["actions"] else ""
    return ok(f"the worker enters {account_id}{planned}")


def _look(patient: Patient) -> Finding:
    account_id = (
        patient.sample
        or choose(patient.settings, patient.rows, ())
        or choose(patient.settings, (), patient.stage.accounts())
    )
    if account_id is None:
        return cant_tell(
            "no account is there to be tried", "aws organizations create-account --account-name … --email …"
        )
    try:
        answer = patient.stage.invoke("backfill", {"accounts": [account_id], "dry_run": True})
    except FunctionError as error:
        return wrong(
            str(error), f"docs/runbook.md#function-errors; rolecall --stage {patient.stage.name} show {account_id}"
        )
    return judge(account_id, answer)


CHECKS = (
    Check(
        name="access role",
        look=_look,
        permissions=("lambda:InvokeFunction", "dynamodb:Scan", "organizations:ListAccounts"),
    ),
)
