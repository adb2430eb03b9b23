"""Revoking access, after a preview and a question: retire, freeze and uninstall; and unfreeze, which lifts a freeze."""

from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.arns import AccountId
from rolecall.console import printable
from rolecall.errors import FunctionError
from rolecall.follow import Sent
from rolecall.follow_text import accounts
from rolecall.operation import FAILING, FINE, UNKNOWN, Operation
from rolecall.plan import plan
from rolecall.plan_text import plan_lines
from rolecall.source_policy import freeze_state
from rolecall.stage import Stage

_FREEZE_SECONDS = 120.0  # before the last request, which itself may take a minute
_PAUSE_SECONDS = 3.0
_PUBLISH_SECONDS = 300.0  # A run of publish takes at most two minutes.


def retire(operation: Operation, account_ids: Iterable[AccountId]) -> int:
    """Revoke accounts' access, delete their roles once IAM grants them no more, and follow them."""
    stage, named = operation.stage, list(dict.fromkeys(account_ids))
    for line in plan_lines(plan(stage, "retire", {"accounts": named}), verbose=True):
        operation.say(line)
    operation.consent(f"Retire {accounts(len(named))}?")
    before = operation.recorded(named)
    answer = stage.invoke("retire", {"accounts": named})
    return operation.follow(
        Sent(accounts=frozenset(named), count=answer["counts"]["sent"], before=before, leaving=True)
    )


def freeze(operation: Operation) -> int:
    """Deny the source principals every new session, and wait until that is in force."""
    stage = operation.stage
    frozen, in_force = freeze_state(stage.records(), stage.settings)
    granted = sum(row.in_force_since is not None for row in stage.rows())
    if frozen:
        operation.say("The source policy is frozen already." if in_force else "A freeze is requested already.")
    operation.say(f"A freeze denies these every new session, in all accounts ({granted} are granted):")
    for principal in stage.settings.source_principals:
        operation.say(f"  {principal.arn}")
    operation.say(
        f"Existing sessions continue until they expire, {stage.settings.member_role_max_session} s at most. Enrolling continues."
    )
    operation.consent("Freeze?")
    why = _apply_freeze(operation, frozen=True)
    if why is None:
        operation.say("Frozen and in force: every new session is denied. rolecall unfreeze lifts it.", "bold")
        return FINE
    if _is_unattached(stage):
        operation.say(f"The freeze is stored: {why}", "bold")
        return FINE
    operation.say(f"The freeze is stored, and NOT in force: {why}", "bold red")
    operation.say(
        "Every run of publish tries again. rolecall doctor shows attachments that are missing, rolecall resync repairs them, and "
        "rolecall freeze waits again."
    )
    return FAILING


def unfreeze(operation: Operation) -> int:
    """Let the source principals open sessions again, and wait until that is in force."""
    why = _apply_freeze(operation, frozen=False)
    if why is None:
        operation.say("Not frozen: the source policy grants its accounts again, within IAM's propagation.", "bold")
        return FINE
    operation.say(f"The unfreeze is stored, and not in force: {why}", "bold red")
    operation.say("Every run of publish tries again. Run rolecall unfreeze again to wait for it.")
    return FAILING


def _apply_freeze(operation: Operation, *, frozen: bool) -> str | None:
    """Ask until it is in force, for some minutes at most, and return why it isn't, or None if it is."""
    stage, started = operation.stage, operation.clock()
    shown = None
    while True:
        is_last = operation.clock() - started >= _FREEZE_SECONDS
        try:
            answer = stage.invoke("freeze", {"frozen": frozen})
        except FunctionError as error:
            # The function stores the mark first: it may only have run out of time.
            if is_last or stage.records().control.frozen is not frozen:
                raise
            why = str(error)
        else:
            if answer["in_force"]:
                return None
            why = printable(str(answer["why"]))
            if is_last or (frozen and _is_unattached(stage)):
                return why
        if why != shown:
            operation.say(f"Not in force yet, asking again: {why}", "yellow")
            shown = why
        operation.pause(_PAUSE_SECONDS)


def _is_unattached(stage: Stage) -> bool:
    """Whether there is nothing to deny: no shard is written, or all are frozen and Rolecall has attached them to nothing."""
    written = [record for record in stage.records().shards if record.versions]
    if not stage.settings.attachable_principals:
        return not written  # What the operator attaches is known once IAM was read.
    return all(record.is_frozen and not record.attached for record in written)


def uninstall(operation: Operation) -> int:
    """Revoke every account's access and delete the source policy and every role: ask until nothing is left, or what is left stays."""
    stage = operation.stage
    _print_left(operation)
    operation.consent(f"Uninstall stage {stage.name}: stop enrolling, and delete all of this?")
    request: dict[str, Any] | None = {"accounts": "all", "force": True}
    left: frozenset[AccountId] = frozenset()
    found: list[Mapping[str, Any]] = []
    while request is not None:
        before = {row.account_id: row.updated_at for row in stage.rows()}
        answer = stage.invoke("retire", request)
        if "after" not in request:
            found.clear()  # A search that starts at the first account finds the same ones again.
        request = answer["next"]
        # Those that were only looked at, once nothing else could be done or was left, have an outcome.
        found += [each for each in answer["accounts"] if "outcome" in each]
        remaining = frozenset(AccountId(each["account_id"]) for each in answer["accounts"] if "outcome" not in each)
        is_searching = request is not None and "after" in request
        if remaining:
            if remaining == left and not is_searching:
                return _stays(operation, remaining, found)
            left = remaining
            status = operation.follow(Sent(accounts=left, count=len(left), before=before, leaving=True))
            if not operation.wait or status not in {FINE, FAILING}:
                operation.say("Continue with rolecall uninstall, until nothing is left.")
                return status
        if is_searching:
            continue
        if not remaining and not answer["source_policy"]:
            break
        if answer["source_policy"] and not _await_deletion(operation):
            return _policy_stays(operation)
    if found:
        operation.say("The source policy is deleted.")
        return _is_there(operation, found)
    return _finish(operation)


def _await_deletion(operation: Operation) -> bool:
    """Wait until publish has deleted every shard, and return whether it has."""
    stage = operation.stage
    if stage.records().shards:
        operation.say("Waiting for publish to delete the source policy.")
    return operation.wait_until(lambda: not stage.records().shards, _PUBLISH_SECONDS)


def _policy_stays(operation: Operation) -> int:
    operation.say("The source policy is not deleted yet:", "bold red")
    for record in operation.stage.records().shards:
        operation.say(f"  {record.name}: {printable(record.error.error) if record.error else 'still to be deleted'}")
    operation.say("Fix what the errors name and run rolecall uninstall again; rolecall status shows the publish queue.")
    return FAILING


def _finish(operation: Operation) -> int:
    """Wait until publish has deleted the recorded names: the stack with publish must not be deleted before."""
    stage = operation.stage
    operation.say("Nothing is left: no member role, and no source policy.", "bold")
    if not operation.wait_until(lambda: stage.records().status is None, _PUBLISH_SECONDS):
        operation.say("publish has not deleted the recorded names yet: rolecall uninstall waits for it.", "bold red")
        return UNKNOWN
    operation.say(f"Now delete the stack: make undeploy STAGE={stage.name}")
    return FINE


def _print_left(operation: Operation) -> None:
    stage = operation.stage
    # Invoked once: what this dry run's answer names as next is no dry run any more.
    preview = stage.invoke("retire", {"accounts": "all", "dry_run": True})
    names = {row.account_id: row.name for row in stage.rows()}
    operation.say("To be deleted:", "bold")
    for account in preview["accounts"]:
        name = names.get(account["account_id"])
        operation.say(f"  - {account['account_id']}" + (f" {printable(name)}" if name else ""), "red")
    for shard in preview["source_policy"]:
        operation.say(f"  - source policy {shard['policy_name']}, which grants {accounts(shard['accounts'])}", "red")
    if not preview["accounts"] and not preview["source_policy"]:
        operation.say("  nothing that is recorded; every account is searched for a role all the same")


def _stays(operation: Operation, remaining: Iterable[AccountId], found: list[Mapping[str, Any]]) -> int:
    rows = operation.stage.rows_of(remaining)
    operation.say(f"{accounts(len(rows))} could not be left twice in a row:", "bold red")
    for account_id, row in sorted(rows.items()):
        operation.say(
            f"  {account_id} {row.outcome} {row.reason or ''}: {printable(row.error or 'no error was recorded')}"
        )
    if found:
        return _is_there(operation, found)
    operation.say(_BY_HAND)
    return FAILING


def _is_there(operation: Operation, found: Iterable[Mapping[str, Any]]) -> int:
    operation.say("These accounts have a role that is not recorded, or can't be searched:", "bold red")
    for account in found:
        operation.say(f"  {account['account_id']}: {printable(account['error'] or 'its member role is being deleted')}")
    operation.say(_BY_HAND)
    return FAILING


_BY_HAND = "Fix what the errors name and run rolecall uninstall again; docs/offboarding.md describes how to delete a role by hand."
