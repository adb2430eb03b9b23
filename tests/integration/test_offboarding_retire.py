"""Retiring: the source policy first, then the role; the account stays retired until a backfill names it."""

from typing import Any

import pytest

from chalicelib.errors import RequestError
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, OURS, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import told, writes


def enrolled(organization: Organization, stage: Stage, count: int = 2) -> list[str]:
    accounts = [organization.member(f"Workload{number}") for number in range(count)]
    stage.run("backfill")
    stage.work()
    assert organization.named() == {MANAGEMENT, *accounts}
    return accounts


def retired(stage: Stage, *account_ids: str) -> dict[str, Any]:
    answer = stage.run("retire", {"accounts": list(account_ids)})
    stage.work()
    return answer


def test_an_account_leaves_the_source_policy_first_and_loses_its_role_then(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    goes, stays = enrolled(organization, stage)

    with boundary.watching() as calls:
        dry_run = stage.run("retire", {"accounts": [goes], "dry_run": True})
    assert writes(calls) == []
    assert told(dry_run) == {goes: ("retired", "retired_by_request", "deleted")}
    (shard,) = dry_run["source_policy"]
    assert (shard["granted"], shard["revoked"]) == ([], [goes])

    with boundary.watching() as calls:
        answer = retired(stage, goes)

    assert answer["counts"] == {"sent": 1}
    assert writes(calls, "iam:") == [
        "iam:CreatePolicyVersion",
        "iam:DetachRolePolicy",
        "iam:DeleteRolePolicy",
        "iam:DeleteRole",
    ]
    assert organization.role(goes) is None
    assert organization.role(stays) is not None
    assert organization.named() == {MANAGEMENT, stays}
    row = stage.row(goes)
    assert (row["outcome"], row["reason"], row["change"], row["trigger"]) == (
        "retired",
        "retired_by_request",
        "deleted",
        "retire",
    )
    assert (row["access"], "retirement_requested_at" in row) == ("excluded", True)
    assert {"role_arn", "in_force_since", "enrolled_at"}.isdisjoint(row)


def test_the_role_stays_until_the_source_policy_is_written(organization: Organization, boundary: Boundary) -> None:
    """The message returns with 5 seconds' delay, then doubled ones, until publish has revoked the access."""
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)
    stage.run("retire", {"accounts": [goes]})

    delays: list[int] = []
    for _ in range(3):
        delays += stage.deliver_accounts().delays.values()
        stage.let_delays_pass()
        stage.publish()

    assert delays == [5, 10, 20]
    assert organization.role(goes) is not None
    assert stage.verdict(goes) == ("pending", "source_policy_pending")
    assert (stage.row(goes)["outcome"], stage.row(goes)["access"]) == ("retired", "excluded")
    # IAM may have been written: the record says so while it is not known.
    record = stage.item(SOURCE_POLICY)
    assert goes in record["applied"]["accounts"]
    assert goes not in record["applying"]["accounts"]

    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert organization.role(goes) is None
    assert goes not in organization.named()
    assert stage.verdict(goes) == ("retired", "retired_by_request")


def test_a_role_stays_while_the_row_does_not_say_so_yet(organization: Organization) -> None:
    """A run of publish that read an older row may still grant the account: the role is deleted by a later pass."""
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    stage.fill(SOURCE_POLICY, {MANAGEMENT})
    stage.run("retire", {"accounts": [goes]})

    assert stage.deliver_accounts().delays == {goes: 5}

    assert organization.role(goes) is not None
    stage.work()
    assert organization.role(goes) is None


def test_a_role_that_was_made_and_not_recorded_is_deleted_by_a_resync(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    enrolled(organization, stage)
    account_id = organization.member("Stopped")
    stage.enroll(account_id)
    stage.ledger.update_item(Key={"account_id": account_id}, UpdateExpression="REMOVE role_arn")
    stage.run("retire", {"accounts": [account_id]})
    stage.deliver_accounts()
    stage.purge()
    assert organization.role(account_id) is not None

    with boundary.watching() as calls:
        dry_run = stage.run("resync", {"dry_run": True})
    assert writes(calls) == []
    stage.run("resync")
    stage.work()

    assert told(dry_run)[account_id] == ("retired", "retired_by_request", "deleted")
    assert organization.role(account_id) is None
    assert stage.verdict(account_id) == ("retired", "retired_by_request")
    with boundary.watching() as calls:
        stage.run("resync")
        stage.work()
    assert account_id not in {call.about for call in calls if call.operation == "sts:AssumeRole"}


@pytest.mark.parametrize("how", ["throttled", "denied"])
def test_a_role_that_could_not_be_deleted_is_deleted_by_and_by(
    organization: Organization, boundary: Boundary, how: str
) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    organization.grow_old(goes)
    boundary.fail("iam:DeleteRole", "Throttling" if how == "throttled" else "AccessDenied", "no", account_id=goes)

    retired(stage, goes)

    assert stage.verdict(goes) == ("retired", "retired_by_request")
    assert "iam" in stage.row(goes)["role_arn"]
    assert "DeleteRole" in stage.row(goes)["error"]
    assert len(stage.waiting()) == (how == "throttled")

    boundary.mend()
    stage.let_delays_pass()
    stage.run("resync")
    stage.work()
    assert organization.role(goes) is None
    assert "role_arn" not in stage.row(goes)


def test_a_role_that_was_made_by_one_who_was_stopped_and_never_recorded_goes_too(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.fail("sts:AssumeRole", account_id=account_id)
    stage.enroll(account_id)
    boundary.mend()
    organization.make_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}", tags=OURS)

    retired(stage, account_id)

    assert organization.role(account_id) is None
    assert stage.verdict(account_id)[1] == "retired_by_request"


def test_who_is_retired_is_left_out_of_a_source_policy_that_is_made_anew(organization: Organization) -> None:
    stage = Stage(organization, SourcePolicyScope="organization")
    goes, stays = (organization.member(name) for name in ("Goes", "Stays"))
    stage.run("backfill")
    stage.work()
    retired(stage, goes)
    for _ in range(3):
        stage.run("retire", {"accounts": "all", "force": True})
        stage.work()
    assert organization.policy() is None

    assert goes not in told(stage.run("backfill", {"dry_run": True}))
    stage.run("backfill")
    stage.work()

    policy = organization.policy()
    assert policy is not None
    (statement,) = policy.document["Statement"]
    assert statement["Condition"]["StringNotEquals"] == {"aws:ResourceAccount": [goes]}
    assert stage.verdict(stays) == ("enrolled", None)


@pytest.mark.parametrize("tags", [[], ["managed-by"], ["rolecall-stage"]])
def test_a_role_that_is_not_ours_is_left(organization: Organization, tags: list[str]) -> None:
    stage = Stage(organization)
    goes, other = enrolled(organization, stage)
    iam = organization.iam(goes)
    iam.untag_role(RoleName=MEMBER_ROLE, TagKeys=tags or ["managed-by", "rolecall-stage"])
    organization.lose_role(other, MEMBER_ROLE)

    retired(stage, goes, other)

    assert organization.role(goes) is not None
    assert organization.named() == {MANAGEMENT}
    assert {stage.verdict(account_id) for account_id in (goes, other)} == {("retired", "retired_by_request")}
    assert stage.row(goes)["change"] == "none"


def test_an_account_stays_retired_through_sweeps_events_and_failures_until_a_backfill_names_it(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    goes, stays = enrolled(organization, stage)
    retired(stage, goes)

    for sweep in ({"accounts": "all"}, {"accounts": "new"}):
        for function in ("resync", "backfill"):
            assert goes not in told(stage.run(function, {**sweep, "dry_run": True}))
            stage.run(function, sweep)
            stage.work()
    stage.run("rerun", {"accounts": [goes]})
    boundary.fail("organizations:DescribeAccount", "TooManyRequestsException", account_id=goes)
    stage.announce("MoveAccount", goes)
    stage.work()
    assert (stage.verdict(goes), stage.row(goes)["access"]) == (("failed", "throttled"), "excluded")
    boundary.mend()
    stage.let_delays_pass()
    stage.work()

    assert stage.verdict(goes) == ("retired", "retired_by_request")
    assert organization.role(goes) is None
    assert organization.named() == {MANAGEMENT, stays}

    assert told(stage.run("backfill", {"accounts": [goes], "dry_run": True})) == {goes: ("enrolled", None, "created")}
    assert stage.verdict(goes) == ("retired", "retired_by_request")
    stage.run("backfill", {"accounts": [goes]})
    stage.work()
    assert stage.verdict(goes) == ("enrolled", None)
    assert organization.role(goes) is not None
    assert organization.named() == {MANAGEMENT, stays, goes}


def test_in_scope_organization_a_retired_account_is_left_out(organization: Organization) -> None:
    stage = Stage(organization, SourcePolicyScope="organization")
    goes = organization.member()
    stage.enroll(goes)

    retired(stage, goes)

    policy = organization.policy()
    assert policy is not None
    (statement,) = policy.document["Statement"]
    assert statement["Condition"]["StringNotEquals"] == {"aws:ResourceAccount": [goes]}
    assert organization.role(goes) is None


def test_retiring_the_management_account_takes_its_role_away(organization: Organization) -> None:
    stage = Stage(organization)
    enrolled(organization, stage)

    retired(stage, MANAGEMENT)

    assert organization.role(MANAGEMENT) is None
    assert MANAGEMENT not in organization.named()


@pytest.mark.parametrize("function", ["retire", "backfill"])
def test_a_mark_during_a_pass_has_the_account_reconciled_again(
    organization: Organization, boundary: Boundary, function: str
) -> None:
    stage = Stage(organization)
    account_id, _ = enrolled(organization, stage)
    if function == "backfill":
        retired(stage, account_id)
    stage.ask(account_id)
    boundary.edit("organizations:DescribeAccount", lambda _: stage.run(function, {"accounts": [account_id]}))

    assert set(stage.deliver_accounts().delays) == {account_id}

    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert stage.verdict(account_id)[0] == ("retired" if function == "retire" else "enrolled")
    assert (account_id in organization.named()) == (function == "backfill")


def test_a_mark_changes_nothing_else_of_a_row(organization: Organization) -> None:
    stage = Stage(organization)
    account_id, _ = enrolled(organization, stage)
    before = stage.row(account_id)

    stage.run("retire", {"accounts": [account_id]})
    marked = stage.row(account_id)
    assert marked.pop("retirement_requested_at") > before["updated_at"]
    assert marked == {**before, "revision": before["revision"] + 1}

    stage.run("backfill", {"accounts": [account_id]})
    assert stage.row(account_id) == {**before, "revision": before["revision"] + 2}


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_account_that_the_ledger_does_not_know_is_refused_with_the_others(
    organization: Organization, dry_run: bool
) -> None:
    stage = Stage(organization)
    known, _ = enrolled(organization, stage)

    with pytest.raises(RequestError, match="no account 111122223333"):
        stage.run("retire", {"accounts": [known, "111122223333"], "dry_run": dry_run})

    assert stage.verdict(known) == ("enrolled", None)
    assert stage.waiting() == []


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"dry_run": True},
        {"source": "aws.events", "detail-type": "Scheduled Event"},
        {"accounts": "new"},
        {"accounts": "failed", "force": True},
        {"accounts": "all", "ous": ["ou-ab12-11111111"], "force": True},
        {"accounts": "all", "reasons": ["closed"], "force": True},
        {"accounts": "all"},
    ],
)
def test_retiring_is_about_named_accounts_or_about_everything(
    organization: Organization, boundary: Boundary, request_: dict[str, Any]
) -> None:
    stage = Stage(organization)
    enrolled(organization, stage)

    with boundary.watching() as calls, pytest.raises(RequestError):
        stage.run("retire", request_)

    assert writes(calls) == []
    assert organization.policy(SOURCE_POLICY) is not None


@pytest.mark.parametrize("heard", [True, False], ids=["heard of", "unheard"])
def test_an_account_that_leaves_while_it_is_retired_is_so_when_it_comes_back(
    organization: Organization, heard: bool
) -> None:
    # GIVEN an account that is marked, and departs before it is worked on
    stage = Stage(organization)
    goes, stays = enrolled(organization, stage)
    stage.run("retire", {"accounts": [goes]})
    if not heard:
        stage.purge()
    back = organization.depart(goes)
    stage.run("resync")
    stage.work()
    assert organization.named() == {MANAGEMENT, stays}
    assert stage.verdict(goes) == ("retired", "retired_by_request")
    assert "may still be there" in stage.row(goes)["error"]

    # WHEN it is looked at while it is away, and comes back with its role
    stage.enroll(goes)
    assert "may still be there" in stage.row(goes)["error"]
    back()
    stage.run("resync")
    stage.work()

    # THEN its role is taken away
    assert stage.verdict(goes) == ("retired", "retired_by_request")
    assert {"role_arn", "error"}.isdisjoint(stage.row(goes))
    assert organization.role(goes) is None
    assert organization.named() == {MANAGEMENT, stays}


def test_a_retired_account_without_a_role_stays_retired_when_it_departs(organization: Organization) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    retired(stage, goes)
    organization.depart(goes)

    stage.enroll(goes)

    assert stage.verdict(goes) == ("retired", "retired_by_request")
    assert {"role_arn", "error"}.isdisjoint(stage.row(goes))


def test_a_retired_account_that_was_closed_holds_no_uninstall_up_and_loses_its_role_when_it_is_there_again(
    organization: Organization,
) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    organization.alter(goes, status="SUSPENDED", state="CLOSED")
    retired(stage, goes)
    assert "role_arn" not in stage.row(goes)

    organization.alter(goes, status="ACTIVE", state="ACTIVE")
    stage.run("resync")
    stage.work()

    assert organization.role(goes) is None
    assert "error" not in stage.row(goes)


def test_a_role_that_iam_does_not_show_yet_is_looked_for_again(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    boundary.fail("iam:GetRole", "NoSuchEntity", status=404, account_id=goes, times=1)
    retired(stage, goes)
    assert organization.role(goes) is not None
    assert "a moment ago" in stage.row(goes)["error"]

    stage.let_delays_pass()
    assert stage.work().finished == [goes]

    assert organization.role(goes) is None
    assert {"role_arn", "error"}.isdisjoint(stage.row(goes))


def test_a_role_that_somebody_deleted_is_not_looked_for_for_ever(organization: Organization) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    organization.lose_role(goes, MEMBER_ROLE)
    retired(stage, goes)
    stage.grow_old(goes, minutes=3)

    stage.let_delays_pass()
    stage.work()

    assert stage.waiting() == []
    assert {"role_arn", "error"}.isdisjoint(stage.row(goes))
