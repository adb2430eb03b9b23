"""A scope that changes after the deployment: a resync records every account first, then publish changes the document."""

from typing import Any

import pytest

from chalicelib.settings import Settings
from chalicelib.source_policy.documents import exclusion_capacity
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_resync import resynced

SECOND = f"{SOURCE_POLICY}-2"
WHOLE = {"SourcePolicyScope": "organization"}


def condition(organization: Organization) -> Any:
    """Return the condition of what the first shard allows."""
    policy = organization.policy()
    assert policy is not None
    (statement,) = policy.document["Statement"]
    return statement["Condition"]


def is_wide(organization: Organization) -> bool:
    return "aws:ResourceAccount" not in condition(organization)["StringEquals"]


def crowded(stage: Stage, count: int, *, access: str = "granted") -> list[str]:
    """Have the ledger hold so many accounts more; those that are granted are in force."""
    crowd = [f"9{number:011}" for number in range(count)]
    row = {"access": access, "outcome": "enrolled", "updated_at": ""}
    if access == "granted":
        row["in_force_since"] = "2026-01-01T00:00:00.000000+00:00"
    with stage.ledger.batch_writer() as batch:
        for account_id in crowd:
            batch.put_item(Item={"account_id": account_id, **row})
    return crowd


@pytest.mark.parametrize("accounts", ["new", "all"])
def test_a_changed_scope_reaches_iam_with_the_next_resync_and_not_before(
    organization: Organization, accounts: str
) -> None:
    early, late = organization.member("Early"), organization.member("Late")
    single = Stage(organization)
    resynced(single)
    whole = Stage(organization, **WHOLE)
    whole.enroll(late)
    assert organization.named() == {early, late, MANAGEMENT}

    resynced(whole, accounts=accounts)
    assert condition(organization) == {"StringEquals": {"aws:ResourceOrgID": organization.id}}
    assert set(whole.verdicts().values()) == {("enrolled", None)}

    latest = organization.member("Latest")
    single = Stage(organization)
    single.enroll(latest)
    assert is_wide(organization)
    assert single.verdict(latest) == ("enrolled", None)

    resynced(single, accounts=accounts)
    assert organization.named() == {early, late, latest, MANAGEMENT}
    assert set(single.verdicts().values()) == {("enrolled", None)}


@pytest.mark.parametrize(("former", "wanted"), [({}, WHOLE), (WHOLE, {})], ids=["widened", "narrowed"])
def test_a_scope_changes_only_after_every_listed_account_is_recorded(
    organization: Organization, former: dict[str, str], wanted: dict[str, str]
) -> None:
    """An account that enroll has not recorded yet might be an excluded one, or lose its access."""
    organization.member()
    resynced(Stage(organization, **former))
    excluded = organization.member("Excluded")
    changed = Stage(organization, **wanted, ExcludeAccountIds=excluded)
    before = condition(organization)

    changed.run("resync", {"accounts": "new"})
    changed.publish()
    assert condition(organization) == before

    changed.work()
    resynced(changed, accounts="new")
    assert is_wide(organization) == (wanted == WHOLE)
    assert changed.verdict(excluded) == ("skipped", "excluded")


def test_a_resync_of_an_ou_or_of_failures_changes_no_scope(organization: Organization) -> None:
    unit = organization.unit()
    organization.member()
    resynced(Stage(organization))
    whole = Stage(organization, **WHOLE)

    resynced(whole, ous=[unit])
    resynced(whole, accounts="failed")

    assert not is_wide(organization)


def test_a_narrowed_scope_keeps_every_enrolled_account(organization: Organization, boundary: Boundary) -> None:
    whole = Stage(organization, **WHOLE)
    accounts = [organization.member(f"Workload{number}") for number in range(2)]
    resynced(whole)
    retires = organization.member("Retires")
    whole.enroll(retires)
    whole.run("retire", {"accounts": [retires]})
    whole.work()
    single = Stage(organization)

    boundary.fail("sts:AssumeRole", account_id=accounts[0])
    resynced(single)

    assert organization.named() == {MANAGEMENT, *accounts}
    assert single.row(accounts[0])["access"] == "granted"


def test_a_scope_that_is_narrowed_keeps_accounts_of_unknown_access(
    organization: Organization, boundary: Boundary
) -> None:
    """The organization's statement granted them; only a row that says none or excluded revokes."""
    whole = Stage(organization, **WHOLE)
    resynced(whole)
    unknown = organization.member("Unknown")
    boundary.fail("organizations:DescribeAccount", "ServiceException", account_id=unknown, status=500)
    whole.enroll(unknown)
    assert "access" not in whole.row(unknown)
    boundary.mend()
    boundary.fail("sts:AssumeRole", account_id=unknown)
    organization.grow_old(unknown)

    resynced(Stage(organization), accounts="new")

    assert organization.named() == {MANAGEMENT, unknown}


def test_a_scope_that_is_widened_excludes_what_was_excluded(organization: Organization) -> None:
    single = Stage(organization)
    retires = organization.member()
    resynced(single)
    single.run("retire", {"accounts": [retires]})
    single.work()

    resynced(Stage(organization, **WHOLE), accounts="new")

    assert condition(organization)["StringNotEquals"] == {"aws:ResourceAccount": [retires]}


def test_a_scope_without_room_is_refused_with_its_reason_until_there_is_room(organization: Organization) -> None:
    whole = Stage(organization, **WHOLE)
    resynced(whole)
    single = Stage(organization)
    crowd = crowded(whole, len(whole.full_shard()))
    iam = organization.iam(MANAGEMENT)
    for number in range(9):
        iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))
    before = organization.policy()

    single.run("resync", {"accounts": "new"})
    single.publish()

    problem = single.item("#status")["scope"]
    assert problem["reason"] == "quota"
    assert problem["error"].startswith("SourcePolicyScope=accounts has no room for 1 accounts")
    assert organization.policy() == before

    for account_id in crowd:
        whole.ledger.delete_item(Key={"account_id": account_id})
    resynced(single, accounts="new")
    assert organization.named() == {MANAGEMENT}
    assert "scope" not in single.item("#status")


def test_a_scope_with_too_many_exclusions_is_refused_and_may_be_set_back(organization: Organization) -> None:
    single = Stage(organization)
    resynced(single)
    crowded(single, exclusion_capacity(Settings.from_env(single.environ)) + 1, access="excluded")
    whole = Stage(organization, **WHOLE)

    whole.run("resync", {"accounts": "new"})
    whole.publish()

    assert whole.item("#status")["scope"]["reason"] == "quota"
    assert organization.named() == {MANAGEMENT}

    Stage(organization).run_publish()
    assert "scope" not in whole.item("#status")


def test_a_change_that_cannot_be_written_is_repeated(organization: Organization, boundary: Boundary) -> None:
    whole = Stage(organization, **WHOLE)
    resynced(whole)
    single = Stage(organization)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)

    single.run("resync", {"accounts": "new"})
    assert set(single.publish().delays.values()) == {5}
    assert is_wide(organization)

    boundary.mend()
    account_id = organization.member()
    single.enroll(account_id)
    single.work()
    resynced(single, accounts="new")
    assert organization.named() == {MANAGEMENT, account_id}


@pytest.mark.parametrize("code", ["ServiceFailure", "AccessDenied"])
def test_further_shards_are_written_before_the_first_one_is_narrowed(
    organization: Organization, boundary: Boundary, code: str
) -> None:
    whole = Stage(organization, **WHOLE)
    account_id = organization.member()
    resynced(whole)
    crowd = crowded(whole, len(whole.full_shard()))
    single = Stage(organization)
    boundary.fail("iam:CreatePolicy", code, status=500 if code == "ServiceFailure" else 403)

    single.run("resync", {"accounts": "new"})
    single.publish()
    assert is_wide(organization)
    assert single.verdict(account_id) == ("enrolled", None)

    boundary.mend()
    single.let_delays_pass()
    single.run("resync", {"accounts": "new"})
    single.publish()
    assert organization.named() | organization.named(SECOND) == {MANAGEMENT, account_id, *crowd}

    whole = Stage(organization, **WHOLE)
    whole.run("resync", {"accounts": "new"})
    whole.publish()
    assert is_wide(organization)
    assert organization.named(SECOND) == set()


def test_a_revocation_and_a_freeze_wait_for_no_change_of_scope(organization: Organization, boundary: Boundary) -> None:
    whole = Stage(organization, **WHOLE)
    goes, stays = organization.member("Goes"), organization.member("Stays")
    resynced(whole)
    crowded(whole, len(whole.full_shard()))
    single = Stage(organization)
    boundary.fail("iam:CreatePolicy", "ServiceFailure", status=500)
    single.run("resync", {"accounts": "new"})
    single.publish()

    single.run("retire", {"accounts": [goes]})
    single.deliver_accounts()
    single.let_lease_expire()
    answer = single.run("freeze", {"frozen": True}, seconds=7)

    assert answer["in_force"] is True
    assert is_frozen(organization)
    boundary.mend()
    single.let_delays_pass()
    single.run("resync", {"accounts": "new"})
    single.work()
    assert goes not in organization.named()
    assert stays in organization.named() | organization.named(SECOND)


def is_frozen(organization: Organization) -> bool:
    policy = organization.policy()
    assert policy is not None
    return any(statement["Effect"] == "Deny" for statement in policy.document["Statement"])
