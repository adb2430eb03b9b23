"""What `export` writes is what a reader uses, unedited, and what `report` writes is what is so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import Deploy, DeployedStage

NAMES = ('Payments, "Ltd" <script>alert(1)</script>', "payments ltd script alert 1 script")

# A reader that knows nothing of Rolecall: for each profile of its AWS config, the account that it comes to.
READER = """
import boto3, json
told = {}
for profile in boto3.Session().available_profiles:
    if profile != "reader":
        session = boto3.Session(profile_name=profile)
        assert session.client("iam").get_account_summary()["SummaryMap"]
        told[profile] = session.client("sts").get_caller_identity()["Account"]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy("exported", SourcePrincipalArns=reader, ExternalId="told-by-the-reader", Schedules="DISABLED")


@pytest.fixture(scope="module")
def accounts(organization: LocalOrganization, stage: DeployedStage) -> tuple[str, str]:
    """Two accounts whose names come to the same, enrolled beside the management account."""
    first, second = (organization.create_account(name) for name in NAMES)
    organization.invoke(stage.function("backfill"), {"accounts": [organization.management_account_id]})
    for account_id in (first, second, organization.management_account_id):
        stage.wait_for_outcome(account_id, "enrolled")
    return first, second


@pytest.fixture(scope="module")
def rolecall(organization: LocalOrganization, stage: DeployedStage) -> CommandLine:
    return CommandLine(organization, stage.name)


def come_to(rolecall: CommandLine, config: Path, **environment: str) -> dict[str, str]:
    answer = subprocess.run(
        [sys.executable, "-c", READER],
        env=rolecall.environment(AWS_CONFIG_FILE=str(config), **environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told: dict[str, str] = json.loads(answer.stdout)
    return told


def test_boto3_reaches_every_account_by_the_aws_config(
    organization: LocalOrganization, rolecall: CommandLine, accounts: tuple[str, str], reader: str, tmp_path: Path
) -> None:
    first, second = accounts
    expected = {
        f"payments-ltd-script-alert-1-script-{first}": first,
        f"payments-ltd-script-alert-1-script-{second}": second,
    }
    session = organization.as_role(reader)

    of_a_profile, credentials = tmp_path / "of-a-profile", tmp_path / "credentials"
    written = rolecall("export", "aws-config", "--source-profile", "reader", "--output", str(of_a_profile))
    assert (written.returncode, written.stderr, written.stdout) == (0, "", f"wrote {of_a_profile}\n")
    credentials.write_text(
        f"[reader]\naws_access_key_id = {session['AccessKeyId']}\naws_secret_access_key = {session['SecretAccessKey']}\n"
        f"aws_session_token = {session['SessionToken']}\n"
    )
    reached = come_to(rolecall, of_a_profile, AWS_SHARED_CREDENTIALS_FILE=str(credentials))
    assert expected.items() < reached.items()
    assert sorted(reached.values()) == sorted([first, second, organization.management_account_id])

    of_the_environment = tmp_path / "of-the-environment"
    of_the_environment.write_text(rolecall("export", "aws-config").stdout)
    assert reached == come_to(
        rolecall,
        of_the_environment,
        AWS_ACCESS_KEY_ID=session["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"],
        AWS_SESSION_TOKEN=session["SessionToken"],
    )


def test_every_reader_is_told_of_every_account(
    rolecall: CommandLine, stage: DeployedStage, accounts: tuple[str, str]
) -> None:
    for reader in ("cloudquery", "prowler"):
        exported = rolecall("export", reader)
        assert exported.returncode == 0
        for account_id in accounts:
            assert stage.member_role_arn(account_id) in exported.stdout
    assert rolecall("export", "steampipe").stdout.count('\nconnection "') == 4


def test_the_report_tells_of_every_account_and_runs_none_of_their_names(
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
    assert "told-by-the-reader" not in html


def test_a_file_that_cannot_be_written_is_named(rolecall: CommandLine, tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "rolecall.html"
    refused = rolecall("report", str(nowhere))
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"rolecall: writing {nowhere}: No such file or directory")
