"""How shards in IAM differ from their records: what others changed since publish checked them, read with one call a shard."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from chalicelib.arns import policy_arn
from chalicelib.source_policy.records import Records, ShardRecord
from rolecall.aws_errors import translate_errors
from rolecall.stage import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedShard:
    """A shard as GetPolicy shows it: its default version, and to how many principals and groups it is attached."""

    version_id: str
    attachments: int


def read_drift(stage: Stage, records: Records, now: datetime) -> Mapping[str, str] | None:
    """Return what differs, by the shards' names, or None if the credentials are of another account than the shards."""
    settings = stage.settings
    if not settings.keeps_source_policy or settings.source_account_id != stage.account_id:
        return None
    iam = stage.client("iam")
    found = {}
    for record in records.shards:
        # What is being written, or was a moment ago, IAM may not show yet.
        if not record.is_consistent(now):
            continue
        arn = policy_arn(settings.partition, settings.source_account_id, record.name)
        with translate_errors(f"reading {arn}"):
            try:
                policy = iam.get_policy(PolicyArn=arn)["Policy"]
                observed = ObservedShard(version_id=policy["DefaultVersionId"], attachments=policy["AttachmentCount"])
            except iam.exceptions.NoSuchEntityException:
                observed = None
        if difference := drift(record, observed):
            found[record.name] = difference
    return found


def drift(record: ShardRecord, observed: ObservedShard | None) -> str | None:
    """Return how a shard differs from its record, or None if it doesn't; attachments that others added don't count."""
    if observed is None:
        return "it does not exist"
    written, attached = record.applied.version_id if record.applied else "", len(record.attached)
    if written and observed.version_id != written:
        return f"its default version is {observed.version_id}, not {written}"
    if observed.attachments < attached:
        return f"it is attached to {observed.attachments} of {attached} source principals"
    return None
