"""The source policy in IAM: its shards, versions, attachments and owner."""

import json
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib import publisher
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import POLICY_LIMIT, exclusion_capacity
from tests.integration.boundary import Boundary
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    OURS,
    READER,
    SOURCE_POLICY,
    Organization,
    Policy,
)
from tests.integration.stage import Stage

SECOND = f"{SOURCE_POLICY}-2"
OTHER = f"arn:aws:iam::{MANAGEMENT}:role/Other"
USER = f"arn:aws:iam::{MANAGEMENT}:user/reader"
ORGANIZATION_WIDE = {"SourcePolicyScope": "organization"}


def _policy(organization: Organization, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> Policy:
    policy = organization.policy(name, account_id)
    assert policy is not None
    return policy


def _iam_writes(boundary: Boundary) -> set[str]:
    return {call.operation for call in boundary.calls if call.is_write and call.operation.startswith("iam:")}


# --- Shards -----------------------------------------------------------------------------------------------------------


def test_the_first_account_past_the_capacity_opens_the_second_shard(organization: Organization) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))

    stage.enroll(second)

    assert organization.named(SECOND) == {second}
    assert _policy(organization, SECOND).attached == {"Reader"}
    assert (stage.verdict(second), stage.item("#status")["shards"]) == (("enrolled", None), 2)
    assert _policy(organization).versions == ["v1"]


def test_a_full_shard_fits_a_policy_and_one_out_and_one_in_rewrites_it_alone(organization: Organization) -> None:
    stays, goes, comes, other = (organization.member(name) for name in ("Stays", "Goes", "Comes", "Other"))
    stage = Stage(organization)
    stage.enroll(stays, goes)
    full = stage.full_shard(stays, goes)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(other)

    organization.organizations.close_account(AccountId=goes)
    stage.enroll(goes, comes)

    assert organization.named() == {*full, comes} - {goes}
    assert len(str(_policy(organization).document).replace(" ", "")) <= POLICY_LIMIT
    assert _policy(organization).versions == ["v1", "v2"]
    assert (organization.named(SECOND), _policy(organization, SECOND).versions) == ({other}, ["v1"])


def test_newcomers_fill_the_first_shards_with_room_by_their_ids(organization: Organization) -> None:
    """An account that has a shard keeps it, though an earlier one has room again."""
    first, second, *newcomers = sorted(organization.member(f"Workload{number}") for number in range(5))
    stage = Stage(organization)
    stage.enroll(first)
    full = stage.full_shard(first)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(second)
    stage.fill(SOURCE_POLICY, full[:-2])

    stage.enroll(*newcomers)

    assert organization.named() == {*full[:-2], *newcomers[:2]}
    assert organization.named(SECOND) == {second, newcomers[2]}


def test_an_account_in_two_shards_stays_in_the_first(organization: Organization) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))
    stage.enroll(second)
    stage.fill(SECOND, {first, second})

    stage.run_publish()

    assert (organization.named(SECOND), stage.granted(SECOND)) == ({second}, {second})
    assert first in stage.granted(SOURCE_POLICY)


@pytest.mark.parametrize("code", [None, "ServiceFailure", "AccessDenied"])
def test_an_account_leaves_a_shard_only_when_another_that_grants_it_is_recorded(
    organization: Organization, boundary: Boundary, code: str | None
) -> None:
    """A release with a longer document leaves less capacity: the last accounts by id move to another shard."""
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    full = stage.full_shard(first)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(second)
    stage.fill(SOURCE_POLICY, [*full, "999999999999"])
    if code is not None:
        boundary.fail("iam:CreatePolicyVersion", code, policy_name=SECOND)
        stage.run_publish()
        assert "999999999999" in stage.granted(SOURCE_POLICY)
        assert "999999999999" not in organization.named(SECOND)
        boundary.mend()
        stage.let_lease_expire()

    stage.run_publish()
    stage.run_publish()

    assert stage.granted(SOURCE_POLICY) == set(full)
    assert "999999999999" in organization.named(SECOND) | organization.named(f"{SOURCE_POLICY}-3")


def test_a_run_leaves_what_its_passes_did_not_reach_to_the_next_one(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_PASSES", 1)
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    full = stage.full_shard(first)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(second)
    stage.fill(SOURCE_POLICY, [*full, "999999999999"])

    for _ in range(3):
        stage.run_publish()

    assert stage.granted(SOURCE_POLICY) == set(full)
    assert organization.named(SECOND) == {second, "999999999999"}


def test_a_further_shard_that_iam_holds_already_becomes_a_record(organization: Organization) -> None:
    first, second, lost = (organization.member(name) for name in ("First", "Second", "Lost"))
    stage = Stage(organization)
    stage.enroll(first)
    organization.make_policy(SECOND, document=_with_accounts(organization, lost), tags=OURS)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))

    stage.enroll(second)

    assert organization.named(SECOND) == {second, lost}
    assert (stage.granted(SECOND), stage.item("#status")["shards"]) == ({second, lost}, 2)


def _with_accounts(organization: Organization, account_id: str) -> Any:
    document: Any = json.loads(json.dumps(_policy(organization).document))
    document["Statement"][0]["Condition"]["StringEquals"]["aws:ResourceAccount"] = [account_id]
    return document


def test_a_principal_that_vanished_before_the_first_shard_leaves_accounts_pending(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.ask(account_id)
    stage.deliver_accounts()
    organization.lose_role(MANAGEMENT, "Reader")

    stage.publish()

    assert organization.policy() is None
    assert stage.verdict(account_id) == ("pending", "source_policy_pending")
    assert stage.item("#status")["blocked"]["reason"] == "no_source_principal"
    organization.make_role(READER)
    stage.run_publish()
    assert stage.verdict(account_id) == ("enrolled", None)


def test_a_revocation_waits_for_no_other_shard(organization: Organization, boundary: Boundary) -> None:
    first, second, newcomer = (organization.member(name) for name in ("First", "Second", "Newcomer"))
    stage = Stage(organization)
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))
    stage.enroll(second)
    boundary.fail("iam:CreatePolicyVersion", "ServiceFailure", policy_name=SECOND)
    organization.depart(first)

    stage.enroll(first, newcomer)

    assert first not in organization.named()
    assert "in_force_since" not in stage.row(first)


def test_a_shard_stays_when_its_last_account_is_gone(organization: Organization) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, stage.full_shard(first))
    stage.enroll(second)
    organization.depart(second)

    stage.enroll(second)

    assert (organization.named(SECOND), _policy(organization, SECOND).attached) == (set(), {"Reader"})
    assert stage.item("#status")["shards"] == 2


def test_the_organizations_scope_is_one_statement_that_leaves_out_who_is_excluded(
    organization: Organization, boundary: Boundary
) -> None:
    accounts = [organization.member("One"), organization.member("Two")]
    excluded = organization.unit()
    stage = Stage(organization, **ORGANIZATION_WIDE, ExcludeOuIds=excluded, ExcludeAccountIds="111122223333")

    stage.enroll(accounts[0])
    stage.enroll(accounts[1])

    condition = {"StringEquals": {"aws:ResourceOrgID": organization.id}}
    left_out = {"StringNotEquals": {"aws:ResourceAccount": ["111122223333"]}}
    assert _policy(organization).document["Statement"][0]["Condition"] == condition | left_out
    assert _policy(organization).versions == ["v1"]
    assert stage.verdict(accounts[1]) == ("enrolled", None)

    organization.move(accounts[1], excluded)
    stage.enroll(accounts[1])

    left_out["StringNotEquals"]["aws:ResourceAccount"] = sorted(["111122223333", accounts[1]])
    assert _policy(organization).document["Statement"][0]["Condition"] == condition | left_out
    assert stage.verdict(accounts[1]) == ("retired", "excluded")
    assert [call.operation for call in boundary.calls].count("organizations:DescribeOrganization") == 1


def test_an_exclusion_that_finds_no_room_is_pending_and_not_a_wider_policy(organization: Organization) -> None:
    account_id, leaves = organization.member(), organization.member("Leaves")
    unit = organization.unit()
    stage = Stage(organization, **ORGANIZATION_WIDE, ExcludeOuIds=unit)
    stage.enroll(account_id, leaves)
    organization.move(leaves, unit)
    before = _policy(organization)
    room = exclusion_capacity(Settings.from_env(stage.environ))
    crowd = [f"9{number:011}" for number in range(room)]
    with stage.ledger.batch_writer() as batch:
        for excluded in crowd:
            batch.put_item(Item={"account_id": excluded, "access": "excluded", "outcome": "skipped"})
    stage.exclude(SOURCE_POLICY, crowd)

    joins = organization.member("Joins")
    stage.enroll(leaves, joins)

    assert stage.verdict(leaves) == ("pending", "source_policy_pending")
    assert _policy(organization) == before
    assert stage.verdict(joins) == ("enrolled", None)


def test_in_scope_organization_a_foreign_policy_is_left_alone(organization: Organization) -> None:
    excluded, first = organization.member("Excluded"), organization.member("First")
    unit = organization.unit()
    organization.move(excluded, unit)
    organization.make_policy(SOURCE_POLICY)
    before = _policy(organization)
    stage = Stage(organization, **ORGANIZATION_WIDE, ExcludeOuIds=unit)

    stage.ask(excluded, first)
    stage.work()

    assert stage.verdicts() == {excluded: ("skipped", "excluded"), first: ("failed", "foreign_source_policy")}
    assert organization.role(first) is None
    assert _policy(organization) == before

    organization.lose_policy()
    stage.run("resync")
    stage.work()
    assert _policy(organization).document["Statement"][0]["Condition"]["StringNotEquals"] == {
        "aws:ResourceAccount": [excluded]
    }


# --- Versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_pruned_oldest_first_by_number(organization: Organization) -> None:
    accounts = [organization.member(f"Workload{number}") for number in range(8)]
    stage = Stage(organization)
    stage.enroll(accounts[0])
    organization.write_by_hand(4)

    for account_id in accounts[1:]:
        stage.enroll(account_id)

    assert _policy(organization).versions == ["v8", "v9", "v10", "v11", "v12"]
    assert organization.named() == set(accounts)


def test_pruning_passes_over_the_default_version_and_what_is_gone(
    organization: Organization, boundary: Boundary
) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    organization.write_by_hand(4)
    boundary.fail("iam:DeletePolicyVersion", "NoSuchEntity", status=404, times=1)

    stage.enroll(second)

    assert _policy(organization).versions == ["v1", "v2", "v4", "v5", "v6"]
    assert organization.named() == {first, second}


def test_versions_that_are_counted_but_not_listed_are_waited_for(
    organization: Organization, boundary: Boundary
) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    organization.write_by_hand(4)
    boundary.edit("iam:ListPolicyVersions", lambda answer: answer.update(Versions=[]))

    stage.ask(second)
    stage.deliver_accounts()
    assert set(stage.publish().delays.values()) == {5}
    assert stage.verdict(second) == ("pending", "source_policy_pending")

    boundary.mend()
    stage.work()
    assert organization.named() == {first, second}


@pytest.mark.parametrize("operation", ["iam:DeletePolicyVersion", "iam:CreatePolicyVersion"])
def test_a_shard_that_cannot_be_written_is_recorded_as_such_and_written_later(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    stays, comes, goes = (organization.member(name) for name in ("Stays", "Comes", "Goes"))
    stage = Stage(organization)
    stage.enroll(stays, goes)
    organization.write_by_hand(4)
    boundary.fail(operation)
    organization.organizations.close_account(AccountId=goes)

    stage.enroll(comes, goes)

    assert stage.item(SOURCE_POLICY)["error"]["reason"] == "access_denied"
    assert stage.verdict(comes) == stage.verdict(goes) == ("pending", "source_policy_pending")
    assert organization.named() == {stays, goes}

    boundary.mend()
    stage.run_publish()
    assert organization.named() == {stays, comes}
    assert (stage.verdict(comes), stage.verdict(goes)) == (("enrolled", None), ("retired", "suspended"))


# --- Source principals ------------------------------------------------------------------------------------------------


def test_the_policy_is_attached_to_roles_and_users(organization: Organization) -> None:
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=f"{READER},{USER}")

    stage.enroll(account_id)

    assert _policy(organization).attached == {"Reader", "reader"}


@pytest.mark.parametrize(
    "parameters",
    [{"AttachSourcePolicy": "false"}, {"SourcePrincipalArns": f"arn:aws:iam::{MANAGEMENT}:root"}],
    ids=["attaching is off", "the principal is an account"],
)
def test_a_policy_that_an_operator_attaches_is_kept_and_attached_to_nobody(
    organization: Organization, parameters: dict[str, str]
) -> None:
    account_id = organization.member()
    stage = Stage(organization, **parameters)

    stage.enroll(account_id)

    assert (organization.named(), _policy(organization).attached) == ({account_id}, set())
    assert stage.verdict(account_id) == ("enrolled", None)


@pytest.mark.parametrize("kind", ["role", "user"])
def test_a_source_principal_that_does_not_exist_is_refused_before_any_write(
    organization: Organization, boundary: Boundary, kind: str
) -> None:
    account_id = organization.member()
    missing = f"arn:aws:iam::{MANAGEMENT}:{kind}/Missing"
    stage = Stage(organization, SourcePrincipalArns=f"{READER},{missing}")

    stage.ask(account_id)
    stage.work()

    assert stage.verdict(account_id) == ("failed", "no_source_principal")
    error = stage.row(account_id)["error"]
    assert all(part in error for part in (missing, "SourcePrincipalArns", "AttachSourcePolicy=false"))
    assert _iam_writes(boundary) == set()


@pytest.mark.parametrize("kind", ["role", "user"])
def test_a_source_principal_without_room_is_refused_before_any_write(
    organization: Organization, boundary: Boundary, kind: str
) -> None:
    iam = organization.iam(MANAGEMENT)
    iam.create_user(UserName="reader")
    for number in range(10):
        arn = organization.make_policy(f"Other{number}")
        if kind == "role":
            iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)
        else:
            iam.attach_user_policy(UserName="reader", PolicyArn=arn)
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=READER if kind == "role" else USER)

    stage.ask(account_id)
    stage.work()

    assert stage.verdict(account_id) == ("failed", "quota")
    assert "SourcePolicyScope=organization" in stage.row(account_id)["error"]
    assert _iam_writes(boundary) == set()


@pytest.mark.parametrize("kind", ["role", "user"])
def test_another_source_principal_gets_the_policy_and_the_former_loses_it(
    organization: Organization, kind: str
) -> None:
    """Only a run that a resync asked for follows changed settings."""
    organization.make_role(OTHER)
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    former = READER if kind == "role" else USER
    Stage(organization, SourcePrincipalArns=former).enroll(account_id)

    changed = Stage(organization, SourcePrincipalArns=OTHER)
    before = _policy(organization).attached
    changed.run("resync", {"accounts": "new"})
    changed.work()

    assert before == {"Reader" if kind == "role" else "reader"}
    assert _policy(organization).attached == {"Other"}
    role = organization.role(newcomer)
    assert role is not None
    assert role.trust["Statement"][0]["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [OTHER]}}


def test_a_former_source_principal_that_is_gone_is_no_obstacle(organization: Organization) -> None:
    organization.make_role(OTHER)
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    iam = organization.iam(MANAGEMENT)
    iam.detach_role_policy(RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}")
    iam.delete_role(RoleName="Reader")
    stage = Stage(organization, SourcePrincipalArns=OTHER)

    stage.run("resync", {"accounts": "new"})
    stage.work()

    assert stage.verdict(account_id) == ("enrolled", None)
    assert _policy(organization).attached == {"Other"}


def test_the_former_source_principal_keeps_its_access_while_the_new_one_does_not_exist(
    organization: Organization,
) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    Stage(organization).enroll(account_id)
    stage = Stage(organization, SourcePrincipalArns=OTHER)

    stage.run("resync", {"accounts": "new"})
    stage.work()

    assert stage.verdict(account_id) == ("enrolled", None)
    assert stage.verdict(newcomer) == ("failed", "no_source_principal")
    assert (_policy(organization).attached, organization.named()) == ({"Reader"}, {account_id})

    organization.make_role(OTHER)
    stage.run("resync")
    stage.work()
    assert _policy(organization).attached == {"Other"}
    assert stage.verdict(newcomer) == ("enrolled", None)


@pytest.mark.parametrize("lost", ["applying", "applied"])
def test_a_former_principal_is_detached_though_a_run_was_stopped_before(
    organization: Organization, boundary: Boundary, lost: str
) -> None:
    """The principals of both versions of the record are detached if they aren't desired."""
    organization.make_role(OTHER)
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    stage = Stage(organization, SourcePrincipalArns=OTHER)
    boundary.fail("iam:DetachRolePolicy" if lost == "applying" else "iam:AttachRolePolicy", "Throttling")
    stage.run("resync", {"accounts": "new"})
    stage.deliver()
    assert "Reader" in _policy(organization).attached

    boundary.mend()
    stage.work()

    assert _policy(organization).attached == {"Other"}
    assert "applying" not in stage.item(SOURCE_POLICY)


@pytest.mark.parametrize("kind", ["role", "user"])
def test_a_source_principal_that_vanishes_before_the_policy_is_attached_is_named(
    organization: Organization, boundary: Boundary, kind: str
) -> None:
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    account_id = organization.member()
    arn = READER if kind == "role" else USER
    stage = Stage(organization, SourcePrincipalArns=arn)

    def vanish(_: dict[str, Any]) -> None:
        iam = organization.iam(MANAGEMENT)
        if kind == "role":
            iam.delete_role(RoleName="Reader")
        else:
            iam.delete_user(UserName="reader")

    boundary.edit("iam:CreatePolicy", vanish)

    stage.enroll(account_id)

    error = stage.item(SOURCE_POLICY)["error"]
    assert (error["reason"], error["error"].startswith(f"{arn} does not exist")) == ("no_source_principal", True)
    assert stage.verdict(account_id) == ("pending", "source_policy_pending")


def test_a_denial_at_the_principals_blocks_the_source_policy(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    boundary.fail("iam:GetAccountSummary", message="not authorized")
    stage = Stage(organization)

    stage.ask(account_id)
    stage.work()

    row = stage.row(account_id)
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "access_denied", 0)
    assert "not authorized" in row["error"]
    assert organization.role(account_id) is None


def test_a_first_run_that_cannot_read_iam_is_repeated_and_newcomers_wait(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    boundary.fail("iam:GetPolicy", message="not authorized")
    stage = Stage(organization)

    stage.ask(account_id)
    stage.work()

    assert stage.verdict(account_id) == ("failed", "source_policy_pending")
    assert organization.role(account_id) is None
    assert "names" not in stage.item("#status")
    boundary.mend()
    stage.let_delays_pass()
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)


@pytest.mark.parametrize("kind", ["Role", "User"])
@pytest.mark.parametrize("verb", ["ListAttached", "Attach", "Detach"])
def test_a_denial_at_a_source_principal_is_an_access_denied(
    organization: Organization, boundary: Boundary, verb: str, kind: str
) -> None:
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    organization.make_role(OTHER)
    account_id = organization.member()
    operation = f"iam:{verb}{kind}Policies" if verb == "ListAttached" else f"iam:{verb}{kind}Policy"
    principal = {"SourcePrincipalArns": READER if kind == "Role" else USER}
    if verb == "ListAttached":
        boundary.fail(operation, account_id=MANAGEMENT)
    stage = Stage(organization, **principal)
    stage.ask(account_id)
    if verb == "Attach":
        boundary.fail(operation, account_id=MANAGEMENT)
    stage.work()
    if verb == "Detach":
        boundary.fail(operation, account_id=MANAGEMENT)
        stage = Stage(organization, SourcePrincipalArns=OTHER)
        stage.run("resync", {"accounts": "new"})
        stage.publish()

    error = stage.item("#status")["blocked"] if verb == "ListAttached" else stage.item(SOURCE_POLICY)["error"]
    assert error["reason"] == "access_denied"


# --- A source account of its own --------------------------------------------------------------------------------------


def test_a_separate_source_account_holds_the_policy_and_is_entered_by_its_access_role(
    organization: Organization, boundary: Boundary
) -> None:
    source, account_id = organization.member("Source"), organization.member()
    reader = f"arn:aws:iam::{source}:role/Reader"
    organization.make_role(reader)
    stage = Stage(organization, SourcePrincipalArns=reader)

    stage.enroll(account_id, source, MANAGEMENT)

    assert organization.named(account_id=source) == {account_id, source, MANAGEMENT}
    assert _policy(organization, account_id=source).attached == {"Reader"}
    assert organization.policy() is None
    role = organization.role(account_id)
    assert role is not None
    assert role.trust["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{source}:root"}
    in_management = {call.operation for call in boundary.calls if call.account_id == MANAGEMENT}
    assert "iam:CreatePolicy" not in in_management


def test_a_source_account_that_cannot_be_entered_keeps_newcomers_waiting(
    organization: Organization, boundary: Boundary
) -> None:
    source, account_id = organization.member("Source", access_role="Another"), organization.member()
    organization.grow_old(account_id)
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")

    stage.ask(account_id)
    stage.work()

    assert stage.verdict(account_id) == ("failed", "source_policy_pending")
    assert _iam_writes(boundary) == set()
    organization.make_role(f"arn:aws:iam::{source}:role/{ACCESS_ROLE}")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    stage.let_delays_pass()
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)
    assert organization.named(account_id=source) == {account_id}


# --- Whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "document"),
    [
        ({}, None),
        ({"managed-by": "rolecall"}, None),
        ({"managed-by": "terraform"}, None),
        ({**OURS, "rolecall-stage": "other"}, None),
        (OURS, None),
    ],
    ids=["nobody's", "half marked", "another tool's", "another stage's", "ours in another form"],
)
@pytest.mark.parametrize("adopting", ["false", "true"])
def test_a_foreign_policy_is_left_as_it_is(
    organization: Organization, boundary: Boundary, tags: dict[str, str], document: Any, adopting: str
) -> None:
    """AdoptExistingRoles is about roles: no source policy is adopted."""
    account_id = organization.member()
    organization.make_policy(SOURCE_POLICY, document=document, tags=tags)
    found = _policy(organization)
    stage = Stage(organization, AdoptExistingRoles=adopting)

    stage.ask(account_id)
    stage.work()

    assert stage.verdict(account_id) == ("failed", "foreign_source_policy")
    assert SOURCE_POLICY in stage.row(account_id)["error"]
    assert _policy(organization) == found
    assert _iam_writes(boundary) == set()


@pytest.mark.parametrize(
    "meanwhile", [{}, {"managed-by": "terraform"}, OURS], ids=["nobody's", "another tool's", "ours"]
)
def test_a_policy_that_appears_before_the_shard_is_created_is_overwritten_only_if_it_is_ours(
    organization: Organization, boundary: Boundary, meanwhile: dict[str, str]
) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    made: list[str] = []

    def appear(_: dict[str, Any]) -> None:
        begun = boundary.calls[-1].params["Key"] == {"policy_name": {"S": SOURCE_POLICY}}
        if begun and not made:
            made.append(organization.make_policy(SOURCE_POLICY, tags=meanwhile))

    boundary.edit("dynamodb:UpdateItem", appear)
    stage.enroll(account_id)
    boundary.mend()

    if meanwhile == OURS:
        assert stage.verdict(account_id) == ("enrolled", None)
        assert organization.named() == {account_id}
        return
    assert stage.item(SOURCE_POLICY)["error"]["reason"] == "foreign_source_policy"
    assert (_policy(organization).versions, _policy(organization).tags) == (["v1"], meanwhile)
    stage.run("resync")
    stage.work()
    for _ in range(3):
        stage.run("retire", {"accounts": "all", "force": True})
        stage.work()
    assert (_policy(organization).versions, _policy(organization).tags) == (["v1"], meanwhile)
    assert (stage.item(SOURCE_POLICY), "names" in stage.item("#status")) == ({}, False)


@pytest.mark.parametrize("operation", ["iam:CreatePolicy", "iam:AttachRolePolicy", "iam:CreatePolicyVersion"])
def test_an_answer_that_is_lost_after_the_write_is_made_up_for(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    def lose(_: dict[str, Any]) -> None:
        if boundary.calls[-1].signer.name == "publish":
            raise ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")

    first, account_id = organization.member("First"), organization.member()
    stage = Stage(organization)
    if operation == "iam:CreatePolicyVersion":
        stage.enroll(first)
    boundary.edit(operation, lose)
    stage.ask(first, account_id)
    stage.deliver_accounts()

    assert set(stage.publish().delays.values()) == {5}
    assert stage.verdict(account_id) == ("pending", "source_policy_pending")

    boundary.mend()
    stage.work()
    assert stage.verdict(account_id) == ("enrolled", None)
    assert (organization.named(), _policy(organization).attached) == ({first, account_id}, {"Reader"})
    assert "applying" not in stage.item(SOURCE_POLICY)


def test_a_policy_that_was_deleted_by_hand_is_created_again_by_the_next_write(organization: Organization) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    stage = Stage(organization)
    stage.enroll(account_id)
    organization.lose_policy()

    stage.enroll(newcomer)

    assert (organization.named(), _policy(organization).attached) == ({account_id, newcomer}, {"Reader"})
    assert _policy(organization).tags == OURS
