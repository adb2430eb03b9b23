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

from benchmarks.deployment import ENVIRON, REGION, Context, batch
from benchmarks.stub.aws import Aws
from chalicelib.bootstrap import Application
from chalicelib.telemetry import metrics


class Raw(BytesIO):
    """A response's body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Worker:
    """The enroll function over the stub, without a network between them."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self._one_at_a_time = threading.Lock()
        session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name=REGION)
        # By one thread, so that the order of calls, and with it which of them are throttled, is always the same.
        self._application = Application({**ENVIRON, "THREADS": "1"}, session)

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        body: Any = request.body
        with self._one_at_a_time:
            answer = self.aws.answer(
                _bytes(request.headers.get("X-Amz-Target", "")), _bytes(request.headers["Authorization"]), _bytes(body)
            )
        raw: Any = Raw(answer.body)
        return AWSResponse(request.url, answer.status, HTTPHeaders(), raw)

    def enroll(self, account_ids: list[str], *, listed: bool = True) -> None:
        """Have a batch handled; all of it must be finished."""
        records = batch(account_ids, listed=listed)["Records"]
        assert self._application.enroll(records, Context()) == {"batchItemFailures": []}

    def calls_of(self, account_ids: list[str], *, listed: bool = True) -> dict[str, int]:
        """Count the calls that a batch makes."""
        before = self.aws.calls.copy()
        self.enroll(account_ids, listed=listed)
        return dict(self.aws.calls - before)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Aws], Worker]]:
    # botocore waits between its tries.
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    # A hundred of one metric are written out at once.
    monkeypatch.setattr(metrics.provider, "namespace", "Rolecall")
    current: list[Worker] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return current[-1].answer(request)

    def work(aws: Aws) -> Worker:
        current.append(Worker(aws))
        return current[-1]

    # The only way to the client that works in all accounts: its session is its own.
    BUILTIN_HANDLERS.append(("before-send", answer))
    yield work
    BUILTIN_HANDLERS.remove(("before-send", answer))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
