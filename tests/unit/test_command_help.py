"""The help of every command, and what the package contains."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from typer.models import CommandInfo
from typer.testing import CliRunner

from rolecall import __version__
from rolecall.cli import app, options
from rolecall.global_options import Command, Connection, Group
from tests.unit.written_help import WIDTHS, golden_path, written_help

ROOT = Path(__file__).parents[2]
COMMANDS = app.registered_commands


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def name_of(command: CommandInfo) -> str:
    assert command.callback is not None
    return command.name or command.callback.__name__


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_help_has_a_sentence_and_examples_of_each_command(command: CommandInfo) -> None:
    name = name_of(command)
    assert command.callback is not None
    sentence = (command.callback.__doc__ or "").partition("\n")[0]
    assert sentence.endswith(".")
    assert f"{name} {sentence}" in help_of()

    text = help_of(name)

    assert text.startswith(f"Usage: rolecall {name}")
    description, _, examples = text.partition(" Examples: ")
    assert sentence in description
    assert f"rolecall {name}" in examples.partition("Options")[0]


def test_general_help_has_examples_and_completion() -> None:
    text = help_of()
    assert " Examples: rolecall status " in text
    assert "--install-completion" in text


@pytest.mark.parametrize("columns", WIDTHS)
def test_help_is_as_written(columns: int) -> None:
    """After a change: .venv/bin/python -m tests.unit.written_help, and review the difference."""
    assert written_help(columns) == golden_path(columns).read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", WIDTHS)
def test_help_fits_the_terminal(columns: int) -> None:
    assert [line for line in written_help(columns).splitlines() if len(line) > columns] == []


def test_help_needs_neither_aws_nor_tables() -> None:
    """They take longer to import than all else together."""
    code = "import sys, rolecall.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "rolecall.cli" in loaded.split()
    assert set(loaded.split()).isdisjoint({"boto3", "botocore", "jinja2", "rich", "rolecall.stage"})


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["status", "-h"]])
def test_help_has_a_short_option(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "-h, --help" in result.output) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--stage", "one", "status"], Connection("one", None, "eu-west-1", None)),
        (["status", "--stage", "two", "--profile", "p"], Connection("two", "p", "eu-west-1", None)),
        (["--stage", "one", "--profile", "p", "status", "--stage", "two"], Connection("two", "p", "eu-west-1", None)),
        (["status", "--region", "r", "--endpoint-url", "u"], Connection("env", None, "r", "u")),
    ],
)
def test_global_options_are_before_or_after_the_command(arguments: list[str], found: Connection) -> None:
    given = []
    command_line = typer.Typer(cls=Group)
    command_line.callback()(options)

    @command_line.command(cls=Command)
    def status(context: typer.Context) -> None:
        given.append(context.obj)

    result = CliRunner().invoke(command_line, arguments, env={"ROLECALL_STAGE": "env", "AWS_REGION": "eu-west-1"})
    assert (result.exit_code, given) == (0, [found])


def test_version_is_shown() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"rolecall {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["accounts", "--reason", "sunspots"], "is not one of 'excluded'"),
        (["accounts", "--outcome", "lost"], ": 'lost' is not one of 'enrolled'"),
        (["explain", "scp_deny"], "Invalid value for 'REASON': 'scp_deny' is unknown: did you mean scp_denied?"),
        (["status", "-o", "jsno"], "'jsno' is unknown: did you mean json?"),
        (["show"], "Missing argument 'ACCOUNT'"),
        (["plan", "444455556666", "--all"], "pass accounts, --ou or --all: one of them at most"),
        (["rerun", "444455556666", "--reason", "quota"], "pass accounts or --reason, not both"),
        (["export", "json", "--output", "a", "--merge"], "pass --merge only with aws-config and --output"),
        (["export", "aws-config", "--merge"], "pass --merge only with aws-config and --output"),
        (["export", "aws-config", "--output", "a", "--merge", "--force"], "and without --force"),
    ],
)
def test_invalid_usage_is_rejected(arguments: list[str], error: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert error in result.output


def test_wheel_contains_every_package_and_the_page_template() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        ".".join(found.parent.relative_to(ROOT).parts)
        for top in ("rolecall", "chalicelib")
        for found in (ROOT / top).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == packages
    assert project["tool"]["setuptools"]["package-data"] == {"rolecall": ["*.html", "*.css", "*.js", "*.txt", "app/*"]}
    assert project["project"]["scripts"] == {"rolecall": "rolecall.__main__:main"}
