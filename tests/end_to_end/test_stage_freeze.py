"""A freeze while there is other work: every assumption is denied, and the answer is in force within 30 seconds."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.source_policy.documents import capacity
from local.organization import LocalOrganization
from local.waiting import until
from tests.end_to_end.deployed_stage import PATIENCE, Deploy
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.function_sessions import role_name
from tests.end_to_end.swept_stage import POLICY, SweptStage, unheard_of

IN_FORCE_SECONDS = 30


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, reader: str) -> SweptStage:
    unheard_of(organization, 2)
    stage = SweptStage(organization, deploy("cold", SourcePrincipalArns=reader).name)
    stage.sweep("backfill")
    return stage


@pytest.fixture
def enrolled(stage: SweptStage) -> Iterator[list[str]]:
    """The accounts that have a member role and that the reader may enter before the test, and after its end again."""
    accounts = sorted(stage.with_outcome("enrolled"))
    assert all(reads(stage, account_id) for account_id in accounts)
    yield accounts
    assert stage.ask("freeze", frozen=False) == {"frozen": False, "in_force": True, "why": None}
    stage.sweep("resync", accounts="failed")
    assert all(reads(stage, account_id) for account_id in accounts)


def reads(stage: SweptStage, account_id: str) -> Any:
    reader = f"arn:aws:iam::{stage.organization.management_account_id}:role/Reader"
    return stage.organization.assume(stage.member_role(account_id), stage.organization.as_role(reader))


def freeze(stage: SweptStage, accounts: list[str]) -> None:
    """Freeze, and see that it is in force in time and in every account."""
    started = time.monotonic()
    answer = stage.ask("freeze", frozen=True)
    assert answer == {"frozen": True, "in_force": True, "why": None}
    assert time.monotonic() - started < IN_FORCE_SECONDS
    for account_id in accounts:
        with denied("sts:AssumeRole"):
            reads(stage, account_id)


def test_a_freeze_does_not_wait_for_queued_accounts(
    organization: LocalOrganization, stage: SweptStage, enrolled: list[str]
) -> None:
    created = unheard_of(organization, 25)
    stage.ask("backfill")
    freeze(stage, enrolled)
    stage.idle()

    assert stage.with_outcome("enrolled") == {*enrolled, *created}
    for account_id in created:
        stage.settled(account_id, "enrolled")
        with denied("sts:AssumeRole"):
            reads(stage, account_id)

    assert stage.ask("freeze", frozen=False)["in_force"]
    assert all(reads(stage, account_id) for account_id in created)


def test_a_freeze_does_not_wait_for_a_run_that_was_killed(
    organization: LocalOrganization, stage: SweptStage, enrolled: list[str]
) -> None:
    (created,) = unheard_of(organization)
    stage.ask("backfill", accounts=[created])
    stage.settled(created, "enrolled")
    # A run that has begun to write to IAM: `applying` is recorded.
    organization.slow_iam(4)
    organization.set_account_state(created, "SUSPENDED")
    stage.ask("backfill", accounts=[created])
    until(lambda: any(record.applying for record in stage.records().shards), "a shard is being written", PATIENCE)
    organization.kill(stage.function("publish"))
    organization.slow_iam(0)
    assert any(record.applying for record in stage.records().shards)

    freeze(stage, enrolled)

    organization.set_account_state(created, "ACTIVE")
    organization.skip_delays(f"rolecall-{stage.name}-publish.fifo")
    stage.sweep("backfill", accounts=[created])
    assert not any(record.applying for record in stage.records().shards)


def test_a_freeze_is_in_force_though_one_shard_can_not_be_written(
    organization: LocalOrganization, stage: SweptStage, enrolled: list[str], second_shard: str
) -> None:
    iam, publish = organization.client("iam"), role_name(stage, "publish")
    first = f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    deny = {"Effect": "Deny", "Action": "iam:CreatePolicyVersion", "Resource": first}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    iam.put_role_policy(RoleName=publish, PolicyName="denied", PolicyDocument=document)

    freeze(stage, enrolled)

    frozen = {record.name: record.is_frozen for record in stage.records().shards}
    assert frozen == {POLICY: False, second_shard: True}
    iam.delete_role_policy(RoleName=publish, PolicyName="denied")
    organization.start_publish(stage.name)
    assert all(record.is_frozen for record in stage.records().shards)


@pytest.fixture
def second_shard(organization: LocalOrganization, stage: SweptStage, enrolled: list[str]) -> Iterator[str]:
    """A shard after the first, which is full: of accounts that are only in the ledger."""
    others = [str(900_000_000_000 + number) for number in range(capacity(stage.settings) - len(enrolled) + 1)]
    write_rows(stage, others, "granted")
    organization.start_publish(stage.name)
    _, second = stage.records().shards
    yield second.name
    write_rows(stage, others, "none")
    organization.start_publish(stage.name)
    write(stage, [{"DeleteRequest": {"Key": {"account_id": {"S": account_id}}}} for account_id in others])


def write_rows(stage: SweptStage, account_ids: list[str], access: str) -> None:
    rest = {"outcome": {"S": "skipped"}, "access": {"S": access}, "updated_at": {"S": "2026-01-01T00:00:00+00:00"}}
    write(stage, [{"PutRequest": {"Item": {"account_id": {"S": each}} | rest}} for each in account_ids])


def write(stage: SweptStage, requests: list[dict[str, Any]]) -> None:
    dynamodb, table = stage.organization.client("dynamodb"), stage.environment["LEDGER_TABLE"]
    for start in range(0, len(requests), 25):
        dynamodb.batch_write_item(RequestItems={table: requests[start : start + 25]})
