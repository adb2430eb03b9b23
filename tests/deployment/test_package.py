"""The package: reproducible, pinned, and checked for what CloudFormation and Lambda reject."""

import hashlib
import json
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from rolecall import __version__
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.stage import FUNCTIONS

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("requirements.txt", "requirements-chalice.txt")
_PACKAGE = runpy.run_path(str(ROOT / ".chalice" / "package.py"))
PINS = [pin for name in REQUIREMENTS for pin in _PACKAGE["pinned"](name)]


def copied(tmp_path: Path) -> Path:
    """Copy the files that the package is built from."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in ("app.py", *REQUIREMENTS):
        shutil.copy(ROOT / part, copy)
    for part in (".chalice", "chalicelib"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("deployments", "__pycache__"))
    (copy / "rolecall").mkdir()
    shutil.copy(ROOT / "rolecall" / "__init__.py", copy / "rolecall")  # the version
    (copy / "docs").mkdir()
    for name in ("access-role-narrow.yaml", "trail.yaml"):
        shutil.copy(ROOT / "docs" / name, copy / "docs")
    return copy


def test_functions_are_described_by_the_version(packaged: Path) -> None:
    """The command line compares it with its own."""
    resources = json.loads((packaged / "template.json").read_text())["Resources"].values()
    functions = [each["Properties"] for each in resources if each["Type"] == "AWS::Serverless::Function"]
    assert {each["Description"] for each in functions} == {f"Rolecall {__version__}"}
    assert len(functions) == len(FUNCTIONS)


def test_every_package_in_the_zip_is_pinned_by_digest(packaged: Path) -> None:
    lines = [line for name in REQUIREMENTS for line in (ROOT / name).read_text().splitlines() if line[0] != "#"]
    assert len(lines) == 2 * len(PINS)
    with zipfile.ZipFile(packaged / "deployment.zip") as archive:
        contained = {name.partition("-")[0] for name in archive.namelist() if name.endswith(".dist-info/METADATA")}
    assert {pin.name.replace("-", "_") for pin in PINS} == {*contained, "chalice"}
    for pin in PINS:
        assert version(pin.name) == pin.version, "the tested version is the packaged one"


def test_wheel_with_another_digest_is_rejected(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (six,) = [pin for pin in PINS if pin.name == "six"]
    pins = (copy / "requirements.txt").read_text()
    (copy / "requirements.txt").write_text(pins.replace(six.sha256, "0" * 64))
    command = [sys.executable, str(copy / ".chalice" / "package.py"), str(tmp_path / "out")]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode
    assert "six" in ran.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_sbom_lists_the_content_of_the_zip_as_cyclonedx(packaged: Path) -> None:
    """The required properties and formats are those of "CycloneDX v1.6 JSON Reference"."""
    sbom = json.loads((packaged / "sbom.cdx.json").read_text())
    digest = hashlib.sha256((packaged / "deployment.zip").read_bytes()).hexdigest()
    application = {"name": "rolecall", "hashes": [{"alg": "SHA-256", "content": digest}]}
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sbom["serialNumber"])
    assert sbom["metadata"]["component"] == {"type": "application", "bom-ref": "rolecall", **application}
    purls = {pin: f"pkg:pypi/{pin.name.lower().replace('_', '-')}@{pin.version}" for pin in sorted(PINS)}
    assert sbom["components"] == [
        {
            "type": "library",
            "bom-ref": purl,
            "name": pin.name,
            "version": pin.version,
            "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
        }
        for pin, purl in purls.items()
    ]
    assert sbom["dependencies"] == [{"ref": "rolecall", "dependsOn": list(purls.values())}]


def test_zip_contains_only_the_app_and_its_packages(packaged: Path) -> None:
    with zipfile.ZipFile(packaged / "deployment.zip") as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        modes = {entry.external_attr >> 16 for entry in archive.infolist()}
    assert {"app.py", "chalicelib", "chalice", "boto3", "botocore", "aws_lambda_powertools"} <= tops
    assert not {"tests", "deploy", "local", "rolecall", "moto", "pytest", "yaml"} & tops
    assert modes == {0o100644}


def test_package_is_of_no_stage_until_it_is_written_for_one(packaged: Path, tmp_path: Path) -> None:
    app = PackagedApp(packaged)
    assert "Default" not in app.template["Parameters"]["Stage"]
    assert "stage=" not in (packaged / "template.json").read_text()

    paths = app.write("prod", tmp_path / "new" / "prod")

    assert [path.name for path in paths] == ["template.json", "deployment.zip", "sbom.cdx.json"]
    written = PackagedApp(tmp_path / "new" / "prod")
    assert written.template["Parameters"].pop("Stage") == app.template["Parameters"]["Stage"] | {"Default": "prod"}
    assert written.template["Parameters"].items() <= app.template["Parameters"].items()
    assert written.template["Resources"] == app.template["Resources"]
    assert written.zip_digest == app.zip_digest


def test_uploaded_template_has_its_code_in_the_bucket(packaged: Path) -> None:
    uploaded = json.loads(PackagedApp(packaged).uploaded_template("artifacts", "rolecall/code.zip"))
    functions = [each for each in uploaded["Resources"].values() if each["Type"] == "AWS::Serverless::Function"]
    assert len(functions) == 9
    for function in functions:
        assert function["Properties"]["CodeUri"] == {"Bucket": "artifacts", "Key": "rolecall/code.zip"}


def test_several_intrinsics_in_one_object_are_rejected() -> None:
    queue = {"Fn::Sub": "arn:${AWS::Partition}:sqs:x", "Fn::GetAtt": ["AccountsQueue", "Arn"]}
    with pytest.raises(SystemExit, match="/Resources/Enroll/0/Queue"):
        _PACKAGE["final_template"]({"Resources": {"Enroll": [{"Queue": queue}]}})


def test_shared_statements_are_expanded_and_unknown_ones_rejected() -> None:
    expanded = _PACKAGE["expanded_statements"]
    assert expanded(["Read", {"Sid": "Own"}], {"Read": {"OnlyIf": "IsReader", "Effect": "Allow"}}) == [
        {"Fn::If": ["IsReader", {"Sid": "Read", "Effect": "Allow"}, {"Ref": "AWS::NoValue"}]},
        {"Sid": "Own"},
    ]
    with pytest.raises(SystemExit, match="no statement named Reed"):
        expanded(["Reed"], {"Read": {"Effect": "Allow"}})


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["app.py", "boto3-1.44.5.dist-info/METADATA"], "missing .*aws-lambda-powertools"),
        (["app.py", "_yaml.cpython-313-x86_64-linux-gnu.so"], "compiled code.*_yaml"),
    ],
)
def test_zip_that_would_fail_in_lambda_is_rejected(names: list[str], error: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(SystemExit, match=error):
        _PACKAGE["copy_zip"](tmp_path / "made.zip", tmp_path / "out.zip")


def _deploying() -> list[Path]:
    """Return the modules of rolecall deploy, whose help alone has examples."""
    return [path for path in (ROOT / "rolecall" / "deploy").glob("*.py") if path.name != "command.py"]


def test_no_file_contains_an_arn_of_one_partition(packaged: Path) -> None:
    files = [packaged / "template.json", ROOT / "app.py", *(ROOT / ".chalice").glob("*.*")]
    files += [*(ROOT / "chalicelib").rglob("*.py"), *_deploying()]
    assert [path for path in files if re.search("arn:aws(-[a-z]+)*:", path.read_text())] == []
