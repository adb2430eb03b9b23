"""The status of a stage as a page of text."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NoReturn

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chalicelib.errors import Reason
from chalicelib.settings import Scope
from rolecall.console import age, ago, counted, first_of, label_grid, output_console, plain, print_page
from rolecall.document_links import linked
from rolecall.reasons import MEANING
from rolecall.source_policy_state import NEVER_PUBLISHED, NO_SOURCE_POLICY, RESTORE, ShardState, SourcePolicyState
from rolecall.stage import DEAD_LETTER_QUEUES, LOG_WINDOW
from rolecall.status import Coverage, Resync, StageStatus

_BAR_CHARS = 30
_MAX_IDS = 5
_WATCH_SECONDS = 5.0


def build_status_page(status: StageStatus) -> RenderableType:
    """Build the page: accounts by status, the source policy, queues and alarms, and what needs attention."""
    where = Text.assemble(
        ("stage ", "bold"), (status.stage, "bold cyan"), f" in {status.region} of account {status.account_id}"
    )
    return Group(where, "", label_grid(_rows(status)), "", _conclusion(status))


def watch_pages(build: Callable[[], RenderableType], pause: Callable[[float], None]) -> NoReturn:
    """Print a page again and again, on a cleared terminal; in a pipe, one after the other."""
    console = output_console()
    while True:
        page = build()
        if console.is_interactive:
            console.clear()
        print_page(page)
        sys.stdout.flush()
        pause(_WATCH_SECONDS)


def _rows(status: StageStatus) -> Iterator[tuple[str, RenderableType]]:
    covered, policy = status.coverage, status.source_policy
    if policy.uninstalling:
        yield "uninstall", _uninstall(status)
    yield "accounts", Text(f"{covered.listed} ({covered.eligible} eligible)")
    yield "enrolled", _bar(covered)
    if covered.pending_reason and covered.pending_since:
        oldest = f"{covered.pending}, the oldest for {age(covered.pending_since, status.at)}"
        yield "pending", Text(f"{oldest}: {covered.pending_reason}: {MEANING[covered.pending_reason]}", "yellow")
    if covered.waiting:
        yield "waiting", Text(str(covered.waiting), "yellow")
    yield "failing", _by_reason(covered.failing, "red")
    if status.failed_instances:
        yield "access role", Text("\n").join(_failed_instances(status))
    yield "skipped", _by_reason(covered.skipped, "")
    yield "retired", _by_reason(covered.retired, "")
    if covered.still_granted:
        yield "still granted", Text(first_of(covered.still_granted, _MAX_IDS), "yellow")
    if status.rollout:
        yield "rollout", Text(status.rollout.sentence, "red" if status.rollout.stopped else "yellow")
    yield "source policy", Group(*map(_shard, policy.shards)) if policy.shards else _no_shards(policy)
    yield "publishing", _publishing(policy, status.at)
    yield "freeze", _freeze(policy)
    yield "last resync", _resyncs(status)
    yield "queues", Text("\n").join(_queues(status))
    yield "alarms", Text("\n").join(_alarms(status))


def _bar(covered: Coverage) -> Text:
    if covered.percent is None:
        return Text("none eligible", "yellow")
    full = int(covered.percent * _BAR_CHARS / 100)
    style = "green" if covered.percent == 100 else "yellow"  # noqa: PLR2004 - percent
    return Text.assemble(
        f"{covered.enrolled} of {covered.eligible}  ",
        ("█" * full, style),
        ("░" * (_BAR_CHARS - full), "dim"),
        (f"  {covered.percent:g}%", style),
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


def _failed_instances(status: StageStatus) -> Iterator[Text]:
    for each in status.failed_instances[:_MAX_IDS]:
        yield plain(f"StackSet failed in {each}", "red")
    more = len(status.failed_instances) - _MAX_IDS
    yield Text(linked(f"{f'and {more} more ' if more > 0 else ''}→ docs/access-roles.md#failed-instances"))


def _no_shards(policy: SourcePolicyState) -> str:
    return "none" if policy.is_kept else NO_SOURCE_POLICY


def _shard(shard: ShardState) -> Text:
    content = f"{shard.accounts} of {shard.capacity} accounts"
    if shard.scope is Scope.ORGANIZATION:
        content = f"the whole organization except {shard.excluded} of at most {shard.capacity} accounts"
    principals = ", ".join(arn.rpartition(":")[2] for arn in shard.attached)
    line = Text.assemble(
        (shard.policy_name, "bold"),
        f": {content}, ",
        f"attached to {principals}" if principals else ("not attached by Rolecall", "yellow"),
        (", frozen", "bold red") if shard.frozen else "",
        (", not completely written", "yellow") if shard.unfinished else "",
    )
    if shard.error:
        line.append("\n  ").append_text(plain(f"failed: {shard.error.reason}: {shard.error.error}", "red"))
    if shard.drift:
        line.append(f"\n  changed by others: {shard.drift}", "red").append("\n  → rolecall resync")
    return line


def _publishing(policy: SourcePolicyState, now: datetime) -> Text:
    if policy.lost:
        return Text.assemble((f"records are lost: {', '.join(policy.lost)}", "bold red"), f"\n→ {RESTORE}")
    if not policy.is_kept:
        return Text("nothing to publish")
    if not policy.known:
        return Text("nothing left to publish" if policy.uninstalled else f"unknown: {NEVER_PUBLISHED}", "yellow")
    state = Text("not blocked")
    if policy.blocked:
        state = Text.assemble(("blocked", "bold red"), ": ", (policy.blocked.reason, "red"), ": ")
        state.append_text(plain(policy.blocked.error, "red")).append(f"\n→ {policy.remedy}")
    if policy.room is not None:
        state.append(f"\n{counted(policy.room, 'shard')} fit; source principals read {_ago(policy.looked_at, now)}")
    state.append(f"\nchecked against IAM {_ago(policy.checked_at, now)}, all verified {_ago(policy.verified_at, now)}")
    if not policy.compared:
        state.append("\nnot compared with IAM now: these credentials are not of the source account", "yellow")
    if policy.repairs:
        state.append(f"\nrepaired by the last check: {', '.join(policy.repairs)}", "yellow")
    return state


def _uninstall(status: StageStatus) -> Text:
    if status.source_policy.uninstalled:
        undeploy = f"rolecall undeploy {status.stage} deletes the stack"
        return Text(f"uninstalled: {undeploy}; rolecall backfill would enroll every account again", "bold red")
    return Text("uninstalling: continue with rolecall uninstall, or cancel with rolecall backfill", "bold red")


def _freeze(policy: SourcePolicyState) -> Text:
    if not policy.is_kept:
        return Text("nothing to freeze")
    if policy.frozen and policy.freeze_in_force:
        return Text("frozen and in force: every new session is denied until rolecall unfreeze", "bold red")
    if policy.frozen:
        return Text("frozen but not in force: rolecall freeze waits for it and shows why", "bold red")
    if not policy.freeze_in_force:
        return Text("not frozen, but a shard still denies everything: rolecall unfreeze waits for it", "bold red")
    return Text("not frozen")


def _resyncs(status: StageStatus) -> Text:
    if status.last_resync is None:
        if status.deployed_at and status.at - status.deployed_at < LOG_WINDOW:
            return Text(f"none since the deployment, {ago(status.deployed_at, status.at)}", "yellow")
        return Text(f"none in the last {LOG_WINDOW.days} days", "yellow")
    resyncs = [_resync(status.last_full_resync, status.at)] if status.last_full_resync else []
    if status.last_resync != status.last_full_resync:
        resyncs.insert(0, _resync(status.last_resync, status.at))
    return Text("\n").join(resyncs)


def _resync(resync: Resync, now: datetime) -> Text:
    return Text(f"{resync.selection}, {ago(resync.at, now)}")


def _queues(status: StageStatus) -> Iterator[Text]:
    for queue in status.queues:
        style = "red" if queue.name in DEAD_LETTER_QUEUES and queue.total else "" if queue.total else "dim"
        counts = ((queue.visible, "visible"), (queue.in_flight, "in flight"), (queue.delayed, "delayed"))
        parts = [f"{count} {state}" for count, state in counts if count]
        yield Text(f"{queue.name}: {', '.join(parts) or 'empty'}", style)


def _alarms(status: StageStatus) -> Iterator[Text]:
    states = Counter(alarm.state for alarm in status.alarms)
    unclear = [status.short_name(alarm) for alarm in status.alarms if alarm.state == "INSUFFICIENT_DATA"]
    names = {"INSUFFICIENT_DATA": f" ({first_of(unclear, _MAX_IDS)})"}
    counts = [f"{count} {state}{names.get(state, '')}" for state, count in sorted(states.items())]
    yield Text(", ".join(counts) or "none")
    for alarm in status.alarming:
        if status.is_expected(alarm):
            now = "" if status.source_policy.uninstalled else "; rolecall resync runs one now"
            yield Text(f"{alarm.name}: expected until the first resync, which is scheduled{now}")
            continue
        yield Text.assemble(
            (alarm.name, "bold red"), f", {ago(alarm.since, status.at)}", "" if alarm.notifies else ", actions disabled"
        ).append_text(plain(linked(f": {alarm.description}")))


def _conclusion(status: StageStatus) -> Text:
    if status.problems:
        return Text.assemble(("✘ ", "bold red")).append_text(plain("; ".join(status.problems)))
    eligible = status.coverage.eligible
    conclusion = (
        f"all {eligible} eligible accounts are enrolled" if eligible else "nothing fails; no account is eligible"
    )
    return Text.assemble(("✔ ", "bold green"), conclusion)


def _ago(at: datetime | None, now: datetime) -> str:
    return ago(at, now) if at else "never"
