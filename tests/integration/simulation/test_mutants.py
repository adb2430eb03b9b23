"""Each invariant can fail: a mutant of the application violates it."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation import announce_mutants, enroll_mutants, publish_mutants, rollout_mutants
from tests.integration.simulation.mutants import MUTANTS, Mutant, violation

MODULES = (announce_mutants, enroll_mutants, publish_mutants, rollout_mutants)  # they register their mutants
SEEDS = 400  # many times what any of them takes


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.replacement.__name__)
def test_mutant_is_caught(process: ProcessPoolExecutor, mutant: Mutant) -> None:
    trace = process.submit(violation, mutant, SEEDS).result()

    assert trace is not None, f"nothing violated the invariant: {mutant.invariant}"
