"""deploy rejects everything that can't work at once, and runs publish once after the stack is complete."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer

from deploy.aws import AwsCommandError, DeployError
from deploy.deploy import deploy
from rolecall.partitions import EVENT_REGIONS, add_account_arguments

_READER = "SourcePrincipalArns=arn:aws:iam::111122223333:role/Reader"
_NAMES = {
    "member_role_name": "CrossAccountReadOnlyRole",
    "source_policy_name": "CrossAccountReadOnlyAccess",
    "source_account_id": "111122223333",
}


class FakeAws:
    """The AWS CLI of a deployment; `status` is the item of publish in a table that an earlier stack left."""

    def __init__(self, status: dict[str, Any] | None = None, *, tables: bool = True, partition: str = "aws") -> None:
        self.status = status
        self.partition = partition
        self.has_tables = tables
        self.response: dict[str, Any] | None = {"batchItemFailures": []}
        self.commands: list[str] = []

    def __call__(self, *arguments: str) -> Any:
        command = " ".join(arguments[:2])
        self.commands.append(command)
        match command:
            case "sts get-caller-identity":
                arn = f"arn:{self.partition}:sts::111122223333:assumed-role/Admin/me"
                return {"Arn": arn, "Account": "111122223333"}
            case "organizations describe-organization":
                return {"Organization": {"MasterAccountId": "111122223333"}}
            case "organizations describe-organizational-unit":
                raise AwsCommandError("An error occurred (OrganizationalUnitNotFoundException)")
            case "iam get-role" if arguments[-1] == "Reader":
                return {"Role": {"Arn": f"arn:{self.partition}:iam::111122223333:role/Reader"}}
            case "iam get-role":
                raise AwsCommandError("An error occurred (NoSuchEntity)")
            case "iam get-account-summary":
                return {"SummaryMap": {"AttachedPoliciesPerRoleQuota": 10}}
            case "sts assume-role":
                raise AwsCommandError("An error occurred (AccessDenied)")
            case "cloudformation describe-stacks":
                return {"Stacks": [{"StackStatus": "UPDATE_COMPLETE", "Parameters": []}]}
            case "dynamodb describe-table" if not self.has_tables:
                raise AwsCommandError("ResourceNotFoundException")
            case "dynamodb get-item" if self.status is not None:
                assert json.loads(arguments[arguments.index("--key") + 1]) == {"policy_name": {"S": "#status"}}
                return {"Item": TypeSerializer().serialize(self.status)["M"]}
            case "lambda invoke":
                return self._invoke(arguments)
        return None

    def _invoke(self, arguments: tuple[str, ...]) -> dict[str, Any]:
        assert arguments[arguments.index("--function-name") + 1] == "rolecall-dev-publish"
        payload = arguments[arguments.index("--payload") + 1].removeprefix("fileb://")
        assert json.loads(Path(payload).read_text()) == {"Records": []}
        if self.response is None:
            raise AwsCommandError("aws lambda invoke: TooManyRequestsException")
        Path(arguments[-1]).write_text(json.dumps(self.response))
        return {"StatusCode": 200} | ({"FunctionError": "Unhandled"} if "errorMessage" in self.response else {})


@pytest.fixture
def directory(packaged: Path, tmp_path: Path) -> Path:
    shutil.copy(packaged / "template.yaml", tmp_path)
    return tmp_path


def _deploy(aws: FakeAws, directory: Path, params: str = _READER, *, region: str = "", **variables: str) -> str:
    region = region or EVENT_REGIONS[aws.partition]
    return deploy("dev", "artifacts", directory, {"PARAMS": params, **variables}, aws=aws, region=region)


def _rejection(aws: FakeAws, directory: Path, params: str, **variables: str) -> list[str]:
    """Return the lines of the error, after asserting that nothing was changed."""
    with pytest.raises(DeployError) as caught:
        _deploy(aws, directory, params, **variables)
    assert not {command for command in aws.commands if command.split()[0] in {"cloudformation", "lambda"}} - {
        "cloudformation describe-stacks"
    }
    first, *problems = str(caught.value).split("\n  ")
    assert first == "nothing was changed:"
    return problems


def test_everything_that_cannot_work_is_reported_at_once(directory: Path) -> None:
    policies = ",".join(f"arn:aws:iam::aws:policy/P{number}" for number in range(11))
    aws = FakeAws({"policy_name": "#status", "names": _NAMES})

    problems = _rejection(
        aws,
        directory,
        f"{_READER},arn:aws:iam::111122223333:role/Gone MemberRoleName=reader Threads=0 Colour=red "
        f"ExcludeOuIds=ou-ab12-11111111 MemberRolePolicyArns={policies} ReservedConcurrency=2",
        Schedules="DISABLED",
    )

    assert [problem.split(":")[0] for problem in problems] == [
        "unknown parameter Colour",
        "Schedules is set outside PARAMS, where it has no effect",
        "Threads is '0'",
        "ReservedConcurrency is 2, less than MaximumConcurrency, 5",
        "MemberRoleName is reader, which SourcePrincipalArns contains, too",
        "MemberRoleName is reader and was CrossAccountReadOnlyRole, which can't be changed while anything is installed",
        "SourcePrincipalArns contains arn",
        "ExcludeOuIds contains ou-ab12-11111111, which does not exist in this organization",
        "MemberRolePolicyArns contains 11 policies, and the quota of account 111122223333 allows 10 per role",
    ]


def test_wrong_region_is_reported_with_wrong_parameters(directory: Path) -> None:
    problems = _rejection(FakeAws(), directory, "Colour=red Threads=0", region="eu-west-1", BatchSize="5")

    assert [problem.split(",")[0].split(":")[0] for problem in problems] == [
        "unknown parameter Colour",
        "BatchSize is set outside PARAMS",
        "Threads is '0'",
        "the region is eu-west-1",
    ]


def test_missing_source_principals_leave_the_rest_checked(directory: Path) -> None:
    aws = FakeAws({"policy_name": "#status", "names": {**_NAMES, "source_account_id": "444455556666"}})

    problems = _rejection(aws, directory, "IncludeOuIds=ou-ab12-11111111")

    assert [problem.split(":")[0] for problem in problems] == [
        "SourcePrincipalArns is not set",
        "IncludeOuIds contains ou-ab12-11111111, which does not exist in this organization",
    ]


def test_unreadable_source_account_does_not_stop_the_deployment(directory: Path) -> None:
    message = _deploy(FakeAws(), directory, "SourcePrincipalArns=arn:aws:iam::444455556666:role/Reader")

    assert "\n\nnot checked: whether the source principals exist: An error occurred (AccessDenied)" in message


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        ("MemberRoleName=Audit", "MemberRoleName is Audit and was CrossAccountReadOnlyRole"),
        ("SourcePolicyName=ReadAll", "SourcePolicyName is ReadAll and was CrossAccountReadOnlyAccess"),
        (
            "SourcePrincipalArns=arn:aws:iam::444455556666:role/Reader",
            "SourcePrincipalArns is of account 444455556666 and was of account 111122223333",
        ),
    ],
)
def test_changed_names_are_rejected_before_the_deployment(params: str, changed: str, directory: Path) -> None:
    aws = FakeAws({"policy_name": "#status", "names": _NAMES})
    given = params if "SourcePrincipalArns" in params else f"{_READER} {params}"

    problem, *_ = _rejection(aws, directory, given)

    assert problem.startswith(f"{changed}, which can't be changed while anything is installed: restore it")


@pytest.mark.parametrize(
    "aws",
    [
        FakeAws({"policy_name": "#status", "names": _NAMES}),
        FakeAws({"policy_name": "#status"}),
        FakeAws(),
        FakeAws(tables=False),
    ],
)
def test_publish_runs_once_the_stack_is_complete(aws: FakeAws, directory: Path) -> None:
    message = _deploy(aws, directory)
    assert aws.commands.index("lambda invoke") > aws.commands.index("cloudformation deploy")
    assert aws.commands.count("lambda invoke") == 1
    assert "of account 111122223333.\n\n1. " in message


def test_reason_that_blocks_new_accounts_is_reported(directory: Path) -> None:
    blocked = {"reason": "principal_missing", "error": "role Reader does not exist"}
    message = _deploy(FakeAws({"policy_name": "#status", "names": _NAMES, "blocked": blocked}), directory)
    assert "New accounts are not enrolled: principal_missing role Reader does not exist\n" in message


@pytest.mark.parametrize(
    ("response", "error"),
    [({"errorMessage": "no such module"}, "no such module"), (None, "aws lambda invoke: TooManyRequestsException")],
)
def test_failed_run_of_publish_is_reported(response: dict[str, Any] | None, error: str, directory: Path) -> None:
    aws = FakeAws()
    aws.response = response
    message = _deploy(aws, directory)
    assert message.startswith("Stage dev is deployed")
    assert f"rolecall-dev-publish failed: {error}\n" in message


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_next_steps_are_those_of_the_partition(partition: str, directory: Path) -> None:
    reader = f"SourcePrincipalArns=arn:{partition}:iam::111122223333:role/Reader"
    message = _deploy(FakeAws(partition=partition), directory, reader)
    arguments = add_account_arguments(partition, "rolecall-test", "YOUR-ADDRESS")
    assert f"     aws --region {EVENT_REGIONS[partition]} {arguments}\n" in message
