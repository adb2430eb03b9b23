"""A plan as a person reads it: a diff of each account, of the source policy, and one line that says all of it."""

import difflib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from chalicelib.accounts import Change, Outcome
from rolecall.console import printable
from rolecall.follow_text import print_line
from rolecall.plan import Kind, Plan, PlannedAccount, PlannedShard

_MARKS = {
    Kind.CREATE: ("+", "green"),
    Kind.UPDATE: ("~", "yellow"),
    Kind.DELETE: ("-", "red"),
    Kind.RETIRE: ("-", "red"),
    Kind.FAILING: ("!", "bold red"),
    Kind.UNCHANGED: ("=", "dim"),
    Kind.SKIPPED: ("=", "dim"),
}
_COUNTED = frozenset({Kind.UNCHANGED, Kind.SKIPPED})
_PAGE = 50  # lines that are printed at once: faster than each alone
_CONTEXT = 3  # lines around a difference
_LINES = {"+": "green", "-": "red", "@": "cyan"}


def show_plan(plan: Plan, console: Console, *, verbose: bool = False) -> None:
    """Print a plan for a person."""
    lines = plan_lines(plan, verbose=verbose)
    while page := list(islice(lines, _PAGE)):
        print_line(console, Text("\n").join(page))


def plan_lines(plan: Plan, *, verbose: bool = False) -> Iterator[Text]:
    """Write what changes, then the summary; what doesn't change is only counted, unless all of it is asked for.

    What is written for one account already is not written again for the next: the roles of an organization are alike.
    """
    written: dict[str, str] = {}
    for account in plan.accounts:
        if verbose or account.kind not in _COUNTED:
            yield _header(account)
            yield from _why(account)
            for action in account.actions:
                yield from _action(action, account.account_id, {} if verbose else written)
            yield Text()
    for shard in plan.source_policy:
        if verbose or shard.granted or shard.revoked or shard.error:
            yield from _shard(shard, plan)
            yield Text()
    yield Text(plan.summary, "bold")


def _header(account: PlannedAccount) -> Text:
    mark, style = _MARKS[account.kind]
    stands = f"{account.outcome}" + (f" {account.reason}" if account.reason else "")
    done = [] if account.change is Change.NONE else [f"role {account.change}"]
    done += ["access granted"] if account.granted else []
    done += ["access revoked"] if account.revoked else []
    return Text.assemble(
        (f"{mark} ", style),
        (account.account_id, "bold"),
        f" {printable(account.name)}" if account.name else "",
        (f"  {', '.join([stands, *done])}", style),
    )


def _why(account: PlannedAccount) -> Iterator[Text]:
    if account.error:
        yield Text(f"    {printable(account.error)}", "red" if account.outcome is Outcome.FAILED else "")


def _action(action: Mapping[str, Any], account_id: str, written: dict[str, str]) -> Iterator[Text]:
    """Write an action's own line, with a name or a scalar in it, and below it what is a document."""
    name, before, after = action["action"], action["before"], action["after"]
    mark = "+" if before is None else "-" if after is None else "~"
    # An ARN names the account; the rest of a new role may be another's to the letter.
    named = isinstance(after, dict) and "arn" in after
    scalar = after["arn"] if named else _scalar(before, after)
    below = {key: value for key, value in after.items() if key != "arn"} if named else after
    yield Text.assemble((f"    {mark} {name}", _MARKS_OF[mark]), f"  {scalar}" if scalar else "")
    if not (isinstance(before, dict) or isinstance(below, dict)):
        return
    key = json.dumps([name, before, below])
    if key in written:
        yield Text(f"        the same as of {written[key]}, above", "dim")
        return
    written[key] = account_id
    yield from (Text(f"        {line}", _LINES.get(line[0], "") if line else "") for line in difference(before, below))


_MARKS_OF = {"+": "green", "-": "red", "~": "yellow"}


def _scalar(before: Any, after: Any) -> str:
    if isinstance(before, dict) or isinstance(after, dict):
        return ""
    if before is None:
        return f"{after}"
    # A boundary that is taken off, like a policy that is, has nothing after it.
    return f"{before}" if after is None else f"{before} → {after}"


def difference(before: Any, after: Any) -> list[str]:
    """Compare two documents, pretty-printed, line by line; one that is wholly new or gone is written whole."""
    old, new = _pretty(before), _pretty(after)
    if not old or not new:
        return [f"{'+' if new else '-'} {line}" for line in new or old]
    compared = difflib.unified_diff(old, new, lineterm="", n=_CONTEXT)
    body = list(compared)[2:]  # without the two lines that would name files
    return [line if line.startswith("@") else f"{line[0]} {line[1:]}" for line in body]


def _pretty(document: Any) -> list[str]:
    return [] if document is None else json.dumps(document, indent=2, ensure_ascii=True).splitlines()


def _shard(shard: PlannedShard, plan: Plan) -> Iterator[Text]:
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
