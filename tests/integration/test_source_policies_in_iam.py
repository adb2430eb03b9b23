"""The source policy in IAM: its shards, its versions, to whom it is attached, and whose it is."""

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from chalicelib.source_policy import POLICY_LIMIT, Shard, capacity, document
from tests.integration.boundary import Boundary
from tests.integration.organization import (
    MANAGEMENT,
    OURS,
    READER,
    SOURCE_POLICY,
    Organization,
    Policy,
    by_guide,
)
from tests.integration.stage import Stage

SECOND = f"{SOURCE_POLICY}-2"
USER = f"arn:aws:iam::{MANAGEMENT}:user/reader"
ORGANIZATION_WIDE = {"SourcePolicyScope": "organization"}


def _policy(organization: Organization, name: str = SOURCE_POLICY, account_id: str = MANAGEMENT) -> Policy:
    policy = organization.policy(name, account_id)
    assert policy is not None
    return policy


def _full(stage: Stage, *kept: str) -> list[str]:
    """Name as many accounts as one shard holds, some of which are given."""
    room = capacity(Settings.from_env(stage.environ)) - len(kept)
    return [*kept, *(f"9{number:011}" for number in range(room))]


def _most_left_out(stage: Stage) -> set[str]:
    """Name as many accounts as scope organization can leave out."""
    settings = Settings.from_env(stage.environ)

    def fits(count: int) -> bool:
        excluded = frozenset(AccountId(f"9{number:011}") for number in range(count))
        shard = Shard(name=SOURCE_POLICY, excluded=excluded, frozen=True)
        return document(settings, shard, "o-" + 32 * "x").size <= POLICY_LIMIT

    most = max(filter(fits, range(capacity(settings) + 1)))
    return {f"9{number:011}" for number in range(most)}


def _iam_writes(boundary: Boundary) -> set[str]:
    return {call.operation for call in boundary.calls if call.is_write and call.operation.startswith("iam:")}


# --- Shards -----------------------------------------------------------------------------------------------------------


def test_the_first_account_past_the_capacity_opens_the_second_shard(organization: Organization) -> None:
    first, second = organization.member("First"), organization.member("Second")
    stage = Stage(organization)
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, _full(stage, first))

    stage.enroll(second)

    assert organization.named(SECOND) == {second}
    assert _policy(organization, SECOND).attached == {"Reader"}
    assert stage.row(second)["policy_name"] == SECOND
    assert _policy(organization).versions == ["v1"]


def test_a_full_shard_fits_a_policy_and_one_out_and_one_in_rewrites_it_alone(organization: Organization) -> None:
    stays, goes, comes, other = (organization.member(name) for name in ("Stays", "Goes", "Comes", "Other"))
    stage = Stage(organization)
    stage.enroll(stays, goes)
    full = _full(stage, stays, goes)
    stage.fill(SOURCE_POLICY, full)
    stage.enroll(other)

    organization.organizations.close_account(AccountId=goes)
    stage.enroll(goes, comes)

    assert organization.named() == {*full, comes} - {goes}
    assert len(str(_policy(organization).document).replace(" ", "")) <= POLICY_LIMIT
    assert _policy(organization).versions == ["v1", "v2"]
    assert (organization.named(SECOND), _policy(organization, SECOND).versions) == ({other}, ["v1"])
    assert stage.row(comes)["policy_name"] == SOURCE_POLICY


@pytest.mark.parametrize(
    ("others", "tags", "end"),
    [
        (9, None, ("failed", "quota")),
        (0, {}, ("failed", "foreign_source_policy")),
        (0, OURS, ("enrolled", None)),
    ],
    ids=["no room", "another's policy", "a policy of ours"],
)
def test_a_batch_whose_room_others_took_meanwhile_opens_no_shard_before_it_is_prepared_anew(
    organization: Organization,
    boundary: Boundary,
    others: int,
    tags: dict[str, str] | None,
    end: tuple[str, str | None],
) -> None:
    first, second, goes = (organization.member(name) for name in ("First", "Second", "Goes"))
    stage = Stage(organization)
    stage.enroll(first, goes)
    stage.fill(SOURCE_POLICY, _full(stage, first, goes)[:-1])
    for number in range(others):
        arn = organization.make_policy(f"Other{number}")
        organization.iam(MANAGEMENT).attach_role_policy(RoleName="Reader", PolicyArn=arn)
    if tags is not None:
        organization.make_policy(SECOND, tags=tags)
    # Between the batch's preparation and its placement:
    boundary.edit("sts:AssumeRole", lambda _: stage.fill(SOURCE_POLICY, _full(stage, first, goes)))

    assert stage.enroll(second).delays == {second: 30}

    assert stage.verdict(second) == ("failed", "source_policy_pending")
    assert stage.shard(SECOND) == {}

    boundary.mend()
    stage.let_delays_pass()
    stage.deliver()
    assert stage.verdict(second) == end
    assert stage.row(second).get("policy_name") == (SECOND if end == ("enrolled", None) else None)


def test_a_batch_whose_room_others_took_meanwhile_opens_a_shard_where_it_may(
    organization: Organization, boundary: Boundary
) -> None:
    first, second = (organization.member(name) for name in ("First", "Second"))
    stage = Stage(organization)
    stage.enroll(first)
    stage.fill(SOURCE_POLICY, _full(stage, first)[:-1])
    boundary.edit("sts:AssumeRole", lambda _: stage.fill(SOURCE_POLICY, _full(stage, first)))

    stage.enroll(second)

    assert stage.verdict(second) == ("enrolled", None)
    assert organization.named(SECOND) == {second}


def test_shards_that_come_in_pages_are_all_read(organization: Organization, boundary: Boundary) -> None:
    accounts = [organization.member(f"Workload{number}") for number in range(3)]
    stage = Stage(organization)
    stage.enroll(accounts[0])
    stage.fill(SOURCE_POLICY, _full(stage, accounts[0]))
    stage.enroll(accounts[1])

    def cut(answer: dict[str, Any]) -> None:
        if "ExclusiveStartKey" not in boundary.calls[-1].params:
            answer["Items"] = answer["Items"][:1]
            answer["LastEvaluatedKey"] = {"policy_name": answer["Items"][0]["policy_name"]}

    boundary.edit("dynamodb:Scan", cut)

    stage.enroll(*accounts)

    assert organization.named(SECOND) == set(accounts[1:])
    assert [stage.row(account_id)["policy_name"] for account_id in accounts] == [SOURCE_POLICY, SECOND, SECOND]


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
    assert stage.row(accounts[1])["policy_name"] == SOURCE_POLICY

    organization.move(accounts[1], excluded)
    stage.enroll(accounts[1])

    left_out["StringNotEquals"]["aws:ResourceAccount"] = sorted(["111122223333", accounts[1]])
    assert _policy(organization).document["Statement"][0]["Condition"] == condition | left_out
    assert [call.operation for call in boundary.calls].count("organizations:DescribeOrganization") == 1


def test_too_many_exclusions_for_one_policy_are_a_quota_and_not_a_wider_policy(organization: Organization) -> None:
    account_id, leaves = organization.member(), organization.member("Leaves")
    unit = organization.unit()
    organization.move(leaves, unit)
    stage = Stage(organization, **ORGANIZATION_WIDE, ExcludeOuIds=unit)
    stage.enroll(account_id)
    before = _policy(organization)
    stage.shards.update_item(
        Key={"policy_name": SOURCE_POLICY},
        UpdateExpression="SET excluded = :ids",
        ExpressionAttributeValues={":ids": _most_left_out(stage)},
    )

    joins = organization.member("Joins")
    stage.enroll(leaves, joins)

    assert stage.verdict(leaves) == ("failed", "quota")
    assert "SourcePolicyScope=accounts" in stage.row(leaves)["error"]
    assert _policy(organization) == before
    # Who joins in the same batch is kept from nothing.
    assert stage.verdict(joins) == ("enrolled", None)
    (shard,) = stage.run("resync", {"dry_run": True})["source_policy"]
    assert "SourcePolicyScope=accounts" in shard["error"]


def test_a_policy_that_is_taken_in_lets_nobody_in_again_who_is_retired(organization: Organization) -> None:
    stays, retires, late = (organization.member(name) for name in ("Stays", "Retires", "Late"))
    stage = Stage(organization, AdoptExistingRoles="true")
    stage.enroll(stays, retires)
    stage.run("retire", {"accounts": [retires]})
    stage.work()
    stage.fill(SOURCE_POLICY, _full(stage, stays))
    organization.make_policy(SECOND, document=by_guide(retires))

    stage.enroll(late)

    assert organization.named(SECOND) == {late}


def test_in_scope_organization_nobody_is_left_out_of_a_policy_that_is_not_ours(organization: Organization) -> None:
    excluded, first, second = (organization.member(name) for name in ("Excluded", "First", "Second"))
    unit = organization.unit()
    organization.move(excluded, unit)
    organization.make_policy(SOURCE_POLICY)
    before = _policy(organization)
    stage = Stage(organization, **ORGANIZATION_WIDE, ExcludeOuIds=unit)

    stage.enroll(excluded, first)
    stage.enroll(second)

    assert set(stage.verdicts().values()) == {("failed", "foreign_source_policy")}
    assert organization.role(second) is None
    assert _policy(organization) == before

    organization.lose_policy()
    stage.run("resync")
    stage.work()
    assert stage.verdict(excluded) == ("skipped", "excluded")
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

    assert stage.enroll(second).delays == {second: 30}
    assert stage.verdict(second) == ("failed", "stale_read")

    boundary.mend()
    stage.let_delays_pass()
    stage.deliver()
    assert organization.named() == {first, second}


@pytest.mark.parametrize("operation", ["iam:DeletePolicyVersion", "iam:CreatePolicyVersion"])
def test_a_shard_that_can_not_be_written_fails_those_who_came_or_left_and_is_written_later(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    stays, comes, goes = (organization.member(name) for name in ("Stays", "Comes", "Goes"))
    for account_id in (stays, comes, goes):
        organization.grow_old(account_id)
    stage = Stage(organization)
    stage.enroll(stays, goes)
    organization.write_by_hand(4)
    boundary.fail(operation)
    organization.organizations.close_account(AccountId=goes)

    stage.enroll(comes, goes)

    assert stage.verdict(comes) == stage.verdict(goes) == ("failed", "access_denied")
    assert organization.named() == {stays, goes}

    boundary.mend()
    stage.enroll(comes, goes)
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

    assert stage.enroll(account_id).finished == [account_id]

    assert stage.verdict(account_id) == ("failed", "no_source_principal")
    error = stage.row(account_id)["error"]
    assert all(part in error for part in (missing, "SourcePrincipalArns", "AttachSourcePolicy=false"))
    assert _iam_writes(boundary) == set()


@pytest.mark.parametrize("kind", ["role", "user"])
def test_a_source_principal_without_room_is_refused_before_any_write_and_told_the_way_out(
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

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "quota")
    assert "SourcePolicyScope=organization" in stage.row(account_id)["error"]
    assert _iam_writes(boundary) == set()


@pytest.mark.parametrize("kind", ["role", "user"])
def test_another_source_principal_gets_the_policy_and_the_former_loses_it(
    organization: Organization, kind: str
) -> None:
    organization.make_role(f"arn:aws:iam::{MANAGEMENT}:role/Other")
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    account_id = organization.member()
    former = READER if kind == "role" else USER
    Stage(organization, SourcePrincipalArns=former).enroll(account_id)

    Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:role/Other").enroll(account_id)

    assert _policy(organization).attached == {"Other"}
    role = organization.role(account_id)
    assert role is not None
    assert role.trust["Statement"][0]["Condition"] == {
        "ArnEquals": {"aws:PrincipalArn": [f"arn:aws:iam::{MANAGEMENT}:role/Other"]}
    }


def test_a_former_source_principal_that_is_gone_is_no_obstacle(organization: Organization) -> None:
    organization.make_role(f"arn:aws:iam::{MANAGEMENT}:role/Other")
    account_id = organization.member()
    Stage(organization).enroll(account_id)
    iam = organization.iam(MANAGEMENT)
    iam.detach_role_policy(RoleName="Reader", PolicyArn=f"arn:aws:iam::{MANAGEMENT}:policy/{SOURCE_POLICY}")
    iam.delete_role(RoleName="Reader")
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:role/Other")

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("enrolled", None)
    assert _policy(organization).attached == {"Other"}


def test_the_former_source_principal_keeps_its_access_while_the_new_one_does_not_exist(
    organization: Organization,
) -> None:
    account_id, newcomer = organization.member(), organization.member("Newcomer")
    Stage(organization).enroll(account_id)
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:role/Missing")

    stage.enroll(account_id, newcomer)

    assert stage.verdict(account_id) == stage.verdict(newcomer) == ("failed", "no_source_principal")
    assert _policy(organization).attached == {"Reader"}


@pytest.mark.parametrize("kind", ["role", "user"])
def test_a_source_principal_that_vanishes_before_the_policy_is_attached_is_named(
    organization: Organization, boundary: Boundary, kind: str
) -> None:
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    account_id = organization.member()
    stage = Stage(organization, SourcePrincipalArns=READER if kind == "role" else USER)

    def vanish(_: dict[str, Any]) -> None:
        iam = organization.iam(MANAGEMENT)
        if kind == "role":
            iam.delete_role(RoleName="Reader")
        else:
            iam.delete_user(UserName="reader")

    boundary.edit("iam:CreatePolicy", vanish)

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "no_source_principal")


@pytest.mark.parametrize("operation", ["iam:GetPolicy", "iam:CreatePolicy", "iam:GetAccountSummary"])
def test_a_denial_at_the_source_policy_is_an_access_denied(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    account_id = organization.member()
    organization.grow_old(account_id)
    stage = Stage(organization)
    boundary.fail(operation, message="not authorized")

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "access_denied")
    assert "not authorized" in stage.row(account_id)["error"]


@pytest.mark.parametrize("kind", ["Role", "User"])
@pytest.mark.parametrize("verb", ["ListAttached", "Attach", "Detach"])
def test_a_denial_at_a_source_principal_is_an_access_denied(
    organization: Organization, boundary: Boundary, verb: str, kind: str
) -> None:
    organization.iam(MANAGEMENT).create_user(UserName="reader")
    organization.make_role(f"arn:aws:iam::{MANAGEMENT}:role/Other")
    account_id = organization.member()
    organization.grow_old(account_id)
    stage = Stage(organization, SourcePrincipalArns=READER if kind == "Role" else USER)
    operation = f"iam:{verb}{kind}Policies" if verb == "ListAttached" else f"iam:{verb}{kind}Policy"
    if verb == "Detach":
        stage.enroll(account_id)
        stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:role/Other")
    boundary.fail(operation, account_id=MANAGEMENT)

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "access_denied")


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


def test_a_source_account_that_can_not_be_entered_fails_newcomers_before_any_write(
    organization: Organization, boundary: Boundary
) -> None:
    source, account_id = organization.member("Source", access_role="Another"), organization.member()
    organization.grow_old(account_id)
    stage = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "no_access_role")
    assert source in stage.row(account_id)["error"]
    assert _iam_writes(boundary) == set()


# --- Whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "adopting", "document"),
    [
        ({}, "false", None),
        ({"managed-by": "terraform"}, "true", None),
        ({**OURS, "rolecall-stage": "other"}, "true", None),
        ({}, "true", {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}),
        ({}, "true", by_guide("*")),
        ({}, "true", by_guide("111122223333", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})),
    ],
    ids=["nobody's", "another tool's", "another stage's", "says more", "says every account", "says it on a condition"],
)
def test_a_policy_that_is_not_ours_is_refused_and_left_as_it_is(
    organization: Organization, boundary: Boundary, tags: dict[str, str], adopting: str, document: Any
) -> None:
    account_id = organization.member()
    organization.make_policy(SOURCE_POLICY, document=document, tags=tags)
    found = _policy(organization)
    stage = Stage(organization, AdoptExistingRoles=adopting)

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "foreign_source_policy")
    assert "SourcePolicyName" in stage.row(account_id)["error"]
    assert _policy(organization) == found
    assert _iam_writes(boundary) == set()


def test_an_adopted_policy_goes_on_naming_the_accounts_it_names(organization: Organization) -> None:
    account_id = organization.member()
    organization.make_policy(SOURCE_POLICY, document=by_guide("111122223333", "444455556666"))
    organization.make_policy(SECOND, document=by_guide("777788889999"))
    stage = Stage(organization, AdoptExistingRoles="true")

    stage.enroll(account_id)

    assert organization.named() == {"111122223333", "444455556666", "777788889999", account_id}
    assert _policy(organization).tags == OURS
    assert stage.verdict(account_id) == ("enrolled", None)


@pytest.mark.parametrize("scope", ["accounts", "organization"])
@pytest.mark.parametrize("meanwhile", [{}, {"managed-by": "terraform"}], ids=["nobody's", "another tool's"])
def test_a_policy_that_somebody_makes_meanwhile_is_neither_overwritten_nor_deleted(
    organization: Organization, boundary: Boundary, meanwhile: dict[str, str], scope: str
) -> None:
    account_id = organization.member()
    stage = Stage(organization, SourcePolicyScope=scope)
    boundary.edit("iam:CreateRole", lambda _: organization.make_policy(SOURCE_POLICY, tags=meanwhile))

    stage.enroll(account_id)

    assert stage.verdict(account_id) == ("failed", "foreign_source_policy")
    assert (_policy(organization).versions, _policy(organization).tags) == (["v1"], meanwhile)

    # A resync doesn't take it for a shard that somebody edited.
    boundary.mend()
    (repair,) = stage.run("resync")["source_policy"]
    stage.work()
    assert repair["reason"] == "foreign_source_policy"
    assert (_policy(organization).versions, _policy(organization).tags) == (["v1"], meanwhile)

    # Nor does an uninstall delete it, which can't end as long as the shard names accounts.
    for _ in range(3):
        stage.run("retire", {"accounts": "all", "force": True})
        stage.work()
    assert (_policy(organization).versions, _policy(organization).tags) == (["v1"], meanwhile)
    assert (stage.shard(SOURCE_POLICY) == {}) == (scope == "organization")


def test_a_policy_whose_creation_was_never_recorded_is_taken_up_again(
    organization: Organization, boundary: Boundary
) -> None:
    def stop(_: dict[str, Any]) -> None:
        raise ReadTimeoutError(endpoint_url="https://dynamodb.us-east-1.amazonaws.com")

    account_id = organization.member()
    stage = Stage(organization)
    boundary.edit("iam:AttachRolePolicy", stop)
    stage.enroll(account_id)
    boundary.mend()
    stage.let_delays_pass()

    stage.deliver()

    assert stage.verdict(account_id) == ("enrolled", None)
    assert (organization.named(), _policy(organization).attached) == ({account_id}, {"Reader"})


def test_a_lost_table_is_made_up_for_by_our_own_policy(organization: Organization) -> None:
    accounts = {organization.member("One"), organization.member("Two")}
    newcomer = organization.member("Newcomer")
    stage = Stage(organization)
    stage.enroll(*accounts)
    for item in stage.shards.scan()["Items"]:
        stage.shards.delete_item(Key={"policy_name": item["policy_name"]})

    stage.enroll(newcomer)

    assert organization.named() == {*accounts, newcomer}
    assert stage.shard(SOURCE_POLICY)["accounts"] == {*accounts, newcomer}


def test_nobody_leaves_before_a_policy_that_may_name_them_is_taken_in(
    organization: Organization, boundary: Boundary
) -> None:
    closed, newcomer = organization.member("Closed"), organization.member("Newcomer")
    organization.make_policy(SOURCE_POLICY, document=by_guide(closed), tags=OURS)
    organization.organizations.close_account(AccountId=closed)
    stage = Stage(organization)
    boundary.fail("iam:GetPolicy", "Throttling")

    assert stage.enroll(closed, newcomer).delays == {closed: 30, newcomer: 30}
    assert stage.verdict(closed) == stage.verdict(newcomer) == ("failed", "throttled")

    boundary.mend()
    stage.let_delays_pass()
    stage.deliver()
    assert organization.named() == {newcomer}


def test_our_own_policy_that_says_something_else_is_written_anew(organization: Organization) -> None:
    account_id = organization.member()
    organization.make_policy(SOURCE_POLICY, tags=OURS)
    stage = Stage(organization)

    stage.enroll(account_id)

    assert organization.named() == {account_id}
    assert stage.verdict(account_id) == ("enrolled", None)
