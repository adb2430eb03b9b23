"""Policies decide as in AWS: condition keys, variables, and the resources that calls are authorized on."""

import itertools
import json
from collections.abc import Callable

import pytest

from local.organization import Credentials, Document, LocalOrganization, allowing, trusting
from tests.end_to_end.emulator.refusals import denied, refused

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"

Session = Callable[[Document], Credentials]

_NUMBERS = itertools.count()


@pytest.fixture
def session_of(organization: LocalOrganization, request: pytest.FixtureRequest) -> Session:
    """Make a role of the management account that may do what a policy says, and assume it."""

    def make(policy: Document) -> Credentials:
        management = organization.management_account_id
        name = f"{request.function.__name__[5:50]}-{next(_NUMBERS)}"
        arn = organization.create_role(management, name, trusting(f"arn:aws:iam::{management}:root"), inline=policy)
        return organization.assume(arn)

    return make


@pytest.fixture(scope="module")
def targets(organization: LocalOrganization) -> dict[str, str]:
    """Roles of one name, open to the management account, in two members and an account of no organization."""
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    outside = "555566667777"
    accounts = {
        "one": organization.create_account("one"),
        "two": organization.create_account("two"),
        "outside": outside,
    }
    return {which: organization.create_role(account_id, "Member", trust) for which, account_id in accounts.items()}


def account_of(arn: str) -> str:
    return arn.split(":")[4]


def reachable(organization: LocalOrganization, session: Credentials, targets: dict[str, str]) -> set[str]:
    found = set()
    for which, arn in targets.items():
        try:
            organization.assume(arn, session)
        except organization.client("sts").exceptions.ClientError:
            continue
        found.add(which)
    return found


def test_a_source_policy_names_accounts(
    organization: LocalOrganization, targets: dict[str, str], session_of: Session
) -> None:
    pinned = {"StringEquals": {"aws:ResourceAccount": [account_of(targets["one"]), account_of(targets["outside"])]}}
    session = session_of(allowing("sts:AssumeRole", resource="arn:aws:iam::*:role/Member", condition=pinned))
    assert reachable(organization, session, targets) == {"one", "outside"}


@pytest.mark.parametrize("value", ["${aws:PrincipalOrgID}", None])
def test_a_source_policy_names_the_organization(
    organization: LocalOrganization, targets: dict[str, str], session_of: Session, value: str | None
) -> None:
    condition = {
        "StringEquals": {"aws:ResourceOrgID": value or organization.organization_id},
        "StringNotEquals": {"aws:ResourceAccount": [account_of(targets["two"])]},
    }
    session = session_of(allowing("sts:AssumeRole", resource="arn:*:iam::*:role/Member", condition=condition))
    assert reachable(organization, session, targets) == {"one"}


def test_a_source_policy_grants_listed_accounts_of_the_organization_alone(
    organization: LocalOrganization, targets: dict[str, str], session_of: Session
) -> None:
    both = {
        "aws:ResourceAccount": [account_of(targets["one"]), account_of(targets["outside"])],
        "aws:ResourceOrgID": organization.organization_id,
    }
    session = session_of(
        allowing("sts:AssumeRole", resource="arn:aws:iam::*:role/Member", condition={"StringEquals": both})
    )
    assert reachable(organization, session, targets) == {"one"}


def test_outside_an_organization_a_variable_for_it_matches_nothing(
    organization: LocalOrganization, targets: dict[str, str]
) -> None:
    account_id = "888899990000"
    mine = allowing("sts:AssumeRole", condition={"StringNotEquals": {"aws:ResourceOrgID": "${aws:PrincipalOrgID}"}})
    outsider = organization.create_role(
        account_id, "Outsider", trusting(f"arn:aws:iam::{account_id}:root"), inline=mine
    )
    opened = organization.create_role(account_of(targets["one"]), "Opened", trusting(f"arn:aws:iam::{account_id}:root"))
    with denied("sts:AssumeRole"):
        organization.assume(opened, organization.as_role(outsider))


def test_an_explicit_deny_wins(organization: LocalOrganization, targets: dict[str, str], session_of: Session) -> None:
    deny = {
        "Effect": "Deny",
        "Action": "sts:AssumeRole",
        "Resource": "*",
        "Condition": {"ArnLike": {"aws:PrincipalArn": "*"}},
    }
    both = dict(allowing("sts:AssumeRole"))
    both["Statement"] = [*both["Statement"], deny]
    assert reachable(organization, session_of(allowing("sts:AssumeRole")), targets) == {"one", "two", "outside"}
    assert reachable(organization, session_of(both), targets) == set()


def test_a_trust_may_require_the_organization(organization: LocalOrganization, targets: dict[str, str]) -> None:
    outside = account_of(targets["outside"])
    condition = {"StringEquals": {"aws:PrincipalOrgID": organization.organization_id}}
    trust = trusting(
        f"arn:aws:iam::{outside}:root", f"arn:aws:iam::{account_of(targets['two'])}:root", condition=condition
    )
    arn = organization.create_role(account_of(targets["one"]), "OfTheOrganization", trust)
    sessions = {}
    for which in ("two", "outside"):
        account_id = account_of(targets[which])
        role = organization.create_role(
            account_id, "Asking", trusting(f"arn:aws:iam::{account_id}:root"), inline=allowing("sts:AssumeRole")
        )
        sessions[which] = organization.as_role(role)
    assert organization.assume(arn, sessions["two"])
    with denied("sts:AssumeRole"):
        organization.assume(arn, sessions["outside"])


def test_a_session_may_be_narrowed_to_one_role_and_one_policy(organization: LocalOrganization, account: str) -> None:
    role = f"arn:aws:iam::{account}:role/Member"
    policy = dict(allowing("iam:CreateRole", "iam:GetRole", resource=role))
    only = allowing("iam:AttachRolePolicy", resource=role, condition={"ArnEquals": {"iam:PolicyARN": [READ_ONLY]}})
    policy["Statement"] = [*policy["Statement"], *only["Statement"]]
    session = organization.assume(
        f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", Policy=json.dumps(policy)
    )
    iam = organization.client("iam", credentials=session)
    trust = json.dumps(trusting(f"arn:aws:iam::{organization.management_account_id}:root"))

    iam.create_role(RoleName="Member", AssumeRolePolicyDocument=trust)
    iam.attach_role_policy(RoleName="Member", PolicyArn=READ_ONLY)

    with denied("iam:AttachRolePolicy"):
        iam.attach_role_policy(RoleName="Member", PolicyArn=ADMINISTRATOR)
    with denied("iam:CreateRole"):
        iam.create_role(RoleName="Another", AssumeRolePolicyDocument=trust)
    with denied("iam:TagRole"):
        iam.create_role(RoleName="Member", AssumeRolePolicyDocument=trust, Tags=[{"Key": "a", "Value": "b"}])
    attached = organization.client("iam", account).list_attached_role_policies(RoleName="Member")["AttachedPolicies"]
    assert [entry["PolicyArn"] for entry in attached] == [READ_ONLY]


def test_a_boundary_may_be_required(organization: LocalOrganization, session_of: Session) -> None:
    condition = {"StringEquals": {"iam:PermissionsBoundary": READ_ONLY}}
    iam = organization.client(
        "iam", credentials=session_of(allowing("iam:CreateRole", "iam:PutRolePolicy", condition=condition))
    )
    trust = json.dumps(trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
    inline = {"PolicyName": "inline", "PolicyDocument": json.dumps(allowing("s3:*"))}

    iam.create_role(RoleName="Bounded", AssumeRolePolicyDocument=trust, PermissionsBoundary=READ_ONLY)
    iam.put_role_policy(RoleName="Bounded", **inline)

    with denied("iam:CreateRole"):
        iam.create_role(RoleName="Unbounded", AssumeRolePolicyDocument=trust)
    with denied("iam:CreateRole"):  # what a role of that name has is none of the request's
        iam.create_role(RoleName="Bounded", AssumeRolePolicyDocument=trust)
    organization.create_role(organization.management_account_id, "Boundless", json.loads(trust))
    with denied("iam:PutRolePolicy"):
        iam.put_role_policy(RoleName="Boundless", **inline)


def test_a_denial_says_which_kind_of_policy_decided(organization: LocalOrganization, account: str) -> None:
    deny = {"Effect": "Deny", "Action": "iam:ListGroups", "Resource": "*"}
    policy = dict(allowing("iam:List*", "ssm:*"))
    policy["Statement"] = [*policy["Statement"], deny]
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    arn = organization.create_role(account, "Explained", trust, inline=policy)
    iam = organization.client("iam", account)
    iam.put_role_permissions_boundary(RoleName="Explained", PermissionsBoundary=READ_ONLY)
    session = organization.assume(
        arn, Policy=json.dumps(allowing("iam:ListUsers", "iam:ListGroups", "ssm:PutParameter"))
    )
    asked, systems = organization.client("iam", credentials=session), organization.client("ssm", credentials=session)

    assert "Users" in asked.list_users()
    with refused("AccessDenied", r"iam:ListGroups on resource: \* with an explicit deny in an identity-based policy"):
        asked.list_groups()
    with refused("AccessDenied", "because no session policy allows the iam:ListRoles action"):
        asked.list_roles()
    with refused(
        "AccessDenied",
        "GetRole on resource: arn:aws:iam::[0-9]*:role/Explained because no identity-based policy allows",
    ):
        asked.get_role(RoleName="Explained")
    with refused("AccessDeniedException", "because no permissions boundary allows the ssm:PutParameter action"):
        systems.put_parameter(Name="/explained", Value="data", Type="String")


def test_service_control_policies_bind_members_and_not_the_management_account(organization: LocalOrganization) -> None:
    organizations = organization.client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    unit = organizations.create_organizational_unit(ParentId=root, Name="controlled")["OrganizationalUnit"]["Id"]
    account_id = organization.create_account("controlled")
    organizations.move_account(AccountId=account_id, SourceParentId=root, DestinationParentId=unit)
    session = organization.assume(f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole")
    trust = json.dumps(trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
    iam = organization.client("iam", credentials=session)
    iam.create_role(RoleName="Before", AssumeRolePolicyDocument=trust)

    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iam:CreateRole", "Resource": "*"}]}
    policies = {}
    for name, content in (("deny", deny), ("full", allowing("*"))):
        created = organizations.create_policy(
            Name=name, Description=name, Type="SERVICE_CONTROL_POLICY", Content=json.dumps(content)
        )
        policies[name] = created["Policy"]["PolicySummary"]["Id"]
        organizations.attach_policy(PolicyId=policies[name], TargetId=unit)

    with refused("AccessDenied", "with an explicit deny in a service control policy"):
        iam.create_role(RoleName="After", AssumeRolePolicyDocument=trust)
    assert iam.get_role(RoleName="Before")
    organizations.detach_policy(PolicyId=policies["full"], TargetId=unit)
    with refused("AccessDenied", "because no service control policy allows the iam:GetRole action"):
        iam.get_role(RoleName="Before")
    organizations.attach_policy(PolicyId=policies["deny"], TargetId=organization.management_account_id)
    management = organization.create_role(
        organization.management_account_id, "Uncontrolled", json.loads(trust), inline=allowing("iam:CreateRole")
    )
    free = organization.client("iam", credentials=organization.assume(management))
    assert free.create_role(RoleName="Free", AssumeRolePolicyDocument=trust)["Role"]
    organizations.detach_policy(PolicyId=policies["deny"], TargetId=organization.management_account_id)


def test_calls_of_iam_are_authorized_on_whole_arns(organization: LocalOrganization, session_of: Session) -> None:
    management = organization.management_account_id
    organization.create_role(management, "Pathed", trusting(f"arn:aws:iam::{management}:root"), path="/a/b/")
    with_path = session_of(allowing("iam:GetRole", resource=f"arn:aws:iam::{management}:role/a/b/Pathed"))
    without = session_of(allowing("iam:GetRole", resource=f"arn:aws:iam::{management}:role/Pathed"))
    assert organization.client("iam", credentials=with_path).get_role(RoleName="Pathed")
    with denied("iam:GetRole"):
        organization.client("iam", credentials=without).get_role(RoleName="Pathed")


def test_a_policy_is_created_under_its_name_and_tagged_with_permission(
    organization: LocalOrganization, session_of: Session
) -> None:
    mine = f"arn:aws:iam::{organization.management_account_id}:policy/Mine"
    document = json.dumps(allowing("s3:ListAllMyBuckets"))
    untagged = organization.client("iam", credentials=session_of(allowing("iam:CreatePolicy", resource=mine)))
    tagged = organization.client(
        "iam", credentials=session_of(allowing("iam:CreatePolicy", "iam:TagPolicy", resource=mine))
    )
    tags = [{"Key": "managed-by", "Value": "test"}]

    with denied("iam:CreatePolicy"):
        untagged.create_policy(PolicyName="Others", PolicyDocument=document)
    with denied("iam:TagPolicy"):
        untagged.create_policy(PolicyName="Mine", PolicyDocument=document, Tags=tags)
    assert tagged.create_policy(PolicyName="Mine", PolicyDocument=document, Tags=tags)["Policy"]["Arn"] == mine


def test_accounts_are_looked_up_under_their_arns(
    organization: LocalOrganization, targets: dict[str, str], session_of: Session
) -> None:
    one, two = account_of(targets["one"]), account_of(targets["two"])
    arn = f"arn:aws:organizations::{organization.management_account_id}:account/o-*/{one}"
    session = session_of(allowing("organizations:DescribeAccount", "organizations:ListParents", resource=arn))
    organizations = organization.client("organizations", credentials=session)
    assert organizations.describe_account(AccountId=one)
    assert organizations.list_parents(ChildId=one)
    with denied("organizations:DescribeAccount"):
        organizations.describe_account(AccountId=two)
    with denied("organizations:ListAccounts"):
        organizations.list_accounts()


def test_variables_stand_in_resources(organization: LocalOrganization, session_of: Session) -> None:
    own = "arn:aws:iam::${aws:PrincipalAccount}:role/*"
    session = session_of(allowing("iam:GetRole", resource=own))
    assert organization.client("iam", credentials=session).get_role(RoleName=_any_role(organization))
    nobody = session_of(allowing("iam:GetRole", resource="arn:aws:iam::*:role/${aws:PrincipalTag/none}*"))
    with denied("iam:GetRole"):
        organization.client("iam", credentials=nobody).get_role(RoleName=_any_role(organization))


def _any_role(organization: LocalOrganization) -> str:
    return str(organization.client("iam").list_roles()["Roles"][0]["RoleName"])
