from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from benchmarks.deployment import ENVIRON
from benchmarks.stub.aws import Aws
from benchmarks.stub.organizations import PAGE, TAG, TAGGED_PAGE, Organization
from benchmarks.stub.role_states import RoleState, account_ids
from benchmarks.stub.rows import ledger_rows
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity
from rolecall.calls import BATCH, NEW, REQUEST_TO_PUBLISH, RUN, SHARD, UNCHANGED, Calls
from tests.integration.speed.conftest import StubbedStage

Deploy = Callable[..., StubbedStage]

MANY = 20
REPAIR = {"iam:DetachRolePolicy": 1, "iam:UpdateAssumeRolePolicy": 1}

NAME = "CrossAccountReadOnlyAccess"


def times(calls: Calls, accounts: int) -> dict[str, int]:
    return {call: number * accounts for call, number in calls.items()}


def total(*calls: Calls) -> dict[str, int]:
    return dict(sum(map(Counter, calls), Counter[str]()))


@pytest.fixture
def stage(deploy: Deploy) -> StubbedStage:
    stage = deploy(Aws())
    stage.publish()
    return stage


def test_first_run_checks_the_source_policy(deploy: Deploy) -> None:
    stage = deploy(Aws())

    calls = stage.publish()

    assert calls == {
        "dynamodb:Scan": 2,
        "dynamodb:UpdateItem": 4,
        "organizations:DescribeOrganization": 1,
        "iam:GetPolicy": 4,  # three shards whose records may have been lost; then what would block new accounts
        "iam:GetAccountSummary": 1,
        "iam:ListAttachedRolePolicies": 1,
    }
    assert stage.aws.management.policies == {}


@pytest.mark.parametrize(
    ("state", "expected"),
    [(RoleState.NEW, NEW), (RoleState.UNCHANGED, UNCHANGED), (RoleState.DRIFTED, {**UNCHANGED, **REPAIR})],
)
@pytest.mark.parametrize("listed", [True, False], ids=["sent by a sweep", "named by an event"])
def test_calls_per_account_and_three_per_batch(
    stage: StubbedStage, state: RoleState, expected: Calls, listed: bool
) -> None:
    calls = stage.enroll(account_ids(state, MANY), listed=listed)

    described = {} if listed else {"organizations:DescribeAccount": 1}
    assert calls == total(times({**expected, **described}, MANY), BATCH, REQUEST_TO_PUBLISH)


def test_accounts_selected_by_tag_cost_a_call_for_each_page_of_tags(deploy: Deploy) -> None:
    number = 5_000
    stub = Aws(organization=Organization(RoleState.NEW, number))
    stage = deploy(stub, INCLUDE_TAGS="env=prod", EXCLUDE_TAGS="secret=*")
    stage.publish()

    listed = stage.sweep("resync")
    enrolled = stage.enroll(account_ids(RoleState.NEW, MANY), tags={TAG["Key"]: TAG["Value"], "secret": None})

    read = {name: count for name, count in listed.items() if name.startswith(("organizations:", "tag:"))}
    assert read == {"organizations:ListAccounts": number // PAGE, "tag:GetResources": number // TAGGED_PAGE}
    assert listed["sqs:SendMessageBatch"] == number // 10
    assert enrolled == total(times(NEW, MANY), BATCH, REQUEST_TO_PUBLISH)


@pytest.mark.parametrize("number", [1, MANY])
def test_publish_marks_each_granted_row_and_writes_the_shard_once(stage: StubbedStage, number: int) -> None:
    stage.enroll(account_ids(RoleState.NEW, 1))
    stage.publish()
    stage.enroll(account_ids(RoleState.NEW, number, start=1))

    calls = stage.publish()

    assert calls == total(RUN, SHARD, {"dynamodb:UpdateItem": number})


def test_publish_without_changes_writes_no_shard(stage: StubbedStage) -> None:
    stage.enroll(account_ids(RoleState.NEW, MANY))
    stage.publish()

    calls = stage.publish()

    assert calls == RUN
    assert stage.aws.management.written == {NAME: 1}


def test_calls_that_create_and_attach_the_first_shard(stage: StubbedStage) -> None:
    stage.enroll(account_ids(RoleState.NEW, 1))

    calls = stage.publish()

    # The policy's name is looked up; the number of shards is written first, and the row is marked last.
    opened = {"iam:GetPolicy": 2, "dynamodb:UpdateItem": 1}
    written = {"dynamodb:UpdateItem": 2, "iam:CreatePolicy": 1, "iam:AttachRolePolicy": 1}
    assert calls == total(RUN, opened, written, {"dynamodb:UpdateItem": 1})


def test_resync_of_unchanged_accounts_writes_only_their_rows(stage: StubbedStage) -> None:
    stage.enroll(account_ids(RoleState.UNCHANGED, MANY))
    stage.publish()

    calls = stage.enroll(account_ids(RoleState.UNCHANGED, MANY))

    # By the stub's clock the rows are newer than the listing, so each account is described.
    assert calls == total(times({**UNCHANGED, "organizations:DescribeAccount": 1}, MANY), BATCH)


def test_burst_of_batches_takes_one_version_of_each_shard(stage: StubbedStage) -> None:
    ids = account_ids(RoleState.NEW, capacity(Settings.from_env(ENVIRON)) + 5)

    for start in range(0, len(ids), MANY):
        stage.enroll(ids[start : start + MANY])
    calls = stage.publish()

    assert stage.aws.management.written == {NAME: 1, f"{NAME}-2": 1}
    assert (calls["iam:CreatePolicy"], calls["iam:AttachRolePolicy"]) == (2, 2)
    # Each row, the run's own, and for each shard its record twice and the number of shards.
    assert calls["dynamodb:UpdateItem"] == len(ids) + RUN["dynamodb:UpdateItem"] + 2 * 3


def test_publish_scans_the_ledger_once_and_each_page_once(stage: StubbedStage) -> None:
    tables, ledger = stage.aws.tables, ENVIRON["LEDGER_TABLE"]
    tables.put(*ledger_rows(RoleState.NEW, range(3_000), in_force=False))
    scans, pages = tables.scans.copy(), tables.pages.copy()

    stage.publish()

    assert ((tables.scans - scans)[ledger], (tables.pages - pages)[ledger]) == (1, 2)
    assert len(tables.tables[ledger]) == 3_000


def test_throttled_calls_cost_less_than_twice_the_calls(deploy: Deploy) -> None:
    stubs = [Aws(), Aws()]

    for aws, every in zip(stubs, (0, 3), strict=True):
        stage = deploy(aws)
        stage.publish()
        aws.throttle_every = every
        stage.enroll(account_ids(RoleState.NEW, 50), listed=False)
        # A call that is throttled at each of its attempts ends the run, which is retried.
        next(_ for _ in count() if stage.try_publish())

    unthrottled, throttled = stubs
    assert throttled.throttled.total() >= unthrottled.calls.total() // 3
    assert throttled.calls.total() <= 2 * unthrottled.calls.total()
    assert throttled.management.written == unthrottled.management.written
