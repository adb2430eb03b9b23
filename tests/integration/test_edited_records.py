"""Items of the source-policy table that were edited by hand: one that can't be read counts as lost, and is restored from IAM."""

from decimal import Decimal
from typing import Any

import pytest

from tests.integration.organization import MANAGEMENT, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_offboarding_uninstall import backfilled

_APPLIED = {"accounts": "", "excluded": "", "scope": "accounts", "digest": "", "attached": [], "version_id": "v1"}
_SHARD: list[dict[str, Any]] = [
    {"applied": "*"},
    {"applied": {**_APPLIED, "frozen": False, "accounts": "444455556666,4444"}},
    {"applied": {**_APPLIED, "frozen": False, "scope": "galaxy"}},
    {"applied": _APPLIED},
    {"applied": {"frozen": False}},
    {"applied": None, "applying": Decimal(1)},
    {"error": {"reason": "of_a_later_release", "error": "no"}},
    {"error": "no"},
    {"written_at": "yesterday"},
    {"verified_at": "2026-01-01T00:00:00"},
    {"denied_principals": Decimal(7)},
]
_STATUS: list[dict[str, Any]] = [
    {"names": {"member_role_name": "Role"}},
    {"names": "all"},
    {"organization_id": None},
    {"shards": "many"},
    {"room": {"a": "b"}},
    {"repairs": ["some"]},
    {"looked_at": Decimal(1)},
]
_CONTROL: list[dict[str, Any]] = [
    {"frozen": "true", "uninstalling": "yes", "uninstalled": Decimal(1)},
    {"verify_requested_at": "today", "check_requested_at": Decimal(3), "scope_recorded": "galaxy"},
    {"check_requested_at": "2026-01-01T00:00:00"},
]


@pytest.mark.parametrize(
    ("key", "edited"),
    [
        *((SOURCE_POLICY, each) for each in _SHARD),
        *(("#status", each) for each in _STATUS),
        *(("#control", each) for each in _CONTROL),
    ],
    ids=str,
)
def test_an_unreadable_item_revokes_nothing_and_is_restored(
    organization: Organization, key: str, edited: dict[str, Any]
) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    newcomer = organization.member("Newcomer")
    readable = stage.items()
    stage.edit(key, **edited)

    stage.ask(newcomer)
    stage.work()

    assert organization.named() == {MANAGEMENT, account_id, newcomer}
    assert stage.granted(SOURCE_POLICY) == {MANAGEMENT, account_id, newcomer}
    assert stage.verdict(newcomer) == ("enrolled", None)
    status = stage.item("#status")
    assert (status["names"], status["shards"]) == (readable["#status"]["names"], 1)


def test_a_shard_whose_item_is_gone_from_between_others_is_restored(organization: Organization) -> None:
    stage = Stage(organization)
    (account_id,) = backfilled(organization, stage, 1)
    third = {**stage.item(SOURCE_POLICY)["applied"], "accounts": "999988887777"}
    stage.edit(f"{SOURCE_POLICY}-3", applied=third)

    stage.run_publish()
    stage.enroll(account_id)

    assert stage.item("#status")["shards"] == 3
    assert [organization.named(f"{SOURCE_POLICY}{suffix}") for suffix in ("", "-2", "-3")] == [
        {MANAGEMENT, account_id},
        set(),
        set(),  # as its record says, it was written already: a resync finds that it wasn't
    ]


def test_items_of_other_names_are_passed_over(organization: Organization) -> None:
    stage = Stage(organization)
    for name in ("#of-a-later-release", "Another", "Another-2", f"{SOURCE_POLICY}-1", f"{SOURCE_POLICY}-02"):
        stage.edit(name, applied="*")
    stage.edit(f"{SOURCE_POLICY}-x", applied="*")

    (account_id,) = backfilled(organization, stage, 1)

    assert organization.named() == {MANAGEMENT, account_id}
    assert stage.item("#status")["shards"] == 1


def test_a_scan_in_pages_is_read_whole(organization: Organization) -> None:
    stage = Stage(organization)
    accounts = backfilled(organization, stage)
    boundary = organization.boundary

    def cut(answer: dict[str, Any]) -> None:
        asked = boundary.calls[-1].params
        if "ExclusiveStartKey" not in asked and answer["Items"]:
            key = "account_id" if asked["TableName"] == stage.ledger.name else "policy_name"
            answer["Items"] = answer["Items"][:1]
            answer["LastEvaluatedKey"] = {key: answer["Items"][0][key]}

    boundary.edit("dynamodb:Scan", cut)
    newcomer = organization.member("Newcomer")

    stage.enroll(newcomer)

    assert organization.named() == {MANAGEMENT, *accounts, newcomer}
    assert set(stage.verdicts().values()) == {("enrolled", None)}
