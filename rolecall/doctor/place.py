"""Whether these credentials lead to where an organization's events are heard: account, region, organization."""

from typing import Any

from rolecall.doctor.finding import Check, Finding, ok, wrong


def judge_region(region: str, event_region: str) -> Finding:
    """Judge the region that is looked at."""
    if region == event_region:
        return ok(f"{region}, where the organization's events are heard")
    return wrong(
        f"{region}, and the organization's events are heard in {event_region} alone",
        f"rolecall --region {event_region} doctor",
    )


def judge_account(account_id: str, organization: dict[str, Any] | None) -> Finding:
    """Judge the account that the credentials are of."""
    if organization is None:
        return wrong(
            f"{account_id} is in no organization",
            "sign in to an organization's management account, or: aws organizations create-organization",
        )
    leader = organization["MasterAccountId"]
    if account_id != leader:
        return wrong(
            f"{account_id} is a member of {organization['Id']}, whose management account is {leader}",
            f"rolecall --profile … doctor, with a profile of account {leader}",
        )
    return ok(f"{account_id} is the management account of {organization['Id']}")


def judge_features(organization: dict[str, Any] | None) -> Finding:
    """Judge what the organization may do: access roles and policies take all features."""
    features = organization["FeatureSet"] if organization else "no organization"
    if features == "ALL":
        return ok("the organization has all features on")
    return wrong(f"the organization has {features}, not all features", "aws organizations enable-all-features")


CHECKS = (
    Check(
        name="region",
        look=lambda patient: judge_region(patient.stage.region, patient.event_region),
        permissions=(),
        of_stage=False,
    ),
    Check(
        name="account",
        look=lambda patient: judge_account(patient.account_id, patient.organization),
        permissions=("organizations:DescribeOrganization",),
        of_stage=False,
    ),
    Check(
        name="features",
        look=lambda patient: judge_features(patient.organization),
        permissions=("organizations:DescribeOrganization",),
        of_stage=False,
    ),
)
