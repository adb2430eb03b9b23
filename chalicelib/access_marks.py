"""The mark in each row since when its access is in force, which publish derives from its records."""

from collections.abc import Iterable
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.accounts import Access, LedgerRow, format_time, parse_time
from chalicelib.chunks import chunked
from chalicelib.messages import Trigger
from chalicelib.run_lease import RunLease
from chalicelib.source_policy.records import Records
from chalicelib.telemetry import Metric, metrics

if TYPE_CHECKING:
    from chalicelib.aws.ledger import AccessRow, Ledger

_RECENT = timedelta(days=1)  # An older account that an event names was moved or readmitted.
_CHUNK = 200  # rows that are written between two renewals of the lease


class Marked(NamedTuple):
    """How many accounts came in force, and how many are pending."""

    granted: int = 0
    pending: int = 0


def write_marks(
    rows: Iterable["AccessRow"], records: Records, ledger: "Ledger", lease: RunLease, pool: Executor, now: datetime
) -> Marked:
    """Write `in_force_since` in each row in which it differs from the records, and measure the time to access."""
    changed: list[AccessRow] = []
    oldest, pending = now, 0
    for row in rows:
        in_force = records.in_force(row.account_id, row.access)
        if row.access is Access.GRANTED and not in_force:
            pending += 1
            oldest = min(oldest, parse_time(row.enrolled_at)) if row.enrolled_at else oldest
        if in_force is not (row.in_force_since is not None):
            changed.append(row)
    for chunk in chunked(changed, _CHUNK):
        lease.hold()
        list(pool.map(lambda row: ledger.set_in_force(row, _mark(row, now)), chunk))
        for row in filter(_is_new, chunk):
            measure_access(row, now)
    metrics.add_metric(Metric.ACCESS_PENDING_SECONDS, MetricUnit.Seconds, (now - oldest).total_seconds())
    return Marked(granted=sum(map(_is_new, changed)), pending=pending)


def measure_access(row: "AccessRow | LedgerRow", now: datetime) -> None:
    """Measure the time from an account's creation until its access is in force, if an event reported it."""
    waited = now - parse_time(row.joined_at)
    if row.trigger == Trigger.EVENT and waited < _RECENT:
        metrics.add_metric(Metric.ACCESS_SECONDS, MetricUnit.Seconds, waited.total_seconds())


def _mark(row: "AccessRow", now: datetime) -> str | None:
    """Return the mark of a row that has the wrong one."""
    return format_time(now) if row.in_force_since is None else None


def _is_new(row: "AccessRow") -> bool:
    """Whether a row that has the wrong mark was granted access."""
    return row.access is Access.GRANTED and row.in_force_since is None
