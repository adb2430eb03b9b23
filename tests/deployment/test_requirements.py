"""The compiled requirements, and the script that installs them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.deployment.test_package import PINS

NAMES = (".ci/uv", ".ci/audit", "requirements-dev", "local/requirements", "tests/integration/fuzzing/requirements")
_PINNED = re.compile(r"^([\w.-]+)(?:\[.+\])?==([\w.]+)", re.MULTILINE)
_COMPILED = re.compile(
    r"^([\w.-]+)==([\w.]+)(?: ; .+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)

# As PYTHON: creates environments of itself, pip prints its configuration, and uv records its arguments and variables.
PYTHON = """#!/bin/sh
case "$*" in
*"-m venv"*) for directory; do :; done; mkdir -p "$directory/bin"; cp "$0" "$directory/bin/python"; cp "$0" "$directory/bin/uv" ;;
*"config list"*) cat pip.txt ;;
pip*) echo "$*" > uv.txt; env >> uv.txt ;;
esac
"""


def pins(text: str) -> set[tuple[str, str]]:
    return {(name.lower(), version) for name, version in _PINNED.findall(text)}


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_compiled(name: str) -> None:
    given, compiled = ((ROOT / f"{name}{suffix}").read_text() for suffix in (".in", ".txt"))
    assert pins(given)
    assert pins(given) - pins(compiled) == set(), "run make requirements"


@pytest.mark.parametrize("name", NAMES)
def test_every_package_is_pinned_by_digests(name: str) -> None:
    text = (ROOT / f"{name}.txt").read_text()
    left = [line for line in _COMPILED.sub("", text).splitlines() if not line.lstrip().startswith("#")]
    assert (left, "://" in text) == ([], False)


def test_development_uses_the_packages_that_are_shipped() -> None:
    text = (ROOT / "requirements-dev.txt").read_text()
    digests = {(name, version): hashes for name, version, hashes in _COMPILED.findall(text)}
    for pin in PINS:
        assert pin.sha256 in digests[pin.name.lower().replace("_", "-"), pin.version], "run make requirements"


def packages(directory: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a directory of its own, with an interpreter."""
    (directory / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/packages", directory / ".ci")
    interpreter = directory / "python"
    interpreter.write_text(python)
    interpreter.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "SSL_"))}
    command = [str(directory / ".ci/packages"), "add", "more.txt"]
    return subprocess.run(
        command, env=environment | {"PYTHON": str(interpreter)}, capture_output=True, text=True, check=False
    )


def test_older_python_is_refused(tmp_path: Path) -> None:
    ran = packages(tmp_path, '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n')
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"Python 3.11 or newer is required, and {tmp_path / 'python'} is Python 3.9.2: ")


def test_packages_come_from_the_index_of_pip(tmp_path: Path) -> None:
    (tmp_path / "pip.txt").write_text(
        ":env:.index-url='https://env.example/simple'\n"
        "global.cert='/etc/ssl/own.pem'\n"
        "global.extra-index-url='https://extra.example/simple'\n"
        "global.index-url='https://global.example/simple'\n"
    )
    ran = packages(tmp_path, PYTHON)
    assert ran.returncode == 0, ran.stderr
    command, *variables = (tmp_path / "uv.txt").read_text().splitlines()
    assert command == "pip install --require-hashes --python .venv/bin/python --no-deps -r more.txt"
    assert {each for each in variables if each.startswith(("UV_", "SSL_CERT_FILE="))} == {
        "UV_DEFAULT_INDEX=https://env.example/simple",
        "SSL_CERT_FILE=/etc/ssl/own.pem",
    }
