"""The status of a stage, computed from what was read of it: coverage, source policy, queues, alarms, and what is wrong."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, parse_time, shown_outcome, why_ineligible
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.requests import Selection
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.source_policy import SourcePolicyState, blocked_reason, read_source_policy
from rolecall.stage import DEAD_LETTER_QUEUES, Alarm, Queue, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How many accounts there are by their status.

    `pending` accounts have the role and wait for their access, the oldest since `pending_since`; `waiting` ones are eligible and
    were not handled yet. `still_granted` are the accounts that the source policy grants though they should not be enrolled.
    """

    listed: int
    eligible: int
    enrolled: int
    pending: int
    pending_since: datetime | None
    pending_reason: Reason | None
    waiting: int
    skipped: Mapping[Reason, int]
    failing: Mapping[Reason, int]
    still_granted: tuple[AccountId, ...]

    @property
    def percent(self) -> float:
        """The share of the eligible accounts that are enrolled, rounded down so that only all of them are 100."""
        return self.enrolled * 1000 // self.eligible / 10 if self.eligible else 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Resync:
    """When a resync ran, and which accounts it selected."""

    at: datetime
    selection: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """A stage at a glance; the last resync is the last of all, the full one the last that verified every account."""

    stage: str
    region: str
    account_id: str
    at: datetime
    coverage: Coverage
    source_policy: SourcePolicyState
    last_resync: Resync | None
    last_full_resync: Resync | None
    queues: tuple[Queue, ...]
    alarms: tuple[Alarm, ...]

    @property
    def alarming(self) -> tuple[Alarm, ...]:
        """The alarms in state ALARM."""
        return tuple(alarm for alarm in self.alarms if alarm.state == "ALARM")

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as it should be; an alarm whose actions are off is no problem."""
        covered = self.coverage
        failing = sum(covered.failing.values())
        in_alarm = [alarm.name.removeprefix(f"rolecall-{self.stage}-") for alarm in self.alarming if alarm.notifies]
        found = [
            (failing, f"{_accounts(failing)} failing"),
            (covered.pending, f"{_accounts(covered.pending)} pending: {covered.pending_reason}"),
            (covered.waiting, f"{_accounts(covered.waiting)} waiting to be enrolled"),
            (covered.still_granted, f"{_accounts(len(covered.still_granted))} still granted access"),
            *(
                (queue.total, f"{queue.name} holds messages")
                for queue in self.queues
                if queue.name in DEAD_LETTER_QUEUES
            ),
            (in_alarm, f"in alarm: {', '.join(in_alarm)}"),
        ]
        return (*self.source_policy.problems, *(sentence for is_so, sentence in found if is_so))

    @property
    def exit_status(self) -> int:
        """The exit status: 0 without problems, else 1."""
        return 1 if self.problems else 0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, with what follows from it."""
        written = asdict(self)
        written["coverage"]["percent"] = self.coverage.percent
        return written | {"problems": list(self.problems), "exit_status": self.exit_status}


def read_status(stage: Stage, now: datetime) -> Status:
    """Read the status of a stage."""
    # Records before rows, so that a row is never older than what publish recorded of it.
    settings, accounts, records, rows = stage.settings, stage.accounts(), stage.records(), stage.rows()
    resyncs = read_resyncs(stage.log_lines("resync", '{ $.message = "resync" }'))
    return Status(
        stage=stage.name,
        region=stage.region,
        account_id=stage.account_id,
        at=now,
        coverage=cover(accounts, rows, records, settings),
        source_policy=read_source_policy(records, settings),
        last_resync=resyncs[-1] if resyncs else None,
        last_full_resync=next((each for each in reversed(resyncs) if each.selection == Selection.ALL), None),
        queues=tuple(stage.queues()),
        alarms=tuple(stage.alarms()),
    )


def cover(accounts: Iterable[Account], rows: Iterable[LedgerRow], records: Records, settings: Settings) -> Coverage:
    """Count the listed accounts by their status."""
    known = {row.account_id: row for row in rows}
    blocked = blocked_reason(records)
    uninstalling = records.control.uninstalling or records.control.uninstalled
    skipped: Counter[Reason] = Counter()
    failing: Counter[Reason] = Counter()
    counts: Counter[Outcome] = Counter()
    listed = 0
    eligible: set[AccountId] = set()
    pending_since: list[datetime] = []
    for account in accounts:
        listed += 1
        row = known.get(account.id)
        ineligible = why_ineligible(account, row, settings, uninstalling=uninstalling)
        if ineligible is not None:
            skipped[ineligible] += 1
            continue
        eligible.add(account.id)
        if row is None or row.outcome not in {Outcome.ENROLLED, Outcome.FAILED}:
            continue
        outcome, reason = shown_outcome(row, blocked)
        counts[outcome] += 1
        if outcome is Outcome.FAILED:
            failing[reason or Reason.UNEXPECTED] += 1
        elif outcome is Outcome.PENDING:
            pending_since.append(parse_time(row.enrolled_at or row.updated_at))
    granted = records.maybe_named | {row.account_id for row in known.values() if row.in_force_since is not None}
    return Coverage(
        listed=listed,
        eligible=len(eligible),
        enrolled=counts[Outcome.ENROLLED],
        pending=counts[Outcome.PENDING],
        pending_since=min(pending_since, default=None),
        pending_reason=(blocked or Reason.SOURCE_POLICY_PENDING) if pending_since else None,
        waiting=len(eligible) - counts.total(),
        skipped=_by_count(skipped),
        failing=_by_count(failing),
        still_granted=tuple(sorted(granted - eligible)),
    )


def read_resyncs(lines: Iterable[Mapping[str, Any]]) -> tuple[Resync, ...]:
    """Parse the resyncs in the function's log, oldest first."""
    found = [
        Resync(at=logged_at(line), selection=str(line.get("selection")))
        for line in lines
        if line.get("message") == "resync"
    ]
    return tuple(sorted(found, key=lambda resync: resync.at))


def logged_at(line: Mapping[str, Any]) -> datetime:
    """Parse the time of a structured log line, as Powertools writes it."""
    return datetime.strptime(line["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z")


def _by_count(counted: Mapping[Reason, int]) -> dict[Reason, int]:
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def _accounts(count: int) -> str:
    return f"{count} account" if count == 1 else f"{count} accounts"
