"""The records of the source-policy table: which accounts IAM grants, what blocks newcomers, and the freeze."""

from dataclasses import replace
from datetime import datetime, timedelta
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
from tests.unit.builders import FORMER, ORGANIZATION_ID, READER, SOURCE, settings
from tests.unit.ledger_rows import NOW, SHARD, shard_contents

STATUS = Status(names=Names.of(settings()), organization_id=ORGANIZATION_ID, looked_at=NOW)
A, B, C, D = (AccountId(letter * 12) for letter in "1234")


def of(*account_ids: AccountId, frozen: bool = False) -> ShardContent:
    return ShardContent(accounts=frozenset(account_ids), frozen=frozen)


def without(*account_ids: AccountId) -> ShardContent:
    return ShardContent(excluded=frozenset(account_ids), scope=Scope.ORGANIZATION)


def shard(
    applied: ShardContent | None = None,
    *unfinished: ShardContent,
    name: str = SHARD,
    attached: frozenset[str] = frozenset(),
    **more: Any,
) -> ShardRecord:
    """Build the record of a shard with unfinished writes after the applied one."""
    record = ShardRecord(
        name=name, applied=AppliedShard(content=applied, attached=attached) if applied is not None else None, **more
    )
    for content in unfinished:
        record = record.begun(AppliedShard(content=content, attached=attached))
    return record


def records(*shards: ShardRecord, status: Status | None = STATUS, **more: Any) -> Records:
    counted = replace(status, shards=len(shards)) if status else None
    return Records(status=counted, by_index=dict(enumerate(shards)), **more)


# --- One record -------------------------------------------------------------------------------------------------------


def test_new_shard_is_empty() -> None:
    new = ShardRecord(name=SHARD)

    assert (new.versions, new.content, new.attached, new.is_frozen) == ((), ShardContent(), frozenset(), False)


def test_first_write_may_freeze_a_shard() -> None:
    assert shard(None, of(A, frozen=True)).is_frozen


accounts = st.frozensets(st.sampled_from([A, B, C, D]))
principals = st.frozensets(st.sampled_from([READER, FORMER]))
versions = st.builds(AppliedShard, content=shard_contents(accounts), attached=principals)


@given(versions, st.lists(versions, max_size=8))
def test_record_covers_every_unfinished_write(applied: AppliedShard, written: list[AppliedShard]) -> None:
    record = ShardRecord(name=SHARD, applied=applied)
    for version in written:
        record = record.begun(version)

    possible = [applied, *written]
    assert record.applied is applied
    assert record.content == possible[-1].content
    assert record.is_frozen is all(version.content.frozen for version in possible)
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


def test_repeated_write_adds_no_version() -> None:
    once = shard(of(A), of(B))

    assert shard(of(A), of(B), of(B)) == once
    assert once.unfinished == ()


# --- Granted accounts --------------------------------------------------------------------------------------------------


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
def test_records_bound_what_iam_grants(shards: list[ShardRecord], surely: str, maybe: str) -> None:
    found = records(*shards)
    named = dict(zip("ABCD", (A, B, C, D), strict=True))

    assert "".join(letter for letter, each in named.items() if found.grants(each, Access.GRANTED)) == surely
    assert "".join(letter for letter, each in named.items() if found.may_grant(each)) == maybe
    for letter, account_id in named.items():
        assert found.differs(account_id, Access.GRANTED) is (letter not in surely)
        assert found.differs(account_id, Access.EXCLUDED) is (letter in maybe)
        assert found.differs(account_id, Access.NONE) is (account_id in found.maybe_named)
        assert not found.differs(account_id, None)


@pytest.mark.parametrize(
    ("access", "granted"), [(Access.GRANTED, True), (Access.EXCLUDED, True), (Access.NONE, False), (None, False)]
)
def test_organization_statement_grants_only_members(access: Access | None, granted: bool) -> None:
    assert records(shard(without(A))).grants(B, access) is granted
    assert records(shard(of(B))).grants(B, access)


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (records(), False),
        (records(shard(of(A)), status=None), True),
        (records(status=None), True),
        (records(status=None, control=Control(uninstalled=True)), False),
        (Records(status=replace(STATUS, shards=2), by_index={0: shard(of(A))}), True),
        (Records(status=replace(STATUS, shards=2), by_index={1: shard(of(A))}), True),
        (Records(status=replace(STATUS, shards=0), by_index={1: shard(of(A))}), True),
        (Records(status=replace(STATUS, shards=1), by_index={0: shard(of(A)), 1: shard(of(B))}), False),
    ],
)
def test_records_are_lost_if_shards_are_missing(found: Records, lost: bool) -> None:
    assert found.are_lost is lost
    assert found.may_grant(D) is lost
    assert found.differs(D, Access.NONE) is found.differs(D, Access.EXCLUDED) is lost


def test_first_shard_has_the_scope() -> None:
    first, second = shard(without(A)), shard(of(A), name=f"{SHARD}-2")

    assert Records(by_index={1: second, 0: first}).shards == (first, second)
    assert Records(by_index={1: second, 0: first}).scope is Scope.ORGANIZATION
    assert Records(by_index={1: second}).scope is Scope.ACCOUNTS


# --- Blocked newcomers ---------------------------------------------------------------------------------------------------

FULL = Problem(Reason.QUOTA, "the source policy is full")
BLOCKED = replace(STATUS, blocked=FULL)
OTHER_NAME = settings(MEMBER_ROLE_NAME="Other")


def described(error: AccountError | None) -> tuple[type, Reason] | None:
    return (type(error), error.reason) if error else None


@pytest.mark.parametrize(
    ("status", "access", "requested_at", "expected"),
    [
        (STATUS, None, NOW, None),
        (None, None, NOW, (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (None, Access.GRANTED, NOW, None),
        (BLOCKED, None, None, (TerminalError, Reason.QUOTA)),
        (BLOCKED, Access.NONE, NOW, (TerminalError, Reason.QUOTA)),
        (BLOCKED, Access.EXCLUDED, NOW - timedelta(seconds=1), (TerminalError, Reason.QUOTA)),
        (BLOCKED, None, NOW + timedelta(seconds=1), (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (replace(BLOCKED, looked_at=None), None, NOW, (RetryableError, Reason.SOURCE_POLICY_PENDING)),
        (BLOCKED, Access.GRANTED, NOW, None),
    ],
)
def test_newcomers_are_rejected_while_publishing_is_blocked(
    status: Status | None, access: Access | None, requested_at: datetime | None, expected: tuple[type, Reason] | None
) -> None:
    found = records(shard(of(A)), status=status)

    assert described(found.blocking_error(B, access, settings(), requested_at=requested_at)) == expected
    assert found.blocking_error(A, access, settings(), requested_at=requested_at) is None


def test_changed_names_reject_every_account() -> None:
    found = records(shard(of(A)))

    for access in (None, *Access):
        error = found.blocking_error(A, access, OTHER_NAME, requested_at=None)
        assert described(error) == (TerminalError, Reason.NAMES_CHANGED)
    assert str(error).startswith("MEMBER_ROLE_NAME is Other, and was CrossAccountReadOnlyRole")


@pytest.mark.parametrize(
    ("changes", "expected"),
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
def test_changed_name_is_described_with_the_fix(changes: dict[str, str], expected: str | None) -> None:
    why = Names.of(settings()).why_changed(settings(**changes))

    assert (why is None) == (expected is None)
    assert why is None or (str(expected) in why and "set it back, or uninstall first" in why)


# --- Scope none -------------------------------------------------------------------------------------------------------

NONE = settings(SOURCE_POLICY_SCOPE="none")
PINNED = Status(names=Names.of(NONE))


@pytest.mark.parametrize(
    ("found", "used", "why"),
    [
        (records(status=PINNED), NONE, None),
        (records(status=None), NONE, None),
        (records(status=PINNED), settings(), None),
        (records(status=PINNED), OTHER_NAME, "MEMBER_ROLE_NAME is Other"),
        (records(shard(of(A))), NONE, f"SOURCE_POLICY_SCOPE is none, and {SHARD} is installed in account {SOURCE}"),
        (records(shard(of(A)), status=None), NONE, "the table has records of a source policy"),
    ],
)
def test_source_policy_is_kept_in_scope_none_until_it_is_uninstalled(
    found: Records, used: Settings, why: str | None
) -> None:
    renamed, stuck = found.why_renamed(used), found.stuck_error(used)

    assert (renamed is None) == (why is None)
    assert why is None or why in str(renamed)
    # A changed name of the role alone prevents no revocation.
    assert (stuck is not None) == (why is not None and used is NONE)
    assert described(stuck) in {None, (TerminalError, Reason.NAMES_CHANGED)}
    if used is NONE:
        assert (found.blocking_error(A, None, used, requested_at=None) is None) == (why is None)
        assert (found.keeping_error(A, Access.GRANTED, used) is None) == (why is None)


def test_names_are_completed_once_there_is_a_source_policy() -> None:
    assert Names.of(NONE).completed(settings()) == Names.of(settings())
    assert Names.of(NONE).installed(NONE) == NONE
    assert Names.of(settings()).completed(settings(SOURCE_POLICY_NAME="Other")) == Names.of(settings())


# --- Freeze -----------------------------------------------------------------------------------------------------------

ATTACHED = frozenset({READER})
FROZEN = shard(of(A, frozen=True), attached=ATTACHED, denied_principals=ATTACHED, freeze_requested_at=NOW)
EARLIER = NOW - timedelta(seconds=1)
FOREIGN = ShardRecord(name=f"{SHARD}-2", error=Problem(Reason.FOREIGN_SOURCE_POLICY, "not ours"))
UNREAD = replace(FROZEN, denied_principals=None)
DETACHED = replace(FROZEN, denied_principals=frozenset[str]())
UNFROZEN = shard(of(A), attached=ATTACHED)
BY_OPERATOR = settings(ATTACH_SOURCE_POLICY="false")
USER = "arn:aws:iam::111122223333:user/tools/Auditor"
PERMISSION_SET = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Audit_*"


def denying(*arns: str) -> ShardRecord:
    return replace(FROZEN, denied_principals=frozenset(arns))


def by_operator(*arns: str) -> Settings:
    return settings(ATTACH_SOURCE_POLICY="false", SOURCE_PRINCIPAL_ARNS=",".join(arns))


@pytest.mark.parametrize(
    ("shards", "config", "why"),
    [
        ([], settings(), "there is no source policy to freeze yet"),
        ([shard()], settings(), "there is no source policy to freeze yet"),
        ([FROZEN], settings(), None),
        ([UNREAD], settings(), "a read of IAM has not shown yet"),
        ([UNFROZEN], settings(), "a read of IAM has not shown yet"),
        # A principal that one shard denies is denied by all shards.
        ([FROZEN, UNFROZEN], settings(), None),
        ([FROZEN, shard(of(B), attached=frozenset({FORMER}))], settings(), "a read of IAM has not shown yet"),
        ([FROZEN, UNFROZEN], BY_OPERATOR, "a read of IAM has not shown yet"),
        ([FROZEN, DETACHED], BY_OPERATOR, None),
        # Another policy may allow a source principal whatever a shard that was detached from it denies.
        ([replace(FROZEN, denied_principals=frozenset({FORMER}))], settings(), f"everything is denied: {READER}"),
        ([DETACHED], settings(), f"everything is denied: {READER}"),
        ([DETACHED], BY_OPERATOR, f"everything is denied: {READER}"),
        # IAM lists what the operator attached by its name, without a path.
        ([FROZEN], by_operator(READER, FORMER), f"everything is denied: {FORMER}"),
        ([denying("arn:aws:iam::111122223333:user/Auditor")], by_operator(USER), None),
        ([denying("arn:aws:iam::111122223333:role/Auditor")], by_operator(USER), f"everything is denied: {USER}"),
        ([denying("arn:aws:iam::111122223333:role/AWSReservedSSO_Audit_0a1b")], by_operator(PERMISSION_SET), None),
        # A user may be in the group, which is not known.
        ([denying("arn:aws:iam::111122223333:group/analysts")], by_operator(USER), None),
        ([denying("arn:aws:iam::111122223333:group/analysts")], BY_OPERATOR, f"everything is denied: {READER}"),
        ([FROZEN], by_operator("arn:aws:iam::111122223333:root"), None),
        ([DETACHED], by_operator("arn:aws:iam::111122223333:root"), "attached to no principal"),
        ([FROZEN, FOREIGN], settings(), None),
        ([FROZEN, FOREIGN], BY_OPERATOR, f"everything is denied: {SHARD}-2"),
        ([FOREIGN], settings(), f"everything is denied: {READER}"),
        ([replace(FROZEN, freeze_requested_at=EARLIER)], settings(), f"everything is denied: {READER}"),
    ],
)
def test_freeze_is_in_force_once_iam_denies_every_principal(
    shards: list[ShardRecord], config: Settings, why: str | None
) -> None:
    found = records(*shards, control=Control(freeze_requested_at=NOW))

    reason = why_not_in_force(found, config, frozen=True)

    assert found.freeze_in_force(config) is (why is None)
    assert reason is None if why is None else reason is not None and why in reason


@pytest.mark.parametrize(
    ("shards", "in_force"),
    [([], True), ([UNFROZEN], True), ([UNFROZEN, FROZEN], False), ([shard(of(A, frozen=True), of(A))], False)],
)
def test_unfreeze_is_in_force_once_no_version_denies(shards: list[ShardRecord], in_force: bool) -> None:
    why = why_not_in_force(records(*shards), settings(), frozen=False)

    assert why == (None if in_force else "a shard still denies everything")


def test_reason_why_a_freeze_is_not_in_force_is_complete() -> None:
    failed = replace(UNREAD, error=FULL)

    for frozen, first in ((True, "a read of IAM"), (False, "a shard still")):
        why = why_not_in_force(records(failed), OTHER_NAME, frozen=frozen)
        assert why is not None
        assert why.startswith(first)
        assert "MEMBER_ROLE_NAME is Other" in why
        assert f"{SHARD}: the source policy is full" in why


def test_freeze_is_not_in_force_while_records_are_lost() -> None:
    for frozen in (True, False):
        for lost in (records(status=None), replace(records(FROZEN), status=replace(STATUS, shards=2))):
            why = why_not_in_force(lost, settings(), frozen=frozen)
            assert why is not None
            assert why.startswith("the records of the source policy are incomplete")
            assert not lost.freeze_in_force(settings())
