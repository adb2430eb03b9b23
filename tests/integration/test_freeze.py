"""A freeze denies the source principals every new session until it is lifted; enrollments and retirements continue."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary, writes
from tests.integration.organization import (
    MANAGEMENT,
    MEMBER_ROLE,
    OTHER_PRINCIPAL,
    SECOND_SHARD,
    SOURCE_POLICY,
    SOURCE_POLICY_ARN,
    SOURCE_PRINCIPAL,
    Organization,
)
from tests.integration.stage import Stage

FROZEN = {
    "Sid": "Frozen",
    "Effect": "Deny",
    "Action": "sts:AssumeRole",
    "Resource": f"arn:aws:iam::*:role/{MEMBER_ROLE}",
}
IN_FORCE = {"frozen": True, "in_force": True, "why": None}
LIFTED = {"frozen": False, "in_force": True, "why": None}


@pytest.fixture
def stage(organization: Organization) -> Stage:
    """A stage with one enrolled member."""
    stage = Stage(organization)
    stage.enroll(organization.member())
    return stage


def test_freeze_adds_one_statement_and_its_end_removes_it(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    before = organization.policy()

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    assert organization.policy().denials == [FROZEN]
    assert metrics.metric_set["Frozen"]["Value"][-1] == 1
    with boundary.recording() as calls:
        stage.run("freeze", {"frozen": True})
    assert writes(calls, "iam:") == []

    assert stage.run("freeze", {"frozen": False}) == LIFTED

    policy = organization.policy()
    assert (policy.document, policy.attached) == (before.document, before.attached)
    assert metrics.metric_set["Frozen"]["Value"][-1] == 0


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "Invoke"),
        ReadTimeoutError(endpoint_url="https://lambda.us-east-1.amazonaws.com"),
    ],
    ids=["denied", "timed out"],
)
def test_freeze_responds_if_publish_cannot_be_invoked(
    organization: Organization, boundary: Boundary, stage: Stage, error: Exception
) -> None:
    boundary.raise_error("lambda:Invoke", error)

    response = stage.run("freeze", {"frozen": True}, seconds=20)

    assert (response["frozen"], response["in_force"]) == (True, False)
    assert "invoking rolecall-test-publish" in response["why"]
    assert organization.policy().denials == []
    stage.publish()
    assert organization.policy().denials == [FROZEN]
    assert stage.run("freeze", {"frozen": True}, seconds=20) == IN_FORCE


def test_freeze_invokes_publish_again_after_a_failure(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    boundary.fail("lambda:Invoke", "TooManyRequestsException", times=1)

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    assert organization.policy().denials == [FROZEN]


def test_accounts_are_enrolled_and_retired_during_a_freeze(organization: Organization) -> None:
    stage = Stage(organization)
    retired, kept, newcomer = (organization.member(name) for name in ("Retired", "Kept", "Newcomer"))
    stage.enroll(retired, kept)
    stage.run("freeze", {"frozen": True})

    stage.enroll(newcomer)
    stage.run_and_drain("retire", accounts=[retired])
    response = stage.run_and_drain("resync")

    assert response["counts"]["frozen"] is True
    assert {stage.status(account_id) for account_id in (kept, newcomer)} == {("enrolled", None)}
    assert stage.status(retired) == ("retired", "retired_by_request")
    assert not organization.has_role(retired)
    assert metrics.metric_set["Frozen"]["Value"][-1] == 1
    assert organization.policy().denials == [FROZEN]
    assert organization.granted() == {MANAGEMENT, kept, newcomer}

    stage.run("freeze", {"frozen": False})

    assert organization.policy().denials == []
    assert organization.granted() == {MANAGEMENT, kept, newcomer}
    assert stage.run("resync")["counts"]["frozen"] is False


def test_freeze_is_written_to_every_shard(organization: Organization) -> None:
    """A full shard has room for it, too."""
    stage = Stage(organization)
    stage.open_second_shard()

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    shards = organization.policy(), organization.policy(SECOND_SHARD)
    assert [shard.denials for shard in shards] == [[FROZEN], [FROZEN]]
    assert len(shards[0].accounts) == len(stage.full_shard())
    assert stage.run("freeze", {"frozen": False}) == LIFTED
    assert organization.policy().denials == organization.policy(SECOND_SHARD).denials == []


def test_shard_that_opens_during_a_freeze_is_frozen(organization: Organization, stage: Stage) -> None:
    second = organization.member("Second")
    stage.set_recorded(SOURCE_POLICY, stage.full_shard())
    stage.run("freeze", {"frozen": True})

    stage.enroll(second)

    assert second in organization.granted(SECOND_SHARD)
    assert organization.policy(SECOND_SHARD).denials == [FROZEN]


@pytest.mark.parametrize("operation", ["dynamodb:Scan", "iam:GetAccountSummary", "iam:AttachRolePolicy"])
def test_freeze_is_written_before_anything_else(
    organization: Organization, boundary: Boundary, stage: Stage, operation: str
) -> None:
    """Even if the rows or the principals can't be read, or an attachment fails."""
    organization.create_role(OTHER_PRINCIPAL)
    stage = Stage(organization, SourcePrincipalArns=f"{SOURCE_PRINCIPAL},{OTHER_PRINCIPAL}")
    stage.run("resync", {"accounts": "new"})

    if operation == "dynamodb:Scan":
        fail_scans_of_the_ledger(boundary, stage)
    else:
        boundary.fail(operation, "Throttling")
    stage.edit("#control", frozen=True)

    delays = set(stage.publish().delays.values())

    assert organization.policy().denials == [FROZEN]
    assert delays == {5}


def test_freeze_is_written_to_every_shard_before_anything_else(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    stage.open_second_shard()
    fail_scans_of_the_ledger(boundary, stage)
    stage.edit("#control", frozen=True)

    stage.run_publish()

    assert [organization.policy(name).denials for name in (SOURCE_POLICY, SECOND_SHARD)] == [[FROZEN], [FROZEN]]


def fail_scans_of_the_ledger(boundary: Boundary, stage: Stage) -> None:
    def fail(_: dict[str, Any]) -> None:
        if boundary.calls[-1].params.get("TableName") == stage.ledger.name:
            raise RuntimeError

    boundary.edit_response("dynamodb:Scan", fail)


def test_freeze_of_nothing_is_stored_and_not_in_force(organization: Organization) -> None:
    stage = Stage(organization)

    response = stage.run("freeze", {"frozen": True})

    assert (response["frozen"], response["in_force"]) == (True, False)
    assert "each shard is frozen as it is created" in response["why"]
    stage.enroll(organization.member())
    assert organization.policy().denials == [FROZEN]
    assert stage.run("freeze", {"frozen": True}) == IN_FORCE


def test_policy_that_the_operator_attaches_is_frozen(organization: Organization) -> None:
    stage = Stage(organization, AttachSourcePolicy="false")
    stage.enroll(organization.member())

    response = stage.run("freeze", {"frozen": True}, seconds=7)

    assert organization.policy().denials == [FROZEN]
    assert (response["in_force"], "attached to no principal" in response["why"]) == (False, True)
    organization.attach()
    assert stage.run("freeze", {"frozen": True}, seconds=7) == IN_FORCE
    assert stage.item(SOURCE_POLICY)["denied_principals"] == [SOURCE_PRINCIPAL]


def test_freeze_is_in_force_once_iam_was_read(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    """IAM may accept a write before its reads show it."""
    boundary.fail("iam:GetPolicy", "Throttling")

    response = stage.run("freeze", {"frozen": True}, seconds=7)

    assert response["in_force"] is False
    boundary.stop_faults()
    assert organization.policy().denials == [FROZEN]
    assert stage.run("freeze", {"frozen": True}) == IN_FORCE


@pytest.mark.parametrize(("lease", "seconds", "in_force"), [(5, 60, True), (3600, 12, False)])
def test_freeze_waits_for_a_lease_until_its_time_is_over(
    organization: Organization, stage: Stage, lease: float, seconds: float, in_force: bool
) -> None:
    stage.hold_lease(seconds=lease)

    response = stage.run("freeze", {"frozen": True}, seconds=seconds)

    assert (response["frozen"], response["in_force"]) == (True, in_force)
    assert 4 <= organization.clock.waited < 7
    assert organization.policy().denials == ([FROZEN] if in_force else [])


def test_end_of_a_freeze_that_fails_is_not_in_force(boundary: Boundary, stage: Stage) -> None:
    stage.run("freeze", {"frozen": True})
    boundary.fail("iam:CreatePolicyVersion")

    response = stage.run("freeze", {"frozen": False}, seconds=7)

    assert (response["frozen"], response["in_force"]) == (False, False)
    assert response["why"].startswith("a shard still denies everything")
    assert f"WriteVersion for {SOURCE_POLICY_ARN}: AccessDenied" in response["why"]
