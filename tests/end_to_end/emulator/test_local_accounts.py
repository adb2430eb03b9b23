"""Organizations: pages, accessibility by state, and trust of access roles."""

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.expected_errors import denied


def access_role(account_id: str) -> str:
    return f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole"


def test_access_role_trusts_only_the_management_account(organization: LocalOrganization, account: str) -> None:
    other = organization.create_account("other")
    assert organization.assume(access_role(account))
    with denied("sts:AssumeRole"):
        organization.client("sts", other).assume_role(RoleArn=access_role(account), RoleSessionName="other")


@pytest.mark.parametrize("state", ["PENDING_ACTIVATION", "SUSPENDED", "CLOSED"])
def test_roles_of_an_inactive_account_can_not_be_assumed(organization: LocalOrganization, state: str) -> None:
    account_id = organization.create_account("inactive")
    organization.set_account_state(account_id, state)
    with denied("sts:AssumeRole"):
        organization.assume(access_role(account_id))
    for accessible in ("PENDING_CLOSURE", "ACTIVE"):
        organization.set_account_state(account_id, accessible)
        assert organization.assume(access_role(account_id))


def test_listing_has_pages_of_twenty_and_an_empty_page(organization: LocalOrganization) -> None:
    created = set(organization.create_accounts(21))

    pages = list(organization.client("organizations").get_paginator("list_accounts").paginate())

    sizes = [len(page["Accounts"]) for page in pages]
    assert max(sizes) == 20
    assert "NextToken" in pages[sizes.index(0)]
    ids = [account["Id"] for page in pages for account in page["Accounts"]]
    assert created <= set(ids)
    assert len(ids) == len(set(ids))
