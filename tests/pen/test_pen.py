"""The pen in every order of events that the seeds come upon.

ROLECALL_SEEDS runs so many of them, ROLECALL_SEED replays one, and `make soak` goes through 10,000 before all else.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.pen.planted_bugs import PLANTED
from tests.pen.simulation import Parts, first_broken

SEEDS = int(os.environ.get("ROLECALL_SEEDS", "4000"))
SEED = os.environ.get("ROLECALL_SEED")


def test_whatever_happens_in_whatever_order_no_rule_is_broken(process: ProcessPoolExecutor) -> None:
    seeds = range(SEEDS) if SEED is None else [int(SEED)]

    broken = process.submit(first_broken, seeds).result()

    if broken is not None:
        pytest.fail(broken, pytrace=False)


@pytest.mark.parametrize(("parts", "rule"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_bug_is_noticed(process: ProcessPoolExecutor, parts: Parts, rule: str) -> None:
    broken = process.submit(first_broken, range(5000), parts, rule).result()

    assert broken is not None, f"no seed broke the rule: {rule}"
