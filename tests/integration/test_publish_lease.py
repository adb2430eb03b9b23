"""The run lease of publish: one run at a time, renewed while it works, and given up where another holds it."""

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.integration.boundary import Boundary, Call
from tests.integration.organization import SOURCE_POLICY, Organization
from tests.integration.stage import Stage


def _waiting(organization: Organization) -> tuple[Stage, str]:
    """Have a row that no run has published yet."""
    stage, account_id = Stage(organization), organization.member()
    stage.ask(account_id)
    stage.deliver_accounts()
    return stage, account_id


def _iam_writes(calls: list[Call]) -> list[str]:
    return [call.operation for call in calls if call.is_write and call.operation.startswith("iam:")]


@pytest.mark.parametrize("error", [None, "AccessDenied"])
def test_a_run_gives_its_lease_back(organization: Organization, boundary: Boundary, error: str | None) -> None:
    stage, _ = _waiting(organization)
    if error is not None:
        boundary.fail("iam:CreatePolicy", error)

    stage.publish()

    assert {"run_owner", "run_until"}.isdisjoint(stage.item("#status"))


@pytest.mark.parametrize("error", [KeyError("surprise"), ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")])
def test_a_run_keeps_its_lease_where_the_outcome_of_a_call_is_unknown(
    organization: Organization, boundary: Boundary, error: Exception
) -> None:
    """The call may take effect after the run ended, and must not overwrite what the next run writes."""
    stage, account_id = _waiting(organization)
    boundary.break_off("iam:CreatePolicy", error)

    stage.publish()

    status = stage.item("#status")
    assert float(status["run_until"]) > organization.clock()
    boundary.mend()
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)


def test_an_owner_whose_answer_was_lost_has_the_lease(organization: Organization) -> None:
    stage, account_id = _waiting(organization)
    stage.hold_lease(owner="the-same")

    stage.run_publish(request_id="the-same")

    assert organization.named() == {account_id}
    assert "run_owner" not in stage.item("#status")


def test_a_long_run_renews_its_lease(organization: Organization, boundary: Boundary) -> None:
    stage, account_id = _waiting(organization)
    until: list[Any] = []

    def pass_time(_: dict[str, Any]) -> None:
        organization.clock.pause(15)
        until.append(stage.item("#status")["run_until"])

    boundary.edit("iam:CreatePolicy", pass_time)
    boundary.edit("iam:AttachRolePolicy", pass_time)

    stage.publish()

    assert organization.named() == {account_id}
    assert until[1] - until[0] >= 15
    assert stage.verdict(account_id) == ("enrolled", None)


@pytest.mark.parametrize("operation", ["iam:GetPolicy", "iam:CreatePolicy"])
def test_a_run_that_lost_its_lease_writes_no_more(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    stage, account_id = _waiting(organization)

    def lose_it(_: dict[str, Any]) -> None:
        organization.clock.pause(21)
        stage.hold_lease(seconds=20)

    boundary.edit(operation, lose_it)
    with boundary.watching() as calls:
        assert set(stage.publish().delays.values()) == {5}

    assert _iam_writes(calls) == ([] if operation == "iam:GetPolicy" else ["iam:CreatePolicy"])
    assert stage.item("#status")["run_owner"] == "another-run"
    assert "in_force_since" not in stage.row(account_id)
    boundary.mend()
    organization.clock.pause(21)
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_ends_early_when_a_freeze_is_requested(
    organization: Organization, boundary: Boundary, frozen: bool
) -> None:
    """The freeze is written by the next run, which does that first."""
    stage, account_id = _waiting(organization)
    stage.edit("#control", frozen=not frozen)

    def ask(_: dict[str, Any]) -> None:
        organization.clock.pause(5)
        stage.edit("#control", frozen=frozen)

    boundary.edit("iam:CreatePolicy", ask)
    assert set(stage.publish().delays.values()) == {5}
    boundary.mend()
    assert "in_force_since" not in stage.row(account_id)

    stage.work()
    policy = organization.policy()
    assert policy is not None
    assert any(statement["Effect"] == "Deny" for statement in policy.document["Statement"]) is frozen
    assert policy.attached == {"Reader"}
    assert stage.granted(SOURCE_POLICY) == {account_id}


def test_the_lease_of_a_first_run_that_was_killed_is_no_status(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization, deployed="false")
    stage.hold_lease(seconds=-1)
    stage.ask(account_id)

    assert stage.deliver_accounts().delays == {account_id: 5}

    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)
