"""Accounts are selected by tags: listed by sweeps, read for an event or before access changes."""

from collections import Counter

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, Organization
from tests.integration.stage import Stage, planned

GET_RESOURCES = "resource-groups-tagging-api:GetResources"
LIST_TAGS = "organizations:ListTagsForResource"
OUT = "excluded_by_tag"


def reads(boundary: Boundary) -> Counter[str]:
    """Return the calls that read tags or describe accounts."""
    counted = {GET_RESOURCES, LIST_TAGS, "organizations:DescribeAccount"}
    return Counter(call.operation for call in boundary.calls if call.operation in counted)


def tagged_members(organization: Organization, count: int) -> list[str]:
    """Create members with the tag env=prod, and give it to the management account."""
    members = organization.members(count)
    for account_id in (MANAGEMENT, *members):
        organization.tag(account_id, env="prod")
    return members


def enrolled_stage(organization: Organization, count: int, **parameters: str) -> tuple[Stage, list[str]]:
    members = tagged_members(organization, count)
    stage = Stage(organization, IncludeTags="env=prod", **parameters)
    stage.run_and_drain("backfill")
    assert organization.granted() == {MANAGEMENT, *members}
    return stage, members


def test_backfill_enrolls_exactly_the_tagged_accounts(organization: Organization) -> None:
    prod, secret, dev, untagged, elsewhere = organization.members(5)
    unit = organization.unit()
    for account_id in (prod, secret, dev, untagged):
        organization.move(account_id, unit)
    for account_id, tags in ((prod, {"env": "prod"}), (secret, {"env": "prod", "secret": ""}), (dev, {"env": "dev"})):
        organization.tag(account_id, **tags)
    organization.tag(elsewhere, env="prod")
    stage = Stage(organization, IncludeTags="env=prod,team=*", ExcludeTags="secret=*", IncludeOuIds=unit)

    stage.run_and_drain("backfill")

    left_out = dict.fromkeys((secret, dev, untagged), ("skipped", OUT))
    excluded = dict.fromkeys((MANAGEMENT, elsewhere), ("skipped", "excluded"))
    assert stage.statuses() == {prod: ("enrolled", None), **left_out, **excluded}
    assert organization.granted() == {prod}


def test_sweeps_read_tags_by_the_page_and_no_account(organization: Organization, boundary: Boundary) -> None:
    stage, _ = enrolled_stage(organization, 4)
    organization.member("Untagged")
    organization.clock.pause(300)  # A listing replaces no newer row.
    boundary.calls.clear()

    stage.run_and_drain("resync")

    assert reads(boundary) == {GET_RESOURCES: 1}


def test_without_the_settings_no_tag_is_read(organization: Organization, stage: Stage, boundary: Boundary) -> None:
    (account_id,) = tagged_members(organization, 1)

    stage.run_and_drain("backfill")
    stage.send_event("UntagResource", account_id)
    organization.clock.pause(300)
    stage.run_and_drain("resync")

    assert organization.granted() == {MANAGEMENT, account_id}
    assert reads(boundary) == {}
    assert not [name for name in boundary.clients if "tagging" in name]


@pytest.mark.parametrize("setting", [{"IncludeTags": "env=prod"}, {"ExcludeTags": "env=dev"}])
def test_changed_tag_retires_and_enrolls_by_its_event(organization: Organization, setting: dict[str, str]) -> None:
    """The tagging API doesn't show the changes yet."""
    (account_id,) = tagged_members(organization, 1)
    stage = Stage(organization, **setting)
    organization.stop_indexing()
    stage.enroll(account_id)

    organization.tag(account_id, env="dev")
    stage.send_event("TagResource", account_id)
    stage.deliver()

    assert stage.status(account_id) == ("retired", OUT)
    assert organization.granted() == set()

    organization.tag(account_id, env="prod")
    stage.send_event("TagResource", account_id)
    stage.deliver()

    assert stage.status(account_id) == ("enrolled", None)
    assert organization.granted() == {account_id}


def test_tag_of_a_unit_is_none_of_its_accounts(organization: Organization) -> None:
    unit, account_id = organization.unit(), organization.member()
    organization.move(account_id, unit)
    organization.tag(unit, env="prod")
    stage = Stage(organization, IncludeTags="env=prod")

    stage.send_event("TagResource", unit)
    stage.run_and_drain("backfill")

    assert stage.status(account_id) == ("skipped", OUT)


@pytest.mark.parametrize("setting", [{"IncludeTags": "env=prod"}, {"ExcludeTags": "env=dev"}])
def test_outdated_index_revokes_nothing(organization: Organization, setting: dict[str, str]) -> None:
    account_id = organization.member()
    organization.tag(account_id, env="dev")
    organization.stop_indexing()
    organization.tag(account_id, env="prod")
    stage = Stage(organization, **setting)
    stage.enroll(account_id)
    organization.clock.pause(300)

    stage.run_and_drain("resync")

    assert stage.status(account_id) == ("enrolled", None)
    assert organization.granted() >= {account_id}


@pytest.mark.parametrize("setting", [{"IncludeTags": "env=prod"}, {"ExcludeTags": "env=dev"}])
def test_outdated_index_grants_nothing_again(organization: Organization, setting: dict[str, str]) -> None:
    (account_id,) = tagged_members(organization, 1)
    stage = Stage(organization, **setting)
    stage.enroll(account_id)
    organization.stop_indexing()
    organization.tag(account_id, env="dev")
    stage.send_event("TagResource", account_id)
    stage.deliver()
    organization.clock.pause(300)

    stage.run_and_drain("resync")

    assert stage.status(account_id) == ("retired", OUT)
    assert account_id not in organization.granted()


def test_outdated_index_grants_nothing_after_a_failed_pass(organization: Organization, boundary: Boundary) -> None:
    """A failure replaces the reason in the row, and leaves the access."""
    (account_id,) = tagged_members(organization, 1)
    stage = Stage(organization, IncludeTags="env=prod")
    stage.enroll(account_id)
    organization.stop_indexing()
    organization.tag(account_id, env="dev")
    stage.enroll(account_id)
    boundary.fail(LIST_TAGS, "TargetNotFoundException", status=400, times=1)
    stage.enroll(account_id)
    assert stage.status(account_id) == ("failed", "service_error")
    organization.clock.pause(300)
    stage.purge()

    stage.run_and_drain("resync")

    assert stage.status(account_id)[1] == OUT
    assert account_id not in organization.granted()


def test_outdated_index_ends_no_retry_of_a_new_account(organization: Organization) -> None:
    account_id = organization.member(access_role="Other")
    organization.stop_indexing()
    organization.tag(account_id, env="prod")
    stage = Stage(organization, IncludeTags="env=prod")
    stage.enroll(account_id)
    organization.clock.pause(300)
    stage.purge()

    stage.run_and_drain("resync")

    assert stage.status(account_id)[0] == "failed"


def test_tag_removed_everywhere_defers_retirements(organization: Organization) -> None:
    stage, members = enrolled_stage(organization, 9)
    for account_id in members:
        organization.tag(account_id, env=None)

    counts = stage.run_and_drain("resync")["counts"]

    assert (counts["sent"], counts["deferred"]) == (1, 9)
    assert organization.granted() == {MANAGEMENT, *members}

    stage.run_and_drain("backfill", force=True)

    assert organization.granted() == {MANAGEMENT}


def test_few_removed_tags_are_found_by_a_resync_and_verified(organization: Organization, boundary: Boundary) -> None:
    stage, (first, second, third) = enrolled_stage(organization, 3)
    for account_id in (first, second):
        organization.tag(account_id, env=None)
    organization.clock.pause(300)
    boundary.calls.clear()

    assert planned(stage.run("resync", {"accounts": "new", "dry_run": True}))[first] == ("retired", OUT, "none")
    stage.run_and_drain("resync")

    assert organization.granted() == {MANAGEMENT, third}
    assert reads(boundary) == {GET_RESOURCES: 2, LIST_TAGS: 4, "organizations:DescribeAccount": 4}


def test_listing_by_another_tag_is_not_used(organization: Organization, boundary: Boundary) -> None:
    """Its messages wait while the settings change."""
    (account_id,) = tagged_members(organization, 1)
    organization.tag(account_id, team="payments")
    Stage(organization, IncludeTags="env=prod").run("backfill")
    stage = Stage(organization, IncludeTags="team=payments")

    stage.drain()

    assert organization.granted() == {account_id}
    assert reads(boundary)[LIST_TAGS] == 2


@pytest.mark.parametrize("error", [("AccessDeniedException", 400), ("ThrottledException", 400)])
def test_unread_tags_stop_a_sweep_before_it_sends(
    organization: Organization, boundary: Boundary, error: tuple[str, int]
) -> None:
    stage, members = enrolled_stage(organization, 2)
    boundary.fail(GET_RESOURCES, error[0], status=error[1])

    with pytest.raises(Exception, match=f"reading the accounts' tags: {error[0]}"):
        stage.run("resync")

    assert organization.granted() == {MANAGEMENT, *members}


def test_account_that_leaves_while_it_is_looked_up_is_tried_again(
    organization: Organization, boundary: Boundary
) -> None:
    stage, (account_id,) = enrolled_stage(organization, 1)
    boundary.fail(LIST_TAGS, "TargetNotFoundException", status=400, times=1)

    stage.enroll(account_id)

    assert stage.status(account_id) == ("failed", "service_error")
    assert account_id in organization.granted()

    stage.skip_delays()
    stage.deliver()

    assert stage.status(account_id) == ("enrolled", None)


def test_offboarding_reads_no_tags(organization: Organization, boundary: Boundary) -> None:
    stage, (first, _) = enrolled_stage(organization, 2)
    boundary.fail(LIST_TAGS, "TooManyRequestsException", status=400)

    stage.run_and_drain("retire", accounts=[first])
    assert stage.status(first) == ("retired", "retired_by_request")

    stage.uninstall()
    assert organization.granted() == set()
