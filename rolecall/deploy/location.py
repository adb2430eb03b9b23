"""Where a stage is deployed: the partition, account and region of the credentials."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.deploy.problems import Problems
from rolecall.partitions import EVENT_REGIONS

if TYPE_CHECKING:
    from mypy_boto3_organizations.type_defs import OrganizationTypeDef

DEFAULT_REGION = EVENT_REGIONS["aws"]
"""The region of a deployment if none is configured."""


@dataclass(frozen=True, slots=True)
class Location:
    """The partition, account and region of the credentials."""

    partition: str
    account_id: str
    region: str
    caller_arn: str = ""


def read_location(client: ClientFactory, region: str) -> Location:
    """Return the location of the credentials."""
    with translate_errors("reading the account of the credentials"):
        caller = client("sts").get_caller_identity()
    return Location(caller["Arn"].split(":")[1], caller["Account"], region, caller["Arn"])


def check_location(client: ClientFactory, location: Location, problems: Problems) -> bool:
    """Return whether it may be an organization's management account, and add a problem if not, or if no events are delivered there."""
    event_region = EVENT_REGIONS.get(location.partition, location.region)
    if location.region != event_region:
        problems.add(
            f"the region is {location.region}, and organization events are delivered only in {event_region}",
            f"pass --region {event_region} before the command, or set AWS_REGION",
        )
    with problems.collect():
        organization = _organization(client)
        if organization is None:
            problems.add(
                f"account {location.account_id} is not in an organization",
                "use credentials of an organization's management account",
            )
            return False
        if organization["MasterAccountId"] != location.account_id:
            problems.add(
                f"the credentials are of account {location.account_id} ({location.caller_arn}), and the organization's management account is "
                f"{organization['MasterAccountId']}",
                "use credentials of the management account, where events are delivered and which access roles trust",
            )
            return False
        if organization["FeatureSet"] != "ALL":
            problems.add(
                "the organization has only consolidated billing, without which access roles and policies don't exist",
                "enable all features: aws organizations enable-all-features",
            )
    return True


def _organization(client: ClientFactory) -> "OrganizationTypeDef | None":
    with translate_errors("reading the organization"):
        try:
            return client("organizations").describe_organization()["Organization"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "AWSOrganizationsNotInUseException":
                return None
            raise
