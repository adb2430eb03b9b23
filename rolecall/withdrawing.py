"""Taking access away, after a look and a question: retire, freeze and uninstall; and unfreeze, which gives it back."""

from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.source_policy import Shard
from rolecall.console import printable
from rolecall.errors import CommandError
from rolecall.follow import Sent
from rolecall.follow_text import accounts
from rolecall.operation import FAILING, FINE, Operation
from rolecall.plan import plan
from rolecall.plan_text import plan_lines

_TRIES = 10
_PAUSE = 3.0  # seconds until another worker has written the source policy, as a rule


def retire(operation: Operation, account_ids: Iterable[AccountId]) -> int:
    """Take accounts out of the source policy, then their roles away, and follow them."""
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
    """Deny the source principals every new session."""
    stage = operation.stage
    shards = stage.shards().shards
    enrolled = sum(len(shard.accounts) for shard in shards)
    if _is_frozen(shards):
        operation.say("The source policy is frozen already.")
    operation.say(f"A freeze denies these every new session, in all accounts ({enrolled} are in the source policy):")
    for principal in stage.settings.source_principals:
        operation.say(f"  {principal.arn}")
    operation.say(
        f"Sessions that exist go on until they end, {stage.settings.member_role_max_session} s at most. Enrolling goes on."
    )
    operation.consent("Freeze?")
    _write_freeze(operation, frozen=True)
    operation.say(
        "Frozen: the source policy denies everything, within IAM's propagation. rolecall unfreeze ends it.", "bold"
    )
    return FINE


def unfreeze(operation: Operation) -> int:
    """Let the source principals open sessions again."""
    _write_freeze(operation, frozen=False)
    operation.say("Not frozen: the source policy allows again what it names, within IAM's propagation.", "bold")
    return FINE


def _write_freeze(operation: Operation, *, frozen: bool) -> None:
    """Ask until it is written: while another worker writes the source policy, the function marks the shard and says no."""
    for tries_left in reversed(range(_TRIES)):
        try:
            operation.stage.invoke("freeze", {"frozen": frozen})
        except CommandError:
            shards = operation.stage.shards().shards
            is_owed = _is_frozen(shards) is frozen and any(shard.written != shard.version for shard in shards)
            if not (is_owed and tries_left):
                raise  # It was refused, or nobody gets it written.
            operation.pause(_PAUSE)
        else:
            return


def _is_frozen(shards: Iterable[Shard]) -> bool:
    return any(shard.frozen for shard in shards)


def uninstall(operation: Operation) -> int:
    """Retire every account, then delete the source policy: ask until nothing is left, or what is left stays."""
    stage = operation.stage
    _tell_left(operation)
    operation.consent(f"Uninstall stage {stage.name}: stop enrolling, and take all of this away?")
    request: dict[str, Any] | None = {"accounts": "all", "force": True}
    left: frozenset[AccountId] = frozenset()
    found: list[Mapping[str, Any]] = []
    while request is not None:
        before = {row.account_id: row.updated_at for row in stage.rows()}
        answer = stage.invoke("retire", request)
        if "after" not in request:
            found.clear()  # Whoever is looked at from the first on is looked at anew.
        request = answer["next"]
        # Those that were only looked at, once nothing else could be done or was left, have an outcome.
        found += [each for each in answer["accounts"] if "outcome" in each]
        remaining = frozenset(AccountId(each["account_id"]) for each in answer["accounts"] if "outcome" not in each)
        is_looking = request is not None and "after" in request
        if remaining:
            if remaining == left and not is_looking:
                return _stays(operation, remaining, found)
            left = remaining
            status = operation.follow(Sent(accounts=left, count=len(left), before=before, leaving=True))
            if not operation.wait or status not in {FINE, FAILING}:
                operation.say("Go on with rolecall uninstall: the source policy is deleted when no account is left.")
                return status
        elif not is_looking:
            break
    if found:
        operation.say("The source policy is gone.")
        return _is_there(operation, found)
    operation.say("Nothing is left: no member role, and no source policy.", "bold")
    operation.say(f"Now delete the stack: make undeploy STAGE={stage.name}")
    return FINE


def _tell_left(operation: Operation) -> None:
    stage = operation.stage
    # Only asked once: what this dry run's answer names as next is no dry run any more.
    preview = stage.invoke("retire", {"accounts": "all", "dry_run": True})
    names = {row.account_id: row.name for row in stage.rows()}
    operation.say("Left to be taken away:", "bold")
    for account in preview["accounts"]:
        name = names.get(account["account_id"])
        operation.say(f"  - {account['account_id']}" + (f" {printable(name)}" if name else ""), "red")
    for shard in preview["source_policy"]:
        operation.say(f"  - source policy {shard['policy_name']}, which names {accounts(shard['accounts'])}", "red")
    if not preview["accounts"] and not preview["source_policy"]:
        operation.say("  nothing that is recorded; every account is looked at for a role all the same")


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
    operation.say("These accounts have a role that is not recorded, or can't be looked at:", "bold red")
    for account in found:
        operation.say(
            f"  {account['account_id']}: {printable(account['error'] or 'its member role is being taken away')}"
        )
    operation.say(_BY_HAND)
    return FAILING


_BY_HAND = "Mend what the errors name and run rolecall uninstall again; docs/offboarding.md tells how to delete a role by hand."
