"""The run lease of publish: one run at a time, which ends early if it loses the lease or a freeze is requested."""

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import Organization
from tests.integration.stage import Stage


@pytest.fixture
def account_id(organization: Organization, stage: Stage) -> str:
    """An account with a row that no run has published yet."""
    account_id = organization.member()
    stage.enqueue(account_id)
    stage.deliver_accounts()
    return account_id


@pytest.mark.usefixtures("account_id")
@pytest.mark.parametrize("code", [None, "AccessDenied"])
def test_run_releases_its_lease(boundary: Boundary, stage: Stage, code: str | None) -> None:
    if code is not None:
        boundary.fail("iam:CreatePolicy", code)

    stage.publish()

    assert {"run_owner", "run_until"}.isdisjoint(stage.item("#status"))


@pytest.mark.parametrize("error", [KeyError("unexpected"), ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")])
def test_run_keeps_its_lease_after_a_call_of_unknown_outcome(
    organization: Organization, boundary: Boundary, stage: Stage, account_id: str, error: Exception
) -> None:
    """The call may take effect after the run ended, and must not overwrite what the next run writes."""
    boundary.raise_error("iam:CreatePolicy", error)

    assert set(stage.publish().delays.values()) == {5}

    assert float(stage.item("#status")["run_until"]) > organization.clock()
    boundary.stop_faults()
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)


def test_run_continues_with_a_lease_that_it_already_holds(
    organization: Organization, stage: Stage, account_id: str
) -> None:
    """The response to the acquisition was lost, and botocore tried again."""
    stage.hold_lease(owner="the-same")

    stage.run_publish(request_id="the-same")

    assert organization.granted() == {account_id}
    assert "run_owner" not in stage.item("#status")


@pytest.mark.parametrize("operation", ["iam:GetPolicy", "iam:CreatePolicy"])
def test_run_that_lost_its_lease_stops_writing(
    organization: Organization, boundary: Boundary, stage: Stage, account_id: str, operation: str
) -> None:
    def take_lease(_: dict[str, Any]) -> None:
        organization.clock.pause(21)
        stage.hold_lease(seconds=20)

    boundary.edit_response(operation, take_lease)
    with boundary.recording() as calls:
        assert set(stage.publish().delays.values()) == {5}

    assert writes(calls, "iam:") == ([] if operation == "iam:GetPolicy" else ["iam:CreatePolicy"])
    assert stage.item("#status")["run_owner"] == "another-run"
    assert "in_force_since" not in stage.row(account_id)
    boundary.stop_faults()
    organization.clock.pause(21)
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)


@pytest.mark.parametrize("frozen", [True, False])
def test_run_ends_early_when_a_freeze_is_requested(
    organization: Organization, boundary: Boundary, stage: Stage, account_id: str, frozen: bool
) -> None:
    """The next run writes the freeze first."""
    stage.edit("#control", frozen=not frozen, freeze_requested_at="2026-01-01T00:00:00+00:00")

    def request_freeze(_: dict[str, Any]) -> None:
        organization.clock.pause(5)
        stage.edit("#control", frozen=frozen, freeze_requested_at="2026-01-01T00:00:01+00:00")

    boundary.edit_response("iam:CreatePolicy", request_freeze)
    assert set(stage.publish().delays.values()) == {5}
    boundary.stop_faults()
    assert "in_force_since" not in stage.row(account_id)

    stage.drain()
    policy = organization.policy()
    assert bool(policy.denials) is frozen
    assert policy.attached == {"Reader"}
    assert stage.recorded() == {account_id}
