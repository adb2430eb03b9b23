"""A test of the tests: an application with a bug is noticed, whichever invariant the bug breaks."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.planted_bugs import PLANTED, Planted, noticed

SEEDS = 400  # many times what any of them takes


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_bug_is_noticed(process: ProcessPoolExecutor, planted: Planted) -> None:
    broken = process.submit(noticed, planted, SEEDS).result()

    assert broken is not None, f"nothing broke the rule: {planted.rule}"
