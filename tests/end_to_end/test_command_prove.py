"""`rolecall prove`, as the reader: on a stage where all is as claimed, and on one that was changed by hand."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

from chalicelib.data_read_denies import DENY_POLICY_NAME
from chalicelib.member_role import trust_document
from local.organization import LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.calls import READ_ONLY
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage
from tests.end_to_end.organization_changes import create_without_events

EXTERNAL_ID = "rolecall-test"
Prove = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def accounts(organization: LocalOrganization) -> tuple[str, str]:
    """One account that is to be enrolled, and one that is excluded."""
    inside, outside = create_without_events(organization, 2)
    return inside, outside


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str, accounts: tuple[str, str]) -> DeployedStage:
    parameters = {"SourcePrincipalArns": reader, "ExternalId": EXTERNAL_ID, "ExcludeAccountIds": accounts[1]}
    made = DeployedStage(organization, deploy("proven", **parameters).name)
    made.invoke_and_wait("backfill")
    made.wait_for_outcome(accounts[0], "enrolled")
    return made


@pytest.fixture(scope="module")
def prove(
    organization: LocalOrganization, stage: DeployedStage, reader: str, tmp_path_factory: pytest.TempPathFactory
) -> Prove:
    """Run it as the operator, who is the management account's root, with a profile of the reader's."""
    profiles = tmp_path_factory.mktemp("reader") / "credentials"
    keys = organization.as_role(reader)
    profiles.write_text(
        f"[auditor]\naws_access_key_id={keys['AccessKeyId']}\naws_secret_access_key={keys['SecretAccessKey']}\n"
        f"aws_session_token={keys['SessionToken']}\n"
    )

    def run(*arguments: str, reader: tuple[str, ...] = ("--reader-profile", "auditor")) -> CompletedProcess[str]:
        rolecall = CommandLine(organization, stage.name)
        return rolecall("prove", *reader, *arguments, AWS_SHARED_CREDENTIALS_FILE=str(profiles))

    return run


def evidence(ran: "CompletedProcess[str]", status: int) -> dict[str, Any]:
    assert (ran.returncode, ran.stderr) == (status, "")
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def broken(told: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Tell each call that was not answered as claimed, by account and claim."""
    return {
        (account["account_id"], call["claim"]): (call["answer"], call["code"])
        for account in told["accounts"]
        for call in account["calls"]
        if not call["holds"]
    }


def test_all_is_as_claimed_and_the_evidence_says_who_asked_what_when_and_what_aws_answered(
    prove: Prove, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    inside, outside = accounts
    management = organization.management_account_id
    told = evidence(prove("--json"), 0)
    assert told["result"] == "passed"
    assert told["source_principal"]["arn"] == f"arn:aws:sts::{management}:assumed-role/Reader/local"
    assert told["stage"] == "proven"
    assert EXTERNAL_ID not in json.dumps(told)
    assert [(each["claim"], each["holds"], each["accounts"]) for each in told["claims"]] == [
        ("assumed", True, 2),
        ("read", True, 2),
        ("data denied", True, 2),
        ("external id required", True, 2),
        ("not assumable", True, 1),
    ]
    calls = {
        (account["account_id"], call["claim"]): (call["action"], call["answer"])
        for account in told["accounts"]
        for call in account["calls"]
    }
    assert calls == {(outside, "not assumable"): ("sts:AssumeRole", "denied")} | {
        (account, claim): answer
        for account in (management, inside)
        for claim, answer in {
            "assumed": ("sts:AssumeRole", "allowed"),
            "read": ("iam:GetAccountSummary", "allowed"),
            "data denied": ("ssm:GetParameter", "denied"),
            "external id required": ("sts:AssumeRole", "denied"),
        }.items()
    }
    (denial,) = [
        call["message"]
        for account in told["accounts"]
        for call in account["calls"]
        if (account["account_id"], call["claim"]) == (inside, "data denied")
    ]
    assert f"assumed-role/{ROLE}/rolecall-prove is not authorized to perform: ssm:GetParameter" in denial
    assert "with an explicit deny in an identity-based policy" in denial


def test_a_person_reads_a_line_an_account_and_a_line_a_claim(prove: Prove, accounts: tuple[str, str]) -> None:
    inside, outside = accounts
    ran = prove()
    assert ran.returncode == 0
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [inside, "account-1", "enrolled", *("✔", "allowed") * 2, *("✔", "denied") * 2] in lines
    assert [outside, "account-2", "skipped:", "excluded", "✔", "denied", "-", "-", "-"] in lines
    assert ran.stdout.splitlines()[-6:] == [
        "✔ 2 of 2 enrolled accounts allow the source principal to assume the member role (sts:AssumeRole)",
        "✔ 2 of 2 enrolled accounts can be read (iam:GetAccountSummary)",
        "✔ 2 of 2 enrolled accounts deny reads of data (ssm:GetParameter), 2 by an explicit deny",
        "✔ 2 of 2 enrolled accounts deny a session without the external id (sts:AssumeRole)",
        "✔ 1 of 1 accounts that are not enrolled deny the source principal (sts:AssumeRole)",
        "passed: access is exactly as configured",
    ]


def test_a_role_that_was_deleted_by_hand_lets_nobody_in(
    prove: Prove, stage: DeployedStage, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    iam = organization.client("iam", accounts[0])
    iam.detach_role_policy(RoleName=ROLE, PolicyArn=READ_ONLY)
    iam.delete_role_policy(RoleName=ROLE, PolicyName=DENY_POLICY_NAME)
    iam.delete_role(RoleName=ROLE)
    try:
        ran = prove()
    finally:
        stage.reconcile_again(accounts[0])
    assert ran.returncode == 1
    assert f"✘ {accounts[0]} assumed: sts:AssumeRole arn:aws:iam::{accounts[0]}:role/{ROLE} was denied" in ran.stdout
    assert "✘ 1 of 2 enrolled accounts allow the source principal" in ran.stdout
    assert "? 1 of 2 enrolled accounts can be read (iam:GetAccountSummary); 1 unknown" in ran.stdout
    assert ran.stdout.endswith("failed: access is not as configured\n")


def test_data_that_may_be_read_since_the_deny_was_removed_by_hand_is_no_mere_missing_parameter(
    prove: Prove, stage: DeployedStage, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    organization.client("iam", accounts[0]).delete_role_policy(RoleName=ROLE, PolicyName=DENY_POLICY_NAME)
    try:
        told = evidence(prove("--json"), 1)
    finally:
        stage.reconcile_again(accounts[0])
    assert broken(told) == {(accounts[0], "data denied"): ("allowed", "ParameterNotFound")}


def test_a_trust_without_the_external_id_is_found(
    prove: Prove, stage: DeployedStage, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    document = trust_document(stage.settings).content
    for statement in document["Statement"]:
        statement["Condition"].pop("StringEquals", None)
    iam = organization.client("iam", accounts[0])
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(document))
    try:
        told = evidence(prove("--json"), 1)
    finally:
        stage.reconcile_again(accounts[0])
    assert broken(told) == {(accounts[0], "external id required"): ("allowed", None)}


def test_an_account_that_lets_the_reader_in_though_it_is_not_enrolled_is_found(
    prove: Prove, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    outside, management = accounts[1], organization.management_account_id
    organization.create_role(outside, ROLE, trust_policy(f"arn:aws:iam::{management}:root"))
    iam = organization.client("iam")
    document = json.dumps(allow_policy("sts:AssumeRole"))
    iam.put_role_policy(RoleName="Reader", PolicyName="anywhere", PolicyDocument=document)
    try:
        told = evidence(prove("--json"), 1)
    finally:
        iam.delete_role_policy(RoleName="Reader", PolicyName="anywhere")
        organization.client("iam", outside).delete_role(RoleName=ROLE)
    assert broken(told) == {(outside, "not assumable"): ("allowed", None)}


def test_only_named_accounts_are_tried_and_one_that_is_not_enrolled(
    prove: Prove, reader: str, accounts: tuple[str, str]
) -> None:
    told = evidence(prove("--account", accounts[0], "--json", reader=("--reader-role", reader)), 0)
    assert [each["account_id"] for each in told["accounts"]] == list(accounts)
    assert told["source_principal"]["arn"].endswith(":assumed-role/Reader/rolecall-prove")


def test_credentials_that_are_no_readers_prove_nothing(prove: Prove) -> None:
    ran = prove(reader=())
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "arn:aws:iam::111122223333:root is not a source principal of stage proven" in ran.stderr
    unknown = prove(reader=("--reader-profile", "missing"))
    assert unknown.returncode == 2
    assert "(missing) could not be found: set --reader-profile" in unknown.stderr
