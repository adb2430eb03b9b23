"""The AWS CLI in this process: starting one takes five times as long as a command."""

import io
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from awscli.clidriver import create_clidriver


def in_this_process(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command as `aws` does, in the current environment."""
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        status = create_clidriver().main(list(arguments))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), error.getvalue())
