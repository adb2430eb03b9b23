"""A stage's status, as a person reads it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chalicelib.errors import Reason
from chalicelib.settings import Scope
from rolecall.console import age, ago, facts, plain
from rolecall.reasons import MEANING
from rolecall.source_policy import RESTORE, UNKNOWN, ShardState, SourcePolicyState
from rolecall.stage import DEAD_LETTER_QUEUES
from rolecall.status import Resync, Status

_BAR = 30  # characters
_FEW = 5


def page(status: Status) -> RenderableType:
    """Build the page: the accounts by status, the source policy, the queues and alarms, and what is wrong."""
    where = Text.assemble(
        ("stage ", "bold"), (status.stage, "bold cyan"), f" in {status.region} of account {status.account_id}"
    )
    return Group(where, "", facts(_facts(status)), "", _verdict(status))


def _facts(status: Status) -> Iterator[tuple[str, RenderableType]]:
    covered, policy = status.coverage, status.source_policy
    yield "accounts", Text(f"{covered.listed}, of which {covered.eligible} eligible")
    yield "enrolled", _bar(status)
    if covered.pending_reason and covered.pending_since:
        oldest = f"{covered.pending}, the oldest for {age(covered.pending_since, status.at)}"
        yield "pending", Text(f"{oldest}: {covered.pending_reason}: {MEANING[covered.pending_reason]}", "yellow")
    if covered.waiting:
        yield "waiting", Text(str(covered.waiting), "yellow")
    yield "failing", _by_reason(covered.failing, "red")
    yield "skipped", _by_reason(covered.skipped, "")
    if covered.still_granted:
        yield "still granted", Text(_some(covered.still_granted), "yellow")
    yield "source policy", Group(*map(_shard, policy.shards)) if policy.shards else "none"
    yield "publishing", _publishing(policy, status.at)
    yield "freeze", _freeze(policy)
    yield "last resync", _resyncs(status)
    yield "queues", Text("\n").join(_queues(status))
    yield "alarms", Text("\n").join(_alarms(status))


def _bar(status: Status) -> Text:
    covered = status.coverage
    full = int(covered.percent * _BAR / 100)
    style = "green" if covered.percent == 100 else "yellow"  # noqa: PLR2004 - percent
    return Text.assemble(
        f"{covered.enrolled} of {covered.eligible}  ",
        ("█" * full, style),
        ("░" * (_BAR - full), "dim"),
        (f"  {covered.percent:g} %", style),
    )


def _by_reason(counts: Mapping[Reason, int], style: str) -> RenderableType:
    if not counts:
        return Text("none", "dim")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", style=style)
    grid.add_column(no_wrap=True, style=style)
    grid.add_column(style="dim")
    for reason, count in counts.items():
        grid.add_row(str(count), reason, MEANING[reason])
    return grid


def _some(account_ids: Sequence[str]) -> str:
    """Name a few, and count the rest."""
    more = len(account_ids) - _FEW
    return ", ".join(account_ids[:_FEW]) + (f" and {more} more" if more > 0 else "")


def _shard(shard: ShardState) -> Text:
    held = f"{shard.accounts} of {shard.capacity} accounts"
    if shard.scope is Scope.ORGANIZATION:
        held = f"the whole organization, but {shard.excluded} of at most {shard.capacity} accounts"
    to = ", ".join(arn.rpartition(":")[2] for arn in shard.attached)
    line = Text.assemble(
        (shard.policy_name, "bold"),
        f": {held}, ",
        f"attached to {to}" if to else ("attached to nothing by Rolecall", "yellow"),
        (", frozen", "bold red") if shard.frozen else "",
        (", not written completely", "yellow") if shard.unfinished else "",
    )
    return (
        line.append("\n  ").append_text(plain(f"failed: {shard.error.reason}: {shard.error.error}", "red"))
        if shard.error
        else line
    )


def _publishing(policy: SourcePolicyState, now: datetime) -> Text:
    if policy.lost:
        return Text.assemble((f"records are lost: {', '.join(policy.lost)}", "bold red"), f"\n{RESTORE}")
    if not policy.known:
        return Text("nothing is left to publish" if policy.uninstalled else f"not known yet: {UNKNOWN}", "yellow")
    state = Text("not blocked")
    if policy.blocked:
        state = Text.assemble(("blocked", "bold red"), ": ", (policy.blocked.reason, "red"), ": ")
        state.append_text(plain(policy.blocked.error, "red")).append(f"\n→ {policy.remedy}")
    if policy.room is not None:
        state.append(
            f"\nroom for {_count(policy.room, 'shard')} in all, as the source principals were read {_ago(policy.looked_at, now)}"
        )
    state.append(f"\nchecked against IAM {_ago(policy.checked_at, now)}, all verified {_ago(policy.verified_at, now)}")
    if policy.repairs:
        state.append(f"\nrepaired by the last check: {', '.join(policy.repairs)}", "yellow")
    return state


def _freeze(policy: SourcePolicyState) -> Text:
    if policy.uninstalled:
        return Text("everything is uninstalled: rolecall backfill would enroll every account again", "bold red")
    if policy.uninstalling:
        return Text(
            "everything is being uninstalled: continue with rolecall uninstall, or stop it with rolecall backfill",
            "bold red",
        )
    if policy.frozen and policy.freeze_in_force:
        return Text("frozen and in force: every new session is denied, until rolecall unfreeze", "bold red")
    if policy.frozen:
        return Text("frozen, but not in force: rolecall freeze waits for it and shows why", "bold red")
    if not policy.freeze_in_force:
        return Text("not frozen, but a shard still denies everything: rolecall unfreeze waits for it", "bold red")
    return Text("not frozen")


def _resyncs(status: Status) -> Text:
    if status.last_resync is None:
        return Text("never, as far back as 14 days", "yellow")
    each = [_resync(status.last_full_resync, status.at)] if status.last_full_resync else []
    if status.last_resync != status.last_full_resync:
        each.insert(0, _resync(status.last_resync, status.at))
    return Text("\n").join(each)


def _resync(resync: Resync, now: datetime) -> Text:
    return Text(f"{resync.selection}, {ago(resync.at, now)}")


def _queues(status: Status) -> Iterator[Text]:
    for queue in status.queues:
        style = "red" if queue.name in DEAD_LETTER_QUEUES and queue.total else "" if queue.total else "dim"
        parts = [
            f"{count} {what}"
            for count, what in (
                (queue.visible, "to be received"),
                (queue.in_flight, "in work, or returned with a delay"),
                (queue.delayed, "delayed"),
            )
            if count
        ]
        yield Text(f"{queue.name}: {', '.join(parts) or 'empty'}", style)


def _alarms(status: Status) -> Iterator[Text]:
    states = Counter(alarm.state for alarm in status.alarms)
    yield Text(", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none", "")
    for alarm in status.alarming:
        yield Text.assemble(
            (alarm.name, "bold red"), f", {ago(alarm.since, status.at)}", "" if alarm.notifies else ", its actions off"
        ).append_text(plain(f": {alarm.description}"))


def _verdict(status: Status) -> Text:
    if status.problems:
        return Text.assemble(("✘ ", "bold red")).append_text(plain("; ".join(status.problems)))
    return Text.assemble(("✔ ", "bold green"), f"all {status.coverage.eligible} eligible accounts are enrolled")


def _ago(at: datetime | None, now: datetime) -> str:
    return ago(at, now) if at else "never"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
