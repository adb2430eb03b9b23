"""The calls that an account of each kind takes, made by whatever clients: the floor, and what others make of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from benchmarks.deployment import ENVIRON
from benchmarks.stub.kinds import Kind, account_id
from chalicelib.member_role import MemberRole, desired_role
from chalicelib.session_policies import member_role_write
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_sts import STSClient

ACCESS_ROLE = "OrganizationAccountAccessRole"


@dataclass(frozen=True)
class SameCalls:
    """Makes the calls that Rolecall makes for an account of a kind, with every argument worked out beforehand."""

    kind: Kind
    desired: MemberRole
    session_policy: str
    role_name: str

    @classmethod
    def of(cls, kind: Kind) -> "SameCalls":
        """Work the arguments out."""
        settings = Settings.from_env(ENVIRON)
        some = account_id(kind, 0)
        return cls(
            kind, desired_role(settings, some), member_role_write(settings, some).text, settings.member_role_name
        )

    def assume(self, sts: "STSClient", account_id: str) -> Any:  # noqa: ANN401 - whose types differ by who asks
        """Enter an account."""
        return sts.assume_role(
            RoleArn=f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}",
            RoleSessionName="rolecall-bench",
            Policy=self.session_policy,
            DurationSeconds=900,
        )["Credentials"]

    def work(self, iam: "IAMClient") -> None:
        """Make the calls of IAM."""
        name = self.role_name
        if self.kind is Kind.NEW:
            self._create(iam)
            return
        iam.get_role(RoleName=name)
        iam.list_attached_role_policies(RoleName=name)
        iam.list_role_policies(RoleName=name)
        for policy_name in self.desired.inline:
            iam.get_role_policy(RoleName=name, PolicyName=policy_name)
        if self.kind is Kind.DRIFTED:
            iam.detach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=self.desired.trust.text)

    def _create(self, iam: "IAMClient") -> None:
        try:
            iam.get_role(RoleName=self.role_name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
        iam.create_role(
            RoleName=self.role_name,
            AssumeRolePolicyDocument=self.desired.trust.text,
            Description="Read-only role that Rolecall keeps in every account of the organization",
            MaxSessionDuration=self.desired.max_session,
            Tags=[{"Key": key, "Value": value} for key, value in self.desired.tags.items()],
        )
        for policy_name, document in self.desired.inline.items():
            iam.put_role_policy(RoleName=self.role_name, PolicyName=policy_name, PolicyDocument=document.text)
        for policy_arn in self.desired.attached:
            iam.attach_role_policy(RoleName=self.role_name, PolicyArn=policy_arn)
