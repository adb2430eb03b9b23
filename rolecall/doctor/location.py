"""Checks of where the credentials lead: to the management account, its region and its organization."""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from rolecall.aws_errors import DENIED
from rolecall.doctor.context import Context
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


def check_credentials(caller_arn: str, organization: "OrganizationTypeDef | None") -> CheckResult:
    """Check that the credentials are of the management account."""
    if organization is None:
        return failed(
            f"{caller_arn} is not of an account in an organization",
            "sign in to an organization's management account, or: aws organizations create-organization",
        )
    management = organization["MasterAccountId"]
    if caller_arn.split(":")[4] != management:
        return failed(
            f"{caller_arn} is not of the management account of {organization['Id']}, {management}",
            f"rolecall --profile … doctor, with a profile of account {management}",
        )
    return ok(f"{caller_arn}, of the management account of {organization['Id']}")


def _check_credentials(context: Context) -> CheckResult:
    try:
        organization = context.organization
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED or context.may_read_stage:
            raise
        return failed(
            f"{context.caller_arn} may read neither the organization nor stage {context.stage.name}, as is usual for a source principal",
            "rolecall --profile … doctor, with an operator's profile of the management account",
        )
    return check_credentials(context.caller_arn, organization)


def check_features(organization: "OrganizationTypeDef | None") -> CheckResult:
    """Check that all features are enabled, which access roles and policies need."""
    features = organization["FeatureSet"] if organization else "no organization"
    if features == "ALL":
        return ok("all features of the organization are enabled")
    return failed(f"not all features are enabled: {features}", "aws organizations enable-all-features")


CHECKS = (
    Check(
        name="credentials",
        run=_check_credentials,
        permissions=("organizations:DescribeOrganization",),
        needs_stage=False,
    ),
    Check(
        name="region",
        run=lambda context: check_region(context.stage.region, context.event_region),
        permissions=(),
        needs_stage=False,
    ),
    Check(
        name="features",
        run=lambda context: check_features(context.organization),
        permissions=("organizations:DescribeOrganization",),
        needs_stage=False,
    ),
)
