"""Enroll: check a batch of accounts, write their rows, and send one message if something changed."""

from collections.abc import Sequence

from tests.integration.protocol.rules import Rules
from tests.integration.protocol.world import Access, Records, Row, Steps, World


def enroll(world: World, rules: Rules, accounts: Sequence[str]) -> Steps:
    """Reconcile a batch. Return the accounts whose messages go back to the queue."""
    rows: dict[str, Row] = {}
    for account in accounts:
        yield None
        rows[account] = world.rows.get(account, Row())
    yield None
    records = world.table.read(two_sets=rules.two_sets)
    granted = world.published_accounts()
    retry: set[str] = set()
    access: dict[str, Access | None] = {}
    for account, row in rows.items():
        if records.status.shards is None and row.access is None:
            retry.add(account)  # the first run of publish comes before the first role
            continue
        yield None
        if world.random.random() < world.failure_rate:
            retry.add(account)
            access[account] = row.access or (None if rules.failure_keeps_access else Access.NONE)
            continue
        access[account] = Access.GRANTED if world.eligible[account] and not row.retired else Access.NONE
        yield None
        if access[account] is Access.GRANTED:
            world.roles.add(account)
        elif row.retired and account in world.roles:
            if row.access is Access.NONE and not _may_grant(rules, records, account):
                world.delete_role(account, granted)
            else:
                retry.add(account)  # source_policy_pending
    if not rules.row_before_message:
        yield None
        world.send_publish()
    changed = False
    for account, new in access.items():
        yield None
        if rules.row_is_conditional and world.rows.get(account, Row()).revision != rows[account].revision:
            retry.add(account)
            continue
        changed |= new is not rows[account].access
        world.update_row(account, new)
    different = any(_differ(rules, records, account, new) for account, new in access.items())
    sends = (changed and rules.sends_if_changed) or (different and rules.sends_if_different)
    if rules.row_before_message and (sends or records.status.shards is None):
        yield None
        world.send_publish()
    yield None
    return sorted(retry)


def _may_grant(rules: Rules, records: Records, account: str) -> bool:
    if not rules.role_waits_for_records:
        return False
    return records.may_grant(account) or (rules.lost_record_may_grant and records.incomplete)


def _differ(rules: Rules, records: Records, account: str, access: Access | None) -> bool:
    """Whether a row and the records disagree."""
    if access is Access.GRANTED:
        return not records.surely_grant(account)
    return access is Access.NONE and _may_grant(rules, records, account)
