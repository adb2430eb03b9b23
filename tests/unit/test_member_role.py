import json
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.data_read_denies import API_KEYS_READ, DENIED_DATA_READS, denied_reads, deny_document
from chalicelib.documents import Document
from chalicelib.errors import SettingsError
from chalicelib.member_role import (
    INLINE_LIMIT,
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
    check_sizes,
    desired_role,
    plan,
    removal,
    restricts,
    trust_document,
    why_foreign,
)
from chalicelib.member_role_policies import denies_all_of, only_denies
from tests.unit.applied_plans import role_after
from tests.unit.builders import EXAMPLES, EXTRA, MEMBER, ORGANIZATION_ID, PARTITIONS, READER, SOURCE, settings

ARN = f"arn:aws:iam::{MEMBER}:role/CrossAccountReadOnlyRole"
DENY = deny_document()
DENY_ALL = Document.of({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}})
DEFAULT = desired_role(settings(), MEMBER)
OTHERS = [
    desired_role(settings(**{name: text}), MEMBER) for name, (text, _) in EXAMPLES.items() if name != "MEMBER_ROLE_NAME"
]

desired_roles = st.sampled_from([DEFAULT, *(role for role in OTHERS if role != DEFAULT)])
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
    inline=st.dictionaries(st.sampled_from(["DenyDataReads", "Other", "Extra"]), documents | st.just(DENY)),
)


@given(st.none() | observed_roles, desired_roles)
def test_applying_the_plan_gives_the_desired_role_and_keeps_other_tags(
    observed: MemberRole | None, desired: MemberRole
) -> None:
    result = role_after(observed, plan(observed, desired))

    tags = observed.tags if observed else {}
    assert result == replace(desired, tags={**tags, **desired.tags})
    assert plan(result, desired) == plan(desired, desired) == ()


@given(st.none() | observed_roles, desired_roles)
def test_interrupted_plan_never_allows_more_than_the_desired_role(
    observed: MemberRole | None, desired: MemberRole
) -> None:
    actions = plan(observed, desired)

    for done in range(len(actions) + 1):
        role = role_after(observed, actions[:done])
        if role is None or (observed is not None and not _extends(observed, role)):
            continue
        assert role.trust == desired.trust
        assert role.attached <= desired.attached
        denies = {name: each for name, each in desired.inline.items() if only_denies(each)}
        is_denied = all(name in role.inline and denies_all_of(role.inline[name], each) for name, each in denies.items())
        assert is_denied or not (role.inline or role.attached)
        # An edited document is left until it is replaced, and one that only denies until it is deleted.
        assert all(
            each in (desired.inline.get(name), observed and observed.inline.get(name))
            for name, each in role.inline.items()
        )
        assert all(name in desired.inline or only_denies(each) for name, each in role.inline.items())
        assert role.boundary == desired.boundary or desired.boundary is None


def _extends(before: MemberRole, after: MemberRole) -> bool:
    unbound = before.boundary is not None and after.boundary is None
    allowing = {name: each for name, each in after.inline.items() if not only_denies(each)}
    is_widened = not after.attached <= before.attached or not allowing.items() <= before.inline.items()
    return before.trust != after.trust or is_widened or unbound


@given(observed_roles)
def test_removal_deletes_the_policies_before_the_role(observed: MemberRole) -> None:
    actions = removal(observed)

    assert role_after(observed, actions) is None
    assert role_after(observed, actions[:-1]) == replace(observed, attached=frozenset(), inline={})


@given(observed_roles, desired_roles)
def test_plan_has_no_action_without_effect(observed: MemberRole, desired: MemberRole) -> None:
    for action in plan(observed, desired):
        assert role_after(observed, (action,)) != observed


def test_plan_of_a_new_role_is_its_creation_and_its_policies() -> None:
    desired = desired_role(settings(), MEMBER)

    assert plan(None, desired) == (
        CreateRole(replace(desired, attached=frozenset(), inline={})),
        PutInlinePolicy("DenyDataReads", DENY),
        AttachPolicy("arn:aws:iam::aws:policy/ReadOnlyAccess"),
    )


def test_each_drift_is_repaired_by_its_own_action() -> None:
    desired = desired_role(settings(PERMISSIONS_BOUNDARY_ARN="arn:aws:iam::{account_id}:policy/Boundary"), MEMBER)
    empty = Document.of({"Statement": []})

    def repair(**drift: Any) -> tuple[Action, ...]:
        return plan(replace(desired, **drift), desired)

    assert repair(tags={"team": "x"}) == (TagRole(desired.tags),)
    assert repair(tags={**desired.tags, "managed-by": "me"}) == (TagRole(desired.tags),)
    assert repair(trust=empty) == (SetTrust(desired.trust),)
    assert repair(boundary=None) == (SetBoundary(f"arn:aws:iam::{MEMBER}:policy/Boundary"),)
    assert repair(max_session=43200) == (SetMaxSession(3600),)
    assert repair(inline={}) == (PutInlinePolicy("DenyDataReads", DENY),)
    assert repair(inline={"DenyDataReads": empty}) == (PutInlinePolicy("DenyDataReads", DENY),)
    assert repair(inline={**desired.inline, "Other": DENY}) == (DeleteInlinePolicy("Other"),)
    assert repair(attached=frozenset()) == (AttachPolicy("arn:aws:iam::aws:policy/ReadOnlyAccess"),)
    assert repair(attached=desired.attached | {"arn:x"}) == (DetachPolicy("arn:x"),)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_desired_role_follows_from_the_settings_and_the_account(partition: str) -> None:
    config = settings(
        partition,
        MEMBER_ROLE_NAME="Audit",
        MEMBER_ROLE_POLICY_ARNS="arn:{partition}:iam::aws:policy/A,arn:{partition}:iam::{account_id}:policy/B",
        PERMISSIONS_BOUNDARY_ARN="arn:{partition}:iam::{account_id}:policy/Boundary",
        MEMBER_ROLE_TAGS="team=platform",
        MEMBER_ROLE_MAX_SESSION="7200",
        DENY_DATA_READS="false",
    )

    assert desired_role(config, MEMBER) == MemberRole(
        arn=f"arn:{partition}:iam::{MEMBER}:role/Audit",
        trust=trust_document(config),
        max_session=7200,
        boundary=f"arn:{partition}:iam::{MEMBER}:policy/Boundary",
        tags={"team": "platform", "managed-by": "rolecall", "rolecall-stage": "dev"},
        attached=frozenset({f"arn:{partition}:iam::aws:policy/A", f"arn:{partition}:iam::{MEMBER}:policy/B"}),
        inline={},
    )


ROOT = f"arn:aws:iam::{SOURCE}:root"
USER = f"arn:aws:iam::{SOURCE}:user/jo"
SSO = f"arn:aws:iam::{SOURCE}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Reader_*"
ASSUME, TAG, IDENTIFY = "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"


def trusted(action: str | list[str], *principals: str, external_id: str | None = None) -> dict[str, Any]:
    condition: dict[str, Any] = {"ArnEquals": {"aws:PrincipalArn": list(principals)}} if principals else {}
    condition |= {"StringEquals": {"sts:ExternalId": external_id}} if external_id else {}
    allowed = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": action}
    return allowed | ({"Condition": condition} if condition else {})


@pytest.mark.parametrize(
    ("arns", "external_id", "statements"),
    [
        (READER, "", [trusted([ASSUME, TAG, IDENTIFY], READER)]),
        (f"{READER},{USER}", "", [trusted([ASSUME, TAG, IDENTIFY], READER, USER)]),
        (SSO, "", [trusted([ASSUME, TAG, IDENTIFY], SSO)]),
        (ROOT, "", [trusted([ASSUME, TAG, IDENTIFY])]),
        (READER, "x-1", [trusted(ASSUME, READER, external_id="x-1"), trusted([TAG, IDENTIFY], READER)]),
        (ROOT, "x-1", [trusted(ASSUME, external_id="x-1"), trusted([TAG, IDENTIFY])]),
    ],
)
def test_trust_is_the_source_account_restricted_to_the_principals(
    arns: str, external_id: str, statements: list[dict[str, Any]]
) -> None:
    config = settings(SOURCE_PRINCIPAL_ARNS=arns, EXTERNAL_ID=external_id, ATTACH_SOURCE_POLICY="false")

    assert trust_document(config).content == {"Version": "2012-10-17", "Statement": statements}


def test_trust_of_several_accounts_narrows_those_with_named_principals() -> None:
    other, whole = "arn:aws:iam::555566667777:user/Scanner", "arn:aws:iam::666677778888:root"
    arns = f"{READER},{other},{whole}"
    roots = {"Principal": {"AWS": [ROOT, "arn:aws:iam::555566667777:root"]}}
    every = {"Principal": {"AWS": whole}}

    config = settings(SOURCE_PRINCIPAL_ARNS=arns, SOURCE_POLICY_SCOPE="none")
    assert trust_document(config).content["Statement"] == [
        trusted([ASSUME, TAG, IDENTIFY], READER, other) | roots,
        trusted([ASSUME, TAG, IDENTIFY]) | every,
    ]
    assert trust_document(replace(config, external_id="x-1")).content["Statement"] == [
        trusted(ASSUME, READER, other, external_id="x-1") | roots,
        trusted([TAG, IDENTIFY], READER, other) | roots,
        trusted(ASSUME, external_id="x-1") | every,
        trusted([TAG, IDENTIFY]) | every,
    ]


def test_trust_as_returned_by_iam_is_no_drift() -> None:
    principal = f'"AWS":"{ROOT}"'
    text = trust_document(settings()).text

    assert principal in text
    assert Document(text.replace(principal, f'"AWS":["{SOURCE}"]')) == trust_document(settings())


@pytest.mark.parametrize("allowed", [(), ("s3:GetObject", "ssm:GetParameter"), ("apigateway:GET",)])
def test_denied_reads_are_counted_by_action(allowed: tuple[str, ...]) -> None:
    denied = denied_reads(deny_document(frozenset(allowed)))
    assert denied == [action for action in DENIED_DATA_READS if action not in allowed]


def test_deny_document_lists_each_action_once_in_order() -> None:
    assert list(DENIED_DATA_READS) == sorted(set(DENIED_DATA_READS))
    assert not any("*" in action for action in DENIED_DATA_READS)
    reads, keys = DENY.content["Statement"]
    assert (reads["Sid"], reads["Effect"], reads["Resource"]) == ("DenyDataReads", "Deny", "*")
    assert reads["Action"] == sorted(set(reads["Action"]))
    assert [
        action for action in DENIED_DATA_READS if not any(fnmatchcase(action, each) for each in reads["Action"])
    ] == []
    assert (keys["Effect"], keys["Action"]) == ("Deny", ["apigateway:GET"])
    assert keys["Resource"] == ["arn:*:apigateway:*::/apikeys", "arn:*:apigateway:*::/apikeys/*"]
    assert DENY.size < INLINE_LIMIT - 1_800  # which are left for the operator's documents


@pytest.mark.parametrize("action", ["s3:GetObject", "ssm:GetParameter", API_KEYS_READ])
def test_exception_is_not_denied_and_all_others_are(action: str) -> None:
    """A pattern that matches an exception is replaced by the actions that it matched."""
    patterns = [
        each for statement in deny_document(frozenset({action})).content["Statement"] for each in statement["Action"]
    ]

    assert [
        each
        for each in (*DENIED_DATA_READS, API_KEYS_READ)
        if not any(fnmatchcase(each, pattern) for pattern in patterns)
    ] == [action]


def test_documents_of_the_operator_are_filled_in_beside_the_deny() -> None:
    text = '{"A":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"macie2:Get*","Resource":"arn:{partition}:macie2:*:{account_id}:*","Condition":{"StringEquals":{"aws:ResourceOrgID":"{organization_id}"}}}}}'
    role = desired_role(settings("aws-cn", MEMBER_ROLE_POLICIES=text), MEMBER, ORGANIZATION_ID)

    assert list(role.inline) == ["DenyDataReads", "A"]
    statement = role.inline["A"].content["Statement"]
    assert statement["Resource"] == f"arn:aws-cn:macie2:*:{MEMBER}:*"
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceOrgID": ORGANIZATION_ID}}


def test_document_is_deleted_before_it_is_replaced_if_both_dont_fit() -> None:
    """The quota counts all inline policies of a role together, so the deny would find no room."""
    desired = desired_role(settings(MEMBER_ROLE_POLICIES=f'{{"Extra":{EXTRA}}}'), MEMBER)
    longer = Document.of({"Statement": {"Sid": "x" * 5_000}})
    observed = replace(desired, inline={"Extra": longer})

    actions = plan(observed, desired)

    put = [PutInlinePolicy(name, desired.inline[name]) for name in ("DenyDataReads", "Extra")]
    assert actions == (DeleteInlinePolicy("Extra"), *put)
    assert plan(replace(desired, inline={**desired.inline, "Extra": DENY_ALL}), desired) == (put[1],)


def test_inline_policies_over_the_quota_are_rejected() -> None:
    policies = json.dumps(
        {
            "A": {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["s3:Get*"] * 250, "Resource": "*"}],
            }
        }
    )
    check_sizes(settings(MEMBER_ROLE_POLICIES=policies, DENY_DATA_READS="false"))

    with pytest.raises(
        SettingsError,
        match=r"MEMBER_ROLE_POLICIES would take \d+ characters, 8\d{3} more are the deny .* 10240 .* DENY_DATA_READS_EXCEPT",
    ):
        check_sizes(settings(MEMBER_ROLE_POLICIES=policies))


def test_reads_of_data_and_secrets_are_denied() -> None:
    data = {
        *("s3:GetObject", "s3:GetObjectVersion"),
        *("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:PartiQLSelect"),
        *("ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath", "ssm:GetParameterHistory"),
        *("secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"),
        *("logs:GetLogEvents", "logs:FilterLogEvents", "logs:StartQuery", "logs:GetQueryResults"),
        *("sqs:ReceiveMessage", "kinesis:GetRecords", "dynamodb:GetRecords"),
        *("ecr:BatchGetImage", "lambda:GetFunction", "codecommit:GetFile", "codecommit:GitPull"),
        *("ec2:GetConsoleOutput", "ec2:GetPasswordData"),
    }
    inventory = {
        *("s3:GetBucketPolicy", "lambda:GetFunctionConfiguration", "iam:GetAccountSummary", "ssm:DescribeParameters"),
        *("ec2:DescribeVpnConnections", "directconnect:DescribeVirtualInterfaces"),
    }

    assert data <= set(DENIED_DATA_READS)
    assert inventory.isdisjoint(DENIED_DATA_READS)


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
        (ARN.replace("Cross", "cross"), {}, "true", "differs from MemberRoleName by case"),
        (ARN.replace("Cross", "cross"), OURS, "true", "differs from MemberRoleName by case"),
    ],
)
def test_foreign_role_is_rejected_with_the_reason(arn: str, tags: dict[str, str], adopt: str, why: str | None) -> None:
    config = settings(ADOPT_EXISTING_ROLES=adopt)
    desired = desired_role(config, MEMBER)

    reason = why_foreign(replace(desired, arn=arn, tags=tags), desired, config)

    assert (reason is None) == (why is None)
    assert reason is None or (str(why) in reason and arn in reason and "MemberRoleName" in reason)


def test_ownership_tags_come_first_and_other_tags_last() -> None:
    desired = desired_role(settings(MEMBER_ROLE_TAGS="team=platform"), MEMBER)

    adopted = plan(replace(desired, tags={}, attached=frozenset()), desired)
    edited = plan(replace(desired, tags={**desired.tags, "team": "x"}, attached=frozenset()), desired)

    assert [type(action) for action in adopted] == [TagRole, AttachPolicy]
    assert [type(action) for action in edited] == [AttachPolicy, TagRole]
    assert adopted[0] == edited[1] == TagRole(desired.tags)


@given(observed_roles, desired_roles)
def test_rejected_action_leaves_nothing_else_open(observed: MemberRole, desired: MemberRole) -> None:
    """Whichever action is rejected, the role is no wider than desired but for what that action would have changed."""
    actions = plan(observed, desired)

    for index, rejected in enumerate(actions):
        rest = [action for action in actions[index + 1 :] if restricts(action, observed)]
        carried_out = [*actions[:index], *rest]
        role = role_after(observed, carried_out)

        assert role
        assert role.attached <= desired.attached | ({rejected.arn} if isinstance(rejected, DetachPolicy) else set())
        strays = {name for name in role.inline.keys() - desired.inline.keys() if not only_denies(role.inline[name])}
        assert strays <= ({rejected.name} if isinstance(rejected, DeleteInlinePolicy) else set())
        assert role.trust == desired.trust or isinstance(rejected, SetTrust)
        assert role.max_session <= desired.max_session or isinstance(rejected, SetMaxSession)
        assert role.boundary == desired.boundary or desired.boundary is None or isinstance(rejected, SetBoundary)
        for name, document in desired.inline.items():
            is_absent = name not in role.inline and not only_denies(document)
            is_rejected = isinstance(rejected, PutInlinePolicy | DeleteInlinePolicy) and rejected.name == name
            denies_more = name in role.inline and denies_all_of(role.inline[name], document)
            assert role.inline.get(name) == document or denies_more or is_absent or is_rejected


FEWER_DENIES: list[dict[str, str]] = [{"DENY_DATA_READS_EXCEPT": "s3:GetObject"}, {"DENY_DATA_READS": "false"}]


@pytest.mark.parametrize("fewer", FEWER_DENIES)
@pytest.mark.parametrize("observed", [DEFAULT, replace(DEFAULT, attached=frozenset({"arn:aws:iam::aws:policy/Other"}))])
def test_data_reads_are_opened_only_after_all_restrictions(fewer: dict[str, str], observed: MemberRole) -> None:
    """The boundary may not exist in an account, where data reads then stay denied."""
    boundary = "arn:aws:iam::{account_id}:policy/Boundary"
    desired = desired_role(settings(**fewer, PERMISSIONS_BOUNDARY_ARN=boundary, EXTERNAL_ID="x-1"), MEMBER)

    actions = plan(observed, desired)

    opening = next(each for each in actions if isinstance(each, PutInlinePolicy | DeleteInlinePolicy))
    before, after = actions[: actions.index(opening)], actions[actions.index(opening) + 1 :]
    assert {SetBoundary, SetTrust} <= {type(each) for each in before}
    assert {type(each) for each in after} <= {AttachPolicy}
    assert not restricts(opening, observed)


def test_edited_deny_is_restored_or_deleted_first() -> None:
    """It may allow anything, or deny next to nothing."""
    weak = deny_document(frozenset(DENIED_DATA_READS) - {"s3:GetObject"})
    for wanted, edited, action in (
        (settings(), weak, PutInlinePolicy("DenyDataReads", DENY)),
        (settings(DENY_DATA_READS="false"), Document.of({"Statement": []}), DeleteInlinePolicy("DenyDataReads")),
    ):
        desired = desired_role(wanted, MEMBER)
        observed = replace(desired, trust=DENY_ALL, inline={"DenyDataReads": edited})
        assert plan(observed, desired) == (action, SetTrust(desired.trust))
        assert restricts(action, observed)


def test_deny_makes_room_for_documents_that_only_deny() -> None:
    policies = {
        "A": {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": ["a4b:Get*"] * 200, "Resource": "*"}}
    }
    excepted = ",".join(DENIED_DATA_READS[::2])
    room = {"MEMBER_ROLE_POLICIES": json.dumps(policies)}
    for fewer, first in (
        ({"DENY_DATA_READS": "false"}, DeleteInlinePolicy),
        ({"DENY_DATA_READS_EXCEPT": excepted}, PutInlinePolicy),
    ):
        actions = plan(DEFAULT, desired_role(settings(**fewer, **room), MEMBER))
        assert [(type(each), each.name) for each in actions] == [(first, "DenyDataReads"), (PutInlinePolicy, "A")]  # type: ignore[union-attr]


@given(observed_roles)
def test_removal_deletes_the_deny_last(observed: MemberRole) -> None:
    actions = removal(replace(observed, inline={**observed.inline, "DenyDataReads": DENY}))
    assert actions[-2] == DeleteInlinePolicy("DenyDataReads")
