"""Accounts that are created, moved, closed, removed or suspended, and events and messages about them."""

import json

import pytest

from local.organization import LocalOrganization, allow_policy, trust_policy
from local.waiting import wait_until
from tests.end_to_end.deployed_stage import POLICY, ROLE, TIMEOUT_SECONDS, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.organization_changes import (
    attached_policies,
    create_unit,
    create_without_events,
    move_account,
    root_id,
    tag_account,
)


@pytest.fixture(scope="module")
def outer(organization: LocalOrganization) -> str:
    """The organizational unit that is excluded."""
    return create_unit(organization, "Outside")


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str, outer: str) -> DeployedStage:
    """A stage with batches of one account, which are processed concurrently."""
    selection = {"ExcludeOuIds": outer, "ExcludeTags": "access=none"}
    return deploy("lifecycle", SourcePrincipalArns=reader, BatchSize="1", MaximumConcurrency="4", **selection)


def enrolled(organization: LocalOrganization, stage: DeployedStage, name: str) -> str:
    account_id = organization.create_account(name)
    stage.wait_for_outcome(account_id, "enrolled")
    return account_id


def test_created_account_is_enrolled(organization: LocalOrganization, stage: DeployedStage, reader: str) -> None:
    account_id = organization.create_account("payments")

    row = stage.wait_for_outcome(account_id, "enrolled", skip_delays=False)
    expected = {
        "name": "payments",
        "change": "created",
        "role_arn": f"arn:aws:iam::{account_id}:role/{ROLE}",
        "access": "granted",
        "trigger": "event",
        "access_role": "OrganizationAccountAccessRole",
        "attempts": 0,
    }
    assert row.items() >= expected.items()
    assert row["joined_at"] <= row["enrolled_at"] == row["updated_at"] <= row["in_force_since"]

    role = stage.role(account_id)
    assert role
    (trust,) = role["trust"]["Statement"]
    assert trust["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [reader]}}
    assert role["tags"] == {"managed-by": "rolecall", "rolecall-stage": "lifecycle"}
    assert role["attached"] == {"arn:aws:iam::aws:policy/ReadOnlyAccess"}
    assert role["inline"]["DenyDataReads"]["Statement"][0]["Effect"] == "Deny"

    assert account_id in stage.granted_accounts()
    assert attached_policies(organization) == {POLICY}


def test_reader_reads_metadata_but_no_data(organization: LocalOrganization, stage: DeployedStage) -> None:
    account_id = enrolled(organization, stage, "read")
    organization.client("ssm", account_id).put_parameter(Name="/secret", Value="data", Type="String")

    session = stage.assume_member_role(account_id)

    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]["Roles"]
    with denied("ssm:GetParameter"):
        organization.client("ssm", credentials=session).get_parameter(Name="/secret")
    with denied("iam:CreateUser"):
        organization.client("iam", credentials=session).create_user(UserName="writer")


def test_repeated_event_changes_nothing(organization: LocalOrganization, stage: DeployedStage) -> None:
    account_id = enrolled(organization, stage, "again")
    role, versions, first = stage.role(account_id), stage.policy_versions(), stage.row(account_id)
    before = len(stage.passes(account_id))

    for _ in range(5):
        stage.enqueue(account_id)
    passes = stage.wait_for_passes(account_id, before + 5)[before:]

    assert {(line["change"], *line["actions"]) for line in passes} == {("none",)}
    assert (stage.role(account_id), stage.policy_versions()) == (role, versions)
    last = stage.row(account_id)
    assert first
    assert last
    assert last["enrolled_at"] == first["enrolled_at"]


def test_accounts_created_at_the_same_time_are_all_granted(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    created = organization.create_accounts(6)
    for account_id in created:
        stage.wait_for_outcome(account_id, "enrolled")
    assert stage.granted_accounts() >= {*created}


def test_account_in_an_excluded_unit_has_no_access_until_moved_back(
    organization: LocalOrganization, stage: DeployedStage, outer: str
) -> None:
    account_id = enrolled(organization, stage, "moved")

    move_account(organization, account_id, create_unit(organization, "Deeper", outer))
    row = stage.wait_for_outcome(account_id, "retired", "excluded")
    assert row["access"] == "excluded"
    assert account_id not in stage.granted_accounts()
    assert stage.role(account_id)
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id)

    move_account(organization, account_id, root_id(organization))
    stage.wait_for_outcome(account_id, "enrolled")
    assert stage.assume_member_role(account_id)


def test_account_with_an_excluding_tag_has_no_access_until_it_is_removed(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    account_id = enrolled(organization, stage, "tagged")

    tag_account(organization, account_id, access="none")
    stage.wait_for_outcome(account_id, "retired", "excluded_by_tag", skip_delays=False)
    assert account_id not in stage.granted_accounts()
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id)

    organization.client("organizations").untag_resource(ResourceId=account_id, TagKeys=["access"])
    stage.wait_for_outcome(account_id, "enrolled", skip_delays=False)
    assert stage.assume_member_role(account_id)


@pytest.mark.parametrize(
    ("operation", "reason"), [("close_account", "closed"), ("remove_account_from_organization", "departed")]
)
def test_closed_or_departed_account_loses_access(
    organization: LocalOrganization, stage: DeployedStage, operation: str, reason: str
) -> None:
    account_id = enrolled(organization, stage, reason)
    getattr(organization.client("organizations"), operation)(AccountId=account_id)
    stage.wait_for_outcome(account_id, "retired", reason)
    assert account_id not in stage.granted_accounts()
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id)


def test_foreign_role_is_not_changed(organization: LocalOrganization, stage: DeployedStage) -> None:
    (account_id,) = create_without_events(organization)
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, ROLE, trust, inline=allow_policy("s3:ListAllMyBuckets"))
    role = stage.role(account_id)

    stage.enqueue(account_id)

    row = stage.wait_for_outcome(account_id, "failed", "foreign_role")
    assert "AdoptExistingRoles" in row["error"]
    assert stage.role(account_id) == role
    assert account_id not in stage.granted_accounts()


def test_only_malformed_messages_end_in_the_dead_letter_queue(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    stage.send_message("garbage")
    stage.send_message(json.dumps({"account_id": "not-an-account", "trigger": "event"}))
    account_id = enrolled(organization, stage, "good")

    def are_dead_letters() -> bool:
        stage.skip_delays()
        return stage.message_count("accounts-dlq") == 2

    wait_until(are_dead_letters, "both messages are dead letters", TIMEOUT_SECONDS)
    sqs = organization.client("sqs")
    url = sqs.get_queue_url(QueueName="rolecall-lifecycle-accounts-dlq")["QueueUrl"]
    dead_letters = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert all(account_id not in message["Body"] for message in dead_letters)
    assert sum(line.get("message") == "malformed message" for line in stage.log()) == 2 * 20
