"""A backfill of five thousand accounts, over answers that come no faster than AWS documents, in the time of botocore's own waits."""

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
from tests.integration.organization import MANAGEMENT, READER, REGION
from tests.integration.stage import Context

ACCOUNTS, PAGE = 5_000, 20
RATE, BURST = 8, 12  # of ListAccounts, a second and at once ("Quotas and service limits for AWS Organizations")
LATENCY = 0.005  # far less than AWS's, so that the rate is what binds
CONFIGURATION = Path(__file__).parents[2] / ".chalice" / "config.json"

ENVIRON = {
    "STAGE": "large",
    "PARTITION": "aws",
    "MANAGEMENT_ACCOUNT_ID": MANAGEMENT,
    "SOURCE_PRINCIPAL_ARNS": READER,
    "QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{MANAGEMENT}/accounts",
    "DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:accounts-dlq",
    "PUBLISH_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{MANAGEMENT}/publish.fifo",
    "PUBLISH_DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{MANAGEMENT}:publish-dlq.fifo",
    "LEDGER_TABLE": "ledger",
    "SOURCE_POLICY_TABLE": "source-policy",
    "THREADS": "1",  # so that one call comes after the other, each in its own time
}


@dataclass
class Slow:
    """AWS, as far as a backfill calls it, at a time of its own; it throttles as Organizations does."""

    now: float = 0.0
    tokens: float = BURST
    refilled_at: float = 0.0
    sent: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def answer(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        self.now += LATENCY
        operation = event_name.rpartition(".")[2]
        self.calls[operation] += 1
        body: Any = request.body
        status, content = getattr(self, operation)(json.loads(body))
        raw: Any = Raw(json.dumps(content).encode())
        return AWSResponse(request.url, status, HTTPHeaders(), raw)

    def ListAccounts(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802 - the operation's name
        self.tokens = min(BURST, self.tokens + (self.now - self.refilled_at) * RATE)
        self.refilled_at = self.now
        if self.tokens < 1:
            self.throttled += 1
            return 400, {"__type": "TooManyRequestsException", "Message": "slow down"}
        self.tokens -= 1
        first = int(asked.get("NextToken", "0"))
        accounts = [
            {"Id": f"{number:012}", "Name": f"Account {number}", "State": "ACTIVE", "JoinedTimestamp": 1.5e9}
            for number in range(first + 1, first + PAGE + 1)
        ]
        following = {"NextToken": str(first + PAGE)} if first + PAGE < ACCOUNTS else {}
        return 200, {"Accounts": accounts, **following}

    def SendMessageBatch(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:  # noqa: N802
        entries = asked["Entries"]
        self.sent += [json.loads(entry["MessageBody"])["account_id"] for entry in entries]
        taken = [{"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": ""} for entry in entries]
        return 200, {"Successful": taken, "Failed": []}

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


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    # The waits between botocore's tries pass in that time, too.
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=slow.pass_time))
    return slow


def test_five_thousand_accounts_are_queued_within_the_functions_time_at_the_rate_that_organizations_allows(
    slow: Slow,
) -> None:
    seconds = json.loads(CONFIGURATION.read_text())["lambda_functions"]["backfill"]["lambda_timeout"]
    core = botocore.session.Session()
    handler: Any = slow.answer
    core.register("before-send", handler)
    session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name=REGION, botocore_session=core)

    answer = Application(ENVIRON, session).backfill({}, Context(seconds))

    assert answer["counts"]["sent"] == ACCOUNTS
    assert slow.sent == [f"{number:012}" for number in range(1, ACCOUNTS + 1)]
    assert slow.calls["ListAccounts"] == ACCOUNTS // PAGE + slow.throttled
    # Throttled and tried again by botocore alone, it takes about the time that the rate allows.
    assert slow.throttled > 0
    floor = (ACCOUNTS / PAGE - BURST) / RATE
    assert floor <= slow.now < 2 * floor < seconds
