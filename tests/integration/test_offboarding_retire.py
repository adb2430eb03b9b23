"""Retiring: the source policy first, then the role; and the account stays retired until somebody names it."""

from collections.abc import Mapping
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
    assert (shard["joining"], shard["leaving"]) == ([], [goes])

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
    assert {"role_arn", "policy_name", "enrolled_at"}.isdisjoint(row)


def test_a_role_that_its_maker_could_not_record_goes_with_the_next_resync_whatever_became_of_the_message(
    organization: Organization, boundary: Boundary
) -> None:
    # GIVEN a role whose maker was stopped, whose account was retired meanwhile, and whose message was given up
    stage = Stage(organization)
    enrolled(organization, stage)
    account_id = organization.member("Stopped")
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)
    stage.enroll(account_id)
    stage.ledger.update_item(Key={"account_id": account_id}, UpdateExpression="REMOVE role_arn")
    retired(stage, account_id)
    stage.purge()
    boundary.mend()
    assert organization.role(account_id) is not None

    # WHEN the source policy can be written again
    with boundary.watching() as calls:
        dry_run = stage.run("resync", {"dry_run": True})
    assert writes(calls) == []
    stage.run("resync")
    stage.work()

    # THEN the role is gone, as the dry run told
    assert told(dry_run)[account_id] == ("retired", "retired_by_request", "deleted")
    assert organization.role(account_id) is None
    assert stage.verdict(account_id) == ("retired", "retired_by_request")
    with boundary.watching() as calls:
        stage.run("resync")
        stage.work()
    assert account_id not in {call.about for call in calls if call.operation == "sts:AssumeRole"}


def test_the_role_stays_until_the_source_policy_is_written(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)

    retired(stage, goes)

    assert organization.role(goes) is not None
    assert stage.verdict(goes) == ("retired", "retired_by_request")

    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert organization.role(goes) is None
    assert goes not in organization.named()


@pytest.mark.parametrize("how", ["throttled", "denied"])
def test_a_role_that_could_not_be_deleted_is_deleted_by_and_by(
    organization: Organization, boundary: Boundary, how: str
) -> None:
    stage = Stage(organization)
    goes, _ = enrolled(organization, stage)
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
    for _ in range(2):
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
    assert stage.verdict(goes) == ("retired", "retired_by_request")
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


def _touch(stage: Stage, account_id: str) -> None:
    row = stage.row(account_id)
    stage.ledger.put_item(Item={**row, "updated_at": "2026-01-01T00:00:00.000000+00:00"})


@pytest.mark.parametrize("function", ["retire", "backfill"])
def test_an_account_that_is_being_worked_on_is_left_for_the_next_time(
    organization: Organization, boundary: Boundary, function: str
) -> None:
    stage = Stage(organization)
    account_id, _ = enrolled(organization, stage)
    if function == "backfill":
        retired(stage, account_id)
    before = stage.verdict(account_id)

    def meanwhile(_: Mapping[str, Any]) -> None:
        _touch(stage, account_id)

    boundary.edit("dynamodb:BatchGetItem", meanwhile)

    with pytest.raises(RequestError, match=f"{account_id} is being worked on"):
        stage.run(function, {"accounts": [account_id]})

    assert stage.waiting() == []
    assert stage.verdict(account_id) == before


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
