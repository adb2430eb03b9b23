"""Checks that CloudTrail delivers the organization's events to EventBridge, which needs a trail that logs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from botocore.config import Config

from rolecall.deploy.packaged_app import trail_template
from rolecall.doctor.context import Context
from rolecall.doctor.result import Check, CheckResult, failed, ok

if TYPE_CHECKING:
    from mypy_boto3_cloudtrail.type_defs import AdvancedFieldSelectorOutputTypeDef, GetEventSelectorsResponseTypeDef

_EVENT = {"eventCategory": "Management", "readOnly": "false", "eventSource": "organizations.amazonaws.com"}
"""The fields of Organizations' events by which a trail selects management events."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trail:
    """A trail of the events' region, or of all regions."""

    name: str
    home_region: str
    is_logging: bool
    selectors: "GetEventSelectorsResponseTypeDef"

    @property
    def records_writes(self) -> bool:
        """Whether the trail records write management events, those of Organizations included."""
        basic = self.selectors.get("EventSelectors") or ()
        advanced = self.selectors.get("AdvancedEventSelectors") or ()
        # Basic selectors can exclude only KMS and RDS ("EventSelector" in the "AWS CloudTrail API Reference").
        return any(
            each.get("IncludeManagementEvents", True) and each.get("ReadWriteType", "All") in {"All", "WriteOnly"}
            for each in basic
        ) or any(all(map(_selects, each["FieldSelectors"])) for each in advanced)


def _selects(selector: "AdvancedFieldSelectorOutputTypeDef") -> bool:
    """Whether the selector of one field selects the event; a selector of an unknown field may not."""
    value = _EVENT.get(selector["Field"])
    if value is None:
        return False
    selected = (
        any(value == each for each in selector.get("Equals", ()))
        or any(value.startswith(each) for each in selector.get("StartsWith", ()))
        or any(value.endswith(each) for each in selector.get("EndsWith", ()))
        or not any((selector.get("Equals"), selector.get("StartsWith"), selector.get("EndsWith")))
    )
    excluded = (
        any(value == each for each in selector.get("NotEquals", ()))
        or any(value.startswith(each) for each in selector.get("NotStartsWith", ()))
        or any(value.endswith(each) for each in selector.get("NotEndsWith", ()))
    )
    return selected and not excluded


def check_trails(trails: Sequence[Trail], region: str) -> CheckResult:
    """Check that one trail logs the write management events of the region."""
    working = [trail.name for trail in trails if trail.is_logging and trail.records_writes]
    if working:
        return ok(f"{working[0]} logs the write management events of {region}")
    for trail in trails:
        if trail.records_writes:
            return failed(f"trail {trail.name} is not logging", _start_logging(trail.name, trail.home_region))
    for trail in trails:
        return failed(
            f"trail {trail.name} records no write management events",
            f"aws cloudtrail put-event-selectors --trail-name {trail.name} --region {trail.home_region} "
            "--event-selectors ReadWriteType=All,IncludeManagementEvents=true"
            + ("" if trail.is_logging else f"; {_start_logging(trail.name, trail.home_region)}")
            + "; this replaces all selectors of the trail, which get-event-selectors shows: add those to keep",
        )
    return failed(
        f"no trail in {region}: EventBridge receives no organization events",
        "aws cloudformation deploy --stack-name management-events --template-file "
        f"{quote(str(trail_template()))} --region {region}",
    )


def _start_logging(name: str, region: str) -> str:
    return f"aws cloudtrail start-logging --name {name} --region {region}"


def _check(context: Context) -> CheckResult:
    region = context.event_region
    trails = []
    for listed in context.stage.client("cloudtrail", Config(region_name=region)).describe_trails()["trailList"]:
        home = listed["HomeRegion"]
        if home != region and not listed.get("IsMultiRegionTrail"):
            continue
        # A trail can only be changed in its home region (InvalidHomeRegionException in the "AWS CloudTrail API Reference"), so
        # its status is read there, too.
        cloudtrail, arn = context.stage.client("cloudtrail", Config(region_name=home)), listed["TrailARN"]
        trails.append(
            Trail(
                name=listed["Name"],
                home_region=home,
                is_logging=cloudtrail.get_trail_status(Name=arn)["IsLogging"],
                selectors=cloudtrail.get_event_selectors(TrailName=arn),
            )
        )
    return check_trails(trails, region)


CHECKS = (
    Check(
        name="trail",
        run=_check,
        permissions=("cloudtrail:DescribeTrails", "cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors"),
        needs_stage=False,
    ),
)
