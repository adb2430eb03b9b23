"""An account that can't be entered: retried while it is new, and then failed with its remedies."""

import pytest

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


SCP_DENIAL = "is not authorized to perform: iam:CreateRole with an explicit deny in a service control policy"
RCP_DENIAL = "is not authorized to perform: iam:CreateRole with an explicit deny in a resource control policy"


@pytest.mark.parametrize(("message", "reason"), [(SCP_DENIAL, "scp_denied"), (RCP_DENIAL, "rcp_denied")])
def test_control_policy_on_a_new_account_is_retried(
    organization: Organization, boundary: Boundary, stage: Stage, message: str, reason: str
) -> None:
    """Landing zones attach a quarantine SCP to each new account for some time."""
    new, old = organization.members(2)
    organization.age_account(old)
    boundary.fail("iam:CreateRole", message=message)

    assert stage.enroll(new, old).delays == {new: 30}
    assert [stage.status(account_id) for account_id in (new, old)] == [("failed", "not_ready"), ("failed", reason)]


def test_pending_activation_is_retried_until_the_grace_ends(organization: Organization, stage: Stage) -> None:
    new, old = organization.members(2)
    organization.age_account(old)
    for account_id in (new, old):
        organization.set_state(account_id, "PENDING_ACTIVATION")

    assert stage.enroll(new, old).delays == {new: 30}

    assert stage.status(new) == ("failed", "not_ready")
    assert stage.status(old) == ("skipped", "pending_activation")


@pytest.fixture
def transferred(organization: Organization) -> str:
    """An account that Organizations shows as joined long ago, and that can't be entered yet."""
    account_id = organization.member(access_role="NotYet")
    organization.age_account(account_id)
    return account_id


def test_account_that_an_event_reports_is_new(organization: Organization, stage: Stage, transferred: str) -> None:
    """Conditions on the organization's id take 10 to 20 minutes to hold in an account of another organization."""
    stage.send_event("AccountJoinedOrganization", transferred)

    assert stage.deliver().delays == {transferred: 30}
    assert stage.status(transferred) == ("failed", "not_ready")

    organization.clock.pause(1200)
    organization.create_role(f"arn:aws:iam::{transferred}:role/{ACCESS_ROLE}")
    stage.skip_delays()
    assert stage.deliver().finished == [transferred]
    assert stage.status(transferred) == ("enrolled", None)


def test_merged_messages_keep_when_the_account_was_first_seen(stage: Stage, transferred: str) -> None:
    stage.send_event("AccountJoinedOrganization", transferred)
    stage.run("backfill")

    assert stage.deliver().delays == {transferred: 30}
    assert stage.status(transferred) == ("failed", "not_ready")


def test_account_that_a_resync_finds_is_new(stage: Stage, transferred: str) -> None:
    stage.run("resync", {"accounts": "new"})

    assert stage.deliver().delays == {transferred: 30}
    assert stage.status(transferred) == ("failed", "not_ready")


def test_account_that_returned_without_an_event_is_new(
    organization: Organization, stage: Stage, transferred: str
) -> None:
    stage.enroll(transferred)
    readmit = organization.depart(transferred)
    stage.run_and_drain("resync")
    assert stage.status(transferred)[1] == "departed"
    readmit()

    stage.run("resync", {"accounts": "new"})

    assert stage.deliver().delays == {transferred: 30}
    assert stage.status(transferred) == ("failed", "not_ready")


@pytest.mark.parametrize("found", ["event", "resync"])
def test_grace_of_first_sight_ends(organization: Organization, stage: Stage, transferred: str, found: str) -> None:
    if found == "event":
        stage.send_event("AccountJoinedOrganization", transferred)
    else:
        stage.run("resync", {"accounts": "new"})
    stage.deliver()
    organization.clock.pause(1801)
    stage.skip_delays()

    assert transferred in stage.deliver().finished
    assert stage.status(transferred) == ("failed", "no_access_role")

    stage.run("resync", {"accounts": "all"})

    assert transferred in stage.deliver().finished
    assert stage.status(transferred) == ("failed", "no_access_role")


def test_account_that_only_moves_or_is_asked_for_is_not_new(stage: Stage, transferred: str) -> None:
    """An operator who waits for a backfill is shown at once what is missing."""
    stage.run("backfill")
    assert transferred in stage.deliver().finished
    assert stage.status(transferred) == ("failed", "no_access_role")

    stage.send_event("MoveAccount", transferred)
    assert stage.deliver().finished == [transferred]
    assert stage.status(transferred) == ("failed", "no_access_role")


def test_reported_account_that_organizations_lacks_is_retried(organization: Organization, stage: Stage) -> None:
    account_id = organization.member()
    readmit = organization.depart(account_id)
    stage.send_event("CreateAccountResult", account_id)

    assert stage.deliver().delays == {account_id: 30}
    assert stage.statuses() == {}

    readmit()
    stage.skip_delays()
    assert stage.deliver().finished == [account_id]
    assert stage.status(account_id)[0] in {"enrolled", "pending"}


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
