"""The source policy's shards in IAM, in the source account, and the source principals that they are attached to."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, assert_never

from botocore.exceptions import ClientError

from chalicelib.arns import parse_principal, policy_arn
from chalicelib.aws.errors import error_code, translated
from chalicelib.aws.iam_roles import iam_document
from chalicelib.aws.sessions import Sessions
from chalicelib.aws.source_principals import DEFAULT_ATTACHMENTS, SourcePrincipals
from chalicelib.documents import Document
from chalicelib.errors import Reason, RetryableError, TerminalError
from chalicelib.ownership import Ownership
from chalicelib.session_policies import source_policy_delete, source_policy_read, source_policy_write
from chalicelib.settings import Settings
from chalicelib.source_policy.plan import (
    Action,
    AttachTo,
    CreatePolicy,
    DeleteVersion,
    DetachFrom,
    SourcePolicy,
    TagPolicy,
    WriteVersion,
)
from chalicelib.source_policy.records import MAX_SHARDS

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import PolicyTypeDef


class IamPolicies:
    """Reads and writes shards: with the function's own role in the management account, with an access role in another source account."""

    def __init__(
        self, settings: Settings, sessions: Sessions, client: "IAMClient", before_write: Callable[[], None]
    ) -> None:
        """Take the client that signs for the account that the sessions have entered, and what is called before each write."""
        self._settings = settings
        self._sessions = sessions
        self._client = client
        self._before_write = before_write
        self._principals = SourcePrincipals(settings, client, lambda: self._writer)

    @property
    def _writer(self) -> "IAMClient":
        """The client, for one call that writes: raises if it must not begin."""
        self._before_write()
        return self._client

    @contextmanager
    def _entered(self, doing: str, powers: Callable[[Settings], Document] = source_policy_read) -> Iterator[None]:
        session_policy = powers(self._settings)
        with self._sessions.entered(self._settings.source_account_id, session_policy), translated(doing):
            yield

    def owned(self, name: str) -> SourcePolicy | None:
        """Return the policy of a shard's name, or None if there is none; raise TerminalError if it isn't this stage's by its tags."""
        observed = self.observe(name)
        if observed is not None and not observed.tagged:
            raise _foreign(self._settings.ownership(self._arn(name), {}))
        return observed

    def observe(self, name: str) -> SourcePolicy | None:
        """Return a shard as IAM shows it, or None if there is none; raise TerminalError if its tags name another stage."""
        arn = self._arn(name)
        with self._entered(f"reading {arn}"):
            try:
                policy = self._client.get_policy(PolicyArn=arn)["Policy"]
            except ClientError as error:
                if error_code(error) == "NoSuchEntity":
                    return None
                raise
            tags = _tags(policy)
            ownership = self._settings.ownership(arn, tags)
            if ownership.is_other_stage:
                raise _foreign(ownership)
            default = policy["DefaultVersionId"]
            version = self._client.get_policy_version(PolicyArn=arn, VersionId=default)["PolicyVersion"]
            # By now the default may be a later one than GetPolicy answered.
            newer = [each for each in self._versions(arn, default=False) if _number(each) > _number(default)]
            # A role or user may also have the policy as its permissions boundary: that is no attachment.
            attached = frozenset(self._users(arn, PolicyUsageFilter="PermissionsPolicy"))
            groups = frozenset(user for user in attached if ":group/" in user)
            return SourcePolicy(
                name=name,
                document=iam_document(version["Document"]),
                attached=attached - groups,
                groups=groups,
                tagged=ownership.is_ours,
                strays=tuple(sorted(newer, key=_number)),
                version_id=default,
            )

    def delete(self, name: str) -> None:
        """Delete a shard: detach it, delete its versions, then the policy; repeating it is harmless.

        Raise TerminalError if it is attached to a group or is a permissions boundary, or if the operator has to detach it.
        """
        arn = self._arn(name)
        observed = self.observe(name)
        if observed is None:
            self._delete_unseen(arn)
            return
        if observed.attached and not self._settings.attach_source_policy:
            message = (
                f"{arn} is attached to {', '.join(sorted(observed.attached))}: detach it there, since publish doesn't with "
                "AttachSourcePolicy=false or another SourcePolicyName, and repeat the uninstall"
            )
            raise TerminalError(Reason.REJECTED, message)
        with self._entered(f"deleting {arn}", source_policy_delete):
            for principal_arn in sorted(observed.attached):
                self._principals.detach(arn, parse_principal(principal_arn))
            for version_id in self._versions(arn, default=False):
                self._writer.delete_policy_version(PolicyArn=arn, VersionId=version_id)
            try:
                self._writer.delete_policy(PolicyArn=arn)
            except ClientError as error:
                left = set(self._users(arn)) - observed.attached if error_code(error) == "DeleteConflict" else ()
                if not left:
                    raise
                message = f"{arn} is attached to {', '.join(sorted(left))}, or is the permissions boundary: remove it there, and repeat the uninstall"
                raise TerminalError(Reason.REJECTED, message) from error

    def _delete_unseen(self, arn: str) -> None:
        """Delete a policy that was created a moment ago and that IAM doesn't show yet."""
        with self._entered(f"deleting {arn}", source_policy_delete):
            try:
                self._writer.delete_policy(PolicyArn=arn)
            except ClientError as error:
                if error_code(error) == "DeleteConflict":
                    message = f"{arn} was created a moment ago, and IAM doesn't show it yet: it is retried"
                    raise RetryableError(Reason.STALE_READ, message) from error
                if error_code(error) != "NoSuchEntity":
                    raise

    def _versions(self, arn: str, *, default: bool = True) -> list[str]:
        pages = self._client.get_paginator("list_policy_versions").paginate(PolicyArn=arn)
        versions = [version for page in pages for version in page["Versions"]]
        return [version["VersionId"] for version in versions if default or not version["IsDefaultVersion"]]

    def _users(self, arn: str, **usage: Any) -> Iterator[str]:  # noqa: ANN401 - IAM's filter
        """Yield the ARNs of what uses a policy; IAM lists names, so only source principals have their path."""
        known = {(principal.kind, principal.name): principal.arn for principal in self._settings.source_principals}
        prefix = f"arn:{self._settings.partition}:iam::{self._settings.source_account_id}"
        for page in self._client.get_paginator("list_entities_for_policy").paginate(PolicyArn=arn, **usage):
            for role in page["PolicyRoles"]:
                yield known.get(("role", role["RoleName"]), f"{prefix}:role/{role['RoleName']}")
            for user in page["PolicyUsers"]:
                yield known.get(("user", user["UserName"]), f"{prefix}:user/{user['UserName']}")
            yield from (f"{prefix}:group/{group['GroupName']}" for group in page["PolicyGroups"])

    def room(self, names: Collection[str]) -> int:
        """Return how many shards every source principal has room for, besides its other policies; `names` are the shards'.

        Raise TerminalError if a source principal doesn't exist. Where the operator attaches, return IAM's default quota.
        """
        if not self._settings.attachable_principals:
            return DEFAULT_ATTACHMENTS
        with self._entered(f"reading the source principals in {self._settings.source_account_id}"):
            return max(min(self._principals.room(set(map(self._arn, names))), MAX_SHARDS), 0)

    def carry_out(self, name: str, action: Action) -> str | None:
        """Carry out one action on a shard, and return the version that it wrote, if it wrote one; repeating it is harmless."""
        arn = self._arn(name)
        with self._entered(f"{type(action).__name__} for {arn}", source_policy_write):
            match action:
                case CreatePolicy(document):
                    return self._create(name, document)
                case WriteVersion(document):
                    return self._write_version(arn, document)
                case TagPolicy():
                    self._tag(arn)
                case DeleteVersion(version_id):
                    self._delete_version(arn, version_id)
                case AttachTo(principal_arn):
                    self._principals.attach(arn, parse_principal(principal_arn))
                case DetachFrom(principal_arn):
                    self._principals.detach(arn, parse_principal(principal_arn))
                case _:
                    assert_never(action)
        return None

    def _create(self, name: str, document: Document) -> str:
        tags = self._settings.ownership_tags
        try:
            answer = self._writer.create_policy(
                PolicyName=name,
                PolicyDocument=document.text,
                Description="Lets the source principals assume the member roles; kept by Rolecall",
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
            return answer["Policy"]["DefaultVersionId"]
        except ClientError as error:
            if error_code(error) != "EntityAlreadyExists":
                raise
        # Created by a run that was stopped before it could record it, or by another owner.
        arn = self._arn(name)
        self._require_ownership(arn)
        return self._write_version(arn, document)

    def _require_ownership(self, arn: str) -> None:
        ownership = self._settings.ownership(arn, _tags(self._client.get_policy(PolicyArn=arn)["Policy"]))
        if not ownership.is_ours:
            raise _foreign(ownership)

    def _tag(self, arn: str) -> None:
        tags = self._settings.ownership_tags
        self._writer.tag_policy(PolicyArn=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])

    def _write_version(self, arn: str, document: Document) -> str:
        version_id = self._create_version(arn, document)
        if version_id is None:
            self._prune(arn)
            version_id = self._create_version(arn, document)
        if version_id is None:
            message = f"{arn} has five versions again: something else writes it, too; it is retried"
            raise RetryableError(Reason.STALE_READ, message)
        return version_id

    def _create_version(self, arn: str, document: Document) -> str | None:
        """Create a default version and return its id, or None if the policy has five."""
        try:
            answer = self._writer.create_policy_version(PolicyArn=arn, PolicyDocument=document.text, SetAsDefault=True)
        except ClientError as error:
            if error_code(error) != "LimitExceeded":
                raise
            return None
        return answer["PolicyVersion"]["VersionId"]

    def _prune(self, arn: str) -> None:
        """Delete the oldest version that is not the default one."""
        for version_id in sorted(self._versions(arn, default=False), key=_number):
            if self._delete_version(arn, version_id):
                return
        raise RetryableError(Reason.STALE_READ, f"IAM counts five versions of {arn} and lists none that can be deleted")

    def _delete_version(self, arn: str, version_id: str) -> bool:
        """Delete a version, or return False if it is gone, or the default: the list that named it was out of date."""
        try:
            self._writer.delete_policy_version(PolicyArn=arn, VersionId=version_id)
        except ClientError as error:
            if error_code(error) not in {"NoSuchEntity", "DeleteConflict"}:
                raise
            return False
        return True

    def _arn(self, name: str) -> str:
        return policy_arn(self._settings.partition, self._settings.source_account_id, name)


def _foreign(ownership: Ownership) -> TerminalError:
    return TerminalError(
        Reason.FOREIGN_SOURCE_POLICY,
        f"{ownership.arn} {ownership.owner}: delete it, or set another SourcePolicyName before the first account",
    )


def _tags(policy: "PolicyTypeDef") -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in policy.get("Tags", [])}


def _number(version_id: str) -> int:
    return int(version_id.removeprefix("v"))
