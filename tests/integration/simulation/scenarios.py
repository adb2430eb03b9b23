"""What is interrupted at every call: each scenario sets its scene undisturbed, and then does one thing."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from chalicelib.source_policy.documents import capacity
from tests.integration.simulation.answers import Call
from tests.integration.simulation.cloud import SOURCE, SOURCE_POLICY, Cloud, reader
from tests.integration.simulation.crowd import crowd
from tests.integration.simulation.iam import Policy, Role
from tests.integration.simulation.members import MANAGEMENT
from tests.integration.simulation.one_fault import Stage
from tests.integration.simulation.stages import environ, member_role_arn, settings_of, source_policy_arn

FIRST, SECOND, THIRD = "000000000001", "000000000002", "000000000003"
OURS = frozenset({("managed-by", "rolecall"), ("rolecall-stage", "simulation")})
OTHER_READER = f"arn:aws:iam::{MANAGEMENT}:role/OtherReader"
SECOND_SHARD = f"{source_policy_arn()}-2"
_MEMBERS_ONLY = {"INCLUDE_MANAGEMENT_ACCOUNT": "false"}
_WHOLE = {"SOURCE_POLICY_SCOPE": "organization"}
ALL = {"accounts": "all", "force": True}


def nothing(stage: Stage) -> None:
    """Set no scene."""


@dataclass(frozen=True)
class Scenario:
    """What is there before, what is done then, and under which settings."""

    act: Callable[[Stage], None]
    before: Callable[[Stage], None] = nothing
    settings: Mapping[str, str] = field(default_factory=dict)


def _enrolled(stage: Stage) -> None:
    for account_id in (FIRST, SECOND):
        stage.cloud.join(account_id)
    stage.hear(FIRST, SECOND)
    stage.work()
    stage.cloud.pass_time(stage.cloud.now + 86_400)


def _new(stage: Stage) -> None:
    stage.cloud.join(FIRST)
    stage.hear(FIRST)
    stage.work()


def _heard_again(stage: Stage) -> None:
    stage.hear(FIRST)
    stage.work()


def _drift(stage: Stage) -> None:
    _enrolled(stage)
    role = stage.cloud.iam.role(member_role_arn(FIRST))
    assert role is not None
    stage.cloud.iam.put(
        role.arn,
        replace(
            role,
            trust='{"Version":"2012-10-17","Statement":[]}',
            max_session=7200,
            boundary="arn:aws:iam::aws:policy/ViewOnlyAccess",
            attached=frozenset({"arn:aws:iam::aws:policy/SecurityAudit"}),
            inline=frozenset({("Theirs", "{}")}),
        ),
    )
    stage.cloud.iam.put(member_role_arn(SECOND), None)


def _edit_source_policy(stage: Stage) -> None:
    """Edit, tag and detach the source policy by hand, and add a version that isn't the default one."""
    _enrolled(stage)
    policy, reader = (stage.cloud.iam.policy(source_policy_arn()), stage.cloud.iam.role(_reader(stage)))
    assert policy is not None
    assert reader is not None
    edited = ((7, '{"Version":"2012-10-17","Statement":[]}'), (8, "{}"))
    stage.cloud.iam.put(
        policy.arn, replace(policy, versions=edited, default=7, following=9, tags=frozenset(), attached=frozenset())
    )
    stage.cloud.iam.put(reader.arn, replace(reader, attached=frozenset()))


def _reader(stage: Stage) -> str:
    return settings_of(environ(**stage.settings)).source_principals[0].arn


def _resync(stage: Stage) -> None:
    stage.ask("resync", {})
    stage.work()


def _resync_twice(stage: Stage) -> None:
    """Resync until what was written by the first one is old enough to be verified."""
    _resync(stage)
    stage.pause(3600)
    _resync(stage)


def _close(stage: Stage) -> None:
    stage.cloud.members.alter(FIRST, state="CLOSED")
    stage.cloud.members.leave(SECOND)
    stage.hear(FIRST, SECOND)
    stage.work()


def _retire(stage: Stage) -> None:
    stage.ask("retire", {"accounts": [FIRST]})
    stage.work()
    stage.expect("a retired account is not granted", not stage.cloud.grants(FIRST))
    stage.expect("a retired account has no role", stage.cloud.iam.role(member_role_arn(FIRST)) is None)


def _readmit(stage: Stage) -> None:
    stage.ask("backfill", {"accounts": [FIRST]})
    stage.work()


def _retired(stage: Stage) -> None:
    _enrolled(stage)
    _retire(stage)


def _by_hand(stage: Stage) -> None:
    """Let an account have a role as the guide creates it."""
    arn = member_role_arn(FIRST)
    stage.cloud.iam.put(arn, Role(arn, attached=frozenset({"arn:aws:iam::aws:policy/SecurityAudit"})))


def _full(stage: Stage) -> None:
    """Let the first shard be full."""
    crowd(stage.cloud, settings_of(environ(**stage.settings)), free=1, others=0)
    stage.cloud.join(FIRST)
    stage.hear(FIRST)
    stage.work()


def _overflow(stage: Stage) -> None:
    stage.cloud.join(SECOND)
    stage.hear(SECOND)
    stage.work()
    second = stage.cloud.iam.policy(SECOND_SHARD)
    stage.expect("the second shard is attached", second is not None and stage.cloud.reader in second.attached)


def _overflowed(stage: Stage) -> None:
    _full(stage)
    _overflow(stage)
    stage.cloud.pass_time(stage.cloud.now + 86_400)


def _versions(stage: Stage) -> None:
    """Let the source policy have as many versions as IAM keeps."""
    _enrolled(stage)
    policy = stage.cloud.iam.policy(source_policy_arn())
    assert policy is not None
    versions = tuple((number, policy.document) for number in range(policy.default - 4, policy.default + 1))
    stage.cloud.iam.put(policy.arn, replace(policy, versions=versions))
    stage.cloud.join(THIRD)


def _third_is_heard_of(stage: Stage) -> None:
    stage.hear(THIRD)
    stage.work()


def _freeze(stage: Stage) -> None:
    """Freeze until the answer says that it is in force."""
    for _ in range(30):
        if stage.ask("freeze", {"frozen": True})["in_force"]:
            break
        stage.pause(61)
    else:
        message = "the freeze is never in force"
        raise AssertionError(message)
    stage.work()


def _frozen(stage: Stage) -> None:
    _enrolled(stage)
    _freeze(stage)
    stage.cloud.join(THIRD)


def _unfreeze(stage: Stage) -> None:
    stage.hear(THIRD)
    stage.ask("freeze", {"frozen": False})
    stage.work()


def _older(stage: Stage) -> None:
    for account_id in (FIRST, SECOND, THIRD):
        stage.cloud.join(account_id)
    stage.cloud.pass_time(stage.cloud.now + 10 * 86_400)


def _backfill(stage: Stage) -> None:
    stage.ask("backfill", {})
    stage.work()


def _uninstall(stage: Stage) -> None:
    for _ in range(20):
        answer = stage.ask("retire", ALL)
        stage.work()
        if answer["next"] is None:
            return
    message = "it is never uninstalled"
    raise AssertionError(message)


def _denied(stage: Stage) -> None:
    """Let an account fail for good."""
    stage.cloud.join(FIRST)
    stage.cloud.denied[FIRST] = ""
    stage.cloud.pass_time(stage.cloud.now + 86_400)
    stage.hear(FIRST)
    stage.work()


def _admitted(stage: Stage) -> None:
    stage.cloud.denied.clear()
    stage.ask("rerun", {})
    stage.work()


def _other_settings(stage: Stage) -> None:
    _enrolled(stage)
    stage.settings = {
        **_MEMBERS_ONLY,
        "EXTERNAL_ID": "shared-secret",
        "MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit",
        "EXCLUDE_ACCOUNT_IDS": SECOND,
    }


def _narrowing(stage: Stage) -> None:
    """Have accounts named one by one from now on."""
    _enrolled(stage)
    stage.settings = dict(_MEMBERS_ONLY)


def _widening(stage: Stage) -> None:
    """Have the whole organization granted from now on, but for an account that is retired."""
    _enrolled(stage)
    _retire(stage)
    stage.settings = {**_MEMBERS_ONLY, **_WHOLE}


# What is lost, or put back.


def _lose_ledger(cloud: Cloud) -> None:
    cloud.tables.items["ledger"] = {}


def _lose_shard(cloud: Cloud) -> None:
    del cloud.tables.items["source-policy"][SOURCE_POLICY]


def _lose_table(cloud: Cloud) -> None:
    cloud.tables.items["source-policy"] = {}


def _lose_both(cloud: Cloud) -> None:
    _lose_ledger(cloud)
    _lose_table(cloud)


def _lost(lose: Callable[[Cloud], None], before: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def scene(stage: Stage) -> None:
        before(stage)
        stage.cloud.join(THIRD)
        lose(stage.cloud)
        stage.cloud.witness.note()

    return scene


def _newcomer(stage: Stage) -> None:
    """Enroll one account, which must cost no other its access."""
    frozen = any('"Deny"' in policy.document for policy in stage.cloud.source_policies().values())
    stage.hear(THIRD)
    stage.work()
    _require_granted(stage, FIRST, SECOND, THIRD)
    now_frozen = all('"Deny"' in policy.document for policy in stage.cloud.source_policies().values())
    stage.expect("frozen stays frozen, whatever was lost", now_frozen is frozen)


def _require_granted(stage: Stage, *account_ids: str) -> None:
    for account_id in account_ids:
        stage.expect(f"{account_id} is granted, whatever was lost", stage.cloud.grants(account_id))


def _older_ledger(stage: Stage) -> None:
    """Put a ledger back from before one account was enrolled, and another retired."""
    _enrolled(stage)
    older = copy.deepcopy(stage.cloud.tables.items["ledger"])
    stage.cloud.join(THIRD)
    stage.hear(THIRD)
    stage.work()
    _retire(stage)
    stage.cloud.members.alter(SECOND, state="CLOSED")
    stage.hear(SECOND)
    stage.work()
    stage.cloud.pass_time(stage.cloud.now + 86_400)
    stage.cloud.tables.items["ledger"] = older
    stage.cloud.witness.note()


# What stops publish.


def _others_policy(stage: Stage) -> None:
    """Let others have a policy of the source policy's name."""
    arn = source_policy_arn()
    stage.cloud.iam.put(arn, Policy(arn, ((1, '{"Version":"2012-10-17","Statement":[]}'),), 1, 2))


def _no_reader(stage: Stage) -> None:
    stage.cloud.iam.put(stage.cloud.reader, None)


def _no_room(stage: Stage) -> None:
    others = frozenset(f"arn:aws:iam::{MANAGEMENT}:policy/Other{number}" for number in range(10))
    stage.cloud.iam.put(stage.cloud.reader, Role(stage.cloud.reader, attached=others))


def _blocked(reason: str, cause_gone: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def act(stage: Stage) -> None:
        _new(stage)
        row = stage.cloud.row(FIRST)
        told = (row.get("outcome"), row.get("reason"), row.get("access"), row.get("attempts", 0))
        stage.expect(f"a newcomer fails with the reason, and not {told}", told == ("failed", reason, None, 0))
        stage.expect("the messages of a blocked run are finished", not stage.cloud.queues.publish.dead)
        stage.expect("no role is made for it", stage.cloud.iam.role(member_role_arn(FIRST)) is None)
        cause_gone(stage)
        stage.pause(3600)
        _resync(stage)
        _require_granted(stage, FIRST)
        stage.expect("it is enrolled", "in_force_since" in stage.cloud.row(FIRST))

    return act


def _policy_is_deleted(stage: Stage) -> None:
    if SOURCE_POLICY not in stage.cloud.shards() or "applied" not in stage.cloud.shards()[SOURCE_POLICY]:
        stage.cloud.iam.put(source_policy_arn(), None)


def _reader_is_made(stage: Stage) -> None:
    if stage.cloud.iam.role(stage.cloud.reader) is None:
        stage.cloud.iam.put(stage.cloud.reader, Role(stage.cloud.reader))


def _room_is_made(stage: Stage) -> None:
    reader = stage.cloud.iam.role(stage.cloud.reader)
    assert reader is not None
    kept = frozenset(arn for arn in reader.attached if "Other" not in arn)
    stage.cloud.iam.put(reader.arn, replace(reader, attached=kept))


def _other_reader(stage: Stage) -> None:
    """Have another role be the source principal from now on."""
    _enrolled(stage)
    stage.cloud.iam.put(OTHER_READER, Role(OTHER_READER))
    stage.cloud.readers.add(OTHER_READER)
    stage.settings = {"SOURCE_PRINCIPAL_ARNS": OTHER_READER}


def _unwritable(policy_arn: str, before: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def scene(stage: Stage) -> None:
        before(stage)
        stage.cloud.unwritable.add(policy_arn)

    return scene


def _freeze_what_can_be(stage: Stage) -> None:
    """Freeze while one of two shards can't be written: the other denies everything; then it can, and is frozen, too."""
    _freeze(stage)
    denying = [name for name, held in stage.cloud.source_policies().items() if '"Deny"' in held.document]
    stage.expect(f"a freeze is in force once a shard denies everything, as {denying}", bool(denying))
    stage.cloud.unwritable.clear()
    _freeze(stage)


def _freeze_in_vain(stage: Stage) -> None:
    """Freeze while the only shard can't be written: the answer says so, and the mark is applied later."""
    answer = stage.ask("freeze", {"frozen": True})
    in_force, why = answer["in_force"], answer["why"]
    stage.expect(f"a freeze that nothing denies is not in force: {why}", not in_force and SOURCE_POLICY in why)
    stage.work()
    stage.expect("the messages of a blocked run are finished", not stage.cloud.queues.publish.dead)
    stage.cloud.unwritable.clear()
    _freeze(stage)


def _deleted(stage: Stage) -> None:
    _enrolled(stage)
    reader = stage.cloud.iam.role(stage.cloud.reader)
    assert reader is not None
    stage.cloud.iam.put(reader.arn, replace(reader, attached=frozenset()))
    stage.cloud.iam.put(source_policy_arn(), None)


def _killed_in_the_middle(kills: Callable[[Call], bool]) -> Callable[[Stage], None]:
    def scene(stage: Stage) -> None:
        _enrolled(stage)
        stage.cloud.join(THIRD)
        stage.hear(THIRD)
        stage.deliver("enroll")
        stage.kills = kills
        stage.deliver("publish")
        assert stage.met

    return scene


def _retire_third(stage: Stage) -> None:
    """Retire an account that IAM grants, though no run recorded it so."""
    stage.ask("retire", {"accounts": [THIRD]})
    stage.work()
    stage.expect("an account that was retired is not granted", not stage.cloud.grants(THIRD))


def _over_capacity(stage: Stage) -> None:
    """Let the first shard hold an account more than fits now, as after a release with a longer document."""
    settings = settings_of(environ(**stage.settings))
    crowd(stage.cloud, settings, free=-1, others=0)
    stage.cloud.join(max(stage.cloud.crowd))
    stage.cloud.join(FIRST)


def _waiting_for_a_shard(stage: Stage) -> None:
    """Let a newcomer need a second shard, which no run has opened yet."""
    _full(stage)
    stage.cloud.join(SECOND)
    stage.hear(SECOND)
    stage.deliver("enroll")


def _freeze_first(stage: Stage) -> None:
    """Freeze; the run is stopped as it reads the ledger, when what is attached denies everything."""
    control = {"policy_name": {"S": "#control"}, "frozen": {"BOOL": True}}
    stage.cloud.tables.items["source-policy"]["#control"] = control
    stage.cloud.witness.note()
    stage.kills = lambda call: call.name == "Scan" and call.params["TableName"] == "ledger"
    stage.deliver("publish")
    first = stage.cloud.iam.policy(source_policy_arn())
    is_frozen = first is not None and '"Deny"' in first.document
    stage.expect("a freeze is written first", is_frozen or stage.fault is not None)
    stage.kills = lambda _: False
    _freeze(stage)


def _resync_at_once(stage: Stage) -> None:
    """Resync right after a write, which IAM's reads don't show yet."""
    stage.cloud.stale = 10.0
    stage.hear(THIRD)
    stage.work()
    _resync(stage)
    stage.cloud.stale = 0.0
    repairs = stage.cloud.status().get("repairs")
    stage.expect(f"nothing is repaired that nobody changed, as {repairs}", not repairs)


def _third_joined(stage: Stage) -> None:
    _enrolled(stage)
    stage.cloud.join(THIRD)


def _closed_for_a_moment(stage: Stage) -> None:
    """Let a row be written that denies an account, which is active again and waits for enroll."""
    _enrolled(stage)
    stage.cloud.members.alter(FIRST, state="CLOSED")
    stage.hear(FIRST)
    stage.deliver("enroll")
    stage.cloud.members.alter(FIRST, state="ACTIVE")
    stage.hear(FIRST)


def _revocation_denied(stage: Stage) -> None:
    """Let a run fail for good to revoke an account, which then is active again."""
    _enrolled(stage)
    stage.cloud.members.alter(FIRST, state="CLOSED")
    stage.hear(FIRST)
    stage.deliver("enroll")
    stage.cloud.unwritable.add(source_policy_arn())
    stage.deliver("publish")
    stage.cloud.unwritable.clear()
    stage.cloud.members.alter(FIRST, state="ACTIVE")
    stage.hear(FIRST)


def _active_again(stage: Stage) -> None:
    stage.work()
    _require_granted(stage, FIRST, SECOND)


def _enrolled_meanwhile(stage: Stage) -> None:
    """Grant an account while a run of publish that has read the former row writes."""
    stage.between = (_is_mark, lambda each: each.deliver("enroll"))
    stage.deliver("publish")
    stage.between = None
    stage.work()
    stage.expect("an account is granted though a run had read otherwise", stage.cloud.grants(FIRST))


def _published_meanwhile(stage: Stage) -> None:
    """Publish while enroll writes a row; the message that enroll sends after the row has it granted."""
    stage.between = (_is_row, lambda each: each.deliver("publish"))
    stage.deliver("enroll")
    stage.between = None
    stage.work()
    stage.expect("an account is granted whose row was written while publish ran", stage.cloud.grants(THIRD))


def _third_waits(stage: Stage) -> None:
    _third_joined(stage)
    stage.hear(THIRD)


def _in_a_source_account(stage: Stage) -> None:
    stage.cloud = Cloud(SOURCE)


def _new_there(stage: Stage) -> None:
    _new(stage)
    _require_granted(stage, FIRST)


def _ledger_lost_and_denied(stage: Stage) -> None:
    _lost(_lose_ledger, _enrolled)(stage)
    stage.cloud.denied[FIRST] = ""


def _resync_granting(stage: Stage) -> None:
    _resync(stage)
    _require_granted(stage, FIRST, SECOND)
    _admitted(stage)


def _resync_edited(stage: Stage) -> None:
    _resync(stage)
    policy = stage.cloud.iam.policy(source_policy_arn())
    stage.expect("versions of others go", policy is not None and max(dict(policy.versions)) == policy.default)


def _version_by_others(stage: Stage) -> None:
    _enrolled(stage)
    policy = stage.cloud.iam.policy(source_policy_arn())
    assert policy is not None
    versions = (*policy.versions, (policy.following, "{}"))
    stage.cloud.iam.put(policy.arn, replace(policy, versions=versions, following=policy.following + 1))


def _orphaned(stage: Stage) -> None:
    """Let a shard name two accounts that are no members and have no row."""
    settings = settings_of(environ(**stage.settings))
    crowd(stage.cloud, settings, free=capacity(settings) - 2, others=0)


def _resync_orphans(stage: Stage) -> None:
    _resync(stage)
    stage.expect("orphaned accounts are revoked", not stage.cloud.crowd & stage.cloud.named)


def _newcomer_before_the_scope(stage: Stage) -> None:
    """Enroll an account while no other has a row that a narrower scope could grant."""
    stage.hear(THIRD)
    stage.work()
    _require_granted(stage, FIRST, SECOND, THIRD)


def _back_again(stage: Stage) -> None:
    """Let an account leave and come back with the date that it joined at."""
    member = stage.cloud.members.members[FIRST]
    stage.cloud.members.leave(FIRST)
    stage.hear(FIRST)
    stage.work()
    stage.cloud.members.members[FIRST] = member
    stage.hear(FIRST)
    stage.work()
    _require_granted(stage, FIRST)


def _listed_without_units(stage: Stage) -> None:
    """Deploy settings that name organizational units while the messages of a listing without them wait."""
    stage.cloud.join(FIRST, "ou-ab12-11111111")
    stage.ask("backfill", {})
    stage.settings = {"INCLUDE_OU_IDS": "ou-ab12-11111111"}
    stage.work()
    _require_granted(stage, FIRST)


def _is_mark(call: Call) -> bool:
    """Whether a call records what IAM is about to be given."""
    return call.name == "UpdateItem" and ":applying" in call.params.get("ExpressionAttributeValues", {})


def _is_row(call: Call) -> bool:
    """Whether a call writes what enroll found out about an account."""
    return call.name == "UpdateItem" and "#outcome" in call.params.get("ExpressionAttributeNames", {})


def _is_version(call: Call) -> bool:
    return call.name == "CreatePolicyVersion"


SCENARIOS: Mapping[str, Scenario] = {
    "new account": Scenario(_new),
    "unchanged": Scenario(_heard_again, _enrolled),
    "drifted": Scenario(_resync, _drift, _MEMBERS_ONLY),
    "source policy edited": Scenario(_resync_edited, _edit_source_policy, _MEMBERS_ONLY),
    "closed and departed": Scenario(_close, _enrolled),
    "retired by request": Scenario(_retire, _enrolled),
    "readmitted": Scenario(_readmit, _retired),
    "adopted": Scenario(_new, _by_hand, {"ADOPT_EXISTING_ROLES": "true"}),
    "shard overflow": Scenario(_overflow, _full),
    "version quota": Scenario(_third_is_heard_of, _versions),
    "freeze": Scenario(_freeze, _enrolled),
    "unfreeze": Scenario(_unfreeze, _frozen),
    "backfill": Scenario(_backfill, _older),
    "rerun": Scenario(_admitted, _denied),
    "settings changed": Scenario(_resync, _other_settings, _MEMBERS_ONLY),
    "scope organization": Scenario(_close, _enrolled, _WHOLE),
    "scope narrowed": Scenario(_resync, _narrowing, {**_MEMBERS_ONLY, **_WHOLE}),
    "scope widened": Scenario(_resync, _widening, _MEMBERS_ONLY),
    "uninstall": Scenario(_uninstall, _enrolled, _MEMBERS_ONLY),
    "ledger lost": Scenario(_newcomer, _lost(_lose_ledger, _enrolled)),
    "shard record lost": Scenario(_newcomer, _lost(_lose_shard, _enrolled)),
    "source-policy table lost": Scenario(_newcomer, _lost(_lose_table, _enrolled)),
    "both tables lost": Scenario(_newcomer, _lost(_lose_both, _enrolled)),
    "ledger lost while frozen": Scenario(_newcomer, _lost(_lose_ledger, _frozen)),
    "shard record lost while frozen": Scenario(_newcomer, _lost(_lose_shard, _frozen)),
    "source-policy table lost while frozen": Scenario(_newcomer, _lost(_lose_table, _frozen)),
    "both tables lost while frozen": Scenario(_newcomer, _lost(_lose_both, _frozen)),
    "ledger lost, and an account denied": Scenario(_resync_granting, _ledger_lost_and_denied),
    "active again while publish writes": Scenario(_enrolled_meanwhile, _closed_for_a_moment),
    "active again after a revocation failed": Scenario(_active_again, _revocation_denied),
    "publish while enroll writes": Scenario(_published_meanwhile, _third_waits),
    "separate source account": Scenario(_new_there, _in_a_source_account, {"SOURCE_PRINCIPAL_ARNS": reader(SOURCE)}),
    "version by others": Scenario(_resync_edited, _version_by_others, _MEMBERS_ONLY),
    "orphaned accounts": Scenario(_resync_orphans, _orphaned),
    "scope narrowed after a lost ledger": Scenario(
        _newcomer_before_the_scope, _lost(_lose_ledger, _narrowing), {**_MEMBERS_ONLY, **_WHOLE}
    ),
    "departed and back": Scenario(_back_again, _enrolled),
    "units named while a listing waits": Scenario(_listed_without_units),
    "older ledger put back": Scenario(_resync, _older_ledger),
    "foreign source policy": Scenario(_blocked("foreign_source_policy", _policy_is_deleted), _others_policy),
    "source principal missing": Scenario(_blocked("no_source_principal", _reader_is_made), _no_reader),
    "attachment quota": Scenario(_blocked("quota", _room_is_made), _no_room),
    "source principal changed": Scenario(_resync, _other_reader),
    "freeze with the first shard unwritable": Scenario(
        _freeze_what_can_be, _unwritable(source_policy_arn(), _overflowed)
    ),
    "freeze with the second shard unwritable": Scenario(_freeze_what_can_be, _unwritable(SECOND_SHARD, _overflowed)),
    "freeze with the only shard unwritable": Scenario(_freeze_in_vain, _unwritable(source_policy_arn(), _enrolled)),
    "freeze of a deleted source policy": Scenario(_freeze, _deleted),
    "retired after a kill after IAM": Scenario(_retire_third, _killed_in_the_middle(_is_version)),
    "shard over its capacity": Scenario(_heard_again, _over_capacity),
    "freeze while a shard is to be opened": Scenario(_freeze_first, _waiting_for_a_shard),
    "resync right after a write": Scenario(_resync_at_once, _third_joined),
    "freeze after a kill before IAM": Scenario(_freeze, _killed_in_the_middle(_is_mark)),
    "freeze after a kill after IAM": Scenario(_freeze, _killed_in_the_middle(_is_version)),
}
