"""Least privilege: what each function's policy allows, and to no other function."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from chalicelib.accounts import LedgerRow
from rolecall.partitions import EVENT_REGIONS
from tests.deployment.deployed import MANAGEMENT_ACCOUNT, Deployment, deployed

_FUNCTIONS = {
    "OnAccountEvent",
    "Enroll",
    "Publish",
    "Backfill",
    "Rerun",
    "Resync",
    "Retire",
    "Freeze",
    "AnnounceOutcome",
}
_DRY_RUN = {"Backfill", "Rerun", "Resync", "Retire"}
_ROW = {field.name for field in fields(LedgerRow)} - {"in_force_since", "marked_for", "retirement_requested_at"}
_RETIREMENT = {"account_id", "retirement_requested_at", "revision"}
_UNINSTALL = {"policy_name", "uninstalling", "uninstalled"}


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _statements(deployment: Deployment, function: str) -> list[dict[str, Any]]:
    (policy,) = deployment[f"{function}Role"]["Policies"]
    statements: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return statements


def _allowing(deployment: Deployment, action: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each function with each of its statements that allows an action."""
    for function in sorted(_FUNCTIONS):
        for statement in _statements(deployment, function):
            if action in _listed(statement["Action"]):
                yield function, statement


def _allowed_functions(deployment: Deployment, action: str, resource: str) -> set[str]:
    return {name for name, each in _allowing(deployment, action) if resource in _listed(each["Resource"])}


def _written(deployment: Deployment, table: str) -> dict[str, tuple[set[str], set[str]]]:
    """Return which items and attributes of a table each function may update; an empty set means all."""
    found = {}
    for function, statement in _allowing(deployment, "dynamodb:UpdateItem"):
        if statement["Resource"] == deployment.values[f"{table}.Arn"]:
            only = statement["Condition"].get("ForAllValues:StringEquals", {})
            keys, attributes = (only.get(f"dynamodb:{key}", []) for key in ("LeadingKeys", "Attributes"))
            found[function] = (set(keys), set(attributes))
    return found


def test_no_function_may_change_the_role_of_a_function(deployment: Deployment) -> None:
    """They have the same ownership tags as member roles, and one more."""
    tags = {"managed-by": "rolecall", "rolecall-stage": deployment.values["Stage"], "rolecall-part": "function"}
    for function in _FUNCTIONS:
        assert {each["Key"]: each["Value"] for each in deployment[f"{function}Role"]["Tags"]} == tags
        for statement in _statements(deployment, function):
            on_any_role = any(each.endswith(":role/*") for each in _listed(statement["Resource"]))
            if on_any_role and {"iam:DeleteRole", "iam:DeleteRolePolicy"} & set(_listed(statement["Action"])):
                assert statement["Condition"]["Null"] == {"aws:ResourceTag/rolecall-part": "true"}


def test_each_function_has_its_own_role(deployment: Deployment) -> None:
    resources = deployment.expanded["Resources"]
    roles = {name: resources[name]["Properties"]["Role"] for name in deployment.of_type("AWS::Lambda::Function")}
    assert roles == {name: {"Fn::GetAtt": [f"{name}Role", "Arn"]} for name in _FUNCTIONS}
    assert deployment.of_type("AWS::IAM::Role").keys() == {f"{name}Role" for name in _FUNCTIONS}
    assert all(_statements(deployment, name) for name in _FUNCTIONS)


def test_each_ledger_attribute_has_one_writer(deployment: Deployment) -> None:
    """Only the key and the revision, by which enroll detects a retirement, are written by several functions."""
    assert _written(deployment, "LedgerTable") == {
        "Enroll": (set(), _ROW),
        "Publish": (set(), {"account_id", "in_force_since", "marked_for"}),
        "Backfill": (set(), _RETIREMENT),
        "Retire": (set(), _RETIREMENT),
    }


def test_each_control_attribute_has_one_writer(deployment: Deployment) -> None:
    assert _written(deployment, "SourcePolicyTable") == {
        "OnAccountEvent": ({"#control"}, {"policy_name", "control_policies_changed_at"}),
        "Publish": (set(), set()),
        "Backfill": ({"#control"}, _UNINSTALL),
        "Retire": ({"#control"}, _UNINSTALL),
        "Freeze": ({"#control"}, {"policy_name", "frozen", "freeze_requested_at"}),
        "Resync": ({"#control"}, {"policy_name", "verify_requested_at", "check_requested_at", "scope_recorded"}),
    }
    written = [each for each in _statements(deployment, "Publish") if "dynamodb:DeleteItem" in each["Action"]]
    assert [each["Condition"] for each in written] == [
        {
            "ForAllValues:StringNotEquals": {"dynamodb:LeadingKeys": ["#control"]},
            "Null": {"dynamodb:LeadingKeys": "false"},
        }
    ]


def test_restricted_update_requires_attributes_and_returns_none(deployment: Deployment) -> None:
    """ForAllValues is true for a request without the key, and ReturnValues would return the other attributes."""
    for function, statement in _allowing(deployment, "dynamodb:UpdateItem"):
        condition = statement["Condition"]
        if limited := condition.get("ForAllValues:StringEquals"):
            assert condition["Null"] == dict.fromkeys(limited, "false"), function
            assert condition["StringEqualsIfExists"] == {"dynamodb:ReturnValues": "NONE"}, function
            assert statement["Action"] == "dynamodb:UpdateItem", function


def test_each_queue_has_its_senders_and_receivers(deployment: Deployment) -> None:
    arns = {name: deployment.values[f"{name}.Arn"] for name in deployment.of_type("AWS::SQS::Queue")}
    send = {name: _allowed_functions(deployment, "sqs:SendMessage", arn) for name, arn in arns.items()}
    assert send == {
        "AccountsQueue": {"OnAccountEvent"} | _DRY_RUN,
        "PublishQueue": {"Enroll", "Freeze"} | _DRY_RUN,
        "EventsDeadLetterQueue": {"OnAccountEvent"},
        "AnnouncementsDeadLetterQueue": {"AnnounceOutcome"},
        "AccountsDeadLetterQueue": set(),
        "PublishDeadLetterQueue": set(),
    }
    receive = {name: _allowed_functions(deployment, "sqs:ReceiveMessage", arn) for name, arn in arns.items()}
    assert receive == {
        "AccountsQueue": {"Enroll"},
        "PublishQueue": {"Publish"},
        "EventsDeadLetterQueue": set(),
        "AnnouncementsDeadLetterQueue": set(),
        "AccountsDeadLetterQueue": {"Rerun"},
        "PublishDeadLetterQueue": {"Rerun"},
    }


def test_announcer_may_read_the_stream_and_put_events_and_nothing_else(deployment: Deployment) -> None:
    """It may not even read the ledger itself; no other function may put events."""
    account = f"{deployment.location.region}:{MANAGEMENT_ACCOUNT}"
    allowed = {
        action: each["Resource"]
        for each in _statements(deployment, "AnnounceOutcome")
        for action in _listed(each["Action"])
        if not action.startswith("logs:")
    }
    reading = ("DescribeStream", "GetRecords", "GetShardIterator")
    assert allowed == {
        **{f"dynamodb:{name}": deployment.values["LedgerTable.StreamArn"] for name in reading},
        "dynamodb:ListStreams": "*",
        "events:PutEvents": f"arn:{deployment.location.partition}:events:{account}:event-bus/default",
        "sqs:SendMessage": deployment.values["AnnouncementsDeadLetterQueue.Arn"],
    }
    ((name, statement),) = _allowing(deployment, "events:PutEvents")
    assert (name, statement["Condition"]) == (
        "AnnounceOutcome",
        {"ForAllValues:StringEquals": {"events:source": "rolecall.dev"}},
    )


def test_only_freeze_may_invoke_a_function_and_only_publish(deployment: Deployment) -> None:
    invoking = [(name, each["Resource"]) for name, each in _allowing(deployment, "lambda:InvokeFunction")]
    assert invoking == [("Freeze", deployment.values["Publish.Arn"])]


def test_only_publish_may_write_the_source_policy_and_attach_it(deployment: Deployment) -> None:
    policy, principals = f"policy/{deployment.values['SourcePolicyName']}", ("role/Reader", "user/reader")
    acting = {
        name
        for name in _FUNCTIONS
        for each in _statements(deployment, name)
        if any(text in json.dumps(each) for text in (policy, *principals)) or "iam:GetAccountSummary" in each["Action"]
    }
    assert acting == {"Publish"}
    assert {name for name, _ in _allowing(deployment, "organizations:DescribeOrganization")} == {"Publish"}


def test_only_enroll_may_change_a_member_role(deployment: Deployment) -> None:
    member_role = f"role/{deployment.values['MemberRoleName']}"
    changing = {
        name
        for name in _FUNCTIONS
        for each in _statements(deployment, name)
        for action in _listed(each["Action"])
        if member_role in json.dumps(each["Resource"]) and not action.startswith(("iam:Get", "iam:List"))
    }
    assert changing == {"Enroll"}


def test_access_roles_are_assumed_by_name_in_this_organization(deployment: Deployment) -> None:
    assuming = dict(_allowing(deployment, "sts:AssumeRole"))
    assert assuming.keys() == {"Enroll"} | _DRY_RUN
    for assume in assuming.values():
        assert assume["Action"] == "sts:AssumeRole"
        assert assume["Resource"] == [
            "arn:*:iam::*:role/OrganizationAccountAccessRole",
            "arn:*:iam::*:role/AWSControlTowerExecution",
        ]
        assert assume["Condition"] == {"StringEquals": {"aws:ResourceOrgID": "${aws:PrincipalOrgID}"}}


_ELSEWHERE = {"SourcePrincipalArns": "arn:aws:iam::444455556666:role/Reader"}


@pytest.mark.parametrize("names", ["OrganizationAccountAccessRole,RolecallAccess", "RolecallAccess", ""])
@pytest.mark.parametrize("stack_set", ["true", "false"])
def test_functions_may_assume_exactly_the_roles_in_their_settings(
    template: dict[str, Any], names: str, stack_set: str
) -> None:
    deployment = deployed(template, "aws", AccessRoleNames=names, AccessRoleStackSet=stack_set, **_ELSEWHERE)
    own = ["rolecall-dev-access"] if stack_set == "true" else []
    roles = [*own, *filter(None, names.split(","))]
    variables = deployment["Enroll"]["Environment"]["Variables"]
    assert variables["ACCESS_ROLE_NAMES"] == ",".join(roles)
    for _, statement in _allowing(deployment, "sts:AssumeRole"):
        # Without any, which rolecall deploy refuses, none: no role has an empty name.
        assert statement["Resource"] == [f"arn:*:iam::*:role/{role}" for role in roles or [""]]


def test_publish_enters_only_a_separate_source_account(template: dict[str, Any]) -> None:
    separate = deployed(template, "aws", SourcePrincipalArns="arn:aws:iam::444455556666:role/Reader")
    assume = dict(_allowing(separate, "sts:AssumeRole"))["Publish"]
    assert assume["Resource"] == [
        "arn:*:iam::*:role/OrganizationAccountAccessRole",
        "arn:*:iam::*:role/AWSControlTowerExecution",
    ]
    assert assume["Condition"] == {
        "StringEquals": {"aws:ResourceOrgID": "${aws:PrincipalOrgID}", "aws:ResourceAccount": "444455556666"}
    }
    assert not [each for each in _statements(separate, "Publish") if str(each["Action"]).count("iam:")]


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_only_configured_policies_may_be_attached(partition: str, template: dict[str, Any]) -> None:
    account = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    parameters = {
        "MemberRoleName": "Audit",
        "MemberRolePolicyArns": "arn:{partition}:iam::aws:policy/SecurityAudit,arn:{partition}:iam::{account_id}:policy/More",
        "SourcePolicyName": "ReadAll",
    }
    attaching = dict(_allowing(deployed(template, partition, **parameters), "iam:AttachRolePolicy"))
    assert {name: (each["Resource"], each["Condition"]) for name, each in attaching.items()} == {
        "Enroll": (
            f"{account}:role/Audit",
            {"ArnLike": {"iam:PolicyARN": ["arn:*:iam::aws:policy/SecurityAudit", "arn:*:iam::*:policy/More"]}},
        ),
        "Publish": (
            [f"{account}:role/Reader", f"{account}:user/reader"],
            {"ArnLike": {"iam:PolicyARN": [f"{account}:policy/ReadAll", f"{account}:policy/ReadAll-*"]}},
        ),
    }


def test_enroll_may_not_change_an_excluded_management_account(template: dict[str, Any]) -> None:
    included, excluded = (deployed(template, "aws", IncludeManagementAccount=value) for value in ("true", "false"))
    assert {name for name, _ in _allowing(included, "iam:CreateRole")} == {"Enroll"}
    assert not dict(_allowing(excluded, "iam:CreateRole"))
    assert not dict(_allowing(excluded, "iam:GetRole"))


@pytest.mark.parametrize(
    ("setting", "reads"), [({}, False), ({"IncludeTags": "env=prod"}, True), ({"ExcludeTags": "env=*"}, True)]
)
def test_tags_may_be_read_only_if_they_select_accounts(
    template: dict[str, Any], setting: dict[str, str], reads: bool
) -> None:
    stage = deployed(template, "aws", **setting)
    assert {name for name, _ in _allowing(stage, "tag:GetResources")} == ({"Backfill", "Resync"} if reads else set())
    looking_up = {name for name, _ in _allowing(stage, "organizations:ListTagsForResource")}
    assert looking_up == ({"Enroll", *_DRY_RUN} - {"Retire"} if reads else set())


@pytest.mark.parametrize(
    ("boundary", "condition"),
    [
        (
            "arn:{partition}:iam::{account_id}:policy/Boundary",
            {"ArnLike": {"iam:PermissionsBoundary": "arn:*:iam::*:policy/Boundary"}},
        ),
        ("", None),
    ],
)
def test_enroll_may_not_remove_a_configured_boundary(
    template: dict[str, Any], boundary: str, condition: dict[str, Any] | None
) -> None:
    (policy,) = deployed(template, "aws", PermissionsBoundaryArn=boundary)["EnrollRole"]["Policies"]
    bounding = {
        action: each.get("Condition")
        for each in policy["PolicyDocument"]["Statement"]
        for action in _listed(each["Action"])
        if action == "iam:CreateRole" or action.endswith("Boundary")
    }
    changing = "iam:PutRolePermissionsBoundary" if boundary else "iam:DeleteRolePermissionsBoundary"
    assert bounding == {"iam:CreateRole": condition, changing: condition}
