"""Retiring: publish revokes the access, then the role is deleted; the account stays retired until a backfill names it."""

from typing import Any

import pytest

from chalicelib.errors import RequestError
from tests.integration.boundary import Boundary, writes
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, SOURCE_POLICY, Organization
from tests.integration.stage import Stage, planned

RETIRED = ("retired", "retired_by_request")


def retire(stage: Stage, *account_ids: str) -> dict[str, Any]:
    return stage.run_and_drain("retire", accounts=list(account_ids))


def test_access_is_revoked_before_the_role_is_deleted(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    retired, kept = stage.enroll_members(2)

    with boundary.recording() as calls:
        dry_run = stage.run("retire", {"accounts": [retired], "dry_run": True})
    assert writes(calls) == []
    assert planned(dry_run) == {retired: (*RETIRED, "deleted")}
    (shard,) = dry_run["source_policy"]
    assert (shard["granted"], shard["revoked"]) == ([], [retired])

    with boundary.recording() as calls:
        response = retire(stage, retired)

    assert response["counts"] == {"sent": 1}
    assert writes(calls, "iam:") == [
        "iam:CreatePolicyVersion",
        "iam:DetachRolePolicy",
        "iam:DeleteRolePolicy",
        "iam:DeleteRole",
    ]
    assert [organization.has_role(account_id) for account_id in (retired, kept)] == [False, True]
    assert organization.granted() == {MANAGEMENT, kept}
    row = stage.row(retired)
    assert (row["outcome"], row["reason"], row["change"], row["trigger"]) == (*RETIRED, "deleted", "retire")
    assert (row["access"], "retirement_requested_at" in row) == ("excluded", True)
    assert {"role_arn", "in_force_since", "enrolled_at"}.isdisjoint(row)


def test_role_stays_until_the_source_policy_is_written(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """The message returns after 5 seconds, then with doubled delays, until publish has revoked the access."""
    retired, _ = stage.enroll_members(2)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)
    stage.run("retire", {"accounts": [retired]})

    delays: list[int] = []
    for _ in range(3):
        delays += stage.deliver_accounts().delays.values()
        stage.skip_delays()
        stage.publish()

    assert delays == [5, 10, 20]
    assert organization.has_role(retired)
    assert stage.status(retired) == ("pending", "source_policy_pending")
    assert (stage.row(retired)["outcome"], stage.row(retired)["access"]) == ("retired", "excluded")
    # IAM may have been written: the record contains both versions.
    record = stage.item(SOURCE_POLICY)
    assert retired in record["applied"]["accounts"]
    assert retired not in record["applying"]["accounts"]

    boundary.stop_faults()
    stage.skip_delays()
    stage.drain()
    assert not organization.has_role(retired)
    assert retired not in organization.granted()
    assert stage.status(retired) == RETIRED


def test_role_stays_until_the_row_revokes_the_access(organization: Organization, stage: Stage) -> None:
    """A run of publish that read an older row may still grant the account."""
    retired, _ = stage.enroll_members(2)
    stage.set_recorded(SOURCE_POLICY, {MANAGEMENT})
    stage.run("retire", {"accounts": [retired]})

    assert stage.deliver_accounts().delays == {retired: 5}

    assert organization.has_role(retired)
    stage.drain()
    assert not organization.has_role(retired)


def test_role_that_no_row_contains_is_deleted_by_a_resync(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """The worker was stopped after it created the role, and its message was lost."""
    stage.enroll_members(1)
    account_id = organization.member("Stopped")
    stage.enroll(account_id)
    stage.ledger.update_item(Key={"account_id": account_id}, UpdateExpression="REMOVE role_arn")
    stage.run("retire", {"accounts": [account_id]})
    stage.deliver_accounts()
    stage.purge()
    assert organization.has_role(account_id)

    with boundary.recording() as calls:
        dry_run = stage.run("resync", {"dry_run": True})
    assert writes(calls) == []
    stage.run_and_drain("resync")

    assert planned(dry_run)[account_id] == (*RETIRED, "deleted")
    assert not organization.has_role(account_id)
    assert stage.status(account_id) == RETIRED
    with boundary.recording() as calls:
        stage.run_and_drain("resync")
    assert account_id not in {call.target_account_id for call in calls if call.operation == "sts:AssumeRole"}


@pytest.mark.parametrize("code", ["Throttling", "AccessDenied"])
def test_role_that_could_not_be_deleted_is_deleted_by_a_retry(
    organization: Organization, boundary: Boundary, stage: Stage, code: str
) -> None:
    retired, _ = stage.enroll_members(2)
    organization.age_account(retired)
    boundary.fail("iam:DeleteRole", code, account_id=retired)

    retire(stage, retired)

    assert stage.status(retired) == RETIRED
    assert "iam" in stage.row(retired)["role_arn"]
    assert "DeleteRole" in stage.row(retired)["error"]
    assert len(stage.queued()) == (code == "Throttling")

    boundary.stop_faults()
    stage.skip_delays()
    stage.run_and_drain("resync")
    assert not organization.has_role(retired)
    assert "role_arn" not in stage.row(retired)


def test_retired_account_stays_excluded_after_an_uninstall(organization: Organization) -> None:
    stage = Stage(organization, SourcePolicyScope="organization")
    retired, kept = stage.enroll_members(2)
    retire(stage, retired)
    assert organization.policy().condition["StringNotEquals"] == {"aws:ResourceAccount": [retired]}
    stage.uninstall()
    assert not organization.has_policy()

    assert retired not in planned(stage.run("backfill", {"dry_run": True}))
    stage.run_and_drain("backfill")

    assert organization.policy().condition["StringNotEquals"] == {"aws:ResourceAccount": [retired]}
    assert stage.status(kept) == ("enrolled", None)


def test_foreign_role_is_not_deleted(organization: Organization, stage: Stage) -> None:
    foreign, missing = stage.enroll_members(2)
    organization.iam(foreign).untag_role(RoleName=MEMBER_ROLE, TagKeys=["managed-by"])
    organization.delete_role(missing)

    retire(stage, foreign, missing)

    assert organization.has_role(foreign)
    assert organization.granted() == {MANAGEMENT}
    assert {stage.status(account_id) for account_id in (foreign, missing)} == {RETIRED}
    assert stage.row(foreign)["change"] == "none"


def test_account_stays_retired_until_a_backfill_names_it(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """Sweeps, events and failures leave it retired."""
    retired, kept = stage.enroll_members(2)
    retire(stage, retired)

    for selection in ({"accounts": "all"}, {"accounts": "new"}):
        for function in ("resync", "backfill"):
            assert retired not in planned(stage.run(function, {**selection, "dry_run": True}))
            stage.run_and_drain(function, **selection)
    stage.run("rerun", {"accounts": [retired]})
    boundary.fail("organizations:DescribeAccount", "TooManyRequestsException", account_id=retired)
    stage.send_event("MoveAccount", retired)
    stage.drain()
    assert (stage.status(retired), stage.row(retired)["access"]) == (("failed", "throttled"), "excluded")
    boundary.stop_faults()
    stage.skip_delays()
    stage.drain()

    assert stage.status(retired) == RETIRED
    assert not organization.has_role(retired)
    assert organization.granted() == {MANAGEMENT, kept}

    dry_run = stage.run("backfill", {"accounts": [retired], "dry_run": True})
    assert planned(dry_run) == {retired: ("enrolled", None, "created")}
    assert stage.status(retired) == RETIRED
    stage.run_and_drain("backfill", accounts=[retired])
    assert stage.status(retired) == ("enrolled", None)
    assert organization.has_role(retired)
    assert organization.granted() == {MANAGEMENT, kept, retired}


def test_management_account_can_be_retired(organization: Organization, stage: Stage) -> None:
    stage.enroll_members(1)

    retire(stage, MANAGEMENT)

    assert not organization.has_role(MANAGEMENT)
    assert MANAGEMENT not in organization.granted()


@pytest.mark.parametrize("function", ["retire", "backfill"])
def test_request_during_a_pass_repeats_the_pass(
    organization: Organization, boundary: Boundary, stage: Stage, function: str
) -> None:
    account_id, _ = stage.enroll_members(2)
    if function == "backfill":
        retire(stage, account_id)
    stage.enqueue(account_id)
    boundary.edit_response("organizations:DescribeAccount", lambda _: stage.run(function, {"accounts": [account_id]}))

    assert set(stage.deliver_accounts().delays) == {account_id}

    boundary.stop_faults()
    stage.skip_delays()
    stage.drain()
    assert stage.status(account_id)[0] == ("retired" if function == "retire" else "enrolled")
    assert (account_id in organization.granted()) == (function == "backfill")


def test_request_changes_nothing_else_in_a_row(stage: Stage) -> None:
    account_id, _ = stage.enroll_members(2)
    before = stage.row(account_id)

    stage.run("retire", {"accounts": [account_id]})
    requested = stage.row(account_id)
    assert requested.pop("retirement_requested_at") > before["updated_at"]
    assert requested == {**before, "revision": before["revision"] + 1}

    stage.run("backfill", {"accounts": [account_id]})
    assert stage.row(account_id) == {**before, "revision": before["revision"] + 2}


def test_request_with_an_unknown_account_is_rejected(stage: Stage) -> None:
    (account_id,) = stage.enroll_members(1)

    with pytest.raises(RequestError, match="no account 111122223333"):
        stage.run("retire", {"accounts": [account_id, "111122223333"]})

    assert stage.status(account_id) == ("enrolled", None)
    assert stage.queued() == []


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"source": "aws.events", "detail-type": "Scheduled Event"},
        {"accounts": "new"},
        {"accounts": "all", "ous": ["ou-ab12-11111111"], "force": True},
        {"accounts": "all", "reasons": ["closed"], "force": True},
        {"accounts": "all"},
    ],
)
def test_retirement_names_accounts_or_is_a_forced_uninstall(
    boundary: Boundary, stage: Stage, request_: dict[str, Any]
) -> None:
    with boundary.recording() as calls, pytest.raises(RequestError):
        stage.run("retire", request_)

    assert writes(calls) == []


@pytest.mark.parametrize("delivered", [True, False])
def test_account_that_leaves_and_returns_stays_retired(
    organization: Organization, stage: Stage, delivered: bool
) -> None:
    """It leaves before its message is delivered, or the message is lost."""
    retired, kept = stage.enroll_members(2)
    stage.run("retire", {"accounts": [retired]})
    if not delivered:
        stage.purge()
    readmit = organization.depart(retired)
    stage.run_and_drain("resync")
    assert organization.granted() == {MANAGEMENT, kept}
    assert stage.status(retired) == RETIRED
    assert "may still be there" in stage.row(retired)["error"]

    stage.enroll(retired)
    assert "may still be there" in stage.row(retired)["error"]
    readmit()
    stage.run_and_drain("resync")

    assert stage.status(retired) == RETIRED
    assert {"role_arn", "error"}.isdisjoint(stage.row(retired))
    assert not organization.has_role(retired)
    assert organization.granted() == {MANAGEMENT, kept}


def test_retired_account_that_leaves_without_a_role_stays_retired(organization: Organization, stage: Stage) -> None:
    retired, _ = stage.enroll_members(2)
    retire(stage, retired)
    organization.depart(retired)

    stage.enroll(retired)

    assert stage.status(retired) == RETIRED
    assert {"role_arn", "error"}.isdisjoint(stage.row(retired))


def test_closed_account_loses_its_role_once_it_is_reopened(organization: Organization, stage: Stage) -> None:
    retired, _ = stage.enroll_members(2)
    organization.set_state(retired, "CLOSED")
    retire(stage, retired)
    assert "role_arn" not in stage.row(retired)

    organization.set_state(retired, "ACTIVE")
    stage.run_and_drain("resync")

    assert not organization.has_role(retired)
    assert "error" not in stage.row(retired)


def test_role_that_iam_does_not_show_is_looked_for_again(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """Only within minutes of its creation; later, it was deleted by hand."""
    stale, deleted = stage.enroll_members(2)
    boundary.fail("iam:GetRole", "NoSuchEntity", status=404, account_id=stale, times=1)
    organization.delete_role(deleted)
    retire(stage, stale, deleted)
    assert organization.has_role(stale)
    assert "a moment ago" in stage.row(stale)["error"]
    stage.age_row(deleted, minutes=3)

    stage.skip_delays()
    assert set(stage.drain().finished) == {stale, deleted}

    assert not organization.has_role(stale)
    for account_id in (stale, deleted):
        assert {"role_arn", "error"}.isdisjoint(stage.row(account_id))
