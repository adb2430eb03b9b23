"""The pen over the real table: who may write, who waits, and what becomes of an account while another writes."""

from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.arns import AccountId
from chalicelib.aws.sessions import Sessions, account_client, client_config
from chalicelib.aws.shards import ShardTable
from chalicelib.aws.source_policies import SourcePolicies
from chalicelib.errors import Reason
from chalicelib.pen import Pen, Settled
from chalicelib.settings import Settings
from chalicelib.source_policy import Moves
from tests.integration.boundary import Boundary
from tests.integration.organization import OURS, SOURCE_POLICY, Organization, by_guide
from tests.integration.stage import Stage


def test_a_worker_waits_for_the_pen_that_another_holds(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.shards.put_item(Item={"policy_name": "#pen", "owner": "another", "until": 9_999_999_999})
    refused = []

    def let_go(answer: dict[str, Any]) -> None:
        if answer.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
            refused.append(stage.shard(SOURCE_POLICY)["accounts"])
            stage.shards.delete_item(Key={"policy_name": "#pen"})

    boundary.edit("dynamodb:UpdateItem", let_go)

    stage.enroll(account_id)

    assert refused == [{account_id}]
    assert stage.verdict(account_id) == ("enrolled", None)
    assert organization.named() == {account_id}


def test_a_lost_lease_is_not_given_back_in_anothers_name(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    theirs: Any = {"policy_name": "#pen", "owner": "another", "until": 9_999_999_999}
    boundary.edit("iam:CreatePolicy", lambda _: stage.shards.put_item(Item=theirs))

    stage.enroll(account_id)

    assert stage.shard("#pen") == theirs
    assert stage.verdict(account_id) == ("enrolled", None)


def test_a_placement_that_another_worker_made_meanwhile_is_computed_again(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.fail("dynamodb:TransactWriteItems", "TransactionCanceledException", status=400, times=1)

    stage.enroll(account_id)

    assert organization.named() == {account_id}


@pytest.mark.parametrize("taking_in", [False, True], ids=["placing", "taking a policy in"])
def test_placements_that_are_overtaken_for_good_hand_the_messages_back(
    organization: Organization, boundary: Boundary, taking_in: bool
) -> None:
    account_id = organization.member()
    if taking_in:
        organization.make_policy(SOURCE_POLICY, document=by_guide("111122223333"), tags=OURS)
    stage = Stage(organization)
    boundary.fail("dynamodb:TransactWriteItems", "TransactionCanceledException", status=400)

    delivery = stage.enroll(account_id)

    assert delivery.delays == {account_id: 30}
    assert stage.verdict(account_id) == ("failed", "source_policy_pending")


@pytest.mark.parametrize(
    ("code", "times", "retried"),
    [
        ("TransactionConflictException", 4, False),
        ("TransactionConflictException", 5, True),
        ("InternalServerError", 1, True),
    ],
)
def test_a_mark_that_meets_a_placement_on_its_item_is_made_again(
    organization: Organization, boundary: Boundary, code: str, times: int, retried: bool
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.edit("iam:CreatePolicy", lambda _: boundary.fail("dynamodb:UpdateItem", code, status=400, times=times))

    delivery = stage.enroll(account_id)

    assert (delivery.delays == {account_id: 30}) == retried

    boundary.mend()
    stage.shards.delete_item(Key={"policy_name": "#pen"})
    stage.let_delays_pass()
    stage.deliver()
    item = stage.shard(SOURCE_POLICY)
    assert item["written"] == item["version"]
    assert stage.verdict(account_id) == ("enrolled", None)
    assert organization.named() == {account_id}


def test_a_shard_that_was_dropped_while_it_was_written_does_not_come_back_by_its_mark(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    boundary.edit("iam:CreatePolicy", lambda _: stage.shards.delete_item(Key={"policy_name": SOURCE_POLICY}))

    delivery = stage.enroll(account_id)

    assert delivery.delays == {account_id: 30}
    assert stage.shard(SOURCE_POLICY) == {}

    boundary.mend()
    stage.let_delays_pass()
    stage.deliver()
    assert stage.verdict(account_id) == ("enrolled", None)
    assert organization.named() == {account_id}


def test_a_lease_that_could_not_be_given_back_is_its_holders_still(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    def fail_after_the_mark(_: dict[str, Any]) -> None:
        if ":written" in boundary.calls[-1].params["ExpressionAttributeValues"]:
            boundary.fail("dynamodb:UpdateItem", "InternalServerError", status=500, times=1)

    boundary.edit("dynamodb:UpdateItem", fail_after_the_mark)

    assert stage.enroll(account_id).delays == {account_id: 30}

    boundary.mend()
    stage.let_delays_pass()
    stage.deliver()
    assert stage.verdict(account_id) == ("enrolled", None)


def test_what_others_place_while_one_writes_is_written_before_the_pen_is_let_go(
    organization: Organization, boundary: Boundary
) -> None:
    account_id, others = organization.member(), "999988887777"
    stage = Stage(organization)

    def place(_: dict[str, Any]) -> None:
        boundary.mend()
        stage.fill(SOURCE_POLICY, [account_id, others], written=False)

    boundary.edit("iam:CreatePolicy", place)

    stage.enroll(account_id)

    item = stage.shard(SOURCE_POLICY)
    assert item["written"] == item["version"]
    assert organization.named() == {account_id, others}


def test_a_shard_that_an_earlier_commit_wrote_as_sets_is_read(organization: Organization) -> None:
    first, second, excluded = (organization.member(name) for name in ("First", "Second", "Excluded"))
    stage = Stage(organization)
    stage.enroll(first)
    stage.shards.update_item(
        Key={"policy_name": SOURCE_POLICY},
        UpdateExpression="SET accounts = :accounts, excluded = :excluded",
        ExpressionAttributeValues={":accounts": {first}, ":excluded": {excluded}},
    )

    stage.enroll(second)

    assert organization.named() == {first, second}
    item = stage.shard(SOURCE_POLICY)
    assert (item["accounts"], item["excluded"]) == ({first, second}, {excluded})


@dataclass
class Clock:
    """Time that passes only where somebody lets it."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def _settle(organization: Organization, stage: Stage, clock: Clock, account_id: str) -> Settled:
    stage.sign()
    session, settings = organization.functions["enroll"], Settings.from_env(stage.environ)
    pen = Pen(
        settings,
        ShardTable(settings, session.client("dynamodb"), stage.shards.name),
        SourcePolicies(
            settings, Sessions(settings, session.client("sts")), account_client(session, "iam", client_config(1))
        ),
        lambda: organization.id,
        clock,
        clock.pause,
    )
    return pen.settle(Moves(join=frozenset({AccountId(account_id)})), owner="this", deadline=clock.now + 600)


def test_a_worker_waits_five_seconds_for_the_pen_and_another_writes_what_it_placed(organization: Organization) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage, clock = Stage(organization), Clock()
    started = clock.now
    stage.shards.put_item(Item={"policy_name": "#pen", "owner": "another", "until": int(started) + 60})

    settled = _settle(organization, stage, clock, first)

    assert settled.errors[SOURCE_POLICY].reason is Reason.SOURCE_POLICY_PENDING
    assert 5 <= clock.now - started < 6
    assert organization.policy() is None

    clock.now = started + 61
    assert _settle(organization, stage, clock, second).errors == {}
    assert organization.named() == {first, second}


def test_a_worker_that_has_the_pen_too_late_writes_nothing_and_gives_it_back(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage, clock = Stage(organization), Clock()
    boundary.edit("dynamodb:UpdateItem", lambda _: clock.pause(571))

    settled = _settle(organization, stage, clock, account_id)

    assert settled.errors[SOURCE_POLICY].reason is Reason.SOURCE_POLICY_PENDING
    assert organization.policy() is None
    assert stage.shard("#pen") == {"policy_name": "#pen"}
