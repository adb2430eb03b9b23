"""The packaged template, made once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rolecall.regions import EVENT_REGIONS
from tests.deployment.deployed import Deployment, deployed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packaged")
    subprocess.run([sys.executable, ROOT / ".chalice" / "package.py", "dev", out], check=True)
    return out


@pytest.fixture(scope="session")
def template(packaged: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((packaged / "template.yaml").read_text())
    return loaded


@pytest.fixture(scope="session", params=EVENT_REGIONS)
def deployment(request: pytest.FixtureRequest, template: dict[str, Any]) -> Deployment:
    return deployed(template, request.param)
