"""Applications whose every boto3 call, clock and pause reaches a simulated backend.

A call is answered before botocore would sign and send it, so its own retries don't happen: a simulated error counts as one that
has outlasted them. A retry that takes effect twice is a fault of its own (`repeated`).
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, redirect_stdout
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.validate import ParamValidator

from chalicelib import bootstrap
from chalicelib.aws.sessions import account_client
from chalicelib.bootstrap import Application
from chalicelib.errors import RolecallError
from chalicelib.telemetry import logger, metrics
from tests.integration.simulation.calls import Call, InvariantError
from tests.integration.simulation.cloud import OWN_KEY

T = TypeVar("T")
REGION = "us-east-1"


class Backend(Protocol):
    """What the application's calls, clocks and pauses reach."""

    def call(self, call: Call) -> dict[str, Any]:
        """Return the response to a call, or raise what botocore would."""

    def clock(self) -> float:
        """Return the time by the caller's clock."""

    def pause(self, seconds: float) -> None:
        """Advance the time."""


class SequentialExecutor(Executor):
    """A pool without threads, so that the seed alone decides the order of calls."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*args, **kwargs))
        return future


class UnexpectedErrors(logging.Handler):
    """Fails on a logged exception of an unexpected class: a bug of the application, or of this simulation."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, ClientError | BotoCoreError | RolecallError):
            invariant = f"no unexpected error is raised, as {error!r}"
            raise InvariantError(invariant)


class _SharedSession(boto3.Session):
    """Creates each client once: they have no state, and creating them takes longer than a whole simulation."""

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}

    def client(self, service_name: str, *_: Any, **options: Any) -> Any:
        create = super().client
        return self._once(service_name, lambda: create(service_name, **options))  # type: ignore[call-overload]

    def account_client(self, service_name: str, config: Any, region: str | None = None) -> Any:
        key = f"{service_name} in accounts {region}"
        return self._once(key, lambda: account_client(self, service_name, config, region))

    def get_available_regions(self, *_: Any, **__: Any) -> list[str]:
        """Return one region, so that a denial there leaves it unknown which stack contains a role."""
        return [REGION]

    def _once(self, key: str, create: Callable[[], Any]) -> Any:
        if key not in self._clients:
            self._clients[key] = create()
        return self._clients[key]


class Harness:
    """Builds applications whose calls reach the current backend."""

    backend: Backend

    def __init__(self) -> None:
        self._applications: dict[str, Application] = {}

    def application(self, environ: dict[str, str]) -> Application:
        """Return the application of an environment, the same one again, as in a warm function."""
        key = repr(sorted(environ.items()))
        if key not in self._applications:
            self._applications[key] = Application(
                environ, _session(), clock=self._clock, pause=self._pause, pool=lambda _: SequentialExecutor()
            )
        return self._applications[key]

    def announcer(self, environ: dict[str, str]) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return what announces a batch of the ledger's stream."""
        return bootstrap.announcing(environ, _session())

    def start(self, backend: Backend) -> None:
        """Switch to another backend, whose functions start cold."""
        self.backend = backend
        self._applications.clear()

    def _clock(self) -> float:
        return self.backend.clock()

    def _pause(self, seconds: float) -> None:
        self.backend.pause(seconds)


_harnesses: list[Harness] = []  # the last one is in use


@cache
def _session() -> _SharedSession:
    return _SharedSession(OWN_KEY, "secret", region_name=REGION)


_validator = ParamValidator()


def _respond(client: Any, operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a call whose parameters are valid, in place of `BaseClient._make_api_call`.

    Requests are not serialized, which would take half of the time.
    """
    service, model = client.meta.service_model, client.meta.service_model.operation_model(operation)
    if model.input_shape is not None:
        report = _validator.validate(params, model.input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())
    key = client._request_signer._credentials.get_frozen_credentials().access_key
    response = _harnesses[-1].backend.call(Call(f"{service.service_name}:{operation}", params, key))
    # Its handlers decode IAM's documents.
    event = f"after-call.{service.service_id.hyphenize()}.{operation}"
    client.meta.events.emit(event, http_response=None, parsed=response, model=model, context={})
    return response


@contextmanager
def simulated() -> Iterator[Harness]:
    """Yield a harness that handles the calls of its applications, without their logs and metrics."""
    harness = Harness()
    _harnesses.append(harness)
    log_handlers, level = logger.handlers[:], logging.root.manager.disable
    logger.handlers[:] = [UnexpectedErrors()]
    logging.disable(logging.WARNING)
    try:
        with Path(os.devnull).open("w") as sink, redirect_stdout(sink), pytest.MonkeyPatch.context() as patch:
            patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Rolecall")
            patch.setattr(BaseClient, "_make_api_call", _respond)
            patch.setattr(bootstrap, "account_client", _SharedSession.account_client)
            yield harness
    finally:
        metrics.clear_metrics()
        logger.handlers[:] = log_handlers
        logging.disable(level)
        _harnesses.pop()
