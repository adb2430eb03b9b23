"""A shard's document, and the plan that writes it to IAM."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.arns import AccountId
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import (
    POLICY_LIMIT,
    capacity,
    check_sizes,
    digest,
    document,
    exclusion_capacity,
    parse,
)
from chalicelib.source_policy.plan import (
    AttachTo,
    CreatePolicy,
    DetachFrom,
    SourcePolicy,
    WriteVersion,
    desired_policy,
    desired_shard,
    last_applied_policy,
    plan,
)
from chalicelib.source_policy.records import AppliedShard, ShardContent, ShardRecord, shard_name
from tests.unit.applied_plans import policy_after
from tests.unit.builders import (
    FORMER,
    MEMBER,
    ORGANIZATION_ID,
    PARTITIONS,
    READER,
    SOURCE,
    account_ids,
    settings,
)
from tests.unit.ledger_rows import SHARD, numbered_set, shard_contents

LONGEST_ID = "o-" + "x" * 32
ASSUME = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]


def numbered_up_to(count: int) -> frozenset[AccountId]:
    return numbered_set(*range(1, count + 1))


# --- Document ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", PARTITIONS)
def test_shard_grants_exactly_its_accounts(partition: str) -> None:
    content = ShardContent(accounts=frozenset({MEMBER, SOURCE}))

    assert document(settings(partition), content, ORGANIZATION_ID).content == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ASSUME,
                "Resource": f"arn:{partition}:iam::*:role/CrossAccountReadOnlyRole",
                "Condition": {
                    "StringEquals": {
                        "aws:ResourceOrgID": ORGANIZATION_ID,
                        "aws:ResourceAccount": [SOURCE, MEMBER],
                    }
                },
            }
        ],
    }


def test_shard_without_accounts_grants_no_access() -> None:
    statement = document(settings(), ShardContent(), ORGANIZATION_ID).content["Statement"][0]

    assert statement["Condition"]["StringEquals"]["aws:ResourceAccount"] == ["000000000000"]


@pytest.mark.parametrize("scope", Scope)
def test_frozen_shard_adds_a_deny_statement(scope: Scope) -> None:
    contents = [ShardContent(scope=scope, frozen=frozen) for frozen in (False, True)]

    normal, frozen = (document(settings(), content, ORGANIZATION_ID).content for content in contents)

    assert frozen["Statement"] == [
        *normal["Statement"],
        {
            "Sid": "Frozen",
            "Effect": "Deny",
            "Action": "sts:AssumeRole",
            "Resource": "arn:aws:iam::*:role/CrossAccountReadOnlyRole",
        },
    ]


@pytest.mark.parametrize(
    ("excluded", "condition"),
    [
        (frozenset(), {}),
        (frozenset({MEMBER, SOURCE}), {"StringNotEquals": {"aws:ResourceAccount": [SOURCE, MEMBER]}}),
    ],
)
def test_scope_organization_grants_all_but_excluded_accounts(
    excluded: frozenset[AccountId], condition: dict[str, Any]
) -> None:
    content = ShardContent(excluded=excluded, scope=Scope.ORGANIZATION)

    (statement,) = document(settings(), content, ORGANIZATION_ID).content["Statement"]

    assert statement["Condition"] == {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID}, **condition}
    assert [content.grants(each) for each in (MEMBER, SOURCE)] == [not excluded] * 2


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("name", ["R", "CrossAccountReadOnlyRole", "R" * 64])
@pytest.mark.parametrize(
    ("limit_of", "filled"),
    [
        (capacity, lambda count: ShardContent(accounts=numbered_up_to(count), frozen=True)),
        (
            exclusion_capacity,
            lambda count: ShardContent(excluded=numbered_up_to(count), scope=Scope.ORGANIZATION, frozen=True),
        ),
    ],
    ids=["accounts", "organization"],
)
def test_full_shard_has_room_for_the_freeze_only(
    partition: str, name: str, limit_of: Callable[[Settings], int], filled: Callable[[int], ShardContent]
) -> None:
    config = settings(partition, MEMBER_ROLE_NAME=name)
    limit = limit_of(config)

    sizes = [document(config, filled(count), LONGEST_ID).size for count in (limit, limit + 1)]

    assert sizes[0] <= POLICY_LIMIT < sizes[1]


def test_capacity_is_about_380_accounts() -> None:
    assert (capacity(settings()), exclusion_capacity(settings())) == (382, 380)
    assert [capacity(settings(partition, MEMBER_ROLE_NAME="R" * 64)) for partition in PARTITIONS] == [
        376,
        375,
        376,
        376,
    ]


def test_more_excluded_accounts_than_fit_are_rejected() -> None:
    fits = exclusion_capacity(settings())

    def excluding(count: int) -> Settings:
        return settings(EXCLUDE_ACCOUNT_IDS=",".join(sorted(numbered_up_to(count))))

    check_sizes(excluding(fits))
    with pytest.raises(SettingsError, match=f"EXCLUDE_ACCOUNT_IDS contains {fits + 1} accounts"):
        check_sizes(excluding(fits + 1))


def test_further_shards_have_a_number() -> None:
    assert [shard_name("Access", index) for index in range(3)] == [
        "Access",
        "Access-2",
        "Access-3",
    ]


some_accounts = st.frozensets(account_ids.filter(lambda each: each != "000000000000"), max_size=4)
contents = shard_contents(some_accounts)
varied_settings = st.builds(
    settings,
    st.sampled_from(PARTITIONS),
    MEMBER_ROLE_NAME=st.sampled_from(["CrossAccountReadOnlyRole", "Reader@Org", "a.b+c"]),
)


@given(contents, varied_settings)
def test_document_is_parsed_to_its_content(content: ShardContent, config: Settings) -> None:
    text = document(config, content, ORGANIZATION_ID)

    assert parse(text, config, ORGANIZATION_ID) == content
    assert parse(Document(json.dumps(text.content, indent=1)), config, ORGANIZATION_ID) == content
    assert parse(text, config, "o-another000") is None
    assert parse(text, settings(config.partition, MEMBER_ROLE_NAME="Another"), ORGANIZATION_ID) is None


def _set(path: str, value: Any, scope: Scope = Scope.ACCOUNTS) -> Any:
    """Return a shard's document with one value changed."""
    content = ShardContent(accounts=frozenset({MEMBER}) if scope is Scope.ACCOUNTS else frozenset(), scope=scope)
    changed = json.loads(document(settings(), content, ORGANIZATION_ID).text)
    *parents, last = path.split("/")
    target = changed
    for each in parents:
        target = target[int(each) if each.isdigit() else each]
    target[int(last) if last.isdigit() else last] = value
    return changed


@pytest.mark.parametrize(
    "written",
    [
        "Allow",
        {"Statement": []},
        _set("Statement", "Allow"),
        _set("Statement/0/Effect", "Deny"),
        _set("Statement/0/Action", ["sts:AssumeRole"]),
        _set("Statement/0/Resource", "*"),
        _set("Statement/0/Sid", "Readers"),
        _set("Statement/0/Condition", []),
        _set("Statement/0/Condition/StringEquals", MEMBER),
        _set("Statement/0/Condition/StringEquals", {"aws:ResourceAccount": [MEMBER]}),
        _set("Statement/0/Condition/StringEquals/aws:ResourceAccount", "4444*"),
        _set("Statement/0/Condition/StringEquals/aws:ResourceAccount", [MEMBER, 7]),
        _set("Statement/0/Condition/StringEquals/aws:ResourceAccount", {"Ref": MEMBER}),
        _set("Statement/0/Condition/StringEquals/aws:PrincipalOrgID", ORGANIZATION_ID),
        _set("Statement/0/Condition/StringNotEquals", {"aws:ResourceAccount": [SOURCE]}),
        _set("Statement/0/Condition/StringNotEquals", [], Scope.ORGANIZATION),
        _set("Statement/0/Condition/StringNotEquals", {"aws:ResourceAccount": ["x"]}, Scope.ORGANIZATION),
        _set("Statement", [document(settings(), ShardContent(), ORGANIZATION_ID).content["Statement"][0]] * 2),
        _set("Version", "2008-10-17"),
    ],
)
def test_document_in_another_form_is_not_parsed(written: Any) -> None:
    assert parse(Document(json.dumps(written)), settings(), ORGANIZATION_ID) is None


@given(contents)
def test_digest_does_not_depend_on_the_accounts(content: ShardContent) -> None:
    bare = ShardContent(scope=content.scope)

    assert digest(settings(), content, ORGANIZATION_ID) == digest(settings(), bare, ORGANIZATION_ID)


def test_digest_depends_on_everything_else() -> None:
    digests = {
        digest(config, ShardContent(scope=scope), organization_id)
        for config in (settings(), settings("aws-cn"), settings(MEMBER_ROLE_NAME="Other"))
        for scope in Scope
        for organization_id in (ORGANIZATION_ID, LONGEST_ID)
    }

    assert len(digests) == 12


# --- Plan -------------------------------------------------------------------------------------------------------------

arns = st.frozensets(st.sampled_from([READER, FORMER, f"arn:aws:iam::{SOURCE}:user/jo"]))
written = st.sampled_from(["a", "b"]).map(lambda sid: Document.of({"Statement": [{"Sid": sid}]}))
policies = st.builds(SourcePolicy, name=st.just(SHARD), document=written, attached=arns)
edited = st.builds(
    SourcePolicy,
    name=st.just(SHARD),
    document=st.none() | written,
    attached=arns,
    tagged=st.booleans(),
    strays=st.lists(st.sampled_from(["v7", "v8", "v9"]), unique=True).map(tuple),
)
observed_policies = st.none() | policies | edited


@given(observed_policies, policies)
def test_applying_the_plan_gives_the_desired_policy(observed: SourcePolicy | None, desired: SourcePolicy) -> None:
    result = policy_after(observed, SHARD, plan(observed, desired))

    assert result == desired
    assert plan(result, desired) == ()


@given(observed_policies, policies)
def test_plan_has_no_action_without_effect(observed: SourcePolicy | None, desired: SourcePolicy) -> None:
    for action in plan(observed, desired):
        if not isinstance(action, AttachTo) or observed is not None:
            assert policy_after(observed, SHARD, [action]) != observed


@given(observed_policies, policies)
def test_policy_is_attached_only_with_the_desired_document(
    observed: SourcePolicy | None, desired: SourcePolicy
) -> None:
    actions = plan(observed, desired)

    for done in range(len(actions) + 1):
        policy = policy_after(observed, SHARD, actions[:done])
        attached = policy.attached if policy else frozenset()
        if policy is not None and not attached <= (observed.attached if observed else frozenset()):
            assert policy.document == desired.document


def test_plan_requires_a_desired_document() -> None:
    unknown = SourcePolicy(name=SHARD, document=None, attached=frozenset())

    with pytest.raises(ValueError, match="has a document"):
        plan(None, unknown)


def test_policy_is_attached_only_to_the_source_principals() -> None:
    content = ShardContent(accounts=frozenset({MEMBER}))
    record = ShardRecord(name=SHARD, applied=AppliedShard(attached=frozenset({FORMER})))

    desired = desired_shard(settings(), content, ORGANIZATION_ID, record)

    assert desired == AppliedShard(
        content=content, digest=digest(settings(), content, ORGANIZATION_ID), attached=frozenset({READER})
    )
    assert desired_policy(settings(), SHARD, desired, ORGANIZATION_ID) == SourcePolicy(
        name=SHARD, document=document(settings(), content, ORGANIZATION_ID), attached=frozenset({READER})
    )


@pytest.mark.parametrize(
    ("record", "attached"),
    [(ShardRecord(name=SHARD, applied=AppliedShard(attached=frozenset({FORMER}))), {FORMER}), (None, set())],
)
def test_attachments_by_an_operator_are_kept(record: ShardRecord | None, attached: set[str]) -> None:
    config = settings(ATTACH_SOURCE_POLICY="false")

    assert desired_shard(config, ShardContent(), ORGANIZATION_ID, record).attached == attached


APPLIED = desired_shard(settings(), ShardContent(accounts=frozenset({MEMBER})), ORGANIZATION_ID, None)
WIDER = replace(APPLIED, content=ShardContent(accounts=frozenset({MEMBER, SOURCE})))
RECORD = ShardRecord(name=SHARD, applied=APPLIED)


@pytest.mark.parametrize(
    ("record", "content", "changes", "actions"),
    [
        (ShardRecord(name=SHARD), APPLIED.content, {}, [CreatePolicy, AttachTo]),
        (RECORD, APPLIED.content, {}, []),
        (RECORD, WIDER.content, {}, [WriteVersion]),
        (RECORD, replace(APPLIED.content, frozen=True), {}, [WriteVersion]),
        (RECORD, ShardContent(scope=Scope.ORGANIZATION), {}, [WriteVersion]),
        (RECORD, APPLIED.content, {"MEMBER_ROLE_NAME": "Other"}, [WriteVersion]),
        (RECORD, APPLIED.content, {"SOURCE_PRINCIPAL_ARNS": FORMER}, [AttachTo, DetachFrom]),
        (RECORD, APPLIED.content, {"SOURCE_PRINCIPAL_ARNS": f"arn:aws:iam::{SOURCE}:root"}, [DetachFrom]),
        (RECORD, APPLIED.content, {"ATTACH_SOURCE_POLICY": "false"}, []),
        (RECORD, APPLIED.content, {"MEMBER_ROLE_MAX_SESSION": "7200", "THREADS": "3"}, []),
        (RECORD.begun(APPLIED), APPLIED.content, {}, [WriteVersion]),
        (RECORD.begun(WIDER), APPLIED.content, {}, [WriteVersion]),
        (RECORD.begun(replace(WIDER, attached=frozenset())), WIDER.content, {}, [WriteVersion, AttachTo]),
        (
            RECORD.begun(replace(WIDER, attached=frozenset({FORMER}))).begun(APPLIED),
            APPLIED.content,
            {},
            [WriteVersion, AttachTo, DetachFrom],
        ),
    ],
)
def test_plan_starts_from_the_last_applied_version(
    record: ShardRecord, content: ShardContent, changes: dict[str, str], actions: list[type]
) -> None:
    config = settings(**changes)
    desired = desired_shard(config, content, ORGANIZATION_ID, record)

    last = last_applied_policy(config, record, desired, ORGANIZATION_ID)

    assert [type(each) for each in plan(last, desired_policy(config, SHARD, desired, ORGANIZATION_ID))] == actions
