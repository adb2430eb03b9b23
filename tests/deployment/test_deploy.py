"""deploy and undeploy with the AWS CLI, in the local AWS organization."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.aws import AwsCommandError, DeployError, aws_cli
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
    return aws_cli(_REGION, in_this_process)


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


def test_deploying_again_changes_only_the_given_settings(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "again")
    message = deploy("again", "artifacts", directory, _reader(organization) + " BatchSize=9", aws=aws, region=_REGION)
    assert f"stack rolecall-again in us-east-1 of account {organization.management_account_id}" in message
    assert "CloudTrail" in message
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


def test_undeployed_tables_are_imported_by_the_next_deployment(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "twice")
    deploy("twice", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)
    table, dynamodb = "rolecall-twice-ledger", organization.client("dynamodb")
    role_arn = {"S": "arn:aws:iam::444455556666:role/R"}
    enrolled = {"account_id": {"S": "444455556666"}, "outcome": {"S": "enrolled"}, "role_arn": role_arn}
    failed = {"account_id": {"S": "666677778888"}, "outcome": {"S": "failed"}}
    for row in (enrolled, failed):
        dynamodb.put_item(TableName=table, Item=row)

    with pytest.raises(DeployError, match=r"left:\n  444455556666 enrolled .*/R\n"):
        undeploy("twice", aws=aws, region=_REGION)
    assert "THREADS" in _variables(organization, "twice")

    dynamodb.delete_item(TableName=table, Key={"account_id": {"S": "444455556666"}})
    assert f"delete-table --table-name {table}" in undeploy("twice", aws=aws, region=_REGION)
    functions = organization.client("lambda").list_functions()["Functions"]
    assert "rolecall-twice-enroll" not in [function["FunctionName"] for function in functions]
    with pytest.raises(DeployError, match="stack rolecall-twice does not exist"):
        undeploy("twice", aws=aws, region=_REGION)

    deploy("twice", "artifacts", directory, _reader(organization), aws=aws, region=_REGION)
    assert dynamodb.scan(TableName=table)["Items"] == [failed]
    stack = organization.client("cloudformation").describe_stack_resources(StackName="rolecall-twice")
    ids = {resource["LogicalResourceId"] for resource in stack["StackResources"]}
    assert {"LedgerTable", "SourcePolicyTable"} <= ids


def test_installed_aws_cli_is_used_and_its_errors_are_kept(
    organization: LocalOrganization,
    aws: Any,  # noqa: ARG001 - for its environment
) -> None:
    installed = aws_cli(_REGION)
    assert installed("sts", "get-caller-identity")["Account"] == organization.management_account_id
    with pytest.raises(AwsCommandError, match=r"aws dynamodb describe-table: .*ResourceNotFoundException"):
        installed("dynamodb", "describe-table", "--table-name", "none")


def test_failed_first_deployment_names_the_resource_and_can_be_repeated(
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
