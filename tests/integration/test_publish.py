"""When enroll asks for a run of publish, and what a run makes of its messages and of the ledger's rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, SOURCE_POLICY, Organization
from tests.integration.stage import Stage


def _requests(stage: Stage) -> int:
    return len(stage.waiting("PublishQueue"))


def _writes_iam(calls: Any) -> bool:
    return any(call.is_write and call.operation.startswith("iam:") for call in calls)


# --- The request for a run --------------------------------------------------------------------------------------------


def test_a_batch_asks_for_one_run_after_its_rows(organization: Organization, boundary: Boundary) -> None:
    """A run that began before a row was written would not read it, and no further message might come."""
    accounts = [organization.member(f"Workload{number}") for number in range(3)]
    stage = Stage(organization)
    requested: list[int] = []
    boundary.edit("dynamodb:UpdateItem", lambda _: requested.append(_requests(stage)))

    stage.ask(*accounts)
    stage.deliver_accounts()

    assert requested == [0, 0, 0]
    assert _requests(stage) == 1
    stage.publish()
    assert organization.named() == set(accounts)


def test_a_batch_that_changes_nothing_asks_for_no_run(organization: Organization) -> None:
    account_id, fails = organization.member(), organization.member("Fails", access_role="NotYet")
    stage = Stage(organization)
    stage.enroll(account_id)

    stage.ask(account_id, fails)
    stage.deliver_accounts()

    assert _requests(stage) == 0


@pytest.mark.parametrize("differs", ["not granted", "granted and retired", "granted and departed", "being applied"])
def test_a_row_that_the_records_differ_from_asks_for_a_run(organization: Organization, differs: str) -> None:
    """A worker may have been stopped between a row and its message."""
    account_id, stays = organization.member(), organization.member("Stays")
    stage = Stage(organization)
    stage.enroll(account_id, stays)
    applied = stage.item(SOURCE_POLICY)["applied"]
    if differs == "granted and retired":
        stage.run("retire", {"accounts": [account_id]})
        stage.work()
    if differs == "granted and departed":
        organization.depart(account_id)
        stage.enroll(account_id)
    stage.purge()
    if differs == "not granted":
        stage.fill(SOURCE_POLICY, {stays})
    elif differs == "being applied":
        stage.edit(SOURCE_POLICY, applying={**applied, "accounts": stays})
    else:
        stage.fill(SOURCE_POLICY, {account_id, stays})

    stage.ask(account_id)
    stage.deliver_accounts()

    assert _requests(stage) == 1
    stage.work()
    assert (account_id in organization.named()) == (differs in {"not granted", "being applied"})


def test_a_batch_whose_request_was_refused_is_repeated(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.fail("sqs:SendMessage", "InternalError", status=500)

    assert stage.enroll(account_id).delays == {account_id: 30}

    assert stage.row(account_id)["access"] == "granted"
    assert organization.policy() is None
    boundary.mend()
    stage.let_delays_pass()
    assert stage.deliver().finished == [account_id]
    assert stage.verdict(account_id) == ("enrolled", None)


def test_without_status_newcomers_wait_for_the_first_run(organization: Organization) -> None:
    """Names, principals and room are checked before the first role is made."""
    account_id = organization.member()
    stage = Stage(organization, deployed="false")
    stage.ask(account_id)

    assert stage.deliver_accounts().delays == {account_id: 5}

    assert organization.role(account_id) is None
    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "source_policy_pending", 0)
    assert _requests(stage) == 1
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)


def test_without_status_enrolled_accounts_do_not_wait(organization: Organization) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.lose("#status")
    stage.ask(account_id, newcomer)

    delivery = stage.deliver_accounts()

    assert (delivery.finished, delivery.delays) == ([account_id], {newcomer: 5})
    assert organization.role(newcomer) is None
    stage.work()
    assert organization.named() == {account_id, newcomer}


# --- Messages ---------------------------------------------------------------------------------------------------------


def test_a_run_depends_on_no_message(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    for body in ("{}", "not JSON", "[]", *["{}"] * 12):
        stage.ask_publish(body)

    with boundary.watching() as calls:
        assert len(stage.publish().finished) == 15

    assert [call.operation for call in calls].count("organizations:DescribeOrganization") == 0
    assert _requests(stage) == 0
    assert not _writes_iam(calls)
    assert account_id not in organization.named()


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("iam:CreatePolicyVersion", "Throttling"),
        ("iam:CreatePolicyVersion", "ServiceFailure"),
        ("dynamodb:Scan", "ProvisionedThroughputExceededException"),
        ("dynamodb:UpdateItem", "InternalServerError"),
    ],
)
def test_a_transient_error_returns_the_whole_batch_with_growing_delays(
    organization: Organization, boundary: Boundary, operation: str, code: str
) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.ask(newcomer)
    stage.deliver_accounts()
    stage.ask_publish()
    boundary.fail(operation, code, status=400)

    delays: list[set[int]] = []
    for _ in range(4):
        delivery = stage.publish()
        assert len(delivery.delays) == 2
        delays.append(set(delivery.delays.values()))
        stage.let_delays_pass()

    assert delays == [{5}, {15}, {60}, {60}]
    assert stage.verdict(newcomer) == ("pending", "source_policy_pending")
    boundary.mend()
    assert len(stage.publish().finished) == 2
    assert stage.verdict(newcomer) == ("enrolled", None)


def test_a_transient_error_opens_no_further_shard(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    first = organization.member()
    stage.ask(first)
    stage.deliver_accounts()  # There is no status yet: the account waits for it.
    stage.publish()
    stage.let_delays_pass()
    stage.deliver_accounts()
    boundary.fail("iam:GetPolicy", "Throttling", status=400, policy_name=SOURCE_POLICY)

    stage.publish()
    boundary.mend()
    stage.let_delays_pass()
    stage.publish()

    assert stage.verdict(first) == ("enrolled", None)
    assert organization.policy(f"{SOURCE_POLICY}-2") is None
    assert f"{SOURCE_POLICY}-2" not in stage.items()


def test_a_terminal_error_finishes_the_messages_and_is_recorded(organization: Organization, boundary: Boundary) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    stage = Stage(organization)
    stage.enroll(account_id)
    boundary.fail("iam:CreatePolicyVersion")

    stage.ask(newcomer)
    stage.deliver_accounts()

    assert len(stage.publish().finished) == 1
    error = stage.item(SOURCE_POLICY)["error"]
    assert (error["reason"], SOURCE_POLICY in error["error"]) == ("access_denied", True)
    assert stage.verdict(newcomer) == ("pending", "source_policy_pending")
    assert stage.verdict(account_id) == ("enrolled", None)

    boundary.mend()
    stage.run_publish()
    assert stage.verdict(newcomer) == ("enrolled", None)
    assert "error" not in stage.item(SOURCE_POLICY)


@pytest.mark.parametrize("broken", [SOURCE_POLICY, f"{SOURCE_POLICY}-2"])
@pytest.mark.parametrize("code", ["AccessDenied", "ServiceFailure"])
def test_a_failed_shard_stops_no_other(organization: Organization, boundary: Boundary, broken: str, code: str) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    full = stage.full_shard(first)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(second)
    boundary.fail("iam:CreatePolicyVersion", code, policy_name=broken)
    organization.depart(first)
    organization.depart(second)

    stage.ask(first, second)
    stage.deliver_accounts()
    delivery = stage.publish()

    assert (len(delivery.finished), len(delivery.delays)) == ((1, 0) if code == "AccessDenied" else (0, 1))
    kept = {first, second} & (stage.granted(SOURCE_POLICY) | stage.granted(f"{SOURCE_POLICY}-2"))
    assert kept == ({first} if broken == SOURCE_POLICY else {second})


def test_unread_principals_stop_no_revocation(organization: Organization, boundary: Boundary) -> None:
    stage, account_id = Stage(organization), organization.member()
    stage.enroll(account_id)
    organization.depart(account_id)
    boundary.fail("iam:ListAttachedRolePolicies", "ServiceFailure", status=500)

    stage.ask(account_id)
    stage.deliver_accounts()
    delivery = stage.publish()

    assert (delivery.finished, set(delivery.delays.values())) == ([], {5})
    assert account_id not in stage.granted(SOURCE_POLICY)


def test_a_second_run_returns_its_messages(organization: Organization, boundary: Boundary) -> None:
    stage, account_id = Stage(organization), organization.member()
    stage.ask(account_id)
    stage.deliver_accounts()
    stage.hold_lease()

    with boundary.watching() as calls:
        assert set(stage.publish().delays.values()) == {5}

    assert {call.operation for call in calls} == {"dynamodb:UpdateItem", "sqs:ChangeMessageVisibility"}
    assert stage.item("#status")["run_owner"] == "another-run"
    stage.hold_lease(seconds=-1)
    stage.work()
    assert organization.named() == {account_id}
    assert "run_owner" not in stage.item("#status")


def test_an_error_of_our_own_returns_the_batch(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    stage.ask(organization.member())
    stage.deliver_accounts()
    boundary.break_off("iam:CreatePolicy", KeyError("surprise"))

    assert set(stage.publish().delays.values()) == {5}

    # A call may still take effect: the lease is kept until it expires.
    assert "run_owner" in stage.item("#status")
    boundary.mend()
    stage.work()
    assert set(stage.verdicts().values()) == {("enrolled", None)}


def test_a_delay_that_cannot_be_set_keeps_no_other_from_being_set(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    for _ in range(3):
        stage.ask_publish()
    boundary.fail("dynamodb:Scan", "InternalServerError", status=400)
    boundary.fail("sqs:ChangeMessageVisibility", "InternalError", times=1)

    assert sorted(stage.publish().delays.values()) == [5, 5, 720]


def test_a_run_without_time_begins_no_write(organization: Organization, boundary: Boundary) -> None:
    """No write begins in the function's last 30 seconds."""
    account_id = organization.member()
    stage = Stage(organization)
    stage.ask(account_id)
    stage.deliver_accounts()

    with boundary.watching() as calls:
        delivery = stage.publish(seconds=29)

    assert set(delivery.delays.values()) == {5}
    assert not _writes_iam(calls)
    stage.work()
    assert organization.named() == {account_id}


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_in_force_since_follows_the_records_without_a_revision(organization: Organization) -> None:
    account_id, never = organization.member(), organization.member("Never")
    organization.alter(never, status="SUSPENDED", state="SUSPENDED")
    stage = Stage(organization)
    stage.enroll(account_id, never)
    granted, suspended = stage.row(account_id), stage.row(never)

    stage.ledger.put_item(Item={key: value for key, value in granted.items() if key != "in_force_since"})
    stage.ledger.put_item(Item={**suspended, "in_force_since": "2026-01-01T00:00:00.000000+00:00"})
    stage.run_publish()

    corrected = stage.row(account_id)
    assert corrected.pop("in_force_since") >= granted.pop("in_force_since")
    assert corrected == granted
    assert stage.row(never) == suspended


def test_a_row_that_is_deleted_during_a_run_stays_deleted(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.ask(account_id)
    stage.deliver_accounts()
    boundary.edit("iam:CreatePolicy", lambda _: stage.ledger.delete_item(Key={"account_id": account_id}))

    stage.publish()

    assert stage.row(account_id) == {}
    assert organization.named() == {account_id}


def test_a_row_whose_mark_fails_returns_the_batch(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    account_id = organization.member()
    stage.ask(account_id)
    stage.deliver_accounts()

    def refuse(_: dict[str, Any]) -> None:
        if boundary.calls[-1].params["TableName"] == stage.ledger.name:
            answer: Any = {"Error": {"Code": "InternalServerError", "Message": "no"}}
            raise ClientError(answer, "UpdateItem")

    boundary.edit("dynamodb:UpdateItem", refuse)
    assert set(stage.publish().delays.values()) == {5}
    assert organization.named() == {account_id}
    boundary.mend()
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)


def test_accounts_without_access_keep_what_they_have(organization: Organization) -> None:
    account_id, failed = organization.member(), organization.member("Failed")
    stage = Stage(organization)
    stage.enroll(account_id, failed)
    stage.ledger.delete_item(Key={"account_id": account_id})
    stage.ledger.update_item(
        Key={"account_id": failed}, UpdateExpression="REMOVE #a", ExpressionAttributeNames={"#a": "access"}
    )

    stage.enroll(MANAGEMENT)

    assert organization.named() == {MANAGEMENT, account_id, failed}


# --- A blocked source policy ------------------------------------------------------------------------------------------

MISSING = f"arn:aws:iam::{MANAGEMENT}:role/Missing"


@dataclass(frozen=True)
class Block:
    """What blocks the source policy, and what removes the cause."""

    reason: str
    error: str
    cause: Callable[[Organization], None]
    fix: Callable[[Organization], None]
    parameters: tuple[tuple[str, str], ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()


def _attach_others(organization: Organization) -> None:
    iam = organization.iam(MANAGEMENT)
    for number in range(10):
        iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))


def _detach_one(organization: Organization) -> None:
    organization.iam(MANAGEMENT).detach_role_policy(
        RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/Other0"
    )


def _make_policy(organization: Organization) -> None:
    organization.make_policy(SOURCE_POLICY)


def _nothing(_: Organization) -> None:
    pass


def _renamed_stage(organization: Organization) -> None:
    """Have the names recorded by an earlier deployment."""
    Stage(organization)


BLOCKS = {
    "foreign policy": Block(
        "foreign_source_policy", "SourcePolicyName", _make_policy, lambda organization: organization.lose_policy()
    ),
    "missing principal": Block(
        "no_source_principal",
        "AttachSourcePolicy=false",
        _nothing,
        lambda organization: organization.make_role(MISSING),
        (("SourcePrincipalArns", MISSING),),
        (("SourcePrincipalArns", MISSING),),
    ),
    "no room": Block("quota", "SourcePolicyScope=organization", _attach_others, _detach_one),
    "changed names": Block(
        "names_changed",
        "MEMBER_ROLE_NAME is Renamed, and was CrossAccountReadOnlyRole",
        _renamed_stage,
        _nothing,
        (("MemberRoleName", "Renamed"),),
    ),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_a_blocked_source_policy_refuses_newcomers_until_it_is_not(
    organization: Organization, boundary: Boundary, block: Block
) -> None:
    first, second = organization.member("First"), organization.member("Second")
    block.cause(organization)
    stage = Stage(organization, **dict(block.parameters))

    with boundary.watching() as calls:
        stage.ask(first, second)
        delivery = stage.work()

    assert set(delivery.finished) == {first, second}
    for account_id in (first, second):
        row = stage.row(account_id)
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", block.reason, 0)
        assert block.error in row["error"]
        assert "access" not in row
    assert stage.item("#status")["blocked"]["reason"] == block.reason
    assert {call.operation for call in calls if call.is_write and call.operation.startswith("iam:")} == set()

    block.fix(organization)
    fixed = Stage(organization, deployed="false", **dict(block.fixed))
    fixed.run("resync", {"accounts": "new"})
    fixed.work()
    assert fixed.verdict(first)[0] == "failed"  # what failed is the full resync's, and the rerun's
    fixed.run("resync")
    fixed.work()

    assert set(fixed.verdicts().values()) == {("enrolled", None)}
    assert organization.named() == {MANAGEMENT, first, second}
    assert "blocked" not in fixed.item("#status")


@pytest.mark.parametrize("name", ["foreign policy", "missing principal", "no room"])
def test_an_account_asked_for_after_the_fix_waits_for_the_new_look(organization: Organization, name: str) -> None:
    account_id = organization.member()
    block = BLOCKS[name]
    block.cause(organization)
    stage = Stage(organization, **dict(block.parameters))
    block.fix(organization)

    stage.ask(account_id)
    assert stage.deliver_accounts().delays == {account_id: 5}

    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "source_policy_pending", 0)
    assert "is looked at again" in row["error"]
    assert organization.role(account_id) is None
    assert stage.work().finished == [account_id]
    assert stage.verdict(account_id) == ("enrolled", None)


def test_an_account_asked_for_before_the_look_fails_by_it(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=MISSING)
    stage.ask(account_id)
    stage.run_publish()

    assert stage.deliver_accounts().finished == [account_id]

    assert stage.verdict(account_id) == ("failed", "no_source_principal")


@pytest.mark.parametrize("name", ["foreign policy", "no room"])
def test_enrolled_accounts_are_checked_and_retired_while_newcomers_fail(organization: Organization, name: str) -> None:
    """Shard 1 is full and shard 2 can't be opened: what it grants is kept up to date all the same."""
    stays, goes, newcomer = (organization.member(each) for each in ("Stays", "Goes", "Newcomer"))
    stage = Stage(organization)
    stage.enroll(stays, goes)
    full = stage.full_shard(stays, goes)
    stage.fill(SOURCE_POLICY, full)
    if name == "no room":
        iam = organization.iam(MANAGEMENT)
        for number in range(9):
            iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))
    else:
        organization.make_policy(f"{SOURCE_POLICY}-2")
    stage.run_publish()
    assert stage.item("#status")["blocked"]["reason"] == BLOCKS[name].reason
    stage.ask(newcomer)
    stage.work()
    assert stage.verdict(newcomer) == ("failed", BLOCKS[name].reason)

    stage.enroll(stays)
    stage.run("retire", {"accounts": [goes]})
    stage.work()

    assert stage.verdict(stays) == ("enrolled", None)
    assert (stage.verdict(goes), organization.role(goes)) == (("retired", "retired_by_request"), None)
    assert organization.named() == {*full} - {goes}
    # There is room again, so the source policy is not blocked any more.
    assert "blocked" not in stage.item("#status")
    stage.run("rerun")
    stage.work()
    assert stage.verdict(newcomer) == ("enrolled", None)


def test_accounts_that_overshoot_the_room_are_pending_until_there_is_room(organization: Organization) -> None:
    first, second = sorted([organization.member("First"), organization.member("Second")])
    enrolled = organization.member("Enrolled")
    iam = organization.iam(MANAGEMENT)
    for number in range(9):
        iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))
    stage = Stage(organization)
    stage.enroll(enrolled)
    stage.fill(SOURCE_POLICY, stage.full_shard(enrolled)[:-1])

    stage.enroll(first, second)

    assert (stage.verdict(first), stage.verdict(second)) == (("enrolled", None), ("pending", "source_policy_pending"))
    assert organization.role(second) is not None
    assert stage.item("#status")["blocked"]["reason"] == "quota"

    iam.detach_role_policy(RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/Other0")
    stage.run_publish()
    assert stage.verdict(second) == ("enrolled", None)
    assert organization.named(f"{SOURCE_POLICY}-2") == {second}


def test_changed_names_stop_no_freeze_no_retirement_from_the_policy_and_no_check(organization: Organization) -> None:
    """What exists is kept under the names that it has; roles are not touched under another name."""
    stays, goes = organization.member("Stays"), organization.member("Goes")
    Stage(organization).enroll(stays, goes)
    renamed = Stage(organization, MemberRoleName="Renamed")

    answer = renamed.run("freeze", {"frozen": True}, seconds=7)
    renamed.run("retire", {"accounts": [goes]})
    renamed.work()
    renamed.let_records_grow_old(minutes=3)
    organization.iam(MANAGEMENT).detach_role_policy(
        RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"
    )
    renamed.run("resync", {"accounts": "new"})
    renamed.work()

    assert answer == {"frozen": True, "in_force": True, "why": None}
    policy = organization.policy()
    assert policy is not None
    assert (policy.accounts, policy.attached) == ({stays}, {"Reader"})
    assert "CrossAccountReadOnlyRole" in policy.document["Statement"][0]["Resource"]
    assert organization.role(goes) is not None
    assert renamed.row(goes)["error"].startswith("MEMBER_ROLE_NAME is Renamed")
    assert renamed.item("#status")["names"]["member_role_name"] == "CrossAccountReadOnlyRole"

    back = Stage(organization)
    back.run("resync")
    back.work()
    assert organization.role(goes) is None
