"""The one log line and the metrics of a run of publish."""

from aws_lambda_powertools.metrics import MetricUnit

from chalicelib.access_marks import Marked
from chalicelib.settings import Scope, Settings
from chalicelib.shard_writer import ShardWriter
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.source_policy.records import Status
from chalicelib.telemetry import Metric, logger, metrics


def report_run(shards: ShardWriter, status: Status, settings: Settings, marked: Marked, seconds: float) -> None:
    """Log the run, which took some seconds, and add its metrics."""
    frozen = any(record.is_frozen for record in shards.records.values())
    blocked = status.blocked
    for name, unit, value in (
        (Metric.PUBLISH_RUNS, MetricUnit.Count, 1),
        (Metric.PUBLISH_SECONDS, MetricUnit.Seconds, seconds),
        (Metric.POLICY_VERSIONS_WRITTEN, MetricUnit.Count, shards.versions_written),
        (Metric.ACCESS_GRANTED, MetricUnit.Count, marked.granted),
        (Metric.PUBLISHING_BLOCKED, MetricUnit.Count, int(blocked is not None)),
        (Metric.SOURCE_POLICY_FILL, MetricUnit.Percent, _fill_percent(shards, status, settings)),
        (Metric.FROZEN, MetricUnit.Count, int(frozen)),
    ):
        metrics.add_metric(name, unit, value)
    log = logger.warning if blocked or shards.failed else logger.info
    log(
        "publish",
        shards=len(shards.records),
        versions_written=shards.versions_written,
        in_force=marked.granted,
        pending=marked.pending,
        repairs=shards.repairs,
        frozen=frozen,
        blocked=blocked and blocked.reason,
        error=blocked and blocked.error,
        retry=shards.must_retry,
        duration_ms=round(seconds * 1000),
    )


def _fill_percent(shards: ShardWriter, status: Status, settings: Settings) -> float:
    contents = [record.content for record in shards.records.values()]
    if contents and contents[0].scope is Scope.ORGANIZATION:
        return 100 * len(contents[0].excluded) / max(exclusion_capacity(settings), 1)
    taken = sum(len(content.accounts) for content in contents)
    return 100 * taken / (capacity(settings) * max(status.room, 1))
