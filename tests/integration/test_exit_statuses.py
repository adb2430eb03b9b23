"""No command ends with a traceback, or with the status of another result, whatever its output, credentials and network are."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rolecall import __version__
from tests.integration.command_line import (
    COMMANDS,
    OFFLINE,
    CommandLine,
    NoStacks,
    Ran,
    Terminal,
    WebPages,
    arguments_of,
    functions_of,
    pipe,
    web_server,
)
from tests.integration.organization import MANAGEMENT, Organization
from tests.integration.stage import Stage

NAME = "S\u00f8ren \u2714 \U0001f680 =1+1"


@pytest.fixture
def rolecall(organization: Organization, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    for queue in ("events-dlq", "announcements-dlq"):
        organization.operator.sqs.create_queue(QueueName=f"rolecall-test-{queue}")
    with functions_of(stage) as functions, web_server(NoStacks) as stacks:
        command_line = CommandLine(monkeypatch)
        command_line.environment["AWS_ENDPOINT_URL_LAMBDA"] = functions
        command_line.environment["AWS_ENDPOINT_URL_CLOUDFORMATION"] = stacks
        yield command_line


@pytest.mark.parametrize("command", COMMANDS)
def test_command_ends_with_its_own_status(
    command: str, organization: Organization, stage: Stage, rolecall: CommandLine, tmp_path: Path
) -> None:
    account_id = organization.member(NAME)
    stage.enroll(account_id)
    arguments = arguments_of(command, account_id, tmp_path)

    def unanswered(*more: str, **environment: str) -> Ran:
        return CommandLine(rolecall.patch, rolecall.environment | environment)(*more, *arguments, stdout=pipe())

    plain = rolecall(*arguments, stdout=pipe())
    # Without a stack, a deployment and its end are refused on standard error, with a list of problems.
    is_refused = command in {"deploy", "settings", "undeploy"}
    assert bool(plain.errors) is is_refused is not bool(plain.output)
    assert plain.status in {0, 1, 2}
    ran = rolecall(*arguments, stdout=pipe("ascii"))
    assert (ran.status, ran.errors) == (plain.status, plain.errors)
    if any("--json" in option.opts for option in COMMANDS[command].params):
        ran = rolecall(*arguments, "--json", stdout=pipe())
        assert ran.status == plain.status
        printed: Any = None if is_refused else json.loads(ran.output)
        assert is_refused or printed is not None
        if command in {"package", "report"}:
            assert set(printed["files"]) == set(map(str, tmp_path.iterdir()))
    with rolecall.patch.context() as patch:
        patch.setenv("COLUMNS", "60")
        ran = rolecall(*arguments, stdout=Terminal(io.BytesIO(), encoding="latin-1"))
    assert (ran.status, ran.errors) == (plain.status, plain.errors)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = rolecall(*arguments, stdout=full)
    assert ran.status == 2
    if plain.output:
        assert ran.errors.startswith("rolecall: writing the output: No space left on device")
        assert ran.is_one_sentence
    ran = rolecall(*arguments, stdout=None)
    assert (ran.status, ran.errors.startswith("rolecall: standard output is closed")) == (2, True)
    if command in OFFLINE:
        return
    with web_server(WebPages) as url:
        ran = unanswered("--endpoint-url", url)
    assert (ran.status, "the response is a page of HTML, not one of AWS" in ran.errors) == (2, True)
    assert ran.is_one_sentence or is_refused
    ran = unanswered(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert (ran.status, "no AWS credentials found" in ran.errors) == (2, True)
    if command == "stages":
        return
    ran = unanswered(ROLECALL_STAGE="other")
    assert ran.status in {1, 2}
    assert ran.is_one_sentence or is_refused or command == "doctor"


def test_only_deployed_stage_is_the_default(stage: Stage, organization: Organization, rolecall: CommandLine) -> None:
    account_id = organization.member(NAME)
    stage.enroll(account_id)
    del rolecall.environment["ROLECALL_STAGE"]
    only = rolecall("accounts", "--json", stdout=pipe())
    assert (only.status, only.errors, account_id in only.output) == (0, "", True)

    organization.operator.sqs.create_queue(QueueName="rolecall-other-accounts")

    several = rolecall("accounts", stdout=pipe())
    assert (several.status, several.is_one_sentence) == (2, True)
    assert "2 stages are deployed here: set --stage or ROLECALL_STAGE to one of other, test" in several.errors
    assert rolecall("accounts", "--stage", "test", stdout=pipe()).status == 0


def test_stages_are_listed_with_version_and_time(stage: Stage, rolecall: CommandLine) -> None:
    ran = rolecall("stages", "--json", stdout=pipe())
    deployed = {"stage": stage.environ["STAGE"], "region": "us-east-1", "version": __version__}
    assert json.loads(ran.output) == [deployed | {"deployed_at": "2026-03-01T10:00:00.000+0000"}]


def test_debug_prints_calls_and_request_ids(rolecall: CommandLine) -> None:
    ran = rolecall("accounts", "--debug", stdout=pipe())
    calls = [line.removeprefix("rolecall: debug: ") for line in ran.errors.splitlines()]
    assert ran.status == 0
    assert calls[0].startswith("lambda:GetFunctionConfiguration: 200, request id ")
    assert any(call.startswith("dynamodb:Scan: 200, request id ") for call in calls)


def test_other_version_of_the_stage_is_a_warning(stage: Stage, rolecall: CommandLine) -> None:
    with functions_of(stage, "0.0.9") as functions:
        rolecall.environment["AWS_ENDPOINT_URL_LAMBDA"] = functions
        ran = rolecall("accounts", "--json", stdout=pipe())
    assert (ran.status, json.loads(ran.output)[0]["account_id"]) == (0, MANAGEMENT)
    assert ran.errors.startswith(
        f"rolecall: warning: stage test was deployed with version 0.0.9, and this is {__version__}: "
    )
    assert ran.errors.count("\n") == 1


@pytest.mark.parametrize("command", ["status", "accounts", "show", "report"])
def test_unreadable_row_is_shown_and_named(
    command: str, organization: Organization, stage: Stage, rolecall: CommandLine, tmp_path: Path
) -> None:
    account_id = organization.member(NAME)
    stage.enroll(account_id)
    stage.ledger.update_item(
        Key={"account_id": account_id},
        UpdateExpression="SET updated_at = :time, in_force_since = :time",
        ExpressionAttributeValues={":time": "yesterday\x1b"},
    )

    ran = rolecall(*arguments_of(command, account_id, tmp_path), stdout=pipe())

    assert (ran.status, ran.is_one_sentence, "\x1b" not in ran.output + ran.errors) == (2, True, True)
    assert f"such as that of {account_id}, whose updated_at is 'yesterday\\x1b'" in ran.errors
    assert ran.output
