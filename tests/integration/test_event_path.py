"""From the event to the source policy: accounts that are created, move, close and leave."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.accounts import Account
from chalicelib.arns import AccountId
from chalicelib.data_read_denies import deny_document
from chalicelib.messages import Message, Trigger, write_message
from tests.integration.boundary import Boundary
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    MEMBER_ROLE,
    READ_ONLY,
    SOURCE_POLICY,
    SOURCE_PRINCIPAL,
    STAGE_TAGS,
    Organization,
    Policy,
    Role,
)
from tests.integration.stage import Stage

ASSUME = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
OUTSIDE = "999988887777"
ROLE = Role(
    trust={
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{MANAGEMENT}:root"},
                "Action": ASSUME,
                "Condition": {"ArnEquals": {"aws:PrincipalArn": [SOURCE_PRINCIPAL]}},
            }
        ],
    },
    tags=STAGE_TAGS,
    attached={READ_ONLY},
    inline={"DenyDataReads": deny_document().content},
    boundary=None,
    max_session=3600,
)


def shard(organization: Organization, account_id: str) -> Policy:
    """Return the first shard with one account."""
    return Policy(
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
        tags=STAGE_TAGS,
        attached={"Reader"},
    )


def test_created_account_gets_role_row_and_access(organization: Organization) -> None:
    account_id = organization.member("Payments")
    stage = Stage(organization)

    stage.send_event("CreateAccountResult", account_id)
    delivery = stage.deliver()

    assert delivery.finished == [account_id]
    assert organization.role(account_id) == ROLE
    assert organization.policy() == shard(organization, account_id)
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


def test_account_is_reconciled_once_per_batch(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    with boundary.recording() as calls:
        delivery = stage.enroll(account_id, account_id)

    assert delivery.finished == [account_id, account_id]
    assert [call.operation for call in calls].count("sts:AssumeRole") == 1


def test_closed_and_departed_accounts_lose_access_and_keep_their_rows(organization: Organization) -> None:
    reasons = ("suspended", "pending_closure", "closed", "departed")
    kept, *lost = [organization.member(name) for name in ("Kept", *reasons)]
    stage = Stage(organization)
    stage.enroll(kept, *lost)
    role = organization.role(kept)

    for account_id, state in zip(lost, ("SUSPENDED", "PENDING_CLOSURE", "CLOSED"), strict=False):
        organization.set_state(account_id, state)
        stage.send_event("CloseAccountResult", account_id)
    organization.depart(lost[3])
    stage.send_event("AccountDepartedOrganization", lost[3])
    delivery = stage.deliver()

    assert sorted(delivery.finished) == sorted(lost)
    assert organization.granted() == {kept}
    assert [stage.status(account_id) for account_id in lost] == [("retired", reason) for reason in reasons]
    for account_id in lost:
        assert {"in_force_since", "enrolled_at"}.isdisjoint(stage.row(account_id))
        assert stage.row(account_id)["access"] == "none"
        assert organization.role(account_id) == role


def test_account_follows_its_move_out_of_scope_and_back(organization: Organization) -> None:
    account_id = organization.member()
    excluded, allowed = organization.unit(), organization.unit()
    stage = Stage(organization, ExcludeOuIds=excluded)
    stage.enroll(account_id)

    organization.move(account_id, organization.unit(excluded))
    stage.send_event("MoveAccount", account_id)
    stage.deliver()

    assert stage.status(account_id) == ("retired", "excluded")
    assert organization.granted() == set()

    organization.move(account_id, allowed)
    stage.send_event("MoveAccount", account_id)
    stage.deliver()

    assert stage.status(account_id) == ("enrolled", None)
    assert organization.granted() == {account_id}


def test_account_outside_the_included_units_is_not_entered(organization: Organization, boundary: Boundary) -> None:
    inside, outside = organization.member("Inside"), organization.member("Outside")
    unit = organization.unit()
    organization.move(inside, unit)
    stage = Stage(organization, IncludeOuIds=unit)

    stage.enroll(inside, outside)

    assert stage.status(outside) == ("skipped", "excluded")
    assert organization.granted() == {inside}
    assert outside not in {call.account_id for call in boundary.calls}


def test_parents_are_not_listed_if_an_account_has_paths(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    unit = organization.unit()
    path = f"{organization.id}/r-ab12/{unit}/ou-ab12-11111111/{account_id}/"
    boundary.edit_response("organizations:DescribeAccount", lambda response: response["Account"].update(Paths=[path]))
    stage = Stage(organization, ExcludeOuIds=unit)

    stage.enroll(account_id)

    assert stage.status(account_id) == ("skipped", "excluded")
    assert "organizations:ListParents" not in {call.operation for call in boundary.calls}


def test_accounts_status_is_used_only_if_it_has_no_state(organization: Organization, boundary: Boundary) -> None:
    cases: list[tuple[dict[str, str], tuple[str, str | None]]] = [
        ({"State": "SUSPENDED", "Status": "ACTIVE"}, ("skipped", "suspended")),
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, ("enrolled", None)),
        ({"State": "PENDING_CLOSURE", "Status": "ACTIVE"}, ("skipped", "pending_closure")),
        ({"Status": "SUSPENDED"}, ("skipped", "suspended")),
        ({"Status": "ACTIVE"}, ("enrolled", None)),
        ({}, ("enrolled", None)),
    ]
    accounts = dict(zip(organization.members(len(cases)), cases, strict=True))

    def replace_state(response: dict[str, Any]) -> None:
        account = response["Account"]
        del account["State"], account["Status"]
        account.update(accounts[account["Id"]][0])

    boundary.edit_response("organizations:DescribeAccount", replace_state)
    stage = Stage(organization)

    stage.enroll(*accounts)

    assert [stage.status(account_id) for account_id in accounts] == [expected for _, expected in cases]


def test_management_account_is_enrolled_with_the_functions_role(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)

    stage.enroll(MANAGEMENT)

    assert stage.status(MANAGEMENT) == ("enrolled", None)
    assert organization.granted() == {MANAGEMENT}
    assert organization.has_role(MANAGEMENT)
    assert "access_role" not in stage.row(MANAGEMENT)
    assert "sts:AssumeRole" not in {call.operation for call in boundary.calls}


def test_id_outside_the_organization_gets_no_row(organization: Organization) -> None:
    stage = Stage(organization, ReadyGraceSeconds="0")

    delivery = stage.enroll(OUTSIDE)

    assert delivery.finished == [OUTSIDE]
    assert stage.row(OUTSIDE) == {}


def test_granted_id_outside_the_organization_is_revoked(organization: Organization) -> None:
    """Only a row with the access none revokes what a record grants."""
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.set_recorded(SOURCE_POLICY, {account_id, OUTSIDE})

    stage.enroll(OUTSIDE)

    row = stage.row(OUTSIDE)
    assert (row["outcome"], row["reason"], row["access"]) == ("skipped", "departed", "none")
    assert organization.granted() == stage.recorded() == {account_id}


def test_forged_row_stays_inside_the_organization_and_is_corrected(organization: Organization) -> None:
    """The ledger grants access: a forged row is granted until a resync, but the document names the organization."""
    enrolled, excluded = organization.member(), organization.member("Excluded")
    stage = Stage(organization, ExcludeAccountIds=excluded)
    stage.enroll(enrolled)
    for account_id in (excluded, OUTSIDE):
        stage.put_row(account_id, outcome="enrolled", access="granted", updated_at="2026-01-01T00:00:00.000000+00:00")
    stage.run_publish()
    assert organization.granted() == {enrolled, excluded, OUTSIDE}
    assert organization.policy().condition["StringEquals"]["aws:ResourceOrgID"] == organization.id

    stage.run_and_drain("resync")

    assert organization.granted() == {enrolled, MANAGEMENT}
    assert not organization.has_role(excluded)
    assert [stage.row(each)["access"] for each in (excluded, OUTSIDE)] == ["excluded", "none"]


@pytest.mark.parametrize(("minutes", "outcome"), [(14, "skipped"), (16, "enrolled"), (-2, "enrolled")])
def test_listing_is_valid_for_fifteen_minutes(
    organization: Organization, boundary: Boundary, minutes: int, outcome: str
) -> None:
    """The account was suspended when it was listed, and is active now; a valid listing spares DescribeAccount."""
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
