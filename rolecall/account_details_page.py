"""Everything about one account as a page of text."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.text import Text

from chalicelib.accounts import LedgerRow
from chalicelib.data_read_denies import DENY_POLICY_NAME, denied_reads
from chalicelib.documents import Document, listed
from chalicelib.member_role import MemberRole
from chalicelib.member_role_policies import statements
from rolecall.account_details import AccountDetails
from rolecall.console import OUTCOME_STYLES, counted, display_time, label_grid, plain
from rolecall.reasons import MEANING, REMEDY, runbook_section

_LOG_FIELDS = ("outcome", "change", "reason", "trigger", "actions", "access_role", "retry", "duration_ms")


def build_details_page(details: AccountDetails) -> RenderableType:
    """Build the page: the account's status and reason, its role, what enrolling it would do, and its last log lines."""
    parts: list[RenderableType] = [
        Text.assemble((details.account_id, "bold cyan"), "  ").append_text(plain(details.name, "bold")),
        "",
        label_grid(_status(details)),
        "",
        _heading("desired member role"),
        label_grid(_role(details.role)),
        "",
        _heading("what enrolling it now would do"),
        Group(*_plan(details)),
        "",
        _heading("last log lines"),
        Group(*map(_log_line, details.log)) if details.log else Text("none in two days", "dim"),
    ]
    return Group(*parts)


def _heading(text: str) -> Text:
    return Text(text, "bold underline")


def _status(details: AccountDetails) -> Iterator[tuple[str, RenderableType]]:
    account, row, outcome, reason = details.account, details.row, details.outcome, details.reason
    if account is None:
        yield "organization", Text("not a member", "yellow")
    else:
        yield "state", account.state
        yield "in", plain(" / ".join(details.path))
        yield "joined", f"{account.joined_at:%Y-%m-%d %H:%M}" if account.joined_at else ""
    yield "outcome", Text(outcome, OUTCOME_STYLES[outcome]) if outcome else Text("waiting: not handled yet", "yellow")
    if row is not None:
        yield from _last_pass(details, row)
    if reason:
        yield "reason", Text.assemble((reason, "bold"), f": {MEANING[reason]}")
    if row is not None and row.error:
        yield "last error", plain(row.error, "red")
    if reason:
        yield "what to do", Text(f"{REMEDY[reason]} See {runbook_section(reason)}.")


def _last_pass(details: AccountDetails, row: LedgerRow) -> Iterator[tuple[str, RenderableType]]:
    yield "access", _access(details, row)
    yield "last pass", plain(f"{display_time(row.updated_at)} by {row.trigger}, change: {row.change}")
    if row.access_role:
        yield "access role", plain(row.access_role)
    if row.attempts:
        yield "failing", f"since {display_time(row.failed_at)}, {row.attempts} times"


def _access(details: AccountDetails, row: LedgerRow) -> Text:
    """Return the access that the source policy should grant, and since when it is in force."""
    in_force = f"in force since {display_time(row.in_force_since)}" if row.in_force_since else "not in force"
    shard = f", by {details.shard}" if details.shard else ""
    return plain(f"{row.access or 'undecided'}, {in_force}{shard}")


def _role(role: MemberRole) -> Iterator[tuple[str, RenderableType]]:
    yield "arn", role.arn
    yield "trust", JSON.from_data(role.trust.content, highlight=True)
    yield "policies", "\n".join(sorted(role.attached)) or "none"
    for name, document in role.inline.items():
        reads = denied_reads(document) if name == DENY_POLICY_NAME else []
        yield "inline", f"{name}: {f'deny of {len(reads)} actions' if reads else _statements(document)}"
    yield "boundary", role.boundary or "none"
    yield "tags", plain(", ".join(f"{key}={value}" for key, value in role.tags.items()))
    yield "session", f"at most {role.max_session} seconds"


def _statements(document: Document) -> str:
    counts: Counter[str] = Counter()
    for each in statements(document.content):
        counts[each["Effect"].lower()] += len(listed(each.get("Action", each.get("NotAction"))))
    return ", ".join(f"{effect} of {counted(count, 'action')}" for effect, count in counts.items())


def _plan(details: AccountDetails) -> Iterator[RenderableType]:
    plan = details.plan
    if plan is None:
        yield plain(f"unknown: {details.plan_error}", "yellow")
        return
    outcome, reason = plan["outcome"], plan["reason"]
    yield Text.assemble("outcome: ", (outcome, OUTCOME_STYLES[outcome]), f": {reason}" if reason else "")
    if plan["error"] and reason != details.reason:
        yield plain(plan["error"], "red")
    for action in plan["actions"]:
        yield Text.assemble("  ", (action["action"], "bold"), "  ").append_text(plain(_target(action)))
    if plan["actions"]:
        yield Text(f"rolecall plan {details.account_id} shows the diff", "dim")
    else:
        yield Text("no change to its role", "dim")


def _target(action: Mapping[str, Any]) -> str:
    """Return the name, number or ARN that an action changes, or an empty string if it changes a document."""
    target = action["after"] if action["after"] is not None else action["before"]
    return str(target) if isinstance(target, str | int) else str(target.get("arn", "")) if target else ""


def _log_line(line: Mapping[str, Any]) -> Text:
    values = [f"{name}={_short(line[name])}" for name in _LOG_FIELDS if line.get(name)]
    return plain(f"{line.get('timestamp', '')}  {line.get('message', '')}  {' '.join(values)}")


def _short(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
