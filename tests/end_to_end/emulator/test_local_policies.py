"""IAM policies: condition keys, variables, resources, service control policies and quotas."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from local.organization import Document, LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.expected_errors import denied, rejected
from tests.end_to_end.organization_changes import create_unit, deny_policy, move_account, scp_attached

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
OUTSIDE = "555566667777"

MakeClient = Callable[[str, Document], Any]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(organization: LocalOrganization) -> MakeClient:
    """Returns a client with the credentials of a new role of the management account that has a policy."""

    def make(service: str, policy: Document) -> Any:
        management = organization.management_account_id
        trust = trust_policy(f"arn:aws:iam::{management}:root")
        arn = organization.create_role(management, f"Role{next(_numbers)}", trust, inline=policy)
        return organization.client(service, credentials=organization.assume(arn))

    return make


def test_listed_accounts_are_granted_only_inside_the_organization(
    organization: LocalOrganization, account: str, client: MakeClient
) -> None:
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    inside, outside = (organization.create_role(each, "Member", trust) for each in (account, OUTSIDE))
    condition = {"aws:ResourceAccount": [account, OUTSIDE], "aws:ResourceOrgID": organization.organization_id}
    policy = allow_policy(
        "sts:AssumeRole", resource="arn:aws:iam::*:role/Member", condition={"StringEquals": condition}
    )
    sts = client("sts", policy)
    assert sts.assume_role(RoleArn=inside, RoleSessionName="reader")
    with denied("sts:AssumeRole"):
        sts.assume_role(RoleArn=outside, RoleSessionName="reader")


def test_account_of_another_organization_has_its_id(organization: LocalOrganization, client: MakeClient) -> None:
    elsewhere = "666677778888"
    organization.set_other_organization([elsewhere])
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    roles = [organization.create_role(each, "Elsewhere", trust) for each in (elsewhere, OUTSIDE)]
    any_organization = {"StringLike": {"aws:ResourceOrgID": "o-*"}}
    sts = client("sts", allow_policy("sts:AssumeRole", condition=any_organization))
    assert sts.assume_role(RoleArn=roles[0], RoleSessionName="reader")
    with denied("sts:AssumeRole"):
        sts.assume_role(RoleArn=roles[1], RoleSessionName="reader")


def test_trust_policy_can_require_the_organization(organization: LocalOrganization, account: str) -> None:
    condition = {"StringEquals": {"aws:PrincipalOrgID": organization.organization_id}}
    member = organization.create_account("member")
    principals = [f"arn:aws:iam::{each}:root" for each in (member, OUTSIDE)]
    arn = organization.create_role(account, "InOrganization", trust_policy(*principals, condition=condition))
    member_session, outside_session = (
        organization.as_role(
            organization.create_role(
                each, "Caller", trust_policy(f"arn:aws:iam::{each}:root"), inline=allow_policy("sts:AssumeRole")
            )
        )
        for each in (member, OUTSIDE)
    )
    assert organization.assume(arn, member_session)
    with denied("sts:AssumeRole"):
        organization.assume(arn, outside_session)


def test_variables_are_substituted_or_match_nothing(organization: LocalOrganization, client: MakeClient) -> None:
    name = organization.create_source_principal("Substituted").rpartition("/")[2]
    own = client("iam", allow_policy("iam:GetRole", resource="arn:aws:iam::${aws:PrincipalAccount}:role/*"))
    assert own.get_role(RoleName=name)
    resource = allow_policy("iam:GetRole", resource="arn:aws:iam::*:role/${aws:PrincipalTag/none}*")
    condition = allow_policy("iam:GetRole", condition={"StringNotEquals": {"aws:username": "${aws:PrincipalTag/none}"}})
    for policy in (resource, condition):
        with denied("iam:GetRole"):
            client("iam", policy).get_role(RoleName=name)


def test_iam_calls_are_authorized_on_arns_with_paths(organization: LocalOrganization, client: MakeClient) -> None:
    management = organization.management_account_id
    organization.create_role(management, "Pathed", trust_policy(f"arn:aws:iam::{management}:root"), path="/a/b/")
    roles = f"arn:aws:iam::{management}:role"
    assert client("iam", allow_policy("iam:GetRole", resource=f"{roles}/a/b/Pathed")).get_role(RoleName="Pathed")
    with denied("iam:GetRole"):
        client("iam", allow_policy("iam:GetRole", resource=f"{roles}/Pathed")).get_role(RoleName="Pathed")


def test_tags_of_roles_and_policies_can_be_required(organization: LocalOrganization, client: MakeClient) -> None:
    condition = {"StringEquals": {"aws:ResourceTag/team": "audit"}}
    iam = client("iam", allow_policy("iam:DeletePolicy", "iam:DeleteRole", condition=condition))
    operator, document = organization.client("iam"), json.dumps(allow_policy("iam:GetUser"))
    trust = json.dumps(trust_policy(f"arn:aws:iam::{organization.management_account_id}:root"))
    for team in ("audit", "other"):
        tags = [{"Key": "team", "Value": team}]
        policy = operator.create_policy(PolicyName=f"Of-{team}", PolicyDocument=document, Tags=tags)["Policy"]
        operator.create_role(RoleName=f"Of-{team}", AssumeRolePolicyDocument=trust, Tags=tags)
        if team == "audit":
            iam.delete_policy(PolicyArn=policy["Arn"])
            iam.delete_role(RoleName="Of-audit")
    with denied("iam:DeletePolicy"):
        iam.delete_policy(PolicyArn=policy["Arn"])
    with denied("iam:DeleteRole"):
        iam.delete_role(RoleName="Of-other")


def test_names_of_roles_are_unique_whatever_their_case(organization: LocalOrganization) -> None:
    iam, trust = organization.client("iam"), json.dumps(trust_policy("arn:aws:iam::111122223333:root"))
    iam.create_role(RoleName="Cased", AssumeRolePolicyDocument=trust)
    with rejected("EntityAlreadyExists"):
        iam.create_role(RoleName="CASED", AssumeRolePolicyDocument=trust)


def test_creating_with_tags_needs_the_permission_to_tag(organization: LocalOrganization, client: MakeClient) -> None:
    document = json.dumps(allow_policy("s3:ListAllMyBuckets"))
    trust = json.dumps(trust_policy(f"arn:aws:iam::{organization.management_account_id}:root"))
    iam, tags = client("iam", allow_policy("iam:Create*")), [{"Key": "managed-by", "Value": "test"}]
    with denied("iam:TagPolicy"):
        iam.create_policy(PolicyName="Tagged", PolicyDocument=document, Tags=tags)
    with denied("iam:TagRole"):
        iam.create_role(RoleName="Tagged", AssumeRolePolicyDocument=trust, Tags=tags)


def test_service_control_policies_apply_to_members_only(organization: LocalOrganization, account: str) -> None:
    unit = create_unit(organization, "Controlled")
    move_account(organization, account, unit)
    session = organization.assume(f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole")
    member, management = organization.client("iam", credentials=session), organization.client("iam")
    with scp_attached(organization, deny_policy("iam:ListUsers"), [unit, organization.management_account_id]):
        # Without FullAWSAccess, which AWS attaches to every unit, nothing else is allowed either.
        with rejected("AccessDenied", "with an explicit deny in a service control policy"):
            member.list_users()
        with rejected("AccessDenied", "because no service control policy allows the iam:ListRoles action"):
            member.list_roles()
        assert "Users" in management.list_users()
    assert "Users" in member.list_users()


@pytest.fixture(scope="module")
def table(organization: LocalOrganization) -> str:
    organization.client("dynamodb").create_table(
        TableName="limited",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return f"arn:aws:dynamodb:us-east-1:{organization.management_account_id}:table/limited"


SET = {"UpdateExpression": "SET one = :v", "ExpressionAttributeValues": {":v": {"S": "v"}}}


@pytest.mark.parametrize(
    ("update", "allowed"),
    [
        ({**SET, "UpdateExpression": "SET #a = :v", "ExpressionAttributeNames": {"#a": "one"}}, True),
        ({**SET, "UpdateExpression": "SET #a = :v", "ExpressionAttributeNames": {"#a": "other"}}, False),
        ({**SET, "UpdateExpression": "SET #a.b = :v", "ExpressionAttributeNames": {"#a": "other"}}, False),
        ({**SET, "UpdateExpression": "SET one = if_not_exists(two, :v)"}, True),
        ({**SET, "UpdateExpression": "SET one = if_not_exists(other, :v)"}, False),
        ({**SET, "UpdateExpression": "SET one = :v REMOVE other"}, False),
        ({**SET, "ConditionExpression": "attribute_exists(id) AND two <> :v"}, True),
        ({**SET, "ConditionExpression": "NOT other = :v"}, False),
        ({"AttributeUpdates": {"other": {"Action": "PUT", "Value": {"S": "v"}}}}, False),
        ({**SET, "Key": {"id": {"S": "2"}}}, False),
        ({**SET, "ReturnValues": "NONE"}, True),
        ({**SET, "ReturnValues": "ALL_NEW"}, False),
    ],
)
def test_condition_keys_limit_an_update(
    organization: LocalOrganization, client: MakeClient, table: str, update: dict[str, Any], allowed: bool
) -> None:
    key = {"id": {"S": "limited"}}
    organization.client("dynamodb").put_item(TableName="limited", Item=key)
    condition = {
        "ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["limited"], "dynamodb:Attributes": ["id", "one", "two"]},
        "Null": {"dynamodb:LeadingKeys": "false", "dynamodb:Attributes": "false"},
        "StringEqualsIfExists": {"dynamodb:ReturnValues": "NONE"},
    }
    writer = client("dynamodb", allow_policy("dynamodb:UpdateItem", resource=table, condition=condition))
    request = {"TableName": "limited", "Key": key} | update
    if allowed:
        writer.update_item(**request)
    else:
        with denied("dynamodb:UpdateItem"):
            writer.update_item(**request)


def document_of(characters: int) -> str:
    """Return a policy with a number of characters, not counting its white space."""
    empty = json.dumps(allow_policy("s3:GetObject", resource="arn:aws:s3:::"), separators=(",", ":"))
    filled = allow_policy("s3:GetObject", resource="arn:aws:s3:::" + "a" * (characters - len(empty)))
    return json.dumps(filled, indent=40)


def test_managed_policy_is_limited_to_6144_characters(organization: LocalOrganization) -> None:
    iam = organization.client("iam")
    arn = iam.create_policy(PolicyName="Full", PolicyDocument=document_of(6144))["Policy"]["Arn"]
    with rejected("LimitExceeded", "6144"):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document_of(6145), SetAsDefault=True)
    for _ in range(4):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document_of(200), SetAsDefault=True)
    with rejected("LimitExceeded"):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document_of(200), SetAsDefault=True)


def test_role_is_limited_in_inline_policies_trust_and_attachments(
    organization: LocalOrganization, account: str
) -> None:
    iam = organization.client("iam", account)
    organization.create_role(account, "Limited", trust_policy(f"arn:aws:iam::{account}:root"))
    iam.put_role_policy(RoleName="Limited", PolicyName="first", PolicyDocument=document_of(6000))
    with rejected("LimitExceeded", "10240"):
        iam.put_role_policy(RoleName="Limited", PolicyName="second", PolicyDocument=document_of(4241))
    with rejected("LimitExceeded", "2048"):
        iam.update_assume_role_policy(RoleName="Limited", PolicyDocument=document_of(2049))
    with rejected("MalformedPolicyDocument"):
        iam.update_assume_role_policy(RoleName="Limited", PolicyDocument="{")
    with rejected("NoSuchEntity"):
        iam.attach_role_policy(RoleName="Limited", PolicyArn=f"{READ_ONLY}-missing")
    arns = [
        iam.create_policy(PolicyName=f"Attached{number}", PolicyDocument=document_of(200))["Policy"]["Arn"]
        for number in range(11)
    ]
    for arn in (*arns[:10], arns[0]):
        iam.attach_role_policy(RoleName="Limited", PolicyArn=arn)
    with rejected("LimitExceeded", "10"):
        iam.attach_role_policy(RoleName="Limited", PolicyArn=arns[10])
