from collections.abc import Callable, Iterator, Mapping
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
from chalicelib.bootstrap import Application
from chalicelib.telemetry import metrics


class Raw(BytesIO):
    """A response's body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def respond(aws: Aws, request: AWSPreparedRequest) -> AWSResponse:
    """Return the stub's response to a request, without a network."""
    target, authorization, body = (
        request.headers.get("X-Amz-Target", ""),
        request.headers["Authorization"],
        request.body,
    )
    response = aws.handle(_bytes(target), _bytes(authorization), _bytes(body))
    raw: Any = Raw(response.body)
    return AWSResponse(request.url, response.status, HTTPHeaders(), raw)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


class StubbedStage:
    """The enroll and publish functions over the stub, after a first run of publish."""

    def __init__(self, aws: Aws, settings: Mapping[str, str]) -> None:
        self.aws = aws
        session = boto3.Session("AKIAXXXXXXXXXXXXXXXX", "secret", region_name=REGION)
        # One thread, so that the order of calls, and which of them are throttled, is always the same.
        self._application = Application({**ENVIRON, "THREADS": "1", **settings}, session)

    def enroll(
        self, account_ids: list[str], *, listed: bool = True, tags: Mapping[str, str | None] | None = None
    ) -> dict[str, int]:
        """Handle a batch, which must be finished, and return the number of its calls."""
        before = self.aws.calls.copy()
        records = batch(account_ids, listed=listed, tags=tags)["Records"]
        assert self._application.enroll(records, Context()) == {"batchItemFailures": []}
        return dict(self.aws.calls - before)

    def sweep(self, function: str) -> dict[str, int]:
        """Run a backfill or resync, and return the number of its calls."""
        before = self.aws.calls.copy()
        getattr(self._application, function)({}, Context())
        return dict(self.aws.calls - before)

    def try_publish(self) -> bool:
        """Run publish once, and return whether it finished."""
        return self._application.publish(publish_event()["Records"], Context()) == {"batchItemFailures": []}

    def publish(self) -> dict[str, int]:
        """Run publish, which must finish, and return the number of its calls."""
        before = self.aws.calls.copy()
        assert self.try_publish()
        return dict(self.aws.calls - before)


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StubbedStage]]:
    # botocore waits between its tries.
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    # A hundred values of one metric are written out at once.
    monkeypatch.setattr(metrics.provider, "namespace", "Rolecall")
    current: list[Aws] = []

    def handle(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return respond(current[-1], request)

    def deployed(aws: Aws, **settings: str) -> StubbedStage:
        current.append(aws)
        return StubbedStage(aws, settings)

    # No other hook reaches the client that works in all accounts, which has a session of its own.
    BUILTIN_HANDLERS.append(("before-send", handle))
    yield deployed
    BUILTIN_HANDLERS.remove(("before-send", handle))
