"""Deploying, changing, undeploying and deploying again, by the AWS command line, on the local AWS organization."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.aws import CommandError, DeployError, command_line
from deploy.deploy import deploy
from deploy.undeploy import undeploy
from local.organization import LocalOrganization
from tests.deployment.aws_cli import in_this_process

_REGION = "us-east-1"


@pytest.fixture(scope="module")
def organization(unpacked: Path) -> Iterator[LocalOrganization]:
    with LocalOrganization(unpacked=unpacked) as running:
        running.client("s3").create_bucket(Bucket="artifacts")
        yield running


@pytest.fixture
def aws(organization: LocalOrganization, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL", organization.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", organization.management_account_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return command_line(_REGION, in_this_process)


def _reader(organization: LocalOrganization) -> str:
    return f"SourcePrincipalArns=arn:aws:iam::{organization.management_account_id}:role/Reader"


def _directory(packaged: Path, tmp_path: Path, stage: str) -> Path:
    directory = tmp_path / stage
    shutil.copytree(packaged, directory)
    template = directory / "template.yaml"
    template.write_text(template.read_text().replace("Default: dev\n", f"Default: {stage}\n"))
    return directory


def _variables(organization: LocalOrganization, stage: str) -> dict[str, str]:
    function = organization.client("lambda").get_function_configuration(FunctionName=f"rolecall-{stage}-enroll")
    variables: dict[str, str] = function["Environment"]["Variables"]
    return variables


def test_the_same_again_changes_nothing_and_a_setting_given_changes_it_alone(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "again")
    told = deploy("again", "artifacts", directory, _reader(organization) + " BatchSize=9", aws=aws, region=_REGION)
    assert "stack rolecall-again in us-east-1 of account " + organization.management_account_id in told
    assert "CloudTrail" in told
    first = _variables(organization, "again")

    deploy("again", "artifacts", directory, "", aws=aws, region=_REGION)
    assert _variables(organization, "again") == first

    deploy("again", "artifacts", directory, "Threads=3", aws=aws, region=_REGION)
    assert _variables(organization, "again") == first | {"THREADS": "3"}
    stack = organization.client("cloudformation").describe_stacks(StackName="rolecall-again")["Stacks"][0]
    kept = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (kept["Stage"], kept["BatchSize"], kept["Threads"]) == ("again", "9", "3")
    assert {each["Key"]: each["Value"] for each in stack["Tags"]} == {
        "managed-by": "rolecall",
        "rolecall-stage": "again",
    }


def test_a_refused_setting_leaves_nothing_behind(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "refused")
    wrong = _reader(organization) + " MemberRoleName=OrganizationAccountAccessRole"
    with pytest.raises(DeployError, match="MEMBER_ROLE_NAME"):
        deploy("refused", "artifacts", directory, wrong, aws=aws, region=_REGION)
    stacks = organization.client("cloudformation").describe_stacks()["Stacks"]
    assert "rolecall-refused" not in [stack["StackName"] for stack in stacks]
    assert "rolecall-refused-ledger" not in organization.client("dynamodb").list_tables()["TableNames"]


def test_names_that_a_stage_has_published_under_are_kept(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "named")
    deploy("named", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)
    names = {
        "member_role_name": {"S": "CrossAccountReadOnlyRole"},
        "source_policy_name": {"S": "CrossAccountReadOnlyAccess"},
        "source_account_id": {"S": organization.management_account_id},
    }
    organization.client("dynamodb").put_item(
        TableName="rolecall-named-source-policy", Item={"policy_name": {"S": "#status"}, "names": {"M": names}}
    )

    with pytest.raises(DeployError, match="MemberRoleName is Audit and was CrossAccountReadOnlyRole"):
        deploy("named", "artifacts", directory, "MemberRoleName=Audit", aws=aws, region=_REGION)
    assert _variables(organization, "named")["MEMBER_ROLE_NAME"] == "CrossAccountReadOnlyRole"

    deploy("named", "artifacts", directory, "Threads=3", aws=aws, region=_REGION)
    assert _variables(organization, "named")["THREADS"] == "3"


def test_undeploying_waits_for_the_last_role_and_deploying_again_forgets_nothing(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "twice")
    deploy("twice", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)
    ledger = organization.client("dynamodb")
    rows = {
        "444455556666": {"outcome": {"S": "enrolled"}, "role_arn": {"S": "arn:aws:iam::444455556666:role/R"}},
        "555566667777": {"outcome": {"S": "retired"}, "role_arn": {"S": "arn:aws:iam::555566667777:role/R"}},
        "666677778888": {"outcome": {"S": "failed"}},
    }
    for account_id, row in rows.items():
        ledger.put_item(TableName="rolecall-twice-ledger", Item={"account_id": {"S": account_id}, **row})

    with pytest.raises(DeployError, match=r"left: 2\n  444455556666 enrolled .*\n  555566667777 retired .*/R\n"):
        undeploy("twice", aws=aws, region=_REGION)
    functions = organization.client("lambda").list_functions()["Functions"]
    assert "rolecall-twice-enroll" in [function["FunctionName"] for function in functions]

    for account_id in ("444455556666", "555566667777"):
        ledger.delete_item(TableName="rolecall-twice-ledger", Key={"account_id": {"S": account_id}})
    assert "delete-table --table-name rolecall-twice-ledger" in undeploy("twice", aws=aws, region=_REGION)
    functions = organization.client("lambda").list_functions()["Functions"]
    assert "rolecall-twice-enroll" not in [function["FunctionName"] for function in functions]
    with pytest.raises(DeployError, match="no stack rolecall-twice"):
        undeploy("twice", aws=aws, region=_REGION)

    deploy("twice", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)
    assert [row["account_id"]["S"] for row in ledger.scan(TableName="rolecall-twice-ledger")["Items"]] == [
        "666677778888"
    ]
    held = organization.client("cloudformation").describe_stack_resources(StackName="rolecall-twice")["StackResources"]
    assert {"LedgerTable", "SourcePolicyTable"} <= {resource["LogicalResourceId"] for resource in held}


def test_the_installed_aws_cli_is_what_runs_commands_and_a_failed_one_says_what_aws_said(
    organization: LocalOrganization,
    aws: Any,  # noqa: ARG001 - for its environment
) -> None:
    installed = command_line(_REGION)
    assert installed("sts", "get-caller-identity")["Account"] == organization.management_account_id
    with pytest.raises(CommandError, match=r"aws dynamodb describe-table: .*ResourceNotFoundException"):
        installed("dynamodb", "describe-table", "--table-name", "none")


def test_a_failed_first_deployment_says_why_and_is_out_of_the_way_of_the_next(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "failed")
    good = (directory / "template.yaml").read_text()
    broken = yaml.safe_load(good)
    missing = f"arn:aws:lambda:{_REGION}:{organization.management_account_id}:function:missing"
    broken["Resources"]["Broken"] = {
        "Type": "AWS::CloudFormation::CustomResource",
        "Properties": {"ServiceToken": missing},
    }
    (directory / "template.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(DeployError, match=r"\n  Broken: "):
        deploy("failed", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)

    (directory / "template.yaml").write_text(good)
    deploy("failed", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)
    stack = organization.client("cloudformation").describe_stacks(StackName="rolecall-failed")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
