"""The package is the same from anywhere, and what CloudFormation would refuse is refused when it is made."""

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ("requirements.txt", "requirements-chalice.txt")
_PACKAGE = runpy.run_path(str(ROOT / ".chalice" / "package.py"))


def copied(tmp_path: Path) -> Path:
    """Copy what the package is made of."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in ("app.py", *SHIPPED):
        shutil.copy(ROOT / part, copy)
    for part in (".chalice", "chalicelib"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("deployments", "__pycache__"))
    return copy


def test_a_copy_elsewhere_gives_the_same_bytes(packaged: Path, tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (copy / "chalicelib" / "__pycache__").mkdir()
    (copy / "chalicelib" / "__pycache__" / "settings.cpython-311.pyc").write_bytes(b"another machine's")
    (copy / "app.py").chmod(0o600)
    subprocess.run([sys.executable, copy / ".chalice" / "package.py", "dev", tmp_path / "out"], check=True)
    for name in ("template.yaml", "deployment.zip", "sbom.cdx.json"):
        assert (tmp_path / "out" / name).read_bytes() == (packaged / name).read_bytes()


def test_all_that_is_shipped_is_pinned_by_its_digest(packaged: Path) -> None:
    told = [line for name in SHIPPED for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    pins = [pin for name in SHIPPED for pin in _PACKAGE["pinned"](name)]
    assert len(told) == 2 * len(pins)
    with zipfile.ZipFile(packaged / "deployment.zip") as archive:
        shipped = {name.partition("-")[0] for name in archive.namelist() if name.endswith(".dist-info/METADATA")}
    assert {pin.name.replace("-", "_") for pin in pins} == {*shipped, "chalice"}
    for pin in pins:
        assert version(pin.name) == pin.version, "what is tested is what is shipped"


def test_a_wheel_of_another_digest_is_refused(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (six,) = [pin for pin in _PACKAGE["pinned"]("requirements.txt") if pin.name == "six"]
    pins = (copy / "requirements.txt").read_text()
    (copy / "requirements.txt").write_text(pins.replace(six.sha256, "0" * 64))
    command = [sys.executable, str(copy / ".chalice" / "package.py"), "dev", str(tmp_path / "out")]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode
    assert "six" in ran.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_the_sbom_lists_what_the_zip_holds_in_cyclonedxs_form(packaged: Path) -> None:
    told = json.loads((packaged / "sbom.cdx.json").read_text())
    pins = {(pin.name, pin.version, pin.sha256) for name in SHIPPED for pin in _PACKAGE["pinned"](name)}
    listed = {(each["name"], each["version"], each["hashes"][0]["content"]) for each in told["components"]}
    assert listed == pins
    digest = hashlib.sha256((packaged / "deployment.zip").read_bytes()).hexdigest()
    assert told["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    jsonschema.validate(told, _CYCLONEDX)
    references = [each["bom-ref"] for each in (told["metadata"]["component"], *told["components"])]
    assert len(set(references)) == len(references)
    (dependencies,) = told["dependencies"]
    assert [dependencies["ref"], *dependencies["dependsOn"]] == references


def test_the_zip_holds_the_app_and_its_packages_alone(packaged: Path) -> None:
    with zipfile.ZipFile(packaged / "deployment.zip") as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        modes = {entry.external_attr >> 16 for entry in archive.infolist()}
    assert {"app.py", "chalicelib", "chalice", "boto3", "botocore", "aws_lambda_powertools"} <= tops
    assert not {"tests", "deploy", "local", "rolecall", "moto", "pytest", "yaml"} & tops
    assert modes == {0o100644}


def test_the_template_has_no_alias(packaged: Path) -> None:
    tokens = yaml.scan((packaged / "template.yaml").read_text())
    assert not [token for token in tokens if isinstance(token, yaml.AliasToken | yaml.AnchorToken)]


def test_only_the_stage_differs_between_stages(packaged: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / ".chalice" / "package.py", "prod", tmp_path], check=True)
    dev, prod = (yaml.safe_load((out / "template.yaml").read_text()) for out in (packaged, tmp_path))
    assert prod["Parameters"].pop("Stage")["Default"] == "prod"
    assert dev["Parameters"].pop("Stage")["Default"] == "dev"
    assert prod["Parameters"] == dev["Parameters"]
    assert prod["Outputs"] == dev["Outputs"]
    assert (tmp_path / "deployment.zip").read_bytes() == (packaged / "deployment.zip").read_bytes()


# Of "CycloneDX v1.6 JSON Reference", what is required and what the values look like, as far as we write them.
_HASHES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["alg", "content"],
        "properties": {"alg": {"const": "SHA-256"}, "content": {"type": "string", "pattern": "^[a-f0-9]{64}$"}},
    },
}
_COMPONENT = {
    "type": "object",
    "required": ["type", "name"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string"},
        "version": {"type": "string", "maxLength": 1024},
        "purl": {"type": "string", "pattern": "^pkg:pypi/[a-z0-9.-]+@[^@/]+$"},
        "hashes": _HASHES,
    },
}
_CYCLONEDX = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"const": "http://cyclonedx.org/schema/bom-1.6.schema.json"},
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {"pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {"type": "object", "properties": {"component": _COMPONENT}},
        "components": {"type": "array", "uniqueItems": True, "items": _COMPONENT},
        "dependencies": {"type": "array", "uniqueItems": True, "items": {"type": "object", "required": ["ref"]}},
    },
}


@pytest.mark.parametrize("stage", ["", "Dev", "1dev", "dev_1", "a" * 21, "dev\n"])
def test_a_stage_that_names_nothing_well_is_refused(stage: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="STAGE is"):
        _PACKAGE["package"](stage, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_intrinsics_in_one_place_are_refused() -> None:
    queue = {"Fn::Sub": "arn:${AWS::Partition}:sqs:x", "Fn::GetAtt": ["AccountsQueue", "Arn"]}
    with pytest.raises(SystemExit, match="/Resources/Enroll/0/Queue"):
        _PACKAGE["finished_template"]({"Resources": {"Enroll": [{"Queue": queue}]}, "Parameters": {"Stage": {}}}, "dev")


def test_what_python_shares_is_written_out_twice() -> None:
    trust = {"Service": "lambda.amazonaws.com"}
    template = {"Resources": {"A": trust, "B": trust}, "Parameters": {"Stage": {}}}
    written = _PACKAGE["finished_template"](template, "dev")
    assert yaml.safe_load(written)["Resources"] == {"A": trust, "B": trust}
    assert "&" not in written


def test_shared_statements_are_spelled_out_and_unknown_ones_refused() -> None:
    spelled_out = _PACKAGE["spelled_out"]
    assert spelled_out(["Read", {"Sid": "Own"}], {"Read": {"OnlyIf": "Asked", "Effect": "Allow"}}) == [
        {"Fn::If": ["Asked", {"Sid": "Read", "Effect": "Allow"}, {"Ref": "AWS::NoValue"}]},
        {"Sid": "Own"},
    ]
    with pytest.raises(SystemExit, match=r"has not: Reed"):
        spelled_out(["Reed"], {"Read": {"Effect": "Allow"}})


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (["app.py", "boto3-1.44.5.dist-info/METADATA"], "left out .*aws-lambda-powertools"),
        (["app.py", "_yaml.cpython-313-x86_64-linux-gnu.so"], "compiled code.*_yaml"),
    ],
)
def test_a_zip_that_would_fail_in_lambda_is_refused(names: list[str], refusal: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(SystemExit, match=refusal):
        _PACKAGE["finish_zip"](tmp_path / "made.zip", tmp_path / "out.zip")


def test_nothing_is_written_for_one_partition(packaged: Path) -> None:
    written = [packaged / "template.yaml", ROOT / "app.py", *(ROOT / ".chalice").glob("*.*")]
    written += [*(ROOT / "chalicelib").rglob("*.py"), *(ROOT / "deploy").rglob("*.py")]
    assert [path for path in written if "arn:" + "aws:" in path.read_text()] == []
