"""Lost tables and records: nothing is revoked, nothing unfrozen, and the next resync restores what is missing."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_freeze import denials
from tests.integration.test_offboarding_uninstall import backfilled
from tests.integration.test_sweep_resync import resynced

SECOND = f"{SOURCE_POLICY}-2"


_FREEZES = pytest.mark.parametrize("frozen", [None, True, False], ids=["never frozen", "frozen", "unfrozen"])


def _is_restored(organization: Organization, frozen: bool | None, lose: Callable[[Stage], None]) -> None:
    """Lose something, and look at what a run of publish and then a resync make of it."""
    stage = Stage(organization)
    accounts = {MANAGEMENT, *backfilled(organization, stage, 2)}
    if frozen is not None:
        stage.run("freeze", {"frozen": frozen})
    before = organization.policy()
    assert before is not None

    lose(stage)
    stage.run_publish()
    policy = organization.policy()
    assert policy is not None
    assert (policy.document, policy.attached) == (before.document, before.attached)

    resynced(stage)
    policy = organization.policy()
    assert policy is not None
    assert (policy.document, policy.attached) == (before.document, before.attached)
    assert len(denials(organization)) == (frozen is True)
    assert set(stage.verdicts().items()) == {(account_id, ("enrolled", None)) for account_id in accounts}
    assert stage.granted(SOURCE_POLICY) == accounts
    assert stage.item("#status")["shards"] == 1


@_FREEZES
def test_a_lost_ledger_revokes_nothing(organization: Organization, frozen: bool | None) -> None:
    _is_restored(organization, frozen, lambda stage: stage.lose_ledger())


@_FREEZES
@pytest.mark.parametrize("keys", [(), (SOURCE_POLICY,), ("#status",), ("#control",)], ids=str)
def test_lost_records_are_restored_from_iam(
    organization: Organization, frozen: bool | None, keys: tuple[str, ...]
) -> None:
    _is_restored(organization, frozen, lambda stage: stage.lose(*keys))


@_FREEZES
def test_two_lost_tables_revoke_nothing(organization: Organization, frozen: bool | None) -> None:
    def lose(stage: Stage) -> None:
        stage.lose_ledger()
        stage.lose()

    _is_restored(organization, frozen, lose)


def test_a_lost_table_keeps_the_freeze(organization: Organization) -> None:
    """Without #control, every shard stays frozen or not as it was last applied, until freeze says otherwise."""
    stage = Stage(organization)
    account_id = organization.member()
    stage.enroll(account_id)
    stage.run("freeze", {"frozen": True})
    stage.lose()

    stage.enroll(account_id)

    assert len(denials(organization)) == 1
    assert organization.named() == {account_id}
    assert stage.run("freeze", {"frozen": False})["in_force"] is True
    assert denials(organization) == []


@pytest.mark.parametrize("lost", ["records", "first", "second"])
def test_every_shard_is_restored(organization: Organization, lost: str) -> None:
    stage = Stage(organization)
    first, second = organization.member("First"), organization.member("Second")
    stage.enroll(first)
    full = stage.full_shard(first)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(second)
    stage.fill(SOURCE_POLICY, full[:-1])
    stage.edit(SOURCE_POLICY, applying=stage.item(SOURCE_POLICY)["applied"])  # so that it is written
    stage.run_publish()
    newcomer = organization.member("Newcomer")

    stage.lose(*{"first": [SOURCE_POLICY], "second": [SECOND], "records": []}[lost])
    stage.ask(newcomer)
    stage.work()

    assert organization.named() | organization.named(SECOND) == {*full[:-1], second, newcomer}
    assert [stage.granted(name) for name in (SOURCE_POLICY, SECOND)] == [
        organization.named(),
        organization.named(SECOND),
    ]
    assert stage.item("#status")["shards"] == 2


def test_a_foreign_policy_becomes_no_record(organization: Organization) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage)
    organization.lose_policy()
    organization.make_policy(SOURCE_POLICY)
    foreign = organization.policy()
    stage.lose()

    stage.run_publish()
    resynced(stage)
    stage.run("freeze", {"frozen": True})

    assert organization.policy() == foreign
    assert stage.item("#status")["blocked"]["reason"] == "foreign_source_policy"
    assert {stage.verdict(account_id) for account_id in accounts} == {("pending", "source_policy_pending")}

    organization.lose_policy()
    resynced(stage)
    assert organization.named() == {MANAGEMENT, *accounts}
    assert len(denials(organization)) == 1
    assert {stage.verdict(account_id) for account_id in accounts} == {("enrolled", None)}


def test_a_policy_of_ours_in_another_form_is_foreign_once_its_record_is_lost(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    iam, arn = organization.iam(MANAGEMENT), f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}"
    document = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    before = organization.policy()
    stage.lose(SOURCE_POLICY)

    resynced(stage)

    assert organization.policy() == before
    error = stage.item(SOURCE_POLICY)["error"]
    assert error["reason"] == "foreign_source_policy"
    assert "delete the policy, which then is written again" in error["error"]
    # The accounts that it granted are granted by another shard meanwhile.
    assert organization.named(SECOND) == {MANAGEMENT, account_id}
    assert stage.verdict(account_id) == ("enrolled", None)
    organization.lose_policy()
    resynced(stage)
    assert (organization.named(), organization.named(SECOND)) == (set(), {MANAGEMENT, account_id})
    assert "error" not in stage.item(SOURCE_POLICY)


def test_a_role_stays_while_records_are_lost(organization: Organization, boundary: Boundary) -> None:
    """Lost records may have granted any account, so no role is deleted until IAM was read."""
    stage = Stage(organization)
    goes, stays = backfilled(organization, stage, 2)
    stage.run("retire", {"accounts": [goes]})
    stage.deliver_accounts()
    stage.lose()
    boundary.fail("iam:GetPolicy", "Throttling")
    stage.let_delays_pass()

    stage.deliver()

    assert organization.role(goes, MEMBER_ROLE) is not None
    assert organization.named() == {MANAGEMENT, goes, stays}

    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert organization.role(goes, MEMBER_ROLE) is None
    assert organization.named() == {MANAGEMENT, stays}


def test_a_ledger_that_was_restored_from_a_backup_revokes_nothing_by_itself(organization: Organization) -> None:
    stage = Stage(organization)
    stays, late = backfilled(organization, stage, 2)
    stage.ledger.delete_item(Key={"account_id": late})

    stage.run_publish()
    assert organization.named() == {MANAGEMENT, stays, late}

    resynced(stage, accounts="new")
    assert organization.named() == {MANAGEMENT, stays, late}
    assert stage.verdict(late) == ("enrolled", None)


def test_a_record_that_was_restored_from_a_backup_is_corrected_by_a_resync(organization: Organization) -> None:
    stage = Stage(organization)
    leaves, retires, stays = backfilled(organization, stage, 3)
    earlier: dict[str, Any] = stage.item(SOURCE_POLICY)
    late = organization.member("Late")
    stage.run("retire", {"accounts": [retires]})
    organization.depart(leaves)
    stage.enroll(leaves, late)
    stage.work()
    assert organization.named() == {MANAGEMENT, stays, late}
    stage.edit(SOURCE_POLICY, **earlier)

    resynced(stage, accounts="new")

    assert organization.named() == {MANAGEMENT, stays, late}
    assert stage.granted(SOURCE_POLICY) == {MANAGEMENT, stays, late}


@pytest.mark.parametrize("further", [None, "ServiceFailure", "AccessDenied"])
def test_a_record_is_restored_once_iam_can_be_read_again(
    organization: Organization, boundary: Boundary, further: str | None
) -> None:
    """No account loses what the shard grants, even if a further shard can't be written in that run."""
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    before = organization.policy()
    stage.lose(SOURCE_POLICY)
    boundary.fail("iam:GetPolicy")

    stage.run_publish()
    assert stage.item(SOURCE_POLICY) == {}
    assert organization.policy() == before

    boundary.mend()
    stage.let_lease_expire()
    if further is not None:
        boundary.fail("iam:CreatePolicy", further)
    stage.run_publish()
    assert stage.granted(SOURCE_POLICY) == {MANAGEMENT, account_id}
    assert organization.named() == {MANAGEMENT, account_id}
    assert stage.verdict(account_id) == ("enrolled", None)


def test_a_record_of_a_shard_that_was_never_written_takes_what_iam_holds(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    stage.ledger.delete_item(Key={"account_id": account_id})
    stage.edit(SOURCE_POLICY, applied=None)

    stage.run_publish()

    assert organization.named() == stage.granted(SOURCE_POLICY) == {MANAGEMENT, account_id}
    assert "applying" not in stage.item(SOURCE_POLICY)
