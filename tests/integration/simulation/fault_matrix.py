"""Every scenario with each fault at each call, which must end in the state of the undisturbed run."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.integration.simulation.calls import InvariantError
from tests.integration.simulation.faults import KILLS, OVERLAP
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.scenarios import SCENARIOS
from tests.integration.simulation.simulated_stage import SimulatedStage
from tests.integration.simulation.snapshot import snapshot


@dataclass
class MatrixReport:
    """The number of calls and runs, and the trace of each run that ended differently."""

    calls: int = 0
    runs: int = 0
    divergences: list[str] = field(default_factory=list)


def inject_faults(name: str, faults: Iterable[str], until: str | None = None) -> MatrixReport:
    """Run a scenario undisturbed, then with each fault at each call, or up to the first divergence that contains a text.

    A fault that leaves the same state as another is left out. After an error, the schedules run, since only they repair some.
    """
    faults = tuple(faults)
    scheduled = not set(faults) <= {*KILLS, OVERLAP}
    report, scenario = MatrixReport(), SCENARIOS[name]
    with simulated() as harness:
        setup = SimulatedStage(harness, dict(scenario.settings))
        undisturbed = setup
        try:
            scenario.before(setup)
            undisturbed = _copy(setup)
            scenario.act(undisturbed)
            report.calls = undisturbed.calls
            expected = _end(undisturbed, scheduled=scheduled)
            _require_convergence(undisturbed)
        except (InvariantError, AssertionError) as error:
            report.divergences.append(_trace(undisturbed, f"{name}: undisturbed: {error}"))
            return report
        for number, fault in ((number, fault) for fault in faults for number in range(1, report.calls + 1)):
            if (number, fault) not in undisturbed.distinct:
                continue
            report.runs += 1
            stage, difference = _copy(setup), ""
            stage.fault = (number, fault)
            try:
                scenario.act(stage)
                difference = _difference(expected, _end(stage, scheduled=scheduled))
            except (InvariantError, AssertionError) as error:
                difference = str(error)
            if difference:
                report.divergences.append(_trace(stage, f"{name}: {fault} at call {number}: {difference}"))
                if until is not None and until in report.divergences[-1]:
                    break
    return report


def _copy(setup: SimulatedStage) -> SimulatedStage:
    return SimulatedStage(setup.harness, dict(setup.settings), cloud=copy.deepcopy(setup.cloud))


def _end(stage: SimulatedStage, *, scheduled: bool) -> dict[str, object]:
    if scheduled:
        stage.run_schedules()
    return snapshot(stage.cloud, merged=scheduled)


def _require_convergence(stage: SimulatedStage) -> None:
    """Require that a resync after two days of schedules writes nothing: else something is repaired endlessly."""
    for _ in range(2):
        stage.run_schedules()
    stage.cloud.checks.is_converged = True
    stage.pause(86_400)
    stage.resync()


def _trace(stage: SimulatedStage, end: str) -> str:
    return "\n".join([*stage.trace, end])


def _difference(expected: dict[str, object], state: dict[str, object]) -> str:
    keys = sorted(key for key in expected.keys() | state.keys() if expected.get(key) != state.get(key))
    return "; ".join(f"{key} is {state.get(key)}, not {expected.get(key)}" for key in keys)
