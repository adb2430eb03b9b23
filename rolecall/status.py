"""The status of a stage: coverage, source policy, queues, alarms, and what needs attention."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.accounts import Account, LedgerRow, Outcome, listed_outcome, parse_time, why_ineligible
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from chalicelib.requests import Selection
from chalicelib.rollout import Rollout
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.access_role_stack_set import FailedInstance, read_failed_instances
from rolecall.console import counted
from rolecall.exit_status import ExitStatus
from rolecall.shard_drift import read_drift
from rolecall.source_policy_state import SourcePolicyState, blocked_reason, read_source_policy
from rolecall.stage import DEAD_LETTER_QUEUES, Alarm, QueueCounts, Stage

_FIRST_RESYNC = timedelta(hours=30)  # within which its alarm expects each resync (.chalice/resources.yaml)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """The number of accounts by status, those of the ledger that left the organization included.

    For `pending` accounts, the source policy doesn't match the ledger yet, the oldest since `pending_since`; `waiting` ones are
    eligible and were not handled yet. `still_granted` are the ineligible accounts that the source policy still grants access to.
    """

    listed: int
    eligible: int
    enrolled: int
    pending: int
    pending_since: datetime | None
    pending_reason: Reason | None
    waiting: int
    skipped: Mapping[Reason, int]
    retired: Mapping[Reason, int]
    failing: Mapping[Reason, int]
    still_granted: tuple[AccountId, ...]

    @property
    def percent(self) -> float | None:
        """The share of eligible accounts that are enrolled, rounded down so that 100 means all; None if none is eligible."""
        return self.enrolled * 1000 // self.eligible / 10 if self.eligible else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resync:
    """When a resync ran, and which accounts it selected."""

    at: datetime
    selection: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutState:
    """The state of a rollout: roles at the current settings, all roles, the next wave, and failures by reason.

    `stopped` means that a failure isn't retried any more, and that roles wait for an operator to handle it.
    """

    current: int
    total: int
    wave: int
    failed: Mapping[Reason, int]
    stopped: bool

    @property
    def sentence(self) -> str:
        """The state in one line."""
        done = f"{self.current} of {counted(self.total, 'role')} at the current settings"
        if not self.failed:
            return f"{done}; next wave: {self.wave}"
        reasons = ", ".join(self.failed)
        return f"{done}; waits: {sum(self.failed.values())} {'failed' if self.stopped else 'retried'} ({reasons})"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageStatus:
    """The status of a stage; `last_full_resync` is the last one that verified every account.

    `deployed_at` is when its code or settings last changed. `failed_instances` are those of the access roles' StackSet, if
    the settings use one. `rollout` is None unless roles wait for a later wave.
    """

    stage: str
    region: str
    account_id: str
    at: datetime
    coverage: Coverage
    rollout: RolloutState | None = None
    source_policy: SourcePolicyState
    last_resync: Resync | None
    last_full_resync: Resync | None
    queues: tuple[QueueCounts, ...]
    alarms: tuple[Alarm, ...]
    failed_instances: tuple[FailedInstance, ...] = ()
    deployed_at: datetime | None = None

    def short_name(self, alarm: Alarm) -> str:
        """Return the alarm's name without the stage."""
        return alarm.name.removeprefix(f"rolecall-{self.stage}-")

    @property
    def alarming(self) -> tuple[Alarm, ...]:
        """The alarms in state ALARM."""
        return tuple(alarm for alarm in self.alarms if alarm.state == "ALARM")

    def is_expected(self, alarm: Alarm) -> bool:
        """Whether it is the alarm for missing resyncs of a deployment whose first resync isn't due yet."""
        awaits_first = alarm.name.endswith("-resync-missing") and self.last_full_resync is None
        return awaits_first and self.at - alarm.since < _FIRST_RESYNC

    @property
    def problems(self) -> tuple[str, ...]:
        """What needs attention; alarms that are expected or whose actions are disabled are ignored."""
        covered = self.coverage
        unset = len(self.failed_instances)
        failing, granted = sum(covered.failing.values()), len(covered.still_granted)
        alarming = [alarm for alarm in self.alarming if alarm.notifies and not self.is_expected(alarm)]
        in_alarm = [self.short_name(alarm) for alarm in alarming]
        found = [
            (failing, f"{counted(failing, 'account')} failing"),
            (covered.pending, f"{counted(covered.pending, 'account')} pending: {covered.pending_reason}"),
            (covered.waiting, f"{counted(covered.waiting, 'account')} waiting to be enrolled"),
            (granted, f"{counted(granted, 'account')} still granted access"),
            *((queue.total, f"{queue.name} is not empty") for queue in self.queues if queue.name in DEAD_LETTER_QUEUES),
            (unset, f"the access role's StackSet failed in {counted(unset, 'account')}"),
            (in_alarm, f"in alarm: {', '.join(in_alarm)}"),
        ]
        if self.rollout is not None:
            found.append((self.rollout.stopped, f"the rollout is stopped: {self.rollout.sentence}"))
        return (*self.source_policy.problems, *(sentence for applies, sentence in found if applies))

    @property
    def exit_status(self) -> ExitStatus:
        """PROBLEM if something needs attention."""
        return ExitStatus.PROBLEM if self.problems else ExitStatus.OK

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON data, with the values that follow from it."""
        data = asdict(self)
        data["coverage"]["percent"] = self.coverage.percent
        return data | {"problems": list(self.problems), "exit_status": self.exit_status}


def read_status(stage: Stage, now: datetime) -> StageStatus:
    """Read the status of a stage."""
    # Records before rows, so that no row is older than what publish recorded about it.
    settings, accounts, records, rows = stage.settings, stage.accounts(), stage.records(), stage.rows()
    resyncs = parse_resyncs(stage.log_lines("resync", '{ $.message = "resync" }'))
    return StageStatus(
        stage=stage.name,
        region=stage.region,
        account_id=stage.account_id,
        at=now,
        coverage=count_coverage(accounts, rows, records, settings),
        rollout=read_rollout(accounts, rows, records, settings, now),
        source_policy=read_source_policy(records, settings, read_drift(stage, records, now)),
        last_resync=resyncs[-1] if resyncs else None,
        last_full_resync=next((each for each in reversed(resyncs) if each.selection == Selection.ALL), None),
        queues=tuple(stage.queues()),
        alarms=tuple(stage.alarms()),
        failed_instances=_failed_instances(stage),
        deployed_at=datetime.fromisoformat(stage.configuration["LastModified"]),
    )


def _failed_instances(stage: Stage) -> tuple[FailedInstance, ...]:
    name = stage.settings.stack_set_role
    return (read_failed_instances(stage.client("cloudformation"), name) or ()) if name else ()


def count_coverage(
    accounts: Iterable[Account], rows: Iterable[LedgerRow], records: Records, settings: Settings
) -> Coverage:
    """Count the accounts of the organization and of the ledger by status."""
    listed, known = {account.id: account for account in accounts}, {row.account_id: row for row in rows}
    uninstalling, blocked = _is_uninstalling(records), blocked_reason(records)
    counts: dict[Outcome | None, Counter[Reason]] = {outcome: Counter() for outcome in (None, *Outcome)}
    eligible, pending = set(), []
    for account_id in listed.keys() | known.keys():
        row = known.get(account_id)
        ineligible = why_ineligible(listed.get(account_id), row, settings, uninstalling=uninstalling)
        outcome, reason = listed_outcome(row, ineligible, blocked)
        counts[outcome][reason or Reason.UNEXPECTED] += 1
        if ineligible is None:
            eligible.add(account_id)
        if row is not None and outcome is Outcome.PENDING:
            since = row.enrolled_at if ineligible is None else None
            pending.append(parse_time(since or row.updated_at))
    granted = records.maybe_named | {row.account_id for row in known.values() if row.in_force_since is not None}
    return Coverage(
        listed=len(listed),
        eligible=len(eligible),
        enrolled=counts[Outcome.ENROLLED].total(),
        pending=len(pending),
        pending_since=min(pending, default=None),
        pending_reason=(blocked or Reason.SOURCE_POLICY_PENDING) if pending else None,
        waiting=counts[None].total(),
        skipped=_by_count(counts[Outcome.SKIPPED]),
        retired=_by_count(counts[Outcome.RETIRED]),
        failing=_by_count(counts[Outcome.FAILED]),
        still_granted=tuple(sorted(granted - eligible)),
    )


def read_rollout(
    accounts: Iterable[Account], rows: Iterable[LedgerRow], records: Records, settings: Settings, now: datetime
) -> RolloutState | None:
    """Return how far a change of the member role is, or None if there are no waves, or if all roles are changed."""
    rollout, known = Rollout.to(settings), {row.account_id: row for row in rows}
    for account in accounts:
        row = known.get(account.id)
        ineligible = why_ineligible(account, row, settings, uninstalling=_is_uninstalling(records))
        rollout.count(account, row, ineligible, now)
    if rollout.current == rollout.total:
        return None
    return RolloutState(
        current=rollout.current,
        total=rollout.total,
        wave=rollout.outdated - rollout.waiting,
        failed=_by_count(rollout.failed),
        stopped=rollout.is_stopped,
    )


def _is_uninstalling(records: Records) -> bool:
    return records.control.uninstalling or records.control.uninstalled


def parse_resyncs(lines: Iterable[tuple[datetime, Mapping[str, Any]]]) -> tuple[Resync, ...]:
    """Parse the resyncs in the function's log, oldest first."""
    found = [
        Resync(at=at, selection=str(line.get("selection"))) for at, line in lines if line.get("message") == "resync"
    ]
    return tuple(sorted(found, key=lambda resync: resync.at))


def _by_count(counts: Mapping[Reason, int]) -> dict[Reason, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
