"""Errors before AWS is reached end a command with one sentence; Ctrl-C ends it at once."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "rolecall"]
KEYS = {"AWS_ACCESS_KEY_ID": "111122223333", "AWS_SECRET_ACCESS_KEY": "test"}
CONFIGURED = {"AWS_DEFAULT_REGION": "us-east-1", **KEYS}


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return this environment without any configuration of AWS, plus the given variables."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ROLECALL_", "COV_"))}
    files = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    return own | files | {"AWS_EC2_METADATA_DISABLED": "true"} | more


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        ([], {"AWS_REGION": "us-east-1"}, "no AWS credentials found: set AWS_PROFILE or --profile"),
        ([], KEYS, "no region configured: set --region or AWS_REGION"),
        ([], {}, "no region configured and no AWS credentials found: set AWS_PROFILE or --profile, and --region"),
        (["--region", "not_one"], CONFIGURED, "'not_one' doesn't match a supported format: set --region"),
        (
            ["--profile", "missing"],
            CONFIGURED,
            "The config profile (missing) could not be found: set --profile or AWS_PROFILE to a profile of /",
        ),
        (["--endpoint-url", "http://127.0.0.1:1"], CONFIGURED, "can't connect to AWS: check --region, --endpoint-url"),
        (["--endpoint-url", "nonsense"], CONFIGURED, "Invalid endpoint: nonsense: --endpoint-url and AWS_ENDPOINT_URL"),
    ],
)
def test_command_ends_with_one_sentence(
    arguments: list[str], variables: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [*COMMAND, *arguments, "status"],
        cwd=ROOT,
        env=environment(tmp_path, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("rolecall: ")
    assert sentence in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def run(tmp_path: Path, shell: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command by a line of a shell, in which "$@" is the command."""
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {shell}", "rolecall", *COMMAND, *arguments],
        cwd=ROOT,
        env=environment(tmp_path, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("shell", "arguments", "status", "error"),
    [
        ('"$@" > /dev/full', ["--help"], 2, "writing the output: No space left on device: free some space"),
        ('"$@" >&-', ["--help"], 2, "standard output is closed: redirect it to a file or to /dev/null"),
        ('"$@" 2> /dev/full', ["status"], 2, None),
        ('"$@" 2>&-', ["status"], 2, None),
        ('"$@" <&-', ["retire", "111122223333"], 2, "no AWS credentials found"),
        ('"$@" | true', ["--help"], 141, None),
        ('"$@" | true', ["--version"], 141, None),
        ('"$@" < /dev/null | cat', ["--help"], 0, None),
    ],
)
def test_stream_that_fails_ends_the_process_with_a_status_of_its_own(
    shell: str, arguments: list[str], status: int, error: str | None, tmp_path: Path
) -> None:
    ran = run(tmp_path, shell, *arguments, AWS_REGION="us-east-1", PYTHONIOENCODING="ascii")
    assert ran.returncode == status, ran.stderr
    assert ran.stderr.count("\n") == (error is not None)
    assert error is None or ran.stderr.startswith(f"rolecall: {error}")


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "echo signed out",
            "the credentials can't be read: correct the profile, whose credential_process has to print JSON",
        ),
        ("echo [1]", "the credentials can't be read: correct the profile, whose credential_process has to print JSON"),
        ("/missing/program", "No such file or directory"),
        ("false", "the credentials can't be read: fix the profile or set --profile to another one"),
    ],
)
def test_broken_credential_process_is_named(program: str, sentence: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"[default]\nregion = us-east-1\ncredential_process = {program}\n")
    ran = run(tmp_path, '"$@"', "--endpoint-url", "http://127.0.0.1:1", "status", AWS_CONFIG_FILE=str(config))
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert sentence in ran.stderr


def test_interrupt_exits_with_130_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [*COMMAND, "--endpoint-url", url, "status"],
            cwd=ROOT,
            env=environment(tmp_path, **CONFIGURED),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            connection, _ = silent.accept()
            with connection:
                running.send_signal(signal.SIGINT)
                out, errors = running.communicate(timeout=60)
    assert (running.returncode, out.strip(), errors.strip()) == (130, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_supports_the_shell(shell: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(tmp_path, _ROLECALL_COMPLETE=f"source_{shell}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "_ROLECALL_COMPLETE=complete_" in ran.stdout
