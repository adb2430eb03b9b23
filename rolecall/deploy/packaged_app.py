"""The packaged app: the template, the functions' zip and its SBOM, and a trail's template, which a wheel contains and a checkout packages when needed."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from rolecall.errors import CommandError

_APP = Path(__file__).parents[1] / "app"
_PACKAGE = Path(__file__).parents[2] / ".chalice" / "package.py"
_TEMPLATE, _ZIP, _SBOM = "template.json", "deployment.zip", "sbom.cdx.json"
_TRAIL = "trail.yaml"
_LOCAL_CODE = f"./{_ZIP}"


@dataclass(frozen=True)
class PackagedApp:
    """The files of a package in their directory."""

    directory: Path

    @cached_property
    def template(self) -> dict[str, Any]:
        """The template, whose functions have the local zip as their code."""
        template: dict[str, Any] = json.loads((self.directory / _TEMPLATE).read_text(encoding="utf-8"))
        return template

    @property
    def zip_path(self) -> Path:
        """The path of the functions' zip."""
        return self.directory / _ZIP

    @cached_property
    def zip_digest(self) -> str:
        """The SHA-256 digest of the zip."""
        return sha256(self.zip_path.read_bytes()).hexdigest()

    def uploaded_template(self, bucket: str, key: str) -> str:
        """Return the template as JSON, with the code of the functions in a bucket."""
        resources = {
            name: _with_code(resource, {"Bucket": bucket, "Key": key})
            for name, resource in self.template["Resources"].items()
        }
        return json.dumps(self.template | {"Resources": resources}, separators=(",", ":"), ensure_ascii=False)

    def write(self, stage: str, out: Path) -> list[Path]:
        """Write the package of one stage, whose template needs no parameter for it, and return the paths."""
        parameters = self.template["Parameters"]
        template = self.template | {
            "Parameters": parameters | {"Stage": {**parameters["Stage"], "Default": stage}},
        }
        paths = [out / name for name in (_TEMPLATE, _ZIP, _SBOM)]
        try:
            out.mkdir(parents=True, exist_ok=True)
            paths[0].write_text(json.dumps(template, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            for path in paths[1:]:
                shutil.copyfile(self.directory / path.name, path)
        except OSError as error:
            raise CommandError(f"writing {out}: {error.strerror}: choose a directory that you may write") from None
        return paths


def _with_code(resource: dict[str, Any], code: dict[str, str]) -> dict[str, Any]:
    properties = resource.get("Properties", {})
    if properties.get("CodeUri") != _LOCAL_CODE:
        return resource
    return resource | {"Properties": properties | {"CodeUri": code}}


def trail_template() -> Path:
    """Return the path of the template of a trail, which is a stack of its own."""
    return _PACKAGE.parents[1] / "docs" / _TRAIL if _PACKAGE.exists() else _APP / _TRAIL


@cache
def packaged_app() -> PackagedApp:
    """Return the packaged app of this installation; in a checkout, package it first, once in a process."""
    if _PACKAGE.exists():
        ran = subprocess.run([sys.executable, _PACKAGE, _APP], capture_output=True, text=True, check=False)  # noqa: S603
        if ran.returncode:
            raise CommandError(f"packaging the app failed: {(ran.stderr or ran.stdout).strip()}")
    if not (_APP / _TEMPLATE).exists():
        raise CommandError(f"{_APP} is missing: install a released wheel, or run make install in a checkout")
    return PackagedApp(_APP)
