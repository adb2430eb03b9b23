"""How a stage stands, computed from what was read of it: coverage, the source policy's fill, queues, alarms, and what needs somebody."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.aws.shards import Snapshot
from chalicelib.errors import Reason
from chalicelib.reconcile import why_ineligible
from chalicelib.requests import Selection
from chalicelib.settings import Settings
from chalicelib.source_policy import capacity
from rolecall.stage import Alarm, Queue, Stage

_DEAD_LETTERS = frozenset({"accounts-dlq", "events-dlq"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How many accounts there are, and where they stand; `waiting` are eligible, and nobody has worked on them yet.

    `overstaying` are the accounts that the source policy still names though they should not be enrolled.
    """

    listed: int
    eligible: int
    enrolled: int
    waiting: int
    skipped: Mapping[Reason, int]
    failing: Mapping[Reason, int]
    overstaying: tuple[AccountId, ...]

    @property
    def percent(self) -> float:
        """The share of the eligible accounts that are enrolled, rounded down so that only all of them are 100."""
        return self.enrolled * 1000 // self.eligible / 10 if self.eligible else 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fill:
    """What one shard of the source policy holds; `pending` tells that IAM is yet to be given it."""

    policy_name: str
    accounts: int
    excluded: int
    capacity: int
    attached: tuple[str, ...]
    pending: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Resync:
    """What a resync logged; `error` says why the source policy could not be verified."""

    at: datetime
    selection: str
    repairs: tuple[str, ...]
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """A stage at a glance; the last resync is the last of all, the full one the last that verified every account."""

    stage: str
    region: str
    account_id: str
    at: datetime
    coverage: Coverage
    scope: str
    scope_asked_for: str
    shards: tuple[Fill, ...]
    frozen: bool
    stopped: bool
    last_resync: Resync | None
    last_full_resync: Resync | None
    queues: tuple[Queue, ...]
    alarms: tuple[Alarm, ...]

    @property
    def alarming(self) -> tuple[Alarm, ...]:
        """The alarms in state ALARM."""
        return tuple(alarm for alarm in self.alarms if alarm.state == "ALARM")

    @property
    def worries(self) -> tuple[str, ...]:
        """What is not as it should be; an alarm whose actions are off worries nobody."""
        covered = self.coverage
        failing = sum(covered.failing.values())
        ringing = [alarm.name.removeprefix(f"rolecall-{self.stage}-") for alarm in self.alarming if alarm.notifies]
        found = [
            (self.stopped, "everything is being uninstalled"),
            (self.frozen, "the readers are denied every new session: frozen"),
            (failing, f"{_accounts(failing)} failing"),
            (covered.waiting, f"{_accounts(covered.waiting)} waiting to be enrolled"),
            (covered.overstaying, f"{_accounts(len(covered.overstaying))} still named that should not be"),
            (any(shard.pending for shard in self.shards), "the source policy is yet to be written"),
            (
                self.shards and self.scope != self.scope_asked_for,
                f"the source policy is still of scope {self.scope}: the next resync changes it to {self.scope_asked_for}",
            ),
            *(
                (queue.visible + queue.in_flight + queue.delayed, f"{queue.name} holds messages")
                for queue in self.queues
                if queue.name in _DEAD_LETTERS
            ),
            (ringing, f"in alarm: {', '.join(ringing)}"),
        ]
        return tuple(sentence for is_so, sentence in found if is_so)

    @property
    def exit_status(self) -> int:
        """Tell a shell: 0 where nothing worries, else 1."""
        return 1 if self.worries else 0

    def as_json(self) -> dict[str, Any]:
        """Write it as plain data, with what follows from it."""
        written = asdict(self)
        written["coverage"]["percent"] = self.coverage.percent
        return written | {"worries": list(self.worries), "exit_status": self.exit_status}


def read_status(stage: Stage, now: datetime) -> Status:
    """Read all of a stage, and say how it stands."""
    settings, accounts, rows, snapshot = stage.settings, stage.accounts(), stage.rows(), stage.shards()
    resyncs = read_resyncs(stage.log_lines("resync", '{ $.message = "resync" }'))
    return Status(
        stage=stage.name,
        region=stage.region,
        account_id=stage.account_id,
        at=now,
        coverage=cover(accounts, rows, snapshot, settings),
        scope=snapshot.scope,
        scope_asked_for=settings.source_policy_scope,
        shards=fills(snapshot, settings),
        frozen=any(shard.frozen for shard in snapshot.shards),
        stopped=snapshot.stopped,
        last_resync=resyncs[-1] if resyncs else None,
        last_full_resync=next((each for each in reversed(resyncs) if each.selection == Selection.ALL), None),
        queues=tuple(stage.queues()),
        alarms=tuple(stage.alarms()),
    )


def cover(accounts: Iterable[Account], rows: Iterable[LedgerRow], snapshot: Snapshot, settings: Settings) -> Coverage:
    """Count the listed accounts by where they stand, as a resync does."""
    known = {row.account_id: row for row in rows}
    skipped: Counter[Reason] = Counter()
    failing: Counter[Reason] = Counter()
    listed = enrolled = waiting = 0
    eligible: set[AccountId] = set()
    for account in accounts:
        listed += 1
        row = known.get(account.id)
        ineligible = why_ineligible(account, row, settings, stopped=snapshot.stopped)
        if ineligible is not None:
            skipped[ineligible] += 1
            continue
        eligible.add(account.id)
        if row is not None and row.outcome is Outcome.FAILED:
            failing[row.reason or Reason.UNEXPECTED] += 1
        elif row is not None and row.outcome is Outcome.ENROLLED:
            enrolled += 1
        else:
            waiting += 1
    named = frozenset[AccountId]().union(*(shard.accounts for shard in snapshot.shards))
    return Coverage(
        listed=listed,
        eligible=len(eligible),
        enrolled=enrolled,
        waiting=waiting,
        skipped=_by_count(skipped),
        failing=_by_count(failing),
        overstaying=tuple(sorted(named - eligible)),
    )


def fills(snapshot: Snapshot, settings: Settings) -> tuple[Fill, ...]:
    """Say what each shard holds, of how many it can."""
    return tuple(
        Fill(
            policy_name=shard.name,
            accounts=len(shard.accounts),
            excluded=len(shard.excluded),
            capacity=capacity(settings),
            attached=tuple(sorted(shard.attached)),
            pending=shard.written != shard.version,
        )
        for shard in snapshot.shards
    )


def read_resyncs(lines: Iterable[Mapping[str, Any]]) -> tuple[Resync, ...]:
    """Take the resyncs out of the function's log, oldest first."""
    found = []
    for line in lines:
        if line.get("message") == "resync":
            repairs = line.get("repairs", [])
            found.append(
                Resync(
                    at=logged_at(line),
                    selection=str(line.get("selection")),
                    repairs=tuple(f"{each['action']} {each['policy_name']}" for each in repairs if "action" in each),
                    error=next((str(each["error"]) for each in repairs if "error" in each), None),
                )
            )
    return tuple(sorted(found, key=lambda resync: resync.at))


def logged_at(line: Mapping[str, Any]) -> datetime:
    """Read when a structured line was logged, as Powertools writes it."""
    return datetime.strptime(line["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z")


def _by_count(counted: Mapping[Reason, int]) -> dict[Reason, int]:
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def _accounts(count: int) -> str:
    return f"{count} account" if count == 1 else f"{count} accounts"
