"""What others changed on a member role is mended by exactly the change that it takes."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.drifts import DRIFTS, Drift
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, OURS, Organization
from tests.integration.stage import Stage


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=list(DRIFTS))
def test_drift_is_mended_by_exactly_the_change_it_takes(
    organization: Organization, boundary: Boundary, drift: Drift
) -> None:
    accounts = [organization.member(), MANAGEMENT]
    stage = Stage(organization, **drift.parameters)
    stage.enroll(*accounts)
    pristine = organization.role(accounts[0])
    for account_id in accounts:
        drift.make(organization.iam(account_id))
    assert organization.role(accounts[0]) != pristine

    with boundary.watching() as calls:
        stage.enroll(*accounts)

    for account_id in accounts:
        assert organization.role(account_id) == pristine
        assert (stage.verdict(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "updated")
    assert [call.operation for call in calls if call.is_write and call.operation.startswith("iam:")] == [
        drift.mended_by
    ] * 2


def test_tags_that_others_put_on_the_role_stay_and_are_no_drift(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    organization.iam(account_id).tag_role(RoleName=MEMBER_ROLE, Tags=[{"Key": "cost-center", "Value": "42"}])

    with boundary.watching() as calls:
        stage.enroll(account_id)

    role = organization.role(account_id)
    assert role is not None
    assert role.tags == {**OURS, "cost-center": "42"}
    assert {call.operation for call in calls if call.is_write and call.operation.startswith("iam:")} == set()


def test_a_deleted_role_is_made_again(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    pristine = organization.role(account_id)
    organization.lose_role(account_id, MEMBER_ROLE)

    stage.enroll(account_id)

    assert organization.role(account_id) == pristine
    assert stage.row(account_id)["change"] == "created"


def test_changed_settings_reach_the_roles_that_are_there(organization: Organization) -> None:
    account_id = organization.member()
    organization.make_policy("Extra", account_id=account_id)
    Stage(organization).enroll(account_id)
    changed = Stage(
        organization,
        MemberRolePolicyArns="arn:{partition}:iam::aws:policy/SecurityAudit,arn:{partition}:iam::{account_id}:policy/Extra",
        DenyDataReads="false",
        MemberRoleMaxSession="7200",
        ExternalId="external-id",
        MemberRoleTags="team=security",
        PermissionsBoundaryArn="arn:aws:iam::{account_id}:policy/Extra",
    )

    changed.enroll(account_id)

    role = organization.role(account_id)
    assert role is not None
    assert role.attached == {"arn:aws:iam::aws:policy/SecurityAudit", f"arn:aws:iam::{account_id}:policy/Extra"}
    assert (role.inline, role.max_session) == ({}, 7200)
    assert role.boundary == f"arn:aws:iam::{account_id}:policy/Extra"
    assert role.tags == {**OURS, "team": "security"}
    assert role.trust["Statement"][0]["Condition"]["StringEquals"] == {"sts:ExternalId": "external-id"}
