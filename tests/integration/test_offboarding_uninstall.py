"""Uninstalling: the source policy is deleted first, then every role; nothing is enrolled until a backfill."""

from typing import Any

import pytest

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    MEMBER_ROLE,
    SECOND_SHARD,
    SOURCE_POLICY,
    SOURCE_POLICY_ARN,
    STAGE_TAGS,
    Organization,
)
from tests.integration.stage import Stage, planned

UNINSTALL = {"accounts": "all", "force": True}


def left(organization: Organization, *account_ids: str) -> list[str]:
    """Return the accounts with this stage's role, and the source policy if it exists."""
    roles = [each for each in account_ids if organization.has_role(each) and organization.role(each).tags == STAGE_TAGS]
    return roles + [SOURCE_POLICY] * organization.has_policy()


def entered(boundary: Boundary) -> list[str]:
    """Return the accounts that were entered by their access roles."""
    return [call.target_account_id for call in boundary.calls if call.operation == "sts:AssumeRole"]


@pytest.mark.parametrize("scope", ["accounts", "organization"])
def test_uninstall_deletes_everything_of_the_stage(organization: Organization, boundary: Boundary, scope: str) -> None:
    stage = Stage(organization, SourcePolicyScope=scope)
    accounts = [MANAGEMENT, *stage.enroll_members(3)]

    with boundary.recording() as calls:
        dry_run = stage.run("retire", {"accounts": "all", "dry_run": True})
    assert writes(calls) == []
    assert sorted(each["account_id"] for each in dry_run["accounts"]) == sorted(accounts)
    assert (dry_run["counts"], dry_run["next"]) == ({"left": 4, "shards_left": 1}, None)

    with boundary.recording() as calls:
        *_, last = stage.uninstall()

    assert (last["counts"], last["accounts"], last["source_policy"]) == ({"left": 0, "shards_left": 0}, [], [])
    assert left(organization, *accounts) == []
    assert organization.role(MANAGEMENT, "Reader").attached == set()
    assert stage.statuses() == dict.fromkeys(accounts, ("retired", "uninstalled"))
    operations = writes(calls, "iam:")
    assert operations.index("iam:DeletePolicy") < operations.index("iam:DeleteRole")


def test_no_account_is_enrolled_until_a_backfill(organization: Organization, stage: Stage) -> None:
    accounts = [MANAGEMENT, *stage.enroll_members(2)]

    stage.run("retire", UNINSTALL)
    during = organization.member("During")
    stage.send_event("CreateAccountResult", during)
    stage.run_and_drain("resync")
    stage.uninstall()
    afterwards = organization.member("Afterwards")
    stage.send_event("CreateAccountResult", afterwards)
    response = stage.run("resync")
    stage.run_and_drain("rerun")

    assert response["counts"]["uninstalling"] is True
    accounts += [during, afterwards]
    assert left(organization, *accounts) == []
    assert {stage.status(account_id) for account_id in (during, afterwards)} == {("skipped", "uninstalled")}

    dry_run = stage.run("backfill", {"dry_run": True})
    assert planned(dry_run) == dict.fromkeys(accounts, ("enrolled", None, "created"))
    stage.run_and_drain("backfill")
    assert stage.statuses() == dict.fromkeys(accounts, ("enrolled", None))
    assert organization.granted() == {*accounts}


def test_no_role_is_deleted_before_the_source_policy(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    accounts = stage.enroll_members(2)
    boundary.fail("iam:DeletePolicy", "Throttling")

    stage.run_and_drain("retire", **UNINSTALL)

    assert organization.has_policy()
    assert all(organization.has_role(account_id) for account_id in accounts)
    assert set(stage.statuses().values()) == {("pending", "source_policy_pending")}
    boundary.stop_faults()
    stage.skip_delays()
    stage.drain()
    assert left(organization, MANAGEMENT, *accounts) == []


def test_uninstall_continues_after_failures(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    failing, *others = stage.enroll_members(3)
    boundary.fail("iam:DeleteRole", account_id=failing)

    responses = [stage.run_and_drain("retire", **UNINSTALL) for _ in range(3)]

    assert [each["counts"]["left"] for each in responses] == [4, 1, 1]
    assert responses[-1]["accounts"] == [{"account_id": failing}]
    assert responses[-1]["next"] == UNINSTALL
    assert left(organization, MANAGEMENT, *others) == []
    assert "names" in stage.item("#status")

    boundary.stop_faults()
    stage.uninstall()
    assert left(organization, failing, *others) == []


def test_role_that_no_row_contains_is_found_and_deleted(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """Even while another account's role can't be deleted."""
    failing, lost = stage.enroll_members(2)
    boundary.fail("iam:DeleteRole", account_id=failing)
    stage.run_and_drain("retire", **UNINSTALL)
    organization.create_role(f"arn:aws:iam::{lost}:role/{MEMBER_ROLE}", tags=STAGE_TAGS)

    response = stage.run_and_drain("retire", **UNINSTALL)

    first, second = response["accounts"]
    assert first == {"account_id": failing}
    assert (second["account_id"], [each["action"] for each in second["actions"]]) == (lost, ["DeleteRole"])
    assert not organization.has_role(lost)
    assert stage.run("retire", UNINSTALL)["accounts"] == [{"account_id": failing}]


def test_unconfirmed_account_is_not_entered(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    """Neither an id that Organizations never listed, nor an account that left without an event."""
    unknown, (departed,) = "777777777777", stage.enroll_members(1)
    boundary.fail("organizations:DescribeAccount", "TooManyRequestsException", account_id=unknown)
    stage.enroll(unknown)
    boundary.stop_faults()
    assert stage.status(unknown) == ("failed", "throttled")
    stage.run_and_drain("retire", accounts=[departed])
    organization.depart(departed)
    before = len(entered(boundary))

    *_, last = stage.uninstall()

    assert last["next"] is None
    assert entered(boundary)[before:] == []


@pytest.mark.parametrize("code", ["DeleteConflict", "AccessDenied"])
def test_policy_that_iam_does_not_show_yet_is_deleted_later(
    organization: Organization, boundary: Boundary, stage: Stage, code: str
) -> None:
    stage.enroll_members(1)
    boundary.fail("iam:GetPolicy", "NoSuchEntity", status=404, times=1)
    boundary.fail("iam:DeletePolicy", code, status=409, times=1)

    stage.run("retire", UNINSTALL)
    delays = stage.publish().delays

    assert set(delays.values()) == ({5} if code == "DeleteConflict" else set())
    error = stage.item(SOURCE_POLICY).get("error", {})
    assert error.get("reason") == (None if code == "DeleteConflict" else "access_denied")
    assert organization.has_policy()
    assert stage.uninstall()[-1]["next"] is None
    assert not organization.has_policy()


def test_final_search_continues_after_its_time(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    accounts = stage.enroll_members(4)
    stage.run_and_drain("retire", **UNINSTALL)
    before = len(entered(boundary))

    responses = stage.uninstall(seconds=29)

    assert sorted(entered(boundary)[before:]) == sorted(accounts)
    searched = sorted([MANAGEMENT, *accounts])
    assert [(each["next"] or {}).get("after") for each in responses] == [searched[1], searched[3], None]
    assert left(organization, *searched) == []


def test_unreachable_accounts_do_not_block_an_uninstall(organization: Organization, stage: Stage) -> None:
    departed, closed, closing, denied = stage.enroll_members(4)
    organization.depart(departed)
    organization.set_state(closed, "CLOSED")
    stage.run_and_drain("resync")
    organization.delete_role(denied, ACCESS_ROLE)
    stage.run("retire", UNINSTALL)
    organization.set_state(closing, "CLOSED")
    stage.drain()
    stage.run_and_drain("resync", accounts="new")
    assert [stage.status(each)[1] for each in (departed, closed, closing)] == ["departed", "closed", "closed"]
    organization.create_role(f"arn:aws:iam::{denied}:role/{ACCESS_ROLE}")

    stage.uninstall()

    assert left(organization, MANAGEMENT, denied) == []


def test_excluded_management_account_is_not_searched(organization: Organization) -> None:
    stage = Stage(organization, IncludeManagementAccount="false")
    account_id = organization.member()
    stage.run_and_drain("backfill")

    *_, last = stage.uninstall()

    assert (last["counts"]["left"], last["next"]) == (0, None)
    assert left(organization, MANAGEMENT, account_id) == []


def test_all_shards_are_deleted_in_a_separate_source_account(organization: Organization) -> None:
    source = organization.member("Source")
    organization.create_role(f"arn:aws:iam::{source}:role/Reader")
    organization.iam(source).create_user(UserName="reader")
    principals = ",".join(f"arn:aws:iam::{source}:{each}" for each in ("role/Reader", "user/reader"))
    stage = Stage(organization, SourcePrincipalArns=principals)
    stage.enroll(source)
    stage.set_recorded(SOURCE_POLICY, stage.full_shard(source))
    stage.enroll(organization.member("Second"))
    assert organization.has_policy(SECOND_SHARD, source)
    organization.add_versions(3, account_id=source)

    stage.uninstall()

    for name in (SOURCE_POLICY, SECOND_SHARD):
        assert not organization.has_policy(name, source)
        assert stage.item(name) == {}


def test_policy_that_the_operator_attached_must_be_detached_first(organization: Organization) -> None:
    stage = Stage(organization, AttachSourcePolicy="false")
    (account_id,) = stage.enroll_members(1)
    organization.attach()

    stage.run_and_drain("retire", **UNINSTALL)
    response = stage.run("retire", UNINSTALL)

    (shard,) = response["source_policy"]
    assert "detach it there" in shard["error"]
    assert response["next"] == UNINSTALL
    # Until then it grants no account, so that every role can be deleted.
    assert (organization.granted(), organization.has_role(account_id)) == (set(), False)
    organization.detach()
    assert stage.uninstall()[-1]["next"] is None
    assert not organization.has_policy()


def test_what_still_uses_the_policy_is_named(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    """As a group that it is attached to, or a role whose permissions boundary it is; source principals lose it at once."""
    stage.enroll_members(1)
    iam = organization.iam()
    iam.create_group(GroupName="analysts")
    iam.attach_group_policy(GroupName="analysts", PolicyArn=SOURCE_POLICY_ARN)
    # moto deletes policies that are in use, and knows no boundaries.
    boundary.fail("iam:DeletePolicy", "DeleteConflict", "Cannot delete a policy attached to entities.", status=409)

    def add_boundary(response: dict[str, Any]) -> None:
        if "PolicyUsageFilter" not in boundary.calls[-1].params:
            response["PolicyRoles"].append({"RoleName": "Bounded"})

    boundary.edit_response("iam:ListEntitiesForPolicy", add_boundary)

    stage.run_and_drain("retire", **UNINSTALL)

    (shard,) = stage.run("retire", UNINSTALL)["source_policy"]
    users = f"arn:aws:iam::{MANAGEMENT}:group/analysts, arn:aws:iam::{MANAGEMENT}:role/Bounded"
    assert f"is attached to {users}, or is the permissions boundary" in shard["error"]
    assert organization.policy().attached == set()
    iam.detach_group_policy(GroupName="analysts", PolicyArn=SOURCE_POLICY_ARN)
    boundary.stop_faults()
    assert stage.uninstall()[-1]["next"] is None
    assert not organization.has_policy()


def test_conflict_of_a_deletion_is_retried_if_nothing_uses_the_policy(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """IAM may still count what was detached a moment ago."""
    stage.enroll_members(1)
    boundary.fail("iam:DeletePolicy", "DeleteConflict", status=409, times=1)

    assert stage.uninstall()[-1]["next"] is None

    assert not organization.has_policy()


def test_another_stages_policy_is_not_deleted(organization: Organization, stage: Stage) -> None:
    stage.enroll_members(1)
    organization.iam().tag_policy(PolicyArn=SOURCE_POLICY_ARN, Tags=[{"Key": "rolecall-stage", "Value": "another"}])

    stage.run_and_drain("retire", **UNINSTALL)

    (shard,) = stage.run("retire", UNINSTALL)["source_policy"]
    assert "rolecall-stage=another" in shard["error"]
    assert organization.has_policy()


def test_policy_that_was_deleted_by_hand_is_no_error(organization: Organization, stage: Stage) -> None:
    stage.enroll_members(1)
    organization.delete_policy()

    assert stage.uninstall()[-1]["next"] is None
    assert stage.item(SOURCE_POLICY) == {}


def test_names_are_kept_until_nothing_is_left(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    failing, *others = stage.enroll_members(2)
    boundary.fail("iam:DeleteRole", account_id=failing)
    stage.run_and_drain("retire", **UNINSTALL)
    assert not organization.has_policy()
    renamed = Stage(organization, MemberRoleName="Renamed")
    assert renamed.item("#status")["names"]["member_role_name"] == MEMBER_ROLE
    boundary.stop_faults()

    renamed.uninstall()

    assert left(organization, MANAGEMENT, failing, *others) == []
    assert set(renamed.items()) == {"#control"}


def test_every_name_may_change_after_an_uninstall(organization: Organization, stage: Stage) -> None:
    accounts = stage.enroll_members(2)
    stage.uninstall()
    stage.run_publish()
    assert "names" not in stage.item("#status")
    assert not organization.has_policy()

    renamed = Stage(organization, MemberRoleName="Renamed", SourcePolicyName="RenamedToo")
    renamed.run_and_drain("backfill")

    assert organization.granted("RenamedToo") == {MANAGEMENT, *accounts}
    assert all(organization.has_role(account_id, "Renamed") for account_id in accounts)
    control = renamed.item("#control")
    assert (control["uninstalling"], control["uninstalled"]) == (False, False)


@pytest.mark.parametrize("code", [None, "AccessDenied"])
def test_policy_without_a_record_is_deleted(
    organization: Organization, boundary: Boundary, stage: Stage, code: str | None
) -> None:
    account_id = organization.member()
    stage.enroll(account_id)
    stage.edit(SOURCE_POLICY, applying=stage.item(SOURCE_POLICY)["applied"], applied=None)
    if code is not None:
        boundary.fail("iam:GetPolicy", code)

    stage.run_and_drain("retire", **UNINSTALL)

    assert organization.has_policy() == (code is not None)
    if code is not None:
        assert stage.item(SOURCE_POLICY)["error"]["reason"] == "access_denied"
        boundary.stop_faults()
    stage.uninstall()
    assert left(organization, account_id) == []
