"""An account that can't be entered: retried while it is new, and then failed with its remedies."""

from tests.integration.boundary import Boundary
from tests.integration.organization import ACCESS_ROLE, Organization
from tests.integration.stage import Stage


def test_new_account_is_retried_with_growing_delays(organization: Organization, stage: Stage) -> None:
    account_id = organization.member(access_role="NotYet")
    stage.send_event("CreateAccountResult", account_id)

    delays: list[int] = []
    for _ in range(7):
        delays += stage.deliver().delays.values()
        stage.skip_delays()

    assert delays == [30, 60, 120, 240, 480, 900, 900]
    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "not_ready", 7)
    assert f"arn:aws:iam::{account_id}:role/" in row["error"]
    assert not organization.has_policy()

    organization.create_role(f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}")
    assert stage.deliver().finished == [account_id]

    row = stage.row(account_id)
    assert (row["outcome"], row.get("reason"), row.get("error"), row["attempts"]) == ("enrolled", None, None, 0)
    assert organization.granted() == {account_id}


def test_after_the_grace_the_failure_is_terminal(organization: Organization, stage: Stage) -> None:
    account_id = organization.member(access_role="Another")
    organization.age_account(account_id)

    delivery = stage.enroll(account_id)

    assert (delivery.finished, delivery.delays) == ([account_id], {})
    assert stage.status(account_id) == ("failed", "no_access_role")
    error = stage.row(account_id)["error"]
    for part in (ACCESS_ROLE, "AWSControlTowerExecution", "Invited accounts", "AccessRoleNames", "trust"):
        assert part in error


def test_denial_in_a_new_account_is_retried(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    account_id = organization.member()
    boundary.fail("iam:CreateRole", "InvalidClientTokenId", "The security token included in the request is invalid.")

    assert stage.enroll(account_id).delays == {account_id: 30}

    assert stage.status(account_id) == ("failed", "not_ready")
    assert stage.row(account_id)["access_role"] == ACCESS_ROLE
    assert "CreateRole" in stage.row(account_id)["error"]


def test_failed_check_revokes_nothing(organization: Organization, stage: Stage) -> None:
    account_id = organization.member()
    stage.enroll(account_id)
    since = stage.row(account_id)["enrolled_at"]
    organization.age_account(account_id)
    organization.iam(account_id).delete_role(RoleName=ACCESS_ROLE)

    stage.enroll(account_id)

    assert stage.status(account_id) == ("failed", "no_access_role")
    assert organization.granted() == {account_id}
    assert organization.has_role(account_id)
    row = stage.row(account_id)
    assert (row["access"], row["enrolled_at"]) == ("granted", since)
    assert "in_force_since" in row
