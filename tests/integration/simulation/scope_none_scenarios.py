"""Scenarios of scope none: the member role exists, and access is in force, exactly where it should be."""

from collections.abc import Mapping

from tests.integration.simulation import steps
from tests.integration.simulation.environment import member_role_arn
from tests.integration.simulation.scenario import FIRST, MEMBERS_ONLY, SECOND, THIRD, Scenario
from tests.integration.simulation.simulated_stage import SimulatedStage

NONE = {**MEMBERS_ONLY, "SOURCE_POLICY_SCOPE": "none", "EXTERNAL_ID": "shared-secret"}


def _require_access(stage: SimulatedStage, *account_ids: str) -> None:
    """Require that the role is there and in force in these accounts alone."""
    for account_id in (FIRST, SECOND, THIRD):
        has_role = stage.cloud.iam.role(member_role_arn(account_id)) is not None
        in_force = "in_force_since" in stage.cloud.row(account_id)
        expected = account_id in account_ids
        stage.expect(f"the role is the access in scope none, as in {account_id}", has_role is in_force is expected)
    stage.cloud.require("scope none has no source policy", not stage.cloud.source_policies())


def _enroll_exclude_and_retire(stage: SimulatedStage) -> None:
    for account_id in (FIRST, SECOND, THIRD):
        stage.cloud.join(account_id)
    steps.handle_events(FIRST, SECOND, THIRD)(stage)
    _require_access(stage, FIRST, SECOND, THIRD)
    stage.settings = NONE | {"EXCLUDE_ACCOUNT_IDS": SECOND}
    stage.resync()
    _require_access(stage, FIRST, THIRD)
    # The excluded account, too: whether it was ever enrolled depends on the fault.
    stage.request("retire", {"accounts": [SECOND, THIRD]})
    stage.drain()
    _require_access(stage, FIRST)


def _exclude_while_enrolling(stage: SimulatedStage) -> None:
    """Exclude an account whose pass may have been killed; a resync finds no row of it."""
    stage.cloud.join(FIRST)
    stage.send_events(FIRST)
    stage.deliver("enroll")
    stage.settings = NONE | {"EXCLUDE_ACCOUNT_IDS": FIRST}
    stage.resync()
    _require_access(stage)
    # Whether it was enrolled before is the only difference that a killed pass makes.
    stage.request("retire", {"accounts": [FIRST]})
    stage.drain()


def _uninstall(stage: SimulatedStage) -> None:
    steps.uninstall(stage)
    _require_access(stage)
    stage.cloud.require("an uninstall deletes the names", not stage.cloud.status())


def _keep_the_access_in_another_scope(stage: SimulatedStage) -> None:
    """Grant what the ledger does, once there is a source policy."""
    stage.settings = dict(MEMBERS_ONLY)
    stage.resync()
    steps.require_granted(stage, FIRST)
    steps.require_granted(stage, SECOND)


SCOPE_NONE_SCENARIOS: Mapping[str, Scenario] = {
    "scope none": Scenario(_enroll_exclude_and_retire, settings=NONE),
    "excluded while enrolling in scope none": Scenario(_exclude_while_enrolling, settings=NONE),
    "uninstall in scope none": Scenario(_uninstall, steps.enrolled, NONE),
    "scope none to accounts": Scenario(_keep_the_access_in_another_scope, steps.enrolled, NONE),
}
