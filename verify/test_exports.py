"""Every export that a tool of PyPI or npm reads, read by that tool, and used by it against three accounts of the local AWS."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from local.organization import REGION, LocalOrganization, trust_policy
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import ROLE, Deploy, DeployedStage
from verify.installed_tools import aws_cli, node_packages, python_commands

EXTERNAL_ID = "shared-with-the-reader"
CHECKS = (
    "iam_no_custom_policy_permissive_role_assumption",
    "iam_role_cross_account_readonlyaccess_policy",
    "iam_role_cross_service_confused_deputy_prevention",
)
THEIRS = "ReadOnlyForOthers"
TOOL_SECONDS = 300

# A tool that reads all profiles but those that the config had before.
BOTO3 = """
import boto3, json
profiles = set(boto3.Session().available_profiles) - {"default", "reader"}
read = lambda name: boto3.Session(profile_name=name).client("sts").get_caller_identity()["Account"]
print(json.dumps({name: read(name) for name in profiles}))
"""


class Reader:
    """The tools of a source principal, whose profile `reader` is in an AWS config with others, and three enrolled accounts."""

    def __init__(self, organization: LocalOrganization, stage: DeployedStage, arn: str, directory: Path) -> None:
        self.organization, self.stage, self.directory = organization, stage, directory
        self.rolecall = CommandLine(organization, stage.name)
        self.config = directory / "config"
        session = organization.as_role(arn)
        self.config.write_text(
            f"[default]\nregion = eu-west-1\n[profile reader]\naws_access_key_id = {session['AccessKeyId']}\n"
            f"aws_secret_access_key = {session['SecretAccessKey']}\naws_session_token = {session['SessionToken']}\n"
        )
        created = [organization.create_account(name) for name in ("Payments", "Søren, Ltd")]
        stage.invoke("backfill", accounts=[organization.management_account_id])
        self.accounts = sorted([*created, organization.management_account_id])
        for account_id in self.accounts:
            stage.wait_for_outcome(account_id, "enrolled")
        # A role of others that fails a check, too.
        trust = trust_policy("arn:aws:iam::999999999999:root")
        read_only = "arn:aws:iam::aws:policy/ReadOnlyAccess"
        organization.create_role(self.accounts[0], THEIRS, trust, policies=[read_only])

    def export(self, tool: str, file: str, *options: str) -> Path:
        """Export to a file, and return its path."""
        path = self.directory / file
        ran = self.rolecall("export", tool, "--source-profile", "reader", "--output", str(path), *options)
        assert (ran.returncode, ran.stderr) == (0, "")
        return path

    def run(self, command: Sequence[str | Path], status: int = 0, **environment: str) -> str:
        """Run a tool with the source principal's profile, and return its output."""
        own = self.rolecall.environment(
            AWS_CONFIG_FILE=str(self.config), AWS_SHARED_CREDENTIALS_FILE="/dev/null", HOME=str(self.directory)
        )
        keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        ran = subprocess.run(
            [str(each) for each in command],
            cwd=self.directory,
            env={name: value for name, value in own.items() if name not in keys} | environment,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            check=False,
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def exported(
    organization: LocalOrganization, deploy: Deploy, reader: str, tmp_path_factory: pytest.TempPathFactory
) -> Reader:
    stage = deploy("exported", SourcePrincipalArns=reader, ExternalId=EXTERNAL_ID, Schedules="DISABLED")
    return Reader(organization, stage, reader, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def profiles(exported: Reader) -> list[str]:
    """The profiles of the accounts, merged into the reader's AWS config under their ids."""
    before = exported.config.read_bytes()
    exported.export("aws-config", "config", "--merge", "--names", "ids")
    assert exported.config.read_bytes().startswith(before)
    return exported.accounts


def test_boto3_reads_the_merged_config(exported: Reader, profiles: list[str]) -> None:
    assert json.loads(exported.run([sys.executable, "-c", BOTO3])) == {each: each for each in profiles}


def test_aws_cli_reads_the_merged_config(exported: Reader, profiles: list[str]) -> None:
    aws = aws_cli()
    for each in profiles:
        identity = json.loads(exported.run([aws, "--profile", each, "sts", "get-caller-identity", "--output", "json"]))
        assert (identity["Account"], identity["Arn"].split("/")[1]) == (each, ROLE)


def test_javascript_sdk_reads_the_merged_config(exported: Reader, profiles: list[str]) -> None:
    sdk = node_packages("@aws-sdk/client-sts@3.1177.0")
    found = json.loads(exported.run(["node", Path(__file__).with_name("read_profiles.mjs"), sdk, *profiles]))
    assert found == {each: each for each in profiles}


def test_c7n_org_reads_its_accounts(exported: Reader) -> None:
    c7n_org = python_commands("c7n-org==0.6.52") / "c7n-org"
    accounts = exported.export("c7n-org", "accounts.yaml")
    policies = exported.directory / "policies.yaml"
    policies.write_text("policies:\n  - name: roles\n    resource: aws.iam-role\n")
    results = exported.directory / "results"
    exported.run(
        [c7n_org, "run", "-c", accounts, "-u", policies, "-s", results, "--debug"],
        AWS_DEFAULT_REGION=REGION,
        AWS_PROFILE="reader",
    )
    found = {}
    for each in results.iterdir():
        roles = json.loads((each / REGION / "roles" / "resources.json").read_text())
        (found[each.name],) = {role["Arn"].split(":")[4] for role in roles}
    assert sorted(found.values()) == exported.accounts
    assert {"payments", "soren-ltd"} < found.keys()


def test_prowler_scans_every_account_and_mutes_what_a_stage_installs(exported: Reader) -> None:
    prowler = python_commands("prowler==5.46.0")
    script, mutelist = exported.export("prowler", "prowler.sh"), exported.export("prowler-mutelist", "mutelist.yaml")
    results = exported.directory / "scan"
    options = (
        "--checks",
        *CHECKS,
        "--mutelist-file",
        mutelist,
        "--output-formats",
        "csv",
        "--output-directory",
        results,
    )
    exported.run(["sh", script, *options], status=3, PATH=f"{prowler}:/usr/bin:/bin")

    findings = [
        row for file in results.glob("*.csv") for row in csv.DictReader(file.read_text().splitlines(), delimiter=";")
    ]
    assert {row["ACCOUNT_UID"] for row in findings} == set(exported.accounts)
    muted = {
        row["CHECK_ID"]: row["RESOURCE_NAME"] for row in findings if row["STATUS"] == "FAIL" and row["MUTED"] == "True"
    }
    assert muted.keys() == set(CHECKS)
    unmuted = {
        (row["ACCOUNT_UID"], row["RESOURCE_NAME"])
        for row in findings
        if row["STATUS"] == "FAIL" and row["MUTED"] == "False"
    }
    assert unmuted == {(exported.accounts[0], THEIRS)}
