"""Scope none: only the member roles are installed, for readers of any account."""

from typing import Any

import pytest

from tests.integration.boundary import Boundary, writes
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, SOURCE_PRINCIPAL, Organization
from tests.integration.stage import Stage, planned

VENDOR, OTHER = "arn:aws:iam::555566667777:role/Scanner", "arn:aws:iam::666677778888:root"
NONE = {
    "SourcePolicyScope": "none",
    "SourcePrincipalArns": f"{VENDOR},{OTHER}",
    "ExternalId": "example-external-id",
    "IncludeManagementAccount": "false",
}


@pytest.fixture
def readers(organization: Organization) -> Stage:
    """A stage of scope none."""
    return Stage(organization, **NONE)


def enrolled(stage: Stage, organization: Organization, count: int = 1) -> list[str]:
    """Enroll so many members, and return their ids."""
    accounts = organization.members(count)
    stage.run_and_drain("backfill")
    assert {stage.status(each) for each in accounts} == {("enrolled", None)}
    return accounts


def allowed_accounts(trust: dict[str, Any]) -> set[str]:
    roots = [statement["Principal"]["AWS"] for statement in trust["Statement"]]
    return {root for each in roots for root in ([each] if isinstance(each, str) else each)}


def test_only_the_member_role_is_installed(organization: Organization, boundary: Boundary, readers: Stage) -> None:
    (account_id,) = organization.members(1)

    with boundary.recording() as calls:
        readers.enroll(account_id)

    assert writes(calls, "iam:") == ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"]
    assert not organization.has_policy()
    row = readers.row(account_id)
    assert (row["outcome"], row["access"], row["in_force_since"]) == ("enrolled", "granted", row["updated_at"])
    assert allowed_accounts(organization.role(account_id).trust) == {"arn:aws:iam::555566667777:root", OTHER}
    assert readers.items().keys() == {"#status"}


def test_later_passes_keep_since_when_access_is_in_force(organization: Organization, readers: Stage) -> None:
    (account_id,) = enrolled(readers, organization)
    since = readers.row(account_id)["in_force_since"]

    readers.run_and_drain("resync", accounts="all")

    assert readers.row(account_id)["updated_at"] > since
    assert readers.row(account_id)["in_force_since"] == since


def test_sweeps_and_dry_runs_need_no_publish(organization: Organization, readers: Stage) -> None:
    (account_id,) = organization.members(1)

    dry_run = readers.run("backfill", {"accounts": "all", "dry_run": True})
    assert planned(dry_run)[account_id] == ("enrolled", None, "created")
    assert dry_run["source_policy"] == []

    readers.run_and_drain("resync", accounts="new")
    assert readers.status(account_id) == ("enrolled", None)
    assert readers.run_and_drain("rerun")["counts"] == {"sent": 0, "redrive_started": True}
    assert "check_requested_at" not in readers.item("#control")


def test_excluded_account_loses_its_role(organization: Organization, readers: Stage) -> None:
    """No source policy revokes its access."""
    excluded, kept = enrolled(readers, organization, 2)

    stage = Stage(organization, **NONE, ExcludeAccountIds=excluded)
    stage.run_and_drain("resync", accounts="all")

    assert [organization.has_role(each) for each in (excluded, kept)] == [False, True]
    assert stage.status(excluded) == ("retired", "excluded")
    assert {"in_force_since", "role_arn"}.isdisjoint(stage.row(excluded))


def test_account_stays_in_force_until_its_role_is_deleted(
    organization: Organization, boundary: Boundary, readers: Stage
) -> None:
    (account_id,) = enrolled(readers, organization)
    boundary.fail("iam:DeleteRole", "AccessDenied", status=403)

    readers.run_and_drain("retire", accounts=[account_id])

    assert (readers.row(account_id)["outcome"], readers.row(account_id)["access"]) == ("retired", "excluded")
    assert readers.status(account_id) == ("pending", "source_policy_pending")

    boundary.stop_faults()
    readers.run_and_drain("resync", accounts="all")
    assert readers.status(account_id) == ("retired", "retired_by_request")
    assert not organization.has_role(account_id)


def test_role_of_an_interrupted_pass_is_deleted_from_an_excluded_account(
    organization: Organization, boundary: Boundary, readers: Stage
) -> None:
    """Its row could not be written, and another pass wrote that it is excluded."""
    enrolled(readers, organization)
    (account_id,) = organization.members(1)
    readers.enqueue(account_id)
    boundary.fail("dynamodb:UpdateItem", "InternalServerError", status=500)
    readers.deliver_accounts()
    boundary.stop_faults()
    assert organization.has_role(account_id)
    stage = Stage(organization, **NONE, ExcludeAccountIds=account_id)
    stage.put_row(account_id, outcome="skipped", reason="excluded", access="excluded", revision=1, updated_at="")

    stage.skip_delays()
    stage.drain()

    assert not organization.has_role(account_id)
    assert stage.status(account_id) == ("skipped", "excluded")


def test_role_in_a_departed_account_is_reported(organization: Organization, readers: Stage) -> None:
    (account_id,) = enrolled(readers, organization)
    organization.depart(account_id)

    readers.send_event("AccountDepartedOrganization", account_id)
    readers.drain()

    row = readers.row(account_id)
    assert (*readers.status(account_id), row["access"]) == ("retired", "departed", "none")
    assert "may still be there" in row["error"]


def test_account_suspended_after_a_request_to_retire_it_ends(organization: Organization, readers: Stage) -> None:
    """The request remains the reason; the role that is left doesn't count, or an uninstall would never end."""
    (account_id,) = enrolled(readers, organization)
    organization.delete_role(account_id, "OrganizationAccountAccessRole")
    readers.run_and_drain("retire", accounts=[account_id])
    organization.set_state(account_id, "SUSPENDED")

    readers.run_and_drain("retire", accounts=[account_id])

    row = readers.row(account_id)
    assert readers.status(account_id) == ("retired", "retired_by_request")
    assert "in_force_since" not in row
    assert row["error"].endswith("may still be there: its account is suspended")
    assert readers.uninstall()[-1]["accounts"] == []


def test_uninstall_deletes_the_roles_and_the_names(organization: Organization, readers: Stage) -> None:
    accounts = enrolled(readers, organization, 2)

    readers.uninstall()

    assert not any(map(organization.has_role, accounts))
    assert readers.items().keys() == {"#control"}
    renamed = Stage(organization, **NONE, MemberRoleName="Another")
    renamed.run_and_drain("backfill")
    assert organization.has_role(accounts[0], "Another")


def test_changed_name_of_the_member_role_is_rejected(organization: Organization, readers: Stage) -> None:
    (account_id,) = enrolled(readers, organization)

    stage = Stage(organization, **NONE, MemberRoleName="Another")
    stage.run_and_drain("resync", accounts="all")

    assert stage.status(account_id) == ("failed", "names_changed")
    assert organization.has_role(account_id, MEMBER_ROLE)


def test_outside_account_needs_an_external_id(organization: Organization, readers: Stage) -> None:
    """Without one, what is installed stays as it is."""
    (account_id,) = enrolled(readers, organization)
    trust = organization.role(account_id).trust

    stage = Stage(organization, **NONE | {"ExternalId": ""})
    stage.run_and_drain("resync", accounts="all")

    row = stage.row(account_id)
    assert stage.status(account_id) == ("failed", "external_id_required")
    assert row["error"].startswith("account 555566667777 of SOURCE_PRINCIPAL_ARNS is not a member of the organization")
    assert (organization.role(account_id).trust, row["access"]) == (trust, "granted")


def test_another_scope_is_no_way_around_the_external_id(organization: Organization, readers: Stage) -> None:
    (account_id,) = enrolled(readers, organization)
    trust = organization.role(account_id).trust

    stage = Stage(organization, SourcePrincipalArns=VENDOR, IncludeManagementAccount="false")
    stage.run_and_drain("resync", accounts="all")

    assert stage.status(account_id) == ("failed", "external_id_required")
    assert organization.role(account_id).trust == trust


def test_accounts_of_the_organization_need_no_external_id(organization: Organization, boundary: Boundary) -> None:
    """Each of them is looked up once."""
    source, *accounts = organization.members(3)
    principals = f"arn:aws:iam::{source}:role/Reader,arn:aws:iam::{MANAGEMENT}:role/Reader"
    stage = Stage(organization, **NONE | {"ExternalId": "", "SourcePrincipalArns": principals})

    with boundary.recording() as calls:
        stage.run_and_drain("backfill")

    assert {stage.status(each) for each in accounts} == {("enrolled", None)}
    described = [call.params["AccountId"] for call in calls if call.operation == "organizations:DescribeAccount"]
    assert described == [source]


def test_changing_to_scope_none_keeps_a_source_policy(organization: Organization, stage: Stage) -> None:
    """The functions have no permission to delete it."""
    first, second = stage.enroll_members(2)
    granted = organization.granted()

    changed = Stage(organization, **NONE, ExcludeAccountIds=second)
    changed.run_and_drain("resync", accounts="all")

    assert changed.status(first) == ("failed", "names_changed")
    assert "set it back, or uninstall first" in changed.row(first)["error"]
    assert organization.has_role(second)
    assert organization.granted() == granted
    assert all("in_force_since" in changed.row(each) for each in (first, second))

    Stage(organization).run_and_drain("resync", accounts="all")
    assert organization.granted() == granted
    assert changed.statuses() == dict.fromkeys((MANAGEMENT, first, second), ("enrolled", None))


def test_changing_to_a_source_policy_grants_from_the_ledger(organization: Organization, readers: Stage) -> None:
    kept, failing = enrolled(readers, organization, 2)
    organization.delete_role(failing, "OrganizationAccountAccessRole")

    stage = Stage(organization, IncludeManagementAccount="false")
    stage.run_and_drain("resync", accounts="all")

    assert organization.granted() == {kept, failing}
    assert stage.status(kept) == ("enrolled", None)
    assert stage.item("#status")["names"]["source_account_id"] == SOURCE_PRINCIPAL.split(":")[4]
    assert stage.item("#status")["organization_id"].startswith("o-")
