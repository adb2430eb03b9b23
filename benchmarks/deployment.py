"""The stage that the benchmarks measure: environment, events and invocation context."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

REGION = "us-east-1"
MANAGEMENT = "900000000000"
STAGE = "bench"
SOURCE_PRINCIPAL = f"arn:aws:iam::{MANAGEMENT}:role/Reader"
OWN_KEY = "AKIAROLECALLBENCH000"

ENVIRON = {
    "STAGE": STAGE,
    "PARTITION": "aws",
    "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
    "SOURCE_PRINCIPAL_ARNS": SOURCE_PRINCIPAL,
    "QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{MANAGEMENT}/rolecall-{STAGE}-accounts",
    "DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:rolecall-{STAGE}-accounts-dlq",
    "PUBLISH_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{MANAGEMENT}/rolecall-{STAGE}-publish.fifo",
    "PUBLISH_DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:rolecall-{STAGE}-publish-dlq.fifo",
    "PUBLISH_FUNCTION": f"rolecall-{STAGE}-publish",
    "LEDGER_TABLE": f"rolecall-{STAGE}-ledger",
    "SOURCE_POLICY_TABLE": f"rolecall-{STAGE}-source-policy",
    "POWERTOOLS_SERVICE_NAME": f"rolecall-{STAGE}",
    "POWERTOOLS_METRICS_NAMESPACE": "Rolecall",
}
"""The variables that the template sets; optional settings have their defaults."""


def aws_environ(endpoint: str) -> dict[str, str]:
    """Return the variables that configure boto3's endpoint, region and credentials."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": OWN_KEY,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


@dataclass(frozen=True)
class Context:
    """The invocation context that Lambda passes to a function."""

    seconds: float = 600.0
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    function_name: str = f"rolecall-{STAGE}-enroll"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{MANAGEMENT}:function:rolecall-{STAGE}-enroll"

    def get_remaining_time_in_millis(self) -> int:
        """Return the remaining time in milliseconds."""
        return int(self.seconds * 1000)


def batch(
    account_ids: Iterable[str], *, listed: bool = True, tags: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """Return the event of a batch of the accounts queue; `listed` messages come from a sweep, with the listed account."""
    now = datetime.now(UTC)
    account: dict[str, Any] = {"name": "Account", "state": "ACTIVE", "ou_ids": [], "tags": tags}
    account["joined_at"] = "2024-01-01T00:00:00+00:00"
    listing = {"account": account, "listed_at": now.isoformat()} if listed else {}
    bodies = {
        account_id: json.dumps({"account_id": account_id, "trigger": "backfill", **listing}, separators=(",", ":"))
        for account_id in account_ids
    }
    return {"Records": [_record(f"rolecall-{STAGE}-accounts", each, body, now) for each, body in bodies.items()]}


def publish_event() -> dict[str, Any]:
    """Return the event of one message of the publish queue."""
    return {"Records": [_record(f"rolecall-{STAGE}-publish.fifo", "publish", "{}", datetime.now(UTC))]}


def _record(queue: str, message_id: str, body: str, sent: datetime) -> dict[str, Any]:
    return {
        "messageId": f"message-{message_id}",
        "receiptHandle": f"handle-{message_id}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(sent.timestamp() * 1000))},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:{queue}",
        "awsRegion": REGION,
    }
