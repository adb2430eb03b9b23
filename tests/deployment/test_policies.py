"""Each function may do what it does, and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deployment.deployed import MANAGEMENT_ACCOUNT, Deployment, deployed

_FUNCTIONS = {"OnAccountEvent", "Enroll", "Publish", "Backfill", "Rerun", "Resync", "Retire", "Freeze"}
_PREVIEWING = {"Backfill", "Rerun", "Resync", "Retire"}
_ROW = {
    *("account_id", "name", "outcome", "reason", "change", "error", "access", "role_arn", "trigger"),
    *("access_role", "attempts", "failed_at", "joined_at", "enrolled_at", "updated_at", "revision"),
}
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


def _who(deployment: Deployment, action: str, resource: str) -> set[str]:
    return {name for name, each in _allowing(deployment, action) if resource in _listed(each["Resource"])}


def _written(deployment: Deployment, table: str) -> dict[str, tuple[set[str], set[str]]]:
    """Return which items and attributes of a table each function may update; an empty set is not limited."""
    found = {}
    for function, statement in _allowing(deployment, "dynamodb:UpdateItem"):
        if statement["Resource"] == deployment.values[f"{table}.Arn"]:
            only = statement["Condition"].get("ForAllValues:StringEquals", {})
            keys, attributes = (only.get(f"dynamodb:{key}", []) for key in ("LeadingKeys", "Attributes"))
            found[function] = (set(keys), set(attributes))
    return found


def test_each_function_has_a_policy_of_its_own(deployment: Deployment) -> None:
    assert deployment.of_type("AWS::IAM::Role").keys() == {f"{name}Role" for name in _FUNCTIONS}
    assert all(_statements(deployment, name) for name in _FUNCTIONS)


def test_each_attribute_of_the_ledger_has_one_writer(deployment: Deployment) -> None:
    """Only the key, and the revision by which enroll notices a retirement, are written by several."""
    assert _written(deployment, "LedgerTable") == {
        "Enroll": (set(), _ROW),
        "Publish": (set(), {"account_id", "in_force_since"}),
        "Backfill": (set(), _RETIREMENT),
        "Retire": (set(), _RETIREMENT),
    }


def test_each_attribute_of_control_has_one_writer(deployment: Deployment) -> None:
    assert _written(deployment, "SourcePolicyTable") == {
        "Publish": (set(), set()),
        "Backfill": ({"#control"}, _UNINSTALL),
        "Retire": ({"#control"}, _UNINSTALL),
        "Freeze": ({"#control"}, {"policy_name", "frozen"}),
        "Resync": ({"#control"}, {"policy_name", "verify_requested_at", "check_requested_at", "scope_recorded"}),
    }
    written = [each for each in _statements(deployment, "Publish") if "dynamodb:DeleteItem" in each["Action"]]
    assert [each["Condition"] for each in written] == [
        {
            "ForAllValues:StringNotEquals": {"dynamodb:LeadingKeys": ["#control"]},
            "Null": {"dynamodb:LeadingKeys": "false"},
        }
    ]


def test_a_limited_update_names_its_attributes_and_returns_none(deployment: Deployment) -> None:
    """ForAllValues is true of a request without the key, and a returned item would show the other attributes."""
    for function, statement in _allowing(deployment, "dynamodb:UpdateItem"):
        condition = statement["Condition"]
        if limited := condition.get("ForAllValues:StringEquals"):
            assert condition["Null"] == dict.fromkeys(limited, "false"), function
            assert condition["StringEqualsIfExists"] == {"dynamodb:ReturnValues": "NONE"}, function
            assert statement["Action"] == "dynamodb:UpdateItem", function


def test_tables_are_read_and_written_by_no_other_action(deployment: Deployment) -> None:
    actions = {
        (function, action.removeprefix("dynamodb:"), table)
        for function in _FUNCTIONS
        for each in _statements(deployment, function)
        for action in _listed(each["Action"])
        for table in ("LedgerTable", "SourcePolicyTable")
        if deployment.values[f"{table}.Arn"] in _listed(each["Resource"]) and not action.endswith(":UpdateItem")
    }
    assert actions == {
        ("Enroll", "BatchGetItem", "LedgerTable"),
        ("Publish", "Scan", "LedgerTable"),
        *((function, action, "LedgerTable") for function in _PREVIEWING for action in ("BatchGetItem", "Scan")),
        *((function, "Scan", "SourcePolicyTable") for function in _FUNCTIONS - {"OnAccountEvent"}),
        *(("Publish", action, "SourcePolicyTable") for action in ("GetItem", "DeleteItem")),
    }


def test_who_sends_and_receives_on_which_queue(deployment: Deployment) -> None:
    arns = {name: deployment.values[f"{name}.Arn"] for name in deployment.of_type("AWS::SQS::Queue")}
    send = {name: _who(deployment, "sqs:SendMessage", arn) for name, arn in arns.items()}
    assert send == {
        "AccountsQueue": {"OnAccountEvent"} | _PREVIEWING,
        "PublishQueue": {"Enroll", "Freeze"} | _PREVIEWING,
        "EventsDeadLetterQueue": {"OnAccountEvent"},
        "AccountsDeadLetterQueue": set(),
        "PublishDeadLetterQueue": set(),
    }
    receive = {name: _who(deployment, "sqs:ReceiveMessage", arn) for name, arn in arns.items()}
    assert receive == {
        "AccountsQueue": {"Enroll"},
        "PublishQueue": {"Publish"},
        "EventsDeadLetterQueue": set(),
        "AccountsDeadLetterQueue": {"Rerun"},
        "PublishDeadLetterQueue": {"Rerun"},
    }
    for action in (
        "sqs:StartMessageMoveTask",
        "sqs:ListMessageMoveTasks",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
    ):
        assert _who(deployment, action, arns["PublishDeadLetterQueue"]) == {"Rerun"}
        assert _who(deployment, action, arns["AccountsDeadLetterQueue"]) == {"Rerun"}


def test_only_freeze_invokes_a_function_and_only_publish(deployment: Deployment) -> None:
    invoking = [(name, each["Resource"]) for name, each in _allowing(deployment, "lambda:InvokeFunction")]
    assert invoking == [("Freeze", deployment.values["Publish.Arn"])]


def test_only_publish_acts_on_the_source_policy_and_principals(deployment: Deployment) -> None:
    policy, principals = f"policy/{deployment.values['SourcePolicyName']}", ("role/Reader", "user/reader")
    acting = {
        name
        for name in _FUNCTIONS
        for each in _statements(deployment, name)
        if any(what in json.dumps(each) for what in (policy, *principals)) or "iam:GetAccountSummary" in each["Action"]
    }
    assert acting == {"Publish"}
    assert {name for name, _ in _allowing(deployment, "organizations:DescribeOrganization")} == {"Publish"}


def test_only_enroll_changes_a_member_role(deployment: Deployment) -> None:
    member_role = f"role/{deployment.values['MemberRoleName']}"
    changing = {
        name
        for name in _FUNCTIONS
        for each in _statements(deployment, name)
        for action in _listed(each["Action"])
        if member_role in json.dumps(each["Resource"]) and not action.startswith(("iam:Get", "iam:List"))
    }
    assert changing == {"Enroll"}


def test_access_roles_are_assumed_by_name_and_in_this_organization(deployment: Deployment) -> None:
    assuming = dict(_allowing(deployment, "sts:AssumeRole"))
    assert assuming.keys() == {"Enroll"} | _PREVIEWING
    for assume in assuming.values():
        assert assume["Action"] == "sts:AssumeRole"
        assert assume["Resource"] == [
            "arn:*:iam::*:role/OrganizationAccountAccessRole",
            "arn:*:iam::*:role/AWSControlTowerExecution",
        ]
        assert assume["Condition"] == {"StringEquals": {"aws:ResourceOrgID": "${aws:PrincipalOrgID}"}}


def test_publish_enters_no_account_but_a_separate_source_account(template: dict[str, Any]) -> None:
    elsewhere = deployed(template, "aws", SourcePrincipalArns="arn:aws:iam::444455556666:role/Reader")
    assume = dict(_allowing(elsewhere, "sts:AssumeRole"))["Publish"]
    assert assume["Resource"] == [
        "arn:*:iam::*:role/OrganizationAccountAccessRole",
        "arn:*:iam::*:role/AWSControlTowerExecution",
    ]
    assert assume["Condition"] == {
        "StringEquals": {"aws:ResourceOrgID": "${aws:PrincipalOrgID}", "aws:ResourceAccount": "444455556666"}
    }
    assert not [each for each in _statements(elsewhere, "Publish") if str(each["Action"]).count("iam:")]


@pytest.mark.parametrize("partition", ["aws", "aws-cn"])
def test_only_configured_policies_may_be_attached(partition: str, template: dict[str, Any]) -> None:
    account = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    given = {
        "MemberRoleName": "Audit",
        "MemberRolePolicyArns": "arn:{partition}:iam::aws:policy/SecurityAudit,arn:{partition}:iam::{account_id}:policy/More",
        "SourcePolicyName": "ReadAll",
    }
    attaching = dict(_allowing(deployed(template, partition, **given), "iam:AttachRolePolicy"))
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


def test_enroll_changes_no_role_of_a_management_account_that_is_left_out(template: dict[str, Any]) -> None:
    included, left_out = (deployed(template, "aws", IncludeManagementAccount=value) for value in ("true", "false"))
    assert {name for name, _ in _allowing(included, "iam:CreateRole")} == {"Enroll"}
    assert not dict(_allowing(left_out, "iam:CreateRole"))
    assert not dict(_allowing(left_out, "iam:GetRole"))


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        (
            "arn:{partition}:iam::{account_id}:policy/Boundary",
            {"ArnLike": {"iam:PermissionsBoundary": "arn:*:iam::*:policy/Boundary"}},
        ),
        ("", None),
    ],
)
def test_enroll_takes_off_no_boundary_that_is_configured(
    template: dict[str, Any], given: str, condition: dict[str, Any] | None
) -> None:
    (policy,) = deployed(template, "aws", PermissionsBoundaryArn=given)["EnrollRole"]["Policies"]
    bounding = {
        action: each.get("Condition")
        for each in policy["PolicyDocument"]["Statement"]
        for action in _listed(each["Action"])
        if action == "iam:CreateRole" or action.endswith("Boundary")
    }
    changing = "iam:PutRolePermissionsBoundary" if given else "iam:DeleteRolePermissionsBoundary"
    assert bounding == {"iam:CreateRole": condition, changing: condition}
