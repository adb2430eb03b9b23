"""Scenarios of accounts that join, change, leave and are retired."""

from collections.abc import Mapping

from tests.integration.simulation import steps
from tests.integration.simulation.environment import POLICIES, member_role_arn, tag_event
from tests.integration.simulation.iam import EMPTY_DOCUMENT, Role
from tests.integration.simulation.scenario import FIRST, MEMBERS_ONLY, ORGANIZATION, SECOND, THIRD, Scenario
from tests.integration.simulation.simulated_stage import SimulatedStage


def _drifted_roles(stage: SimulatedStage) -> None:
    steps.enrolled(stage)
    stage.cloud.iam.change(
        member_role_arn(FIRST),
        trust=EMPTY_DOCUMENT,
        max_session=7200,
        boundary="arn:aws:iam::aws:policy/ViewOnlyAccess",
        attached=frozenset({"arn:aws:iam::aws:policy/SecurityAudit"}),
        inline=frozenset({("Theirs", "{}")}),
    )
    stage.cloud.iam.put(member_role_arn(SECOND), None)


def _close_and_leave(stage: SimulatedStage) -> None:
    stage.cloud.members.change(FIRST, state="CLOSED")
    stage.cloud.members.leave(SECOND)
    steps.handle_events(FIRST, SECOND)(stage)


def _retired(stage: SimulatedStage) -> None:
    steps.enrolled(stage)
    steps.retire(stage)


def _role_by_hand(stage: SimulatedStage) -> None:
    """Give an account the role that the guide creates."""
    arn = member_role_arn(FIRST)
    stage.cloud.iam.put(arn, Role(arn, attached=frozenset({"arn:aws:iam::aws:policy/SecurityAudit"})))


def _role_by_stack(stage: SimulatedStage) -> None:
    _role_by_hand(stage)
    stage.cloud.iam.change(member_role_arn(FIRST), stack="StackSet-readers")


def _rejected_then_given_up(stage: SimulatedStage) -> None:
    """Reject a role that a stack contains, and adopt it once the stack has given it up."""
    before = stage.cloud.iam.role(member_role_arn(FIRST))
    stage.cloud.join(FIRST)
    steps.handle_events(FIRST)(stage)
    assert stage.cloud.iam.role(member_role_arn(FIRST)) == before
    stage.cloud.iam.change(member_role_arn(FIRST), stack=None)
    allow_and_rerun(stage)
    steps.require_granted(stage, FIRST)


def _older_accounts(stage: SimulatedStage) -> None:
    for account_id in (FIRST, SECOND, THIRD):
        stage.cloud.join(account_id)
    stage.pause(10 * 86_400)


def _denied(stage: SimulatedStage) -> None:
    """Let an account fail with a terminal error."""
    stage.cloud.join(FIRST)
    stage.cloud.denied[FIRST] = ""
    stage.pause(86_400)
    steps.handle_events(FIRST)(stage)


def allow_and_rerun(stage: SimulatedStage) -> None:
    stage.cloud.denied.clear()
    steps.invoke("rerun", {})(stage)


def _other_settings(stage: SimulatedStage) -> None:
    steps.enrolled(stage)
    stage.settings = {
        **MEMBERS_ONLY,
        "EXTERNAL_ID": "shared-secret",
        "MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit",
        "MEMBER_ROLE_POLICIES": POLICIES,
        "DENY_DATA_READS_EXCEPT": "s3:GetObject",
        "EXCLUDE_ACCOUNT_IDS": SECOND,
    }


def _leave_and_return(stage: SimulatedStage) -> None:
    """Let an account leave and return with the same joining date."""
    members = stage.cloud.members.members
    member = members[FIRST]
    stage.cloud.members.leave(FIRST)
    steps.handle_events(FIRST)(stage)
    members[FIRST] = member
    steps.handle_events(FIRST)(stage)
    steps.require_granted(stage, FIRST)


def _include_unit_during_backfill(stage: SimulatedStage) -> None:
    """Deploy settings that name organizational units while messages with listings without units wait."""
    stage.cloud.members.returns_paths = False  # A listing with paths has the units, whatever the settings are.
    stage.cloud.join(FIRST, "ou-ab12-11111111")
    stage.request("backfill", {})
    stage.settings = {"INCLUDE_OU_IDS": "ou-ab12-11111111"}
    stage.drain()
    steps.require_granted(stage, FIRST)


def _tag_before_the_index(stage: SimulatedStage) -> None:
    """Enroll an account by a tag that the tagging API's index doesn't show."""
    stage.cloud.join(FIRST)
    stage.pause(1)
    stage.cloud.members.indexed_at = stage.cloud.now - 1
    stage.cloud.members.change(FIRST, env="prod")
    stage.request("on_account_event", tag_event(FIRST))
    stage.drain()
    stage.pause(86_400)


def _resync_by_the_index(stage: SimulatedStage) -> None:
    steps.resync(stage)
    steps.require_granted(stage, FIRST)


ACCOUNT_SCENARIOS: Mapping[str, Scenario] = {
    "new account": Scenario(steps.new_account),
    "unchanged": Scenario(steps.handle_events(FIRST), steps.enrolled),
    "drifted": Scenario(steps.resync, _drifted_roles, MEMBERS_ONLY),
    "closed and departed": Scenario(_close_and_leave, steps.enrolled),
    "scope organization": Scenario(_close_and_leave, steps.enrolled, ORGANIZATION),
    "retired by request": Scenario(steps.retire, steps.enrolled),
    "readmitted": Scenario(steps.invoke("backfill", {"accounts": [FIRST]}), _retired),
    "adopted": Scenario(steps.new_account, _role_by_hand, {"ADOPT_EXISTING_ROLES": "true"}),
    "in a stack": Scenario(_rejected_then_given_up, _role_by_stack, {"ADOPT_EXISTING_ROLES": "true"}),
    "backfill": Scenario(steps.invoke("backfill", {}), _older_accounts),
    "rerun": Scenario(allow_and_rerun, _denied),
    "settings changed": Scenario(steps.resync, _other_settings, MEMBERS_ONLY),
    "uninstall": Scenario(steps.uninstall, steps.enrolled, MEMBERS_ONLY),
    "departed and back": Scenario(_leave_and_return, steps.enrolled),
    "units named while a listing waits": Scenario(_include_unit_during_backfill),
    "index of tags behind": Scenario(_resync_by_the_index, _tag_before_the_index, {"INCLUDE_TAGS": "env=prod"}),
}
