import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.handlers import BUILTIN_HANDLERS

from benchmarks.deployment import ENVIRON, REGION, Context, batch, publish_event
from benchmarks.stub.aws import Aws
from benchmarks.stub.role_states import RoleState
from benchmarks.stub.rows import ledger_rows
from chalicelib.bootstrap import Application
from chalicelib.telemetry import metrics


class Raw(BytesIO):
    """A response's body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Stage:
    """The enroll and publish functions over the stub, without a network between them, after a first run of publish."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self._one_at_a_time = threading.Lock()
        session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name=REGION)
        # By one thread, so that the order of calls, and with it which of them are throttled, is always the same.
        self._application = Application({**ENVIRON, "THREADS": "1"}, session)

    def deploy(self) -> None:
        self.calls_of_deploying = self.calls_of_publish()

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        body: Any = request.body
        with self._one_at_a_time:
            answer = self.aws.handle(
                _bytes(request.headers.get("X-Amz-Target", "")), _bytes(request.headers["Authorization"]), _bytes(body)
            )
        raw: Any = Raw(answer.body)
        return AWSResponse(request.url, answer.status, HTTPHeaders(), raw)

    def enroll(self, account_ids: list[str], *, listed: bool = True) -> None:
        """Have a batch handled; all of it must be finished."""
        records = batch(account_ids, listed=listed)["Records"]
        assert self._application.enroll(records, Context()) == {"batchItemFailures": []}

    def publish(self) -> bool:
        """Run publish once, and return whether it finished."""
        return self._application.publish(publish_event()["Records"], Context()) == {"batchItemFailures": []}

    def put_rows(self, kind: RoleState, number: int) -> None:
        """Put rows of accounts that were enrolled, and not published."""
        self.aws.tables.put(*ledger_rows(kind, range(number), in_force=False))

    def calls_of_enroll(self, account_ids: list[str], *, listed: bool = True) -> dict[str, int]:
        """Count the calls of a batch."""
        before = self.aws.calls.copy()
        self.enroll(account_ids, listed=listed)
        return dict(self.aws.calls - before)

    def calls_of_publish(self) -> dict[str, int]:
        """Count the calls of a run of publish, which must finish."""
        before = self.aws.calls.copy()
        assert self.publish()
        return dict(self.aws.calls - before)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Aws], Stage]]:
    # botocore waits between its tries.
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    # A hundred of one metric are written out at once.
    monkeypatch.setattr(metrics.provider, "namespace", "Rolecall")
    current: list[Stage] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return current[-1].answer(request)

    def deploy(aws: Aws) -> Stage:
        current.append(Stage(aws))
        current[-1].deploy()
        return current[-1]

    # The only way to the client that works in all accounts: its session is its own.
    BUILTIN_HANDLERS.append(("before-send", answer))
    yield deploy
    BUILTIN_HANDLERS.remove(("before-send", answer))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
