"""The invariants in random runs. ROLECALL_SEEDS sets the number of seeds; ROLECALL_SEED repeats one."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation.harness import simulated
from tests.integration.simulation.random_run import CONDITIONS, first_violation

SEEDS = int(os.environ.get("ROLECALL_SEEDS", "60"))
FIRST_SEED = 140  # The next sixty seeds together meet every condition.
SEED = os.environ.get("ROLECALL_SEED")


def _run(seeds: Sequence[int]) -> tuple[str | None, Counter[str]]:
    with simulated() as harness:
        return first_violation(harness, seeds)


def test_invariants_hold_once_faults_have_stopped(process: ProcessPoolExecutor) -> None:
    seeds = range(FIRST_SEED, FIRST_SEED + SEEDS) if SEED is None else [int(SEED)]

    trace, met = process.submit(_run, seeds).result()

    if trace is not None:
        pytest.fail(trace, pytrace=False)
    assert met["seeds"] == len(seeds)
    if SEED is None:
        faults = {"killed", "repeated", "throttled", "timeout after", "event lost", "not there yet"}
        assert {*faults, *CONDITIONS} <= met.keys()
