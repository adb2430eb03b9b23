"""The checker of STYLE.md's retired words; the words themselves are read from STYLE.md."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "text", ["def {}_account():", "class {}Account:", "# It is {}.", '"""{} it."""', "{}-account:"]
)
def test_a_retired_word_is_found_in_names_and_texts(tmp_path: Path, text: str) -> None:
    assert _check(tmp_path, text.format("mended".title() if "class" in text else "mended")) == 1
    assert _check(tmp_path, text.format("Repaired" if "class" in text else "repaired")) == 0


@pytest.mark.parametrize("text", ["take_in", "takes in", "tookIn", "held-back"])
def test_a_retired_phrase_is_found_however_it_is_joined(tmp_path: Path, text: str) -> None:
    assert _check(tmp_path, text) == 1


def _check(directory: Path, text: str) -> int:
    path = directory / "example.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, ROOT / ".ci/retired_words.py", str(path)], check=False, capture_output=True
    ).returncode
