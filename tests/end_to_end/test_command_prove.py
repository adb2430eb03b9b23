"""`rolecall prove` with a source principal's credentials, on a stage as configured and after changes by hand."""

import json
from collections.abc import Callable
from pathlib import Path
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
    """An account that is enrolled, and one that is excluded."""
    enrolled, excluded = create_without_events(organization, 2)
    return enrolled, excluded


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str, accounts: tuple[str, str]) -> DeployedStage:
    parameters = {"SourcePrincipalArns": reader, "ExternalId": EXTERNAL_ID, "ExcludeAccountIds": accounts[1]}
    deployed = deploy("proven", **parameters)
    deployed.invoke_and_wait("backfill")
    deployed.wait_for_outcome(accounts[0], "enrolled")
    return deployed


@pytest.fixture(scope="module")
def prove(
    organization: LocalOrganization, stage: DeployedStage, reader: str, tmp_path_factory: pytest.TempPathFactory
) -> Prove:
    """Runs the command as the operator, with a profile of the source principal."""
    credentials = tmp_path_factory.mktemp("reader") / "credentials"
    keys = organization.as_role(reader)
    credentials.write_text(
        f"[auditor]\naws_access_key_id={keys['AccessKeyId']}\naws_secret_access_key={keys['SecretAccessKey']}\n"
        f"aws_session_token={keys['SessionToken']}\n"
    )

    def run(*arguments: str, principal: tuple[str, ...] = ("--reader-profile", "auditor")) -> CompletedProcess[str]:
        rolecall = CommandLine(organization, stage.name)
        return rolecall("prove", *principal, *arguments, AWS_SHARED_CREDENTIALS_FILE=str(credentials))

    return run


def evidence(ran: "CompletedProcess[str]", status: int) -> dict[str, Any]:
    assert (ran.returncode, ran.stderr) == (status, "")
    data: dict[str, Any] = json.loads(ran.stdout)
    return data


def unexpected(data: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Return the answers that don't match the claims, by account and claim."""
    return {
        (account["account_id"], call["claim"]): (call["answer"], call["code"])
        for account in data["accounts"]
        for call in account["calls"]
        if not call["holds"]
    }


def test_evidence_has_every_call_and_answer(
    prove: Prove, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    enrolled, excluded = accounts
    management = organization.management_account_id
    data = evidence(prove("--json"), 0)
    assert (data["result"], data["stage"]) == ("passed", "proven")
    assert data["source_principal"]["arn"] == f"arn:aws:sts::{management}:assumed-role/Reader/local"
    assert EXTERNAL_ID not in json.dumps(data)
    assert [(each["claim"], each["holds"], each["accounts"]) for each in data["claims"]] == [
        ("assumed", True, 2),
        ("read", True, 2),
        ("data denied", True, 2),
        ("external id required", True, 2),
        ("not assumable", True, 1),
    ]
    calls = {(each["account_id"], call["claim"]): call for each in data["accounts"] for call in each["calls"]}
    assert {key: (call["action"], call["answer"]) for key, call in calls.items()} == {
        (excluded, "not assumable"): ("sts:AssumeRole", "denied")
    } | {
        (account_id, claim): answer
        for account_id in (management, enrolled)
        for claim, answer in {
            "assumed": ("sts:AssumeRole", "allowed"),
            "read": ("iam:GetAccountSummary", "allowed"),
            "data denied": ("ssm:GetParameter", "denied"),
            "external id required": ("sts:AssumeRole", "denied"),
        }.items()
    }
    message = calls[enrolled, "data denied"]["message"]
    assert f"assumed-role/{ROLE}/rolecall-prove is not authorized to perform: ssm:GetParameter" in message
    assert "with an explicit deny in an identity-based policy" in message


def test_report_has_the_evidence_and_the_changes_since_another_report(
    prove: Prove, organization: LocalOrganization, stage: DeployedStage, accounts: tuple[str, str], tmp_path: Path
) -> None:
    rolecall = CommandLine(organization, stage.name)
    earlier, page, file = tmp_path / "earlier.html", tmp_path / "page.html", tmp_path / "prove.json"
    file.write_text(prove("--json", "--account", accounts[1]).stdout)
    assert rolecall("report", str(earlier)).returncode == 0

    written = rolecall("report", str(page), "--evidence", str(file), "--since", str(earlier))

    assert (written.returncode, written.stderr, written.stdout) == (0, "", f"wrote {page}\n")
    words = " ".join(page.read_text().split())
    assert "1 of 1 accounts that are not enrolled deny the source principal" in words
    assert "AccessDenied: User: arn:aws:sts::" in words
    assert "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::{account_id}:role/" in words
    assert "Changes since" in words
    assert EXTERNAL_ID not in words

    refused = rolecall("report", str(page), "--evidence", str(earlier))

    assert refused.returncode == 2
    assert refused.stderr == f"rolecall: {earlier} is not evidence: pass the output of rolecall prove --json\n"


def test_deleted_role_fails_its_claims(
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
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [accounts[1], "account-2", "skipped:", "excluded", "✔", "denied", "-", "-", "-"] in lines
    assert f"✘ {accounts[0]} assumed: sts:AssumeRole arn:aws:iam::{accounts[0]}:role/{ROLE} was denied" in ran.stdout
    assert "✘ 1 of 2 enrolled accounts allow the source principal" in ran.stdout
    assert "? 1 of 2 enrolled accounts can be read (iam:GetAccountSummary); 1 unknown" in ran.stdout
    assert ran.stdout.endswith("failed: access is not as configured\n")


def test_missing_deny_policy_and_external_id_are_found(
    prove: Prove, stage: DeployedStage, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    """The deny policy is missed although the parameter that is read doesn't exist."""
    trust = trust_document(stage.settings).content
    for statement in trust["Statement"]:
        statement["Condition"].pop("StringEquals", None)
    iam = organization.client("iam", accounts[0])
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(trust))
    iam.delete_role_policy(RoleName=ROLE, PolicyName=DENY_POLICY_NAME)
    try:
        data = evidence(prove("--json"), 1)
    finally:
        stage.reconcile_again(accounts[0])
    assert unexpected(data) == {
        (accounts[0], "data denied"): ("allowed", "ParameterNotFound"),
        (accounts[0], "external id required"): ("allowed", None),
    }


def test_access_to_an_excluded_account_is_found(
    prove: Prove, organization: LocalOrganization, accounts: tuple[str, str]
) -> None:
    excluded, management = accounts[1], organization.management_account_id
    organization.create_role(excluded, ROLE, trust_policy(f"arn:aws:iam::{management}:root"))
    iam = organization.client("iam")
    document = json.dumps(allow_policy("sts:AssumeRole"))
    iam.put_role_policy(RoleName="Reader", PolicyName="every-role", PolicyDocument=document)
    try:
        data = evidence(prove("--json"), 1)
    finally:
        iam.delete_role_policy(RoleName="Reader", PolicyName="every-role")
        organization.client("iam", excluded).delete_role(RoleName=ROLE)
    assert unexpected(data) == {(excluded, "not assumable"): ("allowed", None)}


def test_named_account_is_tested_with_one_that_is_not_enrolled(
    prove: Prove, reader: str, accounts: tuple[str, str]
) -> None:
    data = evidence(prove("--account", accounts[0], "--json", principal=("--reader-role", reader)), 0)
    assert [each["account_id"] for each in data["accounts"]] == list(accounts)
    assert data["source_principal"]["arn"].endswith(":assumed-role/Reader/rolecall-prove")


@pytest.mark.parametrize(
    ("principal", "error"),
    [
        ((), "arn:aws:iam::111122223333:root is not a source principal of stage proven"),
        (("--reader-profile", "missing"), "(missing) could not be found: set --reader-profile"),
    ],
)
def test_other_credentials_are_rejected(prove: Prove, principal: tuple[str, ...], error: str) -> None:
    ran = prove(principal=principal)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert error in ran.stderr
