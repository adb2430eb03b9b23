"""The packaged template, and a deployment of it in each partition."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.organization import LocalOrganization
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.partitions import EVENT_REGIONS
from tests.deployment.deployed import Deployment, deployed
from tests.deployment.deploying import Deploying


@pytest.fixture(scope="session")
def template(packaged: Path) -> dict[str, Any]:
    return PackagedApp(packaged).template


@pytest.fixture(scope="session", params=EVENT_REGIONS)
def deployment(request: pytest.FixtureRequest, template: dict[str, Any]) -> Deployment:
    return deployed(template, request.param)


@pytest.fixture(scope="session")
def local_aws(unpacked: Path) -> Iterator[LocalOrganization]:
    """The local AWS, which takes seconds to start."""
    with LocalOrganization(unpacked=unpacked) as running:
        yield running


@pytest.fixture
def fresh(local_aws: LocalOrganization) -> LocalOrganization:
    """A new organization, in which only the source principal exists."""
    local_aws.reset()
    local_aws.create_source_principal("Reader")
    return local_aws


@pytest.fixture(scope="session")
def small(packaged: Path, shared: Path) -> PackagedApp:
    """The app with functions that do nothing, whose code is uploaded and started in no time."""
    directory = shared / "small"
    directory.mkdir(exist_ok=True)
    shutil.copy(packaged / "template.json", directory)
    with zipfile.ZipFile(directory / "deployment.zip", "w") as archive:
        archive.writestr(
            zipfile.ZipInfo("app.py"), "def publish(event, context):\n    return {'batchItemFailures': []}\n"
        )
    return PackagedApp(directory)


@pytest.fixture
def deploying(fresh: LocalOrganization, small: PackagedApp) -> Callable[[str], Deploying]:
    """Deploys a stage, whose name it takes."""
    return lambda stage: Deploying(fresh, small, stage)


@pytest.fixture
def broken(small: PackagedApp, tmp_path: Path) -> PackagedApp:
    """The app with a resource that CloudFormation can't create."""
    template = small.template
    missing = {"Fn::Sub": "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:function:missing"}
    resource = {"Type": "AWS::CloudFormation::CustomResource", "Properties": {"ServiceToken": missing}}
    (tmp_path / "template.json").write_text(
        json.dumps(template | {"Resources": {**template["Resources"], "Broken": resource}})
    )
    shutil.copy(small.zip_path, tmp_path)
    return PackagedApp(tmp_path)
