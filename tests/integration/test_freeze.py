"""A freeze denies the source principals every new session until it is lifted; enrollments and retirements go on meanwhile."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.errors import RequestError
from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, READER, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import writes

FROZEN = {
    "Sid": "Frozen",
    "Effect": "Deny",
    "Action": "sts:AssumeRole",
    "Resource": f"arn:aws:iam::*:role/{MEMBER_ROLE}",
}


IN_FORCE = {"frozen": True, "in_force": True, "why": None}
LIFTED = {"frozen": False, "in_force": True, "why": None}
SECOND = f"{SOURCE_POLICY}-2"


def denials(organization: Organization, name: str = SOURCE_POLICY) -> list[dict[str, Any]]:
    policy = organization.policy(name)
    assert policy is not None
    return [statement for statement in policy.document["Statement"] if statement["Effect"] == "Deny"]


def test_a_freeze_is_one_denial_and_lifting_it_leaves_what_was_there(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    before = organization.policy()
    assert before is not None

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    assert denials(organization) == [FROZEN]
    assert metrics.metric_set["Frozen"]["Value"][-1] == 1
    with boundary.watching() as calls:
        stage.run("freeze", {"frozen": True})
    assert writes(calls, "iam:") == []

    assert stage.run("freeze", {"frozen": False}) == LIFTED

    policy = organization.policy()
    assert policy is not None
    assert (policy.document, policy.attached) == (before.document, before.attached)
    assert metrics.metric_set["Frozen"]["Value"][-1] == 0


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}}, "Invoke"),
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, "Invoke"),
        ReadTimeoutError(endpoint_url="https://lambda.us-east-1.amazonaws.com"),
    ],
    ids=["throttled", "denied", "timed out"],
)
def test_freeze_answers_where_publish_cannot_be_invoked(
    organization: Organization, boundary: Boundary, error: Exception
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    boundary.break_off("lambda:Invoke", error)

    answer = stage.run("freeze", {"frozen": True}, seconds=20)

    assert (answer["frozen"], answer["in_force"]) == (True, False)
    assert "invoking rolecall-test-publish" in answer["why"]
    assert denials(organization) == []

    stage.publish()

    assert denials(organization) == [FROZEN]
    assert stage.run("freeze", {"frozen": True}, seconds=20) == IN_FORCE


def test_freeze_invokes_publish_again_after_a_failure(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    boundary.fail("lambda:Invoke", "TooManyRequestsException", times=1)

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    assert denials(organization) == [FROZEN]


def test_who_is_enrolled_or_retired_during_a_freeze_is_so_after_it(organization: Organization) -> None:
    stage = Stage(organization)
    goes, stays, comes = (organization.member(name) for name in ("Goes", "Stays", "Comes"))
    stage.enroll(goes, stays)
    stage.run("freeze", {"frozen": True})

    stage.enroll(comes)
    stage.run("retire", {"accounts": [goes]})
    stage.work()
    answer = stage.run("resync")
    stage.work()

    assert answer["counts"]["frozen"] is True
    assert {stage.verdict(account_id) for account_id in (stays, comes)} == {("enrolled", None)}
    assert stage.verdict(goes) == ("retired", "retired_by_request")
    assert organization.role(goes) is None
    assert metrics.metric_set["Frozen"]["Value"][-1] == 1
    assert denials(organization) == [FROZEN]
    assert organization.named() == {MANAGEMENT, stays, comes}

    stage.run("freeze", {"frozen": False})

    assert denials(organization) == []
    assert organization.named() == {MANAGEMENT, stays, comes}
    assert stage.run("resync")["counts"]["frozen"] is False


def test_a_freeze_that_was_lifted_by_hand_is_repaired_by_an_hourly_resync(organization: Organization) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    stage.run("freeze", {"frozen": True})
    stage.let_records_grow_old(minutes=3)
    organization.iam(MANAGEMENT).set_default_policy_version(
        PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}", VersionId="v1"
    )
    assert denials(organization) == []

    stage.run("resync", {"accounts": "new"})
    stage.publish()

    assert denials(organization) == [FROZEN]


def _two_shards(organization: Organization, stage: Stage) -> tuple[str, str]:
    first, second = organization.member("First"), organization.member("Second")
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))
    stage.enroll(second)
    assert organization.named(SECOND) == {second}
    return first, second


def test_every_shard_is_frozen_and_has_room_for_it(organization: Organization) -> None:
    stage = Stage(organization)
    _two_shards(organization, stage)

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    assert denials(organization) == denials(organization, SECOND) == [FROZEN]
    assert len(organization.named()) == len(stage.full_shard())
    assert stage.run("freeze", {"frozen": False}) == LIFTED
    assert denials(organization) == denials(organization, SECOND) == []


def test_a_shard_that_opens_during_a_freeze_is_frozen(organization: Organization) -> None:
    stage = Stage(organization)
    first, second = organization.member("First"), organization.member("Second")
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))
    stage.run("freeze", {"frozen": True})

    stage.enroll(second)

    assert organization.named(SECOND) == {second}
    assert denials(organization, SECOND) == [FROZEN]


@pytest.mark.parametrize("broken", [SOURCE_POLICY, SECOND])
@pytest.mark.parametrize("code", ["AccessDenied", "ServiceFailure"])
def test_a_shard_that_cannot_be_written_keeps_no_other_from_being_frozen(
    organization: Organization, boundary: Boundary, broken: str, code: str
) -> None:
    """One frozen shard denies its principals everything, so the freeze is in force."""
    stage = Stage(organization)
    _two_shards(organization, stage)
    other = SECOND if broken == SOURCE_POLICY else SOURCE_POLICY
    boundary.fail("iam:CreatePolicyVersion", code, policy_name=broken)

    answer = stage.run("freeze", {"frozen": True}, seconds=7)

    assert (denials(organization, other), denials(organization, broken)) == ([FROZEN], [])
    assert answer == IN_FORCE
    boundary.mend()
    stage.work()
    stage.run_publish()
    assert denials(organization, broken) == [FROZEN]


@pytest.mark.parametrize("operation", ["dynamodb:Scan", "iam:GetAccountSummary", "iam:AttachRolePolicy"])
def test_a_freeze_is_written_before_anything_else(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    """The rows can't be read, the principals can't be looked up, or an attachment fails: the freeze is written all the same."""
    organization.make_role(f"arn:aws:iam::{MANAGEMENT}:role/Another")
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    stage = Stage(organization, SourcePrincipalArns=f"{READER},arn:aws:iam::{MANAGEMENT}:role/Another")
    stage.run("resync", {"accounts": "new"})
    if operation == "dynamodb:Scan":
        scanned = RuntimeError("the ledger can't be read")
        boundary.edit(operation, lambda _: _fail_for(stage.ledger.name, boundary, scanned))
    else:
        boundary.fail(operation, "Throttling")
    stage.records.update_item(
        Key={"policy_name": "#control"},
        UpdateExpression="SET frozen = :true",
        ExpressionAttributeValues={":true": True},
    )

    delays = set(stage.publish().delays.values())

    assert denials(organization) == [FROZEN]
    assert delays == {5}


def _fail_for(table: str, boundary: Boundary, error: Exception) -> None:
    if boundary.calls[-1].params.get("TableName") == table:
        raise error


def test_a_freeze_of_nothing_is_stored_and_not_in_force(organization: Organization) -> None:
    stage = Stage(organization)

    answer = stage.run("freeze", {"frozen": True})

    assert (answer["frozen"], answer["in_force"]) == (True, False)
    assert "each shard is frozen as it is created" in answer["why"]
    stage.enroll(organization.member())
    assert denials(organization) == [FROZEN]
    assert stage.run("freeze", {"frozen": True}) == IN_FORCE


def test_lifting_a_freeze_of_nothing_is_in_force(organization: Organization) -> None:
    assert Stage(organization).run("freeze", {"frozen": False}) == LIFTED


@pytest.mark.parametrize(
    "parameters",
    [{"AttachSourcePolicy": "false"}, {"SourcePrincipalArns": f"arn:aws:iam::{MANAGEMENT}:root"}],
    ids=["not to be attached", "root"],
)
def test_a_source_policy_that_the_operator_attaches_is_frozen_too(
    organization: Organization, parameters: dict[str, str]
) -> None:
    stage = Stage(organization, **parameters)
    stage.enroll(organization.member())

    answer = stage.run("freeze", {"frozen": True}, seconds=7)

    assert denials(organization) == [FROZEN]
    assert (answer["in_force"], "attached to no principal" in answer["why"]) == (False, True)

    iam = organization.iam(MANAGEMENT)
    iam.attach_role_policy(RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}")
    assert stage.run("freeze", {"frozen": True}, seconds=7) == IN_FORCE
    assert stage.item(SOURCE_POLICY)["denied_principals"] == [READER]


def test_a_freeze_that_could_not_be_written_says_why_and_is_retried(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)

    answer = stage.run("freeze", {"frozen": True}, seconds=7)

    assert (answer["frozen"], answer["in_force"]) == (True, False)
    assert answer["why"].startswith("a read of IAM has not shown yet")
    assert denials(organization) == []
    boundary.mend()
    stage.work()
    assert denials(organization) == [FROZEN]


def test_a_freeze_is_in_force_once_iam_was_read(organization: Organization, boundary: Boundary) -> None:
    """IAM accepted the write, and its reads don't show it yet."""
    stage = Stage(organization)
    stage.enroll(organization.member())
    boundary.fail("iam:GetPolicy", "Throttling")

    answer = stage.run("freeze", {"frozen": True}, seconds=7)

    assert answer["in_force"] is False
    boundary.mend()
    assert denials(organization) == [FROZEN]
    assert stage.run("freeze", {"frozen": True}) == IN_FORCE


def test_a_freeze_waits_for_a_run_that_holds_the_lease(organization: Organization) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    stage.hold_lease(seconds=5)

    answer = stage.run("freeze", {"frozen": True}, seconds=60)

    assert answer == IN_FORCE
    assert 4 <= organization.clock.waited <= 6
    assert denials(organization) == [FROZEN]


def test_a_freeze_gives_up_waiting_before_its_time_is_over(organization: Organization) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    stage.hold_lease(seconds=3600)

    answer = stage.run("freeze", {"frozen": True}, seconds=12)

    assert (answer["frozen"], answer["in_force"]) == (True, False)
    assert 4 < organization.clock.waited < 7
    assert denials(organization) == []


def test_an_unfreeze_that_could_not_be_written_says_so(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    stage.run("freeze", {"frozen": True})
    boundary.fail("iam:CreatePolicyVersion")

    answer = stage.run("freeze", {"frozen": False}, seconds=7)

    assert (answer["frozen"], answer["in_force"]) == (False, False)
    assert answer["why"].startswith("a shard still denies everything")
    assert f"WriteVersion for arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}: AccessDenied" in answer["why"]


@pytest.mark.parametrize("request_", [{}, {"frozen": "true"}, {"frozen": True, "dry_run": True}, []])
def test_a_freeze_that_is_not_plainly_asked_for_is_refused(
    organization: Organization, boundary: Boundary, request_: Any
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())

    with boundary.watching() as calls, pytest.raises(RequestError):
        stage.run("freeze", request_)

    assert writes(calls) == []
