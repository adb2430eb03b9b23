"""How an account is entered: by which role, with which session policy, and with how many clients."""

import gc
from collections import Counter
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
from tests.integration.boundary import FUNCTION_KEYS, Boundary
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, REGION, Organization
from tests.integration.stage import Context, Stage

CONTROL_TOWER_ROLE = "AWSControlTowerExecution"


def test_access_roles_are_tried_in_order(organization: Organization, boundary: Boundary) -> None:
    both = organization.member("Both")
    organization.create_role(f"arn:aws:iam::{both}:role/{CONTROL_TOWER_ROLE}")
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


def test_next_access_role_is_tried_if_the_first_is_denied_the_work(
    organization: Organization, boundary: Boundary
) -> None:
    """The role that worked is tried first from then on."""
    account_id = organization.member()
    organization.age_account(account_id)
    organization.create_role(f"arn:aws:iam::{account_id}:role/{CONTROL_TOWER_ROLE}")
    stage = Stage(organization)
    boundary.fail("iam:CreateRole", message="with an explicit deny in a service control policy", times=1)

    stage.enroll(account_id)
    with boundary.recording() as calls:
        stage.enroll(account_id)

    assert stage.status(account_id) == ("enrolled", None)
    assert stage.row(account_id)["access_role"] == CONTROL_TOWER_ROLE
    (session,) = (call for call in calls if call.operation == "sts:AssumeRole")
    assert session.params["RoleArn"].endswith(CONTROL_TOWER_ROLE)


def test_stack_sets_role_is_tried_first_again_and_again(organization: Organization, boundary: Boundary) -> None:
    """It replaces an administrator role as soon as it exists, although that one worked."""
    own = "rolecall-dev-access"
    account_id = organization.member()
    stage = Stage(organization, "dev", AccessRoleStackSet="true")

    stage.enroll(account_id)
    with boundary.recording() as calls:
        stage.enroll(account_id)
    tried = [call.params["RoleArn"].rpartition("/")[2] for call in calls if call.operation == "sts:AssumeRole"]
    organization.create_role(f"arn:aws:iam::{account_id}:role/{own}")
    stage.enroll(account_id)

    assert tried == [own, ACCESS_ROLE]
    assert stage.row(account_id)["access_role"] == own


def test_denial_of_every_access_role_is_the_first_ones(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    organization.age_account(account_id)
    stage = Stage(organization)
    boundary.fail("iam:CreateRole", message="with an explicit deny in a service control policy")

    stage.enroll(account_id)

    assert stage.status(account_id) == ("failed", "scp_denied")


def test_every_session_has_a_policy_and_no_source_identity(organization: Organization, boundary: Boundary) -> None:
    """The trust policy of an access role allows neither tags nor a source identity."""
    source, account_id = organization.member("Source"), organization.member()
    principal = f"arn:aws:iam::{source}:role/Reader"
    organization.create_role(principal)

    Stage(organization, SourcePrincipalArns=principal).enroll(account_id)

    sessions = [call for call in boundary.calls if call.operation == "sts:AssumeRole"]
    assert {call.target_account_id for call in sessions} == {source, account_id}
    for call in sessions:
        assert set(call.params) == {"RoleArn", "RoleSessionName", "Policy", "DurationSeconds"}
        assert call.params["RoleSessionName"] == "rolecall-test"


def test_one_iam_client_serves_all_accounts(organization: Organization, boundary: Boundary) -> None:
    accounts = [*organization.members(3), MANAGEMENT]
    stage = Stage(organization)
    stage.enqueue(*accounts)
    stage.activate()
    application = Application(stage.environ, boto3.Session(FUNCTION_KEYS["enroll"], "secret", region_name=REGION))
    before = boundary.clients.count("iam")

    records = stage.receive()
    stage.settle(records, application.enroll(records, Context()))

    assert boundary.clients.count("iam") - before == 1
    assert [organization.has_role(account_id) for account_id in accounts] == [True] * 4


def test_application_makes_no_client_before_it_needs_one(boundary: Boundary, organization: Organization) -> None:
    environ = Stage(organization, deployed="false").environ
    before = len(boundary.clients)

    Application(environ, boto3.Session(FUNCTION_KEYS["enroll"], "secret", region_name=REGION))

    assert (boundary.clients[before:], boundary.calls) == ([], [])


def test_application_requires_credentials(organization: Organization) -> None:
    core = botocore.session.Session()
    core.register_component("credential_provider", CredentialResolver(providers=[]))
    application = Application(Stage(organization).environ, boto3.Session(botocore_session=core, region_name=REGION))

    with pytest.raises(RuntimeError, match="no AWS credentials"):
        application.enroll([], Context())


def test_unknown_action_is_an_error(organization: Organization) -> None:
    settings = Settings.from_env(Stage(organization, deployed="false").environ)
    client: Any = object()

    with pytest.raises(AssertionError):
        IamRoles(client).carry_out(client, "arn")
    with pytest.raises(AssertionError):
        IamPolicies(settings, Sessions(settings, client), client, lambda: None).carry_out("Name", client)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_restored_after_loading_models(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with models_loading():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
