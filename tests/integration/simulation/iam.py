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
T = TypeVar("T", Role, Policy)


@dataclass
class _Entities:
    """The roles and policies of every account by ARN, now and before."""

    now: float = 0.0
    history: dict[str, list[tuple[float, Entity | None]]] = field(default_factory=dict)
    read_at: float | None = None  # the time as of which reads are answered; None for now

    def put(self, arn: str, entity: Entity | None) -> None:
        self.history.setdefault(arn, [(-1.0, None)]).append((self.now, entity))

    def _latest(self, arn: str) -> Entity | None:
        return self.history[arn][-1][1] if arn in self.history else None

    def role(self, arn: str) -> Role | None:
        entity = self._latest(arn)
        return entity if isinstance(entity, Role) else None

    def policy(self, arn: str) -> Policy | None:
        entity = self._latest(arn)
        return entity if isinstance(entity, Policy) else None

    def existing_role(self, arn: str) -> Role:
        role = self.role(arn)
        assert role is not None, arn
        return role

    def existing_policy(self, arn: str) -> Policy:
        policy = self.policy(arn)
        assert policy is not None, arn
        return policy

    def everything(self) -> dict[str, Entity]:
        return {arn: past[-1][1] for arn, past in self.history.items() if past[-1][1] is not None}

    def detach(self, role_arn: str, policy_arn: str) -> None:
        """Detach a policy from a role, where they exist."""
        role, policy = self.role(role_arn), self.policy(policy_arn)
        if role is not None:
            self.put(role_arn, replace(role, attached=role.attached - {policy_arn}))
        if policy is not None:
            self.put(policy_arn, replace(policy, attached=policy.attached - {role_arn}))

    def read(self, kind: type[T], arn: str) -> T:
        past = self.history.get(arn, [])
        moment = self.now if self.read_at is None else self.read_at
        entities = [entity for at, entity in past if at <= moment][-1:]
        if not entities or not isinstance(entities[0], kind):
            raise client_error("NoSuchEntity", f"{arn} cannot be found.", 404)
        return entities[0]


class Iam(_Entities):
    """IAM's API."""

    def answer(self, operation: str, params: Any, account_id: str) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params, account_id) or {})

    # Reads.

    def _GetRole(self, params: Any, account: str) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        role = self.read(Role, _role_arn(account, params))
        response: dict[str, Any] = {
            "Arn": role.arn,
            "AssumeRolePolicyDocument": quote(role.trust),
            "MaxSessionDuration": role.max_session,
            "Tags": _tag_list(role.tags),
        }
        if role.boundary:
            response["PermissionsBoundary"] = {"PermissionsBoundaryArn": role.boundary}
        return {"Role": response}

    def _ListAttachedRolePolicies(self, params: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self.read(Role, _role_arn(account, params))
        return {"AttachedPolicies": [{"PolicyArn": each} for each in sorted(role.attached)], "IsTruncated": False}

    def _ListRolePolicies(self, params: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self.read(Role, _role_arn(account, params))
        return {"PolicyNames": sorted(dict(role.inline)), "IsTruncated": False}

    def _GetRolePolicy(self, params: Any, account: str) -> dict[str, Any]:  # noqa: N802
        inline = dict(self.read(Role, _role_arn(account, params)).inline)
        if params["PolicyName"] not in inline:
            raise client_error("NoSuchEntity", "The role policy cannot be found.", 404)
        return {"PolicyDocument": quote(inline[params["PolicyName"]])}

    def _GetPolicy(self, params: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self.read(Policy, params["PolicyArn"])
        response = {
            "Arn": policy.arn,
            "DefaultVersionId": f"v{policy.default}",
            "AttachmentCount": len(policy.attached),
            "Tags": _tag_list(policy.tags),
        }
        return {"Policy": response}

    def _GetPolicyVersion(self, params: Any, _: str) -> dict[str, Any]:  # noqa: N802
        versions = dict(self.read(Policy, params["PolicyArn"]).versions)
        number = _number(params)
        if number not in versions:
            raise client_error("NoSuchEntity", "The policy version cannot be found.", 404)
        return {"PolicyVersion": {"VersionId": params["VersionId"], "Document": quote(versions[number])}}

    def _ListPolicyVersions(self, params: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self.read(Policy, params["PolicyArn"])
        versions = [
            {"VersionId": f"v{each}", "IsDefaultVersion": each == policy.default} for each, _ in policy.versions
        ]
        return {"Versions": versions[::-1], "IsTruncated": False}

    def _ListEntitiesForPolicy(self, params: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self.read(Policy, params["PolicyArn"])
        roles = [{"RoleName": each.rpartition("/")[2]} for each in sorted(policy.attached)]
        return {"PolicyRoles": roles, "PolicyUsers": [], "PolicyGroups": [], "IsTruncated": False}

    def _GetAccountSummary(self, _: Any, __: str) -> dict[str, Any]:  # noqa: N802
        quotas = ("AttachedPoliciesPerRoleQuota", "AttachedPoliciesPerUserQuota")
        return {"SummaryMap": dict.fromkeys(quotas, ATTACHMENTS)}

    # Writes of roles.

    def _role(self, params: Any, account: str) -> Role:
        role = self.role(_role_arn(account, params))
        if role is None:
            raise client_error("NoSuchEntity", f"The role with name {params['RoleName']} cannot be found.", 404)
        return role

    def _change_role(self, params: Any, account: str, **changes: Any) -> None:
        role = self._role(params, account)
        self.put(role.arn, replace(role, **changes))

    def _CreateRole(self, params: Any, account: str) -> dict[str, Any]:  # noqa: N802
        arn = _role_arn(account, params)
        if self.role(arn) is not None:
            raise client_error("EntityAlreadyExists", f"Role with name {params['RoleName']} already exists.", 409)
        trust = _checked(params["AssumeRolePolicyDocument"], TRUST_LIMIT)
        boundary = params.get("PermissionsBoundary")
        self.put(arn, Role(arn, trust, params["MaxSessionDuration"], boundary, _tag_set(params["Tags"])))
        return {"Role": {"Arn": arn}}

    def _TagRole(self, params: Any, account: str) -> None:  # noqa: N802
        self._change_role(params, account, tags=_retagged(self._role(params, account).tags, params["Tags"]))

    def _UpdateAssumeRolePolicy(self, params: Any, account: str) -> None:  # noqa: N802
        self._change_role(params, account, trust=_checked(params["PolicyDocument"], TRUST_LIMIT))

    def _UpdateRole(self, params: Any, account: str) -> None:  # noqa: N802
        # Without MaxSessionDuration, IAM applies the default (IAM API reference, "UpdateRole").
        self._change_role(params, account, max_session=params.get("MaxSessionDuration", DEFAULT_SESSION_SECONDS))

    def _PutRolePermissionsBoundary(self, params: Any, account: str) -> None:  # noqa: N802
        self._change_role(params, account, boundary=params["PermissionsBoundary"])

    def _DeleteRolePermissionsBoundary(self, params: Any, account: str) -> None:  # noqa: N802
        if self._role(params, account).boundary is None:
            raise client_error("NoSuchEntity", "The role has no permissions boundary.", 404)
        self._change_role(params, account, boundary=None)

    def _PutRolePolicy(self, params: Any, account: str) -> None:  # noqa: N802
        inline = dict(self._role(params, account).inline) | {params["PolicyName"]: params["PolicyDocument"]}
        self._change_role(params, account, inline=frozenset(inline.items()))

    def _DeleteRolePolicy(self, params: Any, account: str) -> None:  # noqa: N802
        inline = dict(self._role(params, account).inline)
        if inline.pop(params["PolicyName"], None) is None:
            raise client_error("NoSuchEntity", "The role policy cannot be found.", 404)
        self._change_role(params, account, inline=frozenset(inline.items()))

    def _AttachRolePolicy(self, params: Any, account: str) -> None:  # noqa: N802
        role, arn = self._role(params, account), params["PolicyArn"]
        policy = self.policy(arn)
        if policy is None and arn not in AWS_POLICIES:
            raise client_error("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
        if arn not in role.attached and len(role.attached) >= ATTACHMENTS:
            raise client_error("LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10", 409)
        self.put(role.arn, replace(role, attached=role.attached | {arn}))
        if policy is not None:
            self.put(arn, replace(policy, attached=policy.attached | {role.arn}))

    def _DetachRolePolicy(self, params: Any, account: str) -> None:  # noqa: N802
        role, arn = self._role(params, account), params["PolicyArn"]
        if arn not in role.attached:
            raise client_error("NoSuchEntity", f"Policy {arn} was not found.", 404)
        self.detach(role.arn, arn)

    def _DeleteRole(self, params: Any, account: str) -> None:  # noqa: N802
        role = self._role(params, account)
        if role.attached or role.inline:
            raise client_error("DeleteConflict", "Cannot delete entity, must detach all policies first.", 409)
        self.put(role.arn, None)

    # Writes of policies.

    def _policy(self, params: Any) -> Policy:
        policy = self.policy(params["PolicyArn"])
        if policy is None:
            raise client_error("NoSuchEntity", f"Policy {params['PolicyArn']} was not found.", 404)
        return policy

    def _CreatePolicy(self, params: Any, account: str) -> dict[str, Any]:  # noqa: N802
        arn = f"arn:aws:iam::{account}:policy/{params['PolicyName']}"
        if self.policy(arn) is not None:
            raise client_error("EntityAlreadyExists", f"A policy called {params['PolicyName']} already exists.", 409)
        document = _checked(params["PolicyDocument"], POLICY_LIMIT)
        self.put(arn, Policy(arn, ((1, document),), tags=_tag_set(params["Tags"])))
        return {"Policy": {"Arn": arn, "DefaultVersionId": "v1"}}

    def _CreatePolicyVersion(self, params: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy, document = self._policy(params), _checked(params["PolicyDocument"], POLICY_LIMIT)
        if len(policy.versions) == VERSIONS:
            raise client_error("LimitExceeded", "A managed policy can have up to 5 versions.", 409)
        is_default = bool(params.get("SetAsDefault"))
        self.put(policy.arn, policy.with_version(document, default=is_default))
        return {"PolicyVersion": {"VersionId": f"v{policy.following}", "IsDefaultVersion": is_default}}

    def _DeletePolicyVersion(self, params: Any, _: str) -> None:  # noqa: N802
        policy, number = self._policy(params), _number(params)
        if number not in dict(policy.versions):
            raise client_error("NoSuchEntity", "The policy version was not found.", 404)
        if number == policy.default:
            raise client_error("DeleteConflict", "Cannot delete the default version of a policy.", 409)
        self.put(policy.arn, replace(policy, versions=tuple(each for each in policy.versions if each[0] != number)))

    def _TagPolicy(self, params: Any, _: str) -> None:  # noqa: N802
        policy = self._policy(params)
        self.put(policy.arn, replace(policy, tags=_retagged(policy.tags, params["Tags"])))

    def _DeletePolicy(self, params: Any, _: str) -> None:  # noqa: N802
        policy = self._policy(params)
        if policy.attached or len(policy.versions) > 1:
            raise client_error("DeleteConflict", "Cannot delete a policy attached to entities, or with versions.", 409)
        self.put(policy.arn, None)


def may_change(settings: Settings | None, tags: dict[str, str], arn: str) -> bool:
    """Whether the tags show that a role or policy is this stage's, or may be adopted."""
    if settings is None:
        return True
    ownership = settings.ownership(arn, tags)
    return ownership.is_ours or (settings.adopt_existing_roles and not ownership.tags)


def account_of(arn: str) -> str:
    return arn.split(":")[4]


def _role_arn(account: str, params: Any) -> str:
    return f"arn:aws:iam::{account}:role/{params['RoleName']}"


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
