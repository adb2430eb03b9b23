"""Checks of where the credentials lead: the region, the account, the organization."""

from typing import TYPE_CHECKING

from rolecall.doctor.result import Check, CheckResult, failed, ok

if TYPE_CHECKING:
    from mypy_boto3_organizations.type_defs import OrganizationTypeDef


def check_region(region: str, event_region: str) -> CheckResult:
    """Check that the stage's region is the one with the organization's events."""
    if region == event_region:
        return ok(f"{region}, where organization events are delivered")
    return failed(
        f"{region}: organization events are delivered only in {event_region}",
        f"rolecall --region {event_region} doctor",
    )


def check_account(account_id: str, organization: "OrganizationTypeDef | None") -> CheckResult:
    """Check that the account of the credentials is the management account."""
    if organization is None:
        return failed(
            f"{account_id} is not in an organization",
            "sign in to an organization's management account, or: aws organizations create-organization",
        )
    management = organization["MasterAccountId"]
    if account_id != management:
        return failed(
            f"{account_id} is a member of {organization['Id']}, whose management account is {management}",
            f"rolecall --profile … doctor, with a profile of account {management}",
        )
    return ok(f"{account_id} is the management account of {organization['Id']}")


def check_features(organization: "OrganizationTypeDef | None") -> CheckResult:
    """Check that all features are enabled, which access roles and policies need."""
    features = organization["FeatureSet"] if organization else "no organization"
    if features == "ALL":
        return ok("all features of the organization are enabled")
    return failed(f"not all features are enabled: {features}", "aws organizations enable-all-features")


CHECKS = (
    Check(
        name="region",
        run=lambda context: check_region(context.stage.region, context.event_region),
        permissions=(),
        needs_stage=False,
    ),
    Check(
        name="account",
        run=lambda context: check_account(context.account_id, context.organization),
        permissions=("organizations:DescribeOrganization",),
        needs_stage=False,
    ),
    Check(
        name="features",
        run=lambda context: check_features(context.organization),
        permissions=("organizations:DescribeOrganization",),
        needs_stage=False,
    ),
)
