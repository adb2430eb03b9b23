"""Accounts come, change and go as in AWS Organizations."""

import time
from typing import Any

import pytest

from local.organization import LocalOrganization
from local.waiting import until
from tests.end_to_end.emulator.conftest import Events
from tests.end_to_end.emulator.refusals import denied, refused


def access_role(account_id: str, name: str = "OrganizationAccountAccessRole") -> str:
    return f"arn:aws:iam::{account_id}:role/{name}"


def described(organization: LocalOrganization, account_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = organization.client("organizations").describe_account(AccountId=account_id)["Account"]
    return answer


def test_creation_is_asynchronous_and_ends_with_an_event(organization: LocalOrganization, events: Events) -> None:
    organizations = organization.client("organizations")

    asked = organizations.create_account(AccountName="later", Email="later@example.com")["CreateAccountStatus"]
    assert asked["State"] == "IN_PROGRESS"
    assert "AccountId" not in asked

    def finished() -> dict[str, Any] | None:
        answer = organizations.describe_create_account_status(CreateAccountRequestId=asked["Id"])
        status: dict[str, Any] = answer["CreateAccountStatus"]
        return status if status["State"] == "SUCCEEDED" else None

    account_id = until(finished, "the account is created")["AccountId"]
    event = events.named("CreateAccountResult", account_id)
    assert event["source"] == "aws.organizations"
    assert event["detail-type"] == "AWS Service Event via CloudTrail"
    assert (event["account"], event["region"]) == (organization.management_account_id, "us-east-1")
    status = event["detail"]["serviceEventDetails"]["createAccountStatus"]
    assert (status["accountId"], status["state"], status["accountName"]) == (account_id, "SUCCEEDED", "****")


def test_the_call_itself_is_an_event_without_the_account(organization: LocalOrganization, events: Events) -> None:
    request_id = organization.create_account("in-progress", wait=False)

    event = events.named("CreateAccount", request_id)

    assert event["detail-type"] == "AWS API Call via CloudTrail"
    assert event["detail"]["responseElements"]["createAccountStatus"]["state"] == "IN_PROGRESS"
    assert event["detail"]["requestParameters"] == {"accountName": "****", "email": "****"}


def test_an_email_in_use_fails_the_creation_later(organization: LocalOrganization, events: Events) -> None:
    organizations = organization.client("organizations")
    account_id = organization.create_account("first")
    email = described(organization, account_id)["Email"]

    asked = organizations.create_account(AccountName="second", Email=email)["CreateAccountStatus"]

    status = events.named("CreateAccountResult", asked["Id"])["detail"]["serviceEventDetails"]["createAccountStatus"]
    assert (status["state"], status["failureReason"]) == ("FAILED", "EMAIL_ALREADY_EXISTS")
    assert "accountId" not in status


@pytest.mark.parametrize("name", [None, "AWSControlTowerExecution"])
def test_a_created_account_has_an_access_role_with_full_access(
    organization: LocalOrganization, name: str | None
) -> None:
    account_id = organization.create_account("with-role", role_name=name)

    session = organization.assume(access_role(account_id, name or "OrganizationAccountAccessRole"))

    iam = organization.client("iam", credentials=session)
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == [name or "OrganizationAccountAccessRole"]


def test_an_access_role_trusts_only_the_management_account(organization: LocalOrganization, account: str) -> None:
    stranger = organization.create_account("stranger")
    with denied("sts:AssumeRole"):
        organization.client("sts", stranger).assume_role(RoleArn=access_role(account), RoleSessionName="stranger")


def test_a_new_access_role_is_assumable_after_a_while(organization: LocalOrganization) -> None:
    organization.set_ready_delay(3600)
    account_id = organization.create_account("slow")
    with denied("sts:AssumeRole"):
        organization.assume(access_role(account_id))

    organization.set_ready_delay(0)

    assert organization.assume(access_role(account_id))


def test_events_can_be_lost(organization: LocalOrganization, events: Events) -> None:
    organization.drop_events(True)
    lost = organization.create_account("unheard")
    organization.drop_events(False)
    events.named("CreateAccountResult", organization.create_account("heard"))

    assert events.names_about(lost) == []


def test_an_account_shows_its_state_status_and_path(organization: LocalOrganization) -> None:
    organizations = organization.client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    outer = organizations.create_organizational_unit(ParentId=root, Name="outer")["OrganizationalUnit"]["Id"]
    inner = organizations.create_organizational_unit(ParentId=outer, Name="inner")["OrganizationalUnit"]["Id"]
    account_id = organization.create_account("deep")
    organizations.move_account(AccountId=account_id, SourceParentId=root, DestinationParentId=inner)

    shown = described(organization, account_id)

    organization_id = organization.organization_id
    assert (
        shown["Arn"]
        == f"arn:aws:organizations::{organization.management_account_id}:account/{organization_id}/{account_id}"
    )
    assert (shown["State"], shown["Status"], shown["JoinedMethod"]) == ("ACTIVE", "ACTIVE", "CREATED")
    assert shown["Paths"] == [f"{organization_id}/{root}/{outer}/{inner}/{account_id}/"]
    assert abs(shown["JoinedTimestamp"].timestamp() - time.time()) < 60
    assert organizations.list_parents(ChildId=account_id)["Parents"] == [{"Id": inner, "Type": "ORGANIZATIONAL_UNIT"}]
    children = organizations.list_children(ParentId=inner, ChildType="ACCOUNT")["Children"]
    assert children == [{"Id": account_id, "Type": "ACCOUNT"}]


def test_a_move_is_an_event(organization: LocalOrganization, events: Events) -> None:
    organizations = organization.client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    unit = organizations.create_organizational_unit(ParentId=root, Name="moved-to")["OrganizationalUnit"]["Id"]
    account_id = organization.create_account("moved")
    organizations.move_account(AccountId=account_id, SourceParentId=root, DestinationParentId=unit)

    detail = events.named("MoveAccount", account_id)["detail"]

    assert detail["requestParameters"] == {"accountId": account_id, "sourceParentId": root, "destinationParentId": unit}
    assert detail["responseElements"] is None


def test_a_closed_account_is_closed_later_and_lets_no_one_in(organization: LocalOrganization, events: Events) -> None:
    account_id = organization.create_account("closing")
    organization.client("organizations").close_account(AccountId=account_id)
    assert described(organization, account_id)["State"] == "PENDING_CLOSURE"

    assert events.named("CloseAccount", account_id)["detail"]["requestParameters"] == {"accountId": account_id}
    result = events.named("CloseAccountResult", account_id)["detail"]["serviceEventDetails"]["closeAccountStatus"]

    assert (result["accountId"], result["state"]) == (account_id, "SUCCEEDED")
    shown = described(organization, account_id)
    assert (shown["State"], shown["Status"]) == ("CLOSED", "SUSPENDED")
    with denied("sts:AssumeRole"):
        organization.assume(access_role(account_id))


def test_a_suspended_account_lets_no_one_in_until_it_is_active_again(organization: LocalOrganization) -> None:
    account_id = organization.create_account("suspended")
    organization.set_account_state(account_id, "SUSPENDED")
    shown = described(organization, account_id)
    assert (shown["State"], shown["Status"]) == ("SUSPENDED", "SUSPENDED")
    with denied("sts:AssumeRole"):
        organization.assume(access_role(account_id))

    organization.set_account_state(account_id, "ACTIVE")

    assert organization.assume(access_role(account_id))


def test_an_unknown_state_is_refused(organization: LocalOrganization, account: str) -> None:
    with pytest.raises(ValueError, match="CLOSING"):
        organization.set_account_state(account, "CLOSING")


def test_an_account_may_be_older_than_it_is(organization: LocalOrganization) -> None:
    account_id = organization.create_account("older")
    joined_at = described(organization, account_id)["JoinedTimestamp"]
    organization.age_account(account_id, 3600)
    assert (joined_at - described(organization, account_id)["JoinedTimestamp"]).total_seconds() == 3600


def test_a_removed_account_is_gone_and_keeps_its_roles(organization: LocalOrganization, events: Events) -> None:
    organizations = organization.client("organizations")
    account_id = organization.create_account("removed")
    organizations.remove_account_from_organization(AccountId=account_id)

    with refused("AccountNotFoundException"):
        described(organization, account_id)
    assert events.named("RemoveAccountFromOrganization", account_id)["detail"]["requestParameters"] == {
        "accountId": account_id
    }
    departed = events.named("AccountDepartedOrganization", account_id)["detail"]["serviceEventDetails"]
    assert (departed["accountId"], departed["departureMethod"]) == (account_id, "REMOVAL_REASONS")
    assert organization.client("iam", account_id).get_role(RoleName="OrganizationAccountAccessRole")


def test_a_refused_call_is_an_event_with_an_error(organization: LocalOrganization, events: Events) -> None:
    with refused("AccountNotFoundException"):
        organization.client("organizations").remove_account_from_organization(AccountId="999999999999")

    detail = events.named("RemoveAccountFromOrganization", "999999999999")["detail"]

    assert detail["errorCode"] == "AccountNotFound"


def test_an_account_may_leave_by_itself(organization: LocalOrganization, events: Events) -> None:
    account_id = organization.create_account("leaving")
    organization.client("organizations", account_id).leave_organization()

    departed = events.named("AccountDepartedOrganization", account_id)["detail"]["serviceEventDetails"]

    assert departed["departureMethod"] == "LEFT"
    with refused("AccountNotFoundException"):
        described(organization, account_id)
    assert "LeaveOrganization" not in events.names_about(account_id)


def test_an_invited_account_joins_without_an_access_role(organization: LocalOrganization, events: Events) -> None:
    account_id = organization.invite_account()

    assert described(organization, account_id)["JoinedMethod"] == "INVITED"
    handshake = events.named("AcceptHandshake", account_id)["detail"]["responseElements"]["handshake"]
    assert (handshake["state"], handshake["action"]) == ("ACCEPTED", "INVITE")
    assert {"id": account_id, "type": "ACCOUNT"} in handshake["parties"]
    joined = events.named("AccountJoinedOrganization", account_id)["detail"]["serviceEventDetails"]
    assert (joined["accountId"], joined["joinedMethod"]) == (account_id, "INVITED")
    with denied("sts:AssumeRole"):
        organization.assume(access_role(account_id))


def test_only_the_invited_account_accepts(organization: LocalOrganization, account: str) -> None:
    target = {"Type": "ACCOUNT", "Id": "424242424242"}
    handshake = organization.client("organizations").invite_account_to_organization(Target=target)["Handshake"]
    with refused("HandshakeNotFoundException"):
        organization.client("organizations", account).accept_handshake(HandshakeId=handshake["Id"])


def test_members_may_ask_which_organization_they_are_in_and_no_more(
    organization: LocalOrganization, account: str
) -> None:
    organizations = organization.client("organizations", account)
    assert organizations.describe_organization()["Organization"]["Id"] == organization.organization_id
    with refused("AccessDeniedException"):
        organizations.list_accounts()


def test_listings_come_in_pages_of_twenty_of_which_one_is_empty(organization: LocalOrganization) -> None:
    organizations = organization.client("organizations")
    created = set(organization.create_accounts(21))

    pages = list(organizations.get_paginator("list_accounts").paginate())

    sizes = [len(page["Accounts"]) for page in pages]
    assert max(sizes) == 20
    assert 0 in sizes
    assert "NextToken" in pages[sizes.index(0)]
    ids = [account["Id"] for page in pages for account in page["Accounts"]]
    assert created <= set(ids)
    assert len(ids) == len(set(ids))


def test_many_accounts_are_created_at_the_same_time(organization: LocalOrganization) -> None:
    created = organization.create_accounts(5)
    assert len(set(created)) == 5
    assert {described(organization, account_id)["State"] for account_id in created} == {"ACTIVE"}
    assert organization.assume(access_role(created[-1]))


def test_a_listing_may_leave_accounts_out(organization: LocalOrganization) -> None:
    hidden, shown = organization.create_accounts(2)

    def listed() -> set[str]:
        pages = organization.client("organizations").get_paginator("list_accounts").paginate()
        return {account["Id"] for page in pages for account in page["Accounts"]}

    organization.hide_accounts([hidden])
    assert {hidden, shown} & listed() == {shown}
    assert described(organization, hidden)["State"] == "ACTIVE"
    organization.hide_accounts([])
    assert {hidden, shown} <= listed()
