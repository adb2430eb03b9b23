"""The functions' own roles, and sessions under the policies that were deployed."""

import json

from local.organization import Credentials, LocalOrganization, trusting
from tests.end_to_end.deployed_stage import Stage

HELD = {
    "on_account_event": set[str](),
    "enroll": {"access roles", "member roles"},
    "publish": {"source policy"},
    "backfill": {"access roles"},
    "rerun": {"access roles"},
    "resync": {"access roles"},
    "retire": {"access roles"},
    "freeze": set[str](),
}
"""Who may assume access roles, write member roles and write the source policy: no function may do the last and another.

Where the source account is another one, publish reaches the source policy by an access role of that account, and of no other.
"""

FUNCTIONS = tuple(HELD)


def role_name(stage: Stage, function: str) -> str:
    """Return the name of a function's role."""
    functions = stage.organization.client("lambda")
    arn = functions.get_function_configuration(FunctionName=stage.function(function))["Role"]
    return str(arn).rpartition("/")[2]


def session_of(organization: LocalOrganization, stage: Stage, function: str) -> Credentials:
    """Return a function's own credentials: its role trusts the account's root for as long as this takes."""
    iam, name = organization.client("iam"), role_name(stage, function)
    before = json.dumps(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
    opened = json.dumps(trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=opened)
    try:
        return organization.assume(f"arn:aws:iam::{organization.management_account_id}:role/{name}")
    finally:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=before)
