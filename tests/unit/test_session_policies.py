"""Session policies allow only Rolecall's calls on its own role and policies."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.session_policies import (
    SESSION_POLICY_LIMIT,
    check_sizes,
    member_role_delete,
    member_role_read,
    member_role_write,
    source_policy_delete,
    source_policy_read,
    source_policy_write,
)
from chalicelib.settings import Settings
from tests.unit.builders import MANAGEMENT, MEMBER, PARTITIONS, SOURCE, settings

NAME = "CrossAccountReadOnlyAccess"
Allowed = dict[str, tuple[tuple[str, ...], Any]]


def allowed(document: Document) -> Allowed:
    """Return the resources and the condition of each IAM action that a session policy allows."""
    found: Allowed = {}
    assert document.content["Version"] == "2012-10-17"
    for statement in document.content["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = (_listed(statement[key]) for key in ("Action", "Resource"))
        for action in actions:
            assert action not in found
            found[action] = (tuple(resources), statement.get("Condition"))
    return {action.removeprefix("iam:"): found[action] for action in found}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def on(*resources: str, actions: str, condition: Any = None) -> Allowed:
    return dict.fromkeys(actions.split(), (resources, condition))


@pytest.mark.parametrize("build", [member_role_read, member_role_write])
def test_stacks_may_be_read_only_where_a_role_may_be_adopted(build: Callable[[Settings, str], Document]) -> None:
    config = settings(ADOPT_EXISTING_ROLES=MEMBER)
    action = "cloudformation:DescribeStackResources"

    assert allowed(build(config, MEMBER)) == {
        **allowed(build(settings(), MEMBER)),
        **on("*", actions=action),
    }
    assert action not in allowed(build(config, SOURCE))


# --- A member account -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", PARTITIONS)
def test_dry_run_may_only_read_the_member_role(partition: str) -> None:
    role = f"arn:{partition}:iam::{MEMBER}:role/CrossAccountReadOnlyRole"
    with_path = f"arn:{partition}:iam::{MEMBER}:role/*/CrossAccountReadOnlyRole"

    assert allowed(member_role_read(settings(partition), MEMBER)) == {
        **on(role, with_path, actions="GetRole"),
        **on(role, actions="ListAttachedRolePolicies ListRolePolicies GetRolePolicy"),
    }


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("bounded", [False, True])
def test_enroll_may_only_write_the_member_role(partition: str, bounded: bool) -> None:
    boundary = f"arn:{partition}:iam::{MEMBER}:policy/Boundary" if bounded else ""
    role = f"arn:{partition}:iam::{MEMBER}:role/CrossAccountReadOnlyRole"
    with_path = f"arn:{partition}:iam::{MEMBER}:role/*/CrossAccountReadOnlyRole"
    attached = {"ArnEquals": {"iam:PolicyARN": [f"arn:{partition}:iam::aws:policy/ReadOnlyAccess"]}}
    within = {"ArnEquals": {"iam:PermissionsBoundary": boundary}} if bounded else None
    creates = f"CreateRole {'Put' if bounded else 'Delete'}RolePermissionsBoundary"

    assert allowed(member_role_write(settings(partition, PERMISSIONS_BOUNDARY_ARN=boundary), MEMBER)) == {
        **on(role, with_path, actions="GetRole"),
        **on(role, actions="ListAttachedRolePolicies ListRolePolicies GetRolePolicy"),
        **on(role, actions="TagRole UpdateAssumeRolePolicy UpdateRole"),
        **on(role, actions="PutRolePolicy DeleteRolePolicy DetachRolePolicy"),
        **on(role, actions="AttachRolePolicy", condition=attached),
        **on(role, actions=creates, condition=within),
    }


@pytest.mark.parametrize("partition", PARTITIONS)
def test_retire_may_only_delete_the_member_role(partition: str) -> None:
    role = f"arn:{partition}:iam::{MEMBER}:role/CrossAccountReadOnlyRole"

    assert allowed(member_role_delete(settings(partition), MEMBER)) == on(
        role,
        actions="GetRole ListAttachedRolePolicies ListRolePolicies GetRolePolicy DetachRolePolicy DeleteRolePolicy DeleteRole",
    )


# --- A separate source account ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize(
    ("principals", "attach", "kinds"),
    [
        (["role/Reader"], "true", ["Role"]),
        (["user/jo"], "true", ["User"]),
        (["role/Reader", "user/jo", "role/path/Other"], "true", ["Role", "User"]),
        (["root"], "true", []),
        (["role/Reader"], "false", []),
    ],
)
def test_session_in_the_source_account_may_only_write_the_shards(
    partition: str, principals: list[str], attach: str, kinds: list[str]
) -> None:
    account = f"arn:{partition}:iam::{SOURCE}"
    arns = [f"{account}:{principal}" for principal in principals]
    shards = [f"{account}:policy/{NAME}", f"{account}:policy/{NAME}-*"]
    only_shards = {"ArnLike": {"iam:PolicyARN": shards}}
    config = settings(partition, SOURCE_PRINCIPAL_ARNS=",".join(arns), ATTACH_SOURCE_POLICY=attach)
    detaching: Allowed = {}
    if attach == "true":
        former = (f"{account}:role/*", f"{account}:user/*")
        detaching = on(*former, actions="DetachRolePolicy DetachUserPolicy", condition=only_shards)

    assert allowed(source_policy_read(config)) == {
        **on(*shards, actions="GetPolicy GetPolicyVersion ListPolicyVersions ListEntitiesForPolicy"),
        **(on("*", actions="GetAccountSummary") if kinds else {}),
        **on(*arns, actions=" ".join(f"ListAttached{kind}Policies" for kind in kinds)),
    }
    assert allowed(source_policy_write(config)) == {
        **on(*shards, actions="CreatePolicy TagPolicy GetPolicy ListPolicyVersions"),
        **on(*shards, actions="CreatePolicyVersion DeletePolicyVersion"),
        **on(*arns, actions=" ".join(f"Attach{kind}Policy" for kind in kinds), condition=only_shards),
        **detaching,
    }
    assert allowed(source_policy_delete(config)) == {
        **on(*shards, actions="ListPolicyVersions DeletePolicyVersion DeletePolicy ListEntitiesForPolicy"),
        **detaching,
    }


# --- Sizes ------------------------------------------------------------------------------------------------------------


def member_role(build: Callable[[Settings, str], Document]) -> Callable[[Settings], Document]:
    return lambda config: build(config, MEMBER)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize(
    "build",
    [
        *map(member_role, (member_role_read, member_role_write, member_role_delete)),
        source_policy_read,
        source_policy_write,
        source_policy_delete,
    ],
)
def test_session_policy_with_the_longest_names_is_within_the_limit(
    partition: str, build: Callable[[Settings], Document]
) -> None:
    policies = ",".join(f"arn:{{partition}}:iam::aws:policy/job-function/Policy{number}" for number in range(4))
    config = settings(
        partition,
        MEMBER_ROLE_NAME="M" * 64,
        MEMBER_ROLE_POLICY_ARNS=policies,
        PERMISSIONS_BOUNDARY_ARN=f"arn:{partition}:iam::{{account_id}}:policy/{'b' * 64}",
        SOURCE_POLICY_NAME="p" * 120,
        SOURCE_PRINCIPAL_ARNS=f"arn:{partition}:iam::{SOURCE}:role/{'r' * 64},arn:{partition}:iam::{SOURCE}:user/{'u' * 64}",
    )

    assert build(config).size <= SESSION_POLICY_LIMIT
    check_sizes(config)


def test_too_many_member_role_policies_are_rejected() -> None:
    policies = ",".join(f"arn:aws:iam::aws:policy/{'p' * 90}{number:02}" for number in range(20))

    with pytest.raises(SettingsError, match=r"access roles would take \d+ .* 2048: set fewer MEMBER_ROLE_POLICY_ARNS"):
        check_sizes(settings(MEMBER_ROLE_POLICY_ARNS=policies))


def test_too_many_principals_in_a_separate_source_account_are_rejected() -> None:
    def principals(account_id: str) -> Settings:
        arns = (f"arn:aws:iam::{account_id}:role/{'r' * 60}{number:02}" for number in range(20))
        return settings(SOURCE_PRINCIPAL_ARNS=",".join(arns))

    check_sizes(principals(MANAGEMENT))  # needs no session
    with pytest.raises(SettingsError, match=r"source account would take \d+ .* 2048: set fewer SOURCE_PRINCIPAL_ARNS"):
        check_sizes(principals(SOURCE))
