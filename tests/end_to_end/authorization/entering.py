"""The model of entering accounts: which functions may assume which roles there, from the settings of a stage.

It evaluates no policy and imports nothing of Rolecall.
"""

from collections.abc import Mapping

from tests.end_to_end.function_sessions import FUNCTION_CAPABILITIES

ADMINISTRATORS = ("OrganizationAccountAccessRole", "AWSControlTowerExecution")
"""The roles of administrators that AWS creates in accounts, which trust the management account."""

ACCESS_ROLE_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "defaults": {},
    "StackSet first": {"AccessRoleStackSet": "true"},
    "StackSet alone": {"AccessRoleStackSet": "true", "AccessRoleNames": ""},
}


def stack_set_role(stage: str) -> str:
    """Return the name of the role that the stage's StackSet creates."""
    return f"rolecall-{stage}-access"


def may_enter(function: str, role: str, stage: str, settings: Mapping[str, str]) -> bool:
    """Whether a function of a stage may assume a role in a member account."""
    names = settings.get("AccessRoleNames", ",".join(ADMINISTRATORS)).split(",")
    if settings.get("AccessRoleStackSet") == "true":
        names.append(stack_set_role(stage))
    return "access roles" in FUNCTION_CAPABILITIES[function] and role in names
