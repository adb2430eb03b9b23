"""The model of the source policy's single writer, in the orders of events that the seeds find.

ROLECALL_SEEDS sets the number of seeds; `python -m tests.integration.protocol SEEDS` searches longer.
"""

import os
from dataclasses import fields

import pytest

from tests.integration.protocol.model import search
from tests.integration.protocol.mutants import MUTANTS, RuleMutant
from tests.integration.protocol.rules import Rules

SEEDS = int(os.environ.get("ROLECALL_SEEDS", "500"))
MUTANT_SEEDS = 1000  # more than twice what any mutant takes


def test_rules_hold_in_every_order_of_events() -> None:
    report = search(range(SEEDS))

    assert not report.violations, str(report)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule}-{mutant.violation.name}")
def test_mutant_is_caught(mutant: RuleMutant) -> None:
    report = search(range(MUTANT_SEEDS), mutant.rules, mutant.features, until=mutant.violation)

    assert mutant.violation in report.violations, str(report)


def test_every_rule_has_a_mutant() -> None:
    assert {mutant.rule for mutant in MUTANTS} == {field.name for field in fields(Rules)}
