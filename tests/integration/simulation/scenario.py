"""A scenario, and the setups and checks that several share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.integration.simulation.environment import environ, member_role_arn, settings_of, source_policy_arn
from tests.integration.simulation.full_shard import fill_shard
from tests.integration.simulation.iam import Policy, Role
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.simulated_stage import SimulatedStage

FIRST, SECOND, THIRD = "000000000001", "000000000002", "000000000003"
MEMBERS_ONLY = {"INCLUDE_MANAGEMENT_ACCOUNT": "false"}
ORGANIZATION = {"SOURCE_POLICY_SCOPE": "organization"}
SECOND_SHARD = f"{source_policy_arn()}-2"
OTHER_PRINCIPAL = f"arn:aws:iam::{MANAGEMENT}:role/OtherReader"

Step = Callable[[SimulatedStage], None]


def nothing(stage: SimulatedStage) -> None:
    """Leave the stage as it is."""


@dataclass(frozen=True)
class Scenario:
    """What is done undisturbed, what is done then with a fault at each call, and the settings."""

    act: Step
    before: Step = nothing
    settings: Mapping[str, str] = field(default_factory=dict)


def handle_events(*account_ids: str) -> Step:
    """Return a step that sends the events of accounts, and drains the queues."""

    def step(stage: SimulatedStage) -> None:
        stage.send_events(*account_ids)
        stage.drain()

    return step


def new_account(stage: SimulatedStage) -> None:
    stage.cloud.join(FIRST)
    handle_events(FIRST)(stage)


def enrolled(stage: SimulatedStage) -> None:
    """Enroll two accounts, a day ago."""
    stage.cloud.join(FIRST)
    stage.cloud.join(SECOND)
    handle_events(FIRST, SECOND)(stage)
    stage.pause(86_400)


def third_joined(stage: SimulatedStage) -> None:
    enrolled(stage)
    stage.cloud.join(THIRD)


def resync(stage: SimulatedStage) -> None:
    stage.resync()


def retire(stage: SimulatedStage) -> None:
    stage.request("retire", {"accounts": [FIRST]})
    stage.drain()
    stage.expect("a retired account is not granted", not stage.cloud.grants(FIRST))
    stage.expect("a retired account has no role", stage.cloud.iam.role(member_role_arn(FIRST)) is None)


def full_shard(stage: SimulatedStage) -> None:
    """Fill the first shard."""
    fill_shard(stage.cloud, settings_of(environ(**stage.settings)), free=1, others=0)
    new_account(stage)


def freeze(stage: SimulatedStage) -> None:
    """Freeze until the response shows that the freeze is in force."""
    for _ in range(30):
        if stage.request("freeze", {"frozen": True})["in_force"]:
            break
        stage.pause(61)
    else:
        message = "the freeze is never in force"
        raise AssertionError(message)
    stage.drain()


def require_granted(stage: SimulatedStage, *account_ids: str) -> None:
    for account_id in account_ids:
        stage.expect(f"{account_id} is granted, whatever was lost", stage.cloud.grants(account_id))


def source_policy(stage: SimulatedStage) -> Policy:
    return stage.cloud.iam.existing_policy(source_policy_arn())


def source_principal_role(stage: SimulatedStage) -> Role:
    return stage.cloud.iam.existing_role(stage.cloud.source_principal)
