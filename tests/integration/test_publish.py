"""When enroll requests a run of publish, and how a run handles its messages, rows and errors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import MANAGEMENT, SECOND_SHARD, SOURCE_POLICY, Organization
from tests.integration.stage import Stage

# --- The request for a run --------------------------------------------------------------------------------------------


def test_batch_requests_one_run_after_its_rows(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    """A run that began before a row was written would not read it, and no further message might come."""
    accounts = organization.members(3)
    requests: list[int] = []
    boundary.edit_response("dynamodb:UpdateItem", lambda _: requests.append(len(stage.queued("PublishQueue"))))

    stage.enqueue(*accounts)
    stage.deliver_accounts()

    assert requests == [0, 0, 0]
    assert len(stage.queued("PublishQueue")) == 1
    stage.publish()
    assert organization.granted() == set(accounts)


def test_batch_that_changes_nothing_requests_no_run(organization: Organization, stage: Stage) -> None:
    account_id, failing = organization.member(), organization.member("Failing", access_role="NotYet")
    stage.enroll(account_id)

    stage.enqueue(account_id, failing)
    stage.deliver_accounts()

    assert stage.queued("PublishQueue") == []


@pytest.mark.parametrize("case", ["not granted", "granted and retired", "granted and departed", "being applied"])
def test_row_that_differs_from_the_records_requests_a_run(organization: Organization, stage: Stage, case: str) -> None:
    """A worker may have been stopped between a row and its message."""
    account_id, other = organization.members(2)
    stage.enroll(account_id, other)
    applied = stage.item(SOURCE_POLICY)["applied"]
    if case == "granted and retired":
        stage.run_and_drain("retire", accounts=[account_id])
    if case == "granted and departed":
        organization.depart(account_id)
        stage.enroll(account_id)
    if case == "not granted":
        stage.set_recorded(SOURCE_POLICY, {other})
    elif case == "being applied":
        stage.edit(SOURCE_POLICY, applying={**applied, "accounts": other})
    else:
        stage.set_recorded(SOURCE_POLICY, {account_id, other})

    stage.enqueue(account_id)
    stage.deliver_accounts()

    assert len(stage.queued("PublishQueue")) == 1
    stage.drain()
    assert (account_id in organization.granted()) == (case in {"not granted", "being applied"})


def test_batch_is_repeated_if_its_request_fails(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    account_id = organization.member()
    boundary.fail("sqs:SendMessage", "InternalError", status=500)

    assert stage.enroll(account_id).delays == {account_id: 30}

    assert stage.row(account_id)["access"] == "granted"
    assert not organization.has_policy()
    boundary.stop_faults()
    stage.skip_delays()
    assert stage.deliver().finished == [account_id]
    assert stage.status(account_id) == ("enrolled", None)


def test_newcomers_wait_for_the_first_run(organization: Organization) -> None:
    """Names, principals and room are checked before the first role is created; a run that was killed has only a lease."""
    account_id = organization.member()
    stage = Stage(organization, deployed="false")
    stage.hold_lease(seconds=-1)
    stage.enqueue(account_id)

    assert stage.deliver_accounts().delays == {account_id: 5}

    assert not organization.has_role(account_id)
    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "source_policy_pending", 0)
    assert len(stage.queued("PublishQueue")) == 1
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)


def test_enrolled_accounts_do_not_wait_for_a_lost_status(organization: Organization, stage: Stage) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    stage.enroll(account_id)
    stage.delete_items("#status")
    stage.enqueue(account_id, newcomer)

    delivery = stage.deliver_accounts()

    assert (delivery.finished, delivery.delays) == ([account_id], {newcomer: 5})
    assert not organization.has_role(newcomer)
    stage.drain()
    assert organization.granted() == {account_id, newcomer}


# --- Messages and errors ----------------------------------------------------------------------------------------------


def test_run_depends_on_no_message(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    account_id = organization.member()
    for body in ("{}", "not JSON", "[]", *["{}"] * 12):
        stage.send(body, "PublishQueue")

    with boundary.recording() as calls:
        assert len(stage.publish().finished) == 15

    assert stage.queued("PublishQueue") == []
    assert writes(calls, "iam:") == []
    assert account_id not in organization.granted()


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("iam:CreatePolicyVersion", "Throttling"),
        ("iam:CreatePolicyVersion", "ServiceFailure"),
        ("dynamodb:Scan", "ProvisionedThroughputExceededException"),
        ("dynamodb:UpdateItem", "InternalServerError"),
    ],
)
def test_transient_error_returns_the_batch_with_growing_delays(
    organization: Organization, boundary: Boundary, stage: Stage, operation: str, code: str
) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    stage.enroll(account_id)
    stage.enqueue(newcomer)
    stage.deliver_accounts()
    stage.send("{}", "PublishQueue")
    boundary.fail(operation, code, status=400)

    delays: list[set[int]] = []
    for _ in range(4):
        delivery = stage.publish()
        assert len(delivery.delays) == 2
        delays.append(set(delivery.delays.values()))
        stage.skip_delays()

    assert delays == [{5}, {15}, {60}, {60}]
    assert stage.status(newcomer) == ("pending", "source_policy_pending")
    boundary.stop_faults()
    assert len(stage.publish().finished) == 2
    assert stage.status(newcomer) == ("enrolled", None)


def test_transient_error_opens_no_further_shard(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    account_id = organization.member()
    stage.enqueue(account_id)
    stage.deliver_accounts()
    boundary.fail("iam:GetPolicy", "Throttling", status=400, policy_name=SOURCE_POLICY)

    stage.publish()
    boundary.stop_faults()
    stage.skip_delays()
    stage.publish()

    assert stage.status(account_id) == ("enrolled", None)
    assert not organization.has_policy(SECOND_SHARD)
    assert SECOND_SHARD not in stage.items()


@pytest.mark.parametrize("operation", ["iam:DeletePolicyVersion", "iam:CreatePolicyVersion"])
def test_terminal_error_finishes_the_batch_and_is_recorded(
    organization: Organization, boundary: Boundary, stage: Stage, operation: str
) -> None:
    kept, closed = organization.members(2)
    newcomer = organization.member("Newcomer")
    stage.enroll(kept, closed)
    organization.add_versions(4)
    organization.set_state(closed, "SUSPENDED")
    boundary.fail(operation)

    stage.enqueue(newcomer, closed)
    stage.deliver_accounts()

    assert len(stage.publish().finished) == 1
    error = stage.item(SOURCE_POLICY)["error"]
    assert (error["reason"], SOURCE_POLICY in error["error"]) == ("access_denied", True)
    assert stage.status(newcomer) == stage.status(closed) == ("pending", "source_policy_pending")
    assert stage.status(kept) == ("enrolled", None)
    assert organization.granted() == {kept, closed}

    boundary.stop_faults()
    stage.run_publish()
    assert organization.granted() == {kept, newcomer}
    assert (stage.status(newcomer), stage.status(closed)) == (("enrolled", None), ("retired", "suspended"))
    assert "error" not in stage.item(SOURCE_POLICY)


@pytest.mark.parametrize("failing", [SOURCE_POLICY, SECOND_SHARD])
@pytest.mark.parametrize("code", ["AccessDenied", "ServiceFailure"])
def test_failed_shard_stops_no_other(
    organization: Organization, boundary: Boundary, stage: Stage, failing: str, code: str
) -> None:
    first, second = stage.open_second_shard()
    boundary.fail("iam:CreatePolicyVersion", code, policy_name=failing)
    organization.depart(first)
    organization.depart(second)

    stage.enqueue(first, second)
    stage.deliver_accounts()
    delivery = stage.publish()

    assert (len(delivery.finished), len(delivery.delays)) == ((1, 0) if code == "AccessDenied" else (0, 1))
    kept = {first, second} & (stage.recorded() | stage.recorded(SECOND_SHARD))
    assert kept == ({first} if failing == SOURCE_POLICY else {second})


def test_revocation_does_not_wait_for_the_principals(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    account_id = organization.member()
    stage.enroll(account_id)
    organization.depart(account_id)
    boundary.fail("iam:ListAttachedRolePolicies", "ServiceFailure", status=500)

    stage.enqueue(account_id)
    stage.deliver_accounts()
    delivery = stage.publish()

    assert (delivery.finished, set(delivery.delays.values())) == ([], {5})
    assert account_id not in stage.recorded()


def test_second_run_returns_its_messages(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    account_id = organization.member()
    stage.enqueue(account_id)
    stage.deliver_accounts()
    stage.hold_lease()

    with boundary.recording() as calls:
        assert set(stage.publish().delays.values()) == {5}

    assert {call.operation for call in calls} == {"dynamodb:UpdateItem", "sqs:ChangeMessageVisibility"}
    assert stage.item("#status")["run_owner"] == "another-run"
    stage.hold_lease(seconds=-1)
    stage.drain()
    assert organization.granted() == {account_id}
    assert "run_owner" not in stage.item("#status")


def test_delay_that_cannot_be_set_affects_no_other_message(boundary: Boundary, stage: Stage) -> None:
    for _ in range(3):
        stage.send("{}", "PublishQueue")
    boundary.fail("dynamodb:Scan", "InternalServerError", status=400)
    boundary.fail("sqs:ChangeMessageVisibility", "InternalError", times=1)

    assert sorted(stage.publish().delays.values()) == [5, 5, 720]


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_in_force_since_follows_the_records(organization: Organization, stage: Stage) -> None:
    """It is written without raising the revision, and with the outcome's time that was read."""
    account_id, suspended = organization.members(2)
    organization.set_state(suspended, "SUSPENDED")
    stage.enroll(account_id, suspended)
    granted, skipped = stage.row(account_id), stage.row(suspended)

    stage.put_row(**{key: value for key, value in granted.items() if key != "in_force_since"})
    stage.put_row(**skipped, in_force_since="2026-01-01T00:00:00.000000+00:00")
    stage.run_publish()

    corrected = stage.row(account_id)
    assert corrected.pop("in_force_since") >= granted.pop("in_force_since")
    assert corrected == granted
    assert stage.row(suspended) == skipped | {"marked_for": skipped["outcome_since"]}


def test_row_deleted_during_a_run_stays_deleted(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    account_id = organization.member()
    stage.enqueue(account_id)
    stage.deliver_accounts()
    boundary.edit_response("iam:CreatePolicy", lambda _: stage.delete_row(account_id))

    stage.publish()

    assert stage.row(account_id) == {}
    assert organization.granted() == {account_id}


def test_row_that_cannot_be_marked_returns_the_batch(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    account_id = organization.member()
    stage.enqueue(account_id)
    stage.deliver_accounts()

    def fail_for_the_ledger(_: dict[str, Any]) -> None:
        if boundary.calls[-1].params["TableName"] == stage.ledger.name:
            raise ClientError({"Error": {"Code": "InternalServerError", "Message": "no"}}, "UpdateItem")

    boundary.edit_response("dynamodb:UpdateItem", fail_for_the_ledger)
    assert set(stage.publish().delays.values()) == {5}
    assert organization.granted() == {account_id}
    boundary.stop_faults()
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)


def test_accounts_of_unknown_access_keep_their_grants(organization: Organization, stage: Stage) -> None:
    without_row, without_access = organization.members(2)
    stage.enroll(without_row, without_access)
    stage.delete_row(without_row)
    stage.put_row(**{key: value for key, value in stage.row(without_access).items() if key != "access"})

    stage.enroll(MANAGEMENT)

    assert organization.granted() == {MANAGEMENT, without_row, without_access}


# --- A blocked source policy ------------------------------------------------------------------------------------------

MISSING = f"arn:aws:iam::{MANAGEMENT}:role/Missing"


@dataclass(frozen=True)
class Block:
    """What blocks the source policy, and what removes the cause."""

    reason: str
    error: str
    cause: Callable[[Organization], object]
    fix: Callable[[Organization], object]
    parameters: dict[str, str] = field(default_factory=dict)


BLOCKS = {
    "foreign policy": Block(
        "foreign_source_policy",
        "SourcePolicyName",
        lambda organization: organization.create_policy(SOURCE_POLICY),
        lambda organization: organization.delete_policy(),
    ),
    "missing principal": Block(
        "no_source_principal",
        "AttachSourcePolicy=false",
        lambda _: None,
        lambda organization: organization.create_role(MISSING),
        {"SourcePrincipalArns": MISSING},
    ),
    "no room": Block(
        "quota",
        "SourcePolicyScope=organization",
        lambda organization: organization.attach_others(10),
        lambda organization: organization.detach(f"arn:aws:iam::{MANAGEMENT}:policy/Other0"),
    ),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_blocked_source_policy_refuses_newcomers(organization: Organization, boundary: Boundary, block: Block) -> None:
    accounts = organization.members(2)
    block.cause(organization)
    stage = Stage(organization, **block.parameters)

    with boundary.recording() as calls:
        stage.enqueue(*accounts)
        delivery = stage.drain()

    assert set(delivery.finished) == {*accounts}
    for account_id in accounts:
        row = stage.row(account_id)
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", block.reason, 0)
        assert block.error in row["error"]
        assert "access" not in row
    assert stage.item("#status")["blocked"]["reason"] == block.reason
    assert writes(calls, "iam:") == []

    block.fix(organization)
    stage.run_and_drain("resync", accounts="new")
    assert stage.status(accounts[0])[0] == "failed"  # The hourly resync doesn't send failed accounts.
    stage.run_and_drain("resync")

    assert set(stage.statuses().values()) == {("enrolled", None)}
    assert organization.granted() == {MANAGEMENT, *accounts}
    assert "blocked" not in stage.item("#status")


def test_account_enqueued_after_the_fix_waits_for_the_next_check(organization: Organization) -> None:
    account_id, earlier = organization.members(2)
    stage = Stage(organization, SourcePrincipalArns=MISSING)
    stage.enqueue(earlier)
    stage.run_publish()
    assert stage.deliver_accounts().finished == [earlier]
    assert stage.status(earlier) == ("failed", "no_source_principal")
    organization.create_role(MISSING)

    stage.enqueue(account_id)
    assert stage.deliver_accounts().delays == {account_id: 5}

    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "source_policy_pending", 0)
    assert "is checked again" in row["error"]
    assert not organization.has_role(account_id)
    assert stage.drain().finished == [account_id]
    assert stage.status(account_id) == ("enrolled", None)


@pytest.mark.parametrize("reason", ["foreign_source_policy", "quota"])
def test_enrolled_accounts_are_maintained_while_newcomers_are_refused(
    organization: Organization, stage: Stage, reason: str
) -> None:
    """The first shard is full, and the second one can't be opened."""
    kept, retired, newcomer = (organization.member(each) for each in ("Kept", "Retired", "Newcomer"))
    stage.enroll(kept, retired)
    full = stage.full_shard(kept, retired)
    stage.set_recorded(SOURCE_POLICY, full)
    if reason == "quota":
        organization.attach_others(9)
    else:
        organization.create_policy(SECOND_SHARD)
    stage.run_publish()
    assert stage.item("#status")["blocked"]["reason"] == reason
    stage.enqueue(newcomer)
    stage.drain()
    assert stage.status(newcomer) == ("failed", reason)

    stage.enroll(kept)
    stage.run_and_drain("retire", accounts=[retired])

    assert stage.status(kept) == ("enrolled", None)
    assert stage.status(retired) == ("retired", "retired_by_request")
    assert not organization.has_role(retired)
    assert organization.granted() == {*full} - {retired}
    # There is room again.
    assert "blocked" not in stage.item("#status")
    stage.run_and_drain("rerun")
    assert stage.status(newcomer) == ("enrolled", None)


def test_accounts_that_exceed_the_room_stay_pending(organization: Organization, stage: Stage) -> None:
    first, second = sorted(organization.members(2))
    enrolled = organization.member("Enrolled")
    others = organization.attach_others(9)
    stage.enroll(enrolled)
    stage.set_recorded(SOURCE_POLICY, stage.full_shard(enrolled)[:-1])

    stage.enroll(first, second)

    assert (stage.status(first), stage.status(second)) == (("enrolled", None), ("pending", "source_policy_pending"))
    assert organization.has_role(second)
    assert stage.item("#status")["blocked"]["reason"] == "quota"

    organization.detach(others[0])
    stage.run_publish()
    assert stage.status(second) == ("enrolled", None)
    assert organization.granted(SECOND_SHARD) == {second}
