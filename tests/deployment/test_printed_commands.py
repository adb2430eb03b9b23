"""Commands that documents, make and the command line print."""

import re
import shlex
from collections.abc import Iterator
from itertools import chain, takewhile
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.loaders import create_loader

from local.__main__ import CONFIG, locked
from tests.conftest import ROOT

_PRINTED = ("README.md", "docs/**/*.md", "rolecall/**/*.py", "local/*.py")


def _commands(operation: str) -> Iterator[str]:
    """Yield each line with a command of an operation."""
    for path in chain.from_iterable(map(ROOT.glob, _PRINTED)):
        yield from (line for line in path.read_text().splitlines() if operation in line)


def test_invocations_wait_as_long_as_the_function_runs() -> None:
    """The AWS CLI waits 60 seconds for a response by default, and then invokes the function again."""
    invocations = list(_commands("lambda invoke"))
    assert invocations
    assert [each for each in invocations if "--cli-read-timeout 0" not in each] == []


# Beside operations of an API, and what every one of them takes.
_OWN_COMMANDS = {"s3", "configure", "sso", "cloudformation deploy", "cloudformation package"}
_OWN_OPTIONS = {"region", "profile", "query", "output", "cli-read-timeout", "cli-binary-format"}


def _examples() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the service, the operation and the arguments of each command in the documents' examples."""
    for path in chain.from_iterable(map(ROOT.glob, ("README.md", "docs/**/*.md"))):
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", path.read_text(), re.DOTALL):
            for command in re.findall(r"(?:^|\$\(|\$ )aws ([a-z].*)", block.replace("\\\n", " "), re.MULTILINE):
                service, operation, *arguments = _words(command)
                if not {service, f"{service} {operation}"} & _OWN_COMMANDS:
                    yield service, operation, arguments


def _words(command: str) -> Iterator[str]:
    """Yield the words of a command, until a pipe, a redirection or the end of a substitution."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return takewhile(lambda word: word[:1] not in set("|>);&"), words)


def test_examples_of_the_aws_cli_are_operations_with_their_parameters() -> None:
    loader, examples = create_loader(), list(_examples())
    assert len(examples) > 20
    for service, operation, arguments in examples:
        model = loader.load_service_model(service, "service-2")
        shapes = {xform_name(name, "-"): each.get("input") for name, each in model["operations"].items()}
        assert operation in shapes, (service, operation)
        shape = model["shapes"][shapes[operation]["shape"]] if shapes[operation] else {"members": {}}
        known = {xform_name(name, "-") for name in shape["members"]}
        given = {each[2:].removeprefix("no-") for each in arguments if each.startswith("--")}
        assert given <= known | _OWN_OPTIONS, (service, operation)
        missing = {xform_name(name, "-") for name in shape.get("required", ())} - given
        assert not missing or "..." in arguments or "…" in arguments, (service, operation, missing)


def test_documents_and_make_print_the_same_exports() -> None:
    profiles = f'export AWS_CONFIG_FILE="$PWD/{CONFIG.relative_to(ROOT)}" AWS_PROFILE=management'
    path = 'export PATH="$PWD/.venv-cli/bin:$PATH"'
    for document in ("README.md", "docs/getting-started.md"):
        assert {profiles, path} <= set((ROOT / document).read_text().splitlines()), document
    assert path.replace("$PWD", "$(CURDIR)").replace("$PATH", "$$PATH") in (ROOT / "Makefile").read_text()
    printed = profiles.replace(f"$PWD/{CONFIG.relative_to(ROOT)}", "{config}")
    assert f"  {printed}\n" in (ROOT / "local" / "__main__.py").read_text()


def test_second_local_organization_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "local" / "lock"
    with locked(lock), pytest.raises(SystemExit, match="a local organization is already running in"), locked(lock):
        pass
    with locked(lock):
        pass


def test_help_of_make_fits_a_terminal() -> None:
    targets = re.findall(r"^([a-z]+):.*## (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) > 10
    assert [name for name, text in targets if len(f"make {name:12} {text}") > 80] == []
