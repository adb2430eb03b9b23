"""A foreign member role is never changed, and one of no stage only if adopting is enabled and no stack contains it."""

from datetime import UTC, datetime

import pytest

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, MEMBER_ROLE, READ_ONLY, STAGE_TAGS, Organization
from tests.integration.stage import Stage


@pytest.mark.parametrize(
    ("path", "tags", "adopting"),
    [
        ("", {}, "false"),
        ("", {"managed-by": "rolecall"}, "true"),
        ("", {**STAGE_TAGS, "rolecall-stage": "other"}, "true"),
        ("team/", STAGE_TAGS, "true"),
        ("", {"CreatedBy": "terraform"}, "true"),
        ("", {}, "111122223333"),
    ],
    ids=["untagged", "without a stage", "another stage's", "with a path", "Terraform's", "not named"],
)
def test_foreign_role_is_refused_and_not_changed(
    organization: Organization, boundary: Boundary, path: str, tags: dict[str, str], adopting: str
) -> None:
    accounts = [organization.member(), MANAGEMENT]
    other = organization.member("Other")
    for account_id in accounts:
        organization.create_role(f"arn:aws:iam::{account_id}:role/{path}{MEMBER_ROLE}", tags=tags)
    before = organization.role(MANAGEMENT)
    stage = Stage(organization, AdoptExistingRoles=adopting)

    with boundary.recording() as calls:
        delivery = stage.enroll(*accounts, other)

    assert sorted(delivery.finished) == sorted([*accounts, other])
    for account_id in accounts:
        assert organization.role(account_id) == before
        assert stage.status(account_id) == ("failed", "foreign_role")
        assert "MemberRoleName" in stage.row(account_id)["error"]
    assert organization.granted() == {other}
    assert writes(call for call in calls if call.account_id == accounts[0]) == []


@pytest.mark.parametrize("name", ["Reader", "READER", ACCESS_ROLE])
def test_source_principal_and_access_role_are_never_adopted(organization: Organization, name: str) -> None:
    member = organization.member()
    before = organization.role(MANAGEMENT, "Reader"), organization.role(member, ACCESS_ROLE)
    stage = Stage(organization, MemberRoleName=name, AdoptExistingRoles="true")

    planned = stage.run("backfill", {"dry_run": True})["accounts"]
    stage.enroll(MANAGEMENT, member)

    for account_id in (MANAGEMENT, member):
        assert stage.status(account_id) == ("failed", "foreign_role")
        assert f"MemberRoleName is {name}, which " in stage.row(account_id)["error"]
    assert {each["reason"] for each in planned} == {"foreign_role"}
    assert (organization.role(MANAGEMENT, "Reader"), organization.role(member, ACCESS_ROLE)) == before
    assert name == ACCESS_ROLE or not organization.has_role(member, name)


def test_role_that_iam_shows_with_another_case_is_foreign(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization, AdoptExistingRoles="true")
    stage.enroll(account_id)
    before = organization.role(account_id)
    arn = f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE.lower()}"
    boundary.edit_response("iam:GetRole", lambda response: response["Role"].update(Arn=arn))

    stage.enroll(account_id)

    assert stage.status(account_id) == ("failed", "foreign_role")
    assert stage.row(account_id)["error"].startswith(f"{arn} differs from MemberRoleName by case")
    assert organization.role(account_id) == before


def test_role_that_iam_hides_and_does_not_create_differs_by_case(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """It may as well be one that IAM doesn't show yet, so it is retried at first."""
    account_id = organization.member()
    boundary.fail("iam:CreateRole", "EntityAlreadyExists", "Role with name X already exists.", status=409)
    delivery = stage.enroll(account_id)
    assert (stage.status(account_id), delivery.delays) == (("failed", "stale_read"), {account_id: 30})

    for _ in ("first", "again"):
        organization.clock.pause(180)
        stage.skip_delays()
        delivery = stage.enroll(account_id)

        assert stage.status(account_id) == ("failed", "foreign_role")
        assert "EntityAlreadyExists: Role with name X already exists.: a role differs" in stage.row(account_id)["error"]
        assert account_id in delivery.finished

    boundary.stop_faults()
    stage.enroll(account_id)
    assert stage.status(account_id) == ("enrolled", None)


def test_untagged_role_is_adopted_if_adopting_is_enabled(organization: Organization) -> None:
    """Its other tags stay."""
    account_id, other = organization.member(), organization.member("Other")
    organization.create_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}", tags={"cost-center": "42"})
    stage = Stage(organization, AdoptExistingRoles="true")

    stage.enroll(account_id, other)

    adopted, created = organization.role(account_id), organization.role(other)
    assert adopted.tags == {**STAGE_TAGS, "cost-center": "42"}
    assert (adopted.trust, adopted.attached, adopted.inline) == (created.trust, {READ_ONLY}, created.inline)
    assert (stage.status(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "updated")


def test_role_that_terraform_gave_up_is_adopted_by_its_accounts_id(organization: Organization) -> None:
    account_id = organization.member()
    tags = {"managed-by": "terraform", "Terraform": "true"}
    organization.create_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}", tags=tags)
    stage = Stage(organization, AdoptExistingRoles=account_id)

    stage.enroll(account_id)

    assert organization.role(account_id).tags == {**STAGE_TAGS, "Terraform": "true"}
    assert stage.status(account_id) == ("enrolled", None)


@pytest.mark.parametrize("adopting", ["true", "id"])
def test_role_in_a_stack_is_adopted_once_the_stack_gave_it_up(
    organization: Organization, boundary: Boundary, adopting: str
) -> None:
    accounts = [organization.member(), MANAGEMENT]
    for account_id in accounts:
        organization.create_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}")
    before = organization.role(MANAGEMENT)
    stage = Stage(organization, AdoptExistingRoles=adopting.replace("id", ",".join(accounts)))
    stage.stack_of_roles = "StackSet-readers"

    with boundary.recording() as calls:
        stage.enroll(*accounts)
        planned = stage.run("rerun", {"accounts": accounts, "dry_run": True})["accounts"]

    for account_id in accounts:
        assert organization.role(account_id) == before
        assert stage.status(account_id) == ("failed", "foreign_role")
        assert "CloudFormation stack StackSet-readers in " in stage.row(account_id)["error"]
    assert writes(calls, "iam:") == []
    managers = {each["adopts"]["managed_by"] for each in planned}
    assert managers == {"CloudFormation stack StackSet-readers in us-east-1"}

    stage.stack_of_roles = None
    stage.run_and_drain("rerun", accounts=accounts)
    stage.publish()

    assert {stage.status(account_id) for account_id in accounts} == {("enrolled", None)}
    assert organization.granted() == set(accounts)


def test_role_stays_foreign_while_its_stack_is_unknown(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    organization.age_account(account_id)
    organization.create_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}")
    before = organization.role(account_id)
    stage = Stage(organization, AdoptExistingRoles="true")
    boundary.fail("cloudformation:DescribeStackResources", message="no identity-based policy allows it")

    stage.enroll(account_id)

    assert (stage.status(account_id), organization.role(account_id)) == (("failed", "access_denied"), before)
    assert "looking in us-east-1 for the stack that contains" in stage.row(account_id)["error"]


def test_plan_to_adopt_shows_what_would_change_and_changes_nothing(
    organization: Organization, boundary: Boundary
) -> None:
    by_hand, terraform, missing = (organization.member(name) for name in ("ByHand", "Terraform", "Missing"))
    organization.create_role(f"arn:aws:iam::{by_hand}:role/{MEMBER_ROLE}")
    organization.create_role(f"arn:aws:iam::{terraform}:role/{MEMBER_ROLE}", tags={"managed-by": "terraform"})
    stage = Stage(organization)
    used = {"LastUsedDate": datetime(2026, 11, 29, 10, tzinfo=UTC), "Region": "eu-west-1"}
    boundary.edit_response("iam:GetRole", lambda response: response.get("Role", {}).update(RoleLastUsed=used))
    request = {"accounts": [by_hand, terraform, missing], "dry_run": True}

    with boundary.recording() as calls:
        adopting = stage.run("backfill", {**request, "adopt": True})["accounts"]
        plain = stage.run("backfill", request)["accounts"]

    shown = {each["account_id"]: (each["change"], each["reason"], each["adopts"]) for each in adopting}
    last_used_at = "2026-11-29T10:00:00.000000+00:00"
    assert shown == {
        by_hand: ("updated", None, {"managed_by": None, "last_used_at": last_used_at}),
        terraform: ("updated", None, {"managed_by": "tag managed-by=terraform", "last_used_at": last_used_at}),
        missing: ("created", None, None),
    }
    actions = {each["account_id"]: {step["action"] for step in each["actions"]} for each in adopting}
    assert actions[by_hand] >= {"TagRole", "SetTrust", "AttachPolicy"}
    reasons = {each["account_id"]: each["reason"] for each in plain}
    assert reasons == {by_hand: "foreign_role", terraform: "foreign_role", missing: None}
    assert writes(calls) == []
