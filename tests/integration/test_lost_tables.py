"""Lost tables and records: access and a freeze stay as they are, and the next resync restores what is missing."""

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import (
    MANAGEMENT,
    SECOND_SHARD,
    SOURCE_POLICY,
    SOURCE_POLICY_ARN,
    Organization,
)
from tests.integration.stage import Stage


def _require_unchanged(organization: Organization, stage: Stage, *lost: str) -> None:
    """Lose items of the source-policy table, or the ledger; compare IAM after a run of publish, and after a resync."""
    accounts = {MANAGEMENT, *stage.enroll_members(2)}
    stage.run("freeze", {"frozen": True})
    before = organization.policy()

    if "ledger" in lost:
        for account_id in accounts:
            stage.delete_row(account_id)
    else:
        stage.delete_items(*lost)
    for function in ("publish", "resync"):
        stage.run_publish() if function == "publish" else stage.run_and_drain(function)
        policy = organization.policy()
        assert (policy.document, policy.attached) == (before.document, before.attached)

    assert stage.statuses() == dict.fromkeys(accounts, ("enrolled", None))
    assert stage.recorded() == accounts
    assert stage.item("#status")["shards"] == 1


def test_lost_ledger_revokes_nothing(organization: Organization, stage: Stage) -> None:
    _require_unchanged(organization, stage, "ledger")


@pytest.mark.parametrize("keys", [(), (SOURCE_POLICY,), ("#status",), ("#control",)], ids=str)
def test_lost_records_are_restored_from_iam(organization: Organization, stage: Stage, keys: tuple[str, ...]) -> None:
    _require_unchanged(organization, stage, *keys)


def test_lost_table_keeps_the_freeze(organization: Organization, stage: Stage) -> None:
    """Without #control, every shard stays frozen or not as it was last applied, until the next request to freeze."""
    account_id = organization.member()
    stage.enroll(account_id)
    stage.run("freeze", {"frozen": True})
    stage.delete_items()

    stage.enroll(account_id)

    assert len(organization.policy().denials) == 1
    assert organization.granted() == {account_id}
    assert stage.run("freeze", {"frozen": False})["in_force"] is True
    assert organization.policy().denials == []


@pytest.mark.parametrize("keys", [(), (SOURCE_POLICY,), (SECOND_SHARD,)], ids=["all", "first", "second"])
def test_every_shard_is_restored(organization: Organization, stage: Stage, keys: tuple[str, ...]) -> None:
    first, second = stage.open_second_shard()
    granted = stage.full_shard(first)[:-1]
    stage.set_recorded(SOURCE_POLICY, granted)
    stage.edit(SOURCE_POLICY, applying=stage.item(SOURCE_POLICY)["applied"])  # so that it is written
    stage.run_publish()
    newcomer = organization.member("Newcomer")

    stage.delete_items(*keys)
    stage.enqueue(newcomer)
    stage.drain()

    assert organization.granted() | organization.granted(SECOND_SHARD) == {*granted, second, newcomer}
    for name in (SOURCE_POLICY, SECOND_SHARD):
        assert stage.recorded(name) == organization.granted(name)
    assert stage.item("#status")["shards"] == 2


def test_foreign_policy_becomes_no_record(organization: Organization, stage: Stage) -> None:
    accounts = stage.enroll_members(2)
    organization.delete_policy()
    organization.create_policy(SOURCE_POLICY)
    foreign = organization.policy()
    stage.delete_items()

    stage.run_publish()
    stage.run_and_drain("resync")
    stage.run("freeze", {"frozen": True})

    assert organization.policy() == foreign
    assert stage.item("#status")["blocked"]["reason"] == "foreign_source_policy"
    assert {stage.status(account_id) for account_id in accounts} == {("pending", "source_policy_pending")}

    organization.delete_policy()
    stage.run_and_drain("resync")
    assert organization.granted() == {MANAGEMENT, *accounts}
    assert len(organization.policy().denials) == 1
    assert {stage.status(account_id) for account_id in accounts} == {("enrolled", None)}


def test_edited_policy_is_foreign_once_its_record_is_lost(organization: Organization, stage: Stage) -> None:
    (account_id,) = stage.enroll_members(1)
    document = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    organization.iam().create_policy_version(PolicyArn=SOURCE_POLICY_ARN, PolicyDocument=document, SetAsDefault=True)
    before = organization.policy()
    stage.delete_items(SOURCE_POLICY)

    stage.run_and_drain("resync")

    assert organization.policy() == before
    error = stage.item(SOURCE_POLICY)["error"]
    assert error["reason"] == "foreign_source_policy"
    assert "delete the policy, which then is written again" in error["error"]
    # Until then, another shard grants its accounts.
    assert organization.granted(SECOND_SHARD) == {MANAGEMENT, account_id}
    assert stage.status(account_id) == ("enrolled", None)
    organization.delete_policy()
    stage.run_and_drain("resync")
    assert (organization.granted(), organization.granted(SECOND_SHARD)) == (set(), {MANAGEMENT, account_id})
    assert "error" not in stage.item(SOURCE_POLICY)


def test_no_role_is_deleted_while_records_are_lost(
    organization: Organization, boundary: Boundary, stage: Stage
) -> None:
    """Lost records may have granted any account."""
    retired, kept = stage.enroll_members(2)
    stage.run("retire", {"accounts": [retired]})
    stage.deliver_accounts()
    stage.delete_items()
    boundary.fail("iam:GetPolicy", "Throttling")
    stage.skip_delays()

    stage.deliver()

    assert organization.has_role(retired)
    assert organization.granted() == {MANAGEMENT, retired, kept}
    boundary.stop_faults()
    stage.skip_delays()
    stage.drain()
    assert not organization.has_role(retired)
    assert organization.granted() == {MANAGEMENT, kept}


@pytest.mark.parametrize("code", [None, "ServiceFailure", "AccessDenied"])
def test_record_is_restored_once_iam_can_be_read(
    organization: Organization, boundary: Boundary, stage: Stage, code: str | None
) -> None:
    """No account loses access, even if the same run fails to write a further shard."""
    (account_id,) = stage.enroll_members(1)
    before = organization.policy()
    stage.delete_items(SOURCE_POLICY)
    boundary.fail("iam:GetPolicy")

    stage.run_publish()
    assert stage.item(SOURCE_POLICY) == {}
    assert organization.policy() == before

    boundary.stop_faults()
    stage.expire_lease()
    if code is not None:
        boundary.fail("iam:CreatePolicy", code)
    stage.run_publish()
    assert stage.recorded() == organization.granted() == {MANAGEMENT, account_id}
    assert stage.status(account_id) == ("enrolled", None)


def test_unwritten_shard_adopts_the_policy_in_iam(organization: Organization, stage: Stage) -> None:
    (account_id,) = stage.enroll_members(1)
    stage.delete_row(account_id)
    stage.edit(SOURCE_POLICY, applied=None)

    stage.run_publish()

    assert organization.granted() == stage.recorded() == {MANAGEMENT, account_id}
    assert "applying" not in stage.item(SOURCE_POLICY)
