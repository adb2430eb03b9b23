"""The environment of a simulated stage's functions, and the events and context that Lambda passes to them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from chalicelib.checked_settings import checked_settings
from chalicelib.settings import Settings
from tests.integration.simulation.cloud import SOURCE_POLICY, source_principal
from tests.integration.simulation.members import IDS, MANAGEMENT

LONGEST_TIMEOUT_SECONDS = 900.0
_TIMEOUT_SECONDS = {
    "on_account_event": 30.0,
    "enroll": 600.0,
    "publish": 120.0,
    "freeze": 60.0,
    "announce_outcome": 60.0,
}

MEMBER_ROLE = "CrossAccountReadOnlyRole"
POLICIES = json.dumps(
    {
        name: {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": effect,
                "Action": "macie2:Get*",
                "Resource": "*",
                "Condition": {
                    "StringEquals": {"aws:ResourceOrgID": "{organization_id}", "aws:ResourceAccount": "{account_id}"}
                },
            },
        }
        for name, effect in (("Allowing", "Allow"), ("Denying", "Deny"))
    }
)
"""The operator's inline policies of the member role."""

SETTINGS: tuple[dict[str, str], ...] = (
    {},
    {"EXTERNAL_ID": "shared-secret"},
    {"MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit", "MEMBER_ROLE_MAX_SESSION": "7200"},
    {"EXCLUDE_OU_IDS": "ou-ab12-11111111"},
    {"INCLUDE_OU_IDS": "ou-ab12-11111111,ou-ab12-22222222", "MAX_RETIRED_PERCENT": "100"},
    {"EXCLUDE_ACCOUNT_IDS": IDS[1], "MAX_RETIRED_PERCENT": "100"},
    {"INCLUDE_TAGS": "env=prod", "MAX_RETIRED_PERCENT": "100"},
    {"EXCLUDE_TAGS": "env=dev", "MAX_RETIRED_PERCENT": "100"},
    {"ADOPT_EXISTING_ROLES": "true", "DENY_DATA_READS": "false", "MEMBER_ROLE_POLICIES": POLICIES},
    {"PERMISSIONS_BOUNDARY_ARN": "arn:aws:iam::aws:policy/ViewOnlyAccess", "INCLUDE_MANAGEMENT_ACCOUNT": "false"},
)
"""Settings that a random run may deploy."""
BROKEN_POLICIES = {"MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit,arn:aws:iam::aws:policy/Missing"}
ROLE_SETTINGS: tuple[dict[str, str], ...] = (*SETTINGS[:3], BROKEN_POLICIES)
"""Settings of the member role, which a random run with waves deploys also."""


def environ(**settings: str) -> dict[str, str]:
    """Return the environment variables of a stage's functions."""
    return {
        "STAGE": "simulation",
        "PARTITION": "aws",
        "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
        "SOURCE_PRINCIPAL_ARNS": source_principal(),
        "QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{MANAGEMENT}/accounts",
        "DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:us-east-1:{MANAGEMENT}:accounts-dlq",
        "PUBLISH_QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{MANAGEMENT}/publish.fifo",
        "PUBLISH_DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:us-east-1:{MANAGEMENT}:publish-dlq.fifo",
        "PUBLISH_FUNCTION": "publish",
        "LEDGER_TABLE": "ledger",
        "SOURCE_POLICY_TABLE": "source-policy",
        "EVENT_BUS_NAME": "default",
        "THREADS": "1",
        **settings,
    }


def settings_of(variables: dict[str, str]) -> Settings:
    """Return the settings of an environment, parsed once for each."""
    return _settings(tuple(sorted(variables.items())))


@cache
def _settings(variables: tuple[tuple[str, str], ...]) -> Settings:
    return checked_settings(dict(variables))


@dataclass(frozen=True)
class LambdaContext:
    """The part of Lambda's context object that the functions use."""

    aws_request_id: str
    remaining_seconds: Callable[[], float]

    def get_remaining_time_in_millis(self) -> int:
        return int(self.remaining_seconds() * 1000)


def timeout_seconds(function: str) -> float:
    return _TIMEOUT_SECONDS.get(function, LONGEST_TIMEOUT_SECONDS)


def describe(function: str, payload: Any) -> str:
    """Return a payload as a trace shows it."""
    if function == "announce_outcome":
        return f"{len(payload)} records"
    return str([each["body"] for each in payload] if function in {"enroll", "publish"} else payload)


def event(account_id: str) -> dict[str, Any]:
    """Return an event that names an account."""
    status = {"state": "SUCCEEDED", "accountId": account_id}
    detail = {"eventName": "CreateAccountResult", "serviceEventDetails": {"createAccountStatus": status}}
    return {"source": "aws.organizations", "account": MANAGEMENT, "detail": detail}


def tag_event(account_id: str) -> dict[str, Any]:
    """Return the event of a tag that was set or removed."""
    request = {"resourceId": account_id, "tagKeys": ["env"]}
    detail = {"eventName": "UntagResource", "requestParameters": request}
    return {"source": "aws.organizations", "account": MANAGEMENT, "detail": detail}


def member_role_arn(account_id: str) -> str:
    return f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}"


def source_policy_arn(source_account: str = MANAGEMENT) -> str:
    return f"arn:aws:iam::{source_account}:policy/{SOURCE_POLICY}"
