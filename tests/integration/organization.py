"""An AWS organization in moto: its management account, its members, and the roles and policies in their IAM."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import boto3
from moto import mock_aws
from moto.backends import get_backend

from tests.integration.boundary import Boundary
from tests.integration.permissions import Request, is_allowed

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

MANAGEMENT = "123456789012"  # moto's default account
REGION = "us-east-1"
ACCESS_ROLE = "OrganizationAccountAccessRole"
MEMBER_ROLE = "CrossAccountReadOnlyRole"
SOURCE_POLICY = "CrossAccountReadOnlyAccess"
SOURCE_POLICY_ARN = f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"
SECOND_SHARD = f"{SOURCE_POLICY}-2"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
SOURCE_PRINCIPAL = f"arn:aws:iam::{MANAGEMENT}:role/Reader"
OTHER_PRINCIPAL = f"arn:aws:iam::{MANAGEMENT}:role/Other"
SOURCE_USER = f"arn:aws:iam::{MANAGEMENT}:user/reader"
STAGE_TAGS = {"managed-by": "rolecall", "rolecall-stage": "test"}
_NO_ACCOUNT = "000000000000"  # in the condition of a shard that grants no account


@dataclass(frozen=True)
class Role:
    """A role as IAM contains it."""

    trust: dict[str, Any]
    tags: dict[str, str]
    attached: set[str]
    inline: dict[str, Any]
    boundary: str | None
    max_session: int


@dataclass(frozen=True)
class Policy:
    """A managed policy as IAM contains it: the document of its default version, and its versions, oldest first."""

    document: dict[str, Any]
    versions: list[str]
    tags: dict[str, str]
    attached: set[str]

    @property
    def condition(self) -> Any:
        """The condition of the statement that allows."""
        (statement,) = (each for each in self.document["Statement"] if each["Effect"] == "Allow")
        return statement["Condition"]

    @property
    def accounts(self) -> set[str]:
        """The accounts that a shard grants."""
        return set(self.condition["StringEquals"]["aws:ResourceAccount"]) - {_NO_ACCOUNT}

    @property
    def is_wide(self) -> bool:
        """Whether the policy grants the whole organization."""
        return "aws:ResourceAccount" not in self.condition["StringEquals"]

    @property
    def denials(self) -> list[dict[str, Any]]:
        """The statements that deny."""
        return [each for each in self.document["Statement"] if each["Effect"] == "Deny"]


@dataclass
class Clock:
    """The functions' clock: the real time plus what was waited."""

    waited: float = 0.0
    meanwhile: Callable[[], object] = lambda: None  # what happens during a pause

    def __call__(self) -> float:
        return time.time() + self.waited

    def pause(self, seconds: float) -> None:
        self.waited += seconds
        self.meanwhile()


class Operator:
    """An administrator's clients, which set a test's scene and read its outcome; made once, since each loads AWS's models."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session
        self.organizations = session.client("organizations")
        self.sts = session.client("sts")
        self.sqs = session.client("sqs")
        self.dynamodb = session.resource("dynamodb")


class Organization:
    """The management account, its members, and their IAM."""

    def __init__(self, boundary: Boundary, operator: Operator, functions: Mapping[str, boto3.Session]) -> None:
        self.boundary = boundary
        self.operator = operator
        self.functions = functions
        self.clock = Clock()
        self._iam: dict[str, IAMClient] = {}
        self.organizations = operator.organizations
        self.id = self.organizations.create_organization(FeatureSet="ALL")["Organization"]["Id"]
        self.create_role(SOURCE_PRINCIPAL)
        boundary.find_role = self.find_role
        boundary.find_tags = self.find_tags
        self._index: Callable[[], list[dict[str, Any]]] = lambda: self._tagged

    # Accounts.

    def member(self, name: str = "Workload", *, access_role: str = ACCESS_ROLE) -> str:
        """Create an account with its access role, and return its id."""
        created = self.organizations.create_account(
            Email=f"{name.lower()}@organization.example", AccountName=name, RoleName=access_role
        )
        return created["CreateAccountStatus"]["AccountId"]

    def members(self, count: int) -> list[str]:
        return [self.member(f"Workload{number}") for number in range(count)]

    def unit(self, parent: str | None = None) -> str:
        """Create an organizational unit in another, or in the root."""
        created = self.organizations.create_organizational_unit(ParentId=parent or self._root, Name="Unit")
        return created["OrganizationalUnit"]["Id"]

    def move(self, account_id: str, unit: str) -> None:
        parent = self.organizations.list_parents(ChildId=account_id)["Parents"][0]["Id"]
        self.organizations.move_account(AccountId=account_id, SourceParentId=parent, DestinationParentId=unit)

    def tag(self, account_id: str, **tags: str | None) -> None:
        """Set tags of an account, and remove those whose value is None."""
        for key, value in tags.items():
            if value is None:
                self.organizations.untag_resource(ResourceId=account_id, TagKeys=[key])
            else:
                self.organizations.tag_resource(ResourceId=account_id, Tags=[{"Key": key, "Value": value}])

    def stop_indexing(self) -> None:
        """Have the tagging API return the tags as they are now, whatever changes."""
        index = self._tagged
        self._index = lambda: index

    @property
    def _tagged(self) -> list[dict[str, Any]]:
        """The accounts that have a tag, and the management account, as one that had some."""
        tagged = (each for each in self._backend.accounts if each.tags or each.id == MANAGEMENT)
        return [{"ResourceARN": each.arn, "Tags": _tag_list(each.tags)} for each in tagged]

    def tagged_resources(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page of the tagging API, which moto lacks for accounts."""
        assert params["ResourceTypeFilters"] == ["organizations:account"]
        start, size, tagged = int(params.get("PaginationToken") or 0), params["ResourcesPerPage"], self._index()
        token = str(start + size) if start + size < len(tagged) else ""
        return {"ResourceTagMappingList": tagged[start : start + size], "PaginationToken": token}

    @property
    def _root(self) -> str:
        return self.organizations.list_roots()["Roots"][0]["Id"]

    def set_state(self, account_id: str, state: str) -> None:
        """Set an account's state, which most AWS calls can't."""
        account = self._backend.get_account_by_id(account_id)
        account.status = account.state = state

    def age_account(self, account_id: str, **ago: float) -> None:
        """Have an account joined some time ago, a month by default."""
        joined_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(**(ago or {"days": 30}))
        self._backend.get_account_by_id(account_id).create_time = joined_at

    def depart(self, account_id: str) -> Callable[[], None]:
        """Remove an account from the organization, and return a function that readmits it."""
        account = self._backend.get_account_by_id(account_id)
        self._backend.accounts.remove(account)
        return lambda: self._backend.accounts.append(account)

    @property
    def _backend(self) -> Any:
        return get_backend("organizations")[MANAGEMENT]["aws"]

    def iam(self, account_id: str = MANAGEMENT) -> "IAMClient":
        """Return a client of an account's administrator."""
        if account_id not in self._iam:
            credentials = self.operator.sts.assume_role(
                RoleArn=f"arn:aws:iam::{account_id}:role/Administrator", RoleSessionName="test"
            )["Credentials"]
            self._iam[account_id] = self.operator.session.client(
                "iam",
                aws_access_key_id=credentials["AccessKeyId"],
                aws_secret_access_key=credentials["SecretAccessKey"],
                aws_session_token=credentials["SessionToken"],
            )
        return self._iam[account_id]

    # Roles.

    def find_role(self, account_id: str, name: str) -> str | None:
        """Return the ARN, with its path, of the role with a name, or None if there is none."""
        for role in get_backend("iam")[account_id]["aws"].roles.values():
            if role.name == name:
                return f"arn:aws:iam::{account_id}:role{role.path}{name}"
        return None

    def find_tags(self, account_id: str, params: Mapping[str, Any]) -> dict[str, str]:
        """Return the tags of the role, or else the policy, that the parameters of a call name; none if it doesn't exist."""
        iam = get_backend("iam")[account_id]["aws"]
        if "RoleName" in params:
            found = [tag for role in iam.roles.values() if role.name == params["RoleName"] for tag in role.tags]
        else:
            policy = iam.managed_policies.get(params.get("PolicyArn", ""))
            found = policy.get_tags() if policy else []
        return {tag["Key"]: tag["Value"] for tag in found}

    def has_role(self, account_id: str, name: str = MEMBER_ROLE) -> bool:
        return self.find_role(account_id, name) is not None

    def role(self, account_id: str, name: str = MEMBER_ROLE) -> Role:
        """Return a role, the member role by default."""
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

    def create_role(self, arn: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Create a role with an empty trust policy."""
        account_id, (_, *path, name) = arn.split(":")[4], arn.split("/")
        self.iam(account_id).create_role(
            RoleName=name,
            Path=f"/{'/'.join(path)}/" if path else "/",
            AssumeRolePolicyDocument="{}",
            Tags=_tag_list(tags or {}),
        )

    def delete_role(self, account_id: str, name: str = MEMBER_ROLE) -> None:
        """Delete a role with its policies, if it exists."""
        if not self.has_role(account_id, name):
            return
        iam, role = self.iam(account_id), self.role(account_id, name)
        for arn in role.attached:
            iam.detach_role_policy(RoleName=name, PolicyArn=arn)
        for policy_name in role.inline:
            iam.delete_role_policy(RoleName=name, PolicyName=policy_name)
        iam.delete_role(RoleName=name)

    # Managed policies.

    def has_policy(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> bool:
        return _policy_arn(name, account_id) in get_backend("iam")[account_id]["aws"].managed_policies

    def policy(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> Policy:
        """Return a managed policy, the first shard by default."""
        iam, arn = self.iam(account_id), _policy_arn(name, account_id)
        policy: Any = iam.get_policy(PolicyArn=arn)["Policy"]
        version: Any = iam.get_policy_version(PolicyArn=arn, VersionId=policy["DefaultVersionId"])["PolicyVersion"]
        document = version["Document"]
        entities = iam.list_entities_for_policy(PolicyArn=arn)
        versions = [each["VersionId"] for each in iam.list_policy_versions(PolicyArn=arn)["Versions"]]
        return Policy(
            document=document if isinstance(document, dict) else json.loads(unquote(document)),
            versions=sorted(versions, key=lambda each: int(each[1:])),
            tags={tag["Key"]: tag["Value"] for tag in policy.get("Tags", [])},
            attached={each["RoleName"] for each in entities["PolicyRoles"]}
            | {each["UserName"] for each in entities["PolicyUsers"]},
        )

    def granted(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> set[str]:
        """Return the accounts that a shard grants in IAM; none if it doesn't exist."""
        return self.policy(name, account_id).accounts if self.has_policy(name, account_id) else set()

    def create_policy(
        self, name: str, *, account_id: str = MANAGEMENT, document: Any = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Create a managed policy, and return its ARN."""
        statement = {"Effect": "Allow", "Action": "iam:GetAccountSummary", "Resource": "*"}
        document = document or {"Version": "2012-10-17", "Statement": [statement]}
        created = self.iam(account_id).create_policy(
            PolicyName=name, PolicyDocument=json.dumps(document), Tags=_tag_list(tags or {})
        )
        return created["Policy"]["Arn"]

    def add_versions(self, count: int, *, account_id: str = MANAGEMENT) -> None:
        """Add versions with the same document to the first shard; the default version stays."""
        document = json.dumps(self.policy(account_id=account_id).document)
        for _ in range(count):
            self.iam(account_id).create_policy_version(
                PolicyArn=_policy_arn(SOURCE_POLICY, account_id), PolicyDocument=document
            )

    def delete_policy(self, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> None:
        """Delete a managed policy with its versions and attachments."""
        iam, arn = self.iam(account_id), _policy_arn(name, account_id)
        entities = iam.list_entities_for_policy(PolicyArn=arn)
        for role in entities["PolicyRoles"]:
            iam.detach_role_policy(RoleName=role["RoleName"], PolicyArn=arn)
        for user in entities["PolicyUsers"]:
            iam.detach_user_policy(UserName=user["UserName"], PolicyArn=arn)
        for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
        iam.delete_policy(PolicyArn=arn)

    def attach(self, role: str = "Reader", arn: str = SOURCE_POLICY_ARN) -> None:
        """Attach a policy to a role of the management account, the source policy to the source principal by default."""
        self.iam().attach_role_policy(RoleName=role, PolicyArn=arn)

    def detach(self, arn: str = SOURCE_POLICY_ARN) -> None:
        """Detach a policy from the source principal, the source policy by default."""
        self.iam().detach_role_policy(RoleName="Reader", PolicyArn=arn)

    def recreate_reader(self) -> None:
        """Delete the source principal, and create a role of the same name, to which nothing is attached."""
        self.delete_role(MANAGEMENT, "Reader")
        self.create_role(SOURCE_PRINCIPAL)

    def assumable(self, role: str = "Reader") -> set[str]:
        """Return the accounts whose member role a role of the management account may assume, by its policies."""
        if not self.has_role(MANAGEMENT, role):
            return set()
        names = [arn.rpartition("/")[2] for arn in self.role(MANAGEMENT, role).attached]
        statements = [each for name in names for each in self.policy(name).document["Statement"]]
        return {account_id for account_id in self._member_ids if is_allowed(self._assumption(account_id), statements)}

    @property
    def _member_ids(self) -> list[str]:
        return [account.id for account in self._backend.accounts]

    def _assumption(self, account_id: str) -> Request:
        context: dict[str, str | list[str]] = {"aws:ResourceOrgID": self.id, "aws:ResourceAccount": account_id}
        return Request("sts:AssumeRole", f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}", context)

    def set_default_version(self, version_id: str, name: str = SOURCE_POLICY) -> None:
        """Make a version of a policy its default one, by hand."""
        self.iam().set_default_policy_version(PolicyArn=_policy_arn(name, MANAGEMENT), VersionId=version_id)

    def attach_others(self, count: int) -> list[str]:
        """Attach other policies to the source principal, which has room for ten, and return their ARNs."""
        arns = [self.create_policy(f"Other{number}") for number in range(count)]
        for arn in arns:
            self.attach(arn=arn)
        return arns


@contextmanager
def organization_in_moto(
    boundary: Boundary, operator: Operator, functions: Mapping[str, boto3.Session]
) -> Iterator[Organization]:
    """Create an organization that exists within the block."""
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield Organization(boundary, operator, functions)


def _policy_arn(name: str, account_id: str) -> str:
    return f"arn:aws:iam::{account_id}:policy/{name}"


def _tag_list(tags: Mapping[str, str]) -> Any:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
