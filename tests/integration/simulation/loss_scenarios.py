"""Scenarios of tables or records that are lost or restored from a backup, which must cost no account its access."""

import copy
from collections.abc import Mapping

from tests.integration.simulation import steps
from tests.integration.simulation.account_scenarios import allow_and_rerun
from tests.integration.simulation.cloud import LOSSES
from tests.integration.simulation.scenario import FIRST, MEMBERS_ONLY, ORGANIZATION, SECOND, THIRD, Scenario, Step
from tests.integration.simulation.simulated_stage import SimulatedStage


def _lost(loss: str, before: Step) -> Step:
    def setup(stage: SimulatedStage) -> None:
        before(stage)
        stage.cloud.join(THIRD)
        stage.cloud.lose(loss)

    return setup


def _enroll_third(stage: SimulatedStage) -> None:
    """Enroll one account, which must cost no other its access, and not end a freeze."""
    frozen = any(policy.is_frozen for policy in stage.cloud.source_policies().values())
    steps.handle_events(THIRD)(stage)
    steps.require_granted(stage, FIRST, SECOND, THIRD)
    is_frozen = all(policy.is_frozen for policy in stage.cloud.source_policies().values())
    stage.expect("frozen stays frozen, whatever was lost", is_frozen is frozen)


def _ledger_lost_and_denied(stage: SimulatedStage) -> None:
    _lost("ledger lost", steps.enrolled)(stage)
    stage.cloud.denied[FIRST] = ""


def _resync_then_allow(stage: SimulatedStage) -> None:
    steps.resync(stage)
    steps.require_granted(stage, FIRST, SECOND)
    allow_and_rerun(stage)


def _older_ledger(stage: SimulatedStage) -> None:
    """Restore the ledger as it was before one account was enrolled, one retired and one closed."""
    steps.enrolled(stage)
    older = copy.deepcopy(stage.cloud.tables.items["ledger"])
    stage.cloud.join(THIRD)
    steps.handle_events(THIRD)(stage)
    steps.retire(stage)
    stage.cloud.members.change(SECOND, state="CLOSED")
    steps.handle_events(SECOND)(stage)
    stage.pause(86_400)
    stage.cloud.tables.items["ledger"] = older
    stage.cloud.checks.note()


LOSS_SCENARIOS: Mapping[str, Scenario] = {
    **{loss: Scenario(_enroll_third, _lost(loss, steps.enrolled)) for loss in LOSSES},
    **{f"{loss} while frozen": Scenario(_enroll_third, _lost(loss, steps.frozen)) for loss in LOSSES},
    "ledger lost, and an account denied": Scenario(_resync_then_allow, _ledger_lost_and_denied),
    "scope narrowed after a lost ledger": Scenario(
        _enroll_third, _lost("ledger lost", steps.narrower_scope), {**MEMBERS_ONLY, **ORGANIZATION}
    ),
    "older ledger put back": Scenario(steps.resync, _older_ledger),
}
