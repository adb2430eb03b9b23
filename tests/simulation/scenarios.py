"""What is interrupted at every call: each scenario sets its scene undisturbed, and then does one thing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from chalicelib.source_policy import Shard, capacity, document
from tests.simulation.iam import Policy, Role
from tests.simulation.one_fault import Stage
from tests.simulation.stages import SOURCE_POLICY, environ, member_role_arn, settings_of, source_policy_arn

FIRST, SECOND, THIRD = "000000000001", "000000000002", "000000000003"
OURS = frozenset({("managed-by", "rolecall"), ("rolecall-stage", "simulation")})
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
    """Resync until the answer tells of no source policy that could not be verified, as where a killed one's lease stands."""
    for _ in range(30):
        answer = stage.ask("resync", {})
        stage.work()
        if not any("error" in step for step in answer["source_policy"]):
            return
    message = "the source policy is never verified"
    raise AssertionError(message)


def _close(stage: Stage) -> None:
    stage.cloud.members.alter(FIRST, state="CLOSED")
    stage.cloud.members.leave(SECOND)
    stage.hear(FIRST, SECOND)
    stage.work()


def _retire(stage: Stage) -> None:
    stage.ask("retire", {"accounts": [FIRST]})
    stage.work()


def _readmit(stage: Stage) -> None:
    stage.ask("backfill", {"accounts": [FIRST]})
    stage.work()


def _retired(stage: Stage) -> None:
    _enrolled(stage)
    _retire(stage)


def _by_hand(stage: Stage) -> None:
    """Let an account have a role, and the source account a policy, as the guide makes them."""
    arn = member_role_arn(FIRST)
    stage.cloud.iam.put(arn, Role(arn, attached=frozenset({"arn:aws:iam::aws:policy/SecurityAudit"})))
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": [member_role_arn(THIRD)]}
    said = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stage.cloud.iam.put(source_policy_arn(), Policy(source_policy_arn(), ((1, said),), 1, 2))
    stage.cloud.join(THIRD)


def _full(stage: Stage) -> None:
    """Let the first shard have room for one more account only."""
    settings = settings_of(environ(**stage.settings))
    others = frozenset(f"9{number:011}" for number in range(capacity(settings) - 1))
    shard = Shard(name=SOURCE_POLICY, accounts=others, version=1, written=1)  # type: ignore[arg-type]
    arn = source_policy_arn()
    said = document(settings, shard, "").text
    stage.cloud.iam.put(arn, Policy(arn, ((1, said),), 1, 2, OURS))
    stage.cloud.join(FIRST)
    stage.hear(FIRST)
    stage.work()  # takes the policy in, and joins the first account


def _overflow(stage: Stage) -> None:
    stage.cloud.join(SECOND)
    stage.hear(SECOND)
    stage.work()


def _versions(stage: Stage) -> None:
    """Let the source policy have as many versions as IAM keeps."""
    _enrolled(stage)
    policy = stage.cloud.iam.policy(source_policy_arn())
    assert policy is not None
    versions = tuple((number, policy.document) for number in range(1, 6))
    stage.cloud.iam.put(policy.arn, replace(policy, versions=versions, default=5, following=6))
    stage.cloud.join(THIRD)


def _third_is_heard_of(stage: Stage) -> None:
    stage.hear(THIRD)
    stage.work()


def _freeze(stage: Stage) -> None:
    stage.ask("freeze", {"frozen": True})


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


def _let_in(stage: Stage) -> None:
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
    """Have accounts named one by one from now on, more of them than the first shard has room for beside those that it held once."""
    _enrolled(stage)
    settings = settings_of(environ(**stage.settings))
    others = ",".join(f"9{number:011}" for number in range(capacity(settings) - 1))
    table = stage.cloud.tables.items["source-policy"]
    table[SOURCE_POLICY] = {**table[SOURCE_POLICY], "accounts": {"S": others}}
    stage.settings = {**_MEMBERS_ONLY, "MAX_RETIRED_PERCENT": "0"}


def _widening(stage: Stage) -> None:
    """Have the whole organization let in from now on, but for an account that is retired."""
    _enrolled(stage)
    _retire(stage)
    stage.settings = {**_MEMBERS_ONLY, **_WHOLE}


SCENARIOS: Mapping[str, Scenario] = {
    "new account": Scenario(_new),
    "unchanged": Scenario(_heard_again, _enrolled),
    "drifted": Scenario(_resync, _drift, _MEMBERS_ONLY),
    "source policy edited": Scenario(_resync, _edit_source_policy, _MEMBERS_ONLY),
    "closed and departed": Scenario(_close, _enrolled),
    "retired by request": Scenario(_retire, _enrolled),
    "readmitted": Scenario(_readmit, _retired),
    "adopted": Scenario(_new, _by_hand, {"ADOPT_EXISTING_ROLES": "true"}),
    "shard overflow": Scenario(_overflow, _full),
    "version quota": Scenario(_third_is_heard_of, _versions),
    "freeze": Scenario(_freeze, _enrolled),
    "unfreeze": Scenario(_unfreeze, _frozen),
    "backfill": Scenario(_backfill, _older),
    "rerun": Scenario(_let_in, _denied),
    "settings changed": Scenario(_resync, _other_settings, _MEMBERS_ONLY),
    "scope organization": Scenario(_close, _enrolled, _WHOLE),
    "scope narrowed": Scenario(_resync, _narrowing, {**_MEMBERS_ONLY, **_WHOLE}),
    "scope widened": Scenario(_resync, _widening, _MEMBERS_ONLY),
    "uninstall": Scenario(_uninstall, _enrolled, _MEMBERS_ONLY),
}
