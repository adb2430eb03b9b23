"""The invariants that hold when nothing is left to do."""

from tests.integration.protocol.world import Access, Policy, Row, ShardRecord, Violation, World


def check_end(world: World, *, frozen: bool | None) -> None:
    """Check IAM, the roles and the freeze, except for accounts of a broken shard.

    `frozen` is None if the freeze flag was lost before it was applied; then only all shards must agree.
    """
    broken, concerned = world.broken_shards, concerned_by_broken_shards(world)
    granted = [account for policy in world.iam.values() for account in sorted(policy.content.accounts)]
    should = {account for account in world.eligible if world.should_grant(account)}
    error = bool(broken) and any(record.error for record in world.table.shards.values())
    wrong = set(granted) - should - concerned if error else set(granted) ^ should
    if wrong or (not broken and len(granted) != len(set(granted))):
        world.violations.add(Violation.WRONG_END)
    retired = {account for account, row in world.rows.items() if row.retired}
    if (should - world.roles) or (not broken and retired & world.roles):
        world.violations.add(Violation.WRONG_ROLES)
    applied = {policy.content.frozen for shard, policy in world.iam.items() if shard not in broken}
    if len(applied) > 1 or (frozen is not None and applied - {frozen}):
        world.violations.add(Violation.WRONG_FREEZE)
    if not broken and any(_differs(world, shard, policy) for shard, policy in world.iam.items()):
        world.violations.add(Violation.WRONG_END)


def concerned_by_broken_shards(world: World) -> set[str]:
    """Return the accounts that a broken shard may grant access to."""
    concerned: set[str] = set()
    for shard in world.broken_shards:
        record, policy = world.table.shards.get(shard, ShardRecord()), world.iam.get(shard, Policy())
        concerned = concerned.union(*(content.accounts for content in (*record.possible, policy.content)))
    return concerned


def waits_for_broken_shard(world: World, account: str) -> bool:
    """Whether a retirement can't be finished before the next resync."""
    row = world.rows.get(account, Row())
    done = row.access is Access.NONE and not world.should_grant(account)
    return done and account in concerned_by_broken_shards(world)


def _differs(world: World, shard: int, policy: Policy) -> bool:
    """Whether a shard's record and its policy disagree, or the policy has stray versions."""
    record = world.table.shards.get(shard, ShardRecord())
    return record.possible != (policy.content,) or policy.versions != {policy.default}
