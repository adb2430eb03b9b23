"""How an account is entered: by which role, within what, and at what cost in calls and clients."""

import gc
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import CredentialResolver

from chalicelib.aws.iam_policies import IamPolicies
from chalicelib.aws.iam_roles import IamRoles
from chalicelib.aws.sessions import Sessions, models_loading
from chalicelib.bootstrap import Application
from chalicelib.settings import Settings
from tests.integration.boundary import Boundary, Call
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, REGION, Organization
from tests.integration.stage import Context, Stage

CONTROL_TOWER_ROLE = "AWSControlTowerExecution"


def test_access_roles_are_tried_in_their_order(organization: Organization, boundary: Boundary) -> None:
    both = organization.member("Both")
    organization.make_role(f"arn:aws:iam::{both}:role/{CONTROL_TOWER_ROLE}")
    second_only = organization.member("SecondOnly", access_role=CONTROL_TOWER_ROLE)
    stage = Stage(organization)

    stage.enroll(both, second_only)

    assert [stage.row(account_id)["access_role"] for account_id in (both, second_only)] == [
        ACCESS_ROLE,
        CONTROL_TOWER_ROLE,
    ]
    assert Counter(call.params["RoleArn"] for call in boundary.calls if call.operation == "sts:AssumeRole") == {
        f"arn:aws:iam::{both}:role/{ACCESS_ROLE}": 1,
        f"arn:aws:iam::{second_only}:role/{ACCESS_ROLE}": 1,
        f"arn:aws:iam::{second_only}:role/{CONTROL_TOWER_ROLE}": 1,
    }


def test_every_assumption_is_narrowed_and_carries_what_an_access_roles_trust_allows(
    organization: Organization, boundary: Boundary
) -> None:
    source = organization.member("Source")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")

    stage.enroll(account_id)

    assumptions = [call.params for call in boundary.calls if call.operation == "sts:AssumeRole"]
    assert {params["RoleArn"].split(":")[4] for params in assumptions} == {source, account_id}
    for params in assumptions:
        assert set(params) == {"RoleArn", "RoleSessionName", "Policy", "DurationSeconds"}
        assert params["RoleSessionName"] == "rolecall-test"
        assert len(params["Policy"]) <= 2048
        statements = json.loads(params["Policy"])["Statement"]
        assert {statement["Effect"] for statement in statements} == {"Allow"}
        assert all(
            action.startswith("iam:") and "*" not in action
            for statement in statements
            for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        )


def test_a_new_role_costs_one_call_for_itself_and_one_for_each_policy(
    organization: Organization, boundary: Boundary
) -> None:
    first, account_id = organization.member("First"), organization.member()
    stage = Stage(
        organization,
        MemberRolePolicyArns="arn:aws:iam::aws:policy/ReadOnlyAccess,arn:aws:iam::aws:policy/SecurityAudit",
    )
    stage.enroll(first)

    with boundary.watching() as calls:
        stage.enroll(account_id)

    assert _calls_for(account_id, calls) == [
        "sts:AssumeRole",
        "iam:GetRole",
        "iam:CreateRole",
        "iam:PutRolePolicy",
        "iam:AttachRolePolicy",
        "iam:AttachRolePolicy",
    ]


def test_an_unchanged_role_costs_four_reads(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)

    with boundary.watching() as calls:
        stage.enroll(account_id)

    assert Counter(_calls_for(account_id, calls)) == Counter(
        [
            "sts:AssumeRole",
            "iam:GetRole",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:GetRolePolicy",
        ]
    )
    assert [call.operation for call in calls if call.is_write] == ["dynamodb:UpdateItem"]


def _calls_for(account_id: str, calls: list[Call]) -> list[str]:
    return [
        call.operation for call in calls if call.about == account_id and not call.operation.startswith("organizations:")
    ]


def test_one_iam_client_serves_all_accounts(organization: Organization, boundary: Boundary) -> None:
    accounts = [organization.member(f"Workload{number}") for number in range(6)]
    stage = Stage(organization)
    made_by_tests = boundary.clients.count("iam")

    stage.enroll(*accounts[:3], MANAGEMENT)
    stage.enroll(*accounts[3:])

    assert boundary.clients.count("iam") - made_by_tests == 1
    assert [organization.role(account_id) is not None for account_id in [*accounts, MANAGEMENT]] == [True] * 7


def test_an_application_is_put_together_without_a_client_or_a_call(
    organization: Organization, boundary: Boundary
) -> None:
    before = len(boundary.clients)

    Stage(organization, deployed="false")

    assert (boundary.clients[before:], boundary.calls) == ([], [])


def test_the_entry_points_are_imported_without_an_environment_or_a_client() -> None:
    refusing = (
        "from botocore.handlers import BUILTIN_HANDLERS\n"
        "def refuse(**_): raise AssertionError('a client was made')\n"
        "BUILTIN_HANDLERS.append(('creating-client-class', refuse))\n"
        "import app\n"
        "print(sorted(app.app.handler_map))\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", refusing],
        cwd=Path(__file__).parents[2],
        env={},
        check=True,
        capture_output=True,
        text=True,
    )

    assert ran.stdout == (
        "['backfill', 'enroll', 'freeze', 'on_account_event', 'publish', 'rerun', 'resync', 'retire']\n"
    )


def test_a_process_without_credentials_is_told_what_it_lacks(organization: Organization) -> None:
    core = botocore.session.Session()
    core.register_component("credential_provider", CredentialResolver(providers=[]))
    application = Application(Stage(organization).environ, boto3.Session(botocore_session=core, region_name=REGION))

    with pytest.raises(RuntimeError, match="no AWS credentials"):
        application.enroll([], Context())


def test_an_action_that_nobody_knows_is_an_error_and_no_call(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization, deployed="false")
    stage.sign()
    settings, session = Settings.from_env(stage.environ), organization.functions["enroll"]
    iam = session.client("iam")
    unknown: Any = object()

    with pytest.raises(AssertionError):
        IamRoles(iam, "Role").carry_out(unknown, "arn")
    with pytest.raises(AssertionError):
        IamPolicies(settings, Sessions(settings, session.client("sts")), iam, lambda: None).carry_out("Name", unknown)

    assert boundary.calls == []


@pytest.mark.parametrize("collects", [True, False])
def test_making_clients_leaves_the_collecting_of_garbage_as_it_was(collects: bool) -> None:
    collected = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with models_loading():
            assert not gc.isenabled()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if collected else gc.disable)()
