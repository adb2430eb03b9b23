"""The invariants in random runs. ROLECALL_SEEDS sets the number of seeds; ROLECALL_SEED repeats one."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation.harness import simulated
from tests.integration.simulation.random_run import CONDITIONS, first_violation

SEEDS = int(os.environ.get("ROLECALL_SEEDS", "60"))
# From here, sixty seeds met every condition when this was written; if they no longer do, further ones are run.
FIRST_SEED = 140
MOST_SEEDS = 4 * SEEDS
SEED = os.environ.get("ROLECALL_SEED")
EXPECTED = {"killed", "repeated", "throttled", "timeout after", "event lost", "not there yet", *CONDITIONS}


def _run(seeds: Sequence[int]) -> tuple[str | None, Counter[str]]:
    with simulated() as harness:
        trace, met = first_violation(harness, seeds)
        while SEED is None and trace is None and not met.keys() >= EXPECTED and met["seeds"] < MOST_SEEDS:
            trace, more = first_violation(harness, [FIRST_SEED + met["seeds"]])
            met += more
        return trace, met


def test_invariants_hold_once_faults_have_stopped(process: ProcessPoolExecutor) -> None:
    seeds = range(FIRST_SEED, FIRST_SEED + SEEDS) if SEED is None else [int(SEED)]

    trace, met = process.submit(_run, seeds).result()

    if trace is not None:
        pytest.fail(trace, pytrace=False)
    if SEED is None:
        assert met.keys() >= EXPECTED
