"""Enroll: check each account of a batch, write its row, and send one message if something changed."""

from collections.abc import Generator, Sequence

from tests.integration.protocol.rules import Rules
from tests.integration.protocol.world import Access, Call, Records, Row, Steps, World


def enroll(world: World, rules: Rules, accounts: Sequence[str]) -> Steps:
    """Reconcile a batch. Return the accounts whose messages go back to the queue."""
    rows: dict[str, Row] = {}
    for account in accounts:
        yield None
        rows[account] = world.rows.get(account, Row())
    yield None
    records = world.table.read(two_sets=rules.two_sets)
    granted = world.published_accounts()
    if not rules.row_before_message:
        yield None
        world.send_publish()
    retry: set[str] = set()
    is_new = sends = records.status.shards is None
    for account, row in rows.items():
        if is_new and row.access is None:
            retry.add(account)  # the first run of publish comes before the first role
            continue
        access, is_finished = yield from _reconcile(world, rules, records, granted, account, row)
        yield None
        if rules.row_is_conditional and world.rows.get(account, Row()).revision != row.revision:
            retry.add(account)
            continue
        retry |= set() if is_finished else {account}
        world.update_row(account, access)
        sends |= access is not row.access and rules.sends_if_changed
        sends |= _differ(rules, records, account, access) and rules.sends_if_different
    if sends and rules.row_before_message:
        yield None
        world.send_publish()
    yield None
    return sorted(retry)


def _reconcile(
    world: World, rules: Rules, records: Records, granted: frozenset[str], account: str, row: Row
) -> Generator[Call | None, None, tuple[Access | None, bool]]:
    """Check an account, and create or delete its role. Return its new access, and whether its message is finished."""
    yield None
    if world.random.random() < world.failure_rate:
        return row.access or (None if rules.failure_keeps_access else Access.NONE), False
    if world.eligible[account] and not row.retired:
        yield None
        world.roles.add(account)
        return Access.GRANTED, True
    yield None
    if not row.retired or account not in world.roles:
        return Access.NONE, True
    if row.access is Access.NONE and not _may_grant(rules, records, account):
        world.delete_role(account, granted)
        return Access.NONE, True
    return Access.NONE, False  # source_policy_pending


def _may_grant(rules: Rules, records: Records, account: str) -> bool:
    if not rules.role_waits_for_records:
        return False
    return records.may_grant(account) or (rules.lost_record_may_grant and records.incomplete)


def _differ(rules: Rules, records: Records, account: str, access: Access | None) -> bool:
    """Whether a row and the records disagree."""
    if access is Access.GRANTED:
        return not records.surely_grant(account)
    return access is Access.NONE and _may_grant(rules, records, account)
