"""One local AWS organization for all tests of this directory: each makes the accounts that it needs."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.organization import LocalOrganization
from local.waiting import until


@pytest.fixture(scope="session")
def organization() -> Iterator[LocalOrganization]:
    with LocalOrganization() as started:
        yield started


@pytest.fixture(scope="session")
def account(organization: LocalOrganization) -> str:
    """A member account in which tests make roles of their own."""
    return organization.create_account("shared")


class Events:
    """What the management account's default bus delivers."""

    def __init__(self, organization: LocalOrganization) -> None:
        sqs, rules = organization.client("sqs"), organization.client("events")
        self._receive: Callable[..., Any] = sqs.receive_message
        self._url = sqs.create_queue(QueueName="heard")["QueueUrl"]
        arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:heard"
        rules.put_rule(Name="heard", EventPattern=json.dumps({"source": ["aws.organizations"]}))
        rules.put_targets(Rule="heard", Targets=[{"Id": "heard", "Arn": arn}])
        self._heard: list[dict[str, Any]] = []

    def named(self, name: str, account_id: str = "") -> dict[str, Any]:
        """Wait for an event of a name that mentions an account."""

        def heard() -> dict[str, Any] | None:
            answer = self._receive(QueueUrl=self._url, MaxNumberOfMessages=10)
            self._heard += [json.loads(message["Body"]) for message in answer.get("Messages", [])]
            matching = [event for event in self._heard if event["detail"]["eventName"] == name]
            return next((event for event in matching if account_id in json.dumps(event)), None)

        return until(heard, f"event {name} of {account_id}", seconds=10)

    def names_about(self, account_id: str) -> list[str]:
        """Tell which events mentioned an account, of those heard so far."""
        return [event["detail"]["eventName"] for event in self._heard if account_id in json.dumps(event)]


@pytest.fixture(scope="session")
def events(organization: LocalOrganization) -> Events:
    return Events(organization)
