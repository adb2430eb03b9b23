"""A rejected action keeps no other action of the plan from restricting the role."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.drifts import DRIFTS, OTHER_POLICY, Drift
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, READ_ONLY, Organization, Role
from tests.integration.stage import Stage

REJECTED = ("LimitExceeded", "Cannot exceed quota")


def widened_by(role: Role, desired: Role) -> set[str]:
    """Return what of a role allows more than desired, by the operation that would change it."""
    edited = [key for key in role.inline.keys() & desired.inline.keys() if role.inline[key] != desired.inline[key]]
    return {
        *({"iam:DetachRolePolicy"} if role.attached - desired.attached else ()),
        *({"iam:DeleteRolePolicy"} if role.inline.keys() - desired.inline.keys() else ()),
        *({"iam:PutRolePolicy"} if edited or "DenyDataReads" not in role.inline else ()),
        *({"iam:UpdateAssumeRolePolicy"} if role.trust != desired.trust else ()),
        *({"iam:UpdateRole"} if role.max_session > desired.max_session else ()),
        *({"iam:PutRolePermissionsBoundary"} if desired.boundary not in {None, role.boundary} else ()),
    }


@pytest.mark.parametrize(
    ("parameters", "drifts", "operation"),
    [
        (parameters, drifts, operation)
        for parameters, drifts in DRIFTS
        for operation in sorted({drift.repaired_by for drift in drifts.values()})
    ],
)
def test_rejected_action_leaves_nothing_else_wider(
    organization: Organization,
    boundary: Boundary,
    parameters: dict[str, str],
    drifts: dict[str, Drift],
    operation: str,
) -> None:
    account_id = organization.member()
    stage = Stage(organization, **parameters)
    stage.enroll(account_id)
    desired = organization.role(account_id)
    for drift in drifts.values():
        drift.make(organization.iam(account_id))
    boundary.fail(operation, *REJECTED, status=409)

    stage.enroll(account_id)

    assert widened_by(organization.role(account_id), desired) <= {operation}
    assert stage.status(account_id) == ("failed", "quota")
    assert REJECTED[1] in stage.row(account_id)["error"]
    assert organization.granted() == {account_id}

    boundary.stop_faults()
    stage.enroll(account_id)

    assert organization.role(account_id) == desired
    assert stage.status(account_id) == ("enrolled", None)


def test_every_rejected_action_is_in_the_error(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    iam = organization.iam(account_id)
    iam.attach_role_policy(RoleName=MEMBER_ROLE, PolicyArn=OTHER_POLICY)
    iam.delete_role_policy(RoleName=MEMBER_ROLE, PolicyName="DenyDataReads")
    boundary.fail("iam:DetachRolePolicy", "UnmodifiableEntity")
    boundary.fail("iam:PutRolePolicy", *REJECTED)

    stage.enroll(account_id)

    assert stage.status(account_id) == ("failed", "rejected")
    error = stage.row(account_id)["error"]
    assert error.index("UnmodifiableEntity") < error.index("Cannot exceed quota")


def test_new_role_gets_no_policy_without_its_deny(organization: Organization, boundary: Boundary) -> None:
    boundary.fail("iam:PutRolePolicy", *REJECTED)
    account_id = organization.member()
    stage = Stage(organization)

    stage.enroll(account_id)

    assert organization.role(account_id).attached == set()
    assert stage.status(account_id) == ("failed", "quota")


def test_role_in_an_instance_profile_is_kept_without_permissions(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    iam = organization.iam(account_id)
    iam.create_instance_profile(InstanceProfileName="profile")
    iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName=MEMBER_ROLE)

    stage.run_and_drain("retire", accounts=[account_id])

    role = organization.role(account_id)
    assert (role.attached, role.inline) == (set(), {})
    assert stage.status(account_id) == ("retired", "retired_by_request")
    assert "instance profile" in stage.row(account_id)["error"]

    iam.remove_role_from_instance_profile(InstanceProfileName="profile", RoleName=MEMBER_ROLE)
    stage.run_and_drain("retire", accounts=[account_id])

    assert not organization.has_role(account_id)


def test_throttled_plan_is_continued_by_the_retry(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.fail("iam:AttachRolePolicy", "SlowDown", status=400, times=1)

    assert stage.enroll(account_id).delays == {account_id: 30}
    assert stage.status(account_id) == ("failed", "throttled")
    stage.skip_delays()
    stage.drain()

    assert organization.role(account_id).attached == {READ_ONLY}
    assert stage.status(account_id) == ("enrolled", None)
    assert MANAGEMENT not in organization.granted()


def test_data_reads_stay_denied_where_the_boundary_is_rejected(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    denied = organization.role(account_id).inline
    boundary.fail("iam:PutRolePermissionsBoundary", "NoSuchEntity", status=404)
    opened = {"DenyDataReads": "false", "PermissionsBoundaryArn": "arn:aws:iam::aws:policy/ViewOnlyAccess"}

    stage = Stage(organization, **opened)
    stage.enroll(account_id)

    assert stage.row(account_id)["outcome"] == "failed"
    assert organization.role(account_id).inline == denied

    boundary.stop_faults()
    stage.enroll(account_id)
    assert organization.role(account_id).inline == {}
