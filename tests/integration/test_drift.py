"""A drifted member role is repaired by exactly the calls that it takes."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.drifts import DRIFTS, Drift
from tests.integration.organization import MANAGEMENT, Organization
from tests.integration.stage import Stage


@pytest.mark.parametrize(("parameters", "drifts"), DRIFTS, ids=["defaults", "tags and boundary", "documents"])
def test_each_drift_is_repaired_by_one_call(
    organization: Organization, boundary: Boundary, parameters: dict[str, str], drifts: dict[str, Drift]
) -> None:
    """There is a member for each drift; the management account has all of them."""
    drifted = {organization.member(name): drift for name, drift in drifts.items()}
    stage = Stage(organization, **parameters)
    stage.enroll(*drifted, MANAGEMENT)
    desired = {account_id: organization.role(account_id) for account_id in (*drifted, MANAGEMENT)}
    for account_id, drift in drifted.items():
        drift.make(organization.iam(account_id))
        drift.make(organization.iam(MANAGEMENT))
        assert organization.role(account_id) != desired[account_id]

    with boundary.recording() as calls:
        stage.enroll(*drifted, MANAGEMENT)

    for account_id in (*drifted, MANAGEMENT):
        assert organization.role(account_id) == desired[account_id]
        assert (stage.status(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "updated")
    repairs = [
        (call.target_account_id, call.operation)
        for call in calls
        if call.is_write and call.operation.startswith("iam:")
    ]
    expected = {(account_id, drift.repaired_by) for account_id, drift in drifted.items()}
    assert sorted(repairs) == sorted(expected | {(MANAGEMENT, drift.repaired_by) for drift in drifts.values()})


def test_deleted_role_is_created_again(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    desired = organization.role(account_id)
    organization.delete_role(account_id)

    stage.enroll(account_id)

    assert organization.role(account_id) == desired
    assert stage.row(account_id)["change"] == "created"
