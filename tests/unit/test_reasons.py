"""Every reason has a meaning, a remedy and a section of the runbook."""

from pathlib import Path

import pytest

from chalicelib.errors import Reason
from rolecall.reasons import MEANING, REMEDY, runbook_section

ROOT = Path(__file__).parents[2]
HEADINGS = {
    line.removeprefix("#### ")
    for line in (ROOT / "docs" / "runbook.md").read_text().splitlines()
    if line.startswith("#### ")
}


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    assert set(MEANING) == set(REMEDY) == set(Reason)


@pytest.mark.parametrize("sentence", [*MEANING.values(), *REMEDY.values()])
def test_meanings_and_remedies_are_short_sentences(sentence: str) -> None:
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) <= 140


@pytest.mark.parametrize("reason", list(Reason))
def test_runbook_has_a_section_for_each_reason(reason: Reason) -> None:
    document, _, anchor = runbook_section(reason).partition("#")
    assert (ROOT / document).is_file()
    assert anchor in HEADINGS
