"""Every test that a document names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
_DOCUMENTS = sorted(path.name for path in (ROOT / "docs").glob("*.md") if _NAMED.search(path.read_text()))


def _exists(path: str, name: str) -> bool:
    files = [ROOT / "tests" / path, ROOT / path]
    return any(re.search(rf"^ *def {name}\(", file.read_text(), re.MULTILINE) for file in files if file.exists())


@pytest.mark.parametrize("document", _DOCUMENTS)
def test_tests_named_in_documents_exist(document: str) -> None:
    named = _NAMED.findall((ROOT / "docs" / document).read_text())
    assert [f"{path}::{name}" for path, name in named if not _exists(path, name)] == []


def test_every_threat_names_a_test() -> None:
    _, threats, _ = re.split(
        r"^## (?:Threats|The narrowed session)$", (ROOT / "docs/security.md").read_text(), flags=re.MULTILINE
    )
    sections = re.split(r"^### (.+)$", threats, flags=re.MULTILINE)[1:]
    assert len(sections) > 2
    assert [title for title, text in zip(sections[::2], sections[1::2], strict=True) if not _NAMED.search(text)] == []


def test_missing_test_is_detected() -> None:
    assert _exists("unit/test_named_tests.py", "test_missing_test_is_detected")
    assert not _exists("unit/test_named_tests.py", "test_missing")
    assert not _exists("unit/test_gone.py", "test_missing_test_is_detected")
