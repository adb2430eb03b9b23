"""Lists of stages and settings: as lines, a table, CSV or JSON; and which settings are not the default."""

import io
import json
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from rolecall.deployed_settings import read_deployed_settings
from rolecall.errors import NotDeployedError
from rolecall.listing import print_listing
from rolecall.options import Format

COLUMNS = {"name": "setting", "value": "value"}
ROWS: list[dict[str, object]] = [
    {"name": "Threads", "value": "16", "more": 1},
    {"name": "Tags", "value": None},
    {"name": "A\x1b", "value": "=1"},
]


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "written"),
    [
        (Format.TABLE, "setting  value\nThreads  16\nTags\nA\\x1b    =1\n"),
        (Format.CSV, "name,value\nThreads,16\nTags,\nA\\x1b,'=1\n"),
    ],
)
def test_pipe_gets_every_value(output: Format, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(COLUMNS, ROWS, output)
    assert capsys.readouterr().out == written


def test_json_has_all_that_a_row_contains(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(COLUMNS, ROWS, Format.JSON)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_table_fits_a_terminal_of_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal(io.BytesIO(), encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", out)
    print_listing(COLUMNS, [{"name": "MemberRolePolicyArns", "value": "arn:aws:iam::aws:policy/X," * 20}], Format.TABLE)
    out.flush()
    lines = cast("io.BytesIO", out.buffer).getvalue().decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line[20:].strip() for line in lines[1:]) == "arn:aws:iam::aws:policy/X," * 20


class DescribedStage:
    """A stage whose stack and template CloudFormation describes."""

    name, region = "dev", "us-east-1"

    def __init__(self, **parameters: str) -> None:
        self._parameters = parameters

    def client(self, _: str) -> Any:
        return self

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in self._parameters.items()]
        return {"Stacks": [{"StackName": StackName, "StackStatus": "CREATE_COMPLETE", "Parameters": given}]}

    def get_template_summary(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        assert StackName == "rolecall-dev"
        declared = {"Stage": None, "Threads": "16", "SourcePrincipalArns": None, "ExternalId": ""}
        return {
            "Parameters": [
                {"ParameterKey": name, "Description": f"about {name}"}
                | ({} if value is None else {"DefaultValue": value})
                for name, value in declared.items()
            ]
        }


def test_settings_are_compared_with_their_defaults() -> None:
    stage = DescribedStage(Stage="dev", Threads="16", SourcePrincipalArns="arn", ExternalId="secret")
    found = [each.as_json() for each in read_deployed_settings(cast("Any", stage))]
    assert [(each["name"], each["value"], each["default"], each["changed"]) for each in found] == [
        ("Threads", "16", "16", False),
        ("SourcePrincipalArns", "arn", None, True),
        ("ExternalId", "(set)", "", True),
    ]
    assert "secret" not in json.dumps(found)


def test_stage_without_a_stack_has_no_settings() -> None:
    class Missing(DescribedStage):
        def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - boto3's
            error: Any = {"Error": {"Code": "ValidationError", "Message": f"Stack with id {StackName} does not exist"}}
            raise ClientError(error, "DescribeStacks")

    with pytest.raises(NotDeployedError, match="stack rolecall-dev does not exist in us-east-1: check --stage"):
        read_deployed_settings(cast("Any", Missing()))
