"""The access roles, the trail and the service control policy in docs/."""

import json
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

import pytest
from cfnlint.api import lint
from samtranslator.yaml_helper import yaml_parse

from chalicelib import session_policies
from chalicelib.settings import Settings
from rolecall.deploy.intrinsics import resolve
from tests.conftest import ROOT
from tests.deployment.deployed import Deployment, deployed

_ACCOUNT = "444455556666"
_PARAMETERS: dict[str, Any] = {
    "AWS::Partition": "aws",
    "AWS::AccountId": _ACCOUNT,
    "ManagementAccountId": "111122223333",
    "Stage": "dev",
    "FunctionsRolePath": "/",
    "AccessRoleName": "RolecallAccess",
    "AccessRole": "RolecallAccess",
    "MemberRoleName": "CrossAccountReadOnlyRole",
    "MemberRolePolicyArns": "arn:{partition}:iam::aws:policy/ReadOnlyAccess,arn:{partition}:iam::{account_id}:policy/More",
    "PermissionsBoundaryArn": "",
    "SourceAccountId": "",
    "SourcePolicyName": "",
    "SourcePrincipalArns": [""],
}
_SOURCE_ACCOUNT = {
    "SourcePolicyName": "CrossAccountReadOnlyAccess",
    "SourcePrincipalArns": [f"arn:aws:iam::{_ACCOUNT}:role/Reader", f"arn:aws:iam::{_ACCOUNT}:user/reader"],
}
_TEMPLATE_BODY_BYTES = 51_200  # "Understand CloudFormation quotas"
_BOUNDARY = f"arn:aws:iam::{_ACCOUNT}:policy/Boundary"


def _settings(arns: str = ",".join(_SOURCE_ACCOUNT["SourcePrincipalArns"]), **changes: str) -> Settings:
    environ = {
        "STAGE": "dev",
        "PARTITION": "aws",
        "MANAGEMENT_ACCOUNT_ID": "111122223333",
        "SOURCE_PRINCIPAL_ARNS": arns,
    }
    return replace(Settings.from_env(environ), **changes)  # type: ignore[arg-type]


def _allowed(statements: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return each action and resource that the statements allow."""
    return {
        (action, resource)
        for each in statements
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
        for resource in ([each["Resource"]] if isinstance(each["Resource"], str) else each["Resource"])
    }


def _narrow(**parameters: Any) -> list[dict[str, Any]]:
    """Return the statements of the narrow role with these parameters."""
    values = _PARAMETERS | parameters
    template = yaml_parse((ROOT / "docs/access-role-narrow.yaml").read_text())
    conditions = _conditions(template, values)
    included = [each for each in template["Resources"].values() if conditions.get(each.get("Condition"), True)]
    role, *others = (each["Properties"] for each in resolve(included, values | conditions))
    return list(chain.from_iterable(policy["PolicyDocument"]["Statement"] for policy in (*role["Policies"], *others)))


def _conditions(template: dict[str, Any], values: dict[str, Any]) -> dict[str, bool]:
    """Return the values of the conditions, each of which may refer to those before it."""
    conditions: dict[str, bool] = {}
    for name, condition in template["Conditions"].items():
        conditions[name] = _condition(condition, values | conditions)
    return conditions


def _condition(node: dict[str, Any], values: dict[str, Any]) -> bool:
    match node:
        case {"Condition": name}:
            return bool(values[name])
        case {"Fn::And": parts}:
            return all(_condition(part, values) for part in parts)
        case {"Fn::Or": parts}:
            return any(_condition(part, values) for part in parts)
        case {"Fn::Not": [part]}:
            return not _condition(part, values)
    return bool(resolve(node, values))


@pytest.mark.parametrize("boundary", [None, _BOUNDARY])
def test_narrow_role_allows_exactly_the_session_policies(boundary: str | None) -> None:
    settings = replace(_settings(), permissions_boundary_arn=boundary, adopt_existing_roles=True)
    documents = [
        build(settings, _ACCOUNT)
        for build in (
            session_policies.member_role_write,
            session_policies.member_role_delete,
            session_policies.member_role_read,
        )
    ]
    needed = set().union(*(_allowed(document.content["Statement"]) for document in documents))
    assert _allowed(_narrow(PermissionsBoundaryArn=boundary or "")) == needed


def _in_the_source_account(settings: Settings) -> set[Any]:
    documents = (
        build(settings)
        for build in (
            session_policies.source_policy_read,
            session_policies.source_policy_write,
            session_policies.source_policy_delete,
        )
    )
    return set().union(*(_allowed(document.content["Statement"]) for document in documents))


def test_narrow_role_of_the_source_account_allows_the_source_policy() -> None:
    needed = _in_the_source_account(_settings())
    added = _allowed(_narrow(**_SOURCE_ACCOUNT)) - _allowed(_narrow())
    assert added == needed


def test_narrow_role_with_a_root_principal_only_detaches() -> None:
    settings = _settings(f"arn:aws:iam::{_ACCOUNT}:root")
    needed = _in_the_source_account(settings)
    assert _allowed(_narrow(SourcePolicyName="CrossAccountReadOnlyAccess")) - _allowed(_narrow()) == needed


def test_narrow_role_attaches_only_the_configured_policies() -> None:
    (attach,) = [each for each in _narrow() if each["Action"] == "iam:AttachRolePolicy"]
    policies = ["arn:*:iam::aws:policy/ReadOnlyAccess", "arn:*:iam::*:policy/More"]
    assert attach["Condition"] == {"ArnLike": {"iam:PolicyARN": policies}}


@pytest.mark.parametrize(
    ("boundary", "pattern"),
    [(_BOUNDARY, _BOUNDARY), ("arn:{partition}:iam::{account_id}:policy/Boundary", "arn:*:iam::*:policy/Boundary")],
)
def test_narrow_role_creates_only_with_the_configured_boundary(boundary: str, pattern: str) -> None:
    (create,) = [each for each in _narrow(PermissionsBoundaryArn=boundary) if "iam:CreateRole" in each["Action"]]
    assert create["Condition"] == {"ArnLike": {"iam:PermissionsBoundary": pattern}}


@pytest.mark.parametrize(("source_account", "is_source"), [("", True), (_ACCOUNT, True), ("777788889999", False)])
def test_narrow_role_manages_the_source_policy_only_in_the_source_account(source_account: str, is_source: bool) -> None:
    statements = _narrow(**_SOURCE_ACCOUNT, SourceAccountId=source_account)
    assert any("iam:CreatePolicy" in each["Action"] for each in statements) == is_source


@pytest.mark.parametrize("boundary", ["", "arn:{partition}:iam::{account_id}:policy/Boundary"])
def test_stack_set_deploys_the_narrow_role_with_the_stages_settings(template: dict[str, Any], boundary: str) -> None:
    policies = "arn:{partition}:iam::aws:policy/SecurityAudit"
    given = {
        "FunctionsRolePath": "/platform/",
        "MemberRoleName": "Audit",
        "MemberRolePolicyArns": policies,
        "PermissionsBoundaryArn": boundary,
    }
    source = f"arn:aws:iam::{_ACCOUNT}:role/Reader"
    targets = "ou-ab12-11111111,ou-ab12-22222222"
    used = {"AccessRoleStackSet": "true", "AccessRoleTargets": targets, "SourcePrincipalArns": source}
    stack_set = deployed(template, "aws", **given, **used).only("AWS::CloudFormation::StackSet")

    narrow = (ROOT / "docs/access-role-narrow.yaml").read_text()
    assert stack_set["TemplateBody"] == narrow
    assert len(narrow) <= _TEMPLATE_BODY_BYTES
    assert {each["ParameterKey"]: each["ParameterValue"] for each in stack_set["Parameters"]} == {
        **given,
        "ManagementAccountId": "111122223333",
        "Stage": "dev",
        "AccessRoleName": "rolecall-dev-access",
        "SourceAccountId": _ACCOUNT,
        "SourcePolicyName": "CrossAccountReadOnlyAccess",
        "SourcePrincipalArns": source,
    }
    declared = yaml_parse(narrow)["Parameters"]
    assert declared.keys() == {each["ParameterKey"] for each in stack_set["Parameters"]}
    for each in stack_set["Parameters"]:
        pattern = declared[each["ParameterKey"]].get("AllowedPattern", ".*")
        assert re.fullmatch(pattern, each["ParameterValue"]), each
    (group,) = stack_set["StackInstancesGroup"]
    assert group == {"DeploymentTargets": {"OrganizationalUnitIds": targets.split(",")}, "Regions": ["us-east-1"]}
    assert (stack_set["PermissionModel"], stack_set["StackSetName"]) == ("SERVICE_MANAGED", "rolecall-dev-access")
    assert stack_set["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": False}
    # Without the last tag, enroll could take the role for a member role.
    assert {tag["Key"] for tag in stack_set["Tags"]} == {"managed-by", "rolecall-stage", "rolecall-part"}


@pytest.mark.parametrize(
    ("principals", "attach"),
    [(f"arn:aws:iam::{_ACCOUNT}:root", "true"), (f"arn:aws:iam::{_ACCOUNT}:role/Reader", "false")],
)
def test_stack_sets_role_attaches_nothing_where_rolecall_does_not(
    template: dict[str, Any], principals: str, attach: str
) -> None:
    used = {"AccessRoleStackSet": "true", "SourcePrincipalArns": principals, "AttachSourcePolicy": attach}
    stack_set = deployed(template, "aws", **used).only("AWS::CloudFormation::StackSet")
    assert {"ParameterKey": "SourcePrincipalArns", "ParameterValue": ""} in stack_set["Parameters"]


def test_stack_sets_role_has_no_permission_on_policies_without_a_source_policy(template: dict[str, Any]) -> None:
    arns = f"arn:aws:iam::{_ACCOUNT}:role/Reader,arn:aws:iam::555566667777:role/Scanner"
    used = {"AccessRoleStackSet": "true", "SourcePolicyScope": "none", "SourcePrincipalArns": arns}
    stack_set = deployed(template, "aws", **used).only("AWS::CloudFormation::StackSet")
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack_set["Parameters"]}

    # In the account of the first source principal.
    assert given["SourceAccountId"] == _ACCOUNT
    assert _narrow(**given | {"SourcePrincipalArns": given["SourcePrincipalArns"].split(",")}) == _narrow(
        MemberRolePolicyArns=given["MemberRolePolicyArns"]
    )


def test_stack_set_is_deployed_only_on_request(template: dict[str, Any]) -> None:
    condition = template["Resources"]["AccessRoles"]["Condition"]
    assert deployed(template, "aws", AccessRoleStackSet="true").values[condition]
    assert not deployed(template, "aws").values[condition]


def _assuming_roles(deployment: Deployment) -> dict[str, bool]:
    """Map the logical ids of the functions' roles that assume access roles to whether they do so only in the source account."""
    statements = {
        name: each
        for name, role in deployment.of_type("AWS::IAM::Role").items()
        for policy in role["Policies"]
        for each in policy["PolicyDocument"]["Statement"]
        if each["Action"] == "sts:AssumeRole"
    }
    return {name: "aws:ResourceAccount" in each["Condition"]["StringEquals"] for name, each in statements.items()}


@pytest.mark.parametrize("path", ["/", "/platform/"])
@pytest.mark.parametrize("is_source_account", [False, True])
def test_narrow_role_trusts_only_the_functions_of_its_stage(
    is_source_account: bool,
    path: str,
    template: dict[str, Any],
) -> None:
    narrow = yaml_parse((ROOT / "docs/access-role-narrow.yaml").read_text())["Resources"]["AccessRole"]["Properties"]
    values = _PARAMETERS | {"IsSourceAccount": is_source_account, "FunctionsRolePath": path}
    (statement,) = resolve(narrow["AssumeRolePolicyDocument"], values)["Statement"]
    condition = statement.pop("Condition")
    principal = {"AWS": "arn:aws:iam::111122223333:root"}
    assert statement == {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    patterns = condition["ArnLike"]["aws:PrincipalArn"]

    elsewhere = deployed(template, "aws", SourcePrincipalArns=f"arn:aws:iam::{_ACCOUNT}:role/Reader")
    roles = elsewhere.of_type("AWS::IAM::Role")
    # CloudFormation names a role without RoleName after its stack and logical id.
    assert not [name for name, role in roles.items() if "RoleName" in role]
    trusted = {
        (stage, other, name)
        for stage in ("dev", "dev-eu", "dev-enrollrole")
        for other in ("/", "/platform/", "/another/")
        for name in roles
        if any(
            fnmatchcase(f"arn:aws:iam::111122223333:role{other}rolecall-{stage}-{name}-1A2B3C", each)
            for each in patterns
        )
    }
    assuming = _assuming_roles(elsewhere)
    assert trusted == {
        ("dev", path, name) for name, only_source in assuming.items() if is_source_account or not only_source
    }


@pytest.mark.parametrize("name", ["access-role-full.yaml", "access-role-narrow.yaml", "trail.yaml"])
def test_templates_in_docs_are_clean_in_every_partition(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert [str(match) for match in lint(text)] == []
    assert "arn:" + "aws:" not in text
    assert "&" not in text  # CloudFormation rejects YAML anchors.


def test_scp_denies_every_change_of_a_member_role_except_rolecalls() -> None:
    text = (ROOT / "docs/scp-protect-member-role.json").read_text()
    roles, sessions = json.loads(text)["Statement"]
    settings = _settings(permissions_boundary_arn=_BOUNDARY)
    written = (session_policies.member_role_write, session_policies.member_role_delete)
    documents = [build(settings, _ACCOUNT) for build in written]
    own = {action for document in documents for action, _ in _allowed(document.content["Statement"])}
    changes = {action for action in own if not action.startswith(("iam:Get", "iam:List"))}
    for statement in (roles, sessions):
        assert statement["Effect"] == "Deny"
        assert changes | {"iam:DeleteRolePermissionsBoundary", "iam:UntagRole"} <= set(statement["Action"])
        assert statement["Resource"] == f"arn:*:iam::*:role/{settings.member_role_name}"
    exempt = roles["Condition"]["ArnNotLike"]["aws:PrincipalArn"]
    assert {f"arn:*:iam::*:role/{name}" for name in settings.access_role_names} <= set(exempt)
    assert sessions["Condition"] == {"StringNotLike": {"aws:userid": "*:rolecall-STAGE"}}
    # A service control policy's size ("Quotas for AWS Organizations").
    assert len(text) <= 5120


def test_trail_may_write_to_its_bucket() -> None:
    resources = yaml_parse((ROOT / "docs/trail.yaml").read_text())["Resources"]
    name = resources["Trail"]["Properties"]["TrailName"]
    bucket = {"Bucket": "trails", "Bucket.Arn": "arn:aws-cn:s3:::trails"}
    location = {"AWS::Partition": "aws-cn", "AWS::Region": "cn-northwest-1", "AWS::AccountId": _ACCOUNT}
    policy = resolve(resources["BucketPolicy"]["Properties"], bucket | location)
    check, write, _ = policy["PolicyDocument"]["Statement"]
    trail = {"aws:SourceArn": f"arn:aws-cn:cloudtrail:cn-northwest-1:{_ACCOUNT}:trail/{name}"}
    assert (check["Action"], check["Resource"]) == ("s3:GetBucketAcl", "arn:aws-cn:s3:::trails")
    assert (write["Action"], write["Resource"]) == ("s3:PutObject", f"arn:aws-cn:s3:::trails/AWSLogs/{_ACCOUNT}/*")
    assert check["Condition"] == {"StringEquals": trail}
    assert write["Condition"] == {"StringEquals": trail | {"s3:x-amz-acl": "bucket-owner-full-control"}}
    assert resources["Trail"]["DependsOn"] == "BucketPolicy"
