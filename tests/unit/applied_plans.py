"""Apply a plan's actions to a member role or a shard, for the properties of plans."""

from collections.abc import Iterable
from dataclasses import replace

from chalicelib import member_role
from chalicelib.member_role import CreateRole, DeleteRole, MemberRole
from chalicelib.source_policy import plan as shard_plan
from chalicelib.source_policy.plan import (
    AttachTo,
    CreatePolicy,
    DeleteVersion,
    DetachFrom,
    SourcePolicy,
    TagPolicy,
    WriteVersion,
)


def role_after(role: MemberRole | None, actions: Iterable[member_role.Action]) -> MemberRole | None:
    """Return the role after the actions."""
    for action in actions:
        if isinstance(action, CreateRole):
            role = action.role
        else:
            assert role is not None, f"{type(action).__name__} needs a role"
            role = _role_after(role, action)
    return role


def _role_after(role: MemberRole, action: member_role.Action) -> MemberRole | None:
    match action:
        case member_role.TagRole(tags):
            return replace(role, tags={**role.tags, **tags})
        case member_role.SetTrust(trust):
            return replace(role, trust=trust)
        case member_role.SetMaxSession(seconds):
            return replace(role, max_session=seconds)
        case member_role.SetBoundary(boundary):
            return replace(role, boundary=boundary)
        case member_role.PutInlinePolicy(name, document):
            return replace(role, inline={**role.inline, name: document})
        case member_role.DeleteInlinePolicy(name):
            return replace(role, inline={key: value for key, value in role.inline.items() if key != name})
        case member_role.AttachPolicy(arn):
            return replace(role, attached=role.attached | {arn})
        case member_role.DetachPolicy(arn):
            return replace(role, attached=role.attached - {arn})
        case DeleteRole():
            return None
    raise AssertionError(action)


def policy_after(policy: SourcePolicy | None, name: str, actions: Iterable[shard_plan.Action]) -> SourcePolicy | None:
    """Return the shard's policy after the actions."""
    for action in actions:
        if isinstance(action, CreatePolicy):
            policy = SourcePolicy(name=name, document=action.document, attached=frozenset())
        else:
            assert policy is not None, f"{type(action).__name__} needs a policy"
            policy = _policy_after(policy, action)
    return policy


def _policy_after(policy: SourcePolicy, action: shard_plan.Action) -> SourcePolicy:
    match action:
        case WriteVersion(document=written):
            return replace(policy, document=written)
        case TagPolicy():
            return replace(policy, tagged=True)
        case DeleteVersion(version_id):
            return replace(policy, strays=tuple(each for each in policy.strays if each != version_id))
        case AttachTo(principal_arn):
            return replace(policy, attached=policy.attached | {principal_arn})
        case DetachFrom(principal_arn):
            return replace(policy, attached=policy.attached - {principal_arn})
    raise AssertionError(action)
