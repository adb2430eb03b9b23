"""Which shard grants which account, and in which steps the shards change."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache

import pytest
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

FEW = 3  # accounts that a shard holds
ORGANIZATION = ShardContent(scope=Scope.ORGANIZATION)
Rows = Mapping[AccountId, Access | None]


@cache
def cramped(measure: Callable[[Settings], int] = capacity) -> Settings:
    """Return settings under which a document holds few accounts, by a role name that takes the rest of it."""
    normal = settings(MEMBER_ROLE_NAME="R")
    spare = 15 * (measure(normal) - FEW)  # An id takes 15 characters.
    cramping = replace(normal, member_role_name="R" + "R" * -(-spare // 2))  # The name is in two statements.
    assert measure(cramping) == FEW
    return cramping


def numbered(*numbers: int) -> frozenset[AccountId]:
    return frozenset(AccountId(f"{number:012}") for number in numbers)


def contents_of(*shards: Collection[int]) -> tuple[ShardContent, ...]:
    return tuple(ShardContent(accounts=numbered(*numbers)) for numbers in shards)


def numbers_in(assignment: Assignment) -> list[list[int]]:
    return [sorted(map(int, content.accounts)) for content in assignment.contents]


def by_access(rows: Rows) -> dict[Access, set[AccountId]]:
    return {access: {each for each, given in rows.items() if given is access} for access in Access}


def assigned(
    current: tuple[ShardContent, ...],
    rows: Rows,
    scope: Scope = Scope.ACCOUNTS,
    *,
    max_shards: int = MAX_SHARDS,
    full: Collection[int] = (),
    given: Settings | None = None,
) -> Assignment:
    return assign(current, by_access(rows), given or cramped(), scope=scope, max_shards=max_shards, full=full)


members = st.integers(1, 12).map(lambda number: AccountId(f"{number:012}"))
some = st.frozensets(members, max_size=5)  # More than fit, as after a change of what a document takes.
some_rows = st.dictionaries(members, st.none() | st.sampled_from(Access))
some_contents = st.lists(some.map(lambda accounts: ShardContent(accounts=accounts)), max_size=4).map(tuple)
some_full = st.frozensets(st.integers(0, 3))

# --- Scope accounts ---------------------------------------------------------------------------------------------------


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_each_account_with_access_is_in_one_shard_or_unassigned(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    accesses = by_access(rows)
    held = frozenset[AccountId]().union(*(content.accounts for content in current))

    found = assigned(current, rows, max_shards=max_shards, full=full)

    with_access = (held | accesses[Access.GRANTED]) - accesses[Access.NONE] - accesses[Access.EXCLUDED]
    in_shards = [account_id for content in found.contents for account_id in content.accounts]
    assert sorted([*in_shards, *found.unassigned]) == sorted(with_access)
    assert found.contents == tuple(ShardContent(accounts=content.accounts) for content in found.contents)


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_no_shard_is_over_capacity_and_shards_are_only_opened_when_needed(
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
def test_an_account_keeps_its_first_shard_while_that_shard_fits(
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
def test_newcomers_fill_the_first_shards_in_the_order_of_their_ids(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    found = assigned(current, rows, max_shards=max_shards, full=full)

    newcomers: list[AccountId] = []
    for index, content in enumerate(found.contents):
        before = current[index].accounts if index < len(current) else frozenset[AccountId]()
        newcomers += sorted(content.accounts - before)
    assert [*newcomers, *found.unassigned] == sorted([*newcomers, *found.unassigned])


@given(some_contents, some_rows, st.integers(0, 5), some_full)
def test_an_assignment_that_is_in_force_does_not_change(
    current: tuple[ShardContent, ...], rows: Rows, max_shards: int, full: frozenset[int]
) -> None:
    found = assigned(current, rows, max_shards=max_shards, full=full)

    assert assigned(found.contents, rows, max_shards=max_shards, full=full).contents == found.contents


def test_the_first_account_past_the_capacity_opens_the_second_shard() -> None:
    normal = settings()
    limit = capacity(normal)
    rows = dict.fromkeys(numbered(*range(limit + 1)), Access.GRANTED)
    full = assigned((), dict.fromkeys(numbered(*range(limit)), Access.GRANTED), given=normal)

    found = assigned(full.contents, rows, given=normal)

    assert [len(content.accounts) for content in full.contents] == [limit]
    assert found.contents == (full.contents[0], ShardContent(accounts=numbered(limit)))


def test_many_accounts_at_once_open_as_many_shards_as_they_fill() -> None:
    found = assigned((), dict.fromkeys(numbered(*range(1, 9)), Access.GRANTED))

    assert numbers_in(found) == [[1, 2, 3], [4, 5, 6], [7, 8]]


def test_a_replaced_account_rewrites_one_shard() -> None:
    rows = {AccountId(f"{number:012}"): Access.GRANTED for number in range(1, 11)} | {
        AccountId("000000000005"): Access.NONE
    }

    found = assigned(contents_of([1, 2, 3], [4, 5, 6], [7, 8, 9]), rows)

    assert numbers_in(found) == [[1, 2, 3], [4, 6, 10], [7, 8, 9]]


def test_accounts_over_a_shrunk_capacity_move_to_the_next_shard_with_room() -> None:
    found = assigned(contents_of([1, 2, 3, 4, 5], [6, 7]), {})

    assert numbers_in(found) == [[1, 2, 3], [4, 6, 7], [5]]


def test_an_account_in_two_shards_stays_in_the_first() -> None:
    assert numbers_in(assigned(contents_of([1, 2], [2, 3]), {})) == [[1, 2], [3]]


def test_an_account_that_no_longer_fits_stays_in_a_later_shard_that_has_it() -> None:
    assert numbers_in(assigned(contents_of([1, 2, 3, 6], [4, 5, 6, 8], [8]), {})) == [[1, 2, 3], [4, 5, 6], [8]]


def test_accounts_without_room_are_returned() -> None:
    rows = dict.fromkeys(numbered(*range(1, 9)), Access.GRANTED)

    assert assigned((), rows, max_shards=2).unassigned == ("000000000007", "000000000008")


def test_nothing_to_grant_opens_no_shard() -> None:
    rows = dict.fromkeys(numbered(1), Access.NONE) | dict.fromkeys(numbered(2), Access.EXCLUDED)

    for scope in Scope:
        assert assigned((), rows, scope) == Assignment(contents=())


# --- Scope organization -----------------------------------------------------------------------------------------------


@given(some_rows, st.frozensets(members, max_size=3), st.lists(some, max_size=2))
def test_the_organization_is_granted_less_the_excluded_accounts(
    rows: Rows, held: frozenset[AccountId], others: list[frozenset[AccountId]]
) -> None:
    cramping = cramped(exclusion_capacity)
    accesses = by_access(rows)
    current = (replace(ORGANIZATION, excluded=held), *(ShardContent(accounts=accounts) for accounts in others))

    found = assigned(current, rows, Scope.ORGANIZATION, given=cramping)

    # An account without a row, or whose row has no access, stays excluded.
    wanted = (accesses[Access.EXCLUDED] | held) - accesses[Access.GRANTED] - accesses[Access.NONE]
    first, *rest = found.contents
    assert first == replace(ORGANIZATION, excluded=first.excluded)
    assert rest == [ShardContent()] * len(others)
    assert first.excluded | set(found.unassigned) == wanted
    assert len(first.excluded) == min(len(wanted), FEW)
    assert held & wanted <= first.excluded
    assert assigned(found.contents, rows, Scope.ORGANIZATION, given=cramping) == found


def test_accounts_that_the_settings_exclude_are_excluded_before_others() -> None:
    cramping = replace(cramped(exclusion_capacity), exclude_account_ids=numbered(8, 9))
    rows = dict.fromkeys(numbered(1, 2, 8), Access.EXCLUDED) | dict.fromkeys(numbered(3), Access.GRANTED)

    found = assigned((), rows, Scope.ORGANIZATION, given=cramping)

    assert found.contents == (replace(ORGANIZATION, excluded=numbered(1, 8, 9)),)
    assert found.unassigned == ("000000000002",)


def test_settings_that_exclude_too_many_accounts_leave_no_room_for_others() -> None:
    cramping = replace(cramped(exclusion_capacity), exclude_account_ids=numbered(6, 7, 8, 9))

    rows = dict.fromkeys(numbered(1, 2), Access.EXCLUDED)

    found = assigned((ORGANIZATION,), rows, Scope.ORGANIZATION, given=cramping)

    assert found.contents[0].excluded == numbered(6, 7, 8, 9)
    assert found.unassigned == ("000000000001", "000000000002")


def test_the_organization_waits_for_room_to_open_its_shard() -> None:
    rows = dict.fromkeys(numbered(2, 1), Access.GRANTED)

    found = assigned((), rows, Scope.ORGANIZATION, max_shards=0)

    assert found == Assignment(contents=(), unassigned=(AccountId("000000000001"), AccountId("000000000002")))


# --- Steps ------------------------------------------------------------------------------------------------------------


def test_an_account_leaves_a_shard_once_another_is_recorded_with_it() -> None:
    current, desired, other = contents_of([1, 2], [1], [2])

    for recorded in (False, True):
        content = interim(current, desired, [other], lambda _, recorded=recorded: recorded)  # type: ignore[misc]
        assert content == (desired if recorded else current)


def test_a_revoked_account_leaves_at_once() -> None:
    current, desired, other = contents_of([1, 2, 3], [1], [2])

    assert interim(current, desired, [other], lambda _: False) == contents_of([1, 2])[0]


def test_the_organization_is_granted_until_other_shards_are_recorded() -> None:
    current = replace(ORGANIZATION, excluded=numbered(4))
    desired, other = contents_of([1], [2])

    waiting = interim(current, replace(desired, frozen=True), [other], lambda _: False)

    assert waiting == replace(current, frozen=True)
    assert interim(current, desired, [other], lambda _: True) == desired
    assert interim(current, desired, [], lambda _: False) == desired


def test_a_named_account_leaves_once_the_organization_is_recorded() -> None:
    current, desired = contents_of([1, 2], [])
    organization = replace(ORGANIZATION, excluded=numbered(2))

    assert interim(current, desired, [organization], lambda _: False) == contents_of([1])[0]
    assert interim(current, desired, [organization], lambda _: True) == desired


MEMBERS = numbered(*range(1, 9))
RECORDED, UNRECORDED, FAILED = "recorded", "written, not recorded", "not written"


class Steps(RuleBasedStateMachine):
    """Rows and scope change, and shards are written in any order, with any write failing halfway.

    Every account of the population is a member. `in_iam` is what the policies say.
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings = cramped()
        self.rows: dict[AccountId, Access | None] = {}
        self.scope = Scope.ACCOUNTS
        self.in_iam: dict[int, ShardContent] = {}
        self.shards: dict[int, ShardRecord] = {}
        self.unassigned: tuple[AccountId, ...] = ()

    @initialize(contents=st.lists(st.frozensets(st.sampled_from(sorted(MEMBERS)), max_size=5), max_size=3))
    def begin(self, contents: list[frozenset[AccountId]]) -> None:
        """Start with shards that may be over capacity, and hold an account twice."""
        for index, accounts in enumerate(contents):
            self.in_iam[index] = ShardContent(accounts=accounts)
            self.shards[index] = self.record(index, applied=AppliedShard(content=self.in_iam[index]))

    @rule(
        changes=st.dictionaries(st.sampled_from(sorted(MEMBERS)), st.none() | st.sampled_from(Access), max_size=4),
        lost=st.frozensets(st.sampled_from(sorted(MEMBERS)), max_size=1),
    )
    def change_rows(self, changes: dict[AccountId, Access | None], lost: frozenset[AccountId]) -> None:
        # A row never loses its access: a failure leaves it as it was.
        self.rows |= {each: access or self.rows.get(each) for each, access in changes.items()}
        self.rows = {each: access for each, access in self.rows.items() if each not in lost}

    @rule(scope=st.sampled_from(Scope))
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
    def settle(self, may_change_scope: bool) -> None:
        """Without failures, four passes write everything."""
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
    def records_cover_what_iam_says(self) -> None:
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
        """Assign as publish does: it changes the scope only if every account has a row, and everything fits."""
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
        return assigned(current, rows, scope, full=full, given=self.settings)

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
        # An account whose revocation has begun may lose its access even if it is granted again meanwhile.
        contents = [each.content for each in self.shards.values()]
        before = {each for each in MEMBERS if self.is_granted(each) and any(held.grants(each) for held in contents)}
        self.shards[index] = record.begun(AppliedShard(content=content))
        if outcome != FAILED:
            self.in_iam[index] = content
        if outcome == RECORDED:
            self.shards[index] = self.record(index, applied=AppliedShard(content=content))
        for account_id in before:
            if self.rows.get(account_id) not in {Access.NONE, Access.EXCLUDED}:
                assert self.is_granted(account_id), f"{account_id} lost its access"

    def record(self, index: int, applied: AppliedShard | None = None) -> ShardRecord:
        return ShardRecord(name=shard_name(self.settings, index), applied=applied)

    def is_granted(self, account_id: AccountId) -> bool:
        return any(content.grants(account_id) for content in self.in_iam.values())


def test_no_step_revokes_an_account_that_keeps_its_access() -> None:
    run_state_machine_as_test(Steps, settings=hypothesis_settings(max_examples=60, stateful_step_count=15))


@pytest.mark.parametrize("measure", [capacity, exclusion_capacity])
def test_a_cramped_policy_holds_few_accounts(measure: Callable[[Settings], int]) -> None:
    assert measure(cramped(measure)) == FEW
