"""What failed is sent again once its cause is mended, and nothing else is."""

import json

from botocore.exceptions import EndpointConnectionError

from tests.integration.boundary import Boundary
from tests.integration.organization import MEMBER_ROLE, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import told, writes

SCHEDULED_EVENT = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}


def _failing(organization: Organization, stage: Stage) -> tuple[str, str, str, str]:
    """Have an account enrolled, one without an access role, one with a foreign role, and one whose message comes back."""
    enrolled, foreign = organization.member("Enrolled"), organization.member("Foreign")
    invited = organization.member("Invited", access_role="NotYet")
    organization.grow_old(invited)
    waits = organization.member("Waits", access_role="NotYet")
    organization.make_role(f"arn:aws:iam::{foreign}:role/{MEMBER_ROLE}")
    stage.enroll(enrolled, foreign, invited, waits)
    assert [stage.verdict(account_id)[1] for account_id in (enrolled, foreign, invited, waits)] == [
        None,
        "foreign_role",
        "no_access_role",
        "not_ready",
    ]
    return enrolled, foreign, invited, waits


def test_once_their_causes_are_mended_exactly_the_failed_accounts_are_enrolled(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    enrolled, foreign, invited, waits = _failing(organization, stage)
    organization.lose_role(foreign, MEMBER_ROLE)
    organization.make_role(f"arn:aws:iam::{invited}:role/OrganizationAccountAccessRole")
    before = stage.row(enrolled), stage.row(waits)

    with boundary.watching() as calls:
        dry_run = stage.run("rerun", {"dry_run": True})
    assert writes(calls) == []
    assert told(dry_run) == {
        foreign: ("enrolled", None, "created"),
        invited: ("enrolled", None, "created"),
    }

    answer = stage.run("rerun")
    delivery = stage.work()

    assert answer["counts"] == {"sent": 2, "redrive_started": True}
    assert sorted(delivery.finished) == sorted([foreign, invited])
    assert {stage.verdict(account_id) for account_id in (foreign, invited)} == {("enrolled", None)}
    assert {stage.row(account_id)["trigger"] for account_id in (foreign, invited)} == {"rerun"}
    assert (stage.row(enrolled), stage.row(waits)) == before
    assert organization.named() == {enrolled, foreign, invited}


def test_failed_accounts_are_rerun_by_reason_or_by_id(organization: Organization) -> None:
    stage = Stage(organization)
    enrolled, foreign, invited, waits = _failing(organization, stage)

    def rerun(**request: object) -> list[str]:
        stage.run("rerun", request)
        return sorted(stage.work().finished)

    assert rerun(reasons=["no_access_role"]) == [invited]
    assert rerun(reasons=["not_ready"]) == []
    assert rerun(accounts=[foreign, enrolled, waits, "111122223333"]) == [foreign]
    assert rerun(accounts="all") == sorted([foreign, invited])
    assert stage.row(foreign)["attempts"] == 3


def test_a_schedule_waits_longer_after_each_failure(organization: Organization) -> None:
    stage = Stage(organization)
    _, foreign, invited, _ = _failing(organization, stage)

    stage.run("rerun", SCHEDULED_EVENT)
    assert stage.work().finished == []

    stage.grow_old(foreign, minutes=61)
    stage.run("rerun", SCHEDULED_EVENT)
    assert stage.work().finished == [foreign]

    stage.grow_old(foreign, minutes=61)
    stage.grow_old(invited, minutes=61)
    stage.run("rerun", SCHEDULED_EVENT)
    assert stage.work().finished == [invited]
    assert (stage.row(foreign)["attempts"], stage.row(invited)["attempts"]) == (2, 2)


def test_the_dead_letter_queues_messages_come_back_each_once(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.break_off(
        "iam:*", EndpointConnectionError(endpoint_url="https://iam.amazonaws.com"), account_id=account_id
    )
    stage.ask(account_id)
    for _ in range(21):
        stage.let_delays_pass()
        stage.deliver()
    assert [json.loads(body)["account_id"] for body in stage.waiting("AccountsDeadLetterQueue")] == [account_id]
    boundary.mend()

    answer = stage.run("rerun")
    delivery = stage.work()

    assert answer["counts"] == {"sent": 0, "redrive_started": True}
    assert delivery.finished == [account_id]
    assert stage.waiting("AccountsDeadLetterQueue") == []
    assert stage.verdict(account_id) == ("enrolled", None)


def test_a_redrive_that_is_under_way_is_left_to_itself(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    _, foreign, invited, _ = _failing(organization, stage)
    stage.move_tasks = [{"Status": "RUNNING"}]

    with boundary.watching() as calls:
        answer = stage.run("rerun")

    assert answer["counts"] == {"sent": 2, "redrive_started": False}
    assert [call.operation for call in calls if "StartMessageMoveTask" in call.operation] == []
    assert sorted(stage.work().finished) == sorted([foreign, invited])


def test_messages_of_both_dead_letter_queues_are_redriven(organization: Organization) -> None:
    stage = Stage(organization)
    account_id = organization.member()
    stage.enroll(account_id)
    stage.fill(SOURCE_POLICY, {account_id, "999988887777"})
    stage.send_dead("Accounts", json.dumps({"account_id": account_id, "trigger": "event"}))
    stage.send_dead("Publish", "{}")

    answer = stage.run("rerun")

    assert answer["counts"] == {"sent": 0, "redrive_started": True}
    assert [len(stage.waiting(f"{name}DeadLetterQueue")) for name in ("Accounts", "Publish")] == [0, 0]
    assert (len(stage.waiting()), len(stage.waiting("PublishQueue"))) == (1, 2)
    assert stage.work().finished == [account_id]


def test_accounts_that_a_block_refused_are_rerun_by_schedule_at_once(organization: Organization) -> None:
    """A failure by a block is not counted as an attempt, so it is due without spacing; other failures are not."""
    stage = Stage(organization)
    _, foreign, invited, _ = _failing(organization, stage)
    newcomer = organization.member("Newcomer")
    stage.edit(
        "#status", blocked={"reason": "no_source_principal", "error": "no"}, looked_at="2099-01-01T00:00:00+00:00"
    )
    stage.ask(newcomer)
    stage.deliver_accounts()
    assert stage.verdict(newcomer) == ("failed", "no_source_principal")
    assert stage.row(newcomer)["attempts"] == 0

    answer = stage.run("rerun", SCHEDULED_EVENT)
    stage.work()

    assert answer["counts"]["sent"] == 1
    assert stage.verdict(newcomer) == ("enrolled", None)
    assert [stage.row(account_id)["attempts"] for account_id in (foreign, invited)] == [1, 1]
