"""A freeze denies the source principals every new session until it is lifted; enrollments and retirements continue."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary
from tests.integration.organization import (
    MANAGEMENT,
    MEMBER_ROLE,
    OTHER_PRINCIPAL,
    SECOND_SHARD,
    SOURCE_POLICY,
    SOURCE_POLICY_ARN,
    SOURCE_PRINCIPAL,
    STAGE_TAGS,
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


def test_freeze_adds_one_statement_and_its_end_removes_it(organization: Organization, stage: Stage) -> None:
    before = organization.policy()

    assert stage.run("freeze", {"frozen": True}) == IN_FORCE

    assert organization.policy().denials == [FROZEN]
    assert metrics.metric_set["Frozen"]["Value"][-1] == 1
    frozen = organization.policy()
    assert stage.run("freeze", {"frozen": True}) == IN_FORCE
    assert organization.policy().document == frozen.document

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

    organization.clock.meanwhile = stage.publish

    assert stage.run("freeze", {"frozen": True}, seconds=20) == IN_FORCE
    assert organization.policy().denials == [FROZEN]


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
    assert (response["in_force"], SOURCE_PRINCIPAL in response["why"]) == (False, True)
    organization.iam().create_group(GroupName="analysts")
    organization.iam().attach_group_policy(GroupName="analysts", PolicyArn=SOURCE_POLICY_ARN)
    assert stage.run("freeze", {"frozen": True}, seconds=7)["in_force"] is False
    organization.attach()
    assert stage.run("freeze", {"frozen": True}, seconds=7) == IN_FORCE


def test_freeze_is_not_in_force_while_an_uninstall_has_detached_the_policy(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """moto deletes policies that are in use."""
    boundary.fail("iam:DeletePolicy", "DeleteConflict", status=409)
    stage.edit("#control", uninstalling=True)

    for _ in range(2):
        response = stage.run("freeze", {"frozen": True}, seconds=7)
        assert response["in_force"] is False
        assert organization.policy().attached == set()


def test_missing_principal_delays_no_retirement_during_a_freeze(organization: Organization) -> None:
    organization.create_role(OTHER_PRINCIPAL)
    stage = Stage(organization, SourcePrincipalArns=f"{SOURCE_PRINCIPAL},{OTHER_PRINCIPAL}")
    (account_id,) = stage.enroll_members(1)
    organization.delete_role(MANAGEMENT, OTHER_PRINCIPAL.rpartition("/")[2])
    assert stage.run("freeze", {"frozen": True}, seconds=7)["in_force"] is False

    stage.run_and_drain("retire", accounts=[account_id])

    assert stage.status(account_id) == ("retired", "retired_by_request")
    assert not organization.has_role(account_id)
    assert organization.policy().denials == [FROZEN]

    stage.uninstall()

    assert not organization.has_policy()


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


# --- What others changed ----------------------------------------------------------------------------------------------

SECOND_SHARD_ARN = f"{SOURCE_POLICY_ARN}-2"
ASSUME_ANY_ROLE = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
}
Change = Callable[[Organization, Boundary], object]
IS_IN_FORCE = ""


def _detach_all(organization: Organization, _: Boundary) -> None:
    organization.detach()
    organization.detach(SECOND_SHARD_ARN)


def _detach_the_denying_shard(organization: Organization, boundary: Boundary) -> None:
    """One shard can't be changed, and the other one, which denies everything once it is attached, can't be attached."""
    boundary.fail("iam:AttachRolePolicy", "AccessDenied")
    boundary.fail("iam:CreatePolicyVersion", "AccessDenied", policy_name=SECOND_SHARD)
    organization.detach()


def _set_oldest_version(organization: Organization, _: Boundary) -> None:
    for name in (SOURCE_POLICY, SECOND_SHARD):
        organization.set_default_version(organization.policy(name).versions[0], name)


def _recreate(organization: Organization, _: Boundary) -> None:
    organization.recreate_reader()
    organization.attach(arn=organization.create_policy("Own", document=ASSUME_ANY_ROLE))


def _recreate_without_room(organization: Organization, boundary: Boundary) -> None:
    _recreate(organization, boundary)
    organization.attach_others(9)
    boundary.fail("iam:AttachRolePolicy", "LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10", status=409)


def _delete_policies(organization: Organization, _: Boundary) -> None:
    for name in (SOURCE_POLICY, SECOND_SHARD):
        organization.delete_policy(name)


def _replace(tags: dict[str, str]) -> Change:
    def replace(organization: Organization, boundary: Boundary) -> None:
        _delete_policies(organization, boundary)
        for name in (SOURCE_POLICY, SECOND_SHARD):
            organization.attach(arn=organization.create_policy(name, document=ASSUME_ANY_ROLE, tags=tags))

    return replace


def _lose_records_of_edited_shards(organization: Organization, boundary: Boundary) -> None:
    _replace(STAGE_TAGS)(organization, boundary)
    Stage(organization, deployed="false").delete_items(SOURCE_POLICY, SECOND_SHARD)


def _throttle(operation: str) -> Change:
    def throttle(organization: Organization, boundary: Boundary) -> None:
        _recreate(organization, boundary)
        _set_oldest_version(organization, boundary)
        boundary.fail(operation, "Throttling")

    return throttle


CHANGES: dict[str, tuple[Change, str]] = {
    "nothing": (lambda *_: None, IS_IN_FORCE),
    "first shard detached": (lambda organization, _: organization.detach(), IS_IN_FORCE),
    "second shard detached": (lambda organization, _: organization.detach(SECOND_SHARD_ARN), IS_IN_FORCE),
    "all shards detached": (_detach_all, IS_IN_FORCE),
    "denying shard detached": (_detach_the_denying_shard, SOURCE_PRINCIPAL),
    "default version set back": (_set_oldest_version, IS_IN_FORCE),
    "policies deleted": (_delete_policies, IS_IN_FORCE),
    "policies edited": (_replace(STAGE_TAGS), IS_IN_FORCE),
    "policies of another stage": (_replace({**STAGE_TAGS, "rolecall-stage": "other"}), SOURCE_PRINCIPAL),
    "records of edited policies lost": (_lose_records_of_edited_shards, IS_IN_FORCE),
    "reader recreated": (_recreate, IS_IN_FORCE),
    "reader recreated without room": (_recreate_without_room, SOURCE_PRINCIPAL),
    "reader deleted": (lambda organization, _: organization.delete_role(MANAGEMENT, "Reader"), SOURCE_PRINCIPAL),
    **{
        f"throttled {operation}": (_throttle(f"iam:{operation}"), SOURCE_PRINCIPAL)
        for operation in (
            "CreatePolicyVersion",
            "AttachRolePolicy",
            "GetPolicy",
            "GetPolicyVersion",
            "ListEntitiesForPolicy",
        )
    },
}
"""What others change, and what the freeze's response then names, if it isn't in force."""


@pytest.mark.parametrize("frozen", [False, True], ids=["not frozen", "frozen"])
@pytest.mark.parametrize("situation", CHANGES)
def test_freeze_in_force_leaves_no_member_role_assumable(
    organization: Organization, boundary: Boundary, situation: str, frozen: bool
) -> None:
    stage = Stage(organization)
    accounts = set(stage.open_second_shard())
    assert organization.assumable() == accounts
    if frozen:
        assert stage.run("freeze", {"frozen": True}) == IN_FORCE
        assert organization.assumable() == set()
    change, named = CHANGES[situation]
    change(organization, boundary)

    response = stage.run("freeze", {"frozen": True}, seconds=7)

    in_force = named == IS_IN_FORCE
    assert response["in_force"] is in_force, response
    assert named in str(response["why"])
    assert not in_force or organization.assumable() == set()


@pytest.mark.parametrize("situation", ["default version set back", "all shards detached", "reader recreated"])
def test_hourly_resync_restores_what_others_changed(
    organization: Organization, boundary: Boundary, situation: str
) -> None:
    stage = Stage(organization)
    stage.open_second_shard()
    stage.run("freeze", {"frozen": True})
    CHANGES[situation][0](organization, boundary)
    stage.age_records(minutes=3)

    stage.run_and_drain("resync", accounts="new")

    assert organization.assumable() == set()
    for name in (SOURCE_POLICY, SECOND_SHARD):
        assert organization.policy(name).denials == [FROZEN]
        assert stage.item(name)["denied_principals"] == [SOURCE_PRINCIPAL]


@pytest.mark.parametrize("setting", ["MemberRoleName", "SourcePrincipalArns"])
def test_freeze_under_changed_names_leaves_no_member_role_assumable(organization: Organization, setting: str) -> None:
    """Another source account, where publish has no permission, is in `test_changed_settings.py`."""
    stage = Stage(organization)
    accounts = set(stage.open_second_shard())
    organization.create_role(OTHER_PRINCIPAL)
    changed = Stage(organization, **{setting: "Renamed" if setting == "MemberRoleName" else OTHER_PRINCIPAL})
    assert organization.assumable() == accounts

    assert changed.run("freeze", {"frozen": True}) == IN_FORCE

    assert organization.assumable("Reader") == organization.assumable("Other") == set()
