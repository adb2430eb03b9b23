"""Which stack contains a role: every region is queried, and an error isn't a negative result."""

from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.stacks import Stacks
from chalicelib.bootstrap import Application
from chalicelib.errors import AccountError, Reason
from tests.unit.builders import MEMBER, environ

ROLE = f"arn:aws:iam::{MEMBER}:role/Reader"
SCP = "not authorized, with an explicit deny in a service control policy"
NONE = ("ValidationError", "Stack for Reader does not exist")
DENIED, NOT_ENABLED = ("AccessDenied", SCP), ("InvalidClientTokenId", "The security token is invalid.")


class Region:
    """CloudFormation in a region: an error, or the statuses of a resource of each name."""

    def __init__(self, error: tuple[str, str] | None = None, **statuses: str) -> None:
        self._error = error
        self._statuses = statuses
        self.calls = 0

    def describe_stack_resources(self, **asked: str) -> dict[str, Any]:
        assert asked == {"PhysicalResourceId": "Reader"}
        self.calls += 1
        if self._error is not None:
            code, message = self._error
            raise ClientError({"Error": {"Code": code, "Message": message}}, "DescribeStackResources")
        return {
            "StackResources": [
                {"StackName": f"Of{name}", "PhysicalResourceId": name, "ResourceStatus": status}
                for name, status in self._statuses.items()
            ]
        }


def stacks(*regions: Region) -> Stacks:
    return Stacks(lambda: {f"region-{number}": cast("Any", region) for number, region in enumerate(regions)})


@pytest.mark.parametrize(
    ("regions", "owner"),
    [
        ([Region(NONE), Region(NONE)], None),
        ([Region(NONE), Region(Other="CREATE_COMPLETE", Reader="UPDATE_COMPLETE")], "OfReader in region-1"),
        ([Region(Reader="DELETE_FAILED")], "OfReader in region-0"),
        ([Region(Reader="DELETE_SKIPPED")], None),
        ([Region(Reader="DELETE_COMPLETE")], None),
        ([Region(NOT_ENABLED), Region(DENIED), Region(NONE)], None),
        ([Region(NOT_ENABLED), Region(DENIED), Region(Reader="CREATE_COMPLETE")], "OfReader in region-2"),
    ],
)
def test_stack_that_contains_a_role_is_found_in_any_region(regions: list[Region], owner: str | None) -> None:
    assert stacks(*regions).owner(ROLE) == owner


def test_role_that_is_not_among_the_first_hundred_resources_is_in_the_stack() -> None:
    others = {f"R{number}": "CREATE_COMPLETE" for number in range(100)}
    assert stacks(Region(None, **others)).owner(ROLE) == "OfR0 in region-0"


@pytest.mark.parametrize(
    ("regions", "reason", "text"),
    [
        ([Region(NONE), Region(("AccessDenied", "no"))], Reason.ACCESS_DENIED, f"region-1 .* contains {ROLE}: Acc"),
        ([Region(NOT_ENABLED), Region(DENIED)], Reason.SCP_DENIED, SCP),
        ([Region(NOT_ENABLED)], Reason.ACCESS_DENIED, "InvalidClientTokenId"),
        ([Region(("Throttling", "Rate exceeded"))], Reason.THROTTLED, "Rate exceeded"),
        ([Region(("ValidationError", "1 validation error detected"))], Reason.REJECTED, "1 validation error"),
        ([], Reason.REJECTED, "there is no region"),
    ],
)
def test_unanswered_question_is_an_error(regions: list[Region], reason: Reason, text: str) -> None:
    with pytest.raises(AccountError, match=text) as caught:
        stacks(*regions).owner(ROLE)

    assert caught.value.reason is reason


def test_stacks_are_looked_for_in_every_region_of_the_partition() -> None:
    session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name="cn-north-1")
    assert Application(environ("aws-cn"), session)._stack_clients().keys() == {"cn-north-1", "cn-northwest-1"}


def test_clients_are_created_once_and_only_when_needed() -> None:
    created: list[Region] = []

    def create() -> dict[str, Any]:
        created.append(Region(NONE))
        return {"region": created[-1]}

    found = Stacks(create)
    assert created == []
    for _ in range(2):
        found.owner(ROLE)
    assert [region.calls for region in created] == [2]
