"""Scenarios of the freeze."""

from collections.abc import Mapping

from tests.integration.simulation import steps
from tests.integration.simulation.cloud import SOURCE_POLICY
from tests.integration.simulation.publish_scenarios import is_mark, is_version, killed_at, overflowed
from tests.integration.simulation.scenario import SECOND, SECOND_SHARD, SHARD, THIRD, Scenario, Step
from tests.integration.simulation.simulated_stage import SimulatedStage


def _unfreeze(stage: SimulatedStage) -> None:
    stage.send_events(THIRD)
    stage.request("freeze", {"frozen": False})
    stage.drain()


def _unwritable(policy_arn: str, before: Step) -> Step:
    def setup(stage: SimulatedStage) -> None:
        before(stage)
        stage.cloud.unwritable.add(policy_arn)

    return setup


def _freeze_one_of_two_shards(stage: SimulatedStage) -> None:
    """Freeze while one of two shards can't be written: the other one denies everything. Once it can, both do."""
    steps.freeze(stage)
    denying = [name for name, policy in stage.cloud.source_policies().items() if policy.is_frozen]
    stage.expect(f"a freeze is in force once a shard denies everything, as {denying}", bool(denying))
    stage.cloud.unwritable.clear()
    steps.freeze(stage)


def _freeze_in_vain(stage: SimulatedStage) -> None:
    """Freeze while the only shard can't be written: the response shows it, and the freeze is applied later."""
    response = stage.request("freeze", {"frozen": True})
    in_force, why = response["in_force"], response["why"]
    stage.expect(f"a freeze that nothing denies is not in force: {why}", not in_force and SOURCE_POLICY in why)
    stage.drain()
    stage.expect("the messages of a blocked run are finished", not stage.cloud.queues.publish.dead)
    stage.cloud.unwritable.clear()
    steps.freeze(stage)


def _set_back(stage: SimulatedStage, policy_arn: str) -> None:
    """Set the default version to an older one, by hand."""
    policy = stage.cloud.iam.policy(policy_arn)
    assert policy is not None
    stage.cloud.iam.change(policy_arn, default=policy.default - 1)


def _undone_freeze(stage: SimulatedStage) -> None:
    steps.frozen(stage)
    _set_back(stage, SHARD)


def _freeze_while_undone(stage: SimulatedStage) -> None:
    """Freeze two shards, of which one can't be written, and the other one is set back as soon as it is."""
    stage.interleave = (lambda call: call.name == "AttachRolePolicy", lambda each: _set_back(each, SECOND_SHARD))
    stage.request("freeze", {"frozen": True})
    stage.interleave = None
    stage.cloud.unwritable.clear()
    steps.freeze(stage)


def _deleted_source_policy(stage: SimulatedStage) -> None:
    steps.enrolled(stage)
    stage.cloud.iam.detach(stage.cloud.source_principal, SHARD)
    stage.cloud.iam.put(SHARD, None)


def _shard_to_be_opened(stage: SimulatedStage) -> None:
    """Let a new account need a second shard, which no run has opened yet."""
    steps.full_shard(stage)
    stage.cloud.join(SECOND)
    stage.send_events(SECOND)
    stage.deliver("enroll")


def _freeze_first(stage: SimulatedStage) -> None:
    """Freeze, and kill the run as it reads the ledger: the attached shard must deny everything by then."""
    control = {"policy_name": {"S": "#control"}, "frozen": {"BOOL": True}}
    stage.cloud.tables.items["source-policy"]["#control"] = control
    stage.cloud.checks.note()
    stage.kill_after = lambda call: call.name == "Scan" and call.params["TableName"] == "ledger"
    stage.deliver("publish")
    shard = stage.cloud.iam.policy(SHARD)
    stage.expect("a freeze is written first", (shard is not None and shard.is_frozen) or stage.fault is not None)
    stage.kill_after = lambda _: False
    steps.freeze(stage)


FREEZE_SCENARIOS: Mapping[str, Scenario] = {
    "freeze": Scenario(steps.freeze, steps.enrolled),
    "unfreeze": Scenario(_unfreeze, steps.frozen),
    "freeze with the first shard unwritable": Scenario(_freeze_one_of_two_shards, _unwritable(SHARD, overflowed)),
    "freeze with the second shard unwritable": Scenario(
        _freeze_one_of_two_shards, _unwritable(SECOND_SHARD, overflowed)
    ),
    "freeze with the only shard unwritable": Scenario(_freeze_in_vain, _unwritable(SHARD, steps.enrolled)),
    "freeze that was undone by hand": Scenario(steps.freeze, _undone_freeze),
    "freeze that is undone meanwhile": Scenario(_freeze_while_undone, _unwritable(SHARD, overflowed)),
    "freeze of a deleted source policy": Scenario(steps.freeze, _deleted_source_policy),
    "freeze while a shard is to be opened": Scenario(_freeze_first, _shard_to_be_opened),
    "freeze after a kill before IAM": Scenario(steps.freeze, killed_at(is_mark)),
    "freeze after a kill after IAM": Scenario(steps.freeze, killed_at(is_version)),
}
