"""The packaged template, built once per run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rolecall.partitions import EVENT_REGIONS
from tests.deployment.deployed import Deployment, deployed


@pytest.fixture(scope="session")
def packaged(packaged_for: Callable[[str], Path]) -> Path:
    return packaged_for("dev")


@pytest.fixture(scope="session")
def template(packaged: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((packaged / "template.yaml").read_text())
    return loaded


@pytest.fixture(scope="session", params=EVENT_REGIONS)
def deployment(request: pytest.FixtureRequest, template: dict[str, Any]) -> Deployment:
    return deployed(template, request.param)
