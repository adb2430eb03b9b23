"""The source policy's shards in IAM, in the source account, and the source principals that they are attached to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from botocore.exceptions import ClientError

from chalicelib.arns import Principal, parse_principal, policy_arn
from chalicelib.aws.failures import error_code, translated
from chalicelib.aws.member_roles import iam_document
from chalicelib.aws.sessions import Sessions
from chalicelib.documents import Document
from chalicelib.errors import Reason, RetryableError, TerminalError
from chalicelib.settings import Settings
from chalicelib.source_policy import (
    MOST_SHARDS,
    Action,
    AttachTo,
    CreatePolicy,
    DeleteVersion,
    DetachFrom,
    SourcePolicy,
    TagPolicy,
    WriteVersion,
    looking_document,
    removing_document,
    session_document,
    shard_name,
)

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient


_DEFAULT_ATTACHMENTS = 10


@dataclass(frozen=True, slots=True)
class Existing:
    """A policy that IAM holds under a shard's name, and whether it is ours by its tags."""

    document: Document
    ours: bool


@dataclass(frozen=True, slots=True)
class _Held:
    """What GetPolicy tells: the default version's id, and the tags."""

    default: str
    tags: dict[str, str]


class SourcePolicies:
    """Writes shards; by the function's own role in the management account, by an access role in another source account."""

    def __init__(self, settings: Settings, sessions: Sessions, client: "IAMClient") -> None:
        """Take the client that signs for the account that the sessions have entered."""
        self._settings = settings
        self._sessions = sessions
        self._client = client

    @contextmanager
    def _entered(self, doing: str, powers: Callable[[Settings], Document] = looking_document) -> Iterator[None]:
        session_policy = powers(self._settings)
        with self._sessions.entered(self._settings.source_account_id, session_policy), translated(doing):
            yield

    def find(self, name: str) -> Existing | None:
        """Read what IAM holds under a shard's name; a TerminalError refuses what is not ours to take over."""
        arn = self._arn(name)
        with self._entered(f"reading {arn}"):
            held = self._held(arn)
            if held is None:
                return None
            ours = self._refuse_foreign(arn, held.tags)
            return Existing(self._said(arn, held.default), ours)

    def observe(self, name: str) -> SourcePolicy | None:
        """Read a shard as IAM has it, or tell by None that there is none; a TerminalError refuses another stage's."""
        arn = self._arn(name)
        with self._entered(f"reading {arn}"):
            held = self._held(arn)
            if held is None:
                return None
            owner = self._settings.owner(held.tags, arn)
            if owner.contradicts(self._settings.ownership_tags):
                refused = owner.why_refused(adopt=False, renaming="SourcePolicyName")
                raise TerminalError(Reason.FOREIGN_SOURCE_POLICY, str(refused))
            document = self._said(arn, held.default)
            # By now another may be the default than GetPolicy told.
            newer = [each for each in self._versions(arn, default=False) if _number(each) > _number(held.default)]
            return SourcePolicy(
                name=name,
                document=document,
                attached=frozenset(self._entities(arn)),
                tagged=owner.ours,
                strays=tuple(sorted(newer, key=_number)),
            )

    def _held(self, arn: str) -> "_Held | None":
        try:
            policy = self._client.get_policy(PolicyArn=arn)["Policy"]
        except ClientError as error:
            if error_code(error) == "NoSuchEntity":
                return None
            raise
        return _Held(policy["DefaultVersionId"], {tag["Key"]: tag["Value"] for tag in policy.get("Tags", [])})

    def _said(self, arn: str, version_id: str) -> Document:
        version = self._client.get_policy_version(PolicyArn=arn, VersionId=version_id)["PolicyVersion"]
        return iam_document(version["Document"])

    def remove(self, name: str, *, was_written: bool) -> None:
        """Delete a shard: detach it, delete its versions, then the policy; repeating it is harmless.

        What stands under the name of one that was never written, without our tags, is somebody else's, and stays.
        """
        arn = self._arn(name)
        observed = self.observe(name)
        if observed is None:
            self._delete_unseen(arn)
            return
        if not (was_written or observed.tagged):
            return
        if observed.attached and not self._settings.attach_source_policy:
            message = f"{arn} is attached to {', '.join(sorted(observed.attached))}: detach it there, where AttachSourcePolicy=false leaves attaching to you, and ask again"
            raise TerminalError(Reason.REJECTED, message)
        with self._entered(f"deleting {arn}", removing_document):
            for principal_arn in sorted(observed.attached):
                self._detach(arn, parse_principal(principal_arn))
            for version_id in self._versions(arn, default=False):
                self._client.delete_policy_version(PolicyArn=arn, VersionId=version_id)
            self._client.delete_policy(PolicyArn=arn)

    def _delete_unseen(self, arn: str) -> None:
        """Delete what IAM may not show yet, since it was made a moment ago, and shows to who deletes it."""
        with self._entered(f"deleting {arn}", removing_document):
            try:
                self._client.delete_policy(PolicyArn=arn)
            except ClientError as error:
                if error_code(error) == "DeleteConflict":
                    message = f"{arn} was made a moment ago, and IAM doesn't show it yet: ask again in a minute"
                    raise RetryableError(Reason.STALE_READ, message) from error
                if error_code(error) != "NoSuchEntity":
                    raise

    def _versions(self, arn: str, *, default: bool = True) -> list[str]:
        pages = self._client.get_paginator("list_policy_versions").paginate(PolicyArn=arn)
        versions = [version for page in pages for version in page["Versions"]]
        return [version["VersionId"] for version in versions if default or not version["IsDefaultVersion"]]

    def _entities(self, arn: str) -> Iterator[str]:
        """List whom a policy is attached to; IAM tells names, so a path is known of source principals only."""
        known = {(principal.kind, principal.name): principal.arn for principal in self._settings.source_principals}
        prefix = f"arn:{self._settings.partition}:iam::{self._settings.source_account_id}"
        for page in self._client.get_paginator("list_entities_for_policy").paginate(PolicyArn=arn):
            for role in page["PolicyRoles"]:
                yield known.get(("role", role["RoleName"]), f"{prefix}:role/{role['RoleName']}")
            for user in page["PolicyUsers"]:
                yield known.get(("user", user["UserName"]), f"{prefix}:user/{user['UserName']}")

    def room(self) -> int:
        """Count the shards that every source principal has room for; IAM's default quota where the operator attaches."""
        if not self._settings.attachable_principals:
            return _DEFAULT_ATTACHMENTS
        return min(quota - others for _, quota, others in self._attachments(MOST_SHARDS))

    def check_principals(self, shards: int) -> None:
        """Refuse, with a TerminalError, source principals that don't exist or have no room for so many shards."""
        if not self._settings.attachable_principals:
            return
        for principal, quota, others in self._attachments(shards):
            if others + shards > quota:
                message = (
                    f"{principal.arn} has {others} other policies attached and the source policy needs {shards} shards, "
                    f"and IAM attaches {quota}: detach some, have the quota raised, or set SourcePolicyScope=organization, "
                    "which needs one"
                )
                raise TerminalError(Reason.QUOTA, message)

    def _attachments(self, shards: int) -> list[tuple[Principal, int, int]]:
        """Tell of each source principal how many policies IAM attaches, and how many it has that are none of the shards."""
        with self._entered(f"reading the source principals in {self._settings.source_account_id}"):
            quotas = self._client.get_account_summary()["SummaryMap"]
            ours = self._shard_arns(shards)
            return [
                (
                    principal,
                    quotas[
                        "AttachedPoliciesPerRoleQuota" if principal.kind == "role" else "AttachedPoliciesPerUserQuota"
                    ],
                    len(self._attached(principal) - ours),
                )
                for principal in self._settings.attachable_principals
            ]

    def _attached(self, principal: Principal) -> set[str]:
        try:
            if principal.kind == "role":
                roles = self._client.get_paginator("list_attached_role_policies").paginate(RoleName=principal.name)
                return {policy["PolicyArn"] for page in roles for policy in page["AttachedPolicies"]}
            users = self._client.get_paginator("list_attached_user_policies").paginate(UserName=principal.name)
            return {policy["PolicyArn"] for page in users for policy in page["AttachedPolicies"]}
        except ClientError as error:
            if error_code(error) == "NoSuchEntity":
                raise self._no_principal(principal) from error
            raise

    def carry_out(self, name: str, action: Action) -> None:
        """Carry out one action on a shard; repeating any of them is harmless."""
        with self._entered(f"{type(action).__name__} for {self._arn(name)}", session_document):
            match action:
                case CreatePolicy(document):
                    self._create(name, document)
                case WriteVersion(document):
                    self._write_version(self._arn(name), document)
                case TagPolicy():
                    self._tag(self._arn(name))
                case DeleteVersion(version_id):
                    self._client.delete_policy_version(PolicyArn=self._arn(name), VersionId=version_id)
                case AttachTo(principal_arn):
                    self._attach(self._arn(name), parse_principal(principal_arn))
                case DetachFrom(principal_arn):
                    self._detach(self._arn(name), parse_principal(principal_arn))
                case _:
                    assert_never(action)

    def _create(self, name: str, document: Document) -> None:
        tags = self._settings.ownership_tags
        try:
            self._client.create_policy(
                PolicyName=name,
                PolicyDocument=document.text,
                Description="Lets the source principals assume the member roles; kept by Rolecall",
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
        except ClientError as error:
            if error_code(error) != "EntityAlreadyExists":
                raise
            # Made by a worker that stopped before it could say so, or by somebody else.
            arn = self._arn(name)
            held = {
                tag["Key"]: tag["Value"] for tag in self._client.get_policy(PolicyArn=arn)["Policy"].get("Tags", [])
            }
            if not self._refuse_foreign(arn, held):
                self._tag(arn)
            self._write_version(arn, document)

    def _tag(self, arn: str) -> None:
        tags = self._settings.ownership_tags
        self._client.tag_policy(PolicyArn=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])

    def _write_version(self, arn: str, document: Document) -> None:
        try:
            self._client.create_policy_version(PolicyArn=arn, PolicyDocument=document.text, SetAsDefault=True)
        except ClientError as error:
            if error_code(error) != "LimitExceeded":
                raise
            self._prune(arn)
            self._client.create_policy_version(PolicyArn=arn, PolicyDocument=document.text, SetAsDefault=True)

    def _prune(self, arn: str) -> None:
        """Delete the oldest version by number; a stale list may name one that is gone, or is the default by now."""
        for version_id in sorted(self._versions(arn, default=False), key=_number):
            try:
                self._client.delete_policy_version(PolicyArn=arn, VersionId=version_id)
            except ClientError as error:
                if error_code(error) not in {"NoSuchEntity", "DeleteConflict"}:
                    raise
            else:
                return
        raise RetryableError(Reason.STALE_READ, f"IAM counts five versions of {arn} and lists none that can be deleted")

    def _attach(self, arn: str, principal: Principal) -> None:
        try:
            if principal.kind == "role":
                self._client.attach_role_policy(RoleName=principal.name, PolicyArn=arn)
            else:
                self._client.attach_user_policy(UserName=principal.name, PolicyArn=arn)
        except ClientError as error:
            if error_code(error) == "NoSuchEntity" and "attachable" not in str(error):
                raise self._no_principal(principal) from error
            raise

    def _detach(self, arn: str, principal: Principal) -> None:
        try:
            if principal.kind == "role":
                self._client.detach_role_policy(RoleName=principal.name, PolicyArn=arn)
            else:
                self._client.detach_user_policy(UserName=principal.name, PolicyArn=arn)
        except ClientError as error:
            if error_code(error) != "NoSuchEntity":
                raise

    def _refuse_foreign(self, arn: str, tags: dict[str, str]) -> bool:
        """Tell whether a policy is ours, or may be taken over; a TerminalError refuses it."""
        owner = self._settings.owner(tags, arn)
        refused = owner.why_refused(adopt=self._settings.adopt_existing_roles, renaming="SourcePolicyName")
        if refused is not None:
            raise TerminalError(Reason.FOREIGN_SOURCE_POLICY, refused)
        return owner.ours

    def _no_principal(self, principal: Principal) -> TerminalError:
        return TerminalError(
            Reason.NO_SOURCE_PRINCIPAL,
            f"{principal.arn} does not exist, so the source policy can't be attached to it: create it, correct SourcePrincipalArns, "
            "or set AttachSourcePolicy=false and attach the source policy yourself",
        )

    def _arn(self, name: str) -> str:
        return policy_arn(self._settings.partition, self._settings.source_account_id, name)

    def _shard_arns(self, shards: int) -> set[str]:
        return {self._arn(shard_name(self._settings, index)) for index in range(shards)}


def _number(version_id: str) -> int:
    return int(version_id.removeprefix("v"))
