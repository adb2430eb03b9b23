"""A scope that changes after the deployment: the next resync changes the source policy, and nobody loses access by it."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.settings import Settings
from chalicelib.source_policy import capacity
from tests.integration.boundary import Boundary
from tests.integration.organization import MANAGEMENT, OURS, SOURCE_POLICY, Organization, by_guide
from tests.integration.stage import Stage
from tests.integration.test_sweep_resync import measured, resynced

SECOND = f"{SOURCE_POLICY}-2"


def said(organization: Organization) -> Any:
    """Take the condition of what the source policy allows."""
    policy = organization.policy()
    assert policy is not None
    (statement,) = policy.document["Statement"]
    return statement["Condition"]


def crowded(stage: Stage, *, shards: int = 1) -> list[str]:
    """Have the ledger tell of so many accounts more that they fill some shards."""
    crowd = [f"9{number:011}" for number in range(shards * capacity(Settings.from_env(stage.environ)))]
    told = {"outcome": "enrolled", "policy_name": SOURCE_POLICY, "updated_at": "2026-01-01T00:00:00+00:00"}
    with stage.ledger.batch_writer() as batch:
        for account_id in crowd:
            batch.put_item(Item={"account_id": account_id, **told})
    return crowd


def test_a_changed_scope_reaches_iam_with_the_next_resync_and_not_before(organization: Organization) -> None:
    early, late = organization.member("Early"), organization.member("Late")
    Stage(organization).enroll(early)
    whole = Stage(organization, SourcePolicyScope="organization")
    whole.enroll(late)
    assert organization.named() == {early, late}

    whole.run("resync", {"accounts": "new"})
    assert said(organization) == {"StringEquals": {"aws:ResourceOrgID": organization.id}}

    latest = organization.member("Latest")
    single = Stage(organization)
    single.enroll(latest)
    assert "aws:ResourceOrgID" in said(organization)["StringEquals"]

    single.run("resync", {"accounts": "new"})
    assert organization.named() == {early, late, latest, MANAGEMENT}


def test_a_scope_that_is_narrowed_keeps_everybody_in_who_is_enrolled(
    organization: Organization, boundary: Boundary
) -> None:
    whole = Stage(organization, SourcePolicyScope="organization")
    accounts = [organization.member(f"Workload{number}") for number in range(2)]
    resynced(whole)
    retires = organization.member("Retires")
    whole.enroll(retires)
    whole.run("retire", {"accounts": [retires]})
    whole.work()
    single = Stage(organization)

    # WHEN the first write under the other scope comes, and one of them can't be entered
    boundary.fail("sts:AssumeRole", account_id=accounts[0])
    single.run("resync", {"accounts": "new"})

    assert organization.named() == {MANAGEMENT, *accounts}
    resynced(single)
    assert organization.named() == {MANAGEMENT, *accounts}
    assert single.row(accounts[0])["policy_name"] == SOURCE_POLICY


def test_a_scope_that_is_widened_leaves_out_who_was_left_out(organization: Organization) -> None:
    single = Stage(organization)
    retires = organization.member()
    resynced(single)
    single.run("retire", {"accounts": [retires]})
    single.work()

    Stage(organization, SourcePolicyScope="organization").run("resync", {"accounts": "new"})

    assert said(organization)["StringNotEquals"] == {"aws:ResourceAccount": [retires]}


def test_a_scope_that_the_readers_have_no_room_for_is_refused_and_all_goes_on_in_the_former_one(
    organization: Organization,
) -> None:
    whole = Stage(organization, SourcePolicyScope="organization")
    resynced(whole)
    single = Stage(organization)
    crowd = crowded(whole)
    for number in range(9):
        organization.iam(MANAGEMENT).attach_role_policy(
            RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}")
        )
    late = organization.member("Late")
    before = organization.policy()

    answer = single.run("resync")
    assert answer["source_policy"][0]["reason"] == "quota"
    assert measured()["Resyncs"] == 0
    single.enroll(late)
    assert single.verdict(late) == ("enrolled", None)
    assert organization.policy() == before

    # WHEN there is room again
    for account_id in crowd:
        whole.ledger.delete_item(Key={"account_id": account_id})
    resynced(single)
    assert organization.named() == {MANAGEMENT, late}


def test_more_accounts_than_any_principal_could_be_given_are_refused_where_the_operator_attaches(
    organization: Organization,
) -> None:
    manual = {"AttachSourcePolicy": "false"}
    whole = Stage(organization, SourcePolicyScope="organization", **manual)
    resynced(whole)
    single = Stage(organization, **manual)
    crowded(whole, shards=25)

    (step,) = single.run("resync", {"accounts": "new"})["source_policy"]

    assert "need 26 shards, more than can be attached" in step["error"]
    assert single.shards.get_item(Key={"policy_name": "#placement"})["Item"]["scope"] == "organization"


def test_a_policy_that_was_there_under_a_further_shards_name_is_taken_in_before_the_scope_is_narrowed(
    organization: Organization,
) -> None:
    whole = Stage(organization, SourcePolicyScope="organization")
    resynced(whole)
    crowd = crowded(whole)
    organization.make_policy(SECOND, document=by_guide("888888888888"))

    Stage(organization, AdoptExistingRoles="true").run("resync", {"accounts": "new"})

    assert organization.named() | organization.named(SECOND) == {MANAGEMENT, *crowd}
    policy = organization.policy(SECOND)
    assert policy is not None
    assert policy.tags == OURS


@pytest.mark.parametrize(("former", "wanted"), [("organization", "accounts"), ("accounts", "organization")])
def test_a_change_of_scope_that_is_overtaken_again_and_again_is_left_for_the_next_resync(
    organization: Organization, boundary: Boundary, former: str, wanted: str
) -> None:
    resynced(Stage(organization, SourcePolicyScope=former))
    before = organization.policy()
    changed = Stage(organization, SourcePolicyScope=wanted)

    def placed(_: Any) -> None:
        changed.shards.update_item(
            Key={"policy_name": "#placement"},
            UpdateExpression="ADD version :one",
            ExpressionAttributeValues={":one": 1},
        )

    boundary.edit("dynamodb:Scan", placed)
    (step,) = changed.run("resync", {"accounts": "new"})["source_policy"]

    assert (step["reason"], organization.policy()) == ("source_policy_pending", before)
    boundary.mend()
    assert changed.run("resync", {"accounts": "new"})["source_policy"] == []
    assert said(organization)["StringEquals"] == (
        {"aws:ResourceAccount": [MANAGEMENT]} if wanted == "accounts" else {"aws:ResourceOrgID": organization.id}
    )


def test_a_change_of_scope_that_is_overtaken_once_is_tried_again(
    organization: Organization, boundary: Boundary
) -> None:
    resynced(Stage(organization))
    conflict: Any = {"Error": {"Code": "TransactionConflictException", "Message": "no"}}
    boundary.break_off("dynamodb:TransactWriteItems", ClientError(conflict, "TransactWriteItems"), times=1)

    answer = Stage(organization, SourcePolicyScope="organization").run("resync", {"accounts": "new"})

    assert answer["source_policy"] == []
    assert said(organization)["StringEquals"] == {"aws:ResourceOrgID": organization.id}


def test_what_cannot_be_written_of_a_changed_scope_is_told_and_tried_again_by_the_next_resync(
    organization: Organization, boundary: Boundary
) -> None:
    whole = Stage(organization, SourcePolicyScope="organization")
    resynced(whole)
    single = Stage(organization)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", status=500)

    (step,) = single.run("resync", {"accounts": "new"})["source_policy"]
    assert step["reason"] == "service_error"
    boundary.mend()
    account_id = organization.member()
    single.enroll(account_id)
    assert "aws:ResourceOrgID" in said(organization)["StringEquals"]

    assert single.run("resync", {"accounts": "new"})["source_policy"] == []
    assert organization.named() == {MANAGEMENT, account_id}


def test_the_further_shards_are_written_before_the_first_one_is_narrowed(
    organization: Organization, boundary: Boundary
) -> None:
    whole = Stage(organization, SourcePolicyScope="organization")
    account_id = organization.member()
    resynced(whole)
    crowded(whole)
    single = Stage(organization)
    boundary.fail("iam:CreatePolicy", "ServiceFailure", status=500)

    (step,) = single.run("resync", {"accounts": "new"})["source_policy"]
    assert step["reason"] == "service_error"
    assert "aws:ResourceOrgID" in said(organization)["StringEquals"]

    boundary.mend()
    single.run("resync", {"accounts": "new"})
    assert organization.named() | organization.named(SECOND) >= {MANAGEMENT, account_id}
    assert whole.run("resync", {"accounts": "new"})["source_policy"] == []
    assert "aws:ResourceOrgID" in said(organization)["StringEquals"]
