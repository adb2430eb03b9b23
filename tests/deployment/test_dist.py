"""The wheel and the sdist: reproducible, complete, and working outside a checkout."""

import os
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_string
from hashlib import sha256
from pathlib import Path

import pytest

from local.__main__ import write_profiles
from local.organization import LocalOrganization
from tests.conftest import ROOT

REPOSITORY = "https://git.example/rolecall"


def _build(out: Path) -> tuple[Path, Path]:
    """Build both, and return the wheel and the sdist."""
    command = [sys.executable, str(ROOT / ".ci" / "dist.py"), str(out)]
    environment = os.environ | {"REPOSITORY_URL": REPOSITORY}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    wheel, sdist = ran.stdout.splitlines()
    return Path(wheel), Path(sdist)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _build(tmp_path_factory.mktemp("dist"))


def _install(artifact: Path, directory: Path) -> Path:
    """Install into a fresh environment that finds the dependencies in this one, and return its `rolecall`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    python = directory / "bin" / "python"
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    subprocess.run([*install, "-q", "--disable-pip-version-check", str(artifact)], check=True, capture_output=True)
    return directory / "bin" / "rolecall"


@pytest.fixture(scope="module")
def rolecall(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _install(built[0], tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def outside(tmp_path: Path, local_aws: LocalOrganization) -> Iterator[dict[str, str]]:
    """The environment of an operator in an empty directory, with the profiles that `make local` writes."""
    local_aws.reset()
    write_profiles(local_aws, local_aws.create_source_principal("Reader"), tmp_path / "aws-config")
    (directory := tmp_path / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        yield {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV_", "PYTHON"))} | {
            "AWS_CONFIG_FILE": str(tmp_path / "aws-config"),
            "AWS_PROFILE": "management",
        }


def _run(environment: dict[str, str], *command: str | Path) -> str:
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_two_builds_are_identical(built: tuple[Path, Path], tmp_path: Path) -> None:
    digests = [
        [sha256(path.read_bytes()).hexdigest() for path in paths] for paths in (built, _build(tmp_path / "dist"))
    ]
    assert digests[0] == digests[1]


def test_wheel_contains_the_app_and_describes_itself(built: tuple[Path, Path], packaged: Path) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        for name in ("template.json", "deployment.zip", "sbom.cdx.json", "trail.yaml"):
            assert wheel.read(f"rolecall/app/{name}") == (packaged / name).read_bytes()
        (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = message_from_string(wheel.read(name).decode())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"rolecall", "chalicelib"}
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = str(metadata.get_payload())
    assert description.startswith("# Rolecall")
    assert not re.search(r"\]\((?!https?:|#)|<picture|src=", description), "would lead nowhere on a package index"
    documents = f"{REPOSITORY}/blob/v{metadata['Version']}"
    assert f"[All settings]({documents}/docs/settings.md)" in description
    assert f"Changes, {documents}/CHANGELOG.md" in metadata.get_all("Project-URL", [])
    assert "Programming Language :: Python :: 3.14" in metadata.get_all("Classifier", [])
    requires = {each.split(">")[0] for each in metadata.get_all("Requires-Dist", [])}
    assert requires == {"boto3", "jinja2", "rich", "typer"}


def test_links_are_names_where_the_repository_is_unknown() -> None:
    long_description = runpy.run_path(str(ROOT / ".ci" / "dist.py"))["long_description"]
    readme = "<picture>\n</picture>\n\n[a](docs/b.md#c), [d](https://e.example), [f](#g)"
    assert long_description(readme, None) == "a (docs/b.md), [d](https://e.example), [f](#g)"


def test_sdist_contains_what_the_wheel_contains(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel, tarfile.open(built[1]) as sdist:
        shipped = {name for name in wheel.namelist() if ".dist-info" not in name}
        contained = {each.name.partition("/")[2] for each in sdist.getmembers() if each.isfile()}
    assert shipped <= contained


def test_sdist_installs_the_same_app(built: tuple[Path, Path], packaged: Path, tmp_path: Path) -> None:
    command = _install(built[1], tmp_path / "sdist")
    subprocess.run([command, "package", "prod", "--out", tmp_path / "made"], check=True, capture_output=True)
    assert (tmp_path / "made" / "deployment.zip").read_bytes() == (packaged / "deployment.zip").read_bytes()


def test_printed_documents_and_files_exist_outside_a_checkout(rolecall: Path, outside: dict[str, str]) -> None:
    documents = f"{REPOSITORY}/blob/v{_run(outside, rolecall, '--version').split()[1]}"
    assert f" {documents}/docs/runbook.md#quota\n" in _run(outside, rolecall, "explain", "quota")
    assert f"{documents}/docs/deploy.md" in _run(outside, rolecall, "package", "--help")

    program = "from rolecall.doctor.trail import check_trails; print(check_trails([], 'us-east-1').remedy)"
    remedy = _run(outside, rolecall.with_name("python"), "-c", program)
    template = Path(shlex.split(remedy)[shlex.split(remedy).index("--template-file") + 1])
    assert template.is_absolute()
    assert template.read_text() == (ROOT / "docs" / "trail.yaml").read_text()


def test_four_commands_work_outside_a_checkout(rolecall: Path, outside: dict[str, str], packaged: Path) -> None:
    reader = "arn:aws:iam::111122223333:role/Reader"

    _run(outside, rolecall, "package", "prod", "--out", "made")
    assert Path("made/deployment.zip").read_bytes() == (packaged / "deployment.zip").read_bytes()

    output = _run(outside, rolecall, "deploy", "prod", "--source-principal", reader, "--dry-run")
    assert "9 AWS::Serverless::Function" in output
    assert "Dry run: nothing was changed." in output

    output = _run(outside, rolecall, "deploy", "prod", "--source-principal", reader, "--yes")
    assert "Stage prod is deployed" in output
    assert "  rolecall backfill " in output

    assert "1 enrolled" in _run(outside, rolecall, "backfill")

    output = _run(outside, rolecall, "prove", "--reader-profile", "reader")
    assert "1 of 1 enrolled accounts can be read" in output
    assert output.endswith("passed: access is exactly as configured\n")

    output = _run(outside, rolecall, "uninstall", "--yes")
    assert "Nothing is left" in output
    assert "rolecall backfill" not in output
    assert "Stack rolecall-prod is deleted." in _run(outside, rolecall, "undeploy", "prod", "--yes")
