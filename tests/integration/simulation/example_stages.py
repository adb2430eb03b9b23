"""Stages with one enrolled member, a departed account, and an account that was never a member."""

import copy

from tests.integration.simulation.cloud import Cloud
from tests.integration.simulation.environment import member_role_arn
from tests.integration.simulation.harness import Harness
from tests.integration.simulation.members import IDS, MANAGEMENT, UNKNOWN_ACCOUNT
from tests.integration.simulation.simulated_stage import SimulatedStage

MEMBER, DEPARTED = IDS[:2]


class ExampleStages:
    """Builds such stages; enrolled ones are copies of the first, which takes a while."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._enrolled: Cloud | None = None

    def empty(self, settings: dict[str, str] | None = None) -> SimulatedStage:
        """Return a stage with two members that no function has handled."""
        stage = SimulatedStage(self._harness, settings or {})
        for account_id in (MEMBER, DEPARTED):
            stage.cloud.join(account_id)
        return stage

    def enrolled(self) -> SimulatedStage:
        """Return a stage with one member that is enrolled, and one that has departed."""
        if self._enrolled is None:
            stage = self.empty()
            stage.send_events(MEMBER)
            stage.drain()
            stage.cloud.members.leave(DEPARTED)
            self._enrolled = stage.cloud
        return SimulatedStage(self._harness, cloud=copy.deepcopy(self._enrolled))


def check_unknown_account(
    stage: SimulatedStage, *, named: frozenset[str] = frozenset(), recorded: bool = False
) -> None:
    """Check that nothing was done in an account that Organizations never confirmed.

    `named` are accounts that a policy or a row named before, and `recorded` is whether the unknown account may have a row.
    """
    assert stage.cloud.violated is None, stage.cloud.violated
    assert stage.cloud.iam.role(member_role_arn(UNKNOWN_ACCOUNT)) is None
    assert stage.cloud.named <= {MEMBER, MANAGEMENT} | named, stage.cloud.named
    assert recorded or UNKNOWN_ACCOUNT not in stage.cloud.tables.items.get("ledger", {})
