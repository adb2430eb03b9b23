"""Revoke access, after a preview and a confirmation: retire, freeze and uninstall; and unfreeze, which lifts a freeze."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.source_policy.records import Records
from rolecall.console import counted, printable
from rolecall.errors import CommandError, FunctionError
from rolecall.exit_status import ExitStatus
from rolecall.follow import Sent
from rolecall.operation import Operation
from rolecall.plan import fetch_plan
from rolecall.plan_page import plan_lines
from rolecall.source_policy_state import freeze_state
from rolecall.stage import Stage

_FREEZE_SECONDS = 120.0  # until the last request, which itself may take a minute
_PAUSE_SECONDS = 3.0
_PUBLISH_SECONDS = 300.0
_RUN_SECONDS = 120.0  # A run of publish takes at most two minutes.

_ADOPTED = "A role that was adopted (AdoptExistingRoles) is deleted like any other, and not restored."

_MANUAL_DELETION = (
    "Fix these errors and run rolecall uninstall again, or delete the roles by hand as docs/offboarding.md describes."
)


def retire(operation: Operation, account_ids: Iterable[AccountId]) -> ExitStatus:
    """Revoke accounts' access, delete their roles once IAM doesn't grant access any more, and wait for that."""
    stage, named = operation.stage, list(dict.fromkeys(account_ids))
    for line in plan_lines(fetch_plan(stage, "retire", {"accounts": named}), verbose=True):
        operation.print(line)
    operation.print(_ADOPTED)
    operation.confirm(f"Retire {counted(len(named), 'account')}?")
    before = operation.update_times(named)
    counts = stage.invoke("retire", {"accounts": named})["counts"]
    return operation.follow(Sent(accounts=frozenset(named), count=counts["sent"], before=before, retiring=True))


def freeze(operation: Operation) -> ExitStatus:
    """Deny the source principals every new session, and wait until that is in force."""
    stage = operation.stage
    _require_source_policy(stage)
    frozen, in_force = freeze_state(stage.records(), stage.settings)
    granted = sum(row.in_force_since is not None for row in stage.rows())
    if frozen:
        operation.print("The source policy is already frozen." if in_force else "A freeze was already requested.")
    operation.print(f"A freeze denies every new session of these principals, in all accounts ({granted} with access):")
    for principal in stage.settings.source_principals:
        operation.print(f"  {principal.arn}")
    max_session = stage.settings.member_role_max_session
    operation.print(
        f"Existing sessions continue until they expire, after at most {max_session} s. Enrolling continues."
    )
    operation.confirm("Freeze?")
    error = _request_freeze(operation, frozen=True)
    if error is None:
        operation.print("Frozen and in force: every new session is denied. Undo with: rolecall unfreeze", "bold")
        return ExitStatus.OK
    if _is_unwritten(stage):
        operation.print(f"The freeze is stored: {error}", "bold")
        return ExitStatus.OK
    operation.print(f"The freeze is stored and NOT in force: {error}", "bold red")
    operation.print(
        "Every run of publish retries it; rolecall freeze writes it again, and waits. Meanwhile, deny the principals "
        "yourself: docs/runbook.md#a-freeze-isnt-in-force"
    )
    return ExitStatus.PROBLEM


def unfreeze(operation: Operation) -> ExitStatus:
    """Lift a freeze, and wait until that is in force."""
    _require_source_policy(operation.stage)
    error = _request_freeze(operation, frozen=False)
    if error is None:
        operation.print(
            "Not frozen: new sessions are possible again once IAM has propagated it, usually in seconds.", "bold"
        )
        return ExitStatus.OK
    operation.print(f"The unfreeze is stored and not in force: {error}", "bold red")
    operation.print("Every run of publish retries it; rolecall unfreeze waits again.")
    return ExitStatus.PROBLEM


def _require_source_policy(stage: Stage) -> None:
    if not stage.settings.keeps_source_policy:
        raise CommandError(
            f"stage {stage.name} has no source policy to freeze (SourcePolicyScope=none): to revoke access now, run rolecall retire "
            "for some accounts or rolecall uninstall for all, or have the source principals' administrators deny them sts:AssumeRole"
        )


def _request_freeze(operation: Operation, *, frozen: bool) -> str | None:
    """Invoke the function until the freeze, or its end, is in force. Return None, or why it isn't after some minutes."""
    stage, started = operation.stage, operation.clock()
    printed = None
    while True:
        is_last = operation.clock() - started >= _FREEZE_SECONDS
        try:
            response = stage.invoke("freeze", {"frozen": frozen})
        except FunctionError as error:
            # The function stores the flag first, so it may only have timed out.
            if is_last or stage.records().control.frozen is not frozen:
                raise
            reason = str(error)
        else:
            if response["in_force"]:
                return None
            reason = printable(str(response["why"]))
            if is_last or (frozen and _is_unwritten(stage)):
                return reason
        if reason != printed:
            operation.print(f"Not in force yet, retrying: {reason}", "yellow")
            printed = reason
        operation.pause(_PAUSE_SECONDS)


def _is_unwritten(stage: Stage) -> bool:
    """Whether a freeze has nothing to deny: no shard was written, and none is lost or foreign."""
    records = stage.records()
    return not records.are_lost and not any(record.versions or record.error for record in records.shards)


@dataclass(slots=True)
class _Search:
    """The progress of an uninstall: the accounts that were sent last, and the unrecorded roles that were found."""

    request: dict[str, Any] | None = field(default_factory=lambda: {"accounts": "all", "force": True})
    sent: frozenset[AccountId] = frozenset()
    found: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def continues(self) -> bool:
        """Whether the next request continues the search after an account."""
        return self.request is not None and "after" in self.request

    def add(self, response: Mapping[str, Any]) -> frozenset[AccountId]:
        """Store the results of a request, and return the accounts that it sent."""
        if not self.continues:
            self.found.clear()  # A search from the first account on finds the same roles again.
        self.request = response["next"]
        # Accounts that were only searched have an outcome.
        self.found += [account for account in response["accounts"] if "outcome" in account]
        return frozenset(AccountId(each["account_id"]) for each in response["accounts"] if "outcome" not in each)


def uninstall(operation: Operation) -> ExitStatus:
    """Delete the source policy and every member role. Repeat until nothing is left, or nothing more can be deleted."""
    stage, search = operation.stage, _Search()
    earlier = _shard_errors(stage.records())
    _print_preview(operation)
    operation.confirm(f"Uninstall stage {stage.name}: stop enrolling, and delete all of this?")
    while search.request is not None:
        before = {row.account_id: row.updated_at for row in stage.rows()}
        response = stage.invoke("retire", search.request)
        sent = search.add(response)
        if sent:
            if sent == search.sent and not search.continues:
                return _report_remaining(operation, sent, search.found)
            search.sent = sent
            status = operation.follow(Sent(accounts=sent, count=len(sent), before=before, retiring=True))
            if not operation.wait or status not in {ExitStatus.OK, ExitStatus.PROBLEM}:
                operation.print("Run rolecall uninstall again until nothing is left.")
                return status
        if search.continues:
            continue
        if not sent and not response["source_policy"]:
            break
        if response["source_policy"] and not _await_deletion(operation, earlier):
            return _report_shards(operation)
    if search.found:
        operation.print("The source policy is deleted.")
        return _report_found(operation, search.found)
    return _finish(operation)


def _shard_errors(records: Records) -> set[tuple[str, str]]:
    """Return the terminal errors of the shards, with their names."""
    return {(record.name, record.error.error) for record in records.shards if record.error}


def _await_deletion(operation: Operation, earlier: AbstractSet[tuple[str, str]]) -> bool:
    """Wait until publish has deleted every shard or can't, and return whether it has.

    An error that was recorded earlier counts once a run of publish must have ended: until then, it may be out of date.
    """
    stage, started = operation.stage, operation.clock()
    if stage.records().shards:
        operation.print("Waiting for publish to delete the source policy.")

    def has_ended() -> bool:
        records, is_later = stage.records(), operation.clock() - started >= _RUN_SECONDS
        errors = _shard_errors(records) - (frozenset() if is_later else earlier)
        return not records.shards or bool(errors) or records.stuck_error(stage.settings) is not None

    return operation.wait_until(has_ended, _PUBLISH_SECONDS) and not stage.records().shards


def _report_shards(operation: Operation) -> ExitStatus:
    operation.print("The source policy is not deleted yet:", "bold red")
    for record in operation.stage.records().shards:
        operation.print(f"  {record.name}: {printable(record.error.error) if record.error else 'waiting for publish'}")
    _print_renamed(operation)
    operation.print("Fix these errors and run rolecall uninstall again; rolecall status shows the publish queue.")
    return ExitStatus.PROBLEM


def _finish(operation: Operation) -> ExitStatus:
    """Wait until publish has deleted the recorded names, which it couldn't once the stack is deleted."""
    stage = operation.stage
    operation.print("Nothing is left: no member role, and no source policy.", "bold")
    if not operation.wait_until(lambda: stage.records().status is None, _PUBLISH_SECONDS):
        operation.print("publish has not deleted the recorded names yet: run rolecall uninstall again.", "bold red")
        return ExitStatus.UNKNOWN
    operation.print(f"Now delete the stack: rolecall undeploy {stage.name}")
    return ExitStatus.OK


def _print_preview(operation: Operation) -> None:
    stage = operation.stage
    # Invoked once: the next request that a dry run returns is not a dry run.
    preview = stage.invoke("retire", {"accounts": "all", "dry_run": True})
    names = {row.account_id: row.name for row in stage.rows()}
    operation.print("Will be deleted:", "bold")
    for account in preview["accounts"]:
        name = names.get(account["account_id"])
        operation.print(
            f"  - member role in {account['account_id']}" + (f" ({printable(name)})" if name else ""), "red"
        )
    for shard in preview["source_policy"]:
        accounts = counted(shard["accounts"], "account")
        operation.print(f"  - source policy {shard['policy_name']}, which grants access to {accounts}", "red")
    if not preview["accounts"] and not preview["source_policy"]:
        operation.print("  nothing that is recorded; every account is searched for a role nevertheless")
    operation.print(_ADOPTED)
    _print_renamed(operation)


def _print_renamed(operation: Operation) -> None:
    """Print which names were changed, since roles and policies are deleted under those that they were installed with."""
    renamed = operation.stage.records().why_renamed(operation.stage.settings)
    if renamed:
        operation.print(f"What is installed under the former names is deleted: {printable(renamed)}", "yellow")


def _report_remaining(
    operation: Operation, remaining: Iterable[AccountId], found: list[Mapping[str, Any]]
) -> ExitStatus:
    rows = operation.stage.rows_of(remaining)
    operation.print(f"Failed twice to delete the role in {counted(len(rows), 'account')}:", "bold red")
    for account_id, row in sorted(rows.items()):
        error = printable(row.error or "no error recorded")
        operation.print(f"  {account_id} {row.outcome} {row.reason or ''}: {error}")
    if found:
        return _report_found(operation, found)
    operation.print(_MANUAL_DELETION)
    return ExitStatus.PROBLEM


def _report_found(operation: Operation, found: Iterable[Mapping[str, Any]]) -> ExitStatus:
    operation.print("These accounts have an unrecorded role, or couldn't be searched:", "bold red")
    for account in found:
        error = printable(account["error"] or "its member role is being deleted")
        operation.print(f"  {account['account_id']}: {error}")
    operation.print(_MANUAL_DELETION)
    return ExitStatus.PROBLEM
