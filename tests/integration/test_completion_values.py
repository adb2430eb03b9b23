"""Stages, accounts and organizational units as shells complete them, of a stage in moto."""

from collections.abc import Iterator

import pytest

from tests.integration.command_line import CommandLine, functions_of, pipe
from tests.integration.organization import Organization
from tests.integration.stage import Stage


@pytest.fixture
def rolecall(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    with functions_of(stage) as functions:
        command_line = CommandLine(monkeypatch)
        command_line.environment["AWS_ENDPOINT_URL_LAMBDA"] = functions
        yield command_line


def completed(rolecall: CommandLine, *words: str, script: str = "bash") -> list[str]:
    typed = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": " ".join(words)}
    environment = rolecall.environment | typed | {"_ROLECALL_COMPLETE": f"complete_{script}"}
    ran = CommandLine(rolecall.patch, environment)(stdout=pipe())
    assert (ran.status, ran.errors) == (0, "")
    return ran.output.split()


def test_stages_are_completed(rolecall: CommandLine, organization: Organization) -> None:
    organization.operator.sqs.create_queue(QueueName="rolecall-tmp-accounts")
    assert completed(rolecall, "rolecall", "status", "--stage", "t") == ["test", "tmp"]
    assert completed(rolecall, "rolecall", "deploy", "te") == ["test"]


@pytest.mark.parametrize("command", [["show"], ["enroll"], ["logs"], ["prove", "--account"]])
def test_accounts_are_completed_by_id_and_name(
    command: list[str], rolecall: CommandLine, organization: Organization, stage: Stage
) -> None:
    account_id = organization.member("payments")
    stage.enroll(account_id)
    assert completed(rolecall, "rolecall", *command, "pay") == ["payments"]
    assert completed(rolecall, "rolecall", *command, account_id[:11]) == [account_id]
    # The stage is what was typed, wherever.
    assert completed(rolecall, "rolecall", "--stage", "other", *command, "pay") == []
    assert completed(rolecall, "rolecall", *command[:1], "--stage", "test", *command[1:], "pay") == ["payments"]


def test_name_that_a_shell_would_evaluate_is_not_completed(
    rolecall: CommandLine, organization: Organization, stage: Stage
) -> None:
    account_id = organization.member("pay`touch /tmp/x`$(id)")
    stage.enroll(account_id)
    assert completed(rolecall, "rolecall", "show", "pay") == []
    (values,) = {" ".join(completed(rolecall, "rolecall", "show", account_id[:11], script="zsh"))}
    assert account_id in values
    assert not {"`", "$"} & set(values)


def test_organizational_units_are_completed(rolecall: CommandLine, organization: Organization) -> None:
    units = organization.operator.organizations
    root = units.list_roots()["Roots"][0]["Id"]
    unit = units.create_organizational_unit(ParentId=root, Name="Payments")["OrganizationalUnit"]["Id"]
    assert completed(rolecall, "rolecall", "plan", "--ou", "ou-") == [unit]
