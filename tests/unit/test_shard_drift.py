"""How shards in IAM differ from their records."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.source_policy.records import AppliedShard, ShardRecord
from rolecall.shard_drift import ObservedShard, drift, read_drift
from tests.unit.builders import SOURCE, settings
from tests.unit.ledger_rows import NOW, SHARD, records

PRINCIPALS = frozenset({"arn:aws:iam::111122223333:role/Reader", "arn:aws:iam::111122223333:role/Other"})
WRITTEN = ShardRecord(name=SHARD, applied=AppliedShard(attached=PRINCIPALS, version_id="v3"))
ARN = f"arn:aws:iam::{SOURCE}:policy/{SHARD}"
AS_WRITTEN = ObservedShard(version_id="v3", attachments=2)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (AS_WRITTEN, None),
        (replace(AS_WRITTEN, attachments=3), None),  # also to a group
        (None, "it does not exist"),
        (replace(AS_WRITTEN, version_id="v1"), "its default version is v1, not v3"),
        (replace(AS_WRITTEN, attachments=1), "it is attached to 1 of 2 source principals"),
    ],
)
def test_drift_is_another_version_or_a_missing_attachment(observed: ObservedShard | None, expected: str | None) -> None:
    assert drift(WRITTEN, observed) == expected


class NoSuchEntityException(Exception):  # noqa: N818 - botocore's name
    """As IAM raises."""


@dataclass
class FakeIam:
    """IAM with some policies by their ARN."""

    policies: dict[str, tuple[str, int]]
    calls: list[str] = field(default_factory=list)
    exceptions = SimpleNamespace(NoSuchEntityException=NoSuchEntityException)

    def get_policy(self, PolicyArn: str) -> dict[str, Any]:  # noqa: N803 - botocore's name
        self.calls.append(PolicyArn)
        if PolicyArn not in self.policies:
            raise NoSuchEntityException
        version_id, attachments = self.policies[PolicyArn]
        return {"Policy": {"DefaultVersionId": version_id, "AttachmentCount": attachments}}


def stage(iam: FakeIam, account_id: str = SOURCE) -> Any:
    return SimpleNamespace(settings=settings(), account_id=account_id, client=lambda _: iam)


def test_each_shard_is_read_with_one_call() -> None:
    iam = FakeIam({ARN: ("v3", 1), f"{ARN}-2": ("v3", 2)})
    shards = [replace(WRITTEN, name=f"{SHARD}{suffix}") for suffix in ("", "-2", "-3")]

    assert read_drift(stage(iam), records(*shards), NOW) == {
        SHARD: "it is attached to 1 of 2 source principals",
        f"{SHARD}-3": "it does not exist",
    }
    assert iam.calls == [ARN, f"{ARN}-2", f"{ARN}-3"]


@pytest.mark.parametrize(
    "record",
    [
        replace(WRITTEN, written_at=NOW - timedelta(seconds=119)),
        replace(WRITTEN, applying=WRITTEN.applied),
        ShardRecord(name=SHARD),
    ],
    ids=["written a moment ago", "being written", "never written"],
)
def test_shard_that_iam_may_not_show_yet_is_not_read(record: ShardRecord) -> None:
    assert read_drift(stage(FakeIam({})), records(record), NOW) == {}


def test_shards_of_another_account_are_not_read() -> None:
    assert read_drift(stage(FakeIam({}), "999999999999"), records(WRITTEN), NOW) is None
