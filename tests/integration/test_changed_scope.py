"""A changed scope: a resync records every account first, then publish changes the document."""

import pytest

from chalicelib.settings import Settings
from chalicelib.source_policy.documents import exclusion_capacity
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, SECOND_SHARD, Organization
from tests.integration.stage import Stage

WIDE = {"SourcePolicyScope": "organization"}


def resync_once(stage: Stage) -> None:
    """Resync new accounts, and deliver only the messages to publish."""
    stage.run("resync", {"accounts": "new"})
    stage.publish()


def test_changed_scope_takes_effect_with_the_next_resync(organization: Organization) -> None:
    early, late = organization.member("Early"), organization.member("Late")
    Stage(organization).run_and_drain("resync")
    wide = Stage(organization, **WIDE)
    wide.enroll(late)
    assert organization.granted() == {early, late, MANAGEMENT}

    wide.run_and_drain("resync", accounts="new")
    assert organization.policy().condition == {"StringEquals": {"aws:ResourceOrgID": organization.id}}
    assert set(wide.statuses().values()) == {("enrolled", None)}

    latest = organization.member("Latest")
    narrow = Stage(organization)
    narrow.enroll(latest)
    assert organization.policy().is_wide
    assert narrow.status(latest) == ("enrolled", None)

    narrow.run_and_drain("resync")
    assert organization.granted() == {early, late, latest, MANAGEMENT}
    assert set(narrow.statuses().values()) == {("enrolled", None)}


@pytest.mark.parametrize(("before", "after"), [({}, WIDE), (WIDE, {})], ids=["widened", "narrowed"])
def test_scope_changes_only_once_every_account_is_recorded(
    organization: Organization, before: dict[str, str], after: dict[str, str]
) -> None:
    """An account without a row might be an excluded one, or lose its access."""
    organization.member()
    Stage(organization, **before).run_and_drain("resync")
    excluded = organization.member("Excluded")
    changed = Stage(organization, **after, ExcludeAccountIds=excluded)
    condition = organization.policy().condition

    resync_once(changed)
    assert organization.policy().condition == condition

    changed.drain()
    changed.run_and_drain("resync", accounts="new")
    assert organization.policy().is_wide == (after == WIDE)
    assert changed.status(excluded) == ("skipped", "excluded")


def test_narrowed_scope_keeps_every_enrolled_account(organization: Organization, boundary: Boundary) -> None:
    wide = Stage(organization, **WIDE)
    accounts = wide.enroll_members(2)
    retired = organization.member("Retired")
    wide.enroll(retired)
    wide.run_and_drain("retire", accounts=[retired])
    narrow = Stage(organization)

    boundary.fail("sts:AssumeRole", account_id=accounts[0])
    narrow.run_and_drain("resync")

    assert organization.granted() == {MANAGEMENT, *accounts}
    assert narrow.row(accounts[0])["access"] == "granted"


def test_narrowed_scope_keeps_accounts_of_unknown_access(organization: Organization, boundary: Boundary) -> None:
    """The organization's statement granted them, and only the access none or excluded revokes."""
    wide = Stage(organization, **WIDE)
    wide.run_and_drain("resync")
    unknown = organization.member("Unknown")
    boundary.fail("organizations:DescribeAccount", "ServiceException", account_id=unknown, status=500)
    wide.enroll(unknown)
    assert "access" not in wide.row(unknown)
    boundary.stop_faults()
    boundary.fail("sts:AssumeRole", account_id=unknown)
    organization.age_account(unknown)

    Stage(organization).run_and_drain("resync", accounts="new")

    assert organization.granted() == {MANAGEMENT, unknown}


def test_narrowed_scope_without_room_is_not_applied(organization: Organization) -> None:
    wide = Stage(organization, **WIDE)
    wide.run_and_drain("resync")
    narrow = Stage(organization)
    accounts = wide.put_rows(len(wide.full_shard()), "granted")
    organization.attach_others(9)
    before = organization.policy()

    resync_once(narrow)

    problem = narrow.item("#status")["scope"]
    assert problem["reason"] == "quota"
    assert problem["error"].startswith("SourcePolicyScope=accounts has no room for 1 accounts")
    assert organization.policy() == before
    for account_id in accounts:
        wide.delete_row(account_id)
    narrow.run_and_drain("resync", accounts="new")
    assert organization.granted() == {MANAGEMENT}
    assert "scope" not in narrow.item("#status")


def test_wide_scope_with_too_many_exclusions_is_not_applied(organization: Organization) -> None:
    narrow = Stage(organization)
    narrow.run_and_drain("resync")
    narrow.put_rows(exclusion_capacity(Settings.from_env(narrow.environ)) + 1, "excluded")
    wide = Stage(organization, **WIDE)

    resync_once(wide)

    assert wide.item("#status")["scope"]["reason"] == "quota"
    assert organization.granted() == {MANAGEMENT}
    Stage(organization)
    assert "scope" not in wide.item("#status")


@pytest.mark.parametrize("code", ["ServiceFailure", "AccessDenied"])
def test_further_shards_are_written_before_the_first_is_narrowed(
    organization: Organization, boundary: Boundary, code: str
) -> None:
    wide = Stage(organization, **WIDE)
    (account_id,) = wide.enroll_members(1)
    accounts = wide.put_rows(len(wide.full_shard()), "granted")
    narrow = Stage(organization)
    boundary.fail("iam:CreatePolicy", code, status=500 if code == "ServiceFailure" else 403)

    resync_once(narrow)
    assert organization.policy().is_wide
    assert narrow.status(account_id) == ("enrolled", None)

    boundary.stop_faults()
    narrow.skip_delays()
    resync_once(narrow)
    assert organization.granted() | organization.granted(SECOND_SHARD) == {MANAGEMENT, account_id, *accounts}

    resync_once(Stage(organization, **WIDE))
    assert organization.policy().is_wide
    assert organization.granted(SECOND_SHARD) == set()


def test_revocations_and_a_freeze_do_not_wait_for_a_scope(organization: Organization, boundary: Boundary) -> None:
    wide = Stage(organization, **WIDE)
    retired, kept = wide.enroll_members(2)
    wide.put_rows(len(wide.full_shard()), "granted")
    narrow = Stage(organization)
    boundary.fail("iam:CreatePolicy", "ServiceFailure", status=500)
    resync_once(narrow)

    narrow.run("retire", {"accounts": [retired]})
    narrow.deliver_accounts()
    narrow.expire_lease()
    response = narrow.run("freeze", {"frozen": True}, seconds=7)

    assert response["in_force"] is True
    assert organization.policy().denials
    boundary.stop_faults()
    narrow.skip_delays()
    narrow.run_and_drain("resync", accounts="new")
    assert retired not in organization.granted()
    assert kept in organization.granted() | organization.granted(SECOND_SHARD)
