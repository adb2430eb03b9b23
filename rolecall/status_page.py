"""A stage's status, as a person reads it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chalicelib.errors import Reason
from chalicelib.settings import Scope
from rolecall.console import ago, facts, plain
from rolecall.reasons import MEANING
from rolecall.status import Fill, Resync, Status

_BAR = 30  # characters
_FEW = 5


def page(status: Status) -> RenderableType:
    """Lay a status out: where every account stands, who is let in, what is on its way, and the verdict."""
    where = Text.assemble(
        ("stage ", "bold"), (status.stage, "bold cyan"), f" in {status.region} of account {status.account_id}"
    )
    return Group(where, "", facts(_facts(status)), "", _verdict(status))


def _facts(status: Status) -> Iterator[tuple[str, RenderableType]]:
    covered = status.coverage
    yield "accounts", Text(f"{covered.listed}, of which {covered.eligible} eligible")
    yield "enrolled", _bar(status)
    if covered.waiting:
        yield "waiting", Text(str(covered.waiting), "yellow")
    yield "failing", _by_reason(covered.failing, "red")
    yield "skipped", _by_reason(covered.skipped, "")
    if covered.overstaying:
        yield "still named", Text(_some(covered.overstaying), "yellow")
    yield "source policy", Group(*(_fill(shard, status.scope) for shard in status.shards)) if status.shards else "none"
    yield "readers", _readers(status)
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


def _fill(shard: Fill, scope: str) -> Text:
    held = f"{shard.accounts} of {shard.capacity} accounts"
    if scope == Scope.ORGANIZATION:
        held = f"the whole organization, but {shard.excluded} of at most {shard.capacity} accounts"
    to = ", ".join(arn.rpartition(":")[2] for arn in shard.attached)
    return Text.assemble(
        (shard.policy_name, "bold"),
        f": {held}, ",
        f"attached to {to}" if to else ("attached to nobody by Rolecall", "yellow"),
        (", yet to be written", "yellow") if shard.pending else "",
    )


def _readers(status: Status) -> Text:
    if status.stopped:
        return Text(
            "everything is being uninstalled: rolecall uninstall goes on, rolecall backfill goes back", "bold red"
        )
    if status.frozen:
        return Text("frozen: denied every new session, until rolecall unfreeze", "bold red")
    return Text("not frozen")


def _resyncs(status: Status) -> Text:
    if status.last_resync is None:
        return Text("never, as far back as 14 days", "yellow")
    each = [_resync(status.last_full_resync, status.at)] if status.last_full_resync else []
    if status.last_resync != status.last_full_resync:
        each.insert(0, _resync(status.last_resync, status.at))
    return Text("\n").join(each)


def _resync(resync: Resync, now: datetime) -> Text:
    count = len(resync.repairs)
    repaired = f"; repaired in the source policy: {', '.join(resync.repairs)}" if count else ""
    return Text.assemble(
        f"{resync.selection}, {ago(resync.at, now)}",
        (repaired, "yellow"),
        (f"; the source policy could not be verified: {resync.error}", "red") if resync.error else "",
    )


def _queues(status: Status) -> Iterator[Text]:
    for queue in status.queues:
        total = queue.visible + queue.in_flight + queue.delayed
        style = "red" if queue.name.endswith("dlq") and total else "" if total else "dim"
        parts = [
            f"{count} {what}"
            for count, what in (
                (queue.visible, "to be received"),
                (queue.in_flight, "in work or handed back"),
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
    if status.worries:
        return Text.assemble(("✘ ", "bold red"), "; ".join(status.worries))
    return Text.assemble(("✔ ", "bold green"), f"all {status.coverage.eligible} eligible accounts are enrolled")
