"""Scenarios of changed settings in waves: one role at a time."""

from collections.abc import Mapping

from tests.integration.simulation import steps
from tests.integration.simulation.environment import member_role_arn
from tests.integration.simulation.scenario import FIRST, MEMBERS_ONLY, SECOND, Scenario, Step
from tests.integration.simulation.simulated_stage import SimulatedStage

_AUDIT = "arn:aws:iam::aws:policy/SecurityAudit"
_IN_WAVES = {**MEMBERS_ONLY, "ROLLOUT_PERCENT": "10"}


def _enrolled(policies: str) -> Step:
    """Return a step that enrolls two accounts and deploys other policies."""

    def step(stage: SimulatedStage) -> None:
        steps.enrolled(stage)
        stage.settings = {**_IN_WAVES, "MEMBER_ROLE_POLICY_ARNS": policies}

    return step


def _changed(stage: SimulatedStage) -> int:
    roles = [stage.cloud.iam.role(member_role_arn(each)) for each in (FIRST, SECOND)]
    return sum(role is not None and role.attached != {"arn:aws:iam::aws:policy/ReadOnlyAccess"} for role in roles)


def _each_wave(stage: SimulatedStage) -> None:
    for waves in (1, 2):
        before = _changed(stage)
        steps.resync(stage)
        stage.expect("a sweep changes one wave at most", _changed(stage) - before <= 1)
        stage.expect("each sweep changes a wave", _changed(stage) == waves)


def _broken(stage: SimulatedStage) -> None:
    for _ in range(2):
        steps.resync(stage)
    stage.expect("a broken change stops after one wave", _changed(stage) == 1)
    stage.settings = dict(_IN_WAVES)
    steps.resync(stage)
    stage.expect("the former settings restore every role", _changed(stage) == 0)


ROLLOUT_SCENARIOS: Mapping[str, Scenario] = {
    "settings changed in waves": Scenario(_each_wave, _enrolled(_AUDIT), _IN_WAVES),
    "broken change in waves": Scenario(
        _broken, _enrolled(f"{_AUDIT},arn:aws:iam::{{account_id}}:policy/Missing"), _IN_WAVES
    ),
}
