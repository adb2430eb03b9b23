"""A foreign member role is never changed, and an untagged one only if adopting is enabled."""

import pytest

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, READ_ONLY, STAGE_TAGS, Organization
from tests.integration.stage import Stage


@pytest.mark.parametrize(
    ("path", "tags", "adopting"),
    [
        ("", {}, "false"),
        ("", {"managed-by": "rolecall"}, "true"),
        ("", {**STAGE_TAGS, "rolecall-stage": "other"}, "true"),
        ("team/", STAGE_TAGS, "true"),
    ],
    ids=["untagged", "without a stage", "another stage's", "with a path"],
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
