"""Each invariant can fail: a mutant of the application violates it."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation.mutants import MUTANTS, Mutant, violation

SEEDS = 400  # many times what any of them takes


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_mutant_is_caught(process: ProcessPoolExecutor, mutant: Mutant) -> None:
    trace = process.submit(violation, mutant, SEEDS).result()

    assert trace is not None, f"nothing violated the invariant: {mutant.invariant}"
