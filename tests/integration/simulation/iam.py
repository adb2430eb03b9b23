"""IAM of several accounts in memory: roles and managed policies, each with its past, since IAM's reads may be stale."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote

from tests.integration.simulation.answers import RuleBrokenError, refusal

POLICY_LIMIT, TRUST_LIMIT, VERSIONS, ATTACHMENTS = 6144, 2048, 5, 10
AWS_POLICIES = frozenset(
    f"arn:aws:iam::aws:policy/{name}" for name in ("ReadOnlyAccess", "SecurityAudit", "ViewOnlyAccess")
)


@dataclass(frozen=True)
class Role:
    """A role as IAM holds it."""

    arn: str
    trust: str = '{"Version":"2012-10-17","Statement":[]}'
    max_session: int = 3600
    boundary: str | None = None
    tags: frozenset[tuple[str, str]] = frozenset()
    attached: frozenset[str] = frozenset()
    inline: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Policy:
    """A managed policy as IAM holds it; `versions` are numbers and documents, oldest first."""

    arn: str
    versions: tuple[tuple[int, str], ...]
    default: int
    following: int
    tags: frozenset[tuple[str, str]] = frozenset()
    attached: frozenset[str] = frozenset()

    @property
    def document(self) -> str:
        return dict(self.versions)[self.default]


Held = Role | Policy
T = TypeVar("T", Role, Policy)


@dataclass
class Iam:
    """What every account's IAM holds by ARN, now and before."""

    now: float = 0.0
    past: dict[str, list[tuple[float, Held | None]]] = field(default_factory=dict)
    seen_at: float | None = None  # at which time reads see what there was; now if None

    def put(self, arn: str, held: Held | None) -> None:
        self.past.setdefault(arn, [(-1.0, None)]).append((self.now, held))

    def role(self, arn: str) -> Role | None:
        held = self.past.get(arn, [(0.0, None)])[-1][1]
        return held if isinstance(held, Role) else None

    def policy(self, arn: str) -> Policy | None:
        held = self.past.get(arn, [(0.0, None)])[-1][1]
        return held if isinstance(held, Policy) else None

    def everything(self) -> dict[str, Held]:
        return {arn: past[-1][1] for arn, past in self.past.items() if past[-1][1] is not None}

    def answer(self, operation: str, params: Any, account_id: str) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params, account_id))

    # Reads.

    def _seen(self, kind: type[T], arn: str) -> T:
        past = self.past.get(arn, [(-1.0, None)])
        moment = self.now if self.seen_at is None else self.seen_at
        held = [value for when, value in past if when <= moment][-1:] or [None]
        if not isinstance(held[0], kind):
            raise refusal("NoSuchEntity", f"{arn} cannot be found.", 404)
        return held[0]

    def _GetRole(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        role = self._seen(Role, _role_arn(account, asked))
        told = {
            "Arn": role.arn,
            "AssumeRolePolicyDocument": quote(role.trust),
            "MaxSessionDuration": role.max_session,
            "Tags": _tag_list(role.tags),
        }
        return {
            "Role": told | ({"PermissionsBoundary": {"PermissionsBoundaryArn": role.boundary}} if role.boundary else {})
        }

    def _ListAttachedRolePolicies(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._seen(Role, _role_arn(account, asked))
        return {"AttachedPolicies": [{"PolicyArn": each} for each in sorted(role.attached)], "IsTruncated": False}

    def _ListRolePolicies(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._seen(Role, _role_arn(account, asked))
        return {"PolicyNames": sorted(dict(role.inline)), "IsTruncated": False}

    def _GetRolePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        inline = dict(self._seen(Role, _role_arn(account, asked)).inline)
        if asked["PolicyName"] not in inline:
            raise refusal("NoSuchEntity", "The role policy cannot be found.", 404)
        return {"PolicyDocument": quote(inline[asked["PolicyName"]])}

    def _GetPolicy(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self._seen(Policy, asked["PolicyArn"])
        told = {
            "Arn": policy.arn,
            "DefaultVersionId": f"v{policy.default}",
            "AttachmentCount": len(policy.attached),
            "Tags": _tag_list(policy.tags),
        }
        return {"Policy": told}

    def _GetPolicyVersion(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        versions = dict(self._seen(Policy, asked["PolicyArn"]).versions)
        number = int(asked["VersionId"][1:])
        if number not in versions:
            raise refusal("NoSuchEntity", "The policy version cannot be found.", 404)
        return {"PolicyVersion": {"VersionId": asked["VersionId"], "Document": quote(versions[number])}}

    def _ListPolicyVersions(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self._seen(Policy, asked["PolicyArn"])
        told = [{"VersionId": f"v{each}", "IsDefaultVersion": each == policy.default} for each, _ in policy.versions]
        return {"Versions": told[::-1], "IsTruncated": False}

    def _ListEntitiesForPolicy(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self._seen(Policy, asked["PolicyArn"])
        roles = [{"RoleName": each.rpartition("/")[2]} for each in sorted(policy.attached)]
        return {"PolicyRoles": roles, "PolicyUsers": [], "PolicyGroups": [], "IsTruncated": False}

    def _GetAccountSummary(self, _: Any, __: str) -> dict[str, Any]:  # noqa: N802
        return {
            "SummaryMap": {"AttachedPoliciesPerRoleQuota": ATTACHMENTS, "AttachedPoliciesPerUserQuota": ATTACHMENTS}
        }

    # Writes of roles.

    def _held_role(self, account: str, asked: Any) -> Role:
        role = self.role(_role_arn(account, asked))
        if role is None:
            raise refusal("NoSuchEntity", f"The role with name {asked['RoleName']} cannot be found.", 404)
        return role

    def _CreateRole(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        arn = _role_arn(account, asked)
        if self.role(arn) is not None:
            raise refusal("EntityAlreadyExists", f"Role with name {asked['RoleName']} already exists.", 409)
        _fits(asked["AssumeRolePolicyDocument"], TRUST_LIMIT)
        self.put(
            arn,
            Role(
                arn,
                asked["AssumeRolePolicyDocument"],
                asked["MaxSessionDuration"],
                asked.get("PermissionsBoundary"),
                _tag_set(asked["Tags"]),
            ),
        )
        return {"Role": {"Arn": arn}}

    def _TagRole(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        self.put(role.arn, replace(role, tags=_retagged(role.tags, asked["Tags"])))
        return {}

    def _UpdateAssumeRolePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        _fits(asked["PolicyDocument"], TRUST_LIMIT)
        self.put(role.arn, replace(role, trust=asked["PolicyDocument"]))
        return {}

    def _UpdateRole(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        self.put(role.arn, replace(role, max_session=asked["MaxSessionDuration"]))
        return {}

    def _PutRolePermissionsBoundary(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        self.put(role.arn, replace(role, boundary=asked["PermissionsBoundary"]))
        return {}

    def _DeleteRolePermissionsBoundary(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        if role.boundary is None:
            raise refusal("NoSuchEntity", "The role has no permissions boundary.", 404)
        self.put(role.arn, replace(role, boundary=None))
        return {}

    def _PutRolePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        inline = dict(role.inline) | {asked["PolicyName"]: asked["PolicyDocument"]}
        self.put(role.arn, replace(role, inline=frozenset(inline.items())))
        return {}

    def _DeleteRolePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        if asked["PolicyName"] not in dict(role.inline):
            raise refusal("NoSuchEntity", "The role policy cannot be found.", 404)
        kept = frozenset(each for each in role.inline if each[0] != asked["PolicyName"])
        self.put(role.arn, replace(role, inline=kept))
        return {}

    def _AttachRolePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role, arn = self._held_role(account, asked), asked["PolicyArn"]
        policy = self.policy(arn)
        if policy is None and arn not in AWS_POLICIES:
            raise refusal("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
        if arn not in role.attached and len(role.attached) >= ATTACHMENTS:
            raise refusal("LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10", 409)
        self.put(role.arn, replace(role, attached=role.attached | {arn}))
        if policy is not None:
            self.put(arn, replace(policy, attached=policy.attached | {role.arn}))
        return {}

    def _DetachRolePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role, arn = self._held_role(account, asked), asked["PolicyArn"]
        if arn not in role.attached:
            raise refusal("NoSuchEntity", f"Policy {arn} was not found.", 404)
        self.put(role.arn, replace(role, attached=role.attached - {arn}))
        policy = self.policy(arn)
        if policy is not None:
            self.put(arn, replace(policy, attached=policy.attached - {role.arn}))
        return {}

    def _DeleteRole(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        role = self._held_role(account, asked)
        if role.attached or role.inline:
            raise refusal("DeleteConflict", "Cannot delete entity, must detach all policies first.", 409)
        self.put(role.arn, None)
        return {}

    # Writes of policies.

    def _held_policy(self, asked: Any) -> Policy:
        policy = self.policy(asked["PolicyArn"])
        if policy is None:
            raise refusal("NoSuchEntity", f"Policy {asked['PolicyArn']} was not found.", 404)
        return policy

    def _CreatePolicy(self, asked: Any, account: str) -> dict[str, Any]:  # noqa: N802
        arn = f"arn:aws:iam::{account}:policy/{asked['PolicyName']}"
        if self.policy(arn) is not None:
            raise refusal("EntityAlreadyExists", f"A policy called {asked['PolicyName']} already exists.", 409)
        _fits(asked["PolicyDocument"], POLICY_LIMIT)
        self.put(arn, Policy(arn, ((1, asked["PolicyDocument"]),), 1, 2, _tag_set(asked["Tags"])))
        return {"Policy": {"Arn": arn, "DefaultVersionId": "v1"}}

    def _CreatePolicyVersion(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self._held_policy(asked)
        _fits(asked["PolicyDocument"], POLICY_LIMIT)
        if len(policy.versions) == VERSIONS:
            raise refusal("LimitExceeded", "A managed policy can have up to 5 versions.", 409)
        number = policy.following
        default = number if asked.get("SetAsDefault") else policy.default
        versions = (*policy.versions, (number, asked["PolicyDocument"]))
        self.put(policy.arn, replace(policy, versions=versions, default=default, following=number + 1))
        return {"PolicyVersion": {"VersionId": f"v{number}", "IsDefaultVersion": default == number}}

    def _DeletePolicyVersion(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy, number = self._held_policy(asked), int(asked["VersionId"][1:])
        if number not in dict(policy.versions):
            raise refusal("NoSuchEntity", "The policy version was not found.", 404)
        if number == policy.default:
            raise refusal("DeleteConflict", "Cannot delete the default version of a policy.", 409)
        self.put(policy.arn, replace(policy, versions=tuple(each for each in policy.versions if each[0] != number)))
        return {}

    def _TagPolicy(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self._held_policy(asked)
        self.put(policy.arn, replace(policy, tags=_retagged(policy.tags, asked["Tags"])))
        return {}

    def _DeletePolicy(self, asked: Any, _: str) -> dict[str, Any]:  # noqa: N802
        policy = self._held_policy(asked)
        if policy.attached or len(policy.versions) > 1:
            raise refusal("DeleteConflict", "Cannot delete a policy attached to entities, or with versions.", 409)
        self.put(policy.arn, None)
        return {}


def account_of(arn: str) -> str:
    return arn.split(":")[4]


def _role_arn(account: str, asked: Any) -> str:
    return f"arn:aws:iam::{account}:role/{asked['RoleName']}"


def _fits(document: str, limit: int) -> None:
    json.loads(document)
    if len(document) > limit:
        rule = f"no document is over the quota, as one of {len(document)} characters"
        raise RuleBrokenError(rule)


def _tag_set(tags: Any) -> frozenset[tuple[str, str]]:
    return frozenset((tag["Key"], tag["Value"]) for tag in tags)


def _retagged(tags: frozenset[tuple[str, str]], more: Any) -> frozenset[tuple[str, str]]:
    return frozenset((dict(tags) | dict(_tag_set(more))).items())


def _tag_list(tags: frozenset[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags)]
