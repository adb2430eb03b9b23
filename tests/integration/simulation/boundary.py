"""botocore's boundary: the real application's every call is answered here by what is simulated.

botocore asks `before-call` before it signs and sends, so its own retries don't happen: an error that is given here has outlasted
them. What they may do by themselves, a call that takes effect twice, is a fault of its own.
"""

import io
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, redirect_stdout
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import BUILTIN_HANDLERS
from botocore.regions import EndpointRulesetResolver
from botocore.useragent import UserAgentString

from chalicelib.aws.sessions import account_client
from chalicelib.bootstrap import Application
from chalicelib.errors import RolecallError
from chalicelib.telemetry import logger, metrics
from tests.integration.simulation.answers import Call, RuleBrokenError
from tests.integration.simulation.cloud import OWN_KEY

T = TypeVar("T")
REGION = "us-east-1"


class Machine(Protocol):
    """What the application's calls, clocks and pauses reach."""

    def call(self, call: Call) -> dict[str, Any]:
        """Answer a call, or raise what botocore would."""

    def clock(self) -> float:
        """Tell the time as whoever asks believes it to be."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""


class InTurn(Executor):
    """A pool without threads: what is simulated happens in an order that the seed decides."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*args, **kwargs))
        return future


class Unforeseen(logging.Handler):
    """Makes a broken rule of an exception that the application caught without knowing it: a bug of its own, or of this simulation."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, ClientError | BotoCoreError | RolecallError):
            rule = f"nothing unforeseen is raised, as {error!r}"
            raise RuleBrokenError(rule)


class _SharedSession(boto3.Session):
    """Makes each client once: they hold no state, and making them takes longer than a whole simulation."""

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    def for_accounts(self, service_name: str, config: Any) -> Any:
        """Make the client that acts in whichever account has been entered, once, too."""
        key = f"{service_name} for accounts"
        if key not in self._made:
            self._made[key] = account_client(self, service_name, config)
        return self._made[key]

    def client(self, service_name: str, *_: Any, **given: Any) -> Any:
        if service_name not in self._made:
            self._made[service_name] = super().client(service_name, **given)  # type: ignore[call-overload]
        return self._made[service_name]

    def resource(self, service_name: str, *_: Any, **given: Any) -> Any:
        if service_name not in self._made:
            self._made[service_name] = super().resource(service_name, **given)  # type: ignore[call-overload]
        return self._made[service_name]


class Warm(Application):
    """An application whose clients are all the process's."""

    _session: _SharedSession

    @cached_property
    def _iam(self) -> Any:
        return self._session.for_accounts("iam", self._config)

    @cached_property
    def _source_iam(self) -> Any:
        return self._session.for_accounts("iam", self._config)


class Boundary:
    """Makes applications whose calls all reach the machine in force."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self.printed = io.StringIO()
        self._applications: dict[tuple[type[Application], str], Application] = {}

    def application(self, environ: dict[str, str], kind: type[Application] = Warm) -> Application:
        """Put an application together, or take the one of the same environment, as a warm function is."""
        key = (kind, repr(sorted(environ.items())))
        if key not in self._applications:
            self._applications[key] = kind(environ, _session(), clock=self._clock, pause=self._pause, pool=_in_turn)
        return self._applications[key]

    def start(self, machine: Machine) -> None:
        """Put another machine in force, whose functions have yet to start: they know nothing of an earlier one's answers."""
        self.machine = machine
        self._applications.clear()

    def _clock(self) -> float:
        return self._in_force.clock()

    def _pause(self, seconds: float) -> None:
        self._in_force.pause(seconds)

    @property
    def _in_force(self) -> Machine:
        if self.machine is None:
            message = "nothing is simulated just now"
            raise RuntimeError(message)
        return self.machine

    def answer(self, call: Call) -> dict[str, Any]:
        return self._in_force.call(call)


_boundaries: list[Boundary] = []  # the one in force is the last


@cache
def _session() -> _SharedSession:
    return _SharedSession(OWN_KEY, "secret", region_name=REGION)


def _on_params(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # botocore and boto3 go on to change this very object, up to what is sent.
    context["simulated"] = params


def _on_call(model: Any, request_signer: Any, context: dict[str, Any], **_: Any) -> Any:
    operation = f"{model.service_model.service_name}:{model.name}"
    key = request_signer._credentials.get_frozen_credentials().access_key
    return SimpleNamespace(status_code=200), _boundaries[-1].answer(Call(operation, context["simulated"], key))


def _in_turn(_: int) -> InTurn:
    return InTurn()


def _once_a_service(construct: Callable[..., Any]) -> Callable[..., Any]:
    found: dict[str, Any] = {}

    def once(resolver: Any, operation_model: Any, **given: Any) -> Any:
        service = operation_model.service_model.service_name
        if service not in found:
            found[service] = construct(resolver, operation_model, **given)
        return found[service]

    return once


@contextmanager
def simulated() -> Iterator[Boundary]:
    """Answer the clients of the applications that are made here, and keep logs and metrics out of the way."""
    boundary = Boundary()
    _boundaries.append(boundary)
    handlers = [("before-parameter-build", _on_params), ("before-call", _on_call)]
    BUILTIN_HANDLERS.extend(handlers)
    log, level = logger.handlers[:], logging.root.manager.disable
    logger.handlers[:] = [Unforeseen()]
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
            patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Rolecall")
            # botocore writes it anew for every call, in a quarter of the time; nobody reads it here.
            patch.setattr(UserAgentString, "to_string", lambda _: "rolecall")
            # So does it find out where to send every call, in a seventh of the time.
            endpoint = EndpointRulesetResolver.construct_endpoint
            patch.setattr(EndpointRulesetResolver, "construct_endpoint", _once_a_service(endpoint))
            boundary.printed = printed
            yield boundary
    finally:
        metrics.clear_metrics()
        logger.handlers[:] = log
        logging.disable(level)
        for handler in handlers:
            BUILTIN_HANDLERS.remove(handler)
        _boundaries.pop()
