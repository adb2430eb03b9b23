"""What the source-policy table's records say: which accounts IAM grants, what is pending, what is refused, and the freeze."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import Access
from chalicelib.arns import AccountId
from chalicelib.errors import AccountError, Reason, RetryableError, TerminalError
from chalicelib.offboarding import why_not_in_force
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.records import (
    AppliedShard,
    Control,
    Names,
    Problem,
    Records,
    ShardContent,
    ShardRecord,
    Status,
)
from tests.unit.builders import SOURCE, settings

NAME = "CrossAccountReadOnlyAccess"
READER, FORMER = (f"arn:aws:iam::{SOURCE}:role/{name}" for name in ("Reader", "Former"))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STATUS = Status(names=Names.of(settings()), organization_id="o-abcdefghij", looked_at=NOW)
A, B, C, D = (AccountId(letter * 12) for letter in "1234")


def of(*account_ids: AccountId, frozen: bool = False) -> ShardContent:
    return ShardContent(accounts=frozenset(account_ids), frozen=frozen)


def without(*account_ids: AccountId) -> ShardContent:
    return ShardContent(excluded=frozenset(account_ids), scope=Scope.ORGANIZATION)


def shard(
    applied: ShardContent | None = None,
    *unfinished: ShardContent,
    name: str = NAME,
    attached: frozenset[str] = frozenset(),
    **more: Any,
) -> ShardRecord:
    """Build the record of a shard whose writes after the applied one did not finish."""
    record = ShardRecord(
        name=name, applied=AppliedShard(content=applied, attached=attached) if applied is not None else None, **more
    )
    for content in unfinished:
        record = record.begun(AppliedShard(content=content, attached=attached))
    return record


def records(*shards: ShardRecord, status: Status | None = STATUS, **more: Any) -> Records:
    counted = replace(status, shards=len(shards)) if status else None
    return Records(status=counted, by_index=dict(enumerate(shards)), **more)


# --- What a record holds ----------------------------------------------------------------------------------------------


def test_a_shard_that_was_never_written_holds_nothing() -> None:
    new = ShardRecord(name=NAME)

    assert (new.versions, new.content, new.attached, new.is_frozen) == ((), ShardContent(), frozenset(), False)


def test_the_content_is_that_of_the_unfinished_write() -> None:
    assert shard(of(A), of(B)).content == of(B)


@pytest.mark.parametrize(
    ("record", "frozen"),
    [
        (shard(of(A)), False),
        (shard(of(A, frozen=True)), True),
        (shard(of(A), of(A, frozen=True)), False),
        (shard(of(A, frozen=True), of(A)), False),
        (shard(of(A, frozen=True), of(A), of(A, frozen=True)), False),
        (shard(None, of(A, frozen=True)), True),
    ],
)
def test_a_shard_is_frozen_if_every_version_is(record: ShardRecord, frozen: bool) -> None:
    assert record.is_frozen is frozen


accounts = st.frozensets(st.sampled_from([A, B, C, D]))
principals = st.frozensets(st.sampled_from([READER, FORMER]))
versions = st.builds(
    AppliedShard,
    content=st.builds(ShardContent, accounts=accounts, frozen=st.booleans())
    | st.builds(ShardContent, excluded=accounts, scope=st.just(Scope.ORGANIZATION), frozen=st.booleans()),
    attached=principals,
)


@given(versions, st.lists(versions, max_size=8))
def test_a_record_covers_every_unfinished_write(applied: AppliedShard, written: list[AppliedShard]) -> None:
    record = ShardRecord(name=NAME, applied=applied)
    for version in written:
        record = record.begun(version)

    possible = [applied, *written]
    assert record.applied is applied
    assert record.content == possible[-1].content
    assert len(record.unfinished) <= 4
    for account_id in (A, B, C, D):
        grants = [version.content.grants(account_id) for version in possible]
        recorded = [version.content.grants(account_id) for version in record.versions]
        assert (any(recorded), all(recorded)) == (any(grants), all(grants))
    frozen, recorded_frozen = ([each.content.frozen for each in some] for some in (possible, record.versions))
    assert (any(recorded_frozen), all(recorded_frozen)) == (any(frozen), all(frozen))
    attached, recorded_attached = ([each.attached for each in some] for some in (possible, record.versions))
    assert frozenset.union(*recorded_attached) == frozenset.union(*attached) == record.attached
    assert frozenset.intersection(*recorded_attached) == frozenset.intersection(*attached)


def test_a_write_that_is_tried_again_adds_nothing() -> None:
    once = shard(of(A), of(B))

    assert shard(of(A), of(B), of(B)) == once
    assert once.unfinished == ()


# --- What IAM grants --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "surely", "maybe"),
    [
        ([], "", ""),
        ([shard()], "", ""),
        ([shard(of(A, B)), shard(of(C))], "ABC", "ABC"),
        ([shard(None, of(A))], "", "A"),
        ([shard(of(A, B), of(B, C))], "B", "ABC"),
        ([shard(of(A), of(A, B), of(A, C))], "A", "ABC"),
        ([shard(of(A, B), of(B)), shard(of(A))], "AB", "AB"),
        ([shard(without(A))], "BCD", "BCD"),
        ([shard(None, without(A))], "", "BCD"),
        ([shard(without(A), without(A, B))], "CD", "BCD"),
        ([shard(of(A, B), without(B))], "A", "ABCD"),
        ([shard(without(B), of(A, B))], "A", "ABCD"),
        ([shard(without(A)), shard(of(A))], "ABCD", "ABCD"),
    ],
)
def test_records_say_what_iam_grants_surely_and_at_most(shards: list[ShardRecord], surely: str, maybe: str) -> None:
    held = records(*shards)
    named = dict(zip("ABCD", (A, B, C, D), strict=True))

    assert "".join(letter for letter, each in named.items() if held.grants(each, Access.GRANTED)) == surely
    assert "".join(letter for letter, each in named.items() if held.may_grant(each)) == maybe
    for letter, account_id in named.items():
        assert held.differs(account_id, Access.GRANTED) is (letter not in surely)
        assert held.differs(account_id, Access.EXCLUDED) is (letter in maybe)
        assert held.differs(account_id, Access.NONE) is (account_id in held.maybe_named)
        assert not held.differs(account_id, None)


@pytest.mark.parametrize(
    ("access", "granted"), [(Access.GRANTED, True), (Access.EXCLUDED, True), (Access.NONE, False), (None, False)]
)
def test_the_organizations_statement_grants_members_alone(access: Access | None, granted: bool) -> None:
    assert records(shard(without(A))).grants(B, access) is granted
    assert records(shard(of(B))).grants(B, access)


@pytest.mark.parametrize(
    ("held", "lost"),
    [
        (records(), False),
        (records(shard(of(A))), False),
        (records(shard(of(A)), status=None), True),
        (records(status=None), True),
        (records(status=None, control=Control(uninstalled=True)), False),
        (Records(status=replace(STATUS, shards=2), by_index={0: shard(of(A))}), True),
        (Records(status=replace(STATUS, shards=2), by_index={1: shard(of(A))}), True),
        (Records(status=replace(STATUS, shards=0), by_index={1: shard(of(A))}), True),
        (Records(status=replace(STATUS, shards=1), by_index={0: shard(of(A)), 1: shard(of(B))}), False),
    ],
)
def test_records_are_lost_where_shards_are_missing(held: Records, lost: bool) -> None:
    assert held.are_lost is lost
    assert held.may_grant(D) is lost
    assert held.differs(D, Access.NONE) is held.differs(D, Access.EXCLUDED) is lost


def test_shards_are_in_order_and_the_first_has_the_scope() -> None:
    first, second = shard(without(A)), shard(of(A), name=f"{NAME}-2")

    assert Records(by_index={1: second, 0: first}).shards == (first, second)
    assert Records(by_index={1: second, 0: first}).scope is Scope.ORGANIZATION
    assert Records(by_index={1: second}).scope is Scope.ACCOUNTS


# --- Who is refused ---------------------------------------------------------------------------------------------------

FULL = Problem(Reason.QUOTA, "the source policy is full")
BLOCKED = replace(STATUS, blocked=FULL)
OTHER_NAME = settings(MEMBER_ROLE_NAME="Other")


def shown(error: AccountError | None) -> tuple[type, Reason] | None:
    return (type(error), error.reason) if error else None


@pytest.mark.parametrize(
    ("status", "access", "requested_at", "refused"),
    [
        (STATUS, None, NOW, None),
        (None, None, NOW, (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (None, Access.GRANTED, NOW, None),
        (BLOCKED, None, None, (TerminalError, Reason.QUOTA)),
        (BLOCKED, Access.NONE, NOW, (TerminalError, Reason.QUOTA)),
        (BLOCKED, Access.EXCLUDED, NOW - timedelta(seconds=1), (TerminalError, Reason.QUOTA)),
        (BLOCKED, None, NOW + timedelta(seconds=1), (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (replace(BLOCKED, looked_at=None), None, NOW, (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (replace(BLOCKED, looked_at=None), None, None, (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (BLOCKED, Access.GRANTED, NOW, None),
    ],
)
def test_newcomers_are_refused_while_the_source_policy_is_blocked(
    status: Status | None, access: Access | None, requested_at: datetime | None, refused: tuple[type, Reason] | None
) -> None:
    held = records(shard(of(A)), status=status)

    assert shown(held.blocking_error(B, access, settings(), requested_at=requested_at)) == refused
    assert held.blocking_error(A, access, settings(), requested_at=requested_at) is None


def test_changed_names_refuse_every_account() -> None:
    held = records(shard(of(A)))

    for access in (None, *Access):
        error = held.blocking_error(A, access, OTHER_NAME, requested_at=None)
        assert shown(error) == (TerminalError, Reason.NAMES_CHANGED)
    assert str(error).startswith("MEMBER_ROLE_NAME is Other, and was CrossAccountReadOnlyRole")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, None),
        ({"THREADS": "3"}, None),
        ({"MEMBER_ROLE_NAME": "Other"}, "MEMBER_ROLE_NAME is Other, and was CrossAccountReadOnlyRole"),
        ({"SOURCE_POLICY_NAME": "Other"}, "SOURCE_POLICY_NAME is Other, and was CrossAccountReadOnlyAccess"),
        (
            {"SOURCE_PRINCIPAL_ARNS": "arn:aws:iam::777788889999:role/Reader"},
            f"SOURCE_PRINCIPAL_ARNS' account is 777788889999, and was {SOURCE}",
        ),
    ],
)
def test_a_changed_name_is_described_with_the_way_out(changes: dict[str, str], named: str | None) -> None:
    why = Names.of(settings()).why_changed(settings(**changes))

    assert (why is None) == (named is None)
    assert why is None or (str(named) in why and "set it back, or uninstall first" in why)


# --- Freeze -----------------------------------------------------------------------------------------------------------

ATTACHED = frozenset({READER})
FROZEN = shard(of(A, frozen=True), attached=ATTACHED, denied_principals=ATTACHED)
UNREAD = replace(FROZEN, denied_principals=None)
DETACHED = replace(FROZEN, denied_principals=frozenset[str]())
THAWED = shard(of(A), attached=ATTACHED)
BY_OPERATOR = settings(ATTACH_SOURCE_POLICY="false")


@pytest.mark.parametrize(
    ("shards", "held", "why"),
    [
        ([], settings(), "there is no source policy to freeze yet"),
        ([shard()], settings(), "there is no source policy to freeze yet"),
        ([FROZEN], settings(), None),
        ([FROZEN, FROZEN], settings(), None),
        ([UNREAD], settings(), "a read of IAM has not shown yet"),
        ([THAWED], settings(), "a read of IAM has not shown yet"),
        # A principal that another shard denies is denied everything.
        ([FROZEN, THAWED], settings(), None),
        ([FROZEN, shard(of(B), attached=frozenset({FORMER}))], settings(), "a read of IAM has not shown yet"),
        ([FROZEN, THAWED], BY_OPERATOR, "a read of IAM has not shown yet"),
        ([FROZEN, UNREAD], BY_OPERATOR, "a read of IAM has not shown yet"),
        ([FROZEN, DETACHED], BY_OPERATOR, None),
        # A principal that was detached by hand keeps no freeze from being in force.
        ([replace(FROZEN, denied_principals=frozenset({FORMER}))], settings(), None),
        ([DETACHED], settings(), "attached to no principal"),
        ([DETACHED], BY_OPERATOR, "attached to no principal"),
    ],
)
def test_a_freeze_is_in_force_once_iam_showed_that_all_is_denied(
    shards: list[ShardRecord], held: Settings, why: str | None
) -> None:
    found = why_not_in_force(records(*shards), held, frozen=True)

    assert records(*shards).freeze_in_force(held) is (why is None)
    assert found is None if why is None else found is not None and why in found


@pytest.mark.parametrize(
    ("shards", "in_force"),
    [([], True), ([THAWED], True), ([THAWED, FROZEN], False), ([shard(of(A, frozen=True), of(A))], False)],
)
def test_an_unfreeze_is_in_force_once_no_version_denies(shards: list[ShardRecord], in_force: bool) -> None:
    why = why_not_in_force(records(*shards), settings(), frozen=False)

    assert why == (None if in_force else "a shard still denies everything")


def test_what_keeps_a_freeze_from_being_in_force_is_named() -> None:
    failed = replace(UNREAD, error=FULL)

    for frozen, first in ((True, "a read of IAM"), (False, "a shard still")):
        why = why_not_in_force(records(failed), OTHER_NAME, frozen=frozen)
        assert why is not None
        assert why.startswith(first)
        assert "MEMBER_ROLE_NAME is Other" in why
        assert f"{NAME}: the source policy is full" in why


def test_a_freeze_is_not_reported_while_records_are_lost() -> None:
    for frozen in (True, False):
        for lost in (records(status=None), replace(records(FROZEN), status=replace(STATUS, shards=2))):
            why = why_not_in_force(lost, settings(), frozen=frozen)
            assert why is not None
            assert why.startswith("the records of the source policy are incomplete")
            assert not lost.freeze_in_force(settings())
