"""The command line's help: every command has its sentence and its examples, and the package holds what it needs."""

import tomllib
from pathlib import Path

import pytest
from typer.models import CommandInfo
from typer.testing import CliRunner

from rolecall import __version__
from rolecall.cli import app

ROOT = Path(__file__).parents[2]
COMMANDS = app.registered_commands


def helped(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def name_of(command: CommandInfo) -> str:
    assert command.callback is not None
    return command.name or command.callback.__name__.replace("_", "-")


def first_sentence(command: CommandInfo) -> str:
    assert command.callback is not None
    return (command.callback.__doc__ or "").partition("\n")[0]


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_the_help_lists_a_command_with_its_sentence(command: CommandInfo) -> None:
    assert first_sentence(command).endswith(".")
    assert f"{name_of(command)} {first_sentence(command)}" in " ".join(helped().replace("│", " ").split())


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_a_commands_help_says_what_it_does_with_examples(command: CommandInfo) -> None:
    text = helped(name_of(command))
    assert text.startswith(f"Usage: rolecall {name_of(command)}")
    said, _, examples = text.partition(" Examples ")
    assert first_sentence(command) in said
    assert f"rolecall {name_of(command)}" in examples.partition("Options")[0]


def test_the_help_itself_has_examples_and_completion() -> None:
    text = helped()
    assert " Examples rolecall status " in text
    assert "--install-completion" in text


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"rolecall {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["accounts", "--reason", "sunspots"], "is not one of 'excluded'"),
        (["accounts", "--outcome", "lost"], "is not one of 'enrolled'"),
        (["show"], "Missing argument 'ACCOUNT'"),
    ],
)
def test_what_is_not_in_a_closed_list_is_refused_as_usage(arguments: list[str], refusal: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert refusal in result.output


def test_the_wheel_takes_every_package_and_the_pages_template() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    there = {
        ".".join(found.parent.relative_to(ROOT).parts)
        for top in ("rolecall", "chalicelib")
        for found in (ROOT / top).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == there
    assert project["tool"]["setuptools"]["package-data"] == {"rolecall": ["*.html", "*.css", "*.js"]}
    assert project["project"]["scripts"] == {"rolecall": "rolecall.cli:main"}
