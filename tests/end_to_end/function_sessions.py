"""The functions' roles, and sessions with their deployed policies."""

import json

from local.organization import Credentials, LocalOrganization, trust_policy
from tests.end_to_end.deployed_stage import DeployedStage

FUNCTION_CAPABILITIES = {
    "on_account_event": set[str](),
    "enroll": {"access roles", "member roles"},
    "publish": {"source policy"},
    "backfill": {"access roles"},
    "rerun": {"access roles"},
    "resync": {"access roles"},
    "retire": {"access roles"},
    "freeze": set[str](),
    "announce_outcome": set[str](),
}
"""Which functions may assume access roles, write member roles and write the source policy, the last exclusively.

With a separate source account, publish writes the source policy through an access role of that account, and no other.
"""

FUNCTIONS = tuple(FUNCTION_CAPABILITIES)


def role_name(stage: DeployedStage, function: str) -> str:
    """Return the name of a function's role."""
    functions = stage.organization.client("lambda")
    arn = functions.get_function_configuration(FunctionName=stage.function(function))["Role"]
    return str(arn).rpartition("/")[2]


def function_session(organization: LocalOrganization, stage: DeployedStage, function: str) -> Credentials:
    """Return credentials of a function's role, which trusts the account's root during this call."""
    iam, name = organization.client("iam"), role_name(stage, function)
    original = json.dumps(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
    opened = json.dumps(trust_policy(f"arn:aws:iam::{organization.management_account_id}:root"))
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=opened)
    try:
        return organization.assume(f"arn:aws:iam::{organization.management_account_id}:role/{name}")
    finally:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=original)
