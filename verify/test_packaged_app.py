"""What the packaged app contains, in checks that take longer than those of make test."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rolecall.partitions import EVENT_REGIONS
from tests.deployment.conftest import template
from tests.deployment.deployed import deployed
from tests.deployment.test_lint import template_findings
from tests.deployment.test_package import copied
from verify.iam_actions import LIST, written

__all__ = ["template"]


@pytest.mark.parametrize("partition", [each for each in EVENT_REGIONS if each != "aws"])
def test_expanded_template_is_clean_in_other_partitions(template: dict[str, Any], partition: str) -> None:
    deployment = deployed(template, partition)
    assert template_findings(json.dumps(deployment.expanded), deployment.location.region) == []


def test_package_of_a_copy_has_the_same_bytes(packaged: Path, tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (copy / "chalicelib" / "__pycache__").mkdir()
    (copy / "chalicelib" / "__pycache__" / "settings.cpython-311.pyc").write_bytes(b"another machine's")
    (copy / "app.py").chmod(0o600)
    subprocess.run([sys.executable, copy / ".chalice" / "package.py", tmp_path / "out"], check=True)
    for name in ("template.json", "deployment.zip", "sbom.cdx.json", "trail.yaml"):
        assert (tmp_path / "out" / name).read_bytes() == (packaged / name).read_bytes()


def test_list_of_actions_is_current() -> None:
    """Otherwise: python -m verify.iam_actions."""
    assert LIST.read_text() == written()
