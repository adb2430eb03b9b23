"""A scenario: what is done undisturbed, and then with a fault at each call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.integration.simulation.environment import source_policy_arn
from tests.integration.simulation.simulated_stage import SimulatedStage

FIRST, SECOND, THIRD = "000000000001", "000000000002", "000000000003"
SHARD, SECOND_SHARD = source_policy_arn(), f"{source_policy_arn()}-2"
MEMBERS_ONLY = {"INCLUDE_MANAGEMENT_ACCOUNT": "false"}
ORGANIZATION = {"SOURCE_POLICY_SCOPE": "organization"}

Step = Callable[[SimulatedStage], None]


@dataclass(frozen=True)
class Scenario:
    """The steps and settings of a scenario."""

    act: Step
    before: Step = lambda _: None
    settings: Mapping[str, str] = field(default_factory=dict)
