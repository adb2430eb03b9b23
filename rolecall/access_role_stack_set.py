"""The StackSet that creates the stage's access role in every account: trusted access, failed instances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

from rolecall.aws_errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

ACTIVATE = "aws cloudformation activate-organizations-access"
"""The command that activates trusted access for StackSets, in the management account."""

_FAILURES: tuple[Literal["FAILED", "CANCELLED", "INOPERABLE"], ...] = ("FAILED", "CANCELLED", "INOPERABLE")
"""The states of an instance without an up-to-date role; suspended accounts are skipped.

StackInstanceComprehensiveStatus in the "AWS CloudFormation API Reference".
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedInstance:
    """An account in which the access role was not created, updated or deleted, its target, and why."""

    account_id: str
    unit_id: str
    state: str
    reason: str

    def __str__(self) -> str:
        """Return the account, the state and the reason."""
        return f"{self.account_id} {self.state}: {self.reason or 'CloudFormation shows no reason'}"


def read_failed_instances(cloudformation: "CloudFormationClient", name: str) -> tuple[FailedInstance, ...] | None:
    """Return the failed instances of a StackSet, sorted by account, or None if there is no such StackSet."""
    paginator, found = cloudformation.get_paginator("list_stack_instances"), []
    with translate_errors(f"listing the instances of StackSet {name}"):
        try:
            for state in _FAILURES:  # A filter has one value, and an organization may have thousands of instances.
                pages = paginator.paginate(StackSetName=name, Filters=[{"Name": "DETAILED_STATUS", "Values": state}])
                found += [(state, each) for page in pages for each in page.get("Summaries", [])]
        except ClientError as error:
            if error.response["Error"]["Code"] == "StackSetNotFoundException":
                return None
            raise
    failed = (
        FailedInstance(
            account_id=each.get("Account", ""),
            unit_id=each.get("OrganizationalUnitId", ""),
            state=state,
            reason=each.get("StatusReason", ""),
        )
        for state, each in found
    )
    return tuple(sorted(failed, key=lambda each: each.account_id))


def retry_command(name: str, region: str, failures: Sequence[FailedInstance]) -> str:
    """Return the command that deploys to the accounts of failed instances again."""
    units, accounts = (sorted({getattr(each, of) for each in failures}) for of in ("unit_id", "account_id"))
    targets = f"OrganizationalUnitIds={','.join(units)},Accounts={','.join(accounts)},AccountFilterType=INTERSECTION"
    return (
        f"aws cloudformation update-stack-instances --stack-set-name {name} --region {region} --regions {region} "
        f"--deployment-targets {targets}"
    )


def stack_set_exists(cloudformation: "CloudFormationClient", name: str) -> bool:
    """Whether a StackSet of this name exists."""
    with translate_errors(f"describing StackSet {name}"):
        try:
            status = cloudformation.describe_stack_set(StackSetName=name)["StackSet"].get("Status")
        except ClientError as error:
            if error.response["Error"]["Code"] == "StackSetNotFoundException":
                return False
            raise
    return status != "DELETED"


def trusted_access(cloudformation: "CloudFormationClient") -> str:
    """Return the state of StackSets' trusted access to the organization: ENABLED, DISABLED or DISABLED_PERMANENTLY."""
    with translate_errors("reading the trusted access of StackSets"):
        return cloudformation.describe_organizations_access().get("Status", "DISABLED")
