"""A function is killed at every call that it makes; then its message comes back, or its caller tries again."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation.every_call import interrupted
from tests.integration.simulation.one_fault import KILLS, LATE, OVERLAP
from tests.integration.simulation.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_call_changes_nothing_in_the_end(process: ProcessPoolExecutor, scenario: str) -> None:
    report = process.submit(interrupted, scenario, KILLS).result()

    assert report.runs > 0
    if report.divergences:
        pytest.fail("\n\n".join(report.divergences[:3]), pytrace=False)


@pytest.mark.parametrize("fault", [OVERLAP, LATE])
@pytest.mark.parametrize("scenario", ["shard overflow", "freeze", "source principal changed"])
def test_a_run_of_publish_that_overlaps_another_changes_nothing(
    process: ProcessPoolExecutor, scenario: str, fault: str
) -> None:
    report = process.submit(interrupted, scenario, [fault]).result()

    assert report.runs > 0
    if report.divergences:
        pytest.fail("\n\n".join(report.divergences[:3]), pytrace=False)
