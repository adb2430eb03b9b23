"""From the event to the source policy: accounts that are created, join, move, close and leave."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.messages import Message, Trigger, write_message
from tests.integration.boundary import Boundary
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    MEMBER_ROLE,
    NO_ACCOUNT,
    OURS,
    READ_ONLY,
    READER,
    SOURCE_POLICY,
    Organization,
    Policy,
    Role,
)
from tests.integration.stage import Stage

ASSUME = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]


def test_created_account_gets_role_row_and_access(organization: Organization) -> None:
    account_id = organization.member("Payments")
    stage = Stage(organization)

    stage.announce("CreateAccountResult", account_id)
    delivery = stage.deliver()

    assert delivery.finished == [account_id]
    assert organization.role(account_id) == Role(
        trust={
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{MANAGEMENT}:root"},
                    "Action": ASSUME,
                    "Condition": {"ArnEquals": {"aws:PrincipalArn": [READER]}},
                }
            ],
        },
        tags=OURS,
        attached={READ_ONLY},
        inline={
            "DenyDataReads": {
                "Version": "2012-10-17",
                "Statement": [
                    {"Sid": "DenyDataReads", "Effect": "Deny", "Action": list(DENIED_DATA_READS), "Resource": "*"},
                    {
                        "Sid": "DenyApiKeys",
                        "Effect": "Deny",
                        "Action": ["apigateway:GET"],
                        "Resource": ["arn:*:apigateway:*::/apikeys", "arn:*:apigateway:*::/apikeys/*"],
                    },
                ],
            }
        },
        boundary=None,
        max_session=3600,
    )
    assert organization.policy() == Policy(
        document={
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ASSUME,
                    "Resource": f"arn:aws:iam::*:role/{MEMBER_ROLE}",
                    "Condition": {
                        "StringEquals": {"aws:ResourceOrgID": organization.id, "aws:ResourceAccount": [account_id]}
                    },
                }
            ],
        },
        versions=["v1"],
        tags=OURS,
        attached={"Reader"},
    )
    row = stage.row(account_id)
    assert {key: row.pop(key) for key in ("outcome", "change", "access", "access_role", "trigger", "attempts")} == {
        "outcome": "enrolled",
        "change": "created",
        "access": "granted",
        "access_role": ACCESS_ROLE,
        "trigger": "event",
        "attempts": 0,
    }
    assert (row["name"], row["role_arn"]) == ("Payments", f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}")
    assert row["joined_at"] < row["enrolled_at"] == row["updated_at"] < row["in_force_since"]
    assert row["revision"] == 1
    assert {"reason", "error"}.isdisjoint(row)


def test_the_same_event_five_times_writes_nothing_more_to_iam(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.announce("CreateAccountResult", account_id)
    stage.deliver()
    since = stage.row(account_id)["enrolled_at"]

    with boundary.watching() as calls:
        for _ in range(4):
            stage.announce("CreateAccountResult", account_id)
            assert stage.deliver().finished == [account_id]

    assert [call.operation for call in calls if call.is_write and call.operation.startswith("iam:")] == []
    policy = organization.policy()
    assert policy is not None
    assert policy.versions == ["v1"]
    row = stage.row(account_id)
    assert (row["outcome"], row["change"], row["enrolled_at"]) == ("enrolled", "none", since)


def test_the_same_account_twice_in_a_batch_is_looked_at_once(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    with boundary.watching() as calls:
        delivery = stage.enroll(account_id, account_id)

    assert delivery.finished == [account_id, account_id]
    assert [call.operation for call in calls].count("sts:AssumeRole") == 1


def test_accounts_of_one_batch_share_one_policy_version(organization: Organization) -> None:
    first, *others = [organization.member(f"Workload{number}") for number in range(4)]
    stage = Stage(organization)
    stage.enroll(first)

    stage.enroll(*others)

    policy = organization.policy()
    assert policy is not None
    assert (policy.accounts, policy.versions) == ({first, *others}, ["v1", "v2"])


def test_an_account_that_joined_by_invitation_is_enrolled(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    stage.announce("AccountJoinedOrganization", account_id)
    stage.deliver()

    assert stage.verdict(account_id) == ("enrolled", None)
    assert organization.named() == {account_id}


def test_accounts_that_are_gone_lose_access_and_keep_their_rows(organization: Organization) -> None:
    reasons = ("suspended", "pending_closure", "closed", "departed")
    stays, *gone = [organization.member(name) for name in ("Stays", *reasons)]
    stage = Stage(organization)
    stage.enroll(stays, *gone)
    installed = organization.role(gone[0])

    organization.organizations.close_account(AccountId=gone[0])
    organization.alter(gone[1], state="PENDING_CLOSURE")
    organization.alter(gone[2], state="CLOSED")
    organization.depart(gone[3])
    for account_id in gone[:3]:
        stage.announce("CloseAccountResult", account_id)
    stage.announce("AccountDepartedOrganization", gone[3])
    delivery = stage.deliver()

    assert sorted(delivery.finished) == sorted(gone)
    assert organization.named() == {stays}
    assert [stage.verdict(account_id) for account_id in gone] == [("retired", reason) for reason in reasons]
    for account_id in gone:
        assert {"in_force_since", "enrolled_at"}.isdisjoint(stage.row(account_id))
        assert stage.row(account_id)["access"] == "none"
        assert organization.role(account_id) == installed


def test_a_shard_without_accounts_grants_none(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)

    organization.organizations.close_account(AccountId=account_id)
    stage.announce("CloseAccountResult", account_id)
    stage.deliver()

    policy = organization.policy()
    assert policy is not None
    (statement,) = policy.document["Statement"]
    assert statement["Condition"]["StringEquals"]["aws:ResourceAccount"] == [NO_ACCOUNT]


def test_an_account_moved_below_an_excluded_unit_leaves_and_comes_back_when_moved_out(
    organization: Organization,
) -> None:
    account_id = organization.member()
    excluded, allowed = organization.unit(), organization.unit()
    below = organization.unit(excluded)
    stage = Stage(organization, ExcludeOuIds=excluded)
    stage.enroll(account_id)

    organization.move(account_id, below)
    stage.announce("MoveAccount", account_id)
    stage.deliver()

    assert stage.verdict(account_id) == ("retired", "excluded")
    assert organization.named() == set()

    organization.move(account_id, allowed)
    stage.announce("MoveAccount", account_id)
    stage.deliver()

    assert stage.verdict(account_id) == ("enrolled", None)
    assert organization.named() == {account_id}


def test_an_account_outside_the_included_units_is_skipped_and_never_entered(
    organization: Organization, boundary: Boundary
) -> None:
    inside, outside = organization.member("Inside"), organization.member("Outside")
    unit = organization.unit()
    organization.move(inside, unit)
    stage = Stage(organization, IncludeOuIds=unit)

    stage.enroll(inside, outside)

    assert stage.verdict(outside) == ("skipped", "excluded")
    assert organization.role(outside) is None
    assert organization.named() == {inside}
    assert outside not in {call.account_id for call in boundary.calls}


def test_the_paths_that_organizations_tells_spare_asking_for_parents(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    unit = organization.unit()
    path = f"{organization.id}/r-ab12/{unit}/ou-ab12-11111111/{account_id}/"
    boundary.edit("organizations:DescribeAccount", lambda answer: answer["Account"].update(Paths=[path]))
    stage = Stage(organization, ExcludeOuIds=unit)

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("skipped", "excluded")
    assert "organizations:ListParents" not in {call.operation for call in boundary.calls}


def test_an_accounts_state_is_read_first_and_its_status_only_where_state_is_missing(
    organization: Organization, boundary: Boundary
) -> None:
    cases: list[tuple[dict[str, str], tuple[str, str | None]]] = [
        ({"State": "SUSPENDED", "Status": "ACTIVE"}, ("skipped", "suspended")),
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, ("enrolled", None)),
        ({"State": "PENDING_ACTIVATION", "Status": "ACTIVE"}, ("skipped", "pending_activation")),
        ({"Status": "SUSPENDED"}, ("skipped", "suspended")),
        ({"Status": "ACTIVE"}, ("enrolled", None)),
        ({}, ("enrolled", None)),
    ]
    accounts = {organization.member(f"Workload{number}"): case for number, case in enumerate(cases)}

    def tell(answer: dict[str, Any]) -> None:
        account = answer["Account"]
        del account["State"], account["Status"]
        account.update(accounts[account["Id"]][0])

    boundary.edit("organizations:DescribeAccount", tell)
    stage = Stage(organization)

    stage.enroll(*accounts)

    assert [stage.verdict(account_id) for account_id in accounts] == [expected for _, expected in cases]


def test_the_management_account_is_enrolled_with_the_functions_own_credentials(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)

    stage.enroll(MANAGEMENT)

    assert stage.verdict(MANAGEMENT) == ("enrolled", None)
    assert organization.named() == {MANAGEMENT}
    assert organization.role(MANAGEMENT) is not None
    assert "access_role" not in stage.row(MANAGEMENT)
    assert "sts:AssumeRole" not in {call.operation for call in boundary.calls}


@pytest.mark.parametrize(
    "parameters",
    [{"IncludeManagementAccount": "false"}, {"ExcludeAccountIds": f"111122223333,{MANAGEMENT}"}],
    ids=lambda parameters: next(iter(parameters)),
)
def test_the_management_account_is_left_alone_where_it_is_excluded(
    organization: Organization, parameters: dict[str, str]
) -> None:
    stage = Stage(organization, **parameters)

    stage.enroll(MANAGEMENT)

    assert stage.verdict(MANAGEMENT) == ("skipped", "excluded")
    assert organization.role(MANAGEMENT) is None


def test_an_id_that_was_never_of_the_organization_gets_no_row(organization: Organization) -> None:
    stage = Stage(organization)

    delivery = stage.enroll("999988887777")

    assert delivery.finished == ["999988887777"]
    assert stage.row("999988887777") == {}


def test_an_id_outside_the_organization_that_is_granted_gets_a_row(organization: Organization) -> None:
    """An id that is no member is revoked by a row that says none: without one, it would keep what the record grants."""
    account_id, outside = organization.member(), "999988887777"
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.fill(SOURCE_POLICY, {account_id, outside})

    stage.enroll(outside)

    row = stage.row(outside)
    assert (row["outcome"], row["reason"], row["access"]) == ("skipped", "departed", "none")
    assert organization.named() == {account_id}
    assert stage.granted(SOURCE_POLICY) == {account_id}


def test_a_forged_row_stays_inside_the_organization_and_is_corrected(organization: Organization) -> None:
    """The ledger grants access: a forged row is granted until a resync, but the document names the organization."""
    enrolled, excluded, outside = organization.member(), organization.member("Excluded"), "999988887777"
    stage = Stage(organization, ExcludeAccountIds=excluded)
    stage.enroll(enrolled)
    for account_id in (excluded, outside):
        row = {"outcome": "enrolled", "access": "granted", "updated_at": "2026-01-01T00:00:00.000000+00:00"}
        stage.ledger.put_item(Item={"account_id": account_id, **row})
    stage.run_publish()
    assert organization.named() == {enrolled, excluded, outside}
    policy = organization.policy()
    assert policy is not None
    (statement,) = policy.document["Statement"]
    assert statement["Condition"]["StringEquals"]["aws:ResourceOrgID"] == organization.id

    stage.run("resync", {"accounts": "all"})
    stage.work()

    assert organization.named() == {enrolled, MANAGEMENT}
    assert organization.role(excluded) is None
    assert [stage.row(each)["access"] for each in (excluded, outside)] == ["excluded", "none"]


def test_an_account_retired_by_request_stays_retired_whatever_events_say(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.ledger.put_item(
        Item={
            "account_id": account_id,
            "outcome": "retired",
            "reason": "retired_by_request",
            "access": "excluded",
            "retirement_requested_at": "2026-01-01T00:00:00.000000+00:00",
            "updated_at": "2026-01-01T00:00:00.000000+00:00",
        }
    )

    stage.announce("CreateAccountResult", account_id)
    stage.deliver()

    assert stage.verdict(account_id) == ("retired", "retired_by_request")
    assert organization.role(account_id) is None


@pytest.mark.parametrize(("minutes", "outcome"), [(14, "skipped"), (16, "enrolled"), (-2, "enrolled")])
def test_a_listing_is_believed_for_fifteen_minutes_and_spares_describing_the_account(
    organization: Organization, boundary: Boundary, minutes: int, outcome: str
) -> None:
    # GIVEN an account that was suspended when it was listed, and isn't any more
    account_id = organization.member()
    listed = Account(id=AccountId(account_id), name="Listed", state="SUSPENDED", joined_at=datetime.now(UTC))
    listed_at = datetime.now(UTC) - timedelta(minutes=minutes)
    message = Message(account_id=listed.id, trigger=Trigger.RESYNC, account=listed, listed_at=listed_at)
    stage = Stage(organization)

    stage.send(write_message(message))
    stage.deliver()

    assert stage.row(account_id)["outcome"] == outcome
    described = "organizations:DescribeAccount" in {call.operation for call in boundary.calls}
    assert described == (outcome == "enrolled")


def test_a_listing_of_an_account_that_is_yet_to_join_is_no_error_of_ours(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    listed = Account(
        id=AccountId(account_id), name="Listed", state="ACTIVE", joined_at=datetime.max.replace(tzinfo=UTC)
    )
    message = Message(account_id=listed.id, trigger=Trigger.RESYNC, account=listed, listed_at=datetime.now(UTC))
    boundary.fail("sts:AssumeRole")
    stage = Stage(organization)

    stage.send(write_message(message))
    stage.deliver()

    assert stage.verdict(account_id) == ("failed", "not_ready")


def test_a_message_of_a_later_release_is_read_as_far_as_it_is_known(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    stage.send(json.dumps({"account_id": account_id, "trigger": "event", "shade": "blue", "listed_at": 7}))
    stage.deliver()

    assert stage.verdict(account_id) == ("enrolled", None)


def test_two_stages_with_names_of_their_own_live_side_by_side(organization: Organization) -> None:
    account_id = organization.member()
    first = Stage(organization)
    second = Stage(organization, "second", MemberRoleName="Auditor", SourcePolicyName="AuditorAccess")

    first.enroll(account_id)
    second.enroll(account_id)
    first.enroll(account_id)

    assert (first.row(account_id)["outcome"], first.row(account_id)["change"]) == ("enrolled", "none")
    assert second.verdict(account_id) == ("enrolled", None)
    assert organization.named() == organization.named("AuditorAccess") == {account_id}
    role = organization.role(account_id, "Auditor")
    assert role is not None
    assert role.tags == {"managed-by": "rolecall", "rolecall-stage": "second"}
