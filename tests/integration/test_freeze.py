"""A freeze denies the readers every new session until it is lifted, and loses nothing that happens meanwhile."""

from typing import Any

import pytest

from chalicelib.errors import RequestError, RetryableError
from chalicelib.settings import Settings
from chalicelib.source_policy import capacity
from chalicelib.telemetry import metrics
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, SOURCE_POLICY, Organization
from tests.integration.stage import Stage
from tests.integration.test_sweep_backfill import writes

FROZEN = {
    "Sid": "Frozen",
    "Effect": "Deny",
    "Action": "sts:AssumeRole",
    "Resource": f"arn:aws:iam::*:role/{MEMBER_ROLE}",
}


def denials(organization: Organization, name: str = SOURCE_POLICY) -> list[dict[str, Any]]:
    policy = organization.policy(name)
    assert policy is not None
    return [statement for statement in policy.document["Statement"] if statement["Effect"] == "Deny"]


def test_a_freeze_is_one_denial_and_lifting_it_leaves_what_was_there(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    before = organization.policy()
    assert before is not None

    assert stage.run("freeze", {"frozen": True}) == {"frozen": True}

    assert denials(organization) == [FROZEN]
    assert metrics.metric_set["Frozen"]["Value"] == [1]
    with boundary.watching() as calls:
        stage.run("freeze", {"frozen": True})
    assert writes(calls, "iam:") == []

    assert stage.run("freeze", {"frozen": False}) == {"frozen": False}

    policy = organization.policy()
    assert policy is not None
    assert (policy.document, policy.attached) == (before.document, before.attached)
    assert metrics.metric_set["Frozen"]["Value"][-1] == 0


def test_who_is_enrolled_or_retired_during_a_freeze_is_so_after_it(organization: Organization) -> None:
    stage = Stage(organization)
    goes, stays, comes = (organization.member(name) for name in ("Goes", "Stays", "Comes"))
    stage.enroll(goes, stays)
    stage.run("freeze", {"frozen": True})

    stage.enroll(comes)
    stage.run("retire", {"accounts": [goes]})
    stage.work()
    answer = stage.run("resync")
    stage.work()

    assert answer["counts"]["frozen"] is True
    assert answer["source_policy"] == []
    assert metrics.metric_set["Frozen"]["Value"][-1] == 1
    assert denials(organization) == [FROZEN]
    assert organization.named() == {MANAGEMENT, stays, comes}

    stage.run("freeze", {"frozen": False})

    assert denials(organization) == []
    assert organization.named() == {MANAGEMENT, stays, comes}
    assert stage.run("resync")["counts"]["frozen"] is False


def test_a_freeze_that_somebody_lifted_by_hand_is_mended(organization: Organization) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    stage.run("freeze", {"frozen": True})
    organization.iam(MANAGEMENT).set_default_policy_version(
        PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}", VersionId="v1"
    )
    assert denials(organization) == []

    stage.run("resync")

    assert denials(organization) == [FROZEN]


def test_the_first_shard_alone_is_frozen_and_has_room_for_it(organization: Organization) -> None:
    stage = Stage(organization)
    first, second = organization.member("First"), organization.member("Second")
    stage.enroll(first)
    full = capacity(Settings.from_env(stage.environ))
    stage.fill(SOURCE_POLICY, [first, *(f"9{number:011}" for number in range(full - 1))])
    stage.enroll(second)

    stage.run("freeze", {"frozen": True})

    assert denials(organization) == [FROZEN]
    assert denials(organization, f"{SOURCE_POLICY}-2") == []
    assert len(organization.named()) == full


@pytest.mark.parametrize("frozen", [True, False])
def test_nothing_is_frozen_where_the_denial_would_be_attached_to_nothing(
    organization: Organization, boundary: Boundary, frozen: bool
) -> None:
    stage = Stage(organization)

    with boundary.watching() as calls, pytest.raises(RequestError, match="attached to nothing"):
        stage.run("freeze", {"frozen": frozen})

    assert writes(calls) == []


@pytest.mark.parametrize(
    "parameters",
    [{"AttachSourcePolicy": "false"}, {"SourcePrincipalArns": f"arn:aws:iam::{MANAGEMENT}:root"}],
    ids=["not to be attached", "root"],
)
def test_a_source_policy_that_the_operator_attaches_is_frozen_too(
    organization: Organization, parameters: dict[str, str]
) -> None:
    stage = Stage(organization, **parameters)
    stage.enroll(organization.member())

    stage.run("freeze", {"frozen": True})

    assert denials(organization) == [FROZEN]


def test_a_freeze_that_could_not_be_written_fails_and_is_made_up_for(
    organization: Organization, boundary: Boundary
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)

    with pytest.raises(RetryableError, match="WriteVersion for"):
        stage.run("freeze", {"frozen": True})

    boundary.mend()
    stage.run("freeze", {"frozen": True})
    assert denials(organization) == [FROZEN]


@pytest.mark.parametrize("overtaken", [1, 1_000])
def test_a_freeze_that_workers_overtake_tries_again_and_gives_up_in_the_end(
    organization: Organization, boundary: Boundary, overtaken: int
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    boundary.fail("dynamodb:TransactWriteItems", "TransactionCanceledException", status=400, times=overtaken)

    if overtaken == 1:
        stage.run("freeze", {"frozen": True})
    else:
        with pytest.raises(RetryableError, match="overtaken"):
            stage.run("freeze", {"frozen": True})

    assert denials(organization) == ([FROZEN] if overtaken == 1 else [])


def test_a_frozen_source_policy_whose_table_was_lost_stays_frozen(organization: Organization) -> None:
    stage = Stage(organization)
    account_id = organization.member()
    stage.enroll(account_id)
    stage.run("freeze", {"frozen": True})
    rows: Any = stage.shards.scan()["Items"]
    for row in rows:
        stage.shards.delete_item(Key={"policy_name": row["policy_name"]})

    stage.enroll(account_id)

    assert denials(organization) == [FROZEN]
    assert organization.named() == {account_id}
    stage.run("freeze", {"frozen": False})
    assert denials(organization) == []


@pytest.mark.parametrize("request_", [{}, {"frozen": "true"}, {"frozen": True, "dry_run": True}, []])
def test_a_freeze_that_is_not_plainly_asked_for_is_refused(
    organization: Organization, boundary: Boundary, request_: Any
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())

    with boundary.watching() as calls, pytest.raises(RequestError):
        stage.run("freeze", request_)

    assert writes(calls) == []
