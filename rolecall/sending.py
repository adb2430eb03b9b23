"""Sending accounts to the queue, to be enrolled or looked at again: backfill, resync, enroll and rerun."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, eligibility, is_on_its_way
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from rolecall.errors import CommandError
from rolecall.follow import Sent
from rolecall.follow_text import accounts
from rolecall.operation import FAILING, FINE, Operation
from rolecall.plan import plan
from rolecall.plan_text import plan_lines
from rolecall.stage import Stage


@dataclass(frozen=True, slots=True)
class First:
    """How many accounts go first, and how many of them may fail before the rest stays where it is."""

    count: int
    max_failures: int


def backfill(operation: Operation, *, ous: Sequence[str] = (), force: bool = False, first: First | None = None) -> int:
    """Send every account of the organization, or of some OUs, and follow them."""
    stage = operation.stage
    request: dict[str, Any] = {"accounts": "all"} | ({"ous": list(ous)} if ous else {})
    if force:
        _consent_to_force(operation, request)
        request["force"] = True
    listed = [account for account in stage.accounts() if not ous or account.is_below(ous)]
    if not listed:
        raise CommandError(f"no account is in {', '.join(ous)}: name organizational units that hold accounts")
    if first is not None:
        status = _send_first(operation, listed, first)
        if status is not None:
            return status
    return _sweep(operation, "backfill", request, frozenset(account.id for account in listed), whole=not ous)


def resync(operation: Operation, *, only_new: bool = False) -> int:
    """Verify every account and the source policy, or find what is new, changed or gone; tell what was repaired, and follow."""
    listed = frozenset(account.id for account in operation.stage.accounts())
    return _sweep(operation, "resync", {"accounts": "new" if only_new else "all"}, listed, whole=True)


def _sweep(
    operation: Operation, function: str, request: Mapping[str, Any], listed: frozenset[AccountId], *, whole: bool
) -> int:
    stage = operation.stage
    before = {row.account_id: row.updated_at for row in stage.rows()}
    # Accounts that left the organization are sent too, where nothing narrows the sweep.
    concerned = listed | (before.keys() if whole else frozenset())
    answer = stage.invoke(function, dict(request))
    counts, repairs = answer["counts"], answer["source_policy"]
    for repair in repairs:
        done = repair.get("error") or f"{repair['policy_name']}: {repair['action']}"
        operation.say(f"source policy: {done}", "red" if "error" in repair else "yellow")
    status = operation.follow(Sent(accounts=frozenset(concerned), count=counts["sent"], before=before))
    if any("error" in repair for repair in repairs):
        status = max(status, FAILING)
    if not counts["held_back"]:
        return status
    operation.say(
        f"{accounts(counts['held_back'])} would leave the source policy, more than MaxRetiredPercent allows at once, so none of "
        "them was sent. Look at them with rolecall plan --all; if it is right, rolecall backfill --force.",
        "red",
    )
    return max(status, FAILING)


def enroll(operation: Operation, account_ids: Iterable[AccountId]) -> int:
    """Send accounts by their ids, retired ones too, and follow them."""
    stage, named = operation.stage, tuple(dict.fromkeys(account_ids))
    rows = stage.rows_of(named)
    # No row would ever tell of an account that is no member.
    strangers = [account_id for account_id in named if account_id not in rows and stage.account(account_id) is None]
    if strangers:
        raise CommandError(f"{', '.join(strangers)}: no account of this organization; nothing was sent")
    before = {account_id: row.updated_at for account_id, row in rows.items()}
    answer = stage.invoke("backfill", {"accounts": list(named)})
    return operation.follow(Sent(accounts=frozenset(named), count=answer["counts"]["sent"], before=before))


def rerun(operation: Operation, account_ids: Iterable[AccountId] = (), reasons: Sequence[Reason] = ()) -> int:
    """Send failed accounts again, all or those named or of some reasons, and follow them."""
    stage, named = operation.stage, tuple(dict.fromkeys(account_ids))
    request: dict[str, Any] = {"accounts": list(named) or "failed"} | ({"reasons": list(reasons)} if reasons else {})
    rows = stage.rows_of(named).values() if named else stage.rows()
    answer = stage.invoke("rerun", request)["counts"]
    if answer["redrive_started"]:
        operation.say("The dead-letter queue's messages are moved back to the queue.")
    return operation.follow(
        Sent(
            accounts=frozenset(_due(rows, reasons, operation.now())),
            count=answer["sent"],
            before={row.account_id: row.updated_at for row in rows},
        )
    )


def _due(rows: Iterable[LedgerRow], reasons: Sequence[Reason], now: datetime) -> list[AccountId]:
    failed = [row for row in rows if row.outcome is Outcome.FAILED and (not reasons or row.reason in reasons)]
    return [row.account_id for row in failed if not is_on_its_way(row, now)]


def _consent_to_force(operation: Operation, request: Mapping[str, Any]) -> None:
    """Show which accounts the sweep would take out of the source policy, whatever share of them that is, and ask.

    Looking enters every account of the organization, so it is left out where no answer is wanted.
    """
    if operation.yes:
        return
    planned = plan(operation.stage, "backfill", request)
    leaving = tuple(account for account in planned.accounts if account.leaves)
    for line in plan_lines(replace(planned, accounts=leaving)):
        operation.say(line)
    operation.consent(f"Take {accounts(len(leaving))} out of the source policy, and send all others to the queue?")


def _send_first(operation: Operation, listed: Iterable[Account], first: First) -> int | None:
    """Send a few accounts, wait for them, and give the exit status to stop with, or None to go on with the rest."""
    stage = operation.stage
    chosen = _not_enrolled(stage, listed)[: first.count]
    if not chosen:
        operation.say("Every eligible account is enrolled already: no account to send first.")
        return None
    operation.say(f"First {len(chosen)} of the accounts that are not enrolled: {', '.join(chosen)}")
    before = operation.recorded(chosen)
    answer = stage.invoke("backfill", {"accounts": chosen})
    sent = Sent(accounts=frozenset(chosen), count=answer["counts"]["sent"], before=before)
    status = replace(operation, wait=True).follow(sent)
    if status not in {FINE, FAILING}:
        return status
    failed = [row for row in stage.rows_of(chosen).values() if row.outcome is Outcome.FAILED]
    if len(failed) > first.max_failures:
        operation.say(
            f"{len(failed)} of the first {len(chosen)} failed, and at most {first.max_failures} may: the rest was not sent.",
            "bold red",
        )
        return FAILING
    operation.say(f"{len(failed)} of the first {len(chosen)} failed, and {first.max_failures} may: on with the rest.")
    return None


def _not_enrolled(stage: Stage, listed: Iterable[Account]) -> list[AccountId]:
    """List the eligible accounts that are not enrolled; those an operator retired are only enrolled by their own id."""
    rows = {row.account_id: row for row in stage.rows()}
    kept = {
        account_id
        for account_id, row in rows.items()
        if row.outcome is Outcome.ENROLLED or row.reason is Reason.RETIRED_BY_REQUEST
    }
    return sorted(
        account.id for account in listed if account.id not in kept and eligibility(account, stage.settings) is None
    )
