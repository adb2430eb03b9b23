"""Steps and checks that scenarios share."""

from tests.integration.simulation.environment import environ, member_role_arn, settings_of
from tests.integration.simulation.full_shard import fill_shard
from tests.integration.simulation.scenario import FIRST, MEMBERS_ONLY, SECOND, THIRD, Step
from tests.integration.simulation.simulated_stage import UNINSTALL, SimulatedStage


def handle_events(*account_ids: str) -> Step:
    """Return a step that sends the events of accounts, and drains the queues."""

    def step(stage: SimulatedStage) -> None:
        stage.send_events(*account_ids)
        stage.drain()

    return step


def invoke(function: str, request: object) -> Step:
    """Return a step that invokes a function, and drains the queues."""

    def step(stage: SimulatedStage) -> None:
        stage.request(function, request)
        stage.drain()

    return step


resync = invoke("resync", {})


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


def narrower_scope(stage: SimulatedStage) -> None:
    """Change from scope organization to scope accounts."""
    enrolled(stage)
    stage.settings = dict(MEMBERS_ONLY)


def retire(stage: SimulatedStage) -> None:
    invoke("retire", {"accounts": [FIRST]})(stage)
    stage.expect("a retired account is not granted", not stage.cloud.grants(FIRST))
    stage.expect("a retired account has no role", stage.cloud.iam.role(member_role_arn(FIRST)) is None)


def uninstall(stage: SimulatedStage) -> None:
    for _ in range(20):
        response = stage.request("retire", UNINSTALL)
        stage.drain()
        if response["next"] is None:
            return
    message = "the uninstall never ends"
    raise AssertionError(message)


def full_shard(stage: SimulatedStage) -> None:
    """Fill the first shard."""
    fill_shard(stage.cloud, settings_of(environ(**stage.settings)), free=1, others=0)
    new_account(stage)


def freeze(stage: SimulatedStage) -> None:
    """Freeze until the response shows that the freeze is in force."""
    for _ in range(30):
        if stage.request("freeze", {"frozen": True})["in_force"]:
            stage.drain()
            return
        stage.pause(61)
    message = "the freeze is never in force"
    raise AssertionError(message)


def frozen(stage: SimulatedStage) -> None:
    third_joined(stage)
    freeze(stage)


def require_granted(stage: SimulatedStage, *account_ids: str) -> None:
    for account_id in account_ids:
        stage.expect(f"{account_id} is granted, whatever was lost", stage.cloud.grants(account_id))
