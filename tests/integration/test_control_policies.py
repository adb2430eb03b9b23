"""A change of the organization's control policies makes the accounts that they denied due."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import Organization
from tests.integration.stage import Stage

SCHEDULED_EVENT = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
DENIAL = "is not authorized to perform: iam:CreateRole with an explicit deny in a service control policy"


@pytest.fixture
def denied(organization: Organization, boundary: Boundary, stage: Stage) -> str:
    """An account that a service control policy denied five times until a minute ago, and denies no longer."""
    account_id = organization.member()
    organization.age_account(account_id)
    boundary.fail("iam:CreateRole", message=DENIAL)
    for _ in range(5):
        stage.enroll(account_id)
    boundary.stop_faults()
    stage.age_row(account_id, minutes=1)
    assert stage.status(account_id) == ("failed", "scp_denied")
    assert stage.run("rerun", SCHEDULED_EVENT)["counts"]["sent"] == 0
    return account_id


def test_account_that_a_policy_was_detached_from_is_sent_at_once(stage: Stage, denied: str) -> None:
    stage.send_event("DetachPolicy", denied)

    assert stage.deliver().finished == [denied]
    assert stage.status(denied) == ("enrolled", None)


def test_moved_account_that_is_still_denied_is_due_again(boundary: Boundary, stage: Stage, denied: str) -> None:
    boundary.fail("iam:CreateRole", message=DENIAL)
    stage.send_event("MoveAccount", denied)
    stage.deliver()
    boundary.stop_faults()
    assert stage.status(denied) == ("failed", "scp_denied")

    assert stage.run("rerun", SCHEDULED_EVENT)["counts"]["sent"] == 1
    stage.drain()

    assert stage.status(denied) == ("enrolled", None)


@pytest.mark.parametrize("target", ["ou-ab12-11111111", "r-ab12"])
def test_policy_of_a_unit_makes_denied_accounts_due(stage: Stage, denied: str, target: str) -> None:
    """The organizational unit of an account is not in the ledger, so that every denied account is sent."""
    stage.send_event("DetachPolicy", target)
    assert stage.queued() == []

    assert stage.run("rerun", SCHEDULED_EVENT)["counts"]["sent"] == 1
    stage.drain()

    assert stage.status(denied) == ("enrolled", None)


def test_account_is_not_due_for_long_after_a_change(
    organization: Organization, boundary: Boundary, stage: Stage, denied: str
) -> None:
    """Changes take some time to be in effect, so that the first rerun may find the account still denied."""
    boundary.fail("iam:CreateRole", message=DENIAL)
    stage.send_event("DetachPolicy", "r-ab12")

    sent = []
    for _ in range(4):
        sent.append(stage.run("rerun", SCHEDULED_EVENT)["counts"]["sent"])
        stage.drain()
        organization.clock.pause(1200)

    assert sent == [1, 1, 0, 0]
    assert stage.status(denied) == ("failed", "scp_denied")


@pytest.mark.usefixtures("denied")
def test_many_changes_send_denied_accounts_once(stage: Stage) -> None:
    for _ in range(50):
        stage.send_event("DetachPolicy", "r-ab12")

    assert stage.queued() == []
    assert stage.run("rerun", SCHEDULED_EVENT)["counts"]["sent"] == 1
    stage.drain()
    assert stage.run("rerun", SCHEDULED_EVENT)["counts"]["sent"] == 0
