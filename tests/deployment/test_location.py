"""The account and region of a deployment, in each partition."""

from typing import Any, cast

import boto3
import pytest
from botocore.stub import Stubber

from rolecall.clients import ClientFactory
from rolecall.deploy.location import Location, check_location
from rolecall.deploy.problems import Problems
from rolecall.partitions import EVENT_REGIONS

_MANAGEMENT = "111122223333"


def _problems(partition: str, account_id: str, region: str, features: str = "ALL") -> list[str]:
    """Return the problems of a location; the organization's management account is 111122223333."""
    organizations = boto3.client("organizations", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    problems = Problems()
    with Stubber(organizations) as stubber:
        organization: dict[str, Any] = {"MasterAccountId": _MANAGEMENT, "FeatureSet": features}
        stubber.add_response("describe_organization", {"Organization": organization})
        client = cast("ClientFactory", lambda _: organizations)
        check_location(client, Location(partition, account_id, region), problems)
    return problems.found


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_region_of_the_organizations_events_is_accepted(partition: str) -> None:
    assert _problems(partition, _MANAGEMENT, EVENT_REGIONS[partition]) == []


@pytest.mark.parametrize(
    ("partition", "account_id", "region", "features", "error"),
    [
        ("aws", _MANAGEMENT, "eu-west-1", "ALL", "pass --region us-east-1"),
        ("aws-us-gov", _MANAGEMENT, "us-gov-east-1", "ALL", "pass --region us-gov-west-1"),
        ("aws-cn", _MANAGEMENT, "cn-north-1", "ALL", "pass --region cn-northwest-1"),
        ("aws", "444455556666", "us-east-1", "ALL", "management account is 111122223333"),
        ("aws", _MANAGEMENT, "us-east-1", "CONSOLIDATED_BILLING", "enable all features"),
    ],
)
def test_location_without_events_or_access_roles_is_rejected(
    partition: str, account_id: str, region: str, features: str, error: str
) -> None:
    (problem,) = _problems(partition, account_id, region, features)
    assert error in problem


def test_account_without_an_organization_is_rejected() -> None:
    organizations = boto3.client("organizations", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    problems = Problems()
    with Stubber(organizations) as stubber:
        stubber.add_client_error("describe_organization", "AWSOrganizationsNotInUseException")
        check_location(cast("ClientFactory", lambda _: organizations), Location("aws", "1", "us-east-1"), problems)
    assert problems.found[0].startswith("account 1 is not in an organization")
