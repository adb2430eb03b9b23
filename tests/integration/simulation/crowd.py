"""A source policy that is nearly full, of accounts that have no row: what a stage whose ledger was lost may look like.

They are too many to be revoked at once, until an operator decides so.
"""

from datetime import UTC, datetime

from chalicelib.arns import AccountId
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity, digest, document
from chalicelib.source_policy.records import AppliedShard, Names, ShardContent, ShardRecord, Status
from tests.integration.simulation.cloud import SOURCE_POLICY, Cloud
from tests.integration.simulation.iam import ATTACHMENTS, Policy, Role
from tests.integration.simulation.members import ORGANIZATION_ID
from tests.integration.simulation.stages import source_policy_arn


class _Client:
    """Writes items straight into the simulated table."""

    def __init__(self, cloud: Cloud) -> None:
        self._tables = cloud.tables

    def update_item(self, **asked: object) -> None:
        self._tables.answer("UpdateItem", asked)


def crowd(cloud: Cloud, settings: Settings, *, free: int, others: int) -> None:
    """Leave room for `free` accounts in the first shard, and attach `others` policies to the source principal."""
    now = cloud.now
    cloud.pass_time(now - 3600)
    written_at = datetime.fromtimestamp(cloud.now, UTC)
    arn = source_policy_arn(cloud.source_account)
    cloud.crowd = frozenset(f"9{number:011}" for number in range(capacity(settings) - free))
    cloud.others = frozenset(f"arn:aws:iam::{cloud.source_account}:policy/Other{number}" for number in range(others))
    content = ShardContent(accounts=frozenset(map(AccountId, cloud.crowd)))
    attached = frozenset({cloud.reader})
    text = document(settings, content, ORGANIZATION_ID).text
    tags = frozenset(settings.ownership_tags.items())
    cloud.iam.put(arn, Policy(arn, ((1, text),), 1, 2, tags, attached))
    cloud.iam.put(cloud.reader, Role(cloud.reader, attached=cloud.others | {arn}))
    cloud.pass_time(now)
    table = SourcePolicyTable(settings, _Client(cloud), "source-policy")  # type: ignore[arg-type]
    applied = AppliedShard(
        content=content, digest=digest(settings, content, ORGANIZATION_ID), attached=attached, version_id="v1"
    )
    table.write_shard(ShardRecord(name=SOURCE_POLICY, applied=applied, written_at=written_at))
    room = ATTACHMENTS - others
    table.write_status(
        Status(names=Names.of(settings), organization_id=ORGANIZATION_ID, shards=1, room=room, looked_at=written_at)
    )
