"""Which shard grants which account, and in which steps the shards change."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chalicelib.accounts import Access
from chalicelib.arns import AccountId
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.assignment import Assignment, assign, interim
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.source_policy.records import (
    MAX_SHARDS,
    AppliedShard,
    Names,
    Records,
    ShardContent,
    ShardRecord,
    Status,
    shard_name,
)
from tests.unit.builders import settings
from tests.unit.ledger_rows import numbered_set

FEW = 3  # the capacity of a shard
ORGANIZATION = ShardContent(scope=Scope.ORGANIZATION)
Rows = Mapping[AccountId, Access | None]


@cache
def small_shards(measure: Callable[[Settings], int] = capacity) -> Settings:
    """Return settings with a capacity of three accounts, by a role name that fills the rest of the document."""
    normal = settings(MEMBER_ROLE_NAME="R")
    spare = 15 * (measure(normal) - FEW)  # An id takes 15 characters.
    small = replace(normal, member_role_name="R" + "R" * -(-spare // 2))  # The name is in two statements.
    assert measure(small) == FEW
    return small


def contents_of(*shards: Collection[int]) -> tuple[ShardContent, ...]:
    return tuple(ShardContent(accounts=numbered_set(*numbers)) for numbers in shards)


def numbers_in(assignment: Assignment) -> list[list[int]]:
    return [sorted(map(int, content.accounts)) for content in assignment.contents]


def by_access(rows: Rows) -> dict[Access, set[AccountId]]:
    return {access: {each for each, row_access in rows.items() if row_access is access} for access in Access}


def assigned(
    current: tuple[ShardContent, ...],
    rows: Rows,
    scope: Scope = Scope.ACCOUNTS,
    *,
    max_shards: int = MAX_SHARDS,
    full: Collection[int] = (),
    config: Settings | None = None,
) -> Assignment:
    return assign(current, by_access(rows), config or small_shards(), scope=scope, max_shards=max_shards, full=full)


members = st.integers(1, 12).map(lambda number: AccountId(f"{number:012}"))
some = st.frozensets(members, max_size=5)  # may exceed the capacity, as after a change of the names
some_rows = st.dictionaries(members, st.none() | st.sampled_from(Access))
some_contents = st.lists(some.map(lambda accounts: ShardContent(accounts=accounts)), max_size=4).map(tuple)
some_full = st.frozensets(st.integers(0, 3))

# --- Scope accounts ---------------------------------------------------------------------------------------------------


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_granted_account_is_in_one_shard_or_unassigned(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    accesses = by_access(rows)
    recorded = frozenset[AccountId]().union(*(content.accounts for content in current))

    found = assigned(current, rows, max_shards=max_shards, full=full)

    with_access = (recorded | accesses[Access.GRANTED]) - accesses[Access.NONE] - accesses[Access.EXCLUDED]
    in_shards = [account_id for content in found.contents for account_id in content.accounts]
    assert sorted([*in_shards, *found.unassigned]) == sorted(with_access)
    assert found.contents == tuple(ShardContent(accounts=content.accounts) for content in found.contents)


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_shard_is_within_capacity_and_opened_only_when_needed(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    found = assigned(current, rows, max_shards=max_shards, full=full)

    sizes = [len(content.accounts) for content in found.contents]
    room = [size < FEW and index not in full for index, size in enumerate(sizes)]
    assert all(size <= FEW for size in sizes)
    assert len(current) <= len(sizes) <= max(len(current), max_shards)
    assert not found.unassigned or (not any(room[: len(current)]) and len(sizes) >= max_shards)
    assert all(sizes[len(current) :])
    if len(sizes) > len(current):
        assert not any(room[: len(current)])


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_account_keeps_its_first_shard_while_it_fits(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    found = assigned(current, rows, max_shards=max_shards, full=full)

    seen: set[AccountId] = set()
    for index, content in enumerate(current):
        mine = [each for each in content.accounts - seen if rows.get(each) not in {Access.NONE, Access.EXCLUDED}]
        kept = found.contents[index].accounts
        seen.update(sorted(mine)[:FEW])
        assert frozenset(sorted(mine)[:FEW]) <= kept
        if index in full:
            assert kept <= content.accounts


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_newcomers_fill_the_first_shards_in_order_of_their_ids(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    found = assigned(current, rows, max_shards=max_shards, full=full)

    newcomers: list[AccountId] = []
    for index, content in enumerate(found.contents):
        before = current[index].accounts if index < len(current) else frozenset[AccountId]()
        newcomers += sorted(content.accounts - before)
    assert [*newcomers, *found.unassigned] == sorted([*newcomers, *found.unassigned])


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_assignment_is_idempotent(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    found = assigned(current, rows, max_shards=max_shards, full=full)

    assert assigned(found.contents, rows, max_shards=max_shards, full=full).contents == found.contents


def test_account_in_two_shards_stays_in_the_first() -> None:
    assert numbers_in(assigned(contents_of([1, 2], [2, 3]), {})) == [[1, 2], [3]]


def test_account_over_capacity_stays_in_a_later_shard() -> None:
    assert numbers_in(assigned(contents_of([1, 2, 3, 6], [4, 5, 6, 8], [8]), {})) == [[1, 2, 3], [4, 5, 6], [8]]


def test_no_shard_is_opened_without_a_granted_account() -> None:
    rows = dict.fromkeys(numbered_set(1), Access.NONE) | dict.fromkeys(numbered_set(2), Access.EXCLUDED)

    for scope in Scope:
        assert assigned((), rows, scope) == Assignment(contents=())


# --- Scope organization -----------------------------------------------------------------------------------------------


@given(some_rows, st.frozensets(members, max_size=3), st.lists(some, max_size=2))
def test_scope_organization_grants_all_but_excluded_accounts(
    rows: Rows, excluded: frozenset[AccountId], others: list[frozenset[AccountId]]
) -> None:
    small = small_shards(exclusion_capacity)
    accesses = by_access(rows)
    current = (replace(ORGANIZATION, excluded=excluded), *(ShardContent(accounts=accounts) for accounts in others))

    found = assigned(current, rows, Scope.ORGANIZATION, config=small)

    # An account without a row, or whose row has no access, stays excluded.
    expected = (accesses[Access.EXCLUDED] | excluded) - accesses[Access.GRANTED] - accesses[Access.NONE]
    first, *rest = found.contents
    assert first == replace(ORGANIZATION, excluded=first.excluded)
    assert rest == [ShardContent()] * len(others)
    assert first.excluded | set(found.unassigned) == expected
    assert len(first.excluded) == min(len(expected), FEW)
    assert excluded & expected <= first.excluded
    assert assigned(found.contents, rows, Scope.ORGANIZATION, config=small) == found


def test_accounts_excluded_by_settings_come_first() -> None:
    small = replace(small_shards(exclusion_capacity), exclude_account_ids=numbered_set(8, 9))
    rows = dict.fromkeys(numbered_set(1, 2, 8), Access.EXCLUDED) | dict.fromkeys(numbered_set(3), Access.GRANTED)

    found = assigned((), rows, Scope.ORGANIZATION, config=small)

    assert found.contents == (replace(ORGANIZATION, excluded=numbered_set(1, 8, 9)),)
    assert found.unassigned == ("000000000002",)


def test_settings_may_exclude_more_accounts_than_fit() -> None:
    small = replace(small_shards(exclusion_capacity), exclude_account_ids=numbered_set(6, 7, 8, 9))

    found = assigned((ORGANIZATION,), dict.fromkeys(numbered_set(1), Access.EXCLUDED), Scope.ORGANIZATION, config=small)

    assert found.contents[0].excluded == numbered_set(6, 7, 8, 9)
    assert found.unassigned == ("000000000001",)


def test_scope_organization_needs_room_for_one_shard() -> None:
    rows = dict.fromkeys(numbered_set(2, 1), Access.GRANTED)

    found = assigned((), rows, Scope.ORGANIZATION, max_shards=0)

    assert found == Assignment(contents=(), unassigned=(AccountId("000000000001"), AccountId("000000000002")))


# --- Steps ------------------------------------------------------------------------------------------------------------


def test_account_leaves_a_shard_once_another_record_grants_it() -> None:
    current, desired, other = contents_of([1, 2], [1], [2])

    for recorded in (False, True):
        content = interim(current, desired, [other], lambda _, recorded=recorded: recorded)  # type: ignore[misc]
        assert content == (desired if recorded else current)


def test_revoked_account_leaves_at_once() -> None:
    current, desired, other = contents_of([1, 2, 3], [1], [2])

    assert interim(current, desired, [other], lambda _: False) == contents_of([1, 2])[0]


def test_organization_is_granted_until_other_shards_are_recorded() -> None:
    current = replace(ORGANIZATION, excluded=numbered_set(4))
    desired, other = contents_of([1], [2])

    waiting = interim(current, replace(desired, frozen=True), [other], lambda _: False)

    assert waiting == replace(current, frozen=True)
    assert interim(current, desired, [other], lambda _: True) == desired
    assert interim(current, desired, [], lambda _: False) == desired


def test_account_leaves_once_the_organization_is_recorded() -> None:
    current, desired = contents_of([1, 2], [])
    organization = replace(ORGANIZATION, excluded=numbered_set(2))

    assert interim(current, desired, [organization], lambda _: False) == contents_of([1])[0]
    assert interim(current, desired, [organization], lambda _: True) == desired


MEMBERS = numbered_set(*range(1, 9))
RECORDED, UNRECORDED, FAILED = "recorded", "written, not recorded", "not written"


class Steps(RuleBasedStateMachine):
    """Rows and scope change, and shards are written in any order; any write may fail before or after IAM.

    `in_iam` is the content of the policies.
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings = small_shards()
        self.rows: dict[AccountId, Access | None] = {}
        self.scope = Scope.ACCOUNTS
        self.in_iam: dict[int, ShardContent] = {}
        self.shards: dict[int, ShardRecord] = {}
        self.unassigned: tuple[AccountId, ...] = ()

    @initialize(contents=st.lists(st.frozensets(st.sampled_from(sorted(MEMBERS)), max_size=5), max_size=3))
    def begin(self, contents: list[frozenset[AccountId]]) -> None:
        """Start with shards that may exceed the capacity and contain an account twice."""
        for index, accounts in enumerate(contents):
            self.in_iam[index] = ShardContent(accounts=accounts)
            self.shards[index] = self.record(index, applied=AppliedShard(content=self.in_iam[index]))

    @rule(
        changes=st.dictionaries(st.sampled_from(sorted(MEMBERS)), st.none() | st.sampled_from(Access), max_size=4),
        lost=st.frozensets(st.sampled_from(sorted(MEMBERS)), max_size=1),
    )
    def change_rows(self, changes: dict[AccountId, Access | None], lost: frozenset[AccountId]) -> None:
        # A row's access is never cleared: a failure keeps it.
        self.rows |= {each: access or self.rows.get(each) for each, access in changes.items()}
        self.rows = {each: access for each, access in self.rows.items() if each not in lost}

    @rule(scope=st.sampled_from((Scope.ACCOUNTS, Scope.ORGANIZATION)))  # publish doesn't run in scope none
    def change_scope(self, scope: Scope) -> None:
        self.scope = scope
        for account_id in MEMBERS:
            self.rows.setdefault(account_id, Access.GRANTED)

    @rule(
        order=st.permutations(range(8)),
        outcomes=st.lists(st.sampled_from([RECORDED, RECORDED, UNRECORDED, FAILED]), min_size=8, max_size=8),
        full=some_full,
        may_change_scope=st.booleans(),
    )
    def write(self, order: list[int], outcomes: list[str], full: frozenset[int], may_change_scope: bool) -> None:
        desired = self.desired(full, may_change_scope=may_change_scope)
        for index in order:
            if index < len(desired):
                self.write_shard(index, desired, outcomes[index])

    @rule(may_change_scope=st.booleans())
    def write_all(self, may_change_scope: bool) -> None:
        """Without failures, four runs write everything."""
        for _ in range(4):
            before = dict(self.in_iam)
            desired = self.desired((), may_change_scope=may_change_scope)
            for index in range(len(desired)):
                self.write_shard(index, desired, RECORDED)
        assert self.in_iam == before == dict(enumerate(self.desired((), may_change_scope=may_change_scope)))
        revoked = {Access.EXCLUDED} if self.in_iam and self.in_iam[0].scope is Scope.ORGANIZATION else {*Access}
        for account_id, access in self.rows.items():
            if access in {Access.GRANTED} | revoked and account_id not in self.unassigned:
                assert self.is_granted(account_id) is (access is Access.GRANTED)

    @invariant()
    def records_cover_iam(self) -> None:
        records = Records(
            status=Status(names=Names.of(self.settings), organization_id="o-x", shards=len(self.shards)),
            by_index=self.shards,
        )
        for account_id in MEMBERS:
            if records.grants(account_id, self.rows.get(account_id)):
                assert self.is_granted(account_id)
            if self.is_granted(account_id):
                assert records.may_grant(account_id)

    def desired(self, full: Collection[int], *, may_change_scope: bool) -> list[ShardContent]:
        """Assign as publish does: the scope changes only if every account has a row and all accounts fit."""
        current = self.shards[0].content.scope if self.shards else self.scope
        found = self.assigned(current, full)
        if self.scope is not current and may_change_scope and self.rows.keys() == MEMBERS:
            changed = self.assigned(self.scope, full)
            found = found if changed.unassigned else changed
        for index in range(len(self.shards), len(found.contents)):
            self.shards[index] = self.record(index)
        self.unassigned = found.unassigned
        return list(found.contents)

    def assigned(self, scope: Scope, full: Collection[int]) -> Assignment:
        current = tuple(self.shards[index].content for index in sorted(self.shards))
        rows = dict(self.rows)
        if scope is Scope.ACCOUNTS and current and current[0].scope is Scope.ORGANIZATION:
            unknown = {each for each, access in rows.items() if access is None}
            rows |= dict.fromkeys(unknown - current[0].excluded, Access.GRANTED)
        return assigned(current, rows, scope, full=full, config=self.settings)

    def write_shard(self, index: int, desired: list[ShardContent], outcome: str) -> None:
        record = self.shards[index]
        recorded = [
            other.applied.content
            for each, other in self.shards.items()
            if each != index and other.applied is not None and other.applying is None
        ]
        others = [content for each, content in enumerate(desired) if each != index]
        content = interim(
            record.content, desired[index], others, lambda account_id: any(each.grants(account_id) for each in recorded)
        )
        # An account may lose access if it is granted again after its revocation began.
        contents = [each.content for each in self.shards.values()]
        before = {
            each for each in MEMBERS if self.is_granted(each) and any(content.grants(each) for content in contents)
        }
        self.shards[index] = record.begun(AppliedShard(content=content))
        if outcome != FAILED:
            self.in_iam[index] = content
        if outcome == RECORDED:
            self.shards[index] = self.record(index, applied=AppliedShard(content=content))
        for account_id in before:
            if self.rows.get(account_id) not in {Access.NONE, Access.EXCLUDED}:
                assert self.is_granted(account_id), f"{account_id} lost its access"

    def record(self, index: int, applied: AppliedShard | None = None) -> ShardRecord:
        return ShardRecord(name=shard_name(self.settings.source_policy_name, index), applied=applied)

    def is_granted(self, account_id: AccountId) -> bool:
        return any(content.grants(account_id) for content in self.in_iam.values())


def test_no_write_revokes_a_granted_account() -> None:
    run_state_machine_as_test(Steps, settings=hypothesis_settings(max_examples=60, stateful_step_count=15))
