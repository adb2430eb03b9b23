from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from benchmarks.deployment import ENVIRON
from benchmarks.stub.aws import Aws
from benchmarks.stub.role_states import RoleState, account_ids
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import capacity
from tests.integration.speed.conftest import Stage

MANY = 20
ENTER = {"sts:AssumeRole": 1, "iam:GetRole": 1}
READ = {"iam:ListAttachedRolePolicies": 1, "iam:ListRolePolicies": 1, "iam:GetRolePolicy": 1}
CREATE = {"iam:CreateRole": 1, "iam:PutRolePolicy": 1, "iam:AttachRolePolicy": 1}
REPAIR = {"iam:DetachRolePolicy": 1, "iam:UpdateAssumeRolePolicy": 1}

BATCH = {"dynamodb:BatchGetItem": 1, "dynamodb:Scan": 1, "sqs:SendMessage": 1}
LOOK = {"iam:GetAccountSummary": 1, "iam:ListAttachedRolePolicies": 1}
# The records and the rows; the lease, the status, and the lease again.
RUN = {"dynamodb:Scan": 2, "dynamodb:UpdateItem": 3} | LOOK
# A record as it begins to be written, and once it is written.
SHARD = {"dynamodb:UpdateItem": 2, "iam:CreatePolicyVersion": 1}

NAME = "CrossAccountReadOnlyAccess"


def times(calls: dict[str, int], accounts: int) -> dict[str, int]:
    return {call: number * accounts for call, number in calls.items()}


def total(*calls: dict[str, int]) -> dict[str, int]:
    return dict(sum(map(Counter, calls), Counter[str]()))


def test_deploying_takes_one_run_that_checks_the_source_policy(stage: Callable[[Aws], Stage]) -> None:
    aws = Aws()

    made = stage(aws).calls_of_deploying

    assert (
        made
        == {
            "dynamodb:Scan": 2,
            "dynamodb:UpdateItem": 4,
            "organizations:DescribeOrganization": 1,
            "iam:GetPolicy": 4,  # the first shard's name and two more, where records may have been lost; then what blocks newcomers
            "iam:GetAccountSummary": 1,
            "iam:ListAttachedRolePolicies": 1,
        }
    )
    assert aws.management.policies == {}


@pytest.mark.parametrize(
    ("kind", "calls"),
    [(RoleState.NEW, ENTER | CREATE), (RoleState.UNCHANGED, ENTER | READ), (RoleState.DRIFTED, ENTER | READ | REPAIR)],
)
@pytest.mark.parametrize("listed", [True, False], ids=["sent by a sweep", "named by an event"])
def test_account_costs_these_calls_and_a_batch_three_more(
    stage: Callable[[Aws], Stage], kind: RoleState, calls: dict[str, int], listed: bool
) -> None:
    deployed = stage(Aws())

    made = deployed.calls_of_enroll(account_ids(kind, MANY), listed=listed)

    each = calls | {"dynamodb:UpdateItem": 1} | ({} if listed else {"organizations:DescribeAccount": 1})
    assert made == times(each, MANY) | BATCH


@pytest.mark.parametrize("number", [1, MANY])
def test_run_of_publish_marks_each_granted_row_and_writes_the_shard_once(
    stage: Callable[[Aws], Stage], number: int
) -> None:
    deployed = stage(Aws())
    deployed.enroll(account_ids(RoleState.NEW, 1))
    deployed.publish()
    deployed.enroll(account_ids(RoleState.NEW, number, start=1))

    made = deployed.calls_of_publish()

    assert made == total(RUN, SHARD, {"dynamodb:UpdateItem": number})


def test_run_of_publish_with_nothing_to_do_writes_no_shard(stage: Callable[[Aws], Stage]) -> None:
    aws = Aws()
    deployed = stage(aws)
    deployed.enroll(account_ids(RoleState.NEW, MANY))
    deployed.publish()

    made = deployed.calls_of_publish()

    assert made == RUN
    assert aws.management.written == {NAME: 1}


def test_first_shard_is_created_and_attached_by_these_calls(stage: Callable[[Aws], Stage]) -> None:
    deployed = stage(Aws())
    deployed.enroll(account_ids(RoleState.NEW, 1))

    made = deployed.calls_of_publish()

    # IAM is asked for a policy of its name; the number of shards is written first, and the row is marked last.
    opened = {"iam:GetPolicy": 2, "dynamodb:UpdateItem": 1}
    written = {"dynamodb:UpdateItem": 2, "iam:CreatePolicy": 1, "iam:AttachRolePolicy": 1}
    assert made == total(RUN, opened, written, {"dynamodb:UpdateItem": 1})


def test_resync_of_unchanged_accounts_writes_only_their_rows(stage: Callable[[Aws], Stage]) -> None:
    deployed = stage(Aws())
    deployed.enroll(account_ids(RoleState.UNCHANGED, MANY))
    deployed.publish()

    made = deployed.calls_of_enroll(account_ids(RoleState.UNCHANGED, MANY))

    # The rows are newer than the listing by the stub's clock, so each account is described.
    each = ENTER | READ | {"dynamodb:UpdateItem": 1, "organizations:DescribeAccount": 1}
    assert made == times(each, MANY) | {"dynamodb:BatchGetItem": 1, "dynamodb:Scan": 1}


def test_burst_of_batches_takes_one_version_of_each_shard(stage: Callable[[Aws], Stage]) -> None:
    aws = Aws()
    deployed = stage(aws)
    room = capacity(Settings.from_env(ENVIRON))
    ids = account_ids(RoleState.NEW, room + 5)

    for start in range(0, len(ids), MANY):
        deployed.enroll(ids[start : start + MANY])
    made = deployed.calls_of_publish()

    assert aws.management.written == {NAME: 1, f"{NAME}-2": 1}
    assert (made["iam:CreatePolicy"], made["iam:AttachRolePolicy"]) == (2, 2)
    # Each row, the run's own, and for each shard its record twice and the number of shards.
    assert made["dynamodb:UpdateItem"] == len(ids) + RUN["dynamodb:UpdateItem"] + 2 * 3


def test_ledger_is_scanned_once_a_run_and_its_pages_once_each(stage: Callable[[Aws], Stage]) -> None:
    aws = Aws()
    deployed = stage(aws)
    deployed.put_rows(RoleState.NEW, 3_000)
    scanned, pages = aws.tables.scans.copy(), aws.tables.pages.copy()

    deployed.publish()

    ledger = ENVIRON["LEDGER_TABLE"]
    assert (aws.tables.scans - scanned)[ledger] == 1
    assert (aws.tables.pages - pages)[ledger] == 2
    assert len(aws.tables.tables[ledger]) == 3_000


def test_throttled_calls_cost_less_than_twice_the_calls(stage: Callable[[Aws], Stage]) -> None:
    calm, throttling = Aws(), Aws()

    for aws, every in ((calm, 0), (throttling, 3)):
        deployed = stage(aws)
        aws.throttle_every = every
        deployed.enroll(account_ids(RoleState.NEW, 50), listed=False)
        for _ in count():
            # A call that is throttled at each of its attempts ends the run, which is retried.
            if deployed.publish():
                break

    assert throttling.throttled.total() >= calm.calls.total() // 3
    assert throttling.calls.total() <= 2 * calm.calls.total()
    assert throttling.management.written == calm.management.written
