"""Settings that change after the deployment reach everything by one resync; changed names are refused."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, OURS, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import writes

ANOTHER = f"arn:aws:iam::{MANAGEMENT}:role/Another"


def resynced(stage: Stage) -> None:
    stage.run("resync", {"accounts": "all"})
    stage.work()


def enrolled(organization: Organization, **parameters: str) -> list[str]:
    accounts = [organization.member(f"Workload{number}") for number in range(2)]
    resynced(Stage(organization, **parameters))
    assert organization.named() == {MANAGEMENT, *accounts}
    return [MANAGEMENT, *accounts]


def test_one_resync_follows_the_settings_wherever_they_went(organization: Organization) -> None:
    unit = organization.unit()
    accounts = enrolled(organization)
    moved = accounts[2]
    organization.move(moved, unit)
    organization.make_role(ANOTHER)
    changed = Stage(
        organization,
        SourcePrincipalArns=ANOTHER,
        MemberRolePolicyArns="arn:aws:iam::aws:policy/SecurityAudit",
        ExternalId="external-id",
        ExcludeOuIds=unit,
    )

    resynced(changed)

    # The former reader is denied by every role that is left, and by the source policy that it no longer has.
    for account_id in accounts[:2]:
        role = organization.role(account_id)
        assert role is not None
        assume, rest = role.trust["Statement"]
        assert assume["Condition"] == {
            "ArnEquals": {"aws:PrincipalArn": [ANOTHER]},
            "StringEquals": {"sts:ExternalId": "external-id"},
        }
        assert rest["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [ANOTHER]}}
        assert role.attached == {"arn:aws:iam::aws:policy/SecurityAudit"}
    policy = organization.policy()
    assert policy is not None
    assert (policy.accounts, policy.attached) == (set(accounts[:2]), {"Another"})
    assert changed.verdict(moved) == ("retired", "excluded")
    # A role that nobody can reach any more is left where it is.
    assert organization.role(moved) is not None


def test_a_second_resync_has_nothing_left_to_change(organization: Organization, boundary: Boundary) -> None:
    enrolled(organization)
    organization.make_role(ANOTHER)
    changed = Stage(organization, SourcePrincipalArns=ANOTHER, SourcePolicyScope="organization")
    resynced(changed)

    with boundary.watching() as calls:
        resynced(changed)

    assert writes(calls, "iam:") == []


def test_a_reader_that_gives_way_to_the_whole_account_is_detached_and_the_operators_own_stays(
    organization: Organization,
) -> None:
    enrolled(organization)
    organization.make_role(ANOTHER)
    iam = organization.iam(MANAGEMENT)
    iam.attach_role_policy(RoleName="Another", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}")
    changed = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:root")

    resynced(changed)
    resynced(changed)

    policy = organization.policy()
    assert policy is not None
    assert policy.attached == {"Another"}


RENAMED = [
    ("MEMBER_ROLE_NAME", {"MemberRoleName": "Renamed"}),
    ("SOURCE_POLICY_NAME", {"SourcePolicyName": "Renamed"}),
    ("SOURCE_PRINCIPAL_ARNS' account", {}),
]


def _renamed(organization: Organization, parameters: dict[str, str]) -> Stage:
    if not parameters:
        source = organization.member("Source")
        organization.make_role(f"arn:aws:iam::{source}:role/Reader")
        parameters = {"SourcePrincipalArns": f"arn:aws:iam::{source}:role/Reader"}
    return Stage(organization, **parameters)


def test_settings_alone_reach_the_source_policy_only_by_a_resync(organization: Organization) -> None:
    enrolled(organization)
    organization.make_role(ANOTHER)
    changed = Stage(organization, SourcePrincipalArns=ANOTHER)

    changed.run_publish()
    policy = organization.policy()
    assert policy is not None
    assert policy.attached == {"Reader"}

    resynced(changed)
    policy = organization.policy()
    assert policy is not None
    assert policy.attached == {"Another"}


def test_a_former_principal_is_detached_after_the_new_one_is_attached(
    organization: Organization, boundary: Boundary
) -> None:
    enrolled(organization)
    organization.make_role(ANOTHER)
    changed = Stage(organization, SourcePrincipalArns=ANOTHER)
    changed.run("resync", {"accounts": "new"})
    attached: list[set[str]] = []

    def look(_: object) -> None:
        policy = organization.policy()
        assert policy is not None
        attached.append(policy.attached)

    boundary.edit("iam:DetachRolePolicy", look)
    boundary.edit("iam:AttachRolePolicy", look)

    changed.publish()

    assert attached == [{"Reader", "Another"}, {"Another"}]


@pytest.mark.parametrize(("setting", "parameters"), RENAMED)
def test_another_name_or_source_account_stops_newcomers_and_roles(
    organization: Organization, boundary: Boundary, setting: str, parameters: dict[str, str]
) -> None:
    accounts = enrolled(organization)
    changed = _renamed(organization, parameters)
    newcomer = organization.member("Newcomer")
    before = organization.policy(), [organization.role(account_id) for account_id in accounts]

    with boundary.watching() as calls:
        changed.ask(newcomer, *accounts)
        changed.work()
        changed.run("resync", {"accounts": "new"})
        changed.work()

    assert {call.operation for call in calls if call.is_write and call.operation.startswith("iam:")} == set()
    for account_id in (newcomer, *accounts):
        row = changed.row(account_id)
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "names_changed", 0)
        assert row["error"].startswith(f"{setting} is")
        assert "a second stage" in row["error"]
        assert '{"accounts": "all", "force": true}' in row["error"]
    assert changed.item("#status")["blocked"]["reason"] == "names_changed"
    assert (organization.policy(), [organization.role(account_id) for account_id in accounts]) == before

    back = Stage(organization)
    assert "blocked" not in back.item("#status")
    back.run("rerun")
    back.work()
    assert {back.verdict(account_id) for account_id in (newcomer, *accounts)} == {("enrolled", None)}
    assert organization.named() >= {newcomer, *accounts}


def test_a_freeze_under_another_source_account_says_why_it_is_not_in_force(organization: Organization) -> None:
    """CloudFormation has moved publish's permissions to the other account already."""
    enrolled(organization)
    changed = _renamed(organization, {})

    answer = changed.run("freeze", {"frozen": True}, seconds=7)

    assert (answer["frozen"], answer["in_force"]) == (True, False)
    assert answer["why"].startswith("a read of IAM has not shown yet")
    assert "SOURCE_PRINCIPAL_ARNS' account is" in answer["why"]
    back = Stage(organization)
    policy = organization.policy()
    assert policy is not None
    assert back.run("freeze", {"frozen": True})["in_force"] is True


def test_a_dry_run_under_another_name_says_so(organization: Organization, boundary: Boundary) -> None:
    accounts = enrolled(organization)
    changed = Stage(organization, MemberRoleName="Renamed")

    with boundary.watching() as calls:
        answer = changed.run("backfill", {"dry_run": True})

    assert writes(calls) == []
    assert {each["account_id"]: each["reason"] for each in answer["accounts"]} == dict.fromkeys(
        accounts, "names_changed"
    )


def test_after_an_uninstall_every_name_may_change(organization: Organization) -> None:
    accounts = enrolled(organization)
    stage = Stage(organization)
    for _ in range(3):
        stage.run("retire", {"accounts": "all", "force": True})
        stage.work()
    changed = Stage(organization, MemberRoleName="Renamed", SourcePolicyName="RenamedToo")

    changed.run("backfill")
    changed.work()

    assert [organization.role(account_id) for account_id in accounts] == [None] * 3
    policy = organization.policy("RenamedToo")
    assert policy is not None
    assert (policy.accounts, policy.tags) == (set(accounts), OURS)
    assert organization.role(accounts[1], "Renamed") is not None


@pytest.mark.parametrize(("setting", "left"), [("IncludeOuIds", {"below"}), ("ExcludeOuIds", {"above", MANAGEMENT})])
def test_what_was_listed_before_the_settings_named_ous_is_looked_up(
    organization: Organization, setting: str, left: set[str]
) -> None:
    # GIVEN messages of a sweep that asked for no OUs
    unit = organization.unit()
    accounts = {name: organization.member(name) for name in ("Above", "Below")}
    organization.move(accounts["Below"], unit)
    plain = Stage(organization)
    resynced(plain)
    for account_id in (MANAGEMENT, *accounts.values()):
        plain.grow_old(account_id, hours=1)
    plain.run("resync")

    # WHEN they are worked on under settings that name one
    Stage(organization, **{setting: unit}, MaxRetiredPercent="0").work()

    assert organization.named() == {accounts.get(name.title(), name) for name in left}
