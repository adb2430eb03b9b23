"""Sending accounts to the queue, to be enrolled or looked at again: backfill, resync, enroll and rerun."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, eligibility, is_retry_pending, shown_outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from rolecall.console import printable
from rolecall.errors import CommandError
from rolecall.follow import Sent
from rolecall.follow_text import accounts
from rolecall.operation import FAILING, FINE, INTERRUPTED, UNKNOWN, Operation
from rolecall.plan import plan
from rolecall.plan_text import plan_lines
from rolecall.source_policy import read_source_policy
from rolecall.stage import Stage

_CONSISTENT_AFTER = timedelta(minutes=2)  # as publish has it
_CHECK_SECONDS = 180.0  # A run of publish takes at most two minutes.


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
    """Verify every account, or those that are new, changed or gone, follow them, and print what publish repaired meanwhile."""
    listed = frozenset(account.id for account in operation.stage.accounts())
    status = _sweep(operation, "resync", {"accounts": "new" if only_new else "all"}, listed, whole=True)
    # The function has stored its request before it answered.
    requested_at = operation.stage.records().control.check_requested_at
    if status == INTERRUPTED or requested_at is None:
        return status
    return max(status, _follow_check(operation, requested_at))


def _follow_check(operation: Operation, requested_at: datetime) -> int:
    """Wait until publish has checked the source policy, print what it repaired and what failed, and return the exit status."""
    stage = operation.stage
    if not operation.wait:
        operation.say("Not waiting for the check of the source policy: rolecall status shows what it repaired.")
        return FINE

    def is_checked() -> bool:
        status = stage.records().status
        return status is not None and status.checked_at is not None and status.checked_at >= requested_at

    checked = operation.wait_until(is_checked, min(_CHECK_SECONDS, operation.timeout))
    state = read_source_policy(stage.records(), stage.settings)
    # publish doesn't check what IAM may not show yet; a shard that the check repaired was written by it.
    recent = requested_at - _CONSISTENT_AFTER
    repaired = {repair.rpartition(" ")[2] for repair in state.repairs}
    deferred = [
        shard.policy_name
        for shard in state.shards
        if shard.written_at is not None and shard.written_at > recent and shard.policy_name not in repaired
    ]
    failures = [f"{shard.policy_name}: {shard.error.error}" for shard in state.shards if shard.error]
    if state.blocked:
        failures.append(f"publishing is blocked: {state.blocked.error}")
    for failure in failures:
        operation.say(f"source policy: {printable(failure)}", "red")
    if not checked:
        operation.say("The source policy was not checked yet: rolecall status shows when it is.", "yellow")
        return UNKNOWN
    for repair in state.repairs:
        operation.say(f"source policy: repaired: {repair}", "yellow")
    for name in deferred:
        operation.say(f"source policy: {name} was written a moment ago: the next resync checks it", "yellow")
    if not failures and not state.repairs and not deferred:
        operation.say("source policy: checked, and nothing had to be repaired")
    return FAILING if failures else FINE


def _sweep(
    operation: Operation, function: str, request: Mapping[str, Any], listed: frozenset[AccountId], *, whole: bool
) -> int:
    stage = operation.stage
    before = {row.account_id: row.updated_at for row in stage.rows()}
    # Accounts that left the organization are sent too, where nothing narrows the sweep.
    concerned = listed | (before.keys() if whole else frozenset())
    counts = stage.invoke(function, dict(request))["counts"]
    status = operation.follow(Sent(accounts=frozenset(concerned), count=counts["sent"], before=before))
    if not counts["deferred"]:
        return status
    operation.say(
        f"{accounts(counts['deferred'])} would lose access, more than MaxRetiredPercent allows at once, so none of them was "
        "sent. Look at them with rolecall plan --all; if it is right, rolecall backfill --force.",
        "red",
    )
    return max(status, FAILING)


def enroll(operation: Operation, account_ids: Iterable[AccountId]) -> int:
    """Send accounts by their ids, retired ones too, and follow them."""
    stage, named = operation.stage, tuple(dict.fromkeys(account_ids))
    rows = stage.rows_of(named)
    # An account that is no member gets no row that could be followed.
    unknown = [account_id for account_id in named if account_id not in rows and stage.account(account_id) is None]
    if unknown:
        raise CommandError(f"{', '.join(unknown)}: no account of this organization; nothing was sent")
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
        operation.say("The dead-letter queues' messages are moved back to their queues.")
    return operation.follow(
        Sent(
            accounts=frozenset(_due(rows, reasons, operation.now())),
            count=answer["sent"],
            before={row.account_id: row.updated_at for row in rows},
        )
    )


def _due(rows: Iterable[LedgerRow], reasons: Sequence[Reason], now: datetime) -> list[AccountId]:
    failed = [row for row in rows if row.outcome is Outcome.FAILED and (not reasons or row.reason in reasons)]
    return [row.account_id for row in failed if not is_retry_pending(row, now)]


def _consent_to_force(operation: Operation, request: Mapping[str, Any]) -> None:
    """Show which accounts would lose their access, however many, and ask.

    The dry run enters every account of the organization, so it is left out with --yes.
    """
    if operation.yes:
        return
    planned = plan(operation.stage, "backfill", request)
    revoked = tuple(account for account in planned.accounts if account.revoked)
    for line in plan_lines(replace(planned, accounts=revoked)):
        operation.say(line)
    operation.consent(f"Revoke the access of {accounts(len(revoked))}, and send all others to the queue?")


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
    failed = [
        row for row in stage.rows_of(chosen).values() if shown_outcome(row)[0] in {Outcome.FAILED, Outcome.PENDING}
    ]
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
        if shown_outcome(row)[0] is Outcome.ENROLLED or row.reason is Reason.RETIRED_BY_REQUEST
    }
    return sorted(
        account.id for account in listed if account.id not in kept and eligibility(account, stage.settings) is None
    )
