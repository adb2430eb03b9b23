"""The AWS CLI in this process: starting one takes five times as long as a command."""

import io
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout

import pytest
from awscli.clidriver import create_clidriver


def in_this_process(arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command as `aws` does, in the current environment with some more variables."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(out), redirect_stderr(error):
        for name, value in variables.items():
            environment.setenv(name, value)
        status = create_clidriver().main(list(arguments))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), error.getvalue())
