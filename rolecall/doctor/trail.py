"""Whether CloudTrail hands the organization's events to EventBridge: a trail must log them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rolecall.doctor.finding import Check, Finding, ok, wrong
from rolecall.doctor.patient import Patient

_EVENT = {"eventCategory": "Management", "readOnly": "false", "eventSource": "organizations.amazonaws.com"}
"""What every event of Organizations that matters here is, by the fields that a trail selects management events by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trail:
    """A trail of the region of the events, or one of all regions."""

    name: str
    home_region: str
    is_logging: bool
    selectors: dict[str, Any]

    @property
    def records_writes(self) -> bool:
        """Whether it records write management events, those of Organizations among them."""
        basic: Sequence[dict[str, Any]] = self.selectors.get("EventSelectors") or ()
        advanced: Sequence[dict[str, Any]] = self.selectors.get("AdvancedEventSelectors") or ()
        # What basic selectors can leave out of management events is KMS and RDS ("EventSelector" in the "AWS CloudTrail API Reference").
        return any(
            each.get("IncludeManagementEvents", True) and each.get("ReadWriteType", "All") in {"All", "WriteOnly"}
            for each in basic
        ) or any(all(map(_selects, each["FieldSelectors"])) for each in advanced)


def _selects(selector: dict[str, Any]) -> bool:
    """Tell whether one field's selector lets the event through; one of a field that is not known here may not."""
    value = _EVENT.get(selector["Field"])
    if value is None:
        return False
    wanted = (
        any(value == each for each in selector.get("Equals", ()))
        or any(value.startswith(each) for each in selector.get("StartsWith", ()))
        or any(value.endswith(each) for each in selector.get("EndsWith", ()))
        or not any(selector.get(operator) for operator in ("Equals", "StartsWith", "EndsWith"))
    )
    unwanted = (
        any(value == each for each in selector.get("NotEquals", ()))
        or any(value.startswith(each) for each in selector.get("NotStartsWith", ()))
        or any(value.endswith(each) for each in selector.get("NotEndsWith", ()))
    )
    return wanted and not unwanted


def judge(trails: Sequence[Trail], region: str) -> Finding:
    """Judge all trails that see the region: one that logs write management events is enough."""
    good = [trail.name for trail in trails if trail.is_logging and trail.records_writes]
    if good:
        return ok(f"{good[0]} logs the write management events of {region}")
    for trail in trails:
        if trail.records_writes:
            return wrong(f"trail {trail.name} is not logging", _start(trail.name, trail.home_region))
    for trail in trails:
        return wrong(
            f"trail {trail.name} records no write management events",
            f"aws cloudtrail put-event-selectors --trail-name {trail.name} --region {trail.home_region} "
            "--event-selectors ReadWriteType=All,IncludeManagementEvents=true"
            + ("" if trail.is_logging else f"; {_start(trail.name, trail.home_region)}"),
        )
    return wrong(
        f"there is no trail of {region}: EventBridge hears nothing of the organization",
        "aws cloudtrail create-trail --name management-events --s3-bucket-name … --is-multi-region-trail "
        f"--region {region}; {_start('management-events', region)}",
    )


def _start(name: str, region: str) -> str:
    return f"aws cloudtrail start-logging --name {name} --region {region}"


def _look(patient: Patient) -> Finding:
    region = patient.event_region
    trails = []
    for told in patient.stage.client("cloudtrail", region_name=region).describe_trails()["trailList"]:
        home = told["HomeRegion"]
        if home != region and not told.get("IsMultiRegionTrail"):
            continue
        # A trail is changed in its home region alone (InvalidHomeRegionException in the "AWS CloudTrail API Reference"), so it
        # is asked there, too.
        cloudtrail, arn = patient.stage.client("cloudtrail", region_name=home), told["TrailARN"]
        trails.append(
            Trail(
                name=told["Name"],
                home_region=home,
                is_logging=cloudtrail.get_trail_status(Name=arn)["IsLogging"],
                selectors=cloudtrail.get_event_selectors(TrailName=arn),
            )
        )
    return judge(trails, region)


CHECKS = (
    Check(
        name="trail",
        look=_look,
        permissions=("cloudtrail:DescribeTrails", "cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors"),
        of_stage=False,
    ),
)
