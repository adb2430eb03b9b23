"""Package the app for every stage: Chalice's template and zip, adapted to CloudFormation and reproducible byte for byte.

Usage: package.py OUT
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import starmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, uuid5

import yaml

_HERE = Path(__file__).parent
_CACHE = _HERE / "deployments"


def _chalice(out: str) -> None:
    command = [
        *(
            str(Path(sys.executable).with_name("chalice")),
            "--project-dir",
            str(_HERE.parent),
            "package",
            "--stage",
            "rolecall",  # only Chalice's own: the template's stage is a parameter
        ),
        *("--merge-template", str(_HERE / "resources.yaml"), out),
    ]
    (pin,) = pinned("requirements-chalice.txt")
    if version("chalice") != pin.version:
        sys.exit(
            f"Chalice {version('chalice')} is installed and {pin.version} is pinned: its runtime would be packaged; install requirements-chalice.txt"
        )
    # Chalice needs a region for service principals; the template is valid in every region.
    ran = subprocess.run(  # noqa: S603
        command, env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"}, text=True, capture_output=True, check=False
    )
    if ran.returncode:
        sys.exit(f"chalice package failed:\n{ran.stdout}{ran.stderr}")


def expanded_statements(statements: list[Any], shared: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace the names of shared statements by the statements."""
    unknown = [each for each in statements if isinstance(each, str) and each not in shared]
    if unknown:
        sys.exit(f"statements.json has no statement named {', '.join(unknown)}")
    return [_conditional({"Sid": each, **shared[each]} if isinstance(each, str) else each) for each in statements]


def _conditional(statement: dict[str, Any]) -> dict[str, Any]:
    """Replace OnlyIf, the name of a condition of the template, by an intrinsic that omits the statement unless the condition is true."""
    condition = statement.get("OnlyIf")
    content = {key: value for key, value in statement.items() if key != "OnlyIf"}
    return {"Fn::If": [condition, content, {"Ref": "AWS::NoValue"}]} if condition else content


def dashboard_body() -> dict[str, str]:
    """Return the dashboard as JSON; a value that is only a parameter is written without quotes, since it is a number."""
    body = json.dumps(yaml.safe_load((_HERE / "dashboard.yaml").read_text()))
    return {"Fn::Sub": re.sub(r'"(\$\{\w+\})"', r"\1", body)}


def remove_batching_windows_of_zero(template: dict[str, Any]) -> None:
    """Remove batching windows of 0, which Chalice writes for every queue and Lambda rejects for FIFO queues."""
    for resource in template["Resources"].values():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            if event["Properties"].get("MaximumBatchingWindowInSeconds") == 0:
                del event["Properties"]["MaximumBatchingWindowInSeconds"]


def remove_chalices_tags(template: dict[str, Any]) -> None:
    """Remove the tags with which Chalice names its own stage on every function."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["Tags"].pop("aws-chalice")


def describe_functions(template: dict[str, Any]) -> None:
    """Describe every function by the version of Rolecall, with which the command line compares its own."""
    source = (_HERE.parent / "rolecall" / "__init__.py").read_text(encoding="utf-8")
    (own,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["Description"] = f"Rolecall {own}"


def add_properties(template: dict[str, Any], properties: dict[str, dict[str, Any]]) -> None:
    """Add the properties that every resource of a type has."""
    for resource in template["Resources"].values():
        resource["Properties"].update(properties.get(resource["Type"], {}))


def final_template(template: dict[str, Any]) -> str:
    """Return the template as JSON; exit with an error if the merge left something that CloudFormation rejects."""
    merged = sorted(_merged_intrinsics(template))
    if merged:
        sys.exit(
            f"several intrinsic functions in one object (use the same one as Chalice in .chalice/resources.yaml): {', '.join(merged)}"
        )
    return json.dumps(template, indent=1, ensure_ascii=False) + "\n"


def _merged_intrinsics(node: object, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        if len(node) > 1 and any(key == "Ref" or str(key).startswith("Fn::") for key in node):
            yield path
        for key, value in node.items():
            yield from _merged_intrinsics(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _merged_intrinsics(value, f"{path}/{index}")


def copy_zip(source_path: Path, out: Path) -> None:
    """Copy the zip with sorted entries and without bytecode; exit with an error if it lacks a package or contains compiled code."""
    with zipfile.ZipFile(source_path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        names = sorted(name for name in source.namelist() if "__pycache__" not in name)
        compiled = [name for name in names if name.endswith((".so", ".pyd"))]
        if compiled:
            sys.exit(
                f"the zip contains compiled code, which works on one runtime and architecture only: {', '.join(compiled)}"
            )
        missing = [
            pin.name
            for pin in pinned("requirements.txt")
            if f"{pin.name.replace('-', '_')}-{pin.version}.dist-info/METADATA" not in names
        ]
        if missing:
            sys.exit(f"packages missing from the zip (Chalice could not download them): {', '.join(missing)}")
        for name in names:
            entry = zipfile.ZipInfo(name)  # with the date 1980-01-01
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))


class Pin(NamedTuple):
    """A pinned package and the digest of its wheel."""

    name: str
    version: str
    sha256: str


def pinned(requirements: str) -> list[Pin]:
    """Return the pinned packages; with hashes, pip rejects any other line."""
    lines = (_HERE.parent / requirements).read_text()
    return list(starmap(Pin, re.findall(r"^([\w.-]+)==(\S+) \\\n +--hash=sha256:([0-9a-f]{64})$", lines, re.MULTILINE)))


def sbom(archive: bytes) -> str:
    """Return the content of the zip in CycloneDX format, identical for identical zips ("CycloneDX v1.6 JSON Reference")."""
    digest = hashlib.sha256(archive).hexdigest()
    components = [
        {
            "type": "library",
            "bom-ref": (purl := f"pkg:pypi/{pin.name.lower().replace('_', '-')}@{pin.version}"),
            "name": pin.name,
            "version": pin.version,
            "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
        }
        for pin in sorted([*pinned("requirements.txt"), *pinned("requirements-chalice.txt")])
    ]
    application = {
        "type": "application",
        "bom-ref": "rolecall",
        "name": "rolecall",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": application},
        "components": components,
        "dependencies": [{"ref": "rolecall", "dependsOn": [each["bom-ref"] for each in components]}],
    }
    return json.dumps(document, indent=2) + "\n"


def package(out: Path) -> None:
    """Write template.json, deployment.zip, sbom.cdx.json and trail.yaml."""
    _CACHE.mkdir(exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock, TemporaryDirectory(dir=out) as temporary:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Chalice would reuse a zip that another process is still writing.
        try:
            _chalice(temporary)
            written = _write(Path(temporary))
        except SystemExit:
            _prune(keep=0)  # Chalice would reuse an incomplete zip.
            raise
        _prune(keep=1)
        for path in written:
            path.replace(out / path.name.removeprefix("final-"))
    shutil.copyfile(_HERE.parent / "docs" / "trail.yaml", out / "trail.yaml")


def _write(made: Path) -> list[Path]:
    """Adapt what Chalice made, and return the paths of the package's files."""
    template = yaml.safe_load((made / "sam.yaml").read_text())
    remove_batching_windows_of_zero(template)
    describe_functions(template)
    remove_chalices_tags(template)
    add_properties(template, json.loads((_HERE / "properties.json").read_text()))
    template["Resources"]["Dashboard"]["Properties"]["DashboardBody"] = dashboard_body()
    access_role = _HERE.parent / "docs" / "access-role-narrow.yaml"
    template["Resources"]["AccessRoles"]["Properties"]["TemplateBody"] = access_role.read_text(encoding="utf-8")
    shared = json.loads((_HERE / "statements.json").read_text())
    for role in template["Resources"].values():
        for policy in role["Properties"].get("Policies", []) if role["Type"] == "AWS::IAM::Role" else []:
            document = policy["PolicyDocument"]
            document["Statement"] = expanded_statements(document["Statement"], shared)
    archive, described, listed = made / "final-deployment.zip", made / "template.json", made / "sbom.cdx.json"
    copy_zip(made / "deployment.zip", archive)
    described.write_text(final_template(template), encoding="utf-8")
    listed.write_text(sbom(archive.read_bytes()))
    return [archive, described, listed]


def _prune(keep: int) -> None:
    kept = sorted(_CACHE.glob("*.zip"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[keep:]:
        path.unlink()


if __name__ == "__main__":
    package(Path(sys.argv[1]))
