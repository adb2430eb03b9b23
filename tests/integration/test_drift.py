"""What others changed on a member role is mended by exactly the change that it takes."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.drifts import DRIFTS, Drift
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, OURS, Organization
from tests.integration.stage import Stage


@pytest.mark.parametrize(("parameters", "drifts"), DRIFTS, ids=["defaults", "tags and boundary"])
def test_drift_is_mended_by_exactly_the_change_it_takes(
    organization: Organization, boundary: Boundary, parameters: dict[str, str], drifts: dict[str, Drift]
) -> None:
    # GIVEN an account for each drift, and the management account with all of them
    drifted = {organization.member(name): drift for name, drift in drifts.items()}
    stage = Stage(organization, **parameters)
    stage.enroll(*drifted, MANAGEMENT)
    pristine = organization.role(MANAGEMENT)
    for account_id, drift in drifted.items():
        drift.make(organization.iam(account_id))
        drift.make(organization.iam(MANAGEMENT))
        assert organization.role(account_id) != pristine

    with boundary.watching() as calls:
        stage.enroll(*drifted, MANAGEMENT)

    for account_id in (*drifted, MANAGEMENT):
        assert organization.role(account_id) == pristine
        assert (stage.verdict(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "updated")
    writes = [(call.about, call.operation) for call in calls if call.is_write and call.operation.startswith("iam:")]
    assert sorted(write for write in writes if write[0] != MANAGEMENT) == sorted(
        (account_id, drift.mended_by) for account_id, drift in drifted.items()
    )
    assert sorted(write for write in writes if write[0] == MANAGEMENT) == sorted(
        {(MANAGEMENT, drift.mended_by) for drift in drifts.values()}
    )


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
