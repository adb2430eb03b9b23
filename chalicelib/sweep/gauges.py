"""What a resync measures of the organization: counts by status and reason, coverage, missed events."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from chalicelib.accounts import Account, LedgerRow, Outcome, access_for, is_retry_pending, listed_outcome, parse_time
from chalicelib.errors import Reason
from chalicelib.telemetry import Metric, metrics

_EVENT_GRACE = timedelta(minutes=15)  # in which an account's event is processed
_RECENT = timedelta(days=2)  # Older accounts may be older than the deployment.


@dataclass(slots=True)
class Tally:
    """Counts of the listed accounts, and of what was sent.

    `rollout_waiting` have a role that was made for other settings, and wait for a later wave, or until an operator has
    handled a failure (`rollout_stopped`).
    """

    listed: int = 0
    sent: int = 0
    deferred: int = 0
    eligible: int = 0
    enrolled: int = 0
    pending: int = 0
    missed: int = 0
    given_up: int = 0
    unrecorded: int = 0
    rollout_waiting: int = 0
    rollout_stopped: bool = False
    skipped: Counter[Reason] = field(default_factory=Counter)
    retired: Counter[Reason] = field(default_factory=Counter)
    failing: Counter[Reason] = field(default_factory=Counter)
    oldest_failure: datetime | None = None

    def count(self, account: Account, row: LedgerRow | None, ineligible: Reason | None, now: datetime) -> None:
        """Count one listed account; `ineligible` is why it must not be enrolled, or None."""
        self.listed += 1
        self.unrecorded += not _is_recorded(account, row, ineligible)
        self.eligible += ineligible is None
        outcome, reason = listed_outcome(row, ineligible)
        self.enrolled += outcome is Outcome.ENROLLED
        self.pending += outcome is Outcome.PENDING
        if outcome is Outcome.SKIPPED:
            self.skipped[reason or Reason.UNEXPECTED] += 1
        elif outcome is Outcome.RETIRED:
            self.retired[reason or Reason.UNEXPECTED] += 1
        elif row is None:
            age = now - account.joined_at if account.joined_at else None
            self.missed += age is not None and _EVENT_GRACE < age < _RECENT
        elif outcome is Outcome.FAILED:
            self.failing[reason or Reason.UNEXPECTED] += 1
            self.given_up += not is_retry_pending(row, now)
            since = parse_time(row.failed_at or row.updated_at)
            self.oldest_failure = min(self.oldest_failure or since, since)

    def counts(self) -> dict[str, Any]:
        """Return the counts that an operator is shown."""
        return {
            "listed": self.listed,
            "sent": self.sent,
            "deferred": self.deferred,
            "eligible": self.eligible,
            "enrolled": self.enrolled,
            "pending": self.pending,
            "skipped": dict(self.skipped),
            "retired": dict(self.retired),
            "failing": dict(self.failing),
            "rollout_waiting": self.rollout_waiting,
            "rollout_stopped": self.rollout_stopped,
        }


def _is_recorded(account: Account, row: LedgerRow | None, ineligible: Reason | None) -> bool:
    """Whether the row has the access that the listing asks for; a failure of an eligible account leaves it as it was."""
    if row is None:
        return False
    failed = row.access is None or row.outcome is Outcome.FAILED
    return row.access is access_for(account, ineligible) or (ineligible is None and failed)


def emit_gauges(tally: Tally, stage: str, now: datetime) -> None:
    """Add the gauges to the function's metrics."""
    failing = sum(tally.failing.values())
    oldest = (now - tally.oldest_failure).total_seconds() if tally.oldest_failure else 0
    left_out = tally.skipped + tally.retired
    undecided = tally.deferred + (tally.rollout_waiting if tally.rollout_stopped else 0)
    if tally.eligible:
        metrics.add_metric(Metric.COVERAGE, MetricUnit.Percent, 100 * tally.enrolled / tally.eligible)
    for name, unit, value in (
        (Metric.ELIGIBLE, MetricUnit.Count, tally.eligible),
        (Metric.ENROLLED, MetricUnit.Count, tally.enrolled),
        (Metric.PENDING, MetricUnit.Count, tally.pending),
        (Metric.SKIPPED, MetricUnit.Count, left_out.total()),
        (Metric.FAILING, MetricUnit.Count, failing),
        (Metric.NEEDING_ATTENTION, MetricUnit.Count, tally.given_up + undecided),
        (Metric.OLDEST_FAILURE, MetricUnit.Seconds, oldest),
        (Metric.EVENTS_MISSED, MetricUnit.Count, tally.missed),
    ):
        metrics.add_metric(name, unit, value)
    for name, by_reason in ((Metric.SKIPPED_FOR, left_out), (Metric.FAILING_FOR, tally.failing)):
        for reason, count in by_reason.items():
            with single_metric(name=name, unit=MetricUnit.Count, value=count) as metric:
                metric.add_dimension("service", f"rolecall-{stage}")
                metric.add_dimension("reason", reason)
