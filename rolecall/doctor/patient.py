"""What is examined: a stage, and the account around it."""

from functools import cached_property
from typing import Any

from chalicelib.accounts import LedgerRow
from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.regions import EVENT_REGIONS
from rolecall.stage import Stage, told


class Patient:
    """A stage, and what several checks ask of it, asked once."""

    def __init__(self, stage: Stage, sample: AccountId | None = None) -> None:
        """Take the stage, and the account whose access role is to be tried where the operator names one."""
        self.stage = stage
        self.sample = sample

    @cached_property
    def caller_arn(self) -> str:
        """Whose credentials these are."""
        with told("asking whose credentials these are"):
            return str(self.stage.client("sts").get_caller_identity()["Arn"])

    @property
    def partition(self) -> str:
        """The partition that the credentials are of."""
        return self.caller_arn.split(":")[1]

    @property
    def account_id(self) -> str:
        """The account that the credentials are of."""
        return self.caller_arn.split(":")[4]

    @property
    def event_region(self) -> str:
        """The region that hears the organization's events; in a partition that isn't known, the one that is looked at."""
        return EVENT_REGIONS.get(self.partition, self.stage.region)

    @cached_property
    def organization(self) -> dict[str, Any] | None:
        """The organization, or None where the account is in none."""
        organizations = self.stage.client("organizations")
        try:
            found: dict[str, Any] = organizations.describe_organization()["Organization"]
        except organizations.exceptions.AWSOrganizationsNotInUseException:
            return None
        return found

    @property
    def settings(self) -> Settings:
        """The stage's settings."""
        return self.stage.settings

    @cached_property
    def rows(self) -> list[LedgerRow]:
        """The ledger."""
        return self.stage.rows()

    @cached_property
    def records(self) -> Records:
        """The source-policy table."""
        return self.stage.records()

    @cached_property
    def account_summary(self) -> dict[str, int]:
        """IAM's quotas in this account."""
        found: dict[str, int] = self.stage.client("iam").get_account_summary()["SummaryMap"]
        return found

    def aws(self, command: str) -> str:
        """Write a command of the AWS CLI, for this region."""
        return f"aws {command} --region {self.stage.region}"

    def deploy(self, parameters: str = "") -> str:
        """Write the command that deploys this stage."""
        return f"make deploy STAGE={self.stage.name} BUCKET=…" + (f' PARAMS="{parameters}"' if parameters else "")
