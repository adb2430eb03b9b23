import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.arns import AccountId
from chalicelib.documents import Document
from chalicelib.settings import Settings
from chalicelib.source_policy import (
    POLICY_LIMIT,
    AttachTo,
    CreatePolicy,
    DetachFrom,
    Shard,
    SourcePolicy,
    WriteVersion,
    accounts_named,
    apply,
    believed_policy,
    capacity,
    desired_policy,
    document,
    form,
    is_behind,
    looking_document,
    plan,
    removing_document,
    session_document,
    shard_name,
)
from tests.unit.builders import MEMBER, PARTITIONS, SOURCE, account_ids, settings

ORGANIZATION_ID = "o-abcdefghij"
NAME = "CrossAccountReadOnlyAccess"
READER = f"arn:aws:iam::{SOURCE}:role/Reader"
FORMER = f"arn:aws:iam::{SOURCE}:role/Former"
ASSUME = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]


def numbered(count: int) -> frozenset[AccountId]:
    return frozenset(AccountId(f"{number:012}") for number in range(1, count + 1))


# What a shard says.


@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_shard_names_exactly_its_accounts(partition: str) -> None:
    shard = Shard(name=NAME, accounts=frozenset({MEMBER, SOURCE}))

    assert document(settings(partition), shard, "").content == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ASSUME,
                "Resource": f"arn:{partition}:iam::*:role/CrossAccountReadOnlyRole",
                "Condition": {"StringEquals": {"aws:ResourceAccount": [SOURCE, MEMBER]}},
            }
        ],
    }


def test_a_shard_that_names_no_account_lets_nobody_in() -> None:
    statement = document(settings(), Shard(name=NAME), "").content["Statement"][0]

    assert statement["Condition"] == {"StringEquals": {"aws:ResourceAccount": ["000000000000"]}}


def test_a_frozen_shard_denies_whatever_else_it_says() -> None:
    shard = Shard(name=NAME, accounts=frozenset({MEMBER}))

    thawed, frozen = (document(settings(), replace(shard, frozen=each), "").content for each in (False, True))

    assert frozen["Statement"] == [
        *thawed["Statement"],
        {
            "Sid": "Frozen",
            "Effect": "Deny",
            "Action": "sts:AssumeRole",
            "Resource": "arn:aws:iam::*:role/CrossAccountReadOnlyRole",
        },
    ]


@pytest.mark.parametrize(
    ("shard", "excluded_by_settings", "condition"),
    [
        (Shard(name=NAME), "", {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID}}),
        (
            Shard(name=NAME, accounts=frozenset({MEMBER}), excluded=frozenset({SOURCE})),
            "777788889999,111122223333",
            {
                "StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID},
                "StringNotEquals": {"aws:ResourceAccount": [SOURCE, "777788889999"]},
            },
        ),
        (
            Shard(name=f"{NAME}-2", accounts=frozenset({MEMBER})),
            "777788889999",
            {"StringEquals": {"aws:ResourceAccount": [MEMBER]}},
        ),
    ],
    ids=["nobody excluded", "some excluded", "a second shard, left over from scope accounts"],
)
def test_in_scope_organization_the_first_shard_names_the_organization_less_who_is_excluded(
    shard: Shard, excluded_by_settings: str, condition: dict[str, Any]
) -> None:
    held = settings(SOURCE_POLICY_SCOPE="organization", EXCLUDE_ACCOUNT_IDS=excluded_by_settings)

    statements = document(held, shard, ORGANIZATION_ID).content["Statement"]

    assert [statement["Condition"] for statement in statements] == [condition]


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("name", ["R", "CrossAccountReadOnlyRole", "R" * 64])
@pytest.mark.parametrize("scope", ["accounts", "organization"])
def test_a_full_shard_can_still_be_frozen_and_one_account_more_would_not_fit(
    partition: str, name: str, scope: str
) -> None:
    capable = settings(partition, MEMBER_ROLE_NAME=name, SOURCE_POLICY_SCOPE=scope)
    writing = settings(partition, MEMBER_ROLE_NAME=name)
    limit = capacity(capable)

    def size(accounts: int) -> int:
        return document(writing, Shard(name=NAME, accounts=numbered(accounts), frozen=True), "").size

    assert size(limit) <= POLICY_LIMIT < size(limit + 1)


def test_a_shard_holds_about_390_accounts() -> None:
    assert capacity(settings()) == 385
    assert [capacity(settings(partition, MEMBER_ROLE_NAME="R" * 64)) for partition in PARTITIONS] == [380, 379, 380]


def test_shards_are_numbered_from_the_second_on() -> None:
    assert [shard_name(settings(SOURCE_POLICY_NAME="Access"), index) for index in range(3)] == [
        "Access",
        "Access-2",
        "Access-3",
    ]


# What IAM needs to say so.

arns = st.frozensets(st.sampled_from([READER, FORMER, f"arn:aws:iam::{SOURCE}:user/jo"]))
written = st.sampled_from(["a", "b"]).map(lambda sid: Document.of({"Statement": [{"Sid": sid}]}))
policies = st.builds(SourcePolicy, name=st.just(NAME), document=written, attached=arns)
edited = st.builds(
    SourcePolicy,
    name=st.just(NAME),
    document=st.none() | written,
    attached=arns,
    tagged=st.booleans(),
    strays=st.lists(st.sampled_from(["v7", "v8", "v9"]), unique=True).map(tuple),
)
observed_policies = st.none() | policies | edited


@given(observed_policies, policies)
def test_applying_the_plan_gives_the_desired_policy(observed: SourcePolicy | None, desired: SourcePolicy) -> None:
    result = apply(observed, NAME, plan(observed, desired))

    assert result == desired
    assert plan(result, desired) == ()


@given(policies)
def test_a_policy_as_desired_needs_nothing(desired: SourcePolicy) -> None:
    assert plan(desired, desired) == ()


@given(observed_policies, policies)
def test_what_a_policy_has_already_is_not_written_again(observed: SourcePolicy | None, desired: SourcePolicy) -> None:
    for action in plan(observed, desired):
        if not isinstance(action, AttachTo) or observed is not None:
            assert apply(observed, NAME, [action]) != observed


@given(observed_policies, policies)
def test_nobody_is_given_a_policy_that_says_something_else(
    observed: SourcePolicy | None, desired: SourcePolicy
) -> None:
    actions = plan(observed, desired)

    for done in range(len(actions) + 1):
        policy = apply(observed, NAME, actions[:done])
        attached = policy.attached if policy else frozenset()
        if policy is not None and not attached <= (observed.attached if observed else frozenset()):
            assert policy.document == desired.document


def test_a_plan_is_made_towards_what_is_known() -> None:
    unknown = SourcePolicy(name=NAME, document=None, attached=frozenset())

    with pytest.raises(ValueError, match="says something"):
        plan(None, unknown)
    with pytest.raises(ValueError, match="AttachTo needs a policy"):
        apply(None, NAME, [AttachTo(READER)])


def test_the_policy_is_attached_to_the_source_principals_and_to_nobody_else() -> None:
    shard = Shard(name=NAME, accounts=frozenset({MEMBER}), version=1, attached=frozenset({FORMER}))

    desired = desired_policy(settings(), shard, "")

    assert desired == SourcePolicy(name=NAME, document=document(settings(), shard, ""), attached=frozenset({READER}))


def test_attachments_stay_as_they_are_where_another_tool_makes_them() -> None:
    shard = Shard(name=NAME, attached=frozenset({FORMER}))

    assert desired_policy(settings(ATTACH_SOURCE_POLICY="false"), shard, "").attached == {FORMER}


def mark_written(shard: Shard, held: Settings) -> Shard:
    attached = desired_policy(held, shard, ORGANIZATION_ID).attached
    return replace(shard, written=shard.version, form=form(held, shard, ORGANIZATION_ID), attached=attached)


def needed(shard: Shard, held: Settings) -> list[type]:
    believed = believed_policy(held, shard, ORGANIZATION_ID)
    actions = plan(believed, desired_policy(held, shard, ORGANIZATION_ID))
    assert is_behind(held, shard, ORGANIZATION_ID) == bool(actions)
    return [type(action) for action in actions]


NEW = Shard(name=NAME, accounts=frozenset({MEMBER}), version=3)
BEHIND = replace(mark_written(NEW, settings()), accounts=frozenset({MEMBER, SOURCE}), version=4)


@pytest.mark.parametrize(
    ("shard", "changes", "actions"),
    [
        (NEW, {}, [CreatePolicy, AttachTo]),
        (mark_written(NEW, settings()), {}, []),
        (BEHIND, {}, [WriteVersion]),
        (mark_written(NEW, settings()), {"MEMBER_ROLE_NAME": "Other"}, [WriteVersion]),
        (mark_written(NEW, settings()), {"SOURCE_POLICY_SCOPE": "organization"}, [WriteVersion]),
        (mark_written(NEW, settings()), {"EXCLUDE_ACCOUNT_IDS": SOURCE}, []),
        (
            mark_written(NEW, settings(SOURCE_POLICY_SCOPE="organization")),
            {"SOURCE_POLICY_SCOPE": "organization", "EXCLUDE_ACCOUNT_IDS": SOURCE},
            [WriteVersion],
        ),
        (mark_written(NEW, settings()), {"SOURCE_PRINCIPAL_ARNS": FORMER}, [AttachTo, DetachFrom]),
        (mark_written(NEW, settings()), {"SOURCE_PRINCIPAL_ARNS": f"arn:aws:iam::{SOURCE}:root"}, [DetachFrom]),
        (mark_written(NEW, settings()), {"ATTACH_SOURCE_POLICY": "false"}, []),
        (mark_written(NEW, settings()), {"MEMBER_ROLE_MAX_SESSION": "7200", "THREADS": "3"}, []),
    ],
    ids=[
        "new",
        "written",
        "changed since",
        "another role",
        "another scope",
        "an exclusion that scope accounts does not name",
        "an exclusion",
        "another principal",
        "the whole account",
        "attached by another tool",
        "settings of no concern",
    ],
)
def test_what_was_written_is_believed_until_the_shard_or_a_setting_changes(
    shard: Shard, changes: dict[str, str], actions: list[type]
) -> None:
    assert needed(shard, settings(**changes)) == actions


@given(st.frozensets(account_ids), st.booleans())
def test_a_shards_form_says_nothing_of_its_accounts(accounts: frozenset[AccountId], frozen: bool) -> None:
    for held in (settings(), settings(SOURCE_POLICY_SCOPE="organization")):
        some = replace(NEW, accounts=accounts, excluded=accounts, frozen=frozen)
        assert form(held, some, ORGANIZATION_ID) == form(held, NEW, ORGANIZATION_ID)


# What a policy made by hand, or by an earlier deployment, lets one in to.


def arn(account: str, name: str = "CrossAccountReadOnlyRole", partition: str = "aws") -> str:
    return f"arn:{partition}:iam::{account}:role/{name}"


def allowing(resource: Any, condition: Any = None, **rest: Any) -> dict[str, Any]:
    conditions = {"Condition": condition} if condition is not None else {}
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": resource, **conditions, **rest}


def pinned_to(*accounts: str) -> dict[str, Any]:
    return {"StringEquals": {"aws:ResourceAccount": [*accounts]}}


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("name", ["CrossAccountReadOnlyRole", "Reader@Org", "a.b+c"])
@given(
    accounts=st.frozensets(account_ids.filter(lambda each: each != "000000000000"), max_size=5), frozen=st.booleans()
)
def test_a_shard_names_the_accounts_that_are_read_out_of_it(
    partition: str, name: str, accounts: frozenset[AccountId], frozen: bool
) -> None:
    held = settings(partition, MEMBER_ROLE_NAME=name)
    shard = Shard(name=NAME, accounts=accounts, frozen=frozen)

    assert accounts_named(document(held, shard, ""), held) == accounts


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (allowing(arn(MEMBER)), {MEMBER}),
        (allowing([arn(MEMBER), arn(SOURCE)], Sid="Readers"), {MEMBER, SOURCE}),
        ([allowing(arn(MEMBER)), allowing([arn(SOURCE)])], {MEMBER, SOURCE}),
        (allowing(arn(MEMBER), Action=ASSUME), {MEMBER}),
        (allowing(arn(MEMBER), Action="STS:assumerole"), {MEMBER}),
        (allowing(arn("*"), pinned_to(MEMBER, SOURCE)), {MEMBER, SOURCE}),
        (allowing(arn("*"), {"StringEquals": {"aws:ResourceAccount": MEMBER}}), {MEMBER}),
        (allowing([arn(MEMBER), arn("777788889999")], pinned_to(MEMBER, SOURCE)), {MEMBER}),
        (allowing(arn(MEMBER), {}), {MEMBER}),
        ([], set()),
    ],
)
def test_accounts_are_read_out_of_a_policy_made_by_hand(statement: Any, named: set[str]) -> None:
    assert accounts_named(Document(json.dumps({"Version": "2012-10-17", "Statement": statement})), settings()) == named


@pytest.mark.parametrize(
    "statement",
    [
        allowing("*"),
        allowing(arn("*")),
        allowing(arn("4444*")),
        allowing(arn(MEMBER, "Administrator")),
        allowing(arn(MEMBER, "CrossAccountReadOnlyRole2")),
        allowing(arn(MEMBER, partition="aws-cn")),
        allowing([arn(MEMBER), arn(MEMBER, "Other")]),
        allowing(arn(MEMBER), Action="sts:*"),
        allowing(arn(MEMBER), Action=["sts:AssumeRole", "s3:GetObject"]),
        allowing(arn(MEMBER), Effect="Deny"),
        allowing(arn(MEMBER), Sid="Frozen", Action="s3:*"),
        {"Effect": "Allow", "NotAction": "s3:*", "Resource": arn(MEMBER)},
        {"Effect": "Allow", "Action": "sts:AssumeRole", "NotResource": arn(MEMBER)},
        allowing(arn("*"), {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID}}),
        allowing(arn("*"), {"StringLike": {"aws:ResourceAccount": [MEMBER]}}),
        allowing(arn("*"), {**pinned_to(MEMBER), "Bool": {"aws:MultiFactorAuthPresent": "true"}}),
        allowing(arn("*"), {"StringEquals": {"aws:ResourceAccount": [MEMBER], "aws:PrincipalOrgID": "o-x"}}),
        allowing(arn("*"), pinned_to("4444*")),
        allowing(arn(MEMBER), {"StringEquals": {"sts:ExternalId": "x"}}),
        [allowing(arn(MEMBER)), {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
        allowing(arn("*"), ["aws:ResourceAccount"]),
        allowing(arn("*"), {"StringEquals": [MEMBER]}),
        [MEMBER],
        "Allow",
    ],
)
def test_a_policy_that_says_anything_else_is_not_taken_over(statement: Any) -> None:
    with pytest.raises(ValueError, match="more than sts:AssumeRole"):
        accounts_named(Document.of({"Version": "2012-10-17", "Statement": statement}), settings())


# The session that writes it in a separate source account.


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize(
    ("principals", "attach", "on_principals"),
    [
        (["role/Reader"], "true", {"ListAttachedRolePolicies", "AttachRolePolicy"}),
        (["user/jo"], "true", {"ListAttachedUserPolicies", "AttachUserPolicy"}),
        (
            ["role/Reader", "user/jo"],
            "true",
            {
                "ListAttachedRolePolicies",
                "ListAttachedUserPolicies",
                "AttachRolePolicy",
                "AttachUserPolicy",
            },
        ),
        (["root"], "true", set()),
        (["role/Reader"], "false", set()),
    ],
)
def test_sessions_in_the_source_account_look_write_or_remove_the_shards_alone(
    partition: str, principals: list[str], attach: str, on_principals: set[str]
) -> None:
    account = f"arn:{partition}:iam::{SOURCE}"
    reached = [f"{account}:{principal}" for principal in principals]
    shards = [f"{account}:policy/{NAME}", f"{account}:policy/{NAME}-*"]
    held = settings(partition, SOURCE_PRINCIPAL_ARNS=",".join(reached), ATTACH_SOURCE_POLICY=attach)
    only_shards = {"ArnLike": {"iam:PolicyARN": shards}}
    attaching = {action: (reached, only_shards) for action in on_principals if action.startswith("Attach")}
    looking = {action: (reached, None) for action in on_principals if not action.startswith("Attach")}
    anybody = [f"{account}:role/*", f"{account}:user/*"]
    verbs = ("DetachRolePolicy", "DetachUserPolicy") if attach == "true" else ()
    detaching = dict.fromkeys(verbs, (anybody, only_shards))

    def on_shards(*verbs: str) -> dict[str, Any]:
        return dict.fromkeys(verbs, (shards, None))

    assert _allowed(looking_document(held)) == {
        **on_shards("GetPolicy", "GetPolicyVersion", "ListPolicyVersions", "ListEntitiesForPolicy"),
        **looking,
        **({"GetAccountSummary": ("*", None)} if on_principals else {}),
    }
    assert _allowed(session_document(held)) == {
        **on_shards("CreatePolicy", "TagPolicy", "GetPolicy", "ListPolicyVersions"),
        **on_shards("CreatePolicyVersion", "DeletePolicyVersion"),
        **attaching,
        **detaching,
    }
    assert _allowed(removing_document(held)) == {
        **on_shards("ListPolicyVersions", "DeletePolicyVersion", "DeletePolicy"),
        **detaching,
    }


def _allowed(document: Document) -> dict[str, tuple[Any, Any]]:
    statements = document.content["Statement"]
    listed = statements if isinstance(statements, list) else [statements]
    assert all(statement["Effect"] == "Allow" for statement in listed)
    return {
        action.removeprefix("iam:"): (statement["Resource"], statement.get("Condition"))
        for statement in listed
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
