"""The fakes of IAM answer alike: moto, the simulation's, and the benchmarks' stub."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from moto import mock_aws

from benchmarks.stub.aws import Aws
from tests.integration.simulation.harness import simulated
from tests.integration.simulation.iam import EMPTY_DOCUMENT, Iam
from tests.integration.simulation.members import IDS
from tests.integration.speed.conftest import respond

NAME = "CrossAccountReadOnlyRole"


def _client() -> Any:
    # The stub finds the account in the access key.
    return boto3.Session(f"ASIA{IDS[0]}", "secret", region_name="us-east-1").client("iam")


@contextmanager
def _simulation() -> Iterator[Any]:
    with simulated() as harness:
        iam = Iam()
        backend: Any = SimpleNamespace(call=lambda call: iam.answer(call.name, call.params, IDS[0]))
        harness.start(backend)
        yield _client()


@contextmanager
def _stub() -> Iterator[Any]:
    client, aws = _client(), Aws()

    def handle(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return respond(aws, request)

    client.meta.events.register("before-send", handle)
    yield client


@contextmanager
def _moto() -> Iterator[Any]:
    with mock_aws():
        yield _client()


@pytest.mark.parametrize(("params", "seconds"), [({"MaxSessionDuration": 7200}, 7200), ({}, 3600)])
@pytest.mark.parametrize("fake", [_simulation, _stub, _moto])
def test_update_role_without_a_duration_applies_the_default(fake: Any, params: dict[str, int], seconds: int) -> None:
    with fake() as iam:
        iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=EMPTY_DOCUMENT, MaxSessionDuration=43_200, Tags=[])

        response = iam.update_role(RoleName=NAME, **params)

        assert response.keys() <= {"ResponseMetadata"}
        if fake is not _stub:  # its roles never change
            assert iam.get_role(RoleName=NAME)["Role"]["MaxSessionDuration"] == seconds
