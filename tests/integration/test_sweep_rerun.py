"""A rerun sends failed accounts again, and redrives the dead-letter queues."""

import json

import pytest
from botocore.exceptions import ClientError

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import ACCESS_ROLE, MEMBER_ROLE, Organization
from tests.integration.stage import Stage, planned

SCHEDULED_EVENT = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}


@pytest.fixture
def failed(organization: Organization, stage: Stage) -> tuple[str, str]:
    """An account with a foreign role, and one without an access role."""
    foreign, invited = organization.member("Foreign"), organization.member("Invited", access_role="NotYet")
    organization.age_account(invited)
    organization.create_role(f"arn:aws:iam::{foreign}:role/{MEMBER_ROLE}")
    stage.enroll(foreign, invited)
    assert [stage.status(each)[1] for each in (foreign, invited)] == ["foreign_role", "no_access_role"]
    return foreign, invited


def test_rerun_enrolls_only_failed_accounts(
    organization: Organization, boundary: Boundary, stage: Stage, failed: tuple[str, str]
) -> None:
    """An account whose message is still retried is not sent either."""
    enrolled, waiting = organization.member("Enrolled"), organization.member("Waiting", access_role="NotYet")
    stage.enroll(enrolled, waiting)
    organization.delete_role(failed[0])
    organization.create_role(f"arn:aws:iam::{failed[1]}:role/{ACCESS_ROLE}")
    before = stage.row(enrolled), stage.row(waiting)

    with boundary.recording() as calls:
        dry_run = stage.run("rerun", {"dry_run": True})
    assert writes(calls) == []
    assert planned(dry_run) == dict.fromkeys(failed, ("enrolled", None, "created"))

    response = stage.run("rerun")
    delivery = stage.drain()

    assert response["counts"] == {"sent": 2, "redrive_started": True}
    assert sorted(delivery.finished) == sorted(failed)
    assert {stage.status(account_id) for account_id in failed} == {("enrolled", None)}
    assert {stage.row(account_id)["trigger"] for account_id in failed} == {"rerun"}
    assert (stage.row(enrolled), stage.row(waiting)) == before
    assert organization.granted() == {enrolled, *failed}


@pytest.mark.parametrize("status", ["RUNNING", "CANCELLING"])
def test_redrive_is_not_started_beside_another(
    boundary: Boundary, stage: Stage, failed: tuple[str, str], status: str
) -> None:
    stage.move_tasks = [{"Status": status}]

    with boundary.recording() as calls:
        response = stage.run("rerun")

    assert response["counts"] == {"sent": 2, "redrive_started": False}
    assert "sqs:StartMessageMoveTask" not in {call.operation for call in calls}
    assert sorted(stage.drain().finished) == sorted(failed)


def test_redrive_that_just_began_does_not_stop_a_rerun(
    boundary: Boundary, stage: Stage, failed: tuple[str, str]
) -> None:
    """The list of move tasks is eventually consistent."""
    boundary.fail("sqs:StartMessageMoveTask", "InvalidParameterValue", "There is already a task running.", status=400)

    assert stage.run("rerun")["counts"] == {"sent": 2, "redrive_started": False}
    assert sorted(stage.drain().finished) == sorted(failed)


def test_redrive_that_is_denied_fails_the_rerun(boundary: Boundary, stage: Stage) -> None:
    boundary.fail("sqs:StartMessageMoveTask")

    with pytest.raises(ClientError, match="AccessDenied"):
        stage.run("rerun")


def test_both_dead_letter_queues_are_redriven(organization: Organization, stage: Stage) -> None:
    account_id = organization.member()
    stage.send(json.dumps({"account_id": account_id, "trigger": "event"}), "AccountsDeadLetterQueue")
    stage.send("{}", "PublishDeadLetterQueue")

    response = stage.run("rerun")

    assert response["counts"] == {"sent": 0, "redrive_started": True}
    assert stage.queued("AccountsDeadLetterQueue") == stage.queued("PublishDeadLetterQueue") == []
    assert (len(stage.queued()), len(stage.queued("PublishQueue"))) == (1, 2)
    assert stage.drain().finished == [account_id]
    assert stage.status(account_id) == ("enrolled", None)


def test_schedule_sends_accounts_that_a_block_refused_at_once(
    organization: Organization, stage: Stage, failed: tuple[str, str]
) -> None:
    """A block is not counted as an attempt; other failures are sent at growing intervals."""
    newcomer = organization.member("Newcomer")
    stage.edit(
        "#status", blocked={"reason": "no_source_principal", "error": "no"}, looked_at="2099-01-01T00:00:00+00:00"
    )
    stage.enqueue(newcomer)
    stage.deliver_accounts()
    assert stage.status(newcomer) == ("failed", "no_source_principal")
    assert stage.row(newcomer)["attempts"] == 0
    stage.age_row(failed[0], minutes=61)

    response = stage.run("rerun", SCHEDULED_EVENT)
    stage.drain()

    assert response["counts"]["sent"] == 2
    assert stage.status(newcomer) == ("enrolled", None)
    assert [stage.row(account_id)["attempts"] for account_id in failed] == [2, 1]
