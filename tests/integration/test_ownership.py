"""Whose a member role is: another's is never touched, and nobody's only where adoption is asked for."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, OURS, READ_ONLY, Organization
from tests.integration.stage import Stage

ANOTHER_STAGES = {**OURS, "rolecall-stage": "other"}


@pytest.mark.parametrize(
    ("path", "tags", "adopting"),
    [
        ("", {}, "false"),
        ("", {"managed-by": "rolecall"}, "true"),
        ("", {"managed-by": "terraform"}, "true"),
        ("", ANOTHER_STAGES, "true"),
        ("team/", OURS, "true"),
    ],
    ids=["nobody's", "half marked", "another tool's", "another stage's", "with a path"],
)
def test_a_role_that_is_not_ours_is_refused_and_left_as_it_is(
    organization: Organization, boundary: Boundary, path: str, tags: dict[str, str], adopting: str
) -> None:
    taken = [organization.member(), MANAGEMENT]
    bystander = organization.member("Bystander")
    for account_id in taken:
        organization.make_role(f"arn:aws:iam::{account_id}:role/{path}{MEMBER_ROLE}", tags=tags)
    found = organization.role(MANAGEMENT)
    stage = Stage(organization, AdoptExistingRoles=adopting)

    with boundary.watching() as calls:
        delivery = stage.enroll(*taken, bystander)

    assert sorted(delivery.finished) == sorted([*taken, bystander])
    for account_id in taken:
        assert organization.role(account_id) == found
        assert stage.verdict(account_id) == ("failed", "foreign_role")
        assert "MemberRoleName" in stage.row(account_id)["error"]
    assert organization.named() == {bystander}
    assert [call.operation for call in calls if call.is_write and call.account_id == taken[0]] == []


def test_a_role_that_nobody_marked_is_taken_over_where_that_is_asked_for(organization: Organization) -> None:
    account_id, pristine = organization.member(), organization.member("Pristine")
    organization.make_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}", tags={"cost-center": "42"})
    stage = Stage(organization, AdoptExistingRoles="true")

    stage.enroll(account_id, pristine)

    adopted, made = organization.role(account_id), organization.role(pristine)
    assert adopted is not None
    assert made is not None
    assert adopted.tags == {**OURS, "cost-center": "42"}
    assert (adopted.trust, adopted.attached, adopted.inline) == (made.trust, {READ_ONLY}, made.inline)
    assert (stage.verdict(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "updated")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [("AnotherAccess", "foreign_role"), ("CrossAccountReadOnlyAccess", "foreign_source_policy")],
    ids=["policy of its own", "same policy"],
)
def test_a_second_stage_with_the_same_role_name_reports_what_is_foreign(
    organization: Organization, policy: str, reason: str
) -> None:
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    installed = organization.role(account_id)
    second = Stage(organization, "second", SourcePolicyName=policy)

    second.ask(account_id)
    second.work()

    assert second.verdict(account_id) == ("failed", reason)
    assert "rolecall-stage=test" in second.row(account_id)["error"]
    assert organization.role(account_id) == installed
    assert organization.named() == {account_id}
