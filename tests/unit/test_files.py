"""Output files: written at once, with their permissions, and never over a file of others."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolecall.errors import CommandError
from rolecall.files import MARK, write_file

OURS = f"# 3 accounts; {MARK} export.\nnew\n"


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("private", "mode"), [(False, 0o644), (True, 0o600)])
def test_new_file_has_its_permissions(file: Path, private: bool, mode: int) -> None:
    write_file(file, OURS, private=private)
    assert (file.read_text(), permissions(file)) == (OURS, mode)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("private", "before", "after"), [(False, 0o640, 0o640), (False, 0o600, 0o600), (True, 0o644, 0o600)]
)
def test_own_file_is_replaced(file: Path, private: bool, before: int, after: int) -> None:
    file.write_text(f"# 1 account; {MARK} export.\nold\n")
    file.chmod(before)
    write_file(file, OURS, private=private)
    assert (file.read_text(), permissions(file)) == (OURS, after)


def test_file_of_others_is_replaced_only_by_force(file: Path) -> None:
    file.write_text("[default]\nregion = eu-west-1\n")
    with pytest.raises(CommandError, match="was not written by rolecall: pass --force to replace it"):
        write_file(file, OURS)
    assert file.read_text() == "[default]\nregion = eu-west-1\n"

    write_file(file, OURS, force=True)

    assert file.read_text() == OURS


def test_empty_file_is_replaced(file: Path) -> None:
    file.touch()
    write_file(file, OURS)
    assert file.read_text() == OURS


def test_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    write_file(link, OURS)
    assert (link.is_symlink(), file.read_text()) == (True, OURS)


def test_device_is_written_and_not_replaced() -> None:
    write_file(Path(os.devnull), OURS)
    assert not Path(os.devnull).is_file()


def test_failed_write_leaves_the_old_file(file: Path) -> None:
    old = f"# {MARK} export.\nold\n"
    file.write_text(old)
    with pytest.raises(UnicodeEncodeError):
        write_file(file, f"{OURS}\ud800")
    assert (file.read_text(), list(file.parent.iterdir())) == (old, [file])


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (
            Path("missing") / "config",
            "writing .*config: No such file or directory: choose a file in a writable directory",
        ),
        (Path(), "writing .*: Is a directory"),
    ],
)
def test_error_names_the_file(path: Path, error: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=error):
        write_file(tmp_path / path, OURS)


def test_full_disk_is_an_error() -> None:
    with pytest.raises(CommandError, match="writing /dev/full: No space left on device"):
        write_file(Path("/dev/full"), OURS)
