"""A nearly full source policy of accounts without a row, as after the loss of the ledger.

They are too many to be revoked at once unless an operator forces it.
"""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from chalicelib.arns import AccountId
from chalicelib.aws.source_policy_table import SourcePolicyTable
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity, digest, document
from chalicelib.source_policy.records import AppliedShard, Names, ShardContent, ShardRecord, Status
from tests.integration.simulation.cloud import SOURCE_POLICY, Cloud
from tests.integration.simulation.environment import source_policy_arn
from tests.integration.simulation.iam import ATTACHMENTS, Policy, Role
from tests.integration.simulation.members import ORGANIZATION_ID


def fill_shard(cloud: Cloud, settings: Settings, *, free: int, others: int) -> None:
    """Leave room for `free` accounts in the first shard, and attach `others` policies to the source principal."""
    now = cloud.now
    cloud.pass_time(now - 3600)
    written_at = datetime.fromtimestamp(cloud.now, UTC)
    arn = source_policy_arn(cloud.source_account)
    cloud.orphaned = frozenset(f"9{number:011}" for number in range(capacity(settings) - free))
    cloud.other_policies = other_policies(cloud.source_account, others)
    content = ShardContent(accounts=frozenset(map(AccountId, cloud.orphaned)))
    attached = frozenset({cloud.source_principal})
    text = document(settings, content, ORGANIZATION_ID).text
    tags = frozenset(settings.ownership_tags.items())
    cloud.iam.put(arn, Policy(arn, ((1, text),), tags=tags, attached=attached))
    cloud.iam.put(cloud.source_principal, Role(cloud.source_principal, attached=cloud.other_policies | {arn}))
    cloud.pass_time(now)
    client: Any = SimpleNamespace(update_item=lambda **params: cloud.tables.answer("UpdateItem", params))
    table = SourcePolicyTable(settings, client, "source-policy")
    digested = digest(settings, content, ORGANIZATION_ID)
    applied = AppliedShard(content=content, digest=digested, attached=attached, version_id="v1")
    table.write_shard(ShardRecord(name=SOURCE_POLICY, applied=applied, written_at=written_at))
    names, room = Names.of(settings), ATTACHMENTS - others
    table.write_status(Status(names=names, organization_id=ORGANIZATION_ID, shards=1, room=room, looked_at=written_at))


def other_policies(source_account: str, number: int) -> frozenset[str]:
    return frozenset(f"arn:aws:iam::{source_account}:policy/Other{each}" for each in range(number))
