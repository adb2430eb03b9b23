"""Tools of others, installed from their registries into .cache, once for each version: make clean deletes them."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_CACHE = Path(__file__).parents[1] / ".cache" / "tools"


class InstallationError(Exception):
    """A tool can't be installed; the message has the last lines of the installer's output."""


def python_commands(requirement: str) -> Path:
    """Return the directory of the commands of a Python package, in a virtual environment of its own."""
    directory = _CACHE / requirement
    pip = ("-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", requirement)
    _install(directory, [sys.executable, "-m", "venv", "."], ["bin/python", *pip])
    return directory / "bin"


def aws_cli() -> Path:
    """Return the AWS CLI."""
    return python_commands("awscli==1.46.3") / "aws"


def node_packages(*requirements: str) -> Path:
    """Return the directory that contains packages of npm and their dependencies."""
    directory = _CACHE / "+".join(requirements).replace("/", "-")
    options = ("--prefix", ".", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error")
    _install(directory, ["npm", "install", *options, *requirements])
    return directory


def _install(directory: Path, *commands: Sequence[str]) -> None:
    """Run commands in a new directory, unless they were run to their end before."""
    finished = directory / "installed"
    if finished.exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for command in commands:
        ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if ran.returncode:
            lines = (ran.stdout + ran.stderr).strip().splitlines()[-5:]
            raise InstallationError(f"installing {directory.name} by {' '.join(command)} failed:\n" + "\n".join(lines))
    finished.touch()
