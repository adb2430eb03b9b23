from collections.abc import Callable

import pytest

from benchmarks.deployment import ENVIRON
from benchmarks.stub.aws import Aws
from benchmarks.stub.kinds import Kind, account_ids
from chalicelib.settings import Settings
from chalicelib.source_policy import capacity
from tests.speed.conftest import Worker

MANY = 20
ENTER = {"sts:AssumeRole": 1, "iam:GetRole": 1}
READ = {"iam:ListAttachedRolePolicies": 1, "iam:ListRolePolicies": 1, "iam:GetRolePolicy": 1}
CREATE = {"iam:CreateRole": 1, "iam:PutRolePolicy": 1, "iam:AttachRolePolicy": 1}
MEND = {"iam:DetachRolePolicy": 1, "iam:UpdateAssumeRolePolicy": 1}


@pytest.mark.parametrize(
    ("kind", "calls"),
    [(Kind.NEW, ENTER | CREATE), (Kind.UNCHANGED, ENTER | READ), (Kind.DRIFTED, ENTER | READ | MEND)],
)
@pytest.mark.parametrize("listed", [True, False], ids=["sent by a sweep", "named by an event"])
def test_an_account_costs_these_calls_and_a_batch_the_rest_once(
    worker: Callable[[Aws], Worker], kind: Kind, calls: dict[str, int], listed: bool
) -> None:
    enroll = worker(Aws())
    enroll.enroll(account_ids(kind, 1))

    made = enroll.calls_of(account_ids(kind, MANY, start=1), listed=listed)

    each = calls | {"dynamodb:PutItem": 1} | ({} if listed else {"organizations:DescribeAccount": 1})
    # Placing, the lease, the shard's mark; and the looks between them.
    once = {
        "dynamodb:BatchGetItem": 1,
        "dynamodb:GetItem": 3,
        "dynamodb:Scan": 2,
        "dynamodb:TransactWriteItems": 1,
        "dynamodb:UpdateItem": 3,
        "iam:CreatePolicyVersion": 1,
    }
    assert made == {call: count * MANY for call, count in each.items()} | once


def test_a_resync_of_what_is_as_it_should_be_writes_nothing_but_the_ledger(worker: Callable[[Aws], Worker]) -> None:
    enroll = worker(Aws())
    enroll.enroll(account_ids(Kind.UNCHANGED, MANY))

    made = enroll.calls_of(account_ids(Kind.UNCHANGED, MANY))

    writes = {call: count for call, count in made.items() if not call.partition(":")[2].startswith(("Get", "List"))}
    looks = {"sts:AssumeRole": MANY, "dynamodb:BatchGetItem": 1, "dynamodb:Scan": 1}
    # They were recorded since they were listed, as the stub's clock has it, so each is described.
    assert writes == looks | {"dynamodb:PutItem": MANY, "organizations:DescribeAccount": MANY}


def test_a_batch_writes_each_shard_that_it_touched_once(worker: Callable[[Aws], Worker]) -> None:
    aws = Aws()
    room = capacity(Settings.from_env(ENVIRON))

    worker(aws).enroll(account_ids(Kind.NEW, room + 5))

    name = "CrossAccountReadOnlyAccess"
    assert aws.management.written == {name: 1, f"{name}-2": 1}
    # Placed once, and once marked as written.
    assert {key: count for key, count in aws.tables.updated.items() if not key.startswith("#")} == {
        name: 2,
        f"{name}-2": 2,
    }


def test_whatever_is_throttled_every_account_enrolls_with_less_than_twice_the_calls(
    worker: Callable[[Aws], Worker],
) -> None:
    calm, throttling = Aws(), Aws(throttle_every=3)

    for aws in (calm, throttling):
        worker(aws).enroll(account_ids(Kind.NEW, 50), listed=False)

    assert throttling.throttled.total() >= calm.calls.total() // 3
    assert throttling.calls.total() <= 2 * calm.calls.total()
    assert throttling.calls - throttling.throttled == calm.calls
