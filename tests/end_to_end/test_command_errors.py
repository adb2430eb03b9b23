"""What keeps the command line from reaching AWS ends it with one sentence, and Ctrl-C ends it at once."""

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
HERE = {"AWS_DEFAULT_REGION": "us-east-1", **KEYS}


def bare(tmp_path: Path, **more: str) -> dict[str, str]:
    """Tell an environment that knows nothing of AWS but what is said."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ROLECALL_", "COV_"))}
    nothing = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    return own | nothing | {"AWS_EC2_METADATA_DISABLED": "true"} | more


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {"AWS_REGION": "us-east-1"}, "there are no AWS credentials: set AWS_PROFILE or --profile"),
        ([], KEYS, "there is no region: set --region or AWS_REGION"),
        (["--region", "not_one"], HERE, "'not_one' doesn't match a supported format: set --region"),
        (["--profile", "nobody"], HERE, "The config profile (nobody) could not be found: name a profile"),
        ([], HERE | {"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found: name a profile"),
        (["--endpoint-url", "http://127.0.0.1:1"], HERE, "AWS can't be reached: look at --region, --endpoint-url"),
        (["--endpoint-url", "nonsense"], HERE, "Invalid endpoint: nonsense: --endpoint-url and AWS_ENDPOINT_URL take"),
    ],
)
def test_it_ends_with_one_sentence(
    arguments: list[str], environment: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [*COMMAND, *arguments, "status"],
        cwd=ROOT,
        env=bare(tmp_path, **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("rolecall: ")
    assert sentence in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_ctrl_c_ends_it_with_130_and_no_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(60)
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with subprocess.Popen(
            [*COMMAND, "--endpoint-url", url, "status"],
            cwd=ROOT,
            env=bare(tmp_path, **HERE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            asking, _ = mute.accept()
            with asking:
                running.send_signal(signal.SIGINT)
                out, errors = running.communicate(timeout=60)
    assert (running.returncode, out.strip(), errors.strip()) == (130, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_a_shell(shell: str, tmp_path: Path) -> None:
    asked = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=bare(tmp_path, _ROLECALL_COMPLETE=f"source_{shell}"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "_ROLECALL_COMPLETE=complete_" in asked.stdout
