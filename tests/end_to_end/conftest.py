"""Stages of the packaged app, in a new local AWS organization for each module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy, DeployedStage


@pytest.fixture(scope="session")
def local_aws(unpacked: Path) -> Iterator[LocalOrganization]:
    """The server, which takes seconds to start."""
    with LocalOrganization(unpacked=unpacked) as running:
        yield running


@pytest.fixture(scope="module")
def organization(local_aws: LocalOrganization) -> LocalOrganization:
    """A new organization, in which nothing exists yet."""
    local_aws.reset()
    return local_aws


@pytest.fixture(scope="module")
def deploy(organization: LocalOrganization, packaged: Path) -> Deploy:
    """Deploys or updates a stage."""

    def deploy_stage(stage: str, **parameters: str) -> DeployedStage:
        # Each concurrent batch starts a process of its own, and so does each function, such as the one that announces.
        defaults = {"BatchingWindow": "1", "MaximumConcurrency": "2", "EventBusName": ""}
        organization.deploy(stage, packaged, {**defaults, **parameters})
        return DeployedStage(organization, stage)

    return deploy_stage


@pytest.fixture(scope="module")
def reader(organization: LocalOrganization) -> str:
    """The source principal, a role of the management account without permissions of its own."""
    return organization.create_source_principal("Reader")
