"""Send accounts to the queue to be enrolled or verified: backfill, resync, enroll and rerun."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, is_retry_pending, shown_outcome, why_not_selected
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.source_policy.records import CONSISTENT_AFTER
from rolecall.accounts import accounts_below, require_known
from rolecall.console import counted, printable
from rolecall.exit_status import ExitStatus
from rolecall.follow import Sent
from rolecall.operation import Operation
from rolecall.plan import fetch_plan
from rolecall.plan_page import plan_lines
from rolecall.source_policy_state import SourcePolicyState, read_source_policy
from rolecall.stage import Stage

_CHECK_SECONDS = 180.0  # a run of publish takes at most two minutes


@dataclass(frozen=True, slots=True)
class Canary:
    """How many accounts are sent first, and how many of them may fail before the others are not sent."""

    count: int
    max_failures: int


def backfill(
    operation: Operation, *, ous: Sequence[str] = (), force: bool = False, canary: Canary | None = None
) -> ExitStatus:
    """Send every account of the organization, or of some organizational units, and wait for them."""
    stage = operation.stage
    request: dict[str, Any] = {"accounts": "all"} | ({"ous": list(ous)} if ous else {})
    if force:
        _confirm_force(operation, request)
        request["force"] = True
    else:
        _confirm(operation, request)
    listed = accounts_below(stage, ous)
    if canary is not None:
        status = _send_first(operation, listed, canary)
        if status is not None:
            return status
    return _sweep(operation, "backfill", request, frozenset(account.id for account in listed), whole=not ous)


def resync(operation: Operation, *, only_new: bool = False) -> ExitStatus:
    """Send every account, or those that are new, changed or gone; wait for them and for the check of the source policy."""
    listed = frozenset(account.id for account in operation.stage.accounts())
    status = _sweep(operation, "resync", {"accounts": "new" if only_new else "all"}, listed, whole=True)
    # The function stores the request for a check before it returns.
    requested_at = operation.stage.records().control.check_requested_at
    if status is ExitStatus.INTERRUPTED or requested_at is None or not operation.stage.settings.keeps_source_policy:
        return status
    return max(status, _follow_check(operation, requested_at))


def _follow_check(operation: Operation, requested_at: datetime) -> ExitStatus:
    """Wait until publish has checked the source policy, print repairs and errors, and return the exit status."""
    stage = operation.stage
    if not operation.wait:
        operation.print("Not waiting for the source policy check: rolecall status shows its repairs.")
        return ExitStatus.OK
    checked = operation.wait_until(_check_condition(stage, requested_at), min(_CHECK_SECONDS, operation.timeout))
    state = read_source_policy(stage.records(), stage.settings)
    errors = [f"{shard.policy_name}: {shard.error.error}" for shard in state.shards if shard.error]
    if state.blocked:
        errors.append(f"publishing is blocked: {state.blocked.error}")
    for error in errors:
        operation.print(f"source policy: {printable(error)}", "red")
    if not checked:
        operation.print("source policy: not checked yet; rolecall status shows the last check", "yellow")
        return ExitStatus.UNKNOWN
    skipped = _unchecked_shards(state, requested_at)
    for repair in state.repairs:
        operation.print(f"source policy: repaired: {repair}", "yellow")
    for name in skipped:
        operation.print(f"source policy: {name} was written just now; the next resync checks it", "yellow")
    if not errors and not state.repairs and not skipped:
        operation.print("source policy: checked, nothing to repair")
    return ExitStatus.PROBLEM if errors else ExitStatus.OK


def _check_condition(stage: Stage, requested_at: datetime) -> Callable[[], bool]:
    def is_checked() -> bool:
        status = stage.records().status
        return status is not None and status.checked_at is not None and status.checked_at >= requested_at

    return is_checked


def _unchecked_shards(state: SourcePolicyState, requested_at: datetime) -> list[str]:
    """Return the shards that were too recently written to be checked; those that the check itself repaired were checked."""
    recent = requested_at - CONSISTENT_AFTER
    repaired = {repair.rpartition(" ")[2] for repair in state.repairs}
    return [
        shard.policy_name
        for shard in state.shards
        if shard.written_at is not None and shard.written_at > recent and shard.policy_name not in repaired
    ]


def _sweep(
    operation: Operation, function: str, request: Mapping[str, Any], listed: frozenset[AccountId], *, whole: bool
) -> ExitStatus:
    stage = operation.stage
    before = {row.account_id: row.updated_at for row in stage.rows()}
    # A sweep of the whole organization also sends departed accounts.
    candidates = listed | (before.keys() if whole else frozenset())
    counts = stage.invoke(function, request)["counts"]
    status = operation.follow(Sent(accounts=frozenset(candidates), count=counts["sent"], before=before))
    return max(status, _print_unsent(operation, counts))


def _print_unsent(operation: Operation, counts: Mapping[str, Any]) -> ExitStatus:
    """Print which accounts a sweep did not send, and return PROBLEM if they wait for the operator."""
    status = ExitStatus.OK
    # Functions of earlier releases don't return what waits for a rollout.
    waiting = counts.get("rollout_waiting", 0)
    if waiting and counts["rollout_stopped"]:
        operation.print(
            f"The rollout is stopped: {counted(waiting, 'role')} wait because accounts failed with the current settings. "
            "rolecall status counts them; correct the cause and run rolecall rerun, or deploy the former settings.",
            "red",
        )
        status = ExitStatus.PROBLEM
    elif waiting:
        operation.print(
            f"{counted(waiting, 'role')} wait for a later wave of the rollout (RolloutPercent); the next resync continues it.",
            "yellow",
        )
    if counts["deferred"]:
        operation.print(
            f"{counted(counts['deferred'], 'account')} would lose access, more than MaxRetiredPercent allows; none of them was sent. "
            "Review them with rolecall plan; to retire them, run rolecall backfill --force.",
            "red",
        )
        status = ExitStatus.PROBLEM
    return status


def enroll(operation: Operation, account_ids: Iterable[AccountId]) -> ExitStatus:
    """Send accounts by their ids, including accounts that were retired by request, and wait for them."""
    stage, named = operation.stage, tuple(dict.fromkeys(account_ids))
    require_known(stage, named)  # Otherwise there would be no row to wait for.
    before = operation.update_times(named)
    counts = stage.invoke("backfill", {"accounts": list(named)})["counts"]
    return operation.follow(Sent(accounts=frozenset(named), count=counts["sent"], before=before))


def rerun(operation: Operation, account_ids: Iterable[AccountId] = (), reasons: Sequence[Reason] = ()) -> ExitStatus:
    """Send failed accounts, all or some by their ids or reasons, and wait for them."""
    stage, named = operation.stage, tuple(dict.fromkeys(account_ids))
    request: dict[str, Any] = {"accounts": list(named) or "failed"} | ({"reasons": list(reasons)} if reasons else {})
    require_known(stage, named)
    rows = stage.rows_of(named).values() if named else stage.rows()
    counts = stage.invoke("rerun", request)["counts"]
    if counts["redrive_started"]:
        operation.print("Redriving the dead-letter queues.")
    return operation.follow(
        Sent(
            accounts=frozenset(_due(rows, reasons, operation.now())),
            count=counts["sent"],
            before={row.account_id: row.updated_at for row in rows},
        )
    )


def _due(rows: Iterable[LedgerRow], reasons: Sequence[Reason], now: datetime) -> list[AccountId]:
    failed = [row for row in rows if row.outcome is Outcome.FAILED and (not reasons or row.reason in reasons)]
    return [row.account_id for row in failed if not is_retry_pending(row, now)]


def _confirm(operation: Operation, request: Mapping[str, Any]) -> None:
    """Print the counts of a plan, and ask. Without a terminal or with --yes, there is no question: a backfill repeats safely."""
    if operation.yes or operation.prompt is None:
        return
    operation.print("Planning: opening a read-only session in each account.")
    operation.print(fetch_plan(operation.stage, "backfill", request).summary)
    operation.confirm("Send these accounts to the queue?")


def _confirm_force(operation: Operation, request: Mapping[str, Any]) -> None:
    """Print which accounts would lose access, and ask.

    With --yes there is no preview: its dry run opens a session in every account of the organization.
    """
    if operation.yes:
        return
    plan = fetch_plan(operation.stage, "backfill", request)
    revoked = tuple(account for account in plan.accounts if account.revoked)
    for line in plan_lines(replace(plan, accounts=revoked)):
        operation.print(line)
    operation.confirm(f"Revoke access of {counted(len(revoked), 'account')}, and send all others to the queue?")


def _send_first(operation: Operation, listed: Iterable[Account], canary: Canary) -> ExitStatus | None:
    """Send a few accounts and wait for them. Return the exit status to stop with, or None to continue with the rest."""
    stage = operation.stage
    chosen = _not_enrolled(stage, listed)[: canary.count]
    if not chosen:
        operation.print("All eligible accounts are enrolled: no account to send first.")
        return None
    operation.print(f"Sending {len(chosen)} of the accounts that are not enrolled first: {', '.join(chosen)}")
    before = operation.update_times(chosen)
    counts = stage.invoke("backfill", {"accounts": chosen})["counts"]
    sent = Sent(accounts=frozenset(chosen), count=counts["sent"], before=before)
    status = replace(operation, wait=True).follow(sent)
    if status not in {ExitStatus.OK, ExitStatus.PROBLEM}:
        return status
    outcomes = [shown_outcome(row)[0] for row in stage.rows_of(chosen).values()]
    failures = sum(outcome in {Outcome.FAILED, Outcome.PENDING} for outcome in outcomes)
    result = f"{failures} of the first {len(chosen)} failed (limit: --max-failures {canary.max_failures})"
    if failures > canary.max_failures:
        operation.print(f"Stopped: {result}. The rest was not sent.", "bold red")
        return ExitStatus.PROBLEM
    operation.print(f"{result}; continuing with the rest.")
    return None


def _not_enrolled(stage: Stage, listed: Iterable[Account]) -> list[AccountId]:
    """Return the eligible accounts that are not enrolled, without those that were retired by request, untried ones first."""
    rows = {row.account_id: row for row in stage.rows()}
    tried = {account_id for account_id, row in rows.items() if row.outcome in {Outcome.ENROLLED, Outcome.FAILED}}
    skipped = {
        account_id
        for account_id, row in rows.items()
        if shown_outcome(row)[0] is Outcome.ENROLLED or row.reason is Reason.RETIRED_BY_REQUEST
    }
    chosen = [
        account.id
        for account in listed
        if account.id not in skipped and why_not_selected(account, stage.settings) is None
    ]
    return sorted(chosen, key=lambda account_id: (account_id in tried, account_id))
