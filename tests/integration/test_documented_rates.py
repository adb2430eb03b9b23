"""A backfill of five thousand accounts at the documented rate of ListAccounts, in simulated time."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from chalicelib.bootstrap import Application
from tests.integration.organization import MANAGEMENT, REGION, SOURCE_PRINCIPAL
from tests.integration.stage import Context

ACCOUNTS, PAGE = 5_000, 20
RATE, BURST = 8, 12  # of ListAccounts, per second and at once ("Quotas and service limits for AWS Organizations")
LATENCY = 0.005  # far less than AWS's, so that the rate is the limit
CONFIGURATION = Path(__file__).parents[2] / ".chalice" / "config.json"

ENVIRON = {
    "STAGE": "large",
    "PARTITION": "aws",
    "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
    "SOURCE_PRINCIPAL_ARNS": SOURCE_PRINCIPAL,
    "QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{MANAGEMENT}/accounts",
    "DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:accounts-dlq",
    "PUBLISH_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{MANAGEMENT}/publish.fifo",
    "PUBLISH_DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:publish-dlq.fifo",
    "LEDGER_TABLE": "ledger",
    "SOURCE_POLICY_TABLE": "source-policy",
    "THREADS": "1",  # serial calls, so that their times add up
}


@dataclass
class ThrottledAws:
    """The operations of a backfill in simulated time, throttled as Organizations does."""

    now: float = 0.0
    tokens: float = BURST
    refilled_at: float = 0.0
    sent: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def respond(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        self.now += LATENCY
        operation = event_name.rpartition(".")[2]
        self.calls[operation] += 1
        body: Any = request.body
        status, content = getattr(self, operation)(json.loads(body))
        raw: Any = Raw(json.dumps(content).encode())
        return AWSResponse(request.url, status, HTTPHeaders(), raw)

    def ListAccounts(self, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802 - the operation's name
        self.tokens = min(BURST, self.tokens + (self.now - self.refilled_at) * RATE)
        self.refilled_at = self.now
        if self.tokens < 1:
            self.throttled += 1
            return 400, {"__type": "TooManyRequestsException", "Message": "slow down"}
        self.tokens -= 1
        first = int(params.get("NextToken", "0"))
        accounts = [
            {"Id": f"{number:012}", "Name": f"Account {number}", "State": "ACTIVE", "JoinedTimestamp": 1.5e9}
            for number in range(first + 1, first + PAGE + 1)
        ]
        following = {"NextToken": str(first + PAGE)} if first + PAGE < ACCOUNTS else {}
        return 200, {"Accounts": accounts, **following}

    def SendMessageBatch(self, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802
        entries = params["Entries"]
        self.sent += [json.loads(entry["MessageBody"])["account_id"] for entry in entries]
        successful = [{"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": ""} for entry in entries]
        return 200, {"Successful": successful, "Failed": []}

    def SendMessage(self, _: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802
        return 200, {"MessageId": "publish", "MD5OfMessageBody": ""}

    def BatchGetItem(self, _: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802
        return 200, {"Responses": {}, "UnprocessedKeys": {}}

    def Scan(self, _: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802
        return 200, {"Items": []}


class Raw(io.BytesIO):
    """A response's body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def test_five_thousand_accounts_are_enqueued_within_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's retries take about as long as the rate allows."""
    timeout = json.loads(CONFIGURATION.read_text())["lambda_functions"]["backfill"]["lambda_timeout"]
    aws = ThrottledAws()
    # botocore waits between its attempts.
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=aws.sleep))
    core = botocore.session.Session()
    handler: Any = aws.respond
    core.register("before-send", handler)
    session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name=REGION, botocore_session=core)

    response = Application(ENVIRON, session).backfill({}, Context(timeout))

    assert response["counts"]["sent"] == ACCOUNTS
    assert aws.sent == [f"{number:012}" for number in range(1, ACCOUNTS + 1)]
    assert aws.calls["ListAccounts"] == ACCOUNTS // PAGE + aws.throttled
    assert aws.throttled > 0
    shortest = (ACCOUNTS / PAGE - BURST) / RATE
    assert shortest <= aws.now < 2 * shortest < timeout
