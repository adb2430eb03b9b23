"""IAM of several accounts in memory: roles and managed policies with their history, since IAM's reads may be stale."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote

from chalicelib.settings import Settings
from tests.integration.simulation.calls import InvariantError, client_error

POLICY_LIMIT, TRUST_LIMIT, VERSIONS, ATTACHMENTS = 6144, 2048, 5, 10
DEFAULT_SESSION_SECONDS = 3600
EMPTY_DOCUMENT = '{"Version":"2012-10-17","Statement":[]}'
AWS_POLICIES = frozenset(
    f"arn:aws:iam::aws:policy/{name}" for name in ("ReadOnlyAccess", "SecurityAudit", "ViewOnlyAccess")
)


@dataclass(frozen=True)
class Role:
    """A role in IAM."""

    arn: str
    trust: str = EMPTY_DOCUMENT
    max_session: int = DEFAULT_SESSION_SECONDS
    boundary: str | None = None
    tags: frozenset[tuple[str, str]] = frozenset()
    attached: frozenset[str] = frozenset()
    inline: frozenset[tuple[str, str]] = frozenset()
    stack: str | None = None  # the CloudFormation stack that contains it


@dataclass(frozen=True)
class Policy:
    """A managed policy in IAM; `versions` are numbers and documents, oldest first, and `following` is the next number."""

    arn: str
    versions: tuple[tuple[int, str], ...]
    default: int = 1
    following: int = 2
    tags: frozenset[tuple[str, str]] = frozenset()
    attached: frozenset[str] = frozenset()

    @property
    def document(self) -> str:
        return dict(self.versions)[self.default]

    @property
    def is_frozen(self) -> bool:
        return '"Deny"' in self.document

    def with_version(self, document: str, *, default: bool) -> "Policy":
        number = self.following
        versions = (*self.versions, (number, document))
        return replace(self, versions=versions, default=number if default else self.default, following=number + 1)


Entity = Role | Policy
K = TypeVar("K", int, str)


@dataclass
class _Entities:
    """The roles and policies of every account by ARN, now and before."""

    now: float = 0.0
    history: dict[str, list[tuple[float, Entity | None]]] = field(default_factory=dict)
    read_at: float | None = None  # the time as of which reads are answered; None for now

    def put(self, arn: str, entity: Entity | None) -> None:
        self.history.setdefault(arn, [(-1.0, None)]).append((self.now, entity))

    def change(self, arn: str, **changes: Any) -> None:
        """Change attributes of a role or policy that exists."""
        entity = self.latest(arn)
        assert entity is not None, arn
        self.put(arn, replace(entity, **changes))

    def latest(self, arn: str) -> Entity | None:
        return self.history[arn][-1][1] if arn in self.history else None

    def read(self, arn: str) -> Entity | None:
        moment = self.now if self.read_at is None else self.read_at
        return next((entity for at, entity in reversed(self.history.get(arn, [])) if at <= moment), None)

    def role(self, arn: str) -> Role | None:
        entity = self.latest(arn)
        return entity if isinstance(entity, Role) else None

    def policy(self, arn: str) -> Policy | None:
        entity = self.latest(arn)
        return entity if isinstance(entity, Policy) else None

    def everything(self) -> list[Entity]:
        return [entity for past in self.history.values() if (entity := past[-1][1]) is not None]

    def detach(self, role_arn: str, policy_arn: str) -> None:
        """Detach a policy from a role, where they exist."""
        role, policy = self.role(role_arn), self.policy(policy_arn)
        if role is not None:
            self.change(role_arn, attached=role.attached - {policy_arn})
        if policy is not None:
            self.change(policy_arn, attached=policy.attached - {role_arn})


class Iam(_Entities):
    """IAM's API. An operation takes the parameters, and the role or policy that they name."""

    def answer(self, operation: str, params: Any, account_id: str) -> dict[str, Any]:
        handle = getattr(self, f"_{operation}")
        if "RoleName" in params:
            kind: type[Role | Policy] = Role
            arn = f"arn:aws:iam::{account_id}:role/{params['RoleName']}"
        else:
            kind, arn = (
                Policy,
                params.get("PolicyArn") or f"arn:aws:iam::{account_id}:policy/{params.get('PolicyName')}",
            )
        if operation in {"CreateRole", "CreatePolicy"}:
            if self.latest(arn) is not None:
                raise client_error("EntityAlreadyExists", f"{arn} already exists.", 409)
            return dict(handle(params, arn))
        is_read = operation.startswith(("Get", "List"))
        entity = self.read(arn) if is_read else self.latest(arn)
        if not isinstance(entity, kind) and operation != "GetAccountSummary":
            raise client_error("NoSuchEntity", f"{arn} cannot be found.", 404)
        return dict(handle(params, entity) or {})

    def find_stack(self, role_arn: str) -> dict[str, Any]:
        """Answer CloudFormation's DescribeStackResources."""
        role = self.role(role_arn)
        if role is None or role.stack is None:
            raise client_error("ValidationError", f"Stack for {role_arn} does not exist")
        name = role_arn.rpartition("/")[2]
        resource = {"StackName": role.stack, "PhysicalResourceId": name, "ResourceStatus": "CREATE_COMPLETE"}
        return {"StackResources": [resource]}

    # Reads.

    def _GetRole(self, _: Any, role: Role) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        response: dict[str, Any] = {
            "Arn": role.arn,
            "AssumeRolePolicyDocument": quote(role.trust),
            "MaxSessionDuration": role.max_session,
            "Tags": _tag_list(role.tags),
        }
        if role.boundary:
            response["PermissionsBoundary"] = {"PermissionsBoundaryArn": role.boundary}
        return {"Role": response}

    def _ListAttachedRolePolicies(self, _: Any, role: Role) -> dict[str, Any]:  # noqa: N802
        return {"AttachedPolicies": [{"PolicyArn": each} for each in sorted(role.attached)], "IsTruncated": False}

    def _ListRolePolicies(self, _: Any, role: Role) -> dict[str, Any]:  # noqa: N802
        return {"PolicyNames": sorted(dict(role.inline)), "IsTruncated": False}

    def _GetRolePolicy(self, params: Any, role: Role) -> dict[str, Any]:  # noqa: N802
        return {"PolicyDocument": quote(_existing(dict(role.inline), params["PolicyName"]))}

    def _GetPolicy(self, _: Any, policy: Policy) -> dict[str, Any]:  # noqa: N802
        response = {
            "Arn": policy.arn,
            "DefaultVersionId": f"v{policy.default}",
            "AttachmentCount": len(policy.attached),
            "Tags": _tag_list(policy.tags),
        }
        return {"Policy": response}

    def _GetPolicyVersion(self, params: Any, policy: Policy) -> dict[str, Any]:  # noqa: N802
        document = _existing(dict(policy.versions), _number(params))
        return {"PolicyVersion": {"VersionId": params["VersionId"], "Document": quote(document)}}

    def _ListPolicyVersions(self, _: Any, policy: Policy) -> dict[str, Any]:  # noqa: N802
        versions = [
            {"VersionId": f"v{each}", "IsDefaultVersion": each == policy.default} for each, _ in policy.versions
        ]
        return {"Versions": versions[::-1], "IsTruncated": False}

    def _ListEntitiesForPolicy(self, params: Any, policy: Policy) -> dict[str, Any]:  # noqa: N802
        assert params.get("PolicyUsageFilter") in {None, "PermissionsPolicy"}, params
        roles = [{"RoleName": each.rpartition("/")[2]} for each in sorted(policy.attached)]
        return {"PolicyRoles": roles, "PolicyUsers": [], "PolicyGroups": [], "IsTruncated": False}

    def _GetAccountSummary(self, *_: Any) -> dict[str, Any]:  # noqa: N802
        quotas = ("AttachedPoliciesPerRoleQuota", "AttachedPoliciesPerUserQuota")
        return {"SummaryMap": dict.fromkeys(quotas, ATTACHMENTS)}

    # Writes of roles.

    def _CreateRole(self, params: Any, arn: str) -> dict[str, Any]:  # noqa: N802
        trust = _checked(params["AssumeRolePolicyDocument"], TRUST_LIMIT)
        boundary = params.get("PermissionsBoundary")
        self.put(arn, Role(arn, trust, params["MaxSessionDuration"], boundary, _tag_set(params["Tags"])))
        return {"Role": {"Arn": arn}}

    def _TagRole(self, params: Any, role: Role) -> None:  # noqa: N802
        self.change(role.arn, tags=_retagged(role.tags, params["Tags"]))

    def _UpdateAssumeRolePolicy(self, params: Any, role: Role) -> None:  # noqa: N802
        self.change(role.arn, trust=_checked(params["PolicyDocument"], TRUST_LIMIT))

    def _UpdateRole(self, params: Any, role: Role) -> None:  # noqa: N802
        # Without MaxSessionDuration, IAM applies the default (IAM API reference, "UpdateRole").
        self.change(role.arn, max_session=params.get("MaxSessionDuration", DEFAULT_SESSION_SECONDS))

    def _PutRolePermissionsBoundary(self, params: Any, role: Role) -> None:  # noqa: N802
        self.change(role.arn, boundary=params["PermissionsBoundary"])

    def _DeleteRolePermissionsBoundary(self, _: Any, role: Role) -> None:  # noqa: N802
        if role.boundary is None:
            raise client_error("NoSuchEntity", "The role has no permissions boundary.", 404)
        self.change(role.arn, boundary=None)

    def _PutRolePolicy(self, params: Any, role: Role) -> None:  # noqa: N802
        inline = dict(role.inline) | {params["PolicyName"]: params["PolicyDocument"]}
        self.change(role.arn, inline=frozenset(inline.items()))

    def _DeleteRolePolicy(self, params: Any, role: Role) -> None:  # noqa: N802
        name = params["PolicyName"]
        self.change(role.arn, inline=role.inline - {(name, _existing(dict(role.inline), name))})

    def _AttachRolePolicy(self, params: Any, role: Role) -> None:  # noqa: N802
        arn = params["PolicyArn"]
        policy = self.policy(arn)
        if policy is None and arn not in AWS_POLICIES:
            raise client_error("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
        if arn not in role.attached and len(role.attached) >= ATTACHMENTS:
            raise client_error("LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10", 409)
        self.change(role.arn, attached=role.attached | {arn})
        if policy is not None:
            self.change(arn, attached=policy.attached | {role.arn})

    def _DetachRolePolicy(self, params: Any, role: Role) -> None:  # noqa: N802
        if params["PolicyArn"] not in role.attached:
            raise client_error("NoSuchEntity", f"Policy {params['PolicyArn']} was not found.", 404)
        self.detach(role.arn, params["PolicyArn"])

    def _DeleteRole(self, _: Any, role: Role) -> None:  # noqa: N802
        if role.attached or role.inline:
            raise client_error("DeleteConflict", "Cannot delete entity, must detach all policies first.", 409)
        self.put(role.arn, None)

    # Writes of policies.

    def _CreatePolicy(self, params: Any, arn: str) -> dict[str, Any]:  # noqa: N802
        document = _checked(params["PolicyDocument"], POLICY_LIMIT)
        self.put(arn, Policy(arn, ((1, document),), tags=_tag_set(params["Tags"])))
        return {"Policy": {"Arn": arn, "DefaultVersionId": "v1"}}

    def _CreatePolicyVersion(self, params: Any, policy: Policy) -> dict[str, Any]:  # noqa: N802
        document = _checked(params["PolicyDocument"], POLICY_LIMIT)
        if len(policy.versions) == VERSIONS:
            raise client_error("LimitExceeded", "A managed policy can have up to 5 versions.", 409)
        is_default = bool(params.get("SetAsDefault"))
        self.put(policy.arn, policy.with_version(document, default=is_default))
        return {"PolicyVersion": {"VersionId": f"v{policy.following}", "IsDefaultVersion": is_default}}

    def _DeletePolicyVersion(self, params: Any, policy: Policy) -> None:  # noqa: N802
        number = _number(params)
        _existing(dict(policy.versions), number)
        if number == policy.default:
            raise client_error("DeleteConflict", "Cannot delete the default version of a policy.", 409)
        self.change(policy.arn, versions=tuple(each for each in policy.versions if each[0] != number))

    def _TagPolicy(self, params: Any, policy: Policy) -> None:  # noqa: N802
        self.change(policy.arn, tags=_retagged(policy.tags, params["Tags"]))

    def _DeletePolicy(self, _: Any, policy: Policy) -> None:  # noqa: N802
        if policy.attached or len(policy.versions) > 1:
            raise client_error("DeleteConflict", "Cannot delete a policy attached to entities, or with versions.", 409)
        self.put(policy.arn, None)


def may_change(settings: Settings | None, tags: dict[str, str], arn: str, stack: str | None = None) -> bool:
    """Whether the tags show that a role or policy is this stage's, or may be adopted since no stack contains it."""
    if settings is None:
        return True
    ownership = settings.ownership(arn, tags)
    return ownership.is_ours or (settings.adopts(account_of(arn)) and not ownership.tags and stack is None)


def account_of(arn: str) -> str:
    return arn.split(":")[4]


def _existing(values: dict[K, str], key: K) -> str:
    if key not in values:
        raise client_error("NoSuchEntity", f"{key} was not found.", 404)
    return values[key]


def _number(params: Any) -> int:
    return int(params["VersionId"][1:])


def _checked(document: str, limit: int) -> str:
    """Return a document if it is JSON, and fail if it is over the quota."""
    json.loads(document)
    if len(document) > limit:
        invariant = f"no document is over the quota, as one of {len(document)} characters"
        raise InvariantError(invariant)
    return document


def _tag_set(tags: Any) -> frozenset[tuple[str, str]]:
    return frozenset((tag["Key"], tag["Value"]) for tag in tags)


def _retagged(tags: frozenset[tuple[str, str]], more: Any) -> frozenset[tuple[str, str]]:
    return frozenset((dict(tags) | dict(_tag_set(more))).items())


def _tag_list(tags: frozenset[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags)]
