"""The calls that Rolecall makes for one account, for any client: the same calls for every baseline."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from benchmarks.deployment import ENVIRON
from benchmarks.stub.role_states import RoleState, account_id
from chalicelib.member_role import MemberRole, desired_role
from chalicelib.session_policies import member_role_write
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_sts import STSClient

ACCESS_ROLE = "OrganizationAccountAccessRole"


@dataclass(frozen=True)
class ReferenceCalls:
    """The calls for an account in one role state, with precomputed arguments."""

    role_state: RoleState
    desired: MemberRole
    session_policy: str
    role_name: str

    @classmethod
    def of(cls, role_state: RoleState) -> "ReferenceCalls":
        """Compute the arguments."""
        settings = Settings.from_env(ENVIRON)
        some = account_id(role_state, 0)
        return cls(
            role_state, desired_role(settings, some), member_role_write(settings, some).text, settings.member_role_name
        )

    def assume(self, sts: "STSClient", account_id: str) -> Any:  # noqa: ANN401 - boto3 and botocore clients return different types
        """Assume the access role of an account and return the credentials."""
        return sts.assume_role(
            RoleArn=f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}",
            RoleSessionName="rolecall-bench",
            Policy=self.session_policy,
            DurationSeconds=900,
        )["Credentials"]

    def work(self, iam: "IAMClient") -> None:
        """Make the IAM calls."""
        name = self.role_name
        if self.role_state is RoleState.NEW:
            self._create(iam)
            return
        iam.get_role(RoleName=name)
        iam.list_attached_role_policies(RoleName=name)
        iam.list_role_policies(RoleName=name)
        for policy_name in self.desired.inline:
            iam.get_role_policy(RoleName=name, PolicyName=policy_name)
        if self.role_state is RoleState.DRIFTED:
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
