"""What becomes of accounts that are created, join, are moved, closed or removed."""

import json
import re

import pytest

from local.organization import Document, LocalOrganization, allowing, trusting
from local.waiting import until
from tests.end_to_end.deployed_stage import PATIENCE, Deploy, Stage
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.roles_in_iam import role_of

ROLE = "CrossAccountReadOnlyRole"
POLICY = "CrossAccountReadOnlyAccess"


@pytest.fixture(scope="module")
def unit(organization: LocalOrganization) -> str:
    """An organizational unit below the one that is excluded."""
    organizations = organization.client("organizations")
    outer = organizations.create_organizational_unit(ParentId=root(organization), Name="Outside")["OrganizationalUnit"]
    inner = organizations.create_organizational_unit(ParentId=outer["Id"], Name="Deeper")["OrganizationalUnit"]
    return f"{outer['Id']},{inner['Id']}"


@pytest.fixture(scope="module")
def overlooked(organization: LocalOrganization, reader: str) -> str:
    """An account older than the stage, with a role that lets the reader in: only the source policy doesn't name it."""
    account_id = organization.create_account("overlooked")
    organization.create_role(account_id, ROLE, trusting_reader(organization, reader))
    return account_id


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str, unit: str, overlooked: str) -> Stage:
    """Batches of one account, so that workers do meet."""
    assert overlooked
    outer, _, _ = unit.partition(",")
    return deploy("road", SourcePrincipalArns=reader, ExcludeOuIds=outer, BatchSize="1", MaximumConcurrency="4")


def root(organization: LocalOrganization) -> str:
    return str(organization.client("organizations").list_roots()["Roots"][0]["Id"])


def trusting_reader(organization: LocalOrganization, reader: str) -> Document:
    condition = {"ArnEquals": {"aws:PrincipalArn": [reader]}}
    actions = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
    return trusting(f"arn:aws:iam::{organization.management_account_id}:root", actions=actions, condition=condition)


def enrolled(organization: LocalOrganization, stage: Stage, name: str) -> str:
    account_id = organization.create_account(name)
    stage.settled(account_id, "enrolled")
    return account_id


def test_creating_an_account_is_all_it_takes(organization: LocalOrganization, stage: Stage, reader: str) -> None:
    account_id = organization.create_account("payments")

    row = stage.settled(account_id, "enrolled", hurrying=False)
    assert (
        row.items()
        >= {
            "name": "payments",
            "change": "created",
            "role_arn": f"arn:aws:iam::{account_id}:role/{ROLE}",
            "access": "granted",
            "trigger": "event",
            "access_role": "OrganizationAccountAccessRole",
            "attempts": 0,
        }.items()
    )
    assert row["joined_at"] <= row["enrolled_at"] == row["updated_at"] <= row["in_force_since"]

    role = role_of(organization, account_id, ROLE)
    assert role is not None
    (trust,) = role["trust"]["Statement"]
    assert trust["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [reader]}}
    assert role["tags"] == {"managed-by": "rolecall", "rolecall-stage": "road"}
    assert role["attached"] == {"arn:aws:iam::aws:policy/ReadOnlyAccess"}
    assert role["inline"]["DenyDataReads"]["Statement"][0]["Effect"] == "Deny"

    assert account_id in stage.named()
    attached = organization.client("iam").list_attached_role_policies(RoleName="Reader")["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == [POLICY]


def test_the_source_principal_reads_there_and_reads_no_data(
    organization: LocalOrganization, stage: Stage, reader: str
) -> None:
    account_id = enrolled(organization, stage, "read")
    organization.client("ssm", account_id).put_parameter(Name="/secret", Value="data", Type="String")

    session = organization.assume(stage.member_role(account_id), organization.as_role(reader))

    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]["Roles"]
    with denied("ssm:GetParameter"):
        organization.client("ssm", credentials=session).get_parameter(Name="/secret")
    with denied("iam:CreateUser"):
        organization.client("iam", credentials=session).create_user(UserName="writer")


def test_nobody_else_is_let_in(organization: LocalOrganization, stage: Stage) -> None:
    account_id = enrolled(organization, stage, "guarded")
    management = organization.management_account_id
    anyone = trusting(f"arn:aws:iam::{management}:root")
    stranger = organization.create_role(management, "Stranger", anyone, inline=allowing("sts:*"))
    member = organization.create_role(
        account_id, "Insider", trusting(f"arn:aws:iam::{account_id}:root"), inline=allowing("sts:*")
    )
    for outsider in (stranger, member):
        with denied("sts:AssumeRole"):
            organization.assume(stage.member_role(account_id), organization.as_role(outsider))


def test_the_source_principal_gets_into_no_account_that_is_not_enrolled(
    organization: LocalOrganization, stage: Stage, reader: str, overlooked: str
) -> None:
    account_id = enrolled(organization, stage, "beside")
    session = organization.as_role(reader)
    assert organization.assume(stage.member_role(account_id), session)
    with denied("sts:AssumeRole"):
        organization.assume(stage.member_role(overlooked), session)


def test_the_same_event_five_times_writes_nothing(organization: LocalOrganization, stage: Stage) -> None:
    account_id = enrolled(organization, stage, "again")
    role, versions = role_of(organization, account_id, ROLE), stage.versions()
    first = stage.row(account_id)
    before = len(stage.passes(account_id))

    for _ in range(5):
        stage.hear(account_id)
    passes = stage.passed(account_id, before + 5)[before:]

    assert {(line["change"], *line["actions"]) for line in passes} == {("none",)}
    assert stage.versions() == versions
    assert role_of(organization, account_id, ROLE) == role
    last = stage.row(account_id)
    assert first
    assert last
    assert last["enrolled_at"] == first["enrolled_at"]


def test_accounts_created_at_the_same_moment_are_all_granted(organization: LocalOrganization, stage: Stage) -> None:
    enrolled(organization, stage, "before")
    created = organization.create_accounts(6)
    for account_id in created:
        stage.settled(account_id, "enrolled")
    assert stage.named() >= {*created}


def test_an_account_moved_out_of_scope_is_retired_and_moved_back_is_enrolled(
    organization: LocalOrganization, stage: Stage, unit: str, reader: str
) -> None:
    account_id = enrolled(organization, stage, "moved")
    organizations, top, inner = organization.client("organizations"), root(organization), unit.partition(",")[2]

    organizations.move_account(AccountId=account_id, SourceParentId=top, DestinationParentId=inner)
    row = stage.settled(account_id, "retired", "excluded")
    assert row["access"] == "excluded"
    assert account_id not in stage.named()
    assert role_of(organization, account_id, ROLE)
    with denied("sts:AssumeRole"):
        organization.assume(stage.member_role(account_id), organization.as_role(reader))

    organizations.move_account(AccountId=account_id, SourceParentId=inner, DestinationParentId=top)
    stage.settled(account_id, "enrolled")
    assert account_id in stage.named()
    assert organization.assume(stage.member_role(account_id), organization.as_role(reader))


def test_a_closed_account_is_out_of_the_source_policy(organization: LocalOrganization, stage: Stage) -> None:
    account_id = enrolled(organization, stage, "closed")
    organization.client("organizations").close_account(AccountId=account_id)
    stage.settled(account_id, "retired", "closed")
    assert account_id not in stage.named()


def test_a_departed_account_is_out_of_the_source_policy(
    organization: LocalOrganization, stage: Stage, reader: str
) -> None:
    account_id = enrolled(organization, stage, "departed")
    organization.client("organizations").remove_account_from_organization(AccountId=account_id)
    stage.settled(account_id, "retired", "departed")
    assert account_id not in stage.named()
    with denied("sts:AssumeRole"):
        organization.assume(stage.member_role(account_id), organization.as_role(reader))


def test_an_id_that_was_never_a_members_gets_no_row(stage: Stage) -> None:
    line = stage.checked_again("999999999999")
    assert (line["outcome"], line["reason"]) == ("skipped", "departed")
    assert stage.row("999999999999") is None


def test_a_suspended_account_is_not_touched(organization: LocalOrganization, stage: Stage) -> None:
    organization.drop_events(dropped=True)
    account_id = organization.create_account("suspended")
    organization.drop_events(dropped=False)
    organization.set_account_state(account_id, "SUSPENDED")
    stage.hear(account_id)
    stage.settled(account_id, "skipped", "suspended")
    assert role_of(organization, account_id, ROLE) is None


def test_a_role_that_is_not_ours_is_left_as_it_is(organization: LocalOrganization, stage: Stage) -> None:
    organization.drop_events(dropped=True)
    account_id = organization.create_account("legacy")
    organization.drop_events(dropped=False)
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, ROLE, trust, inline=allowing("s3:ListAllMyBuckets"))
    before = role_of(organization, account_id, ROLE)

    stage.hear(account_id)

    row = stage.settled(account_id, "failed", "foreign_role")
    assert "AdoptExistingRoles" in row["error"]
    assert role_of(organization, account_id, ROLE) == before
    assert account_id not in stage.named()


def test_only_garbage_ends_in_the_dead_letter_queue(organization: LocalOrganization, stage: Stage) -> None:
    stage.send("garbage")
    stage.send(json.dumps({"account_id": "not-an-account", "trigger": "event"}))
    account_id = enrolled(organization, stage, "good")

    def given_up() -> bool:
        stage.hurry()
        return stage.waiting("accounts-dlq") == 2

    until(given_up, "both are given up", PATIENCE)
    sqs = organization.client("sqs")
    url = sqs.get_queue_url(QueueName="rolecall-road-accounts-dlq")["QueueUrl"]
    dead = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert all(account_id not in message["Body"] for message in dead)
    assert sum(line["message"] == "message can't be read" for line in stage.log() if "message" in line) == 2 * 20


def test_the_log_tells_each_pass_in_one_line_and_no_secret(organization: LocalOrganization, stage: Stage) -> None:
    account_id = organization.create_account("logged")
    stage.settled(account_id, "enrolled", hurrying=False)

    # SQS may deliver a message again, which is another pass with a line of its own.
    line, *again = stage.passed(account_id)
    assert all((each["outcome"], each["change"]) == ("enrolled", "none") for each in again)
    assert (line["level"], line["service"], line["trigger"]) == ("INFO", "rolecall-road", "event")
    assert (line["outcome"], line["change"], line.get("reason")) == ("enrolled", "created", None)
    assert line["actions"] == ["CreateRole", "PutInlinePolicy", "AttachPolicy"]
    assert line["access_role"] == "OrganizationAccountAccessRole"
    assert line["duration_ms"] > 0

    counted = [each for each in stage.log() if "_aws" in each and "RolesCreated" in each]
    namespaces = {metrics["Namespace"] for each in counted for metrics in each["_aws"]["CloudWatchMetrics"]}
    assert namespaces == {"Rolecall"}

    for function in ("enroll", "on_account_event"):
        text = "\n".join(organization.logs(stage.function(function)))
        assert account_id in text
        assert not re.search(r"A(KI|SI)A[A-Z0-9]{12,}|SecretAccessKey|SessionToken|@example\.com", text)
        assert "createAccountStatus" not in text
