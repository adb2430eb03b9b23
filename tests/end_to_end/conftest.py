"""The packaged app, and one local AWS organization a module, which its tests deploy stages of the app to."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy, Stage

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package the app as `make package` does, once: a stage's name is a Parameter."""
    out = tmp_path_factory.mktemp("package")
    subprocess.run([sys.executable, ROOT / ".chalice" / "package.py", "end-to-end", out], check=True)
    return out


@pytest.fixture(scope="module")
def organization() -> Iterator[LocalOrganization]:
    with LocalOrganization() as started:
        yield started


@pytest.fixture(scope="module")
def deploy(organization: LocalOrganization, package: Path) -> Deploy:
    def deployed(stage: str, **parameters: str) -> Stage:
        organization.deploy(stage, package, {"Stage": stage, "BatchingWindow": "1", **parameters})
        return Stage(organization, stage)

    return deployed


@pytest.fixture(scope="module")
def reader(organization: LocalOrganization) -> str:
    """The source principal: a role of the management account that may do nothing of its own."""
    return organization.create_source_principal("Reader")
