from dataclasses import replace
from functools import cache

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from chalicelib.arns import AccountId
from chalicelib.errors import Reason, TerminalError
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy import Moves, Shard, capacity, place, shard_name
from tests.unit.builders import settings

FEW = 3  # accounts in a shard


@cache
def settings_for(scope: Scope) -> Settings:
    """Make settings under which a shard holds few accounts, by a role name that fills the rest of it."""
    if scope is Scope.ORGANIZATION:
        return settings(SOURCE_POLICY_SCOPE=scope)
    normal = settings(MEMBER_ROLE_NAME="R")
    spare = 15 * (capacity(normal) - FEW)  # An id takes 15 characters.
    return replace(normal, member_role_name="R" + "R" * -(-spare // 2))  # The name stands in two statements.


def numbered(*numbers: int) -> frozenset[AccountId]:
    return frozenset(AccountId(f"{number:012}") for number in numbers)


some = st.frozensets(st.integers(1, 12), max_size=5).map(lambda numbers: numbered(*numbers))


class Placement(RuleBasedStateMachine):
    """Accounts join, leave and are excluded in any order; the shards always say what was asked."""

    scope: Scope

    def __init__(self) -> None:
        super().__init__()
        self.settings = settings_for(self.scope)
        self.shards: tuple[Shard, ...] = ()
        self.named: frozenset[AccountId] = frozenset()
        self.excluded: frozenset[AccountId] = frozenset()

    @rule(join=some, leave=some, exclude=some)
    def move(self, join: frozenset[AccountId], leave: frozenset[AccountId], exclude: frozenset[AccountId]) -> None:
        # An account makes one move in a batch.
        moves = Moves(join=join, leave=leave - join, exclude=exclude - join - leave)
        before = self.shards

        self.shards = place(before, moves, self.settings)

        self.named = (self.named | moves.join) - moves.leave - moves.exclude
        if self.shards:
            self.excluded = (self.excluded | moves.exclude) - moves.join - moves.leave
        self.check_stable(before)
        assert place(self.shards, moves, self.settings) == self.shards

    def check_stable(self, before: tuple[Shard, ...]) -> None:
        assert len(self.shards) >= len(before)
        for old, new in zip(before, self.shards, strict=False):
            elsewhere = frozenset[AccountId]().union(*(shard.accounts for shard in self.shards if shard != new))
            assert not old.accounts & elsewhere
            said = ("accounts" if self.scope is Scope.ACCOUNTS else "excluded",)
            changed = any(getattr(old, part) != getattr(new, part) for part in said)
            assert new.version == old.version + changed
        for opened in self.shards[len(before) :]:
            assert opened.version == 1
            assert opened.written == 0

    @invariant()
    def the_shards_say_what_was_asked(self) -> None:
        if self.scope is Scope.ACCOUNTS:
            assert sorted(self.named) == sorted(each for shard in self.shards for each in shard.accounts)
            assert all(len(shard.accounts) <= FEW for shard in self.shards)
        assert [shard.name for shard in self.shards] == [
            shard_name(self.settings, index) for index in range(len(self.shards))
        ]
        excluded = [shard.excluded for shard in self.shards]
        assert excluded[:1] == [self.excluded][: len(excluded)]
        assert not any(excluded[1:])


class AccountsPlacement(Placement):
    scope = Scope.ACCOUNTS


class OrganizationPlacement(Placement):
    scope = Scope.ORGANIZATION


@pytest.mark.parametrize("placement", [AccountsPlacement, OrganizationPlacement])
def test_whatever_moves_accounts_make_the_shards_say_so_and_nobody_changes_shards(placement: type[Placement]) -> None:
    run_state_machine_as_test(placement, settings=hypothesis_settings(max_examples=30, stateful_step_count=12))


def named(shards: tuple[Shard, ...]) -> list[list[int]]:
    return [sorted(map(int, shard.accounts)) for shard in shards]


def test_the_first_account_past_the_capacity_opens_the_second_shard() -> None:
    normal = settings()
    limit = capacity(normal)
    full = place((), Moves(join=numbered(*range(limit))), normal)

    shards = place(full, Moves(join=numbered(limit)), normal)

    assert [len(shard.accounts) for shard in full] == [limit]
    assert shards == (
        full[0],
        Shard(name="CrossAccountReadOnlyAccess-2", accounts=numbered(limit), version=1),
    )


def test_many_accounts_at_once_open_as_many_shards_as_they_fill() -> None:
    shards = place((), Moves(join=numbered(*range(1, 9))), settings_for(Scope.ACCOUNTS))

    assert named(shards) == [[1, 2, 3], [4, 5, 6], [7, 8]]


def test_taking_one_out_and_adding_one_rewrites_one_shard() -> None:
    full = place((), Moves(join=numbered(*range(1, 10))), settings_for(Scope.ACCOUNTS))

    at_once = place(full, Moves(leave=numbered(5), join=numbered(10)), settings_for(Scope.ACCOUNTS))
    left = place(full, Moves(leave=numbered(5)), settings_for(Scope.ACCOUNTS))
    in_turn = place(left, Moves(join=numbered(10)), settings_for(Scope.ACCOUNTS))

    assert named(at_once) == named(in_turn) == [[1, 2, 3], [4, 6, 10], [7, 8, 9]]
    assert [shard.version for shard in at_once] == [1, 2, 1]
    assert [shard.version for shard in in_turn] == [1, 3, 1]


def test_what_was_written_of_a_shard_is_remembered_through_its_moves() -> None:
    shard = Shard(
        name=shard_name(settings_for(Scope.ACCOUNTS), 0),
        accounts=numbered(1),
        frozen=True,
        version=7,
        written=6,
        form="form",
        attached=frozenset({"arn:x"}),
    )

    moved = place((shard,), Moves(join=numbered(2)), settings_for(Scope.ACCOUNTS))

    assert moved == (replace(shard, accounts=numbered(1, 2), version=8),)


def test_nothing_to_name_opens_no_shard() -> None:
    assert place((), Moves(leave=numbered(1), exclude=numbered(2)), settings_for(Scope.ACCOUNTS)) == ()
    assert place((), Moves(leave=numbered(1)), settings_for(Scope.ORGANIZATION)) == ()


def test_an_exclusion_from_the_organization_is_said_even_before_anybody_joined() -> None:
    (shard,) = place((), Moves(exclude=numbered(2)), settings_for(Scope.ORGANIZATION))

    assert (shard.excluded, shard.version) == (numbered(2), 1)


def test_more_exclusions_than_a_policy_holds_are_refused_with_the_way_out() -> None:
    held = settings(SOURCE_POLICY_SCOPE="organization")
    first = place((), Moves(join=numbered(1)), held)

    with pytest.raises(TerminalError, match="SourcePolicyScope=accounts") as caught:
        place(first, Moves(exclude=numbered(*range(400))), held)

    assert caught.value.reason is Reason.QUOTA


def test_no_more_accounts_are_remembered_to_be_left_out_than_make_the_organization_be_refused() -> None:
    many = numbered(*range(1, 2001))
    single, whole = settings_for(Scope.ACCOUNTS), settings_for(Scope.ORGANIZATION)
    shards = place((), Moves(join=numbered(5000)), single)

    shards = place(shards, Moves(exclude=many), single)

    assert len(shards[0].excluded) == 1000
    assert place(shards, Moves(exclude=many), single) == shards
    with pytest.raises(TerminalError) as refused:
        place(shards, Moves(), whole)
    assert refused.value.reason is Reason.QUOTA
