"""A plan as a diff of each account and of the source policy, with a line that counts the changes."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from rich.console import Console
from rich.text import Text

from chalicelib.accounts import Change, Outcome
from rolecall.console import print_line, printable
from rolecall.document_diff import diff_lines
from rolecall.plan import Kind, Plan, PlannedAccount, PlannedShard

_Value: TypeAlias = Mapping[str, Any] | str | int | None
"""What an action changes: a document, a name, a number, or nothing."""

_MARKS = {
    Kind.CREATE: ("+", "green"),
    Kind.UPDATE: ("~", "yellow"),
    Kind.DELETE: ("-", "red"),
    Kind.RETIRE: ("-", "red"),
    Kind.FAILING: ("!", "bold red"),
    Kind.UNCHANGED: ("=", "dim"),
    Kind.SKIPPED: ("=", "dim"),
}
_ONLY_COUNTED = frozenset({Kind.UNCHANGED, Kind.SKIPPED})
_PRINTED_AT_ONCE = 50  # lines; much faster than one by one
_MAX_LINES = 40
_FIRST_LINES = 12
"""Of a longer document, which is shown in part unless `verbose`: the deny of data reads names hundreds of actions."""
_ACTION_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def print_plan(plan: Plan, console: Console, *, verbose: bool = False) -> None:
    """Print a plan."""
    lines = plan_lines(plan, verbose=verbose)
    while page := list(islice(lines, _PRINTED_AT_ONCE)):
        print_line(console, Text("\n").join(page))


def plan_lines(plan: Plan, *, verbose: bool = False) -> Iterator[Text]:
    """Yield the changes and the summary; accounts without changes are only counted, unless `verbose`.

    Also unless `verbose`, a document that was shown for one account is not repeated for others: most roles are alike.
    Of a long one, only the first lines are shown.
    """
    shown: dict[str, str] | None = None if verbose else {}
    for account in plan.accounts:
        if verbose or account.kind not in _ONLY_COUNTED:
            yield _account_line(account)
            if account.error:
                yield Text(f"    {printable(account.error)}", "red" if account.outcome is Outcome.FAILED else "")
            if account.adopts:
                yield Text(f"    {_adoption(account.adopts)}")
            for action in account.actions:
                yield from _action_lines(action, account.account_id, shown)
            yield Text()
    for shard in plan.source_policy:
        if verbose or shard.granted or shard.revoked or shard.error:
            yield from _shard_lines(shard, plan)
            yield Text()
    yield Text(plan.summary, "bold")


def _account_line(account: PlannedAccount) -> Text:
    mark, style = _MARKS[account.kind]
    changes = [f"{account.outcome}" + (f" {account.reason}" if account.reason else "")]
    changes += [] if account.change is Change.NONE else [f"role {account.change}"]
    changes += ["access granted"] if account.granted else []
    changes += ["access revoked"] if account.revoked else []
    return Text.assemble(
        (f"{mark} ", style),
        (account.account_id, "bold"),
        f" {printable(account.name)}" if account.name else "",
        (f"  {', '.join(changes)}", style),
    )


def _adoption(adopts: Mapping[str, Any]) -> str:
    """Return when a role that Rolecall didn't create was last used, and what else manages it."""
    used = adopts["last_used_at"]
    parts = [f"last used {used[:10]}" if used else "not used in the last 400 days"]
    parts += [f"managed elsewhere: {printable(adopts['managed_by'])}"] if adopts["managed_by"] else []
    return f"existing role, {'; '.join(parts)}"


def _action_lines(action: Mapping[str, Any], account_id: str, shown: dict[str, str] | None) -> Iterator[Text]:
    """Yield an action with its argument, and the diff of its document, if any; whole if `shown` is None."""
    name, before, after = action["action"], action["before"], action["after"]
    mark = "+" if before is None else "-" if after is None else "~"
    # Only the ARN contains the account's id, so new roles can be compared without it.
    has_arn = isinstance(after, dict) and "arn" in after
    scalar = after["arn"] if has_arn else _scalar(before, after)
    document = {key: value for key, value in after.items() if key != "arn"} if has_arn else after
    yield Text.assemble((f"    {mark} {name}", _ACTION_STYLES[mark]), f"  {scalar}" if scalar else "")
    if not (isinstance(before, dict) or isinstance(document, dict)):
        return
    lines, rest = [*diff_lines(before, document)], 0
    if shown is not None:
        key = json.dumps([name, before, document])
        if key in shown:
            yield Text(f"        same as for {shown[key]} above", "dim")
            return
        shown[key] = account_id
        if len(lines) > _MAX_LINES:
            lines, rest = lines[:_FIRST_LINES], len(lines) - _FIRST_LINES
    yield from lines
    if rest:
        yield Text(f"        … {rest} more lines, with --verbose", "dim")


def _scalar(before: _Value, after: _Value) -> str:
    if isinstance(before, dict) or isinstance(after, dict):
        return ""
    if before is None:
        return f"{after}"
    # A policy or a boundary that is removed has nothing after it.
    return f"{before}" if after is None else f"{before} → {after}"


def _shard_lines(shard: PlannedShard, plan: Plan) -> Iterator[Text]:
    names = {account.account_id: account.name for account in plan.accounts}
    changes = bool(shard.granted or shard.revoked)
    mark = ("! ", "bold red") if shard.error else ("~ ", "yellow") if changes else ("= ", "dim")
    yield Text.assemble(
        mark,
        "source policy ",
        (shard.policy_name, "bold"),
        f"  {shard.accounts} of {shard.capacity} accounts",
    )
    if shard.error:
        yield Text(f"    {printable(shard.error)}", "red")
    for sign, style, account_ids in (("+", "green", shard.granted), ("-", "red", shard.revoked)):
        for account_id in account_ids:
            name = names.get(account_id)
            yield Text(f"    {sign} {account_id}" + (f" {printable(name)}" if name else ""), style)
