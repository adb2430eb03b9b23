"""What the checks read: a stage and the account around it."""

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from chalicelib.accounts import LedgerRow
from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from chalicelib.source_policy.records import Records
from rolecall.aws_errors import translate_errors
from rolecall.errors import DeniedError, NotDeployedError
from rolecall.partitions import EVENT_REGIONS
from rolecall.shard_drift import read_drift
from rolecall.source_policy_state import SourcePolicyState, read_source_policy
from rolecall.stage import Stage

if TYPE_CHECKING:
    from mypy_boto3_iam.literals import SummaryKeyTypeType
    from mypy_boto3_organizations.type_defs import OrganizationTypeDef


class Context:
    """A stage, with the data that several checks need, read once."""

    def __init__(self, stage: Stage, account: AccountId | None = None) -> None:
        """Take the stage, and the account whose access role is tested, or None to choose one."""
        self.stage = stage
        self.account = account

    @cached_property
    def caller_arn(self) -> str:
        """The ARN of the credentials' principal."""
        with translate_errors("reading the principal of the credentials"):
            return self.stage.client("sts").get_caller_identity()["Arn"]

    @property
    def partition(self) -> str:
        """The partition of the credentials."""
        return self.caller_arn.split(":")[1]

    @property
    def account_id(self) -> str:
        """The account of the credentials."""
        return self.caller_arn.split(":")[4]

    @property
    def event_region(self) -> str:
        """The region in which Organizations delivers events; in an unknown partition, the stage's region."""
        return EVENT_REGIONS.get(self.partition, self.stage.region)

    @cached_property
    def organization(self) -> "OrganizationTypeDef | None":
        """The organization, or None if the account is in none."""
        organizations = self.stage.client("organizations")
        try:
            return organizations.describe_organization()["Organization"]
        except organizations.exceptions.AWSOrganizationsNotInUseException:
            return None

    @property
    def may_read_stage(self) -> bool:
        """Whether these credentials may read the configuration of the stage's functions."""
        try:
            _ = self.stage.configuration
        except DeniedError:
            return False
        except NotDeployedError:
            pass
        return True

    @property
    def settings(self) -> Settings:
        """The deployed settings."""
        return self.stage.settings

    @cached_property
    def rows(self) -> list[LedgerRow]:
        """The ledger's rows."""
        return self.stage.rows()

    @cached_property
    def records(self) -> Records:
        """The items of the source-policy table."""
        return self.stage.records()

    @cached_property
    def source_policy(self) -> SourcePolicyState:
        """The state of the source policy, compared with IAM."""
        drift = read_drift(self.stage, self.records, datetime.now(UTC))
        return read_source_policy(self.records, self.settings, drift)

    @cached_property
    def account_summary(self) -> "dict[SummaryKeyTypeType, int]":
        """The account's IAM quotas."""
        return self.stage.client("iam").get_account_summary()["SummaryMap"]

    def aws(self, command: str) -> str:
        """Return a command of the AWS CLI for the stage's region."""
        return f"aws {command} --region {self.stage.region}"

    def deploy(self, option: str = "") -> str:
        """Return the command that deploys the stage."""
        return f"rolecall deploy {self.stage.name}" + (f" {option}" if option else "")
