"""A resync heals what events missed and what others changed, and measures how the organization stands."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.errors import RequestError
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary
from tests.integration.drifts import ANOTHER_POLICY, HARMLESS, WITH_DEFAULTS
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, OURS, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import told, writes

POLICY_ARN = f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"


def measured() -> dict[str, float]:
    """Take the last value of each metric since this was asked before."""
    values = {name: metric["Value"][-1] for name, metric in metrics.metric_set.items()}
    metrics.clear_metrics()
    return values


def resynced(stage: Stage, **request: Any) -> dict[str, Any]:
    answer = stage.run("resync", request)
    stage.work()
    return answer


def repairs(stage: Stage) -> list[str]:
    """Run a full resync, and return what publish then repaired."""
    resynced(stage)
    return [repair["action"] for repair in stage.item("#status").get("repairs", [])]


def enrolled(organization: Organization, stage: Stage, count: int) -> list[str]:
    accounts = [organization.member(f"Workload{number}") for number in range(count)]
    resynced(stage)
    assert {stage.verdict(account_id) for account_id in accounts} == {("enrolled", None)}
    return accounts


# --- Accounts ---------------------------------------------------------------------------------------------------------


def test_a_resync_enrolls_whom_no_event_told_of_and_retires_who_left(organization: Organization) -> None:
    stage = Stage(organization)
    stays, leaves, closes = enrolled(organization, stage, 3)
    missed = organization.member("Missed")
    organization.depart(leaves)
    organization.alter(closes, status="CLOSED", state="CLOSED")

    answer = resynced(stage, accounts="new")

    assert answer["counts"]["sent"] == 3
    assert stage.verdicts() == {
        MANAGEMENT: ("enrolled", None),
        stays: ("enrolled", None),
        missed: ("enrolled", None),
        leaves: ("retired", "departed"),
        closes: ("retired", "closed"),
    }
    assert organization.named() == {MANAGEMENT, stays, missed}
    assert resynced(stage, accounts="new")["counts"]["sent"] == 0
    assert resynced(stage)["counts"]["sent"] == 4


def test_a_resync_finds_accounts_that_came_back_or_moved(organization: Organization) -> None:
    unit = organization.unit()
    stage = Stage(organization, ExcludeOuIds=unit)
    (moves,) = enrolled(organization, stage, 1)
    suspended = organization.member("Suspended")
    organization.alter(suspended, status="SUSPENDED", state="SUSPENDED")
    resynced(stage, accounts="new")

    organization.move(moves, unit)
    organization.alter(suspended, status="ACTIVE", state="ACTIVE")
    resynced(stage, accounts="new")

    assert stage.verdict(moves) == ("retired", "excluded")
    assert stage.verdict(suspended) == ("enrolled", None)


def test_roles_that_were_edited_or_deleted_are_mended(organization: Organization) -> None:
    stage = Stage(organization)
    drifts = list(WITH_DEFAULTS.values())[:5]
    *drifted, deleted, untouched = enrolled(organization, stage, len(drifts) + 2)
    pristine = organization.role(untouched)
    for account_id, drift in zip(drifted, drifts, strict=True):
        drift.make(organization.iam(account_id))
    organization.lose_role(deleted, MEMBER_ROLE)

    resynced(stage)

    assert [organization.role(account_id) for account_id in (*drifted, deleted)] == [pristine] * (len(drifts) + 1)
    assert {stage.row(account_id)["change"] for account_id in drifted} == {"updated"}
    assert (stage.row(deleted)["change"], stage.row(untouched)["change"]) == ("created", "none")


def test_a_dry_run_tells_what_a_resync_would_do(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    (stays,) = enrolled(organization, stage, 1)
    missed = organization.member("Missed")

    with boundary.watching() as calls:
        assert told(stage.run("resync", {"accounts": "new", "dry_run": True})) == {
            missed: ("enrolled", None, "created")
        }
        assert set(told(stage.run("resync", {"dry_run": True}))) == {MANAGEMENT, stays, missed}
    assert writes(calls) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_resync_of_single_accounts_is_refused(organization: Organization, dry_run: bool) -> None:
    stage = Stage(organization)

    with pytest.raises(RequestError, match="give single accounts to backfill or rerun"):
        stage.run("resync", {"accounts": [MANAGEMENT], "dry_run": dry_run})


# --- The source policy ------------------------------------------------------------------------------------------------


def _edit(organization: Organization) -> None:
    iam = organization.iam(MANAGEMENT)
    iam.create_policy_version(PolicyArn=POLICY_ARN, PolicyDocument=HARMLESS, SetAsDefault=True)


def _untag(organization: Organization) -> None:
    organization.iam(MANAGEMENT).untag_policy(PolicyArn=POLICY_ARN, TagKeys=["rolecall-stage"])


def _detach(organization: Organization) -> None:
    organization.iam(MANAGEMENT).detach_role_policy(RoleName="Reader", PolicyArn=POLICY_ARN)


def _attach_elsewhere(organization: Organization) -> None:
    organization.make_role(f"arn:aws:iam::{MANAGEMENT}:role/Stranger")
    organization.iam(MANAGEMENT).attach_role_policy(RoleName="Stranger", PolicyArn=POLICY_ARN)


def _attach_to_a_user(organization: Organization) -> None:
    organization.iam(MANAGEMENT).create_user(UserName="stranger")
    organization.iam(MANAGEMENT).attach_user_policy(UserName="stranger", PolicyArn=POLICY_ARN)


def _add_versions(organization: Organization) -> None:
    organization.write_by_hand(2)


def _delete(organization: Organization) -> None:
    organization.lose_policy()


EDITS: list[tuple[Callable[[Organization], None], list[str]]] = [
    (_edit, ["WriteVersion"]),
    (_untag, ["TagPolicy"]),
    (_detach, ["AttachTo"]),
    (_attach_elsewhere, ["DetachFrom"]),
    (_attach_to_a_user, ["DetachFrom"]),
    (_add_versions, ["DeleteVersion", "DeleteVersion"]),
    (_delete, ["CreatePolicy", "AttachTo"]),
]


@pytest.mark.parametrize(("edit", "expected"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
def test_whatever_was_done_to_the_source_policy_is_repaired(
    organization: Organization, edit: Callable[[Organization], None], expected: list[str]
) -> None:
    stage = Stage(organization)
    (account_id,) = enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=3)
    edit(organization)

    assert repairs(stage) == expected

    policy = organization.policy()
    assert policy is not None
    assert (policy.accounts, policy.tags, policy.attached) == ({MANAGEMENT, account_id}, OURS, {"Reader"})
    assert policy.versions[-1] == stage.item(SOURCE_POLICY)["applied"]["version_id"]
    assert stage.run("resync")["source_policy"] == [
        {"policy_name": SOURCE_POLICY, "action": action} for action in expected
    ]
    stage.let_records_grow_old(minutes=3)
    assert repairs(stage) == []


@pytest.mark.parametrize("minutes", [1, 3])
def test_a_shard_is_not_verified_within_two_minutes_of_a_write(organization: Organization, minutes: int) -> None:
    """IAM's reads are eventually consistent: a check right after a write may see what was there before."""
    stage = Stage(organization)
    enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=minutes)
    before = stage.item(SOURCE_POLICY).get("verified_at")
    _detach(organization)

    resynced(stage)

    policy = organization.policy()
    assert policy is not None
    assert policy.attached == (set() if minutes == 1 else {"Reader"})
    assert (stage.item(SOURCE_POLICY).get("verified_at") != before) == (minutes == 3)


@pytest.mark.parametrize(("edit", "expected"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_hourly_resync_verifies_every_shard(
    organization: Organization, edit: Callable[[Organization], None], expected: list[str]
) -> None:
    stage = Stage(organization)
    (account_id,) = enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=3)
    assert repairs(stage) == []
    edit(organization)

    resynced(stage, accounts="new")

    assert [repair["action"] for repair in stage.item("#status").get("repairs", [])] == expected
    assert organization.named() == {MANAGEMENT, account_id}


def test_a_stray_version_that_is_the_default_by_now_is_left(organization: Organization, boundary: Boundary) -> None:
    """GetPolicy may be one write behind: DeleteConflict says that the stray is the default version."""
    stage = Stage(organization)
    (account_id,) = enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=3)
    newcomer = organization.member("Newcomer")
    stage.enroll(newcomer)
    stage.let_records_grow_old(minutes=3)
    boundary.edit("iam:GetPolicy", lambda answer: answer["Policy"].update(DefaultVersionId="v1"))

    resynced(stage)

    assert organization.named() == {MANAGEMENT, account_id, newcomer}
    assert stage.verdict(newcomer) == ("enrolled", None)
    boundary.mend()
    assert organization.named() == {MANAGEMENT, account_id, newcomer}


def test_policies_of_further_shards_names_that_are_ours_become_records_again(organization: Organization) -> None:
    """Each account stays in the first shard that grants it; a foreign policy is left as it is."""
    stage = Stage(organization)
    (account_id,) = enrolled(organization, stage, 1)
    first = organization.policy()
    assert first is not None
    for number in (2, 3):
        organization.make_policy(f"{SOURCE_POLICY}-{number}", document=first.document, tags=OURS)
    organization.make_policy(f"{SOURCE_POLICY}-4")
    foreign = organization.policy(f"{SOURCE_POLICY}-4")
    stage.let_records_grow_old(minutes=3)

    resynced(stage)

    assert organization.named() == stage.granted(SOURCE_POLICY) == {MANAGEMENT, account_id}
    assert [organization.named(f"{SOURCE_POLICY}-{number}") for number in (2, 3)] == [set(), set()]
    assert stage.granted(f"{SOURCE_POLICY}-3") == set()
    assert organization.policy(f"{SOURCE_POLICY}-4") == foreign


def test_every_shard_is_repaired_in_a_source_account_too(organization: Organization) -> None:
    source = organization.member("Source")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")
    (first,) = enrolled(organization, stage, 1)
    stage.fill(SOURCE_POLICY, stage.full_shard(first, MANAGEMENT, source))
    second = organization.member("Second")
    stage.enroll(second)
    iam = organization.iam(source)
    iam.detach_role_policy(RoleName="Reader", PolicyArn=f"arn:aws:iam::{source}:policy/{SOURCE_POLICY}-2")
    stage.let_records_grow_old(minutes=3)

    stage.run("resync")
    stage.publish()

    repaired = stage.item("#status")["repairs"]
    assert {"policy_name": f"{SOURCE_POLICY}-2", "action": "AttachTo"} in repaired
    shard = organization.policy(f"{SOURCE_POLICY}-2", source)
    assert shard is not None
    assert (shard.attached, shard.accounts) == ({"Reader"}, {second})


@pytest.mark.parametrize(
    "parameters",
    [{"AttachSourcePolicy": "false"}, {"SourcePrincipalArns": f"arn:aws:iam::{MANAGEMENT}:root"}],
    ids=["not to be attached", "root"],
)
def test_attachments_that_the_operator_makes_are_left_as_they_are(
    organization: Organization, parameters: dict[str, str]
) -> None:
    stage = Stage(organization, **parameters)
    enrolled(organization, stage, 1)
    organization.iam(MANAGEMENT).attach_role_policy(RoleName="Reader", PolicyArn=POLICY_ARN)
    stage.let_records_grow_old(minutes=3)

    assert repairs(stage) == []
    stage.let_records_grow_old(minutes=3)
    assert repairs(stage) == []

    policy = organization.policy()
    assert policy is not None
    assert policy.attached == {"Reader"}


def test_a_source_policy_of_another_stage_is_not_repaired_and_stops_the_heartbeat(organization: Organization) -> None:
    stage = Stage(organization)
    enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=3)
    resynced(stage)
    assert measured()["Resyncs"] == 1
    organization.iam(MANAGEMENT).tag_policy(PolicyArn=POLICY_ARN, Tags=[{"Key": "rolecall-stage", "Value": "another"}])
    _edit(organization)

    resynced(stage)

    error = stage.item(SOURCE_POLICY)["error"]
    assert error["reason"] == "foreign_source_policy"
    assert "rolecall-stage=another" in error["error"]
    assert measured()["Resyncs"] == 0
    policy = organization.policy()
    assert policy is not None
    assert policy.document == json.loads(HARMLESS)


def test_a_check_that_iam_throttles_is_repeated(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=3)
    _detach(organization)
    boundary.fail("iam:GetPolicy", "Throttling")
    stage.run("resync")

    delivery = stage.publish()
    assert set(delivery.delays.values()) == {5}
    boundary.mend()
    stage.work()

    policy = organization.policy()
    assert policy is not None
    assert policy.attached == {"Reader"}
    assert measured()["Resyncs"] == 1


# --- The gauges -------------------------------------------------------------------------------------------------------


def test_the_gauges_tell_how_the_organization_stands(
    organization: Organization, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN three that are enrolled and management with them, two that failed, two that are skipped, and two unheard of
    stage = Stage(organization)
    enrolled(organization, stage, 3)
    invited, waits = (organization.member(name, access_role="NotYet") for name in ("Invited", "Waits"))
    organization.grow_old(invited)
    for name, state in (("Suspended", "SUSPENDED"), ("Closed", "CLOSED")):
        organization.alter(organization.member(name), status=state, state=state)
    resynced(stage)
    stage.grow_old(invited, hours=5)
    missed, just_now = organization.member("Missed"), organization.member("JustNow")
    an_hour_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    organization.alter(missed, create_time=an_hour_ago)
    measured()
    capsys.readouterr()

    stage.run("resync")

    gauges = measured()
    assert gauges.pop("OldestFailureSeconds") == pytest.approx(5 * 3600, abs=60)
    assert gauges == {
        "Eligible": 8,
        "Enrolled": 4,
        "Pending": 0,
        "Skipped": 2,
        "Failing": 2,
        "AccountsNeedingAttention": 1,
        "CoveragePercent": 50,
        "EventsMissed": 1,
        "RetirementsDeferred": 0,
    }
    by_reason = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"reason"' in line]
    assert {
        (line["service"], line["reason"], name): line[name]
        for line in by_reason
        if "_aws" in line
        for name in ("SkippedForReason", "FailingForReason")
        if name in line
    } == {
        ("rolecall-test", "suspended", "SkippedForReason"): [1],
        ("rolecall-test", "closed", "SkippedForReason"): [1],
        ("rolecall-test", "no_access_role", "FailingForReason"): [1],
        ("rolecall-test", "not_ready", "FailingForReason"): [1],
    }
    assert {stage.verdict(account_id) for account_id in (waits, just_now)} == {("failed", "not_ready"), (None, None)}


def test_an_organization_with_nobody_to_enroll_is_wholly_covered(organization: Organization) -> None:
    resynced(Stage(organization, IncludeManagementAccount="false"))

    gauges = measured()
    assert (gauges["CoveragePercent"], gauges["OldestFailureSeconds"], gauges["SourcePolicyFillPercent"]) == (100, 0, 0)


def test_accounts_whose_access_is_not_in_force_are_pending(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    enrolled(organization, stage, 1)
    waits = organization.member("Waits")
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)
    stage.enroll(waits)
    stage.ledger.update_item(
        Key={"account_id": waits},
        UpdateExpression="SET enrolled_at = :then",
        ExpressionAttributeValues={":then": (datetime.now(UTC) - timedelta(hours=2)).isoformat()},
    )
    measured()

    counts = stage.run("resync")["counts"]
    stage.let_delays_pass()
    stage.publish()

    assert stage.verdict(waits) == ("pending", "source_policy_pending")
    assert (counts["enrolled"], counts["pending"]) == (2, 1)
    gauges = measured()
    assert (gauges["Enrolled"], gauges["Pending"]) == (2, 1)
    assert gauges["CoveragePercent"] == pytest.approx(100 * 2 / 3)
    assert gauges["AccessPendingSeconds"] == pytest.approx(2 * 3600, abs=60)


@pytest.mark.parametrize("taken", [0, 9])
def test_the_source_policys_fill_is_measured_against_its_principals_room(
    organization: Organization, taken: int
) -> None:
    stage = Stage(organization)
    enrolled(organization, stage, 1)
    for number in range(taken):
        arn = organization.make_policy(f"Another{number}")
        organization.iam(MANAGEMENT).attach_role_policy(RoleName="Reader", PolicyArn=arn)
    metrics.clear_metrics()

    resynced(stage)

    room = (10 - taken) * capacity(Settings.from_env(stage.environ))
    assert measured()["SourcePolicyFillPercent"] == pytest.approx(100 * 2 / room)


def test_the_fill_where_the_operator_attaches_and_in_scope_organization(organization: Organization) -> None:
    excluded = organization.member("Excluded")
    by_hand = Stage(organization, "by-hand", AttachSourcePolicy="false", MemberRoleName="A", SourcePolicyName="A")
    resynced(by_hand)
    resynced(by_hand)
    room = capacity(Settings.from_env(by_hand.environ))
    assert measured()["SourcePolicyFillPercent"] == pytest.approx(100 * 2 / (10 * room))

    wide = Stage(organization, SourcePolicyScope="organization", ExcludeAccountIds=excluded, MemberRoleName="B")
    resynced(wide)
    resynced(wide)
    room = exclusion_capacity(Settings.from_env(wide.environ))
    assert measured()["SourcePolicyFillPercent"] == pytest.approx(100 / room)


# --- Retirements deferred -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["all", "new"])
def test_a_listing_that_lacks_many_accounts_retires_nobody_unless_forced(
    organization: Organization, caplog: pytest.LogCaptureFixture, selection: str
) -> None:
    stage = Stage(organization)
    accounts = enrolled(organization, stage, 9)
    gone = accounts[:4]
    organization.boundary.edit(
        "organizations:ListAccounts",
        lambda answer: answer.update(Accounts=[each for each in answer["Accounts"] if each["Id"] not in gone]),
    )
    measured()

    answer = resynced(stage, accounts=selection)

    assert answer["counts"]["deferred"] == 4
    assert organization.named() == {MANAGEMENT, *accounts}
    assert {stage.verdict(account_id) for account_id in accounts} == {("enrolled", None)}
    gauges = measured()
    assert (gauges["RetirementsDeferred"], gauges["AccountsNeedingAttention"]) == (4, 4)
    (line,) = (record for record in caplog.records if record.getMessage().startswith("retirements deferred"))
    assert line.levelname == "ERROR"
    assert {name: line.__dict__[name] for name in ("would_retire", "in_source_policy", "allowed")} == {
        "would_retire": 4,
        "in_source_policy": 10,
        "allowed": 2,
    }
    assert re.search(r'backfill with \{"accounts": "all", "force": true\}', line.getMessage())

    # WHEN they really are gone, and somebody says so
    for account_id in gone:
        organization.depart(account_id)
    answer = stage.run("backfill", {"accounts": "all", "force": True})
    stage.work()

    assert answer["counts"]["deferred"] == 0
    assert organization.named() == {MANAGEMENT, *accounts[4:]}
    assert {stage.verdict(account_id) for account_id in gone} == {("retired", "departed")}


def test_a_wrong_listing_retires_nobody_even_where_it_is_forced(organization: Organization) -> None:
    stage = Stage(organization)
    accounts = enrolled(organization, stage, 4)
    organization.boundary.edit("organizations:ListAccounts", lambda answer: answer.update(Accounts=[]))

    stage.run("backfill", {"force": True})
    stage.work()

    assert organization.named() == {MANAGEMENT, *accounts}


def test_settings_that_would_exclude_many_accounts_hold_them_back_too(organization: Organization) -> None:
    accounts = enrolled(organization, Stage(organization), 4)
    changed = Stage(organization, ExcludeAccountIds=",".join(accounts[:3]), MemberRolePolicyArns=ANOTHER_POLICY)

    answer = resynced(changed)

    assert answer["counts"]["deferred"] == 3
    assert organization.named() == {MANAGEMENT, *accounts}


def test_a_ledger_that_comes_in_pages_is_read_whole(organization: Organization, boundary: Boundary) -> None:
    gone = [organization.member(f"Gone{number}") for number in range(2)]
    stage = Stage(organization)
    stage.enroll(*gone)
    for account_id in gone:
        organization.depart(account_id)

    def cut(answer: dict[str, Any]) -> None:
        asked = boundary.calls[-1].params
        if "ExclusiveStartKey" not in asked and asked["TableName"] == stage.environ["LEDGER_TABLE"]:
            answer["Items"] = answer["Items"][:1]
            answer["LastEvaluatedKey"] = {"account_id": answer["Items"][0]["account_id"]}

    boundary.edit("dynamodb:Scan", cut)
    stage.run("resync")
    boundary.mend()
    stage.work()

    assert [stage.verdict(account_id) for account_id in gone] == [("retired", "departed")] * 2


# --- What only a shard tells ------------------------------------------------------------------------------------------


def test_an_account_that_only_a_shard_grants_loses_access(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = enrolled(organization, stage, 1)
    stage.fill(SOURCE_POLICY, [MANAGEMENT, account_id, "999999999999"])
    (shard,) = stage.run("resync", {"dry_run": True})["source_policy"]
    assert shard["revoked"] == ["999999999999"]

    resynced(stage, accounts="new")

    assert organization.named() == {MANAGEMENT, account_id}
    assert stage.row("999999999999")["access"] == "none"


def test_many_that_only_a_shard_names_are_held_back(organization: Organization) -> None:
    orphaned = [f"9{number:011}" for number in range(5)]
    stage = Stage(organization)
    (account_id,) = enrolled(organization, stage, 1)
    stage.fill(SOURCE_POLICY, [MANAGEMENT, account_id, *orphaned])
    stage.let_records_grow_old(minutes=3)

    assert resynced(stage)["counts"]["deferred"] == len(orphaned)
    assert organization.named() == {MANAGEMENT, account_id, *orphaned}

    stage.run("backfill", {"accounts": "all", "force": True})
    stage.work()
    assert organization.named() == {MANAGEMENT, account_id}


def test_a_resync_says_what_the_last_verification_repaired(organization: Organization) -> None:
    stage = Stage(organization)
    enrolled(organization, stage, 1)
    stage.let_records_grow_old(minutes=3)
    organization.write_by_hand(4)
    resynced(stage)

    answer = stage.run("resync")

    assert answer["source_policy"] == [{"policy_name": SOURCE_POLICY, "action": "DeleteVersion"}] * 4
    assert answer["counts"]["frozen"] is False
    assert answer["counts"]["uninstalling"] is False
