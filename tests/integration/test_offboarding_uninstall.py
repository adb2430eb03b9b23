"""Uninstalling: the source policy first, then every role; nothing is enrolled until a backfill."""

from typing import Any

import pytest

from chalicelib.settings import Settings
from chalicelib.source_policy.documents import exclusion_capacity
from tests.integration.boundary import Boundary
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, MEMBER_ROLE, OURS, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import told, writes

UNINSTALL = {"accounts": "all", "force": True}


def backfilled(organization: Organization, stage: Stage, count: int = 3) -> list[str]:
    accounts = [organization.member(f"Workload{number}") for number in range(count)]
    stage.run("backfill")
    stage.work()
    assert {stage.verdict(account_id) for account_id in (MANAGEMENT, *accounts)} == {("enrolled", None)}
    return accounts


def uninstalled(stage: Stage, request: dict[str, Any] | None = None, *, seconds: float = 600.0) -> list[dict[str, Any]]:
    """Ask as each answer says, until nothing is left."""
    answers: list[dict[str, Any]] = []
    asked: dict[str, Any] | None = request or UNINSTALL
    while asked is not None:
        assert len(answers) < 10
        answers.append(stage.run("retire", asked, seconds=seconds))
        stage.work()
        asked = answers[-1]["next"]
    return answers


def ours(organization: Organization, *account_ids: str) -> list[str]:
    """Look for whatever carries our tags."""
    roles = [f"role in {each}" for each in account_ids if (role := organization.role(each)) and role.tags == OURS]
    return roles + ([] if organization.policy() is None else [SOURCE_POLICY])


@pytest.mark.parametrize("parameters", [{}, {"SourcePolicyScope": "organization"}], ids=["accounts", "organization"])
def test_everything_that_is_ours_goes_and_the_last_answer_says_so(
    organization: Organization, boundary: Boundary, parameters: dict[str, str]
) -> None:
    stage = Stage(organization, **parameters)
    accounts = backfilled(organization, stage)

    with boundary.watching() as calls:
        dry_run = stage.run("retire", {"accounts": "all", "dry_run": True})
    assert writes(calls) == []
    assert sorted(each["account_id"] for each in dry_run["accounts"]) == sorted([MANAGEMENT, *accounts])
    assert (dry_run["counts"], dry_run["next"]) == ({"left": 4, "shards_left": 1}, None)

    with boundary.watching() as calls:
        *_, last = uninstalled(stage)

    assert (last["counts"], last["accounts"], last["source_policy"]) == ({"left": 0, "shards_left": 0}, [], [])
    assert ours(organization, MANAGEMENT, *accounts) == []
    reader = organization.role(MANAGEMENT, "Reader")
    assert reader is not None
    assert reader.attached == set()
    assert {stage.verdict(account_id) for account_id in (MANAGEMENT, *accounts)} == {("retired", "uninstalled")}
    operations = writes(calls, "iam:")
    last_access = min(map(operations.index, {"iam:CreatePolicyVersion", "iam:DeletePolicy"}.intersection(operations)))
    assert last_access < operations.index("iam:DeleteRole")


@pytest.mark.parametrize("parameters", [{}, {"SourcePolicyScope": "organization"}], ids=["accounts", "organization"])
def test_nobody_is_enrolled_from_then_on_until_a_backfill(
    organization: Organization, parameters: dict[str, str]
) -> None:
    stage = Stage(organization, **parameters)
    accounts = backfilled(organization, stage)

    # WHEN everybody has been asked to leave, an account is created, and the schedules go on
    stage.run("retire", UNINSTALL)
    during = organization.member("During")
    stage.announce("CreateAccountResult", during)
    stage.run("resync")
    stage.work()
    uninstalled(stage)
    afterwards = organization.member("Afterwards")
    stage.announce("CreateAccountResult", afterwards)
    answer = stage.run("resync")
    stage.run("rerun")
    stage.work()

    # THEN nobody is enrolled, and it shows
    assert answer["counts"]["uninstalling"] is True
    assert ours(organization, MANAGEMENT, during, afterwards, *accounts) == []
    assert {stage.verdict(account_id) for account_id in (during, afterwards)} == {("skipped", "uninstalled")}

    # WHEN somebody wants it back
    everybody = {MANAGEMENT, during, afterwards, *accounts}
    dry_run = stage.run("backfill", {"dry_run": True})
    assert told(dry_run) == dict.fromkeys(everybody, ("enrolled", None, "created"))
    stage.run("backfill")
    stage.work()

    # THEN it comes back as the dry run told
    assert stage.verdicts() == dict.fromkeys(everybody, ("enrolled", None))
    assert organization.policy() is not None


def test_an_organization_too_large_to_exclude_every_account_is_uninstalled_too(organization: Organization) -> None:
    stage = Stage(organization, SourcePolicyScope="organization")
    accounts = backfilled(organization, stage)
    room = exclusion_capacity(Settings.from_env(stage.environ))
    stage.exclude(SOURCE_POLICY, [f"9{number:011}" for number in range(room)])

    uninstalled(stage)

    assert ours(organization, MANAGEMENT, *accounts) == []


def test_the_source_policy_is_deleted_before_any_role(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage)
    boundary.fail("iam:DeletePolicy", "Throttling")

    stage.run("retire", UNINSTALL)
    stage.work()

    assert organization.policy() is not None
    assert all(organization.role(account_id) for account_id in accounts)
    assert set(stage.verdicts().values()) == {("pending", "source_policy_pending")}
    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert ours(organization, MANAGEMENT, *accounts) == []


def test_an_uninstall_that_was_interrupted_goes_on_where_it_stopped(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    stuck, *others = backfilled(organization, stage)
    boundary.fail("iam:DeleteRole", "AccessDenied", "no", account_id=stuck)

    answers = []
    for _ in range(3):
        answers.append(stage.run("retire", UNINSTALL))
        stage.work()

    assert [each["counts"]["left"] for each in answers] == [4, 1, 1]
    assert answers[-1]["accounts"] == [{"account_id": stuck}]
    assert answers[-1]["next"] == UNINSTALL
    assert ours(organization, MANAGEMENT, *others) == []
    assert "names" in stage.item("#status")

    boundary.mend()
    uninstalled(stage)
    assert ours(organization, MANAGEMENT, stuck, *others) == []


def test_what_carries_our_tags_and_the_ledger_lost_is_found_in_the_end_and_taken_away(
    organization: Organization,
) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage)
    stage.run("retire", UNINSTALL)
    stage.work()
    lost = accounts[0]
    organization.make_role(f"arn:aws:iam::{lost}:role/{MEMBER_ROLE}", tags=OURS)

    answer = stage.run("retire", UNINSTALL)

    assert answer["counts"] == {"left": 1, "shards_left": 0}
    (told_of,) = answer["accounts"]
    assert (told_of["account_id"], [each["action"] for each in told_of["actions"]]) == (lost, ["DeleteRole"])
    assert answer["next"] == UNINSTALL

    stage.work()
    assert organization.role(lost) is None
    assert stage.run("retire", UNINSTALL)["next"] is None


def test_a_role_that_no_row_tells_of_is_found_though_another_account_cannot_be_left(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    stuck, lost, *_ = backfilled(organization, stage)
    boundary.fail("iam:DeleteRole", "AccessDenied", "no", account_id=stuck)
    stage.run("retire", UNINSTALL)
    stage.work()
    organization.make_role(f"arn:aws:iam::{lost}:role/{MEMBER_ROLE}", tags=OURS)

    answer = stage.run("retire", UNINSTALL)
    stage.work()

    stays, told_of = answer["accounts"]
    assert stays == {"account_id": stuck}
    assert (told_of["account_id"], [each["action"] for each in told_of["actions"]]) == (lost, ["DeleteRole"])
    assert organization.role(lost) is None
    assert stage.run("retire", UNINSTALL)["accounts"] == [{"account_id": stuck}]


def test_an_id_that_organizations_never_told_of_is_not_entered_in_the_end_either(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    stranger = "777777777777"
    boundary.fail("organizations:DescribeAccount", "TooManyRequestsException", account_id=stranger)
    stage.enroll(stranger)
    boundary.mend()
    assert stage.verdict(stranger) == ("failed", "throttled")

    with boundary.watching() as calls:
        *_, last = uninstalled(stage)

    assert last["next"] is None
    assert stranger not in {call.about for call in calls if call.operation == "sts:AssumeRole"}


@pytest.mark.parametrize("code", ["DeleteConflict", "AccessDenied"], ids=["it is attached", "it can't be deleted"])
def test_a_source_policy_that_iam_does_not_show_yet_is_not_forgotten(
    organization: Organization, boundary: Boundary, code: str
) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    boundary.fail("iam:GetPolicy", "NoSuchEntity", status=404, times=1)
    boundary.fail("iam:DeletePolicy", code, status=409, times=1)

    stage.run("retire", UNINSTALL)
    delays = stage.publish().delays

    assert set(delays.values()) == ({5} if code == "DeleteConflict" else set())
    record = stage.item(SOURCE_POLICY)
    assert record.get("error", {}).get("reason") == (None if code == "DeleteConflict" else "access_denied")
    assert organization.policy() is not None
    *_, last = uninstalled(stage)
    assert last["next"] is None
    assert organization.policy() is None


def test_an_account_that_left_unnoticed_is_not_entered_in_the_end_either(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    left, _ = backfilled(organization, stage, 2)
    stage.run("retire", {"accounts": [left]})
    stage.work()
    organization.organizations.remove_account_from_organization(AccountId=left)

    with boundary.watching() as calls:
        *_, last = uninstalled(stage)

    assert last["next"] is None
    assert left not in {call.about for call in calls if call.operation == "sts:AssumeRole"}


def test_the_last_look_goes_on_where_its_time_ran_out(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage, 4)
    stage.run("retire", UNINSTALL)
    stage.work()

    with boundary.watching() as calls:
        answers = uninstalled(stage, seconds=29)

    entered = [call.about for call in calls if call.operation == "sts:AssumeRole"]
    assert sorted(entered) == sorted(accounts)
    assert [(each["next"] or {}).get("after") for each in answers] == [
        sorted([MANAGEMENT, *accounts])[1],
        sorted([MANAGEMENT, *accounts])[3],
        None,
    ]


def test_accounts_that_nobody_can_reach_any_more_hold_nothing_up(organization: Organization) -> None:
    stage = Stage(organization)
    departed, closed, stays = backfilled(organization, stage)
    organization.depart(departed)
    organization.alter(closed, status="CLOSED", state="CLOSED")
    stage.run("resync")
    stage.work()

    uninstalled(stage)

    assert ours(organization, MANAGEMENT, stays) == []
    assert (stage.verdict(departed)[1], stage.verdict(closed)[1]) == ("departed", "closed")


def test_the_management_account_is_not_looked_at_where_it_was_never_included(organization: Organization) -> None:
    stage = Stage(organization, IncludeManagementAccount="false")
    account_id = organization.member()
    stage.run("backfill")
    stage.work()

    *_, last = uninstalled(stage)

    assert (last["counts"]["left"], last["next"]) == (0, None)
    assert ours(organization, MANAGEMENT, account_id) == []


def test_every_shard_with_all_its_versions_and_attachments_is_deleted_in_a_source_account(
    organization: Organization,
) -> None:
    source = organization.member("Source")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    organization.iam(source).create_user(UserName="reader")
    principals = ",".join(f"arn:aws:iam::{source}:{each}" for each in ("role/Reader", "user/reader"))
    stage = Stage(organization, SourcePrincipalArns=principals)
    backfilled(organization, stage, 1)
    stage.fill(SOURCE_POLICY, stage.full_shard(MANAGEMENT, source))
    stage.enroll(organization.member("Second"))
    second = f"{SOURCE_POLICY}-2"
    assert organization.policy(second, source) is not None
    organization.write_by_hand(3, account_id=source)

    uninstalled(stage)

    for name in (SOURCE_POLICY, second):
        assert organization.policy(name, source) is None
        assert stage.item(name) == {}


def test_a_source_policy_that_the_operator_attached_is_theirs_to_detach(organization: Organization) -> None:
    stage = Stage(organization, AttachSourcePolicy="false")
    (account_id,) = backfilled(organization, stage, 1)
    arn = f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"
    organization.iam(MANAGEMENT).attach_role_policy(RoleName="Reader", PolicyArn=arn)

    stage.run("retire", UNINSTALL)
    stage.work()
    answer = stage.run("retire", UNINSTALL)

    (shard,) = answer["source_policy"]
    assert "detach it there" in shard["error"]
    assert answer["next"] == UNINSTALL
    # Until then it grants no account, so that every role can be deleted.
    assert (organization.named(), organization.role(account_id)) == (set(), None)

    organization.iam(MANAGEMENT).detach_role_policy(RoleName="Reader", PolicyArn=arn)
    assert uninstalled(stage)[-1]["next"] is None
    assert organization.policy() is None


def test_a_source_policy_of_another_stage_is_not_deleted(organization: Organization) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    arn = f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"
    organization.iam(MANAGEMENT).tag_policy(PolicyArn=arn, Tags=[{"Key": "rolecall-stage", "Value": "another"}])

    stage.run("retire", UNINSTALL)
    stage.work()

    (shard,) = stage.run("retire", UNINSTALL)["source_policy"]
    assert "rolecall-stage=another" in shard["error"]
    assert organization.policy() is not None


def test_a_source_policy_that_was_deleted_already_is_no_obstacle(organization: Organization) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    organization.lose_policy()

    assert uninstalled(stage)[-1]["next"] is None
    assert stage.item(SOURCE_POLICY) == {}


def test_an_account_that_is_closed_while_everything_is_uninstalled_holds_nothing_up(organization: Organization) -> None:
    stage = Stage(organization)
    closed, denied, _ = backfilled(organization, stage)
    organization.lose_role(denied, ACCESS_ROLE)
    stage.run("retire", UNINSTALL)
    organization.alter(closed, status="SUSPENDED", state="CLOSED")
    stage.work()
    stage.run("resync", {"accounts": "new"})
    stage.work()
    assert stage.verdict(closed)[1] == "closed"
    organization.make_role(f"arn:aws:iam::{denied}:role/{ACCESS_ROLE}")

    uninstalled(stage)

    assert ours(organization, MANAGEMENT, denied) == []


@pytest.mark.parametrize("scope", ["accounts", "organization"])
def test_names_are_kept_until_nothing_is_left(organization: Organization, scope: str) -> None:
    stage = Stage(organization, SourcePolicyScope=scope)
    accounts = backfilled(organization, stage)
    stage.run("retire", UNINSTALL)
    stage.publish()
    assert organization.policy() is None
    renamed = Stage(organization, SourcePolicyScope=scope, MemberRoleName="Renamed")

    renamed.work()
    assert all(organization.role(account_id) for account_id in accounts)
    assert {renamed.row(account_id)["reason"] for account_id in accounts} == {"uninstalled"}
    assert all("MEMBER_ROLE_NAME is Renamed, and was" in renamed.row(account_id)["error"] for account_id in accounts)

    back = Stage(organization, SourcePolicyScope=scope)
    assert back.item("#status")["names"]["member_role_name"] == MEMBER_ROLE
    uninstalled(back)
    assert ours(organization, MANAGEMENT, *accounts) == []
    assert set(back.items()) == {"#control"}


def test_every_name_may_be_another_after_an_uninstall(organization: Organization) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage)
    uninstalled(stage)

    renamed = Stage(organization, MemberRoleName="Renamed", SourcePolicyName="RenamedToo")
    renamed.run("backfill")
    renamed.work()

    assert organization.named("RenamedToo") == {MANAGEMENT, *accounts}
    assert all(organization.role(account_id, "Renamed") for account_id in accounts)
    control = renamed.item("#control")
    assert (control["uninstalling"], control["uninstalled"]) == (False, False)


def test_a_run_of_publish_after_an_uninstall_records_nothing(organization: Organization) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    uninstalled(stage)

    stage.run_publish()

    assert "names" not in stage.item("#status")
    assert organization.policy() is None


def test_a_backfill_while_everything_is_uninstalled_has_all_of_it_back(organization: Organization) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage)
    stage.run("retire", UNINSTALL)
    stage.publish()

    stage.run("backfill")
    stage.work()

    assert organization.named() == {MANAGEMENT, *accounts}
    assert set(stage.verdicts().values()) == {("enrolled", None)}


@pytest.mark.parametrize("code", [None, "AccessDenied"])
def test_a_shard_whose_creation_was_never_recorded_is_deleted_too(
    organization: Organization, boundary: Boundary, code: str | None
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    stage.edit(SOURCE_POLICY, applying=stage.item(SOURCE_POLICY)["applied"], applied=None)
    if code is not None:
        boundary.fail("iam:GetPolicy", code)

    stage.run("retire", UNINSTALL)
    stage.work()

    assert (organization.policy() is None) == (code is None)
    if code is not None:
        assert stage.item(SOURCE_POLICY)["error"]["reason"] == "access_denied"
        boundary.mend()
    uninstalled(stage)
    assert ours(organization, account_id) == []
