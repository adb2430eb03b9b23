"""Every reason has a meaning, a remedy and a section of the runbook."""

from pathlib import Path

import pytest

from chalicelib.accounts import INELIGIBLE_REASONS, RETRYABLE_REASONS
from chalicelib.errors import Reason
from rolecall.reasons import MEANING, REMEDY, TITLE, runbook_section

ROOT = Path(__file__).parents[2]
REASONS_OF_RUNBOOK = (ROOT / "docs" / "runbook.md").read_text().split("\n### Accounts that should ")[1:]
"""The reasons of accounts that should not be enrolled, and of those that should be."""


def headings(text: str) -> list[str]:
    return [line.removeprefix("#### ") for line in text.splitlines() if line.startswith("#### ")]


def test_every_reason_has_a_title_a_meaning_and_a_remedy() -> None:
    assert set(TITLE) == set(MEANING) == set(REMEDY) == set(Reason)


def test_titles_are_distinct_short_phrases_without_codes() -> None:
    assert len(set(TITLE.values())) == len(TITLE)
    for title in TITLE.values():
        assert len(title) <= 40
        assert title[0].islower() or title.startswith("AWS")
        assert title.isprintable()
        assert not {"_", "."} & set(title)


@pytest.mark.parametrize("sentence", [*MEANING.values(), *REMEDY.values()])
def test_meanings_and_remedies_are_short_sentences(sentence: str) -> None:
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) <= 140


def test_runbook_has_a_section_for_each_reason() -> None:
    ineligible, others = map(headings, REASONS_OF_RUNBOOK)
    assert sorted(ineligible) == sorted(INELIGIBLE_REASONS)
    assert sorted(others) == sorted(set(Reason) - INELIGIBLE_REASONS)
    assert INELIGIBLE_REASONS.isdisjoint(RETRYABLE_REASONS)
    assert runbook_section(Reason.QUOTA) == "docs/runbook.md#quota"
