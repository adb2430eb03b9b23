"""export writes configuration that its tool uses unchanged; report writes a complete page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import Deploy, DeployedStage

EXTERNAL_ID = "shared-with-the-reader"
NAMES = ('Payments, "Ltd" <script>alert(1)</script>', "payments ltd script alert 1 script")

# A tool without any code of Rolecall: it prints the account that each profile of the AWS config leads to.
TOOL = """
import boto3, json
accounts = {}
for profile in boto3.Session().available_profiles:
    if profile != "reader":
        session = boto3.Session(profile_name=profile)
        assert session.client("iam").get_account_summary()["SummaryMap"]
        accounts[profile] = session.client("sts").get_caller_identity()["Account"]
print(json.dumps(accounts))
"""


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy("exported", SourcePrincipalArns=reader, ExternalId=EXTERNAL_ID, Schedules="DISABLED")


@pytest.fixture(scope="module")
def accounts(organization: LocalOrganization, stage: DeployedStage) -> tuple[str, str]:
    """Two enrolled accounts with equal safe names; the management account is enrolled, too."""
    first, second = (organization.create_account(name) for name in NAMES)
    stage.invoke("backfill", accounts=[organization.management_account_id])
    for account_id in (first, second, organization.management_account_id):
        stage.wait_for_outcome(account_id, "enrolled")
    return first, second


@pytest.fixture(scope="module")
def rolecall(organization: LocalOrganization, stage: DeployedStage) -> CommandLine:
    return CommandLine(organization, stage.name)


def run_tool(rolecall: CommandLine, config: Path, **environment: str) -> dict[str, str]:
    ran = subprocess.run(
        [sys.executable, "-c", TOOL],
        env=rolecall.environment(AWS_CONFIG_FILE=str(config), **environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    accounts: dict[str, str] = json.loads(ran.stdout)
    return accounts


def test_boto3_reads_every_account_with_the_aws_config(
    organization: LocalOrganization, rolecall: CommandLine, accounts: tuple[str, str], reader: str, tmp_path: Path
) -> None:
    session = organization.as_role(reader)
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    written = rolecall("export", "aws-config", "--source-profile", "reader", "--output", str(config))
    assert (written.returncode, written.stderr, written.stdout) == (0, "", f"wrote {config}\n")
    credentials.write_text(
        f"[reader]\naws_access_key_id = {session['AccessKeyId']}\naws_secret_access_key = {session['SecretAccessKey']}\n"
        f"aws_session_token = {session['SessionToken']}\n"
    )
    reached = run_tool(rolecall, config, AWS_SHARED_CREDENTIALS_FILE=str(credentials))
    assert sorted(reached.values()) == sorted([*accounts, organization.management_account_id])
    assert {f"payments-ltd-script-alert-1-script-{each}": each for each in accounts}.items() < reached.items()

    config.write_text(rolecall("export", "aws-config").stdout)
    assert reached == run_tool(
        rolecall,
        config,
        AWS_ACCESS_KEY_ID=session["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"],
        AWS_SESSION_TOKEN=session["SessionToken"],
    )


def test_profiles_are_merged_into_the_config_of_the_reader(
    organization: LocalOrganization, rolecall: CommandLine, accounts: tuple[str, str], reader: str, tmp_path: Path
) -> None:
    session = organization.as_role(reader)
    config = tmp_path / "config"
    theirs = (
        f"[profile reader]\naws_access_key_id = {session['AccessKeyId']}\n"
        f"aws_secret_access_key = {session['SecretAccessKey']}\naws_session_token = {session['SessionToken']}\n"
    )
    config.write_text(theirs)
    merge = ("export", "aws-config", "--source-profile", "reader", "--output", str(config), "--merge")
    for names in ("names", "ids"):
        written = rolecall(*merge, "--names", names)
        assert (written.returncode, written.stderr, written.stdout) == (0, "", f"merged into {config}\n")
    assert config.read_text().startswith(theirs)
    enrolled = [*accounts, organization.management_account_id]
    assert run_tool(rolecall, config) == {each: each for each in enrolled}


def test_lists_for_scripts_have_every_account(
    organization: LocalOrganization, rolecall: CommandLine, accounts: tuple[str, str], tmp_path: Path
) -> None:
    enrolled = sorted([*accounts, organization.management_account_id])
    file = tmp_path / "accounts.json"
    for _ in range(2):
        assert rolecall("export", "json", "--output", str(file)).returncode == 0
    listed = json.loads(file.read_text())
    assert [(each["account_id"], each["external_id"], each["ou_path"]) for each in listed] == [
        (each, EXTERNAL_ID, "") for each in enrolled
    ]
    assert rolecall("export", "arns").stdout.splitlines() == [each["role_arn"] for each in listed]


def test_report_has_every_account_without_the_external_id(
    organization: LocalOrganization, rolecall: CommandLine, accounts: tuple[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "rolecall.html"
    written = rolecall("report", str(page))
    assert (written.returncode, written.stderr, written.stdout) == (0, "", f"wrote {page}\n")
    html = page.read_text()
    assert "3 of 3 eligible accounts are enrolled" in html
    assert organization.organization_id in html
    for account_id in (*accounts, organization.management_account_id):
        assert f'<li class="a enrolled" data-o="enrolled"><code>{account_id}</code>' in html
    assert "<script>alert" not in html
    assert EXTERNAL_ID not in html


def test_error_names_a_file_that_cannot_be_written(rolecall: CommandLine, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "rolecall.html"
    ran = rolecall("report", str(missing))
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"rolecall: writing {missing}: No such file or directory")
