"""An organization in moto for each test, and a check of every call against the functions' policies."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import pytest
from botocore.client import ClientCreator
from botocore.endpoint import Endpoint
from botocore.loaders import JSONFileLoader, Loader

import app
from chalicelib.bootstrap import announcer, application
from chalicelib.telemetry import logger, metrics
from tests.integration.boundary import FUNCTION_KEYS, Boundary, intercepting_clients
from tests.integration.organization import REGION, Operator, Organization, organization_in_moto
from tests.integration.permissions import denied
from tests.integration.stage import Context, Invoke, ReusingSession, Stage

_MANAGED_POLICIES = ("ReadOnlyAccess", "SecurityAudit", "ViewOnlyAccess")


@pytest.fixture(scope="session")
def set_boundary() -> Iterator[Callable[[Boundary | None], None]]:
    with intercepting_clients() as set_boundary:
        yield set_boundary


@pytest.fixture(scope="session", autouse=True)
def _cached_models() -> Iterator[None]:
    """Read and list AWS's models once, as botocore does for every session."""
    list_services, listed = Loader.list_available_services, dict[tuple[str, ...], Any]()

    def services(loader: Loader, type_name: str) -> Any:
        key = (type_name, *loader.search_paths)
        if key not in listed:
            listed[key] = list_services(loader, type_name)
        return listed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(cache(JSONFileLoader().load_file)))
        patch.setattr(Loader, "list_available_services", services)
        yield


def _untraced(call: Callable[..., Any]) -> Callable[..., Any]:
    def untraced(*args: Any, **named: Any) -> Any:
        tracing = sys.gettrace()
        sys.settrace(None)
        try:
            return call(*args, **named)
        finally:
            sys.settrace(tracing)

    return untraced


@pytest.fixture(scope="session", autouse=True)
def _aws_untraced() -> Iterator[None]:
    """Trace no coverage of botocore and moto, which are most of what runs."""
    with pytest.MonkeyPatch.context() as patch:
        endpoint: Any = Endpoint  # whose types lack private methods
        patch.setattr(endpoint, "_get_response", _untraced(endpoint._get_response))
        patch.setattr(ClientCreator, "create_client", _untraced(ClientCreator.create_client))
        yield


@pytest.fixture(scope="session")
def functions(set_boundary: Callable[[Boundary | None], None]) -> dict[str, ReusingSession]:  # noqa: ARG001 - intercepts their clients
    """The session of each function's role."""
    return {name: ReusingSession(key, "secret", region_name=REGION) for name, key in FUNCTION_KEYS.items()}


@pytest.fixture(scope="session")
def operator() -> Operator:
    return Operator(boto3.Session("AKIAOPERATORXXXXXXXX", "secret", region_name=REGION))


@pytest.fixture(scope="session")
def _few_managed_policies() -> Iterator[None]:
    """Load a few of AWS's managed policies into each account in moto; all of them take a second."""
    with pytest.MonkeyPatch.context() as patch:
        document = {"Version": "2012-10-17", "Statement": []}
        date = "2015-02-06T18:39:48+00:00"
        policy = {"CreateDate": date, "UpdateDate": date, "DefaultVersionId": "v1", "Path": "/"}
        few = {
            name: {**policy, "Arn": f"arn:aws:iam::aws:policy/{name}", "Document": document}
            for name in _MANAGED_POLICIES
        }
        patch.setattr("moto.iam.models.aws_managed_policies_data", json.dumps(few))
        yield


@pytest.fixture
def boundary(set_boundary: Callable[[Boundary | None], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Boundary]:
    """The AWS boundary; at the end of every test, each call of a function must be allowed by its policy."""
    # botocore waits between its attempts.
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
    boundary = Boundary()
    set_boundary(boundary)
    yield boundary
    set_boundary(None)
    assert [(call.operation, request) for call in boundary.calls for request in denied(call)] == []


@pytest.fixture
def organization(
    boundary: Boundary, operator: Operator, functions: dict[str, ReusingSession], _few_managed_policies: None
) -> Iterator[Organization]:
    with organization_in_moto(boundary, operator, functions) as organization:
        yield organization


@pytest.fixture
def stage(organization: Organization) -> Stage:
    """A deployed stage with the default parameters."""
    return Stage(organization)


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a function's entry point as Lambda does: with the template's environment and its role's credentials."""

    def run(stage: Stage, function: str, payload: Any) -> Any:
        stage.activate()
        credentials = {
            "AWS_ACCESS_KEY_ID": FUNCTION_KEYS[function],
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
        }
        for name, value in {**stage.environ, **credentials}.items():
            monkeypatch.setenv(name, value)
        # Powertools reads it at import.
        metrics.service = stage.environ["POWERTOOLS_SERVICE_NAME"]
        application.cache_clear()
        announcer.cache_clear()
        return getattr(app, function)(payload, Context())

    return run


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The text that the logger writes."""
    written = io.StringIO()
    handler: Any = logger.registered_handler
    before = handler.setStream(written)
    yield written
    handler.setStream(before)
