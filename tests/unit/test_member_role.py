from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.data_read_denies import DENIED_DATA_READS, deny_document
from chalicelib.documents import Document
from chalicelib.member_role import (
    Action,
    AttachPolicy,
    CreateRole,
    DeleteInlinePolicy,
    DetachPolicy,
    MemberRole,
    PutInlinePolicy,
    SetBoundary,
    SetMaxSession,
    SetTrust,
    TagRole,
    desired_role,
    plan,
    removal,
    trust_document,
    why_foreign,
)
from tests.unit.applied_plans import role_after
from tests.unit.builders import MEMBER, PARTITIONS, SOURCE, settings

ARN = f"arn:aws:iam::{MEMBER}:role/CrossAccountReadOnlyRole"
DENY = deny_document()
CHANGES: list[dict[str, str]] = [
    {},
    {"DENY_DATA_READS": "false"},
    {"PERMISSIONS_BOUNDARY_ARN": "arn:aws:iam::{account_id}:policy/Boundary"},
    {"MEMBER_ROLE_POLICY_ARNS": "arn:aws:iam::aws:policy/SecurityAudit,arn:aws:iam::aws:policy/ViewOnlyAccess"},
    {"MEMBER_ROLE_TAGS": "team=platform", "EXTERNAL_ID": "secret", "MEMBER_ROLE_MAX_SESSION": "7200"},
]

desired_roles = st.sampled_from(CHANGES).map(lambda changes: desired_role(settings(**changes), MEMBER))
documents = st.sampled_from(["a", "b"]).map(lambda sid: Document.of({"Statement": [{"Sid": sid}]}))
policy_arns = st.sampled_from([f"arn:aws:iam::aws:policy/{name}" for name in ("AdministratorAccess", "ReadOnlyAccess")])
tag_texts = st.sampled_from(["managed-by", "rolecall-stage", "team", "rolecall", "dev", "platform"])
observed_roles = desired_roles | st.builds(
    MemberRole,
    arn=st.just(ARN),
    trust=documents,
    max_session=st.sampled_from([3600, 7200]),
    boundary=st.none() | policy_arns,
    tags=st.dictionaries(tag_texts, tag_texts),
    attached=st.frozensets(policy_arns),
    inline=st.dictionaries(st.sampled_from(["DenyDataReads", "Other", "Another"]), documents | st.just(DENY)),
)


@given(st.none() | observed_roles, desired_roles)
def test_applying_the_plan_gives_the_desired_role_with_others_tags(
    observed: MemberRole | None, desired: MemberRole
) -> None:
    result = role_after(observed, plan(observed, desired))

    others_tags = observed.tags if observed else {}
    assert result == replace(desired, tags={**others_tags, **desired.tags})
    assert plan(result, desired) == ()


@given(desired_roles)
def test_a_role_as_desired_needs_nothing(desired: MemberRole) -> None:
    assert plan(desired, desired) == ()


@given(st.none() | observed_roles, desired_roles)
def test_a_plan_that_stops_anywhere_has_opened_nothing_but_the_desired_role(
    observed: MemberRole | None, desired: MemberRole
) -> None:
    actions = plan(observed, desired)

    for done in range(len(actions) + 1):
        role = role_after(observed, actions[:done])
        if role is None or (observed is not None and not _opened(observed, role)):
            continue
        assert role.trust == desired.trust
        assert role.attached <= desired.attached
        assert role.inline == desired.inline or not (role.inline or role.attached)
        assert role.boundary == desired.boundary or desired.boundary is None


def _opened(before: MemberRole, after: MemberRole) -> bool:
    unbound = before.boundary is not None and after.boundary is None
    return before.trust != after.trust or not after.attached <= before.attached or unbound


@given(observed_roles)
def test_a_removal_leaves_no_role_and_takes_its_policies_away_first(observed: MemberRole) -> None:
    actions = removal(observed)

    assert role_after(observed, actions) is None
    emptied = role_after(observed, actions[:-1])
    assert emptied == replace(observed, attached=frozenset(), inline={})


@given(observed_roles, desired_roles)
def test_what_a_role_has_already_is_not_written_again(observed: MemberRole, desired: MemberRole) -> None:
    for action in plan(observed, desired):
        assert role_after(observed, (action,)) != observed


def test_a_new_role_costs_its_creation_and_one_call_a_policy() -> None:
    desired = desired_role(settings(), MEMBER)

    assert plan(None, desired) == (
        CreateRole(replace(desired, attached=frozenset(), inline={})),
        PutInlinePolicy("DenyDataReads", DENY),
        AttachPolicy("arn:aws:iam::aws:policy/ReadOnlyAccess"),
    )


def test_every_drift_is_mended_by_an_action_of_its_own() -> None:
    desired = desired_role(settings(PERMISSIONS_BOUNDARY_ARN="arn:aws:iam::{account_id}:policy/Boundary"), MEMBER)
    open_trust = Document.of({"Statement": []})

    def mended(**drift: Any) -> tuple[Action, ...]:
        return plan(replace(desired, **drift), desired)

    assert mended(tags={"team": "x"}) == (TagRole({"managed-by": "rolecall", "rolecall-stage": "dev"}),)
    assert mended(tags={**desired.tags, "managed-by": "me"}) == (TagRole({"managed-by": "rolecall"}),)
    assert mended(trust=open_trust) == (SetTrust(desired.trust),)
    assert mended(boundary=None) == (SetBoundary(f"arn:aws:iam::{MEMBER}:policy/Boundary"),)
    assert mended(max_session=43200) == (SetMaxSession(3600),)
    assert mended(inline={}) == (PutInlinePolicy("DenyDataReads", DENY),)
    assert mended(inline={"DenyDataReads": open_trust}) == (PutInlinePolicy("DenyDataReads", DENY),)
    assert mended(inline={**desired.inline, "Other": DENY}) == (DeleteInlinePolicy("Other"),)
    assert mended(attached=frozenset()) == (AttachPolicy("arn:aws:iam::aws:policy/ReadOnlyAccess"),)
    assert mended(attached=desired.attached | {"arn:x"}) == (DetachPolicy("arn:x"),)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_desired_role_is_the_settings_filled_in_for_its_account(partition: str) -> None:
    held = settings(
        partition,
        MEMBER_ROLE_NAME="Reader",
        MEMBER_ROLE_POLICY_ARNS="arn:{partition}:iam::aws:policy/A,arn:{partition}:iam::{account_id}:policy/B",
        PERMISSIONS_BOUNDARY_ARN="arn:{partition}:iam::{account_id}:policy/Boundary",
        MEMBER_ROLE_TAGS="team=platform",
        MEMBER_ROLE_MAX_SESSION="7200",
        DENY_DATA_READS="false",
    )

    assert desired_role(held, MEMBER) == MemberRole(
        arn=f"arn:{partition}:iam::{MEMBER}:role/Reader",
        trust=trust_document(held),
        max_session=7200,
        boundary=f"arn:{partition}:iam::{MEMBER}:policy/Boundary",
        tags={"team": "platform", "managed-by": "rolecall", "rolecall-stage": "dev"},
        attached=frozenset({f"arn:{partition}:iam::aws:policy/A", f"arn:{partition}:iam::{MEMBER}:policy/B"}),
        inline={},
    )


ROOT = f"arn:aws:iam::{SOURCE}:root"
ROLE = f"arn:aws:iam::{SOURCE}:role/Reader"
USER = f"arn:aws:iam::{SOURCE}:user/jo"
SSO = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Reader_*"
ASSUME, TAG, IDENTIFY = "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"


def trusted(action: str | list[str], condition: dict[str, Any] | None = None) -> dict[str, Any]:
    condition = {"Condition": condition} if condition else {}
    return {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": action, **condition}


@pytest.mark.parametrize(
    ("arns", "external_id", "statements"),
    [
        (ROLE, "", [trusted([ASSUME, TAG, IDENTIFY], {"ArnEquals": {"aws:PrincipalArn": [ROLE]}})]),
        (
            f"{ROLE},{USER}",
            "",
            [trusted([ASSUME, TAG, IDENTIFY], {"ArnEquals": {"aws:PrincipalArn": [ROLE, USER]}})],
        ),
        (SSO, "", [trusted([ASSUME, TAG, IDENTIFY], {"ArnEquals": {"aws:PrincipalArn": [SSO]}})]),
        (ROOT, "", [trusted([ASSUME, TAG, IDENTIFY])]),
        (
            ROLE,
            "x-1",
            [
                trusted(
                    ASSUME,
                    {"ArnEquals": {"aws:PrincipalArn": [ROLE]}, "StringEquals": {"sts:ExternalId": "x-1"}},
                ),
                trusted([TAG, IDENTIFY], {"ArnEquals": {"aws:PrincipalArn": [ROLE]}}),
            ],
        ),
        (
            ROOT,
            "x-1",
            [trusted(ASSUME, {"StringEquals": {"sts:ExternalId": "x-1"}}), trusted([TAG, IDENTIFY])],
        ),
    ],
)
def test_the_trust_is_the_source_account_narrowed_to_who_may_come(
    arns: str, external_id: str, statements: list[dict[str, Any]]
) -> None:
    held = settings(SOURCE_PRINCIPAL_ARNS=arns, EXTERNAL_ID=external_id, ATTACH_SOURCE_POLICY="false")

    assert trust_document(held).content == {"Version": "2012-10-17", "Statement": statements}


def test_the_trust_that_iam_gives_back_is_the_one_that_was_written() -> None:
    principal = f'"AWS":"{ROOT}"'
    text = trust_document(settings()).text

    assert principal in text
    assert Document(text.replace(principal, f'"AWS":["{SOURCE}"]')) == trust_document(settings())


def test_denied_are_reads_of_data_in_order_each_once() -> None:
    assert list(DENIED_DATA_READS) == sorted(set(DENIED_DATA_READS))
    assert not any("*" in action for action in DENIED_DATA_READS)
    assert DENY.content["Statement"] == [
        {"Sid": "DenyDataReads", "Effect": "Deny", "Action": list(DENIED_DATA_READS), "Resource": "*"}
    ]
    assert DENY.size < 10_240  # what IAM allows a role's inline policies together


@pytest.mark.parametrize(
    "data",
    [
        ["s3:GetObject", "s3:GetObjectVersion"],
        ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:PartiQLSelect"],
        ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath", "ssm:GetParameterHistory"],
        ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"],
        ["logs:GetLogEvents", "logs:FilterLogEvents", "logs:StartQuery", "logs:GetQueryResults"],
        ["sqs:ReceiveMessage", "kinesis:GetRecords", "dynamodb:GetRecords"],
        ["ecr:BatchGetImage", "lambda:GetFunction", "codecommit:GetFile", "codecommit:GitPull"],
        ["ec2:GetConsoleOutput", "ec2:GetPasswordData"],
    ],
    ids=lambda data: data[0].split(":")[0],
)
def test_denied_are_the_data_and_secrets_of_every_service_that_the_design_names(data: list[str]) -> None:
    assert set(data) <= set(DENIED_DATA_READS)


@pytest.mark.parametrize(
    "inventory",
    ["s3:GetBucketPolicy", "lambda:GetFunctionConfiguration", "iam:GetAccountSummary", "ssm:DescribeParameters"],
)
def test_inventory_stays_readable(inventory: str) -> None:
    assert inventory not in DENIED_DATA_READS


OURS = {"managed-by": "rolecall", "rolecall-stage": "dev"}


@pytest.mark.parametrize(
    ("arn", "tags", "adopt", "why"),
    [
        (ARN, OURS, "false", None),
        (ARN, {}, "false", "was not created by Rolecall"),
        (ARN, {}, "true", None),
        (ARN, OURS | {"rolecall-stage": "prod"}, "true", "belongs to another owner"),
        (ARN.replace("role/", "role/path/"), OURS, "true", "has a path"),
        (ARN.replace("role/", "role/path/"), {}, "true", "has a path"),
    ],
)
def test_a_role_that_is_not_ours_is_refused_with_the_way_out(
    arn: str, tags: dict[str, str], adopt: str, why: str | None
) -> None:
    held = settings(ADOPT_EXISTING_ROLES=adopt)
    desired = desired_role(held, MEMBER)

    refused = why_foreign(replace(desired, arn=arn, tags=tags), desired, held)

    assert (refused is None) == (why is None)
    assert refused is None or (str(why) in refused and arn in refused and "MemberRoleName" in refused)
