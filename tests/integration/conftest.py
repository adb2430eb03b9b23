"""An organization in moto for each test, and every call held against the policies."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.client import ClientCreator
from botocore.endpoint import Endpoint
from botocore.loaders import JSONFileLoader

from tests.integration.boundary import FUNCTION_KEYS, Boundary, watched
from tests.integration.organization import REGION, Operator, Organization, founded
from tests.integration.permissions import denied

_MANAGED_POLICIES = ("ReadOnlyAccess", "SecurityAudit", "ViewOnlyAccess")


@pytest.fixture(scope="session")
def watch() -> Iterator[Callable[[Boundary | None], None]]:
    with watched() as switch:
        yield switch


@pytest.fixture(scope="session", autouse=True)
def _models_read_once() -> Iterator[None]:
    """Keep AWS's models, which botocore reads again for every session, and each test is a function's cold start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(cache(JSONFileLoader().load_file)))
        yield


def _untraced(call: Callable[..., Any]) -> Callable[..., Any]:
    def pausing(*args: Any, **named: Any) -> Any:
        tracing = sys.gettrace()
        sys.settrace(None)
        try:
            return call(*args, **named)
        finally:
            sys.settrace(tracing)

    return pausing


@pytest.fixture(scope="session", autouse=True)
def _coverage_stops_at_the_boundary() -> Iterator[None]:
    """Trace none of what botocore and moto do in AWS's place: it is most of what runs, and none of ours."""
    with pytest.MonkeyPatch.context() as patch:
        endpoint: Any = Endpoint  # whose types tell of nothing private
        patch.setattr(endpoint, "_get_response", _untraced(endpoint._get_response))
        patch.setattr(ClientCreator, "create_client", _untraced(ClientCreator.create_client))
        yield


@pytest.fixture(scope="session")
def functions(watch: Callable[[Boundary | None], None]) -> dict[str, boto3.Session]:  # noqa: ARG001 - it sees their clients
    """What each function's role signs with."""
    return {name: boto3.Session(key, "secret", region_name=REGION) for name, key in FUNCTION_KEYS.items()}


@pytest.fixture(scope="session")
def operator() -> Operator:
    return Operator(boto3.Session("AKIAOPERATORXXXXXXXX", "secret", region_name=REGION))


@pytest.fixture(scope="session")
def _few_managed_policies() -> Iterator[None]:
    """Let moto load a few of AWS's policies into each account in place of all, which takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        document = {"Version": "2012-10-17", "Statement": []}
        long_ago = "2015-02-06T18:39:48+00:00"
        policy = {"CreateDate": long_ago, "UpdateDate": long_ago, "DefaultVersionId": "v1", "Path": "/"}
        few = {
            name: {**policy, "Arn": f"arn:aws:iam::aws:policy/{name}", "Document": document}
            for name in _MANAGED_POLICIES
        }
        patch.setattr("moto.iam.models.aws_managed_policies_data", json.dumps(few))
        yield


@pytest.fixture
def boundary(watch: Callable[[Boundary | None], None]) -> Iterator[Boundary]:
    """What Rolecall calls; nothing that its policies would deny may be among it, whatever the test is about."""
    boundary = Boundary()
    watch(boundary)
    yield boundary
    watch(None)
    assert [(call.operation, request) for call in boundary.calls for request in denied(call)] == []


@pytest.fixture
def organization(
    boundary: Boundary, operator: Operator, functions: dict[str, boto3.Session], _few_managed_policies: None
) -> Iterator[Organization]:
    with founded(boundary, operator, functions) as organization:
        yield organization
