"""What a stage with the default settings costs in a month: its calls, counted by tests, times AWS's prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from rolecall import prices
from rolecall.calls import ANNOUNCEMENT, BATCH, NEW, RERUN, RESYNC, RUN, SHARD, UNCHANGED, Calls
from rolecall.prices import Price

HOURS = 730.0  # in a month, as AWS counts
DAYS = HOURS / 24

# The template's defaults and resources, which a test compares with it.
BATCH_SIZE = 50
STREAM_BATCH_SIZE = 100
THREADS = 10
LOG_RETENTION_MONTHS = 3
MEMORY_GB: Mapping[str, float] = {
    "on_account_event": 0.25,
    "enroll": 0.5,
    "publish": 0.5,
    "rerun": 0.5,
    "resync": 0.5,
    "announce_outcome": 0.25,
}
ALARM_METRICS = 35
DASHBOARDS = 1
KEYS = 1

# What a test measures. Sizes are rounded up.
HOURLY_METRICS = 19
DAILY_METRICS = 3
EVENT_METRICS = 5
ROW_BYTES = 650
RECORD_BYTES = 600  # of a shard, besides its accounts
RECORDED_ACCOUNT_BYTES = 13
STATUS_BYTES = 1_500
LOG_BYTES_PER_ACCOUNT = 700
LOG_BYTES_PER_INVOCATION = 2_000

CALL_SECONDS = 0.08  # an assumption, that of docs/performance.md
START_SECONDS = 2.0  # an assumption: of a function that was idle
LISTED_PER_SECOND = 160  # 20 accounts in a page, 8 pages a second ("Quotas and service limits for AWS Organizations")
SHARD_ACCOUNTS = 382  # docs/limits.md
MAX_ACCOUNTS = 9_550  # beyond it, scope organization, whose one shard names only the excluded accounts

# "Configuring scaling behavior for SQS event source mappings" in the AWS Lambda Developer Guide: Lambda reads five batches at a
# time, by long polls of at most 20 seconds.
POLLS_PER_HOUR = 5 * 180

_READ_BYTES = 4_096  # of a read request unit
_WRITE_BYTES = 1_024
_SCAN_PAGE_BYTES = 1_048_576
_SENT_AT_ONCE = 10
_GB = 10**9
_ITEM_OVERHEAD_BYTES = 100  # "DynamoDB item sizes and formats" in the Amazon DynamoDB Developer Guide

UNKNOWN = (
    "free tiers and discounts, which are ignored, and taxes",
    "other regions, and settings other than the defaults",
    "retries, failures, drift and operators' commands",
    f"durations other than the assumed ones: {CALL_SECONDS * 1000:.0f} ms for each call, {START_SECONDS:.0f} s to start an idle function",
    "the rotated versions of the key of the alarm topic",
    "one metric more for each reason for which accounts are skipped or fail",
    "requests to KMS for the tables' encryption, and reads of logs, metrics and backups",
    "what the calls in each account cost there: further trails, GuardDuty, Config and other services that record them",
    "the Lambda code's bucket, and what readers do with their access",
)
"""What the estimate does not contain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One charge: so many units in a month."""

    what: str
    units: float
    price: Price

    @property
    def dollars(self) -> float:
        """The dollars in a month."""
        return self.units * self.price.dollars / self.price.per


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The charges of a month for a number of accounts, of which `per_day` are new every day."""

    accounts: int
    per_day: int
    lines: tuple[Line, ...]

    @property
    def dollars(self) -> float:
        """The dollars in a month."""
        return sum(line.dollars for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "accounts": self.accounts,
            "per_day": self.per_day,
            "region": prices.REGION,
            "prices_of": prices.DATE,
            "dollars_per_month": round(self.dollars, 2),
            "charges": [
                {
                    "service": line.price.service,
                    "what": line.what,
                    "units": round(line.units, 3),
                    "unit": line.price.unit,
                    "dollars": round(line.dollars, 4),
                }
                for line in self.lines
            ],
            "prices": dict(prices.PAGES),
            "free": list(prices.FREE),
            "not_included": list(UNKNOWN),
        }


def estimate(accounts: int, per_day: int) -> Estimate:
    """Return what enrolled accounts cost in a month in which so many are new every day."""
    month = _Month(accounts, per_day)
    services = (month.lambda_, month.dynamodb, month.sqs, month.eventbridge, month.cloudwatch, month.kms)
    lines = tuple(line for service in services for line in service())
    return Estimate(accounts=accounts, per_day=per_day, lines=lines)


@dataclass(frozen=True, slots=True)
class _Month:
    """The work of a month: an hourly resync of what is new, an hourly rerun, a daily resync, and new accounts."""

    accounts: int
    per_day: int

    @property
    def new(self) -> float:
        return self.per_day * DAYS

    @property
    def resyncs(self) -> float:
        return HOURS + DAYS

    @property
    def batches(self) -> float:
        """Those of the daily resync, and one for each new account."""
        return ceil(self.accounts / BATCH_SIZE) * DAYS + self.new

    @property
    def runs(self) -> float:
        """Runs of publish: one for each message of a sweep or a new account, if no two arrive together."""
        sent = self.resyncs * RESYNC["sqs:SendMessage"] + HOURS * RERUN["sqs:SendMessage"]
        return sent + self.new

    @property
    def changes(self) -> float:
        """Changes of rows, which Lambda reads from the ledger's stream free of charge."""
        return DAYS * self.accounts + 2 * self.new

    @property
    def announcing(self) -> float:
        """Invocations for changes: for each batch of a daily resync, and for each change of a new account."""
        return ceil(self.accounts / STREAM_BATCH_SIZE) * DAYS + 2 * self.new

    @property
    def invocations(self) -> Mapping[str, float]:
        return {
            "on_account_event": self.new,
            "enroll": self.batches,
            "publish": self.runs,
            "rerun": HOURS,
            "resync": self.resyncs,
            "announce_outcome": self.announcing,
        }

    def lambda_(self) -> tuple[Line, ...]:
        """Return the charges of Lambda."""
        pages = ceil(self.accounts * ROW_BYTES / _SCAN_PAGE_BYTES)
        checked = self.accounts * DAYS * _seconds(UNCHANGED) / THREADS + self.new * _seconds(NEW)
        seconds = {
            "on_account_event": self.new * CALL_SECONDS,
            "enroll": checked + self.batches * _seconds(BATCH),
            "publish": self.runs * (_seconds(RUN) + pages * CALL_SECONDS) + self.new * _seconds(SHARD),
            "rerun": HOURS * (_seconds(RERUN) + pages * CALL_SECONDS),
            "resync": self.resyncs * (_seconds(RESYNC) + self.accounts / LISTED_PER_SECOND + pages * CALL_SECONDS),
            "announce_outcome": self.new * _seconds(ANNOUNCEMENT) + self.announcing * CALL_SECONDS,
        }
        # Within an hour, publish starts once; batches of a resync start together.
        starts = {
            "on_account_event": self.new,
            "enroll": DAYS + self.new,
            "publish": HOURS,
            "rerun": HOURS,
            "resync": HOURS,
            "announce_outcome": DAYS + self.new,
        }
        used = sum(MEMORY_GB[name] * (seconds[name] + starts[name] * START_SECONDS) for name in seconds)
        return (
            Line(what="invocations", units=sum(self.invocations.values()), price=prices.INVOCATION),
            Line(what="duration", units=used, price=prices.DURATION),
        )

    def dynamodb(self) -> tuple[Line, ...]:
        """Return the charges of DynamoDB. All reads are consistent."""
        shards, recorded = ceil(self.accounts / SHARD_ACCOUNTS), self.accounts
        if self.accounts > MAX_ACCOUNTS:
            shards, recorded = 1, 0
        ledger = self.accounts * ROW_BYTES
        records = shards * RECORD_BYTES + recorded * RECORDED_ACCOUNT_BYTES + STATUS_BYTES
        shard = RECORD_BYTES + min(recorded, SHARD_ACCOUNTS) * RECORDED_ACCOUNT_BYTES
        scans = self.runs + HOURS + self.resyncs  # of each table, by publish, reruns and resyncs
        rows_read = self.resyncs * self.accounts + DAYS * self.accounts + self.new
        reads = scans * ceil(ledger / _READ_BYTES) + (scans + self.batches) * ceil(records / _READ_BYTES) + rows_read
        rows_written = self.changes  # by enroll, and as granted by publish
        of_status = self.runs * RUN["dynamodb:UpdateItem"] * ceil(STATUS_BYTES / _WRITE_BYTES)
        of_shards = self.new * SHARD["dynamodb:UpdateItem"] * ceil(shard / _WRITE_BYTES)
        writes = rows_written + of_status + of_shards + self.resyncs * RESYNC["dynamodb:UpdateItem"]
        stored = (ledger + records + self.accounts * _ITEM_OVERHEAD_BYTES) / _GB
        return (
            Line(what="reads", units=reads, price=prices.READ),
            Line(what="writes", units=writes, price=prices.WRITE),
            Line(what="tables", units=stored, price=prices.STORED),
            Line(what="point-in-time recovery", units=stored, price=prices.POINT_IN_TIME_RECOVERY),
        )

    def sqs(self) -> tuple[Line, ...]:
        """Return the charges of SQS: a message is sent, received and deleted; an idle queue is polled."""
        sent = ceil(self.accounts / _SENT_AT_ONCE) * DAYS + self.new
        redrives = HOURS * sum(number for call, number in RERUN.items() if call.endswith(("MoveTasks", "MoveTask")))
        polls = HOURS * POLLS_PER_HOUR
        return (
            Line(what="accounts queue", units=3 * sent + redrives, price=prices.STANDARD_QUEUE),
            Line(what="accounts queue, idle polling", units=polls, price=prices.STANDARD_QUEUE),
            Line(what="publish queue", units=3 * self.runs, price=prices.FIFO_QUEUE),
            Line(what="publish queue, idle polling", units=polls, price=prices.FIFO_QUEUE),
        )

    def eventbridge(self) -> tuple[Line, ...]:
        """Return the charges of EventBridge: an event for each new account."""
        events = self.new * ANNOUNCEMENT["events:PutEvents"]
        return (Line(what="announcements", units=events, price=prices.CUSTOM_EVENT),)

    def cloudwatch(self) -> tuple[Line, ...]:
        """Return the charges of CloudWatch; a metric is charged for the hours in which it is sent."""
        of_events = EVENT_METRICS * min(self.per_day, 24) / 24
        lines = self.accounts * DAYS + self.new
        logged = lines * LOG_BYTES_PER_ACCOUNT + sum(self.invocations.values()) * LOG_BYTES_PER_INVOCATION
        return (
            Line(
                what="custom metrics", units=HOURLY_METRICS + DAILY_METRICS / 24 + of_events, price=prices.CUSTOM_METRIC
            ),
            Line(what="alarms", units=ALARM_METRICS, price=prices.ALARM_METRIC),
            Line(what="dashboard", units=DASHBOARDS, price=prices.DASHBOARD),
            Line(what="logs", units=logged / _GB, price=prices.LOGS_INGESTED),
            Line(what="stored logs", units=logged / _GB * LOG_RETENTION_MONTHS, price=prices.LOGS_STORED),
        )

    def kms(self) -> tuple[Line, ...]:
        """Return the charges of KMS: the key of the alarms' topic."""
        return (Line(what="key of the alarm topic", units=KEYS, price=prices.KEY),)


def _seconds(calls: Calls) -> float:
    """Return how long calls take one after another."""
    return sum(calls.values()) * CALL_SECONDS
