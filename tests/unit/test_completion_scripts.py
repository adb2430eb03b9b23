"""What shells complete without AWS: through the scripts of the shells that are installed, and by Typer's protocol for the others."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRESSED_TAB = {
    "bash": """
        eval "$(_ROLECALL_COMPLETE=source_bash rolecall)"
        complete -p rolecall >/dev/null || exit 1
        COMP_WORDS=(%s) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _rolecall_completion rolecall
        printf '%%s\\n' "${COMPREPLY[@]}"
    """,
    "fish": """
        _ROLECALL_COMPLETE=source_fish rolecall | source
        complete --do-complete '%s' | string split --fields 1 \\t
    """,
    # zsh completes only at a prompt: the functions of its completion system are replaced.
    "zsh": """
        _arguments() { print -r -- $1 | grep -o '[( ]"[a-z_-]*' | tr -d '( "' }
        compdef() { [[ $1 = _rolecall_completion ]] }
        eval "$(_ROLECALL_COMPLETE=source_zsh rolecall)"
        words=(%s) CURRENT=${#words}
        _rolecall_completion
    """,
}
COMPLETED = [
    ("rolecall expl", ["explain"]),
    ("rolecall explain scp", ["scp_denied"]),
    ("rolecall rerun --reason no_s", ["no_source_principal", "no_such_policy"]),
    ("rolecall accounts --outcome pend", ["pending"]),
    ("rolecall accounts --so", ["--sort"]),
    ("rolecall accounts --sta", ["--stage"]),
]


def environment(directory: Path, **more: str) -> dict[str, str]:
    """Return an environment in which `rolecall` is this checkout's, without AWS."""
    command = directory / "rolecall"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m rolecall "$@"\n')
    command.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ROLECALL"))}
    return own | {"PATH": f"{directory}:{os.environ['PATH']}", "HOME": str(directory)} | more


@pytest.mark.parametrize("shell", [each for each in PRESSED_TAB if shutil.which(each)])
@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
def test_installed_shell_completes(shell: str, typed: str, completed: list[str], tmp_path: Path) -> None:
    ran = subprocess.run(
        [shell, "-c", PRESSED_TAB[shell] % typed],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout.split(), ran.stderr) == (completed, "")


@pytest.mark.parametrize("shell", PRESSED_TAB)
def test_each_shell_has_a_script_and_values(shell: str, tmp_path: Path) -> None:
    def run(**variables: str) -> str:
        own = environment(tmp_path, **variables)
        return subprocess.run(["rolecall"], env=own, capture_output=True, text=True, check=True).stdout

    assert f"complete_{shell}" in run(_ROLECALL_COMPLETE=f"source_{shell}")
    typed = {
        "_TYPER_COMPLETE_ARGS": "rolecall explain quo",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": "rolecall explain quo",
        "COMP_CWORD": "2",
    }
    assert "quota" in run(_ROLECALL_COMPLETE=f"complete_{shell}", **typed)


def test_nothing_is_completed_without_credentials(tmp_path: Path) -> None:
    own = environment(
        tmp_path,
        _ROLECALL_COMPLETE="complete_bash",
        COMP_WORDS="rolecall show ",
        COMP_CWORD="2",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_DEFAULT_REGION="us-east-1",
    )
    ran = subprocess.run(["rolecall"], env=own, capture_output=True, text=True, check=False)
    assert (ran.stdout.split(), ran.stderr, ran.returncode) == ([], "", 0)
