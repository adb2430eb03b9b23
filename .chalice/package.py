"""Package the app: Chalice's template and zip, made fit for CloudFormation and the same, byte for byte, from anywhere.

Usage: package.py STAGE OUT
"""

import fcntl
import hashlib
import json
import os
import re
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
_STAGE = re.compile(r"[a-z][a-z0-9-]{0,19}")


class _Dumper(yaml.SafeDumper):
    """Writes everything out: CloudFormation refuses YAML aliases, which Chalice's own output holds."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the dumper's own signature
        return True


def _chalice(stage: str, out: str) -> None:
    command = [
        *(
            str(Path(sys.executable).with_name("chalice")),
            "--project-dir",
            str(_HERE.parent),
            "package",
            "--stage",
            stage,
        ),
        *("--merge-template", str(_HERE / "resources.yaml"), out),
    ]
    (pin,) = pinned("requirements-chalice.txt")
    if version("chalice") != pin.version:
        sys.exit(
            f"Chalice {version('chalice')} is installed, whose runtime would be shipped, and {pin.version} is pinned"
        )
    # Chalice wants some region to look up service principals with; the template serves every region.
    ran = subprocess.run(  # noqa: S603
        command, env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"}, text=True, capture_output=True, check=False
    )
    if ran.returncode:
        sys.exit(f"chalice package failed:\n{ran.stdout}{ran.stderr}")


def spelled_out(statements: list[Any], shared: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the statements that several functions share in the places where a policy names them."""
    unknown = [each for each in statements if isinstance(each, str) and each not in shared]
    if unknown:
        sys.exit(f"a policy names what statements.json has not: {', '.join(unknown)}")
    return [_conditional({"Sid": each, **shared[each]} if isinstance(each, str) else each) for each in statements]


def _conditional(statement: dict[str, Any]) -> dict[str, Any]:
    """Leave a statement out where the template's condition that it names in OnlyIf doesn't hold."""
    told = {key: value for key, value in statement.items() if key != "OnlyIf"}
    return {"Fn::If": [statement["OnlyIf"], told, {"Ref": "AWS::NoValue"}]} if "OnlyIf" in statement else told


def dashboard_body() -> dict[str, str]:
    """Write the dashboard as JSON, in which a parameter that stands alone for a number is one."""
    body = json.dumps(yaml.safe_load((_HERE / "dashboard.yaml").read_text()))
    return {"Fn::Sub": re.sub(r'"(\$\{\w+\})"', r"\1", body)}


def remove_batching_windows_of_zero(template: dict[str, Any]) -> None:
    """Remove the batching window that Chalice writes for every queue and that Lambda supports for standard queues only."""
    for resource in template["Resources"].values():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            if event["Properties"].get("MaximumBatchingWindowInSeconds") == 0:
                del event["Properties"]["MaximumBatchingWindowInSeconds"]


def finished_template(template: dict[str, Any], stage: str) -> str:
    """Settle the stage and write the template out, unless the merge left something that CloudFormation refuses."""
    doubled = sorted(_doubled_intrinsics(template))
    if doubled:
        sys.exit(
            f"the merge left two intrinsics in one place (.chalice/resources.yaml must use Chalice's own): {', '.join(doubled)}"
        )
    template["Parameters"]["Stage"]["Default"] = stage
    return yaml.dump(template, Dumper=_Dumper, sort_keys=False, width=120)


def _doubled_intrinsics(node: object, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        if len(node) > 1 and any(key == "Ref" or str(key).startswith("Fn::") for key in node):
            yield path
        for key, value in node.items():
            yield from _doubled_intrinsics(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _doubled_intrinsics(value, f"{path}/{index}")


def finish_zip(made: Path, out: Path) -> None:
    """Copy the zip with its entries in order, without bytecode, and refuse one that lacks a package or holds compiled code."""
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        names = sorted(name for name in source.namelist() if "__pycache__" not in name)
        compiled = [name for name in names if name.endswith((".so", ".pyd"))]
        if compiled:
            sys.exit(
                f"the zip holds compiled code, which ties it to one runtime and architecture: {', '.join(compiled)}"
            )
        missing = [
            pin.name
            for pin in pinned("requirements.txt")
            if f"{pin.name.replace('-', '_')}-{pin.version}.dist-info/METADATA" not in names
        ]
        if missing:
            sys.exit(f"Chalice left out of the zip what it could not download: {', '.join(missing)}")
        for name in names:
            entry = zipfile.ZipInfo(name)  # Of 1980-01-01.
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))


class Pin(NamedTuple):
    """A package of exactly one version, and the digest of the wheel that it was taken from."""

    name: str
    version: str
    sha256: str


def pinned(requirements: str) -> list[Pin]:
    """Read what is pinned by its digest; pip refuses the rest of such a file."""
    told = (_HERE.parent / requirements).read_text()
    return list(starmap(Pin, re.findall(r"^([\w.-]+)==(\S+) \\\n +--hash=sha256:([0-9a-f]{64})$", told, re.MULTILINE)))


def sbom(archive: bytes) -> str:
    """List what is in the zip in CycloneDX's form, the same for the same zip ("CycloneDX v1.6 JSON Reference")."""
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
    shipped = {
        "type": "application",
        "bom-ref": "rolecall",
        "name": "rolecall",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    told = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": shipped},
        "components": components,
        "dependencies": [{"ref": "rolecall", "dependsOn": [each["bom-ref"] for each in components]}],
    }
    return json.dumps(told, indent=2) + "\n"


def package(stage: str, out: Path) -> None:
    """Write template.yaml, deployment.zip and sbom.cdx.json."""
    if not _STAGE.fullmatch(stage):
        sys.exit(f"STAGE is {stage!r}: it must be 1 to 20 lower-case letters, digits and hyphens, a letter first")
    _CACHE.mkdir(exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock, TemporaryDirectory() as made:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Chalice would take another's half-written zip for its own.
        try:
            _chalice(stage, made)
            finish_zip(Path(made, "deployment.zip"), out / "deployment.zip")
            template = yaml.safe_load(Path(made, "sam.yaml").read_text())
            remove_batching_windows_of_zero(template)
            template["Resources"]["Dashboard"]["Properties"]["DashboardBody"] = dashboard_body()
            shared = json.loads((_HERE / "statements.json").read_text())
            for role in template["Resources"].values():
                for policy in role["Properties"].get("Policies", []) if role["Type"] == "AWS::IAM::Role" else []:
                    document = policy["PolicyDocument"]
                    document["Statement"] = spelled_out(document["Statement"], shared)
            (out / "template.yaml").write_text(finished_template(template, stage))
            (out / "sbom.cdx.json").write_text(sbom((out / "deployment.zip").read_bytes()))
        except SystemExit:
            _prune(keep=0)  # Chalice keeps an incomplete zip, and would take it again.
            raise
        _prune(keep=1)


def _prune(keep: int) -> None:
    kept = sorted(_CACHE.glob("*.zip"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[keep:]:
        path.unlink()


if __name__ == "__main__":
    package(sys.argv[1], Path(sys.argv[2]))
