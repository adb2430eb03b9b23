"""Items of the source policy's table that somebody edited by hand: nothing is decided on one that can't be read, and nothing lost."""

from decimal import Decimal
from typing import Any

import pytest

from chalicelib.errors import RolecallError
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, SOURCE_POLICY, Organization, Policy
from tests.integration.stage import Stage
from tests.integration.test_withdraw_uninstall import backfilled


def _said(policy: Policy | None) -> Any:
    assert policy is not None
    return policy.document


_EDITS: list[tuple[str, Any]] = [
    ("accounts", "*"),
    ("accounts", "444455556666,4444"),
    ("accounts", {Decimal(1)}),
    ("accounts", True),
    ("excluded", ["444455556666", "me"]),
    ("excluded", None),
    ("frozen", "false"),
    ("version", "2"),
    ("version", Decimal("1.5")),
    ("version", Decimal(0)),
    ("written", Decimal(10**16)),
    ("form", Decimal(1)),
    ("attached", "arn:aws:iam::111122223333:role/Reader"),
    ("attached", {"everybody"}),
]


@pytest.mark.parametrize(("name", "value"), _EDITS, ids=[f"{name} {value}" for name, value in _EDITS])
def test_an_item_that_cannot_be_read_is_refused_by_name_until_it_is_put_back(
    organization: Organization, name: str, value: Any
) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    newcomer = organization.member("Newcomer")
    held: Any = stage.shards.get_item(Key={"policy_name": SOURCE_POLICY})["Item"]
    before = organization.policy()
    stage.shards.put_item(Item={**held, name: value})

    delivery = stage.enroll(newcomer)

    assert delivery.delays == {newcomer: 30}
    with pytest.raises(RolecallError, match=f"the item {SOURCE_POLICY} of the table .*-source-policy can't be read"):
        stage.run("resync")
    assert organization.policy() == before

    stage.shards.put_item(Item=held)
    stage.let_delays_pass()
    stage.work()
    assert stage.verdict(newcomer) == ("enrolled", None)
    assert organization.named() == {MANAGEMENT, account_id, newcomer}


@pytest.mark.parametrize("changed", [{"version": "3"}, {"made_for": "all"}, {"made_for": {"MEMBER_ROLE_NAME": "Role"}}])
def test_a_count_of_placements_that_cannot_be_read_is_refused_by_name(
    organization: Organization, changed: dict[str, Any]
) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    held: Any = stage.shards.get_item(Key={"policy_name": "#placement"})["Item"]
    stage.shards.put_item(Item=held | changed)

    with pytest.raises(RolecallError, match=r"the item #placement of the table .* can't be read"):
        stage.run("resync")


def test_a_shard_whose_item_is_gone_from_between_others_is_missed(organization: Organization) -> None:
    stage = Stage(organization)
    backfilled(organization, stage, 1)
    stage.shards.put_item(Item={"policy_name": f"{SOURCE_POLICY}-3"})

    with pytest.raises(RolecallError, match=f"the item {SOURCE_POLICY}-2 .* can't be read .it is missing"):
        stage.run("resync")


def test_a_shard_that_others_opened_while_the_items_were_read_is_not_missed(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)

    def see_a_later_one_alone(answer: dict[str, Any]) -> None:
        boundary.mend()
        answer["Items"].append({"policy_name": {"S": f"{SOURCE_POLICY}-3"}})
        stage.fill(SOURCE_POLICY, [MANAGEMENT, account_id])

    boundary.edit("dynamodb:Scan", see_a_later_one_alone)

    assert stage.enroll(account_id).finished == [account_id]


def test_where_every_item_is_deleted_a_backfill_takes_in_what_iam_has(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    stage.run("freeze", {"frozen": True})
    before = _said(organization.policy())
    for item in stage.shards.scan()["Items"]:
        stage.shards.delete_item(Key={"policy_name": item["policy_name"]})

    stage.run("backfill", {"accounts": [account_id]})
    stage.work()

    assert stage.shard(SOURCE_POLICY)["accounts"] == {MANAGEMENT, account_id}
    assert stage.shard(SOURCE_POLICY)["frozen"] is True
    assert _said(organization.policy()) == before
