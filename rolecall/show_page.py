"""One account, as a person reads it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.text import Text

from chalicelib.accounts import LedgerRow
from chalicelib.documents import Document
from chalicelib.member_role import MemberRole
from rolecall.console import OUTCOME_STYLES, display_time, facts, plain
from rolecall.reasons import MEANING, REMEDY, more
from rolecall.show import OneAccount

_TOLD = ("outcome", "change", "reason", "trigger", "actions", "access_role", "retry", "duration_ms")
"""What of a log line is about the account."""


def page(one: OneAccount) -> RenderableType:
    """Lay an account out: where it stands and why, its role, what enrolling it now would do, and its last log lines."""
    parts: list[RenderableType] = [
        Text.assemble((one.account_id, "bold cyan"), "  ").append_text(plain(one.name, "bold")),
        "",
        facts(_standing(one)),
        "",
        _heading("the member role, as it should be"),
        facts(_role(one.role)),
        "",
        _heading("what enrolling it now would do"),
        Group(*_plan(one)),
        "",
        _heading("the log's last lines about it"),
        Group(*map(_line, one.log)) if one.log else Text("none in two days", "dim"),
    ]
    return Group(*parts)


def _heading(text: str) -> Text:
    return Text(text, "bold underline")


def _standing(one: OneAccount) -> Iterator[tuple[str, RenderableType]]:
    if one.account is None:
        yield "organization", Text("no member", "yellow")
    else:
        yield "state", one.account.state
        yield "in", plain(" / ".join(one.path))
        yield "joined", f"{one.account.joined_at:%Y-%m-%d %H:%M}" if one.account.joined_at else ""
    row, outcome, reason = one.row, one.outcome, one.reason
    if row is None or outcome is None:
        yield "outcome", Text("none yet: it was not handled yet", "yellow")
        return
    yield "outcome", Text(outcome, OUTCOME_STYLES[outcome])
    yield "access", _access(one, row)
    yield "last pass", plain(f"{display_time(row.updated_at)} by {row.trigger}, change: {row.change}")
    if row.access_role:
        yield "access role", plain(row.access_role)
    if row.attempts:
        yield "failing", f"since {display_time(row.failed_at)}, {row.attempts} times"
    if reason:
        yield "reason", Text.assemble((reason, "bold"), f": {MEANING[reason]}")
    if row.error:
        yield "last error", plain(row.error, "red")
    if reason:
        yield "what to do", Text(f"{REMEDY[reason]} More in {more(reason)}.")


def _access(one: OneAccount, row: LedgerRow) -> Text:
    """Show what the source policy should grant, and since when it does."""
    in_force = f"in force since {display_time(row.in_force_since)}" if row.in_force_since else "not in force"
    by = f", by {one.shard}" if one.shard else ""
    return plain(f"{row.access or 'not decided'}, {in_force}{by}")


def _role(role: MemberRole) -> Iterator[tuple[str, RenderableType]]:
    yield "arn", role.arn
    yield "trust", JSON.from_data(role.trust.content, highlight=True)
    yield "policies", "\n".join(sorted(role.attached)) or "none"
    for name, document in role.inline.items():
        yield "inline", f"{name}: {_denied(document)}"
    yield "boundary", role.boundary or "none"
    yield "tags", plain(", ".join(f"{key}={value}" for key, value in role.tags.items()))
    yield "session", f"at most {role.max_session} seconds"


def _denied(document: Document) -> str:
    statements = document.content["Statement"]
    counts: Counter[str] = Counter()
    for each in statements:
        counts[each["Effect"].lower()] += len(each["Action"])
    return ", ".join(f"{effect} of {count} actions" for effect, count in counts.items())


def _plan(one: OneAccount) -> Iterator[RenderableType]:
    if one.plan is None:
        yield plain(f"not known: {one.plan_error}", "yellow")
        return
    outcome, reason = one.plan["outcome"], one.plan["reason"]
    yield Text.assemble("it would be ", (outcome, OUTCOME_STYLES[outcome]), f": {reason}" if reason else "")
    if one.plan["error"] and reason != one.reason:
        yield plain(one.plan["error"], "red")
    for action in one.plan["actions"]:
        yield Text.assemble("  ", (action["action"], "bold"), "  ").append_text(plain(_target(action)))
    if not one.plan["actions"]:
        yield Text("no change to its role", "dim")
    else:
        yield Text(f"rolecall plan {one.account_id} shows it line by line", "dim")


def _target(action: Mapping[str, Any]) -> str:
    """Name what an action is about, where a word does."""
    about = action["after"] if action["after"] is not None else action["before"]
    return str(about) if isinstance(about, str | int) else str(about.get("arn", "")) if about else ""


def _line(line: Mapping[str, Any]) -> Text:
    told = [f"{name}={_short(line[name])}" for name in _TOLD if line.get(name)]
    return plain(f"{line.get('timestamp', '')}  {line.get('message', '')}  {' '.join(told)}")


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
