"""An account that can't be entered: waited for while it is new, named with its remedies once it isn't."""

from tests.integration.boundary import Boundary
from tests.integration.organization import ACCESS_ROLE, MEMBER_ROLE, Organization
from tests.integration.stage import Stage


def test_a_new_account_is_tried_again_with_growing_delay_until_it_can_be_entered(organization: Organization) -> None:
    account_id = organization.member(access_role="NotYet")
    stage = Stage(organization)
    stage.announce("CreateAccountResult", account_id)

    delays: list[int] = []
    for _ in range(7):
        delays += stage.deliver().delays.values()
        stage.let_delays_pass()

    assert delays == [30, 60, 120, 240, 480, 900, 900]
    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "not_ready", 7)
    assert f"arn:aws:iam::{account_id}:role/" in row["error"]
    assert organization.policy() is None

    organization.make_role(f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}")
    assert stage.deliver().finished == [account_id]

    row = stage.row(account_id)
    assert (row["outcome"], row.get("reason"), row.get("error"), row["attempts"]) == ("enrolled", None, None, 0)
    assert organization.named() == {account_id}


def test_past_the_grace_the_failure_is_final_and_names_the_remedies(organization: Organization) -> None:
    account_id = organization.member(access_role="Another")
    organization.grow_old(account_id)
    stage = Stage(organization)

    delivery = stage.enroll(account_id)

    assert (delivery.finished, delivery.delays) == ([account_id], {})
    assert stage.verdict(account_id) == ("failed", "no_access_role")
    error = stage.row(account_id)["error"]
    assert all(
        part in error
        for part in (ACCESS_ROLE, "AWSControlTowerExecution", "Invited accounts", "AccessRoleNames", "trust")
    )


def test_the_grace_is_the_settings(organization: Organization) -> None:
    account_id = organization.member(access_role="NotYet")
    stage = Stage(organization, ReadyGraceSeconds="0")

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "no_access_role")


def test_a_denial_after_entering_a_new_account_is_waited_out_too(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    boundary.fail("iam:CreateRole", "InvalidClientTokenId", "The security token included in the request is invalid.")
    stage = Stage(organization)

    assert stage.enroll(account_id).delays == {account_id: 30}

    assert stage.verdict(account_id) == ("failed", "not_ready")
    assert stage.row(account_id)["access_role"] == ACCESS_ROLE
    assert "CreateRole" in stage.row(account_id)["error"]


def test_a_check_that_fails_takes_no_access_away(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    since = stage.row(account_id)["enrolled_at"]
    organization.grow_old(account_id)
    organization.iam(account_id).delete_role(RoleName=ACCESS_ROLE)

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "no_access_role")
    assert organization.named() == {account_id}
    assert organization.role(account_id, MEMBER_ROLE) is not None
    row = stage.row(account_id)
    assert (row["access"], row["enrolled_at"]) == ("granted", since)
    assert "in_force_since" in row
