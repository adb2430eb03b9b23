"""Functions are killed or overlapped at every call that they make, and then retried."""

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.integration.simulation.fault_matrix import inject_faults
from tests.integration.simulation.faults import KILLS, LATE, OVERLAP
from tests.integration.simulation.scenarios import SCENARIOS

_OF_PUBLISH = [
    (scenario, fault)
    for scenario in ("shard overflow", "freeze", "source principal changed")
    for fault in (OVERLAP, LATE)
]


@pytest.mark.parametrize(
    ("scenario", "faults"),
    [*((scenario, KILLS) for scenario in SCENARIOS), *((scenario, (fault,)) for scenario, fault in _OF_PUBLISH)],
    ids=[*SCENARIOS, *(f"{scenario}, {fault}" for scenario, fault in _OF_PUBLISH)],
)
def test_fault_at_any_call_does_not_change_the_end_state(
    process: ProcessPoolExecutor, scenario: str, faults: tuple[str, ...]
) -> None:
    report = process.submit(inject_faults, scenario, faults).result()

    assert report.runs > 0
    if report.divergences:
        pytest.fail("\n\n".join(report.divergences[:3]), pytrace=False)
