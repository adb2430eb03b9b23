"""Scenarios of the source policy: its shards, their drift, what blocks publish, and its races with enroll."""

from collections.abc import Mapping

from chalicelib.source_policy.documents import capacity
from tests.integration.simulation import steps
from tests.integration.simulation.calls import Call
from tests.integration.simulation.cloud import SOURCE, SOURCE_POLICY, Cloud, source_principal
from tests.integration.simulation.environment import environ, member_role_arn, settings_of
from tests.integration.simulation.full_shard import fill_shard, other_policies
from tests.integration.simulation.iam import EMPTY_DOCUMENT, Policy, Role
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.scenario import (
    FIRST,
    MEMBERS_ONLY,
    ORGANIZATION,
    SECOND,
    SECOND_SHARD,
    SHARD,
    THIRD,
    Scenario,
    Step,
)
from tests.integration.simulation.simulated_stage import Predicate, SimulatedStage

OTHER_PRINCIPAL = f"arn:aws:iam::{MANAGEMENT}:role/OtherReader"

# Drift of the source policy.


def _edit_source_policy(stage: SimulatedStage) -> None:
    """Replace the versions by a default one and a stray one, and remove the tags and the attachment."""
    steps.enrolled(stage)
    stage.cloud.iam.detach(stage.cloud.source_principal, SHARD)
    versions = ((7, EMPTY_DOCUMENT), (8, "{}"))
    stage.cloud.iam.change(SHARD, versions=versions, default=7, following=9, tags=frozenset())


def _add_stray_version(stage: SimulatedStage) -> None:
    steps.enrolled(stage)
    stage.cloud.iam.put(SHARD, _shard(stage).with_version("{}", default=False))


def _shard(stage: SimulatedStage) -> Policy:
    return stage.cloud.source_policies()[SOURCE_POLICY]


def _resync_edited(stage: SimulatedStage) -> None:
    steps.resync(stage)
    shard = _shard(stage)
    stage.expect("versions of others are deleted", max(dict(shard.versions)) == shard.default)


def _resync_at_once(stage: SimulatedStage) -> None:
    """Resync right after a write, which IAM's reads don't show yet."""
    stage.cloud.staleness = 10.0
    steps.handle_events(THIRD)(stage)
    steps.resync(stage)
    stage.cloud.staleness = 0.0
    repairs = stage.cloud.status().get("repairs")
    stage.expect(f"nothing is repaired that has not drifted, as {repairs}", not repairs)


def _other_principal(stage: SimulatedStage) -> None:
    steps.enrolled(stage)
    stage.cloud.iam.put(OTHER_PRINCIPAL, Role(OTHER_PRINCIPAL))
    stage.cloud.source_principals.add(OTHER_PRINCIPAL)
    stage.settings = {"SOURCE_PRINCIPAL_ARNS": OTHER_PRINCIPAL}


def _in_source_account(stage: SimulatedStage) -> None:
    stage.cloud = Cloud(SOURCE)


def _new_account_is_granted(stage: SimulatedStage) -> None:
    steps.new_account(stage)
    steps.require_granted(stage, FIRST)


# Shards.


def _overflow(stage: SimulatedStage) -> None:
    stage.cloud.join(SECOND)
    steps.handle_events(SECOND)(stage)
    second = stage.cloud.iam.policy(SECOND_SHARD)
    attached = second is not None and stage.cloud.source_principal in second.attached
    stage.expect("the second shard is attached", attached)


def overflowed(stage: SimulatedStage) -> None:
    steps.full_shard(stage)
    _overflow(stage)
    stage.pause(86_400)


def _all_versions(stage: SimulatedStage) -> None:
    """Let the source policy have as many versions as IAM allows."""
    steps.third_joined(stage)
    shard = _shard(stage)
    versions = tuple((number, shard.document) for number in range(shard.default - 4, shard.default + 1))
    stage.cloud.iam.change(SHARD, versions=versions)


def _over_capacity(stage: SimulatedStage) -> None:
    """Let the first shard contain an account more than fits, as after a release with a longer document."""
    fill_shard(stage.cloud, settings_of(environ(**stage.settings)), free=-1, others=0)
    stage.cloud.join(max(stage.cloud.orphaned))
    stage.cloud.join(FIRST)


def _orphaned_accounts(stage: SimulatedStage) -> None:
    """Let a shard name two accounts that are not members and have no row."""
    settings = settings_of(environ(**stage.settings))
    fill_shard(stage.cloud, settings, free=capacity(settings) - 2, others=0)


def _resync_orphaned(stage: SimulatedStage) -> None:
    steps.resync(stage)
    stage.expect("orphaned accounts are revoked", not stage.cloud.orphaned & stage.cloud.named)


# Scopes.


def _wider_scope(stage: SimulatedStage) -> None:
    """Change to scope organization, with an account that is retired."""
    steps.enrolled(stage)
    steps.retire(stage)
    stage.settings = {**MEMBERS_ONLY, **ORGANIZATION}


# What blocks publish.


def _foreign_policy(stage: SimulatedStage) -> None:
    stage.cloud.iam.put(SHARD, Policy(SHARD, ((1, EMPTY_DOCUMENT),)))


def _no_principal(stage: SimulatedStage) -> None:
    stage.cloud.iam.put(stage.cloud.source_principal, None)


def _no_room(stage: SimulatedStage) -> None:
    arn = stage.cloud.source_principal
    stage.cloud.iam.put(arn, Role(arn, attached=other_policies(MANAGEMENT, 10)))


def _blocked(reason: str, remove_cause: Step) -> Step:
    def act(stage: SimulatedStage) -> None:
        steps.new_account(stage)
        row = stage.cloud.row(FIRST)
        status = (row.get("outcome"), row.get("reason"), row.get("access"), row.get("attempts", 0))
        stage.expect(f"a new account fails with the reason, and not {status}", status == ("failed", reason, None, 0))
        stage.expect("the messages of a blocked run are finished", not stage.cloud.queues.publish.dead)
        stage.expect("no role is created for it", stage.cloud.iam.role(member_role_arn(FIRST)) is None)
        remove_cause(stage)
        stage.pause(3600)
        steps.resync(stage)
        steps.require_granted(stage, FIRST)
        stage.expect("it is enrolled", "in_force_since" in stage.cloud.row(FIRST))

    return act


def _delete_foreign_policy(stage: SimulatedStage) -> None:
    if "applied" not in stage.cloud.shards().get(SOURCE_POLICY, {}):
        stage.cloud.iam.put(SHARD, None)


def _create_principal(stage: SimulatedStage) -> None:
    if stage.cloud.iam.role(stage.cloud.source_principal) is None:
        stage.cloud.iam.put(stage.cloud.source_principal, Role(stage.cloud.source_principal))


def _make_room(stage: SimulatedStage) -> None:
    for policy_arn in other_policies(MANAGEMENT, 10):
        stage.cloud.iam.detach(stage.cloud.source_principal, policy_arn)


# Races, and runs that are killed or denied.


def is_mark(call: Call) -> bool:
    """Whether a call records what is about to be written to IAM."""
    return call.name == "UpdateItem" and ":applying" in call.params.get("ExpressionAttributeValues", {})


def _is_row(call: Call) -> bool:
    """Whether enroll writes a row."""
    return call.name == "UpdateItem" and "#outcome" in call.params.get("ExpressionAttributeNames", {})


def is_version(call: Call) -> bool:
    return call.name == "CreatePolicyVersion"


def killed_at(predicate: Predicate) -> Step:
    """Return a setup in which the run of publish for a third account was killed after a call."""

    def setup(stage: SimulatedStage) -> None:
        _third_waits(stage)
        stage.deliver("enroll")
        stage.kill_after = predicate
        stage.deliver("publish")
        assert stage.fault_met

    return setup


def _third_waits(stage: SimulatedStage) -> None:
    steps.third_joined(stage)
    stage.send_events(THIRD)


def _retire_third(stage: SimulatedStage) -> None:
    """Retire an account that IAM grants, which no record shows yet."""
    stage.request("retire", {"accounts": [THIRD]})
    stage.drain()
    stage.expect("a retired account is not granted", not stage.cloud.grants(THIRD))


def _closed(stage: SimulatedStage) -> None:
    """Write a row that denies a closed account."""
    steps.enrolled(stage)
    stage.cloud.members.change(FIRST, state="CLOSED")
    stage.send_events(FIRST)
    stage.deliver("enroll")


def _reopen(stage: SimulatedStage) -> None:
    stage.cloud.members.change(FIRST, state="ACTIVE")
    stage.send_events(FIRST)


def _closed_and_reopened(stage: SimulatedStage) -> None:
    _closed(stage)
    _reopen(stage)


def _revocation_denied(stage: SimulatedStage) -> None:
    """Deny the revocation of a closed account, which then is active again."""
    _closed(stage)
    stage.cloud.unwritable.add(SHARD)
    stage.deliver("publish")
    stage.cloud.unwritable.clear()
    _reopen(stage)


def _drain(stage: SimulatedStage) -> None:
    stage.drain()
    steps.require_granted(stage, FIRST, SECOND)


def _enroll_during_publish(stage: SimulatedStage) -> None:
    """Grant an account while a run of publish that read the former row writes."""
    stage.interleave = (is_mark, lambda each: each.deliver("enroll"))
    stage.deliver("publish")
    stage.interleave = None
    stage.drain()
    stage.expect("an account is granted though a run had read its former row", stage.cloud.grants(FIRST))


def _publish_during_enroll(stage: SimulatedStage) -> None:
    """Publish while enroll writes a row; the message that enroll sends afterwards starts the run that grants it."""
    stage.interleave = (_is_row, lambda each: each.deliver("publish"))
    stage.deliver("enroll")
    stage.interleave = None
    stage.drain()
    stage.expect("an account is granted whose row was written while publish ran", stage.cloud.grants(THIRD))


PUBLISH_SCENARIOS: Mapping[str, Scenario] = {
    "source policy edited": Scenario(_resync_edited, _edit_source_policy, MEMBERS_ONLY),
    "version by others": Scenario(_resync_edited, _add_stray_version, MEMBERS_ONLY),
    "resync right after a write": Scenario(_resync_at_once, steps.third_joined),
    "source principal changed": Scenario(steps.resync, _other_principal),
    "separate source account": Scenario(
        _new_account_is_granted, _in_source_account, {"SOURCE_PRINCIPAL_ARNS": source_principal(SOURCE)}
    ),
    "shard overflow": Scenario(_overflow, steps.full_shard),
    "version quota": Scenario(steps.handle_events(THIRD), _all_versions),
    "shard over its capacity": Scenario(steps.handle_events(FIRST), _over_capacity),
    "orphaned accounts": Scenario(_resync_orphaned, _orphaned_accounts),
    "scope narrowed": Scenario(steps.resync, steps.narrower_scope, {**MEMBERS_ONLY, **ORGANIZATION}),
    "scope widened": Scenario(steps.resync, _wider_scope, MEMBERS_ONLY),
    "foreign source policy": Scenario(_blocked("foreign_source_policy", _delete_foreign_policy), _foreign_policy),
    "source principal missing": Scenario(_blocked("no_source_principal", _create_principal), _no_principal),
    "attachment quota": Scenario(_blocked("quota", _make_room), _no_room),
    "active again while publish writes": Scenario(_enroll_during_publish, _closed_and_reopened),
    "active again after a revocation failed": Scenario(_drain, _revocation_denied),
    "publish while enroll writes": Scenario(_publish_during_enroll, _third_waits),
    "retired after a kill after IAM": Scenario(_retire_third, killed_at(is_version)),
}
