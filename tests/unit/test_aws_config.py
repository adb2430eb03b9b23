"""Profiles are merged between marked lines of an AWS config, as botocore reads it, and nothing else in it changes."""

import stat
from pathlib import Path
from typing import Any

import pytest
from botocore.configloader import load_config
from hypothesis import given
from hypothesis import strategies as st

from rolecall.aws_config import merge_profiles
from rolecall.errors import CommandError
from rolecall.export import export
from rolecall.export_formats import Options
from rolecall.files import write_file
from rolecall.tools import Tool
from tests.unit.builders import settings
from tests.unit.ledger_rows import numbered, row

BEGIN, END = b"# >>> rolecall dev\n", b"# <<< rolecall dev\n"
THEIRS = b"""[default]
region = eu-west-1   # caf\xc3\xa9
[sso-session corp]
sso_region = eu-west-1

[profile reader]
sso_session = corp
s3 =
  max_concurrent_requests = 20
"""


def profiles(*names: str, **more: Any) -> str:
    rows = [row(numbered(number), name=name) for number, name in enumerate(names, start=1)]
    return export(
        Tool.AWS_CONFIG,
        settings(),
        rows,
        Options(region="us-east-1", source_profile="reader", merged=True, **more),
    )


def read(file: Path) -> dict[str, Any]:
    """Read the profiles as the AWS CLI and boto3 do."""
    found: dict[str, Any] = load_config(str(file))["profiles"]
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config"


def test_profiles_are_added_to_a_config_and_replaced_there(file: Path) -> None:
    file.write_bytes(THEIRS)
    before = read(file)
    merge_profiles(file, "dev", profiles("payments", "search"))
    assert file.read_bytes() == THEIRS + b"\n" + BEGIN + profiles("payments", "search").encode() + END
    assert list(read(file)) == ["default", "reader", "payments", "search"]
    assert {name: read(file)[name] for name in before} == before

    file.write_bytes(file.read_bytes() + b"\n[profile after]\nregion = eu-west-1\n")
    merge_profiles(file, "dev", profiles("search"))

    assert list(read(file)) == ["default", "reader", "search", "after"]
    assert read(file)["search"] == {
        "role_arn": "arn:aws:iam::000000000001:role/CrossAccountReadOnlyRole",
        "source_profile": "reader",
        "region": "us-east-1",
    }


@given(
    st.binary(max_size=60).filter(lambda text: b"[" not in text and b"rolecall" not in text),
    st.sampled_from([b"", b"\n", b"# a comment\r\n; another\r\n\r\n[profile last]\r\nregion = eu-west-1\r\n"]),
)
def test_every_other_byte_stays(tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes) -> None:
    file = tmp_path_factory.mktemp("merged") / "config"
    file.write_bytes(before)
    merge_profiles(file, "dev", profiles("payments"))
    start = file.read_bytes().removesuffix(BEGIN + profiles("payments").encode() + END)
    assert start.startswith(before)
    assert start[len(before) :] in {b"", b"\n", b"\n\n"}
    assert not start or start.endswith((b"\n", b"\r"))

    file.write_bytes(file.read_bytes() + after)
    merge_profiles(file, "dev", profiles("search"))

    assert file.read_bytes() == start + BEGIN + profiles("search").encode() + END + after


def test_merging_again_changes_nothing(file: Path) -> None:
    file.write_bytes(THEIRS)
    merge_profiles(file, "dev", profiles("payments"))
    merged = file.read_bytes()
    merge_profiles(file, "dev", profiles("payments"))
    assert file.read_bytes() == merged


def test_stages_have_lines_of_their_own(file: Path) -> None:
    merge_profiles(file, "dev", profiles("a"))
    merge_profiles(file, "prod", profiles("b"))
    merge_profiles(file, "dev", profiles("c"))
    assert list(read(file)) == ["c", "b"]


@pytest.mark.parametrize(
    "heading", ["[profile search]", '[profile "search"]', "[ profile  'search' ]  # mine", "  [profile search]"]
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_profile_outside_of_the_marked_lines_is_named(file: Path, heading: str, place: str) -> None:
    theirs = f"{heading}\nregion = eu-west-1\n"
    block = (BEGIN + END).decode()
    file.write_text(theirs + block if place == "before" else block + theirs)
    old = file.read_bytes()
    with pytest.raises(
        CommandError, match=r"config has a profile search outside of the lines .* stage dev: .*--names ids"
    ):
        merge_profiles(file, "dev", profiles("payments", "search"))
    assert file.read_bytes() == old


def test_profile_of_another_stage_is_named(file: Path) -> None:
    merge_profiles(file, "prod", profiles("payments"))
    with pytest.raises(CommandError, match="has a profile payments outside"):
        merge_profiles(file, "dev", profiles("payments"))


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (BEGIN, 1),
        (b"\n" + END, 2),
        (END + BEGIN, 1),
        (BEGIN + END + BEGIN + END, 1),
        (BEGIN + b"# >>> rolecall prod\n" + END + b"# <<< rolecall prod\n", 1),
    ],
)
def test_incomplete_marks_are_rejected(file: Path, lines: bytes, number: int) -> None:
    file.write_bytes(lines)
    with pytest.raises(
        CommandError, match=f"config must have the line '# >>> rolecall dev' once .* correct line {number}$"
    ):
        merge_profiles(file, "dev", profiles("payments"))
    assert file.read_bytes() == lines


def test_setting_after_the_marked_lines_is_rejected(file: Path) -> None:
    theirs = b"[default]\n" + BEGIN + END + b"\n# mine\nregion = eu-west-1\n"
    file.write_bytes(theirs)
    with pytest.raises(CommandError, match=r"line 6 of .*config follows rolecall's marked lines without a section"):
        merge_profiles(file, "dev", profiles("payments"))
    assert file.read_bytes() == theirs


@pytest.mark.parametrize("private", [False, True])
def test_permissions_and_link_of_a_config_stay(file: Path, tmp_path: Path, private: bool) -> None:
    file.write_bytes(THEIRS)
    file.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(file)
    merge_profiles(link, "dev", profiles("payments"), private=private)
    assert (link.is_symlink(), stat.S_IMODE(file.stat().st_mode)) == (True, 0o640)
    assert "payments" in read(file)
    assert sorted(tmp_path.iterdir()) == sorted([file, link])


def test_new_private_config_is_readable_by_its_owner_alone(file: Path) -> None:
    merge_profiles(file, "dev", profiles("payments"), private=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_merged_config_is_not_replaced_by_an_export(file: Path) -> None:
    merge_profiles(file, "dev", profiles("payments"))
    with pytest.raises(CommandError, match="was not written by rolecall"):
        write_file(file, "new")


def test_device_is_not_merged_into() -> None:
    with pytest.raises(CommandError, match="/dev/null is not a regular file"):
        merge_profiles(Path("/dev/null"), "dev", profiles("payments"))


def test_error_names_a_config_in_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"writing .*missing/config: No such file or directory"):
        merge_profiles(tmp_path / "missing" / "config", "dev", profiles("payments"))
