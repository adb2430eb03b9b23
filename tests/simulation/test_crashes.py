"""A function is killed at every call that it makes, before and after the call took effect; then whoever asked asks again."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.every_call import interrupted
from tests.simulation.one_fault import KILLS
from tests.simulation.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whatever_call_it_is_killed_at_all_ends_as_if_it_had_not_been(
    process: ProcessPoolExecutor, scenario: str
) -> None:
    report = process.submit(interrupted, scenario, KILLS).result()

    assert report.calls > 0
    assert report.runs == len(KILLS) * report.calls
    if report.divergences:
        pytest.fail("\n\n".join(report.divergences[:3]), pytrace=False)
