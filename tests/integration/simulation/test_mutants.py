"""A test of the tests: a mutant of the application is caught, whichever rule it breaks."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation.mutants import MUTANTS, Mutant, noticed

SEEDS = 400  # many times what any of them takes


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_caught(process: ProcessPoolExecutor, mutant: Mutant) -> None:
    broken = process.submit(noticed, mutant, SEEDS).result()

    assert broken is not None, f"nothing broke the rule: {mutant.rule}"
