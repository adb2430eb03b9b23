"""The settings that simulated stages are deployed with, and what Lambda and EventBridge hand to the functions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from chalicelib.bootstrap import checked_settings
from chalicelib.settings import Settings
from tests.integration.simulation.cloud import SOURCE_POLICY, reader
from tests.integration.simulation.members import MANAGEMENT

TIMEOUTS = {"on_account_event": 30.0, "enroll": 600.0, "publish": 120.0, "freeze": 60.0}
TIMEOUT = 900.0

MEMBER_ROLE = "CrossAccountReadOnlyRole"


def environ(**settings: str) -> dict[str, str]:
    """Make the environment of every function of a stage."""
    return {
        "STAGE": "simulation",
        "PARTITION": "aws",
        "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
        "SOURCE_PRINCIPAL_ARNS": reader(),
        "QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{MANAGEMENT}/accounts",
        "DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:us-east-1:{MANAGEMENT}:accounts-dlq",
        "PUBLISH_QUEUE_URL": f"https://sqs.us-east-1.amazonaws.com/{MANAGEMENT}/publish.fifo",
        "PUBLISH_DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:us-east-1:{MANAGEMENT}:publish-dlq.fifo",
        "PUBLISH_FUNCTION": "publish",
        "LEDGER_TABLE": "ledger",
        "SOURCE_POLICY_TABLE": "source-policy",
        "THREADS": "1",
        **settings,
    }


def settings_of(stage: dict[str, str]) -> Settings:
    """Read a stage's settings, once for each."""
    return _settings(tuple(sorted(stage.items())))


@cache
def _settings(stage: tuple[tuple[str, str], ...]) -> Settings:
    return checked_settings(dict(stage))


@dataclass(frozen=True)
class Context:
    """What Lambda tells a function about its invocation."""

    aws_request_id: str
    remaining: Callable[[], float]

    def get_remaining_time_in_millis(self) -> int:
        return int(self.remaining() * 1000)


def event(account_id: str) -> dict[str, Any]:
    """Make the event that names an account; what it is about is found out by looking."""
    status = {"state": "SUCCEEDED", "accountId": account_id}
    detail = {"eventName": "CreateAccountResult", "serviceEventDetails": {"createAccountStatus": status}}
    return {"source": "aws.organizations", "account": MANAGEMENT, "detail": detail}


def member_role_arn(account_id: str) -> str:
    return f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}"


def source_policy_arn(source_account: str = MANAGEMENT) -> str:
    return f"arn:aws:iam::{source_account}:policy/{SOURCE_POLICY}"
