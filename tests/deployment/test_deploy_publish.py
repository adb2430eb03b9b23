"""What deploying asks of publish and of its records: kept names, and one run once the stack is complete."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer

from deploy.aws import CommandError, DeployError
from deploy.deploy import deploy

_READER = "SourcePrincipalArns=arn:aws:iam::111122223333:role/Reader"
_NAMES = {
    "member_role_name": "CrossAccountReadOnlyRole",
    "source_policy_name": "CrossAccountReadOnlyAccess",
    "source_account_id": "111122223333",
}


class Cloud:
    """Answers the AWS commands of a first deployment; an earlier stack may have left its tables."""

    def __init__(self, status: dict[str, Any] | None = None, *, tables: bool = True) -> None:
        self.status = status
        self.has_tables = tables
        self.answer: dict[str, Any] | None = {"batchItemFailures": []}
        self.commands: list[str] = []

    def __call__(self, *arguments: str) -> Any:
        command = " ".join(arguments[:2])
        self.commands.append(command)
        match command:
            case "sts get-caller-identity":
                return {"Arn": "arn:aws:sts::111122223333:assumed-role/Admin/me", "Account": "111122223333"}
            case "organizations describe-organization":
                return {"Organization": {"MasterAccountId": "111122223333"}}
            case "cloudformation describe-stacks":
                return {"Stacks": [{"StackStatus": "UPDATE_COMPLETE", "Parameters": []}]}
            case "dynamodb describe-table" if not self.has_tables:
                raise CommandError("ResourceNotFoundException")
            case "dynamodb get-item" if self.status is not None:
                assert json.loads(arguments[arguments.index("--key") + 1]) == {"policy_name": {"S": "#status"}}
                return {"Item": TypeSerializer().serialize(self.status)["M"]}
            case "lambda invoke":
                return self._invoked(arguments)
        return None

    def _invoked(self, arguments: tuple[str, ...]) -> dict[str, Any]:
        assert arguments[arguments.index("--function-name") + 1] == "rolecall-dev-publish"
        payload = arguments[arguments.index("--payload") + 1].removeprefix("fileb://")
        assert json.loads(Path(payload).read_text()) == {"Records": []}
        if self.answer is None:
            raise CommandError("aws lambda invoke: TooManyRequestsException")
        Path(arguments[-1]).write_text(json.dumps(self.answer))
        return {"StatusCode": 200} | ({"FunctionError": "Unhandled"} if "errorMessage" in self.answer else {})


@pytest.fixture
def directory(packaged: Path, tmp_path: Path) -> Path:
    shutil.copy(packaged / "template.yaml", tmp_path)
    return tmp_path


def _deployed(cloud: Cloud, directory: Path, params: str = _READER) -> str:
    return deploy("dev", "artifacts", directory, params, aws=cloud, region="us-east-1")


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        ("MemberRoleName=Audit", "MemberRoleName is Audit and was CrossAccountReadOnlyRole"),
        ("SourcePolicyName=ReadAll", "SourcePolicyName is ReadAll and was CrossAccountReadOnlyAccess"),
        (
            "SourcePrincipalArns=arn:aws:iam::444455556666:role/Reader",
            "the account of SourcePrincipalArns is 444455556666 and was 111122223333",
        ),
    ],
)
def test_changed_names_are_refused_before_anything_is_deployed(params: str, changed: str, directory: Path) -> None:
    cloud = Cloud({"policy_name": "#status", "names": _NAMES})
    given = params if "SourcePrincipalArns" in params else f"{_READER} {params}"
    with pytest.raises(DeployError, match=f"a stage keeps its names: {changed}. Set the earlier values"):
        _deployed(cloud, directory, given)
    assert not {"cloudformation package", "cloudformation deploy", "lambda invoke"} & set(cloud.commands)


@pytest.mark.parametrize(
    "cloud",
    [
        Cloud({"policy_name": "#status", "names": _NAMES}),
        Cloud({"policy_name": "#status"}),
        Cloud(),
        Cloud(tables=False),
    ],
)
def test_publish_runs_once_the_stack_is_complete(cloud: Cloud, directory: Path) -> None:
    told = _deployed(cloud, directory)
    assert cloud.commands.index("lambda invoke") > cloud.commands.index("cloudformation deploy")
    assert cloud.commands.count("lambda invoke") == 1
    assert "of account 111122223333.\n\n1. " in told


def test_what_blocks_new_accounts_is_reported(directory: Path) -> None:
    blocked = {"reason": "principal_missing", "error": "role Reader does not exist"}
    told = _deployed(Cloud({"policy_name": "#status", "names": _NAMES, "blocked": blocked}), directory)
    assert "New accounts are not enrolled: principal_missing role Reader does not exist\n" in told


@pytest.mark.parametrize(
    ("answer", "error"),
    [({"errorMessage": "no such module"}, "no such module"), (None, "aws lambda invoke: TooManyRequestsException")],
)
def test_a_failed_run_is_reported_and_the_stage_deployed(
    answer: dict[str, Any] | None, error: str, directory: Path
) -> None:
    cloud = Cloud()
    cloud.answer = answer
    told = _deployed(cloud, directory)
    assert told.startswith("Stage dev is deployed")
    assert f"rolecall-dev-publish failed: {error}\n" in told
