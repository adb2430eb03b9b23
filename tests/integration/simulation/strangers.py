"""A stage with one member, an account that was one, and a stranger that never was: who may be entered and named, and who not."""

import copy

from chalicelib.bootstrap import Application
from tests.integration.simulation.boundary import Boundary
from tests.integration.simulation.changes import IDS, STRANGER
from tests.integration.simulation.cloud import Cloud
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.one_fault import Stage
from tests.integration.simulation.stages import member_role_arn

MEMBER, DEPARTED = IDS[:2]


class Strangers:
    """Hands out such stages: the first is lived through, the others are copies, since it takes a while."""

    def __init__(self, boundary: Boundary, kind: type[Application] = Application) -> None:
        self._boundary, self._kind = boundary, kind
        self._enrolled: Cloud | None = None

    def empty(self, settings: dict[str, str] | None = None) -> Stage:
        """Make a stage of which nothing has happened but that the two accounts joined."""
        stage = Stage(self._boundary, settings or {}, kind=self._kind)
        for account_id in (MEMBER, DEPARTED):
            stage.cloud.join(account_id)
        return stage

    def enrolled(self) -> Stage:
        """Make a stage whose member is enrolled, and whose other account has left."""
        if self._enrolled is None:
            stage = Strangers(self._boundary).empty()
            stage.hear(MEMBER)
            stage.work()
            stage.cloud.members.leave(DEPARTED)
            self._enrolled = stage.cloud
        return Stage(self._boundary, kind=self._kind, cloud=copy.deepcopy(self._enrolled))


def nobody_else_was_entered(stage: Stage, *, besides: frozenset[str] = frozenset(), recorded: bool = False) -> None:
    """Require that nothing was done in, and said of, an account that Organizations doesn't confirm.

    `besides` were named by a policy that was there before, and `recorded` is a stranger whom the row or the message itself told of.
    """
    assert stage.cloud.broken is None, stage.cloud.broken
    assert stage.cloud.iam.role(member_role_arn(STRANGER)) is None
    named = stage.cloud.named
    assert named <= {MEMBER, MANAGEMENT} | besides, named
    assert recorded or STRANGER not in stage.cloud.tables.items.get("ledger", {})
