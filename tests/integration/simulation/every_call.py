"""Every scenario, with each fault at each call: does it end as it does undisturbed?"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.integration.simulation.answers import RuleBrokenError
from tests.integration.simulation.boundary import simulated
from tests.integration.simulation.one_fault import KILLS, OVERLAP, Stage
from tests.integration.simulation.scenarios import SCENARIOS, Scenario


@dataclass
class Report:
    """How many calls and runs there were, and how each that ended otherwise came about."""

    calls: int = 0
    runs: int = 0
    divergences: list[str] = field(default_factory=list)


def interrupted(name: str, faults: Iterable[str]) -> Report:
    """Meet each call of a scenario with each fault; after an error the schedules come round, as they do by themselves.

    A fault that leaves the world that another one leaves is left out.
    """
    faults = tuple(faults)
    scheduled = not set(faults) <= {*KILLS, OVERLAP}
    report, scenario = Report(), SCENARIOS[name]
    with simulated() as boundary:
        scene = Stage(boundary, dict(scenario.settings))
        undisturbed = None
        try:
            scenario.before(scene)
            undisturbed = _on(scene, None)
            _play(undisturbed, scenario, scheduled=scheduled)
        except (RuleBrokenError, AssertionError) as error:
            story = "\n".join(scene.story if undisturbed is None else undisturbed.story)
            report.divergences.append(f"{story}\n{name}: undisturbed: {error}")
            return report
        report.calls, expected = undisturbed.acted, undisturbed.state(merged=scheduled)
        for fault in faults:
            for number in range(1, report.calls + 1):
                if (number, fault) not in undisturbed.distinct:
                    continue
                report.runs += 1
                broken, stage = "", _on(scene, (number, fault))
                try:
                    _play(stage, scenario, scheduled=scheduled)
                    broken = _difference(expected, stage.state(merged=scheduled))
                except (RuleBrokenError, AssertionError) as error:
                    broken = str(error)
                if broken:
                    story = "\n".join(stage.story)
                    report.divergences.append(f"{story}\n{name}: {fault} at call {number}: {broken}")
    return report


def _on(scene: Stage, fault: tuple[int, str] | None) -> Stage:
    """Set the same scene again."""
    stage = Stage(scene.boundary, dict(scene.settings), cloud=copy.deepcopy(scene.cloud))
    stage.fault = fault
    return stage


def _play(stage: Stage, scenario: Scenario, *, scheduled: bool) -> None:
    scenario.act(stage)
    stage.acted = stage.calls
    if scheduled:
        stage.end()


def _difference(expected: dict[str, object], state: dict[str, object]) -> str:
    keys = sorted(key for key in expected.keys() | state.keys() if expected.get(key) != state.get(key))
    return "; ".join(f"{key} is {state.get(key)}, not {expected.get(key)}" for key in keys)
