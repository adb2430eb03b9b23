"""An AWS organization in moto: its management account, its members, and what IAM holds in each."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import boto3
import pytest
from moto import mock_aws
from moto.backends import get_backend

from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

MANAGEMENT = "123456789012"  # the account that moto starts in
REGION = "us-east-1"
ACCESS_ROLE = "OrganizationAccountAccessRole"
MEMBER_ROLE = "CrossAccountReadOnlyRole"
SOURCE_POLICY = "CrossAccountReadOnlyAccess"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
NO_ACCOUNT = "000000000000"  # what a shard that grants no account names
READER = f"arn:aws:iam::{MANAGEMENT}:role/Reader"
OURS = {"managed-by": "rolecall", "rolecall-stage": "test"}


@dataclass(frozen=True)
class Role:
    """A role as IAM holds it."""

    trust: dict[str, Any]
    tags: dict[str, str]
    attached: set[str]
    inline: dict[str, Any]
    boundary: str | None
    max_session: int


@dataclass(frozen=True)
class Policy:
    """A managed policy as IAM holds it: what its default version says, and its versions, oldest first."""

    document: dict[str, Any]
    versions: list[str]
    tags: dict[str, str]
    attached: set[str]

    @property
    def accounts(self) -> set[str]:
        """The accounts that the source policy names."""
        (statement,) = (each for each in self.document["Statement"] if each["Effect"] == "Allow")
        return set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"]) - {NO_ACCOUNT}


@dataclass
class Clock:
    """The functions' time: the real one, and what they waited for besides."""

    waited: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.waited

    def pause(self, seconds: float) -> None:
        self.waited += seconds


class Operator:
    """Who sets the scene and looks at what came of it; its clients are made once, since each reads AWS's models."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session
        self.organizations = session.client("organizations")
        self.sts = session.client("sts")
        self.sqs = session.client("sqs")
        self.dynamodb = session.resource("dynamodb")


class Organization:
    """The management account, its members, and what is in them."""

    def __init__(self, boundary: Boundary, operator: "Operator", functions: Mapping[str, boto3.Session]) -> None:
        self.boundary = boundary
        self.operator = operator
        self.functions = functions
        self.clock = Clock()
        self._iam: dict[str, IAMClient] = {}
        self.organizations = operator.organizations
        self.id = self.organizations.create_organization(FeatureSet="ALL")["Organization"]["Id"]
        self.make_role(READER)
        boundary.find_role = self.find_role

    def member(self, name: str = "Workload", *, access_role: str = ACCESS_ROLE) -> str:
        """Create an account, with its access role."""
        made = self.organizations.create_account(
            Email=f"{name.lower()}@organization.example", AccountName=name, RoleName=access_role
        )
        return made["CreateAccountStatus"]["AccountId"]

    def unit(self, parent: str | None = None) -> str:
        """Create an organizational unit below another, or below the root."""
        made = self.organizations.create_organizational_unit(ParentId=parent or self._root, Name="Unit")
        return made["OrganizationalUnit"]["Id"]

    def move(self, account_id: str, unit: str) -> None:
        parent = self.organizations.list_parents(ChildId=account_id)["Parents"][0]["Id"]
        self.organizations.move_account(AccountId=account_id, SourceParentId=parent, DestinationParentId=unit)

    @property
    def _root(self) -> str:
        return self.organizations.list_roots()["Roots"][0]["Id"]

    def alter(self, account_id: str, **attributes: Any) -> None:
        """Change what Organizations tells of an account and no call of ours can change."""
        account = get_backend("organizations")[MANAGEMENT]["aws"].get_account_by_id(account_id)
        for name, value in attributes.items():
            setattr(account, name, value)

    def grow_old(self, account_id: str) -> None:
        """Let an account have joined a month ago."""
        self.alter(account_id, create_time=datetime.now(UTC).replace(tzinfo=None) - timedelta(days=30))

    def depart(self, account_id: str) -> Callable[[], None]:
        """Take an account out of the organization, and answer what brings it back."""
        backend = get_backend("organizations")[MANAGEMENT]["aws"]
        account = backend.get_account_by_id(account_id)
        backend.accounts.remove(account)
        return lambda: backend.accounts.append(account)

    def iam(self, account_id: str) -> "IAMClient":
        """Act in an account as its own administrator."""
        if account_id not in self._iam:
            entered = self.operator.sts.assume_role(
                RoleArn=f"arn:aws:iam::{account_id}:role/Administrator", RoleSessionName="test"
            )["Credentials"]
            self._iam[account_id] = self.operator.session.client(
                "iam",
                aws_access_key_id=entered["AccessKeyId"],
                aws_secret_access_key=entered["SecretAccessKey"],
                aws_session_token=entered["SessionToken"],
            )
        return self._iam[account_id]

    def find_role(self, account_id: str, name: str) -> str | None:
        """Tell the ARN of a role by its name alone, path and all."""
        for role in get_backend("iam")[account_id]["aws"].roles.values():
            if role.name == name:
                return f"arn:aws:iam::{account_id}:role{role.path}{name}"
        return None

    def make_role(self, arn: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Create a role that trusts nobody in particular."""
        account_id, (_, *path, name) = arn.split(":")[4], arn.split("/")
        self.iam(account_id).create_role(
            RoleName=name,
            Path=f"/{'/'.join(path)}/" if path else "/",
            AssumeRolePolicyDocument="{}",
            Tags=_tag_list(tags or {}),
        )

    def lose_role(self, account_id: str, name: str) -> None:
        """Delete a role with all that is on it, if it is there."""
        role = self.role(account_id, name)
        if role is None:
            return
        iam = self.iam(account_id)
        for arn in role.attached:
            iam.detach_role_policy(RoleName=name, PolicyArn=arn)
        for policy_name in role.inline:
            iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
        iam.delete_role(RoleName=name)

    def make_policy(
        self, name: str, *, account_id: str = MANAGEMENT, document: Any = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Create a managed policy."""
        anything = {"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}
        said = document or {"Version": "2012-10-17", "Statement": [anything]}
        made = self.iam(account_id).create_policy(
            PolicyName=name, PolicyDocument=json.dumps(said), Tags=_tag_list(tags or {})
        )
        return made["Policy"]["Arn"]

    def lose_policy(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> None:
        """Delete a managed policy with all its versions, from whomever it is attached to."""
        iam, arn = self.iam(account_id), f"arn:aws:iam::{account_id}:policy/{name}"
        holders = iam.list_entities_for_policy(PolicyArn=arn)
        for role in holders["PolicyRoles"]:
            iam.detach_role_policy(RoleName=role["RoleName"], PolicyArn=arn)
        for user in holders["PolicyUsers"]:
            iam.detach_user_policy(UserName=user["UserName"], PolicyArn=arn)
        for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        iam.delete_policy(PolicyArn=arn)

    def write_by_hand(self, versions: int, *, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> None:
        """Write further versions of a policy that say the same, and make none of them the default one."""
        iam, arn = self.iam(account_id), f"arn:aws:iam::{account_id}:policy/{name}"
        policy = self.policy(name, account_id)
        if policy is None:
            message = f"{arn} has no versions yet"
            raise ValueError(message)
        for _ in range(versions):
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(policy.document))

    def role(self, account_id: str, name: str = MEMBER_ROLE) -> Role | None:
        """Look at a role, the member role if no other is named."""
        if self.find_role(account_id, name) is None:
            return None
        iam = self.iam(account_id)
        role: Any = iam.get_role(RoleName=name)["Role"]
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        return Role(
            trust=role["AssumeRolePolicyDocument"],
            tags={tag["Key"]: tag["Value"] for tag in role.get("Tags", [])},
            attached={each["PolicyArn"] for each in attached},
            inline={each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in inline},
            boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
            max_session=role["MaxSessionDuration"],
        )

    def policy(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> Policy | None:
        """Look at a managed policy, the source policy if no other is named."""
        iam, arn = self.iam(account_id), f"arn:aws:iam::{account_id}:policy/{name}"
        try:
            policy: Any = iam.get_policy(PolicyArn=arn)["Policy"]
        except iam.exceptions.NoSuchEntityException:
            return None
        version: Any = iam.get_policy_version(PolicyArn=arn, VersionId=policy["DefaultVersionId"])["PolicyVersion"]
        said = version["Document"]
        holders = iam.list_entities_for_policy(PolicyArn=arn)
        versions = [each["VersionId"] for each in iam.list_policy_versions(PolicyArn=arn)["Versions"]]
        return Policy(
            document=said if isinstance(said, dict) else json.loads(unquote(said)),
            versions=sorted(versions, key=lambda each: int(each[1:])),
            tags={tag["Key"]: tag["Value"] for tag in policy.get("Tags", [])},
            attached={each["RoleName"] for each in holders["PolicyRoles"]}
            | {each["UserName"] for each in holders["PolicyUsers"]},
        )

    def named(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> set[str]:
        """List the accounts that the source policy names."""
        policy = self.policy(name, account_id)
        return policy.accounts if policy else set()


@contextmanager
def founded(boundary: Boundary, operator: Operator, functions: Mapping[str, boto3.Session]) -> Iterator[Organization]:
    """Found an organization, which is gone afterwards."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Rolecall")  # as every function has it
        yield Organization(boundary, operator, functions)
    metrics.clear_metrics()


def _tag_list(tags: Mapping[str, str]) -> Any:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
