"""deploy and undeploy with the AWS CLI, in the local AWS organization."""

import json
import re
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
        running.create_source_principal()
        yield running


@pytest.fixture
def aws(organization: LocalOrganization, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL", organization.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", organization.management_account_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return aws_cli(_REGION, in_this_process)


def _names(organization: LocalOrganization, name: str) -> str:
    """Return parameters of a stage that has names of its own."""
    reader = f"arn:aws:iam::{organization.management_account_id}:role/Reader"
    return f"SourcePrincipalArns={reader} MemberRoleName={name} SourcePolicyName={name}"


def _deploy(directory: Path, params: str, aws: Any, **variables: str) -> str:
    """Deploy the stage that the directory has the name of."""
    given = {"PARAMS": params, **variables}
    return deploy(directory.name, "artifacts", directory, given, aws=aws, region=_REGION)


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


def _create_stack(organization: LocalOrganization, params: str) -> None:
    """Create a stack that has the parameters of a stage, and one topic."""
    values = dict(pair.split("=", 1) for pair in params.split())
    template = {
        "Parameters": {name: {"Type": "String"} for name in values},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
    }
    organization.client("cloudformation").create_stack(
        StackName=f"rolecall-{values['Stage']}",
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )


def test_deploying_again_changes_only_the_given_settings(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "again")
    message = _deploy(directory, _names(organization, "again") + " BatchSize=9", aws)
    assert f"stack rolecall-again in us-east-1 of account {organization.management_account_id}" in message
    assert "CloudTrail" in message
    first = _variables(organization, "again")

    _deploy(directory, "", aws)
    assert _variables(organization, "again") == first

    _deploy(directory, "Threads=3", aws)
    assert _variables(organization, "again") == first | {"THREADS": "3"}
    stack = organization.client("cloudformation").describe_stacks(StackName="rolecall-again")["Stacks"][0]
    kept = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (kept["Stage"], kept["BatchSize"], kept["Threads"]) == ("again", "9", "3")
    assert {each["Key"]: each["Value"] for each in stack["Tags"]} == {
        "managed-by": "rolecall",
        "rolecall-stage": "again",
    }


def test_settings_that_cannot_work_are_rejected_at_once(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    _create_stack(organization, f"Stage=first AccessRoleNames=Admin {_names(organization, 'first')}")
    source = organization.create_account("source")
    organization.create_source_principal("Reader", source)
    principals = ",".join(f"arn:aws:iam::{source}:role/{name}" for name in ("Reader", "Gone"))
    policies = ",".join(f"arn:aws:iam::aws:policy/P{number}" for number in range(11))

    with pytest.raises(DeployError) as caught:
        _deploy(
            _directory(packaged, tmp_path, "second"),
            f"SourcePrincipalArns={principals} MemberRoleName=FIRST IncludeOuIds=ou-ab12-11111111 "
            f"MemberRolePolicyArns={policies} ReservedConcurrency=1",
            aws,
            Schedules="DISABLED",
        )

    expected = (
        r"Schedules is set outside PARAMS.*\n.*ReservedConcurrency is 1, less than .*\n.*role/Gone, which does not exist: "
        r".*\n.*ou-ab12-11111111, which does not exist .*\n.* 11 policies, .*\n.*MemberRoleName is FIRST, .* stage first"
    )
    first_line, *problems = str(caught.value).splitlines()
    assert (first_line, len(problems)) == ("nothing was changed:", 6)
    assert re.search(expected, "\n".join(problems))
    stacks = organization.client("cloudformation").describe_stacks()["Stacks"]
    assert "rolecall-second" not in [stack["StackName"] for stack in stacks]


def test_undeployed_tables_are_imported_by_the_next_deployment(
    organization: LocalOrganization, aws: Any, packaged: Path, tmp_path: Path
) -> None:
    directory = _directory(packaged, tmp_path, "twice")
    _deploy(directory, _names(organization, "twice"), aws)
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

    _deploy(directory, _names(organization, "twice"), aws)
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
        _deploy(directory, _names(organization, "failed"), aws)

    (directory / "template.yaml").write_text(good)
    _deploy(directory, _names(organization, "failed"), aws)
    stack = organization.client("cloudformation").describe_stacks(StackName="rolecall-failed")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
