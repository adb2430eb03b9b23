"""The packaged app's announcements, as a rule's target receives them."""

import json
from typing import Any

import jsonschema
import pytest

from local.organization import LocalOrganization
from local.waiting import wait_until
from tests.conftest import ROOT
from tests.end_to_end.deployed_stage import Deploy, DeployedStage, environment_changed


class Target:
    """A queue that a rule on the stage's events sends to."""

    def __init__(self, organization: LocalOrganization, stage: str, bus: str) -> None:
        self._sqs, events = organization.client("sqs"), organization.client("events")
        self._url = self._sqs.create_queue(QueueName="outcomes")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
        pattern = {"source": [f"rolecall.{stage}"]}
        events.put_rule(Name="outcomes", EventBusName=bus, EventPattern=json.dumps(pattern))
        events.put_targets(Rule="outcomes", EventBusName=bus, Targets=[{"Id": "queue", "Arn": attributes["QueueArn"]}])
        self.events: list[dict[str, Any]] = []

    def of(self, account_id: str) -> list[dict[str, Any]]:
        """Return the events of an account so far."""
        received = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        for message in received:
            self.events.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [each for each in self.events if each["detail"]["account_id"] == account_id]

    def wait_for(self, account_id: str, detail_type: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((each for each in self.of(account_id) if each["detail-type"] == detail_type), None)

        return wait_until(found, f"{detail_type} of {account_id}")


@pytest.fixture(scope="module")
def stage(deploy: Deploy, organization: LocalOrganization, reader: str) -> DeployedStage:
    organization.client("events").create_event_bus(Name="accounts")
    return deploy("announcing", SourcePrincipalArns=reader, EventBusName="accounts")


@pytest.fixture(scope="module")
def target(stage: DeployedStage, organization: LocalOrganization) -> Target:
    return Target(organization, stage.name, "accounts")


def test_role_of_an_announced_account_can_be_assumed_at_once(
    stage: DeployedStage, organization: LocalOrganization, target: Target, reader: str
) -> None:
    account_id = organization.create_account("New")

    event = target.wait_for(account_id, "Account Enrolled")
    session = stage.assume_member_role(account_id, reader)

    detail, row = event["detail"], stage.row(account_id) or {}
    jsonschema.validate(detail, json.loads((ROOT / "docs" / "events.schema.json").read_text()))
    assert session
    assert (event["source"], detail["name"], detail["ou_path"]) == ("rolecall.announcing", "New", [])
    assert (detail["role_arn"], detail["in_force_since"]) == (row["role_arn"], row["in_force_since"])
    stage.invoke("retire", accounts=[account_id])
    assert target.wait_for(account_id, "Account Retired")["detail"]["previous_outcome"] == "enrolled"


def test_broken_announcements_delay_nothing_and_lose_nothing(
    stage: DeployedStage, organization: LocalOrganization, target: Target
) -> None:
    """The function may put no events on another bus."""
    with environment_changed(stage, "announce_outcome", EVENT_BUS_NAME="default"):
        account_id = organization.create_account("Meanwhile")
        stage.wait_for_outcome(account_id, "enrolled")
        announced = target.of(account_id)

    assert announced == []
    assert target.wait_for(account_id, "Account Enrolled")
