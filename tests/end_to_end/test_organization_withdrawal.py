"""Access is taken away: for a while by a freeze, for good by retiring, and everywhere by uninstalling."""

from collections.abc import Iterator
from typing import Any

import pytest

from local.organization import InvocationError, LocalOrganization
from tests.end_to_end.deployed_stage import Deploy
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.roles_in_iam import role_of
from tests.end_to_end.swept_stage import ROLE, SweptStage, attached_to, unheard_of


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> SweptStage:
    unheard_of(organization, 4)
    stage = SweptStage(organization, deploy("kept", SourcePrincipalArns=reader).name)
    answer = stage.ask("freeze", frozen=True)
    assert (answer["frozen"], answer["in_force"]) == (True, False)
    assert "each shard is frozen as it is created" in answer["why"]
    stage.sweep("backfill")
    assert [statement["Effect"] for statement in stage.source_policy()["Statement"]] == ["Allow", "Deny"]
    assert stage.ask("freeze", frozen=False) == {"frozen": False, "in_force": True, "why": None}
    return stage


@pytest.fixture
def enrolled(stage: SweptStage) -> list[str]:
    """Every account of the organization, enrolled whatever tests did before."""
    stage.sweep("backfill", accounts=sorted(stage.rows()))
    return sorted(stage.with_outcome("enrolled"))


@pytest.fixture
def frozen(stage: SweptStage, enrolled: list[str]) -> Iterator[list[str]]:
    assert stage.ask("freeze", frozen=True) == {"frozen": True, "in_force": True, "why": None}
    yield enrolled
    stage.ask("freeze", frozen=False)


def reads(stage: SweptStage, account_id: str) -> Any:
    reader = f"arn:aws:iam::{stage.organization.management_account_id}:role/Reader"
    return stage.organization.assume(stage.member_role(account_id), stage.organization.as_role(reader))


def test_a_freeze_denies_everything_and_an_unfreeze_allows_it_again_new_accounts_too(
    organization: LocalOrganization, stage: SweptStage, frozen: list[str]
) -> None:
    created = organization.create_account("created-while-frozen")
    stage.settled(created, "enrolled")
    assert stage.sweep("resync")["counts"]["frozen"] is True
    assert stage.gauge("Frozen", "publish") == 1
    for account_id in (*frozen, created):
        with denied("sts:AssumeRole"):
            reads(stage, account_id)

    assert stage.ask("freeze", frozen=False) == {"frozen": False, "in_force": True, "why": None}

    assert all(reads(stage, account_id) for account_id in (*frozen, created))
    assert stage.sweep("resync")["counts"]["frozen"] is False
    assert stage.gauge("Frozen", "publish") == 0


def test_a_retired_account_stays_retired_until_a_backfill_names_it(
    organization: LocalOrganization, stage: SweptStage, enrolled: list[str]
) -> None:
    account_id = next(each for each in enrolled if each != organization.management_account_id)
    (told,) = stage.ask("retire", accounts=[account_id], dry_run=True)["accounts"]
    assert (told["account_id"], told["outcome"], told["change"]) == (account_id, "retired", "deleted")
    assert reads(stage, account_id)

    stage.sweep("retire", accounts=[account_id])

    row = stage.settled(account_id, "retired", "retired_by_request")
    assert "role_arn" not in row
    assert stage.role(account_id) is None
    assert stage.named() == set(enrolled) - {account_id}
    with denied("sts:AssumeRole"):
        reads(stage, account_id)

    for function in ("resync", "rerun", "backfill"):
        stage.sweep(function)
        stage.settled(account_id, "retired", "retired_by_request")
    stage.hear(account_id)
    stage.passed(account_id, len(stage.passes(account_id)) + 1)
    assert stage.role(account_id) is None
    assert account_id not in stage.named()

    stage.sweep("backfill", accounts=[account_id])
    stage.settled(account_id, "enrolled")
    assert reads(stage, account_id)


def test_an_uninstall_leaves_nothing(organization: LocalOrganization, stage: SweptStage, enrolled: list[str]) -> None:
    everything = {"accounts": "all", "force": True}
    preview = stage.ask("retire", accounts="all", dry_run=True)
    assert {each["account_id"] for each in preview["accounts"]} == set(enrolled)
    with pytest.raises(InvocationError, match="uninstalls everything"):
        stage.ask("retire", accounts="all")
    assert stage.with_outcome("enrolled") == set(enrolled)

    answer = stage.sweep("retire", **everything)
    assert answer["next"] == everything
    created = organization.create_account("created-while-uninstalling")
    stage.settled(created, "skipped", "uninstalled")
    for _ in range(3):
        if answer["next"] is None:
            break
        answer = stage.sweep("retire", **answer["next"])

    assert answer == {"counts": {"left": 0, "shards_left": 0}, "accounts": [], "source_policy": [], "next": None}
    assert [account_id for account_id in (*enrolled, created) if role_of(organization, account_id, ROLE)] == []
    assert organization.client("iam").list_policies(Scope="Local")["Policies"] == []
    assert attached_to(organization) == set()
    assert stage.records().status is None
    assert stage.sweep("resync")["counts"]["uninstalling"] is True
    assert [account_id for account_id in (*enrolled, created) if role_of(organization, account_id, ROLE)] == []
    assert stage.with_outcome("enrolled") == set()

    stage.sweep("backfill", accounts=sorted(stage.rows()))
    assert stage.with_outcome("enrolled") == {*enrolled, created}
    assert all(reads(stage, account_id) for account_id in (*enrolled, created))
