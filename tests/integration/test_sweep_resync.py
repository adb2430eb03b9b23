"""A resync finds missed accounts, repairs drift of the source policy, and measures the organization."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.errors import RequestError
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity, exclusion_capacity
from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary
from tests.integration.drifts import OTHER_DOCUMENT, OTHER_POLICY
from tests.integration.organization import (
    MANAGEMENT,
    OTHER_PRINCIPAL,
    SECOND_SHARD,
    SOURCE_POLICY,
    SOURCE_POLICY_ARN,
    STAGE_TAGS,
    Organization,
)
from tests.integration.stage import Stage

REASON_METRICS = ("SkippedForReason", "FailingForReason")


def pop_metrics() -> dict[str, float]:
    """Return the last value of each metric, and clear them."""
    values = {name: metric["Value"][-1] for name, metric in metrics.metric_set.items()}
    metrics.clear_metrics()
    return values


def repairs(stage: Stage, selection: str = "all") -> list[str]:
    """Resync, and return what publish repaired."""
    stage.run_and_drain("resync", accounts=selection)
    return [repair["action"] for repair in stage.item("#status").get("repairs", [])]


# --- Accounts ---------------------------------------------------------------------------------------------------------


def test_resync_enrolls_missed_accounts_and_retires_lost_ones(organization: Organization, stage: Stage) -> None:
    kept, departed, closed = stage.enroll_members(3)
    missed = organization.member("Missed")
    organization.depart(departed)
    organization.set_state(closed, "CLOSED")

    response = stage.run_and_drain("resync", accounts="new")

    assert response["counts"]["sent"] == 3
    assert stage.statuses() == {
        MANAGEMENT: ("enrolled", None),
        kept: ("enrolled", None),
        missed: ("enrolled", None),
        departed: ("retired", "departed"),
        closed: ("retired", "closed"),
    }
    assert organization.granted() == {MANAGEMENT, kept, missed}
    assert stage.run_and_drain("resync", accounts="new")["counts"]["sent"] == 0
    assert stage.run_and_drain("resync")["counts"]["sent"] == 4


def test_resync_finds_accounts_that_returned_or_moved(organization: Organization) -> None:
    unit = organization.unit()
    stage = Stage(organization, ExcludeOuIds=unit)
    moved, returned = stage.enroll_members(2)
    organization.set_state(returned, "SUSPENDED")
    stage.run_and_drain("resync", accounts="new")
    assert stage.status(returned) == ("retired", "suspended")

    organization.move(moved, unit)
    organization.set_state(returned, "ACTIVE")
    stage.run_and_drain("resync", accounts="new")

    assert stage.status(moved) == ("retired", "excluded")
    assert stage.status(returned) == ("enrolled", None)


def test_resync_of_single_accounts_is_rejected(stage: Stage) -> None:
    with pytest.raises(RequestError, match="give single accounts to backfill or rerun"):
        stage.run("resync", {"accounts": [MANAGEMENT]})


# --- The source policy ------------------------------------------------------------------------------------------------


def _edit(organization: Organization) -> None:
    organization.iam().create_policy_version(
        PolicyArn=SOURCE_POLICY_ARN, PolicyDocument=OTHER_DOCUMENT, SetAsDefault=True
    )


def _attach_to_a_role(organization: Organization) -> None:
    organization.create_role(OTHER_PRINCIPAL)
    organization.attach("Other")


def _attach_to_a_user(organization: Organization) -> None:
    organization.iam().create_user(UserName="other")
    organization.iam().attach_user_policy(UserName="other", PolicyArn=SOURCE_POLICY_ARN)


POLICY_DRIFTS: dict[str, tuple[Callable[[Organization], object], list[str]]] = {
    "edited": (_edit, ["WriteVersion"]),
    "untagged": (
        lambda organization: organization.iam().untag_policy(PolicyArn=SOURCE_POLICY_ARN, TagKeys=["rolecall-stage"]),
        ["TagPolicy"],
    ),
    "detached": (lambda organization: organization.detach(), ["AttachTo"]),
    "source principal recreated": (lambda organization: organization.recreate_reader(), ["AttachTo"]),
    "attached to a role": (_attach_to_a_role, ["DetachFrom"]),
    "attached to a user": (_attach_to_a_user, ["DetachFrom"]),
    "versions added": (lambda organization: organization.add_versions(2), ["DeleteVersion", "DeleteVersion"]),
    "deleted": (lambda organization: organization.delete_policy(), ["CreatePolicy", "AttachTo"]),
}


@pytest.mark.parametrize(
    ("drift", "selection"),
    [
        *((drift, "all") for drift in POLICY_DRIFTS),
        *((drift, "new") for drift in ("edited", "detached", "source principal recreated")),
    ],
)
def test_resync_repairs_the_source_policy(organization: Organization, stage: Stage, drift: str, selection: str) -> None:
    (account_id,) = stage.enroll_members(1)
    stage.age_records(minutes=3)
    make, expected = POLICY_DRIFTS[drift]
    make(organization)

    assert repairs(stage, selection) == expected

    policy = organization.policy()
    assert (policy.accounts, policy.tags, policy.attached) == ({MANAGEMENT, account_id}, STAGE_TAGS, {"Reader"})
    assert policy.versions[-1] == stage.item(SOURCE_POLICY)["applied"]["version_id"]
    assert stage.run("resync")["source_policy"] == [
        {"policy_name": SOURCE_POLICY, "action": action} for action in expected
    ]
    stage.age_records(minutes=3)
    assert repairs(stage) == []


@pytest.mark.parametrize("minutes", [1, 3])
def test_shard_is_not_verified_within_two_minutes_of_a_write(
    organization: Organization, stage: Stage, minutes: int
) -> None:
    """IAM's reads are eventually consistent: a check right after a write may see what was there before."""
    stage.enroll_members(1)
    stage.age_records(minutes=minutes)
    organization.detach()

    stage.run_and_drain("resync")

    assert organization.policy().attached == (set() if minutes == 1 else {"Reader"})
    assert ("verified_at" in stage.item(SOURCE_POLICY)) == (minutes == 3)


def test_stray_version_that_became_the_default_is_kept(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """GetPolicy may be one write behind: DeleteConflict means that the version is the default one."""
    (account_id,) = stage.enroll_members(1)
    newcomer = organization.member("Newcomer")
    stage.enroll(newcomer)
    stage.age_records(minutes=3)
    boundary.edit_response("iam:GetPolicy", lambda response: response["Policy"].update(DefaultVersionId="v1"))

    stage.run_and_drain("resync")

    boundary.stop_faults()
    assert organization.granted() == {MANAGEMENT, account_id, newcomer}
    assert stage.status(newcomer) == ("enrolled", None)


def test_own_policies_of_further_shards_become_records(organization: Organization, stage: Stage) -> None:
    """Each account stays in the first shard that grants it; a foreign policy stays as it is."""
    (account_id,) = stage.enroll_members(1)
    document = organization.policy().document
    for number in (2, 3):
        organization.create_policy(f"{SOURCE_POLICY}-{number}", document=document, tags=STAGE_TAGS)
    organization.create_policy(f"{SOURCE_POLICY}-4")
    foreign = organization.policy(f"{SOURCE_POLICY}-4")
    stage.age_records(minutes=3)

    stage.run_and_drain("resync")

    assert organization.granted() == stage.recorded() == {MANAGEMENT, account_id}
    for number in (2, 3):
        name = f"{SOURCE_POLICY}-{number}"
        assert organization.granted(name) == stage.recorded(name) == set()
    assert organization.policy(f"{SOURCE_POLICY}-4") == foreign


def test_shards_are_repaired_in_a_separate_source_account(organization: Organization) -> None:
    source = organization.member("Source")
    organization.create_role(f"arn:aws:iam::{source}:role/Reader")
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")
    stage.enroll(source)
    stage.set_recorded(SOURCE_POLICY, stage.full_shard(source))
    second = organization.member("Second")
    stage.enroll(second)
    organization.iam(source).detach_role_policy(
        RoleName="Reader", PolicyArn=f"arn:aws:iam::{source}:policy/{SECOND_SHARD}"
    )
    stage.age_records(minutes=3)

    stage.run("resync")
    stage.publish()

    assert {"policy_name": SECOND_SHARD, "action": "AttachTo"} in stage.item("#status")["repairs"]
    policy = organization.policy(SECOND_SHARD, source)
    assert (policy.attached, policy.accounts) == ({"Reader"}, {second})


@pytest.mark.parametrize(
    "parameters",
    [{"AttachSourcePolicy": "false"}, {"SourcePrincipalArns": f"arn:aws:iam::{MANAGEMENT}:root"}],
    ids=["disabled", "account"],
)
def test_attachments_that_the_operator_makes_are_kept(organization: Organization, parameters: dict[str, str]) -> None:
    stage = Stage(organization, **parameters)
    stage.enroll_members(1)
    organization.attach()

    for _ in range(2):
        stage.age_records(minutes=3)
        assert repairs(stage) == []

    assert organization.policy().attached == {"Reader"}


def test_another_stages_policy_is_not_repaired_and_stops_the_heartbeat(
    organization: Organization, stage: Stage
) -> None:
    stage.enroll_members(1)
    stage.age_records(minutes=3)
    stage.run_and_drain("resync")
    assert pop_metrics()["Resyncs"] == 1
    organization.iam().tag_policy(PolicyArn=SOURCE_POLICY_ARN, Tags=[{"Key": "rolecall-stage", "Value": "another"}])
    _edit(organization)

    stage.run_and_drain("resync")

    error = stage.item(SOURCE_POLICY)["error"]
    assert error["reason"] == "foreign_source_policy"
    assert "rolecall-stage=another" in error["error"]
    assert pop_metrics()["Resyncs"] == 0
    assert organization.policy().document == json.loads(OTHER_DOCUMENT)


def test_throttled_check_is_repeated(organization: Organization, boundary: Boundary, stage: Stage) -> None:
    stage.enroll_members(1)
    stage.age_records(minutes=3)
    organization.detach()
    boundary.fail("iam:GetPolicy", "Throttling")
    stage.run("resync")

    assert set(stage.publish().delays.values()) == {5}
    boundary.stop_faults()
    stage.drain()

    assert organization.policy().attached == {"Reader"}
    assert pop_metrics()["Resyncs"] == 1


# --- Gauges -----------------------------------------------------------------------------------------------------------


def test_resync_emits_gauges_of_the_organization(
    organization: Organization, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of eleven accounts, four are enrolled, two failed, two are skipped, and two have no row yet."""
    stage.enroll_members(3)
    invited, waiting = (organization.member(name, access_role="NotYet") for name in ("Invited", "Waiting"))
    organization.age_account(invited)
    for name, state in (("Suspended", "SUSPENDED"), ("Closed", "CLOSED")):
        organization.set_state(organization.member(name), state)
    stage.run_and_drain("backfill")
    stage.age_row(invited, hours=5)
    missed, created = organization.member("Missed"), organization.member("Created")
    organization.age_account(missed, hours=1)
    pop_metrics()
    capsys.readouterr()

    stage.run("resync")

    gauges = pop_metrics()
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
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_reason = [line for line in lines if "_aws" in line and "reason" in line]
    assert {line["service"] for line in by_reason} == {"rolecall-test"}
    skipped, failing = ({line["reason"]: line[name] for line in by_reason if name in line} for name in REASON_METRICS)
    assert skipped == {"suspended": [1], "closed": [1]}
    assert failing == {"no_access_role": [1], "not_ready": [1]}
    assert [stage.status(account_id) for account_id in (waiting, created)] == [("failed", "not_ready"), (None, None)]


def test_organization_without_eligible_accounts_has_no_coverage(organization: Organization) -> None:
    Stage(organization, IncludeManagementAccount="false").run_and_drain("resync")

    gauges = pop_metrics()
    assert "CoveragePercent" not in gauges
    assert (gauges["OldestFailureSeconds"], gauges["SourcePolicyFillPercent"]) == (0, 0)


def test_accounts_whose_access_is_not_in_force_are_pending(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    stage.enroll_members(1)
    pending = organization.member("Pending")
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)
    stage.enroll(pending)
    enrolled_at = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    stage.put_row(**{**stage.row(pending), "enrolled_at": enrolled_at})
    pop_metrics()

    counts = stage.run("resync")["counts"]
    stage.skip_delays()
    stage.publish()

    assert stage.status(pending) == ("pending", "source_policy_pending")
    assert (counts["enrolled"], counts["pending"]) == (2, 1)
    gauges = pop_metrics()
    assert (gauges["Enrolled"], gauges["Pending"]) == (2, 1)
    assert gauges["CoveragePercent"] == pytest.approx(100 * 2 / 3)
    assert gauges["AccessPendingSeconds"] == pytest.approx(2 * 3600, abs=60)


@pytest.mark.parametrize(
    ("parameters", "attached", "shards"),
    [({}, 0, 10), ({}, 9, 1), ({"AttachSourcePolicy": "false"}, 0, 10)],
    ids=["empty principal", "nearly full principal", "attached by the operator"],
)
def test_fill_is_relative_to_the_principals_room(
    organization: Organization, parameters: dict[str, str], attached: int, shards: int
) -> None:
    organization.attach_others(attached)
    stage = Stage(organization, **parameters)
    stage.enroll_members(1)

    room = shards * capacity(Settings.from_env(stage.environ))
    assert pop_metrics()["SourcePolicyFillPercent"] == pytest.approx(100 * 2 / room)


def test_fill_in_scope_organization_counts_exclusions(organization: Organization) -> None:
    excluded = organization.member("Excluded")
    stage = Stage(organization, SourcePolicyScope="organization", ExcludeAccountIds=excluded)
    stage.run_and_drain("resync")

    room = exclusion_capacity(Settings.from_env(stage.environ))
    assert pop_metrics()["SourcePolicyFillPercent"] == pytest.approx(100 / room)


# --- Deferred retirements ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["all", "new"])
def test_incomplete_listing_retires_no_account_unless_forced(
    organization: Organization, stage: Stage, caplog: pytest.LogCaptureFixture, selection: str
) -> None:
    accounts = stage.enroll_members(9)
    missing = accounts[:4]
    organization.boundary.edit_response(
        "organizations:ListAccounts",
        lambda response: response.update(Accounts=[each for each in response["Accounts"] if each["Id"] not in missing]),
    )
    pop_metrics()

    response = stage.run_and_drain("resync", accounts=selection)

    assert response["counts"]["deferred"] == 4
    assert organization.granted() == {MANAGEMENT, *accounts}
    assert {stage.status(account_id) for account_id in accounts} == {("enrolled", None)}
    gauges = pop_metrics()
    assert (gauges["RetirementsDeferred"], gauges["AccountsNeedingAttention"]) == (4, 4)
    (line,) = (record for record in caplog.records if record.getMessage().startswith("retirements deferred"))
    assert line.levelname == "ERROR"
    assert {name: line.__dict__[name] for name in ("would_retire", "in_source_policy", "allowed")} == {
        "would_retire": 4,
        "in_source_policy": 10,
        "allowed": 2,
    }
    assert re.search(r'backfill with \{"accounts": "all", "force": true\}', line.getMessage())

    # They did leave, and an operator forces their retirement.
    for account_id in missing:
        organization.depart(account_id)
    response = stage.run_and_drain("backfill", accounts="all", force=True)

    assert response["counts"]["deferred"] == 0
    assert organization.granted() == {MANAGEMENT, *accounts[4:]}
    assert {stage.status(account_id) for account_id in missing} == {("retired", "departed")}


def test_wrong_listing_retires_no_account_even_if_forced(organization: Organization, stage: Stage) -> None:
    accounts = stage.enroll_members(4)
    organization.boundary.edit_response("organizations:ListAccounts", lambda response: response.update(Accounts=[]))

    stage.run_and_drain("backfill", force=True)

    assert organization.granted() == {MANAGEMENT, *accounts}


def test_settings_that_exclude_many_accounts_defer_their_retirement(organization: Organization, stage: Stage) -> None:
    accounts = stage.enroll_members(4)
    changed = Stage(organization, ExcludeAccountIds=",".join(accounts[:3]), MemberRolePolicyArns=OTHER_POLICY)

    response = changed.run_and_drain("resync")

    assert response["counts"]["deferred"] == 3
    assert organization.granted() == {MANAGEMENT, *accounts}


# --- Orphaned accounts ------------------------------------------------------------------------------------------------


def test_account_that_only_a_shard_grants_loses_access(organization: Organization, stage: Stage) -> None:
    (account_id,) = stage.enroll_members(1)
    stage.set_recorded(SOURCE_POLICY, [MANAGEMENT, account_id, "999999999999"])
    (shard,) = stage.run("resync", {"dry_run": True})["source_policy"]
    assert shard["revoked"] == ["999999999999"]

    stage.run_and_drain("resync", accounts="new")

    assert organization.granted() == {MANAGEMENT, account_id}
    assert stage.row("999999999999")["access"] == "none"
