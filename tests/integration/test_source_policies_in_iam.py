"""The source policy in IAM: its shards, versions, attachments and ownership."""

import json
from typing import Any

import pytest

from chalicelib import publisher
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import exclusion_capacity
from tests.integration.boundary import Boundary, writes
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    OTHER_PRINCIPAL,
    SECOND_SHARD,
    SOURCE_POLICY,
    SOURCE_PRINCIPAL,
    SOURCE_USER,
    STAGE_TAGS,
    Organization,
)
from tests.integration.stage import Stage

WIDE = {"SourcePolicyScope": "organization"}
LAST = "999999999999"


# --- Shards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, "ServiceFailure", "AccessDenied"])
def test_account_leaves_a_shard_once_another_one_grants_it(
    organization: Organization, boundary: Boundary, code: str | None
) -> None:
    """A release with a longer document leaves less capacity: the last accounts by id move to another shard."""
    stage = Stage(organization)
    first, _ = stage.open_second_shard()
    full = stage.full_shard(first)
    stage.set_recorded(SOURCE_POLICY, [*full, LAST])
    if code is not None:
        boundary.fail("iam:CreatePolicyVersion", code, policy_name=SECOND_SHARD)
        stage.run_publish()
        assert LAST in stage.recorded()
        assert LAST not in organization.granted(SECOND_SHARD)
        boundary.stop_faults()
        stage.expire_lease()

    stage.run_publish()
    stage.run_publish()

    assert stage.recorded() == set(full)
    assert LAST in organization.granted(SECOND_SHARD) | organization.granted(f"{SOURCE_POLICY}-3")


def test_run_leaves_what_its_passes_did_not_reach_to_the_next(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(organization)
    first, second = stage.open_second_shard()
    full = stage.full_shard(first)
    monkeypatch.setattr(publisher, "_PASSES", 1)
    stage.set_recorded(SOURCE_POLICY, [*full, LAST])

    for _ in range(3):
        stage.run_publish()

    assert stage.recorded() == set(full)
    assert organization.granted(SECOND_SHARD) == {second, LAST}


def test_existing_policy_of_a_further_shard_becomes_a_record(organization: Organization) -> None:
    first, second, lost = organization.members(3)
    stage = Stage(organization)
    stage.enroll(first)
    document: Any = json.loads(json.dumps(organization.policy().document))
    document["Statement"][0]["Condition"]["StringEquals"]["aws:ResourceAccount"] = [lost]
    organization.create_policy(SECOND_SHARD, document=document, tags=STAGE_TAGS)
    stage.set_recorded(SOURCE_POLICY, stage.full_shard(first))

    stage.enroll(second)

    assert organization.granted(SECOND_SHARD) == stage.recorded(SECOND_SHARD) == {second, lost}
    assert stage.item("#status")["shards"] == 2


def test_shard_without_accounts_stays(organization: Organization) -> None:
    stage = Stage(organization)
    _, second = stage.open_second_shard()
    organization.depart(second)

    stage.enroll(second)

    assert (organization.granted(SECOND_SHARD), organization.policy(SECOND_SHARD).attached) == (set(), {"Reader"})
    assert stage.item("#status")["shards"] == 2


def test_scope_organization_is_one_statement_with_exclusions(organization: Organization, boundary: Boundary) -> None:
    first, second = organization.members(2)
    unit = organization.unit()
    stage = Stage(organization, **WIDE, ExcludeOuIds=unit, ExcludeAccountIds="111122223333")

    stage.enroll(first)
    stage.enroll(second)

    policy = organization.policy()
    condition = {"StringEquals": {"aws:ResourceOrgID": organization.id}}
    assert policy.condition == condition | {"StringNotEquals": {"aws:ResourceAccount": ["111122223333"]}}
    assert policy.versions == ["v1"]
    assert stage.status(second) == ("enrolled", None)

    organization.move(second, unit)
    stage.enroll(second)

    excluded = sorted(["111122223333", second])
    assert organization.policy().condition == condition | {"StringNotEquals": {"aws:ResourceAccount": excluded}}
    assert stage.status(second) == ("retired", "excluded")
    assert [call.operation for call in boundary.calls].count("organizations:DescribeOrganization") == 1


def test_exclusion_without_room_is_pending(organization: Organization) -> None:
    """The policy stays as it is, instead of granting other accounts."""
    kept, excluded = organization.members(2)
    unit = organization.unit()
    stage = Stage(organization, **WIDE, ExcludeOuIds=unit)
    stage.enroll(kept, excluded)
    organization.move(excluded, unit)
    before = organization.policy()
    others = stage.put_rows(exclusion_capacity(Settings.from_env(stage.environ)), "excluded")
    stage.set_recorded(SOURCE_POLICY, others, excluded=True)

    newcomer = organization.member("Newcomer")
    stage.enroll(excluded, newcomer)

    assert stage.status(excluded) == ("pending", "source_policy_pending")
    assert organization.policy() == before
    assert stage.status(newcomer) == ("enrolled", None)


def test_policy_that_was_deleted_by_hand_is_created_by_the_next_write(organization: Organization) -> None:
    account_id, newcomer = organization.members(2)
    stage = Stage(organization)
    stage.enroll(account_id)
    organization.delete_policy()

    stage.enroll(newcomer)

    policy = organization.policy()
    assert (policy.accounts, policy.attached, policy.tags) == ({account_id, newcomer}, {"Reader"}, STAGE_TAGS)


@pytest.mark.parametrize("operation", ["iam:CreatePolicy", "iam:CreatePolicyVersion"])
def test_write_with_a_lost_response_is_completed_by_the_retry(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    first, account_id = organization.members(2)
    stage = Stage(organization)
    if operation == "iam:CreatePolicyVersion":
        stage.enroll(first)
    boundary.lose_response(operation, signer="publish")
    stage.enqueue(first, account_id)
    stage.deliver_accounts()

    assert set(stage.publish().delays.values()) == {5}
    assert stage.status(account_id) == ("pending", "source_policy_pending")

    boundary.stop_faults()
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)
    policy = organization.policy()
    assert (policy.accounts, policy.attached) == ({first, account_id}, {"Reader"})
    assert "applying" not in stage.item(SOURCE_POLICY)


# --- Versions ---------------------------------------------------------------------------------------------------------


def test_oldest_versions_are_deleted_by_number(organization: Organization) -> None:
    accounts = organization.members(8)
    stage = Stage(organization)
    stage.enroll(accounts[0])
    organization.add_versions(4)

    for account_id in accounts[1:]:
        stage.enroll(account_id)

    assert organization.policy().versions == ["v8", "v9", "v10", "v11", "v12"]
    assert organization.granted() == set(accounts)


def test_version_that_is_gone_is_skipped(organization: Organization, boundary: Boundary) -> None:
    """The default version is kept, too."""
    first, second = organization.members(2)
    stage = Stage(organization)
    stage.enroll(first)
    organization.add_versions(4)
    boundary.fail("iam:DeletePolicyVersion", "NoSuchEntity", status=404, times=1)

    stage.enroll(second)

    assert organization.policy().versions == ["v1", "v2", "v4", "v5", "v6"]
    assert organization.granted() == {first, second}


def test_versions_that_iam_does_not_list_yet_delay_the_write(organization: Organization, boundary: Boundary) -> None:
    first, second = organization.members(2)
    stage = Stage(organization)
    stage.enroll(first)
    organization.add_versions(4)
    boundary.edit_response("iam:ListPolicyVersions", lambda response: response.update(Versions=[]))

    stage.enqueue(second)
    stage.deliver_accounts()
    assert set(stage.publish().delays.values()) == {5}
    assert stage.status(second) == ("pending", "source_policy_pending")

    boundary.stop_faults()
    stage.drain()
    assert organization.granted() == {first, second}


@pytest.mark.parametrize(("failures", "delays"), [(1, set()), (4, {5})])
def test_version_limit_is_retried_if_another_writer_takes_the_place(
    organization: Organization, boundary: Boundary, failures: int, delays: set[int]
) -> None:
    first, second = organization.members(2)
    stage = Stage(organization)
    stage.enroll(first)
    organization.add_versions(1)
    boundary.fail("iam:CreatePolicyVersion", "LimitExceeded", status=409, times=failures)

    stage.enqueue(second)
    stage.deliver_accounts()

    assert set(stage.publish().delays.values()) == delays
    stage.skip_delays()
    stage.drain()
    assert organization.granted() == {first, second}


def test_missing_quota_means_the_default(organization: Organization, boundary: Boundary) -> None:
    boundary.edit_response("iam:GetAccountSummary", lambda response: response["SummaryMap"].clear())
    stage = Stage(organization)

    (account_id,) = stage.enroll_members(1)

    assert stage.status(account_id) == ("enrolled", None)


# --- Source principals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [{"AttachSourcePolicy": "false"}, {"SourcePrincipalArns": f"arn:aws:iam::{MANAGEMENT}:root"}],
    ids=["disabled", "account"],
)
def test_policy_that_the_operator_attaches_is_not_attached(
    organization: Organization, parameters: dict[str, str]
) -> None:
    account_id = organization.member()
    stage = Stage(organization, **parameters)

    stage.enroll(account_id)

    policy = organization.policy()
    assert (policy.accounts, policy.attached) == ({account_id}, set())
    assert stage.status(account_id) == ("enrolled", None)


@pytest.mark.parametrize("reason", ["no_source_principal", "quota"])
def test_user_that_is_missing_or_has_no_room_blocks_enrollment(
    organization: Organization, boundary: Boundary, reason: str
) -> None:
    """`test_publish.py` has the same of a role."""
    if reason == "quota":
        organization.iam().create_user(UserName="reader")
        for number in range(10):
            policy_arn = organization.create_policy(f"Other{number}")
            organization.iam().attach_user_policy(UserName="reader", PolicyArn=policy_arn)
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=f"{SOURCE_PRINCIPAL},{SOURCE_USER}")

    stage.enqueue(account_id)
    stage.drain()

    assert stage.status(account_id) == ("failed", reason)
    assert writes(boundary.calls, "iam:") == []


def test_changed_principal_gets_the_policy_with_the_next_resync(organization: Organization) -> None:
    """Also a role's access to new accounts follows the changed setting."""
    organization.create_role(OTHER_PRINCIPAL)
    organization.iam().create_user(UserName="reader")
    account_id, newcomer = organization.members(2)
    Stage(organization, SourcePrincipalArns=f"{SOURCE_PRINCIPAL},{SOURCE_USER}").enroll(account_id)

    changed = Stage(organization, SourcePrincipalArns=OTHER_PRINCIPAL)
    before = organization.policy().attached
    changed.run_and_drain("resync", accounts="new")

    assert before == {"Reader", "reader"}
    assert organization.policy().attached == {"Other"}
    trust = organization.role(newcomer).trust
    assert trust["Statement"][0]["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [OTHER_PRINCIPAL]}}


def test_deleted_former_principal_is_no_error(organization: Organization) -> None:
    organization.create_role(OTHER_PRINCIPAL)
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    organization.delete_role(MANAGEMENT, "Reader")
    stage = Stage(organization, SourcePrincipalArns=OTHER_PRINCIPAL)

    stage.run_and_drain("resync", accounts="new")

    assert stage.status(account_id) == ("enrolled", None)
    assert organization.policy().attached == {"Other"}


def test_former_principal_stays_attached_while_the_new_one_is_missing(organization: Organization) -> None:
    account_id, newcomer = organization.members(2)
    Stage(organization).enroll(account_id)
    stage = Stage(organization, SourcePrincipalArns=OTHER_PRINCIPAL)

    stage.run_and_drain("resync", accounts="new")

    assert stage.status(account_id) == ("enrolled", None)
    assert stage.status(newcomer) == ("failed", "no_source_principal")
    policy = organization.policy()
    assert (policy.accounts, policy.attached) == ({account_id}, {"Reader"})

    organization.create_role(OTHER_PRINCIPAL)
    stage.run_and_drain("resync")
    assert organization.policy().attached == {"Other"}
    assert stage.status(newcomer) == ("enrolled", None)


@pytest.mark.parametrize("kind", ["role", "user"])
def test_principal_deleted_before_it_is_attached_is_named(
    organization: Organization, boundary: Boundary, kind: str
) -> None:
    iam = organization.iam()
    iam.create_user(UserName="reader")
    account_id = organization.member()
    arn = SOURCE_PRINCIPAL if kind == "role" else SOURCE_USER
    stage = Stage(organization, SourcePrincipalArns=arn)
    boundary.edit_response(
        "iam:CreatePolicy",
        lambda _: iam.delete_role(RoleName="Reader") if kind == "role" else iam.delete_user(UserName="reader"),
    )

    stage.enroll(account_id)

    error = stage.item(SOURCE_POLICY)["error"]
    assert error["reason"] == "no_source_principal"
    assert error["error"].startswith(f"{arn} does not exist")
    assert stage.status(account_id) == ("pending", "source_policy_pending")


def test_iam_that_cannot_be_read_delays_newcomers(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    boundary.fail("iam:GetPolicy", message="not authorized")
    stage = Stage(organization)

    stage.enqueue(account_id)
    stage.drain()

    assert stage.status(account_id) == ("failed", "source_policy_pending")
    assert not organization.has_role(account_id)
    assert "names" not in stage.item("#status")
    boundary.stop_faults()
    stage.skip_delays()
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)


@pytest.mark.parametrize("operation", ["iam:GetAccountSummary", "iam:ListAttachedRolePolicies"])
def test_principals_that_cannot_be_read_block_enrollment(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    account_id = organization.member()
    boundary.fail(operation, message="not authorized", account_id=MANAGEMENT)
    stage = Stage(organization)

    stage.enqueue(account_id)
    stage.drain()

    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "access_denied", 0)
    assert "not authorized" in row["error"]
    assert not organization.has_role(account_id)


@pytest.mark.parametrize("operation", ["iam:AttachUserPolicy", "iam:DetachUserPolicy"])
def test_denied_attachment_is_recorded(organization: Organization, boundary: Boundary, operation: str) -> None:
    organization.iam().create_user(UserName="reader")
    organization.create_role(OTHER_PRINCIPAL)
    stage = Stage(organization, SourcePrincipalArns=SOURCE_USER)
    if operation == "iam:AttachUserPolicy":
        boundary.fail(operation)
    stage.enroll(organization.member())
    if operation == "iam:DetachUserPolicy":
        boundary.fail(operation)
        stage = Stage(organization, SourcePrincipalArns=OTHER_PRINCIPAL)
        stage.run("resync", {"accounts": "new"})
        stage.publish()

    assert stage.item(SOURCE_POLICY)["error"]["reason"] == "access_denied"


# --- A separate source account ----------------------------------------------------------------------------------------


def test_separate_source_account_contains_the_policy(organization: Organization, boundary: Boundary) -> None:
    source, account_id = organization.member("Source"), organization.member()
    principal = f"arn:aws:iam::{source}:role/Reader"
    organization.create_role(principal)
    stage = Stage(organization, SourcePrincipalArns=principal)

    stage.enroll(account_id, source, MANAGEMENT)

    policy = organization.policy(account_id=source)
    assert (policy.accounts, policy.attached) == ({account_id, source, MANAGEMENT}, {"Reader"})
    assert not organization.has_policy()
    trust = organization.role(account_id).trust
    assert trust["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{source}:root"}
    assert "iam:CreatePolicy" not in {call.operation for call in boundary.calls if call.account_id == MANAGEMENT}


def test_source_account_that_cannot_be_entered_delays_newcomers(organization: Organization, boundary: Boundary) -> None:
    source, account_id = organization.member("Source", access_role="Another"), organization.member()
    organization.age_account(account_id)
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")

    stage.enqueue(account_id)
    stage.drain()

    assert stage.status(account_id) == ("failed", "source_policy_pending")
    assert writes(boundary.calls, "iam:") == []
    for role in (ACCESS_ROLE, "Reader"):
        organization.create_role(f"arn:aws:iam::{source}:role/{role}")
    stage.skip_delays()
    stage.drain()
    assert stage.status(account_id) == ("enrolled", None)
    assert organization.granted(account_id=source) == {account_id}


# --- Ownership --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [{}, {"managed-by": "rolecall"}, {**STAGE_TAGS, "rolecall-stage": "other"}, STAGE_TAGS],
    ids=["untagged", "without a stage", "another stage's", "with another document"],
)
def test_foreign_policy_is_not_changed(organization: Organization, boundary: Boundary, tags: dict[str, str]) -> None:
    """AdoptExistingRoles applies to roles: no policy is adopted."""
    account_id = organization.member()
    organization.create_policy(SOURCE_POLICY, tags=tags)
    before = organization.policy()
    stage = Stage(organization, AdoptExistingRoles="true")

    stage.enqueue(account_id)
    stage.drain()

    assert stage.status(account_id) == ("failed", "foreign_source_policy")
    assert SOURCE_POLICY in stage.row(account_id)["error"]
    assert organization.policy() == before
    assert writes(boundary.calls, "iam:") == []


@pytest.mark.parametrize("tags", [{"managed-by": "terraform"}, STAGE_TAGS], ids=["foreign", "own"])
def test_policy_created_during_a_run_is_overwritten_only_if_it_is_own(
    organization: Organization, boundary: Boundary, tags: dict[str, str]
) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    def create_policy(_: dict[str, Any]) -> None:
        begun = boundary.calls[-1].params["Key"] == {"policy_name": {"S": SOURCE_POLICY}}
        if begun and not organization.has_policy():
            organization.create_policy(SOURCE_POLICY, tags=tags)

    boundary.edit_response("dynamodb:UpdateItem", create_policy)
    stage.enroll(account_id)
    boundary.stop_faults()

    if tags == STAGE_TAGS:
        assert stage.status(account_id) == ("enrolled", None)
        assert organization.granted() == {account_id}
        return
    assert stage.item(SOURCE_POLICY)["error"]["reason"] == "foreign_source_policy"
    stage.run_and_drain("resync")
    stage.uninstall()
    assert (organization.policy().versions, organization.policy().tags) == (["v1"], tags)
    assert (stage.item(SOURCE_POLICY), "names" in stage.item("#status")) == ({}, False)
