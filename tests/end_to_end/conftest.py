"""The packaged app, and one local AWS organization a module, which its tests deploy stages of the app to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy, Stage


@pytest.fixture(scope="session")
def package(packaged_for: Callable[[str], Path]) -> Path:
    """The app packaged for one stage: another's name is a Parameter."""
    return packaged_for("end-to-end")


@pytest.fixture(scope="module")
def organization(unpacked: Path) -> Iterator[LocalOrganization]:
    with LocalOrganization(unpacked=unpacked) as started:
        yield started


@pytest.fixture(scope="module")
def deploy(organization: LocalOrganization, package: Path) -> Deploy:
    def deployed(stage: str, **parameters: str) -> Stage:
        # Each batch that is worked on at the same time starts a process of its own.
        few = {"BatchingWindow": "1", "MaximumConcurrency": "2"}
        organization.deploy(stage, package, {"Stage": stage, **few, **parameters})
        return Stage(organization, stage)

    return deployed


@pytest.fixture(scope="module")
def reader(organization: LocalOrganization) -> str:
    """The source principal: a role of the management account that may do nothing of its own."""
    return organization.create_source_principal("Reader")
