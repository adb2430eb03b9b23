"""A source policy that is nearly full, of accounts that nobody knows: a policy that was taken over may name such.

They are too many to leave at once, until somebody decides that it is right.
"""

from chalicelib.arns import AccountId
from chalicelib.aws import items
from chalicelib.settings import Settings
from chalicelib.source_policy import Shard, capacity, document, form
from tests.simulation.cloud import Cloud
from tests.simulation.iam import Policy, Role
from tests.simulation.stages import SOURCE_POLICY, source_policy_arn


def crowd(cloud: Cloud, settings: Settings, *, free: int, others: int) -> None:
    """Leave so many places free in the first shard, and have the reader carry so many policies of others, for an hour already."""
    now = cloud.now
    cloud.pass_time(now - 3600)
    arn = source_policy_arn(cloud.source_account)
    cloud.crowd = frozenset(f"9{number:011}" for number in range(capacity(settings) - free))
    cloud.others = frozenset(f"arn:aws:iam::{cloud.source_account}:policy/Other{number}" for number in range(others))
    named = frozenset(map(AccountId, cloud.crowd))
    shard = Shard(name=SOURCE_POLICY, accounts=named, version=1, written=1, attached=frozenset({cloud.reader}))
    said = document(settings, shard, "").text
    tags = frozenset(settings.ownership_tags.items())
    cloud.iam.put(arn, Policy(arn, ((1, said),), 1, 2, tags, shard.attached))
    cloud.iam.put(cloud.reader, Role(cloud.reader, attached=cloud.others | {arn}))
    cloud.pass_time(now)
    item = items.written(
        {
            "policy_name": shard.name,
            "accounts": set(named),
            "frozen": False,
            "version": 1,
            "written": 1,
            "form": form(settings, shard, ""),
            "attached": set(shard.attached),
        }
    )
    placement = items.written({"policy_name": "#placement", "version": 1, "scope": "accounts"})
    cloud.tables.items["source-policy"] = {SOURCE_POLICY: item, "#placement": placement}
