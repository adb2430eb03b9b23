"""A source policy that no newcomer could be granted by: newcomers fail before a role is made, until the cause is gone."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, SOURCE_POLICY, Organization
from tests.integration.stage import Stage

MISSING = f"arn:aws:iam::{MANAGEMENT}:role/Missing"


@dataclass(frozen=True)
class Block:
    """What blocks the source policy, and what removes the cause."""

    reason: str
    error: str
    cause: Callable[[Organization], None]
    fix: Callable[[Organization], None]
    parameters: tuple[tuple[str, str], ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()


def _attach_others(organization: Organization) -> None:
    iam = organization.iam(MANAGEMENT)
    for number in range(10):
        iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))


def _detach_one(organization: Organization) -> None:
    organization.iam(MANAGEMENT).detach_role_policy(
        RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/Other0"
    )


def _make_policy(organization: Organization) -> None:
    organization.make_policy(SOURCE_POLICY)


def _nothing(_: Organization) -> None:
    pass


def _renamed_stage(organization: Organization) -> None:
    """Have the names recorded by an earlier deployment."""
    Stage(organization)


BLOCKS = {
    "foreign policy": Block(
        "foreign_source_policy", "SourcePolicyName", _make_policy, lambda organization: organization.lose_policy()
    ),
    "missing principal": Block(
        "no_source_principal",
        "AttachSourcePolicy=false",
        _nothing,
        lambda organization: organization.make_role(MISSING),
        (("SourcePrincipalArns", MISSING),),
        (("SourcePrincipalArns", MISSING),),
    ),
    "no room": Block("quota", "SourcePolicyScope=organization", _attach_others, _detach_one),
    "changed names": Block(
        "names_changed",
        "MEMBER_ROLE_NAME is Renamed, and was CrossAccountReadOnlyRole",
        _renamed_stage,
        _nothing,
        (("MemberRoleName", "Renamed"),),
    ),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_newcomers_fail_before_a_role_is_made_and_are_granted_by_the_next_resync(
    organization: Organization, boundary: Boundary, block: Block
) -> None:
    first, second = organization.member("First"), organization.member("Second")
    block.cause(organization)
    stage = Stage(organization, **dict(block.parameters))

    with boundary.watching() as calls:
        stage.ask(first, second)
        delivery = stage.work()

    assert set(delivery.finished) == {first, second}
    for account_id in (first, second):
        row = stage.row(account_id)
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", block.reason, 0)
        assert block.error in row["error"]
        assert "access" not in row
    assert stage.item("#status")["blocked"]["reason"] == block.reason
    assert {call.operation for call in calls if call.is_write and call.operation.startswith("iam:")} == set()

    block.fix(organization)
    fixed = Stage(organization, deployed="false", **dict(block.fixed))
    fixed.run("resync", {"accounts": "new"})
    fixed.work()
    assert fixed.verdict(first)[0] == "failed"  # what failed is the full resync's, and the rerun's
    fixed.run("resync")
    fixed.work()

    assert set(fixed.verdicts().values()) == {("enrolled", None)}
    assert organization.named() == {MANAGEMENT, first, second}
    assert "blocked" not in fixed.item("#status")


@pytest.mark.parametrize("name", ["foreign policy", "missing principal", "no room"])
def test_an_account_asked_for_after_the_fix_waits_for_the_new_look(organization: Organization, name: str) -> None:
    account_id = organization.member()
    block = BLOCKS[name]
    block.cause(organization)
    stage = Stage(organization, **dict(block.parameters))
    block.fix(organization)

    stage.ask(account_id)
    assert stage.deliver_accounts().delays == {account_id: 5}

    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "source_policy_pending", 0)
    assert "is looked at again" in row["error"]
    assert organization.role(account_id) is None
    assert stage.work().finished == [account_id]
    assert stage.verdict(account_id) == ("enrolled", None)


def test_an_account_asked_for_before_the_look_fails_by_it(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=MISSING)
    stage.ask(account_id)
    stage.run_publish()

    assert stage.deliver_accounts().finished == [account_id]

    assert stage.verdict(account_id) == ("failed", "no_source_principal")


@pytest.mark.parametrize("name", ["foreign policy", "no room"])
def test_enrolled_accounts_are_checked_and_retired_while_newcomers_fail(organization: Organization, name: str) -> None:
    """Shard 1 is full and shard 2 can't be opened: what it grants is kept up to date all the same."""
    stays, goes, newcomer = (organization.member(each) for each in ("Stays", "Goes", "Newcomer"))
    stage = Stage(organization)
    stage.enroll(stays, goes)
    full = stage.full_shard(stays, goes)
    stage.fill(SOURCE_POLICY, full)
    if name == "no room":
        iam = organization.iam(MANAGEMENT)
        for number in range(9):
            iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))
    else:
        organization.make_policy(f"{SOURCE_POLICY}-2")
    stage.run_publish()
    assert stage.item("#status")["blocked"]["reason"] == BLOCKS[name].reason
    stage.ask(newcomer)
    stage.work()
    assert stage.verdict(newcomer) == ("failed", BLOCKS[name].reason)

    stage.enroll(stays)
    stage.run("retire", {"accounts": [goes]})
    stage.work()

    assert stage.verdict(stays) == ("enrolled", None)
    assert (stage.verdict(goes), organization.role(goes)) == (("retired", "retired_by_request"), None)
    assert organization.named() == {*full} - {goes}
    # There is room again, so the source policy is not blocked any more.
    assert "blocked" not in stage.item("#status")
    stage.run("rerun")
    stage.work()
    assert stage.verdict(newcomer) == ("enrolled", None)


def test_accounts_that_overshoot_the_room_are_pending_until_there_is_room(organization: Organization) -> None:
    first, second = sorted([organization.member("First"), organization.member("Second")])
    enrolled = organization.member("Enrolled")
    iam = organization.iam(MANAGEMENT)
    for number in range(9):
        iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))
    stage = Stage(organization)
    stage.enroll(enrolled)
    stage.fill(SOURCE_POLICY, stage.full_shard(enrolled)[:-1])

    stage.enroll(first, second)

    assert (stage.verdict(first), stage.verdict(second)) == (("enrolled", None), ("pending", "source_policy_pending"))
    assert organization.role(second) is not None
    assert stage.item("#status")["blocked"]["reason"] == "quota"

    iam.detach_role_policy(RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/Other0")
    stage.run_publish()
    assert stage.verdict(second) == ("enrolled", None)
    assert organization.named(f"{SOURCE_POLICY}-2") == {second}


def test_changed_names_stop_no_freeze_no_retirement_from_the_policy_and_no_check(organization: Organization) -> None:
    """What exists is kept under the names that it has; roles are not touched under another name."""
    stays, goes = organization.member("Stays"), organization.member("Goes")
    Stage(organization).enroll(stays, goes)
    renamed = Stage(organization, MemberRoleName="Renamed")

    answer = renamed.run("freeze", {"frozen": True}, seconds=7)
    renamed.run("retire", {"accounts": [goes]})
    renamed.work()
    renamed.let_records_grow_old(minutes=3)
    organization.iam(MANAGEMENT).detach_role_policy(
        RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"
    )
    renamed.run("resync", {"accounts": "new"})
    renamed.work()

    assert answer == {"frozen": True, "in_force": True, "why": None}
    policy = organization.policy()
    assert policy is not None
    assert (policy.accounts, policy.attached) == ({stays}, {"Reader"})
    assert "CrossAccountReadOnlyRole" in policy.document["Statement"][0]["Resource"]
    assert organization.role(goes) is not None
    assert renamed.row(goes)["error"].startswith("MEMBER_ROLE_NAME is Renamed")
    assert renamed.item("#status")["names"]["member_role_name"] == "CrossAccountReadOnlyRole"

    back = Stage(organization)
    back.run("resync")
    back.work()
    assert organization.role(goes) is None
