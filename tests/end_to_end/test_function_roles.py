"""What the functions may do with their own roles, under the policies that were deployed."""

import json
from collections.abc import Callable
from functools import cache

import pytest

from local.organization import Credentials, LocalOrganization, allowing, trusting
from tests.end_to_end.calls import ADMINISTRATOR, ANYBODY, ANYTHING, OTHER_BOUNDARIES, READ_ONLY, Call, call
from tests.end_to_end.deployed_stage import Deploy, Stage
from tests.end_to_end.roles_in_iam import REPAIRS, role_of, spoil
from tests.local_aws.refusals import denied

ROLE, POLICY = "CrossAccountReadOnlyRole", "CrossAccountReadOnlyAccess"
OUTSIDE = "555566667777"
KEY = {"account_id": {"S": "111122223333"}}
LEDGER, SHARDS, QUEUE = "rolecall-own-ledger", "rolecall-own-source-policy", "<queues>/rolecall-own-accounts"

OURS, OTHERS = f"arn:aws:iam::<management>:policy/{POLICY}", "arn:aws:iam::<management>:policy/Others"

# What no function may do.
NONE = [
    # Become somebody else, or let somebody else become it.
    call("iam:CreateUser", "create_user", UserName="intruder"),
    call("iam:CreateAccessKey", "create_access_key", UserName="bystander"),
    call("iam:CreateLoginProfile", "create_login_profile", UserName="bystander", Password="Th1s-is-long-enough"),
    call("iam:PutUserPolicy", "put_user_policy", UserName="bystander", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:CreateRole", "create_role", RoleName="Intruder", AssumeRolePolicyDocument=ANYBODY),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="<own>", PolicyDocument=ANYBODY),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Reader", PolicyDocument=ANYBODY),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Open", PolicyDocument=ANYBODY),
    call("iam:DeleteRole", "delete_role", RoleName="Open"),
    call("sts:AssumeRole", "assume_role", RoleArn="arn:aws:iam::<account>:role/Open", RoleSessionName="on"),
    call("sts:AssumeRole", "assume_role", RoleArn="arn:aws:iam::<management>:role/Open", RoleSessionName="on"),
    call("sts:AssumeRole", "assume_role", RoleArn=f"arn:aws:iam::<account>:role/{ROLE}", RoleSessionName="on"),
    call(
        "sts:AssumeRole",
        "assume_role",
        RoleArn=f"arn:aws:iam::{OUTSIDE}:role/OrganizationAccountAccessRole",
        RoleSessionName="on",
    ),
    # Give itself, the readers or others more.
    call("iam:PutRolePolicy", "put_role_policy", RoleName="<own>", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="<own>", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="<own>", PolicyArn=OURS),
    call("iam:PutRolePolicy", "put_role_policy", RoleName="Reader", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Open", PolicyArn=OURS),
    call("iam:AttachUserPolicy", "attach_user_policy", UserName="bystander", PolicyArn=OURS),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=ADMINISTRATOR),
    call("iam:CreatePolicy", "create_policy", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OTHERS, PolicyDocument=ANYTHING),
    call("iam:SetDefaultPolicyVersion", "set_default_policy_version", PolicyArn=OURS, VersionId="v1"),
    # Run something with a role of its choice, or change what runs.
    call(
        "lambda:CreateFunction",
        "create_function",
        FunctionName="intruder",
        Role="arn:aws:iam::<management>:role/Open",
        Runtime="python3.13",
        Handler="intruder.run",
        Code={"ZipFile": b"code"},
    ),
    call("lambda:InvokeFunction", "invoke", FunctionName="rolecall-own-enroll"),
    call("lambda:UpdateFunctionCode", "update_function_code", FunctionName="rolecall-own-enroll", ZipFile=b"code"),
    call("lambda:UpdateFunctionConfiguration", "update_function_configuration", FunctionName="rolecall-own-enroll"),
    call("cloudformation:DeleteStack", "delete_stack", StackName="rolecall-own"),
    call("events:DisableRule", "disable_rule", Name="rolecall-own-account-events"),
    # Change the organization, or read what there is.
    call("organizations:CloseAccount", "close_account", AccountId="<account>"),
    call("organizations:RemoveAccountFromOrganization", "remove_account_from_organization", AccountId="<account>"),
    call("s3:ListAllMyBuckets", "list_buckets"),
    call("ec2:DescribeInstances", "describe_instances"),
    call("ssm:GetParameter", "get_parameter", Name="/secret"),
    # Take work or records away.
    call("dynamodb:DeleteItem", "delete_item", TableName=LEDGER, Key=KEY),
    call("dynamodb:DeleteTable", "delete_table", TableName=SHARDS),
    call("dynamodb:PutItem", "put_item", TableName=SHARDS, Item={"policy_name": {"S": POLICY}}),
    call("sqs:PurgeQueue", "purge_queue", QueueUrl=QUEUE),
    call("logs:DeleteLogGroup", "delete_log_group", logGroupName="/aws/lambda/rolecall-own-enroll"),
]

LISTING = call("organizations:ListAccounts", "list_accounts")
SENDING = call("sqs:SendMessage", "send_message", QueueUrl=QUEUE, MessageBody="{}")
TAKING = call("sqs:ReceiveMessage", "receive_message", QueueUrl=QUEUE)
TAKING_THE_DEAD = call("sqs:ReceiveMessage", "receive_message", QueueUrl=f"{QUEUE}-dlq")
READING_THE_LEDGER = call("dynamodb:Scan", "scan", TableName=LEDGER)
WRITING_THE_LEDGER = call("dynamodb:PutItem", "put_item", TableName=LEDGER, Item=KEY)
PLACING = call("dynamodb:UpdateItem", "update_item", TableName=SHARDS, Key={"policy_name": {"S": POLICY}})
FORGETTING = call("dynamodb:DeleteItem", "delete_item", TableName=SHARDS, Key={"policy_name": {"S": POLICY}})
WRITING_THE_MEMBER_ROLE = [
    call("iam:CreateRole", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=ANYBODY),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName=ROLE, PolicyDocument=ANYBODY),
    call("iam:PutRolePolicy", "put_role_policy", RoleName=ROLE, PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=READ_ONLY),
    call("iam:DeleteRole", "delete_role", RoleName=ROLE),
]
WRITING_THE_SOURCE_POLICY = [
    call("iam:CreatePolicy", "create_policy", PolicyName=POLICY, PolicyDocument=ANYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OURS, PolicyDocument=ANYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OURS),
]
DETACHING = call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OURS)
DELETING = call("iam:DeletePolicy", "delete_policy", PolicyArn=OURS)
ENTERING = call(
    "sts:AssumeRole",
    "assume_role",
    RoleArn="arn:aws:iam::<account>:role/OrganizationAccountAccessRole",
    RoleSessionName="on",
)

BESIDES = {
    "on_account_event": [
        *(LISTING, TAKING, TAKING_THE_DEAD, READING_THE_LEDGER, WRITING_THE_LEDGER, PLACING, FORGETTING),
        *(*WRITING_THE_MEMBER_ROLE, *WRITING_THE_SOURCE_POLICY, DETACHING, DELETING, ENTERING),
        call("dynamodb:GetItem", "get_item", TableName=LEDGER, Key=KEY),
        call("organizations:DescribeAccount", "describe_account", AccountId="<account>"),
        call("iam:GetRole", "get_role", RoleName=ROLE),
    ],
    "enroll": [LISTING, SENDING, TAKING_THE_DEAD, READING_THE_LEDGER, FORGETTING, DELETING],
    "backfill": [
        *(TAKING, TAKING_THE_DEAD, PLACING, *WRITING_THE_MEMBER_ROLE, *WRITING_THE_SOURCE_POLICY, DETACHING, DELETING)
    ],
    "rerun": [
        *(LISTING, TAKING, WRITING_THE_LEDGER, PLACING, FORGETTING),
        *(*WRITING_THE_MEMBER_ROLE, *WRITING_THE_SOURCE_POLICY, DETACHING, DELETING),
    ],
    "resync": [TAKING, TAKING_THE_DEAD, WRITING_THE_LEDGER, FORGETTING, *WRITING_THE_MEMBER_ROLE, DELETING],
    "retire": [LISTING, TAKING, TAKING_THE_DEAD, *WRITING_THE_MEMBER_ROLE, *WRITING_THE_SOURCE_POLICY],
    "freeze": [
        *(LISTING, SENDING, TAKING, TAKING_THE_DEAD, READING_THE_LEDGER, WRITING_THE_LEDGER, FORGETTING),
        *(*WRITING_THE_MEMBER_ROLE, DELETING),
        call("organizations:DescribeAccount", "describe_account", AccountId="<account>"),
        call("iam:GetRole", "get_role", RoleName=ROLE),
    ],
}
"""What each function may not do, though another one may."""


@pytest.fixture(scope="module")
def stage(deploy: Deploy, organization: LocalOrganization, reader: str) -> Stage:
    """A stage beside roles that would let its functions in, if only these were allowed to ask."""
    management = organization.management_account_id
    trust = trusting(f"arn:aws:iam::{management}:root")
    organization.create_role(management, "Open", trust)
    organization.create_role(OUTSIDE, "OrganizationAccountAccessRole", trust)
    iam = organization.client("iam")
    iam.create_policy(PolicyName="Others", PolicyDocument=ANYTHING)
    iam.create_user(UserName="bystander")
    return deploy("own", SourcePrincipalArns=reader, MemberRoleTags="team=audit")


@pytest.fixture(scope="module")
def bounded(organization: LocalOrganization, deploy: Deploy, reader: str) -> Stage:
    """A stage that has given the management account's own member role a boundary."""
    stage = deploy(
        "bounded",
        SourcePrincipalArns=reader,
        MemberRoleName="Bounded",
        SourcePolicyName="Bounded",
        PermissionsBoundaryArn="arn:{partition}:iam::aws:policy/ReadOnlyAccess",
    )
    stage.send(json.dumps({"account_id": organization.management_account_id, "trigger": "backfill"}))
    stage.settled(organization.management_account_id, "enrolled")
    made = role_of(organization, organization.management_account_id, "Bounded")
    assert made
    assert made["boundary"] == READ_ONLY
    return stage


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, stage: Stage) -> str:
    account_id = organization.create_account("member")
    organization.create_role(account_id, "Open", trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
    stage.settled(account_id, "enrolled")
    return account_id


@pytest.fixture(scope="module")
def session_of(organization: LocalOrganization, stage: Stage) -> Callable[..., Credentials]:
    """Give a function's own credentials: for a moment, its role lets the account's root in."""
    iam = organization.client("iam")

    @cache
    def entered(name: str) -> Credentials:
        before = json.dumps(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
        opened = json.dumps(trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=opened)
        try:
            return organization.assume(f"arn:aws:iam::{organization.management_account_id}:role/{name}")
        finally:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=before)

    def given(function: str, of: Stage | None = None) -> Credentials:
        return entered(role_name(organization, of or stage, function))

    return given


def role_name(organization: LocalOrganization, stage: Stage, function: str) -> str:
    functions = organization.client("lambda")
    arn = functions.get_function_configuration(FunctionName=stage.function(function))["Role"]
    return str(arn).rpartition("/")[2]


def values(organization: LocalOrganization, stage: Stage, account_id: str, function: str) -> dict[str, str]:
    return {
        "account": account_id,
        "management": organization.management_account_id,
        "own": role_name(organization, stage, function),
        "queues": stage.environment["QUEUE_URL"].rpartition("/")[0],
    }


@pytest.mark.parametrize("function", BESIDES)
def test_a_function_may_do_nothing_else(
    organization: LocalOrganization,
    stage: Stage,
    account: str,
    session_of: Callable[..., Credentials],
    function: str,
    subtests: pytest.Subtests,
) -> None:
    session = session_of(function)
    known = values(organization, stage, account, function)
    for asked in [*NONE, *BESIDES[function]]:
        with subtests.test(str(asked)):
            asked.is_denied(organization, session, "identity-based policy", **known)


@pytest.mark.parametrize("asked", OTHER_BOUNDARIES, ids=str)
def test_the_worker_takes_no_boundary_off_and_sets_no_other(
    organization: LocalOrganization, bounded: Stage, session_of: Callable[..., Credentials], asked: Call
) -> None:
    asked.is_denied(organization, session_of("enroll", bounded), "identity-based policy")


@pytest.mark.parametrize("function", sorted(set(BESIDES) - {"on_account_event"}))
def test_all_but_the_listener_enter_accounts_of_the_organization_by_their_access_role(
    organization: LocalOrganization, account: str, session_of: Callable[..., Credentials], function: str
) -> None:
    assert organization.assume(f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", session_of(function))


@pytest.mark.parametrize("function", BESIDES)
def test_nobody_but_lambda_assumes_a_functions_role(
    organization: LocalOrganization, stage: Stage, function: str
) -> None:
    management = organization.management_account_id
    stranger = organization.create_role(
        management, f"Stranger-to-{function}", trusting(f"arn:aws:iam::{management}:root"), inline=allowing("*")
    )
    with denied("sts:AssumeRole"):
        organization.assume(
            f"arn:aws:iam::{management}:role/{role_name(organization, stage, function)}", organization.as_role(stranger)
        )


def test_the_management_account_is_enrolled_and_repaired_by_the_workers_own_role(
    organization: LocalOrganization, stage: Stage, reader: str
) -> None:
    management = organization.management_account_id
    message = json.dumps({"account_id": management, "trigger": "backfill"})
    stage.send(message)
    row = stage.settled(management, "enrolled")
    assert (row["change"], row["trigger"], row.get("access_role")) == ("created", "backfill", None)
    made = role_of(organization, management, ROLE)

    spoil(organization, management, ROLE)
    stage.send(message)

    assert set(stage.passed(management, 2)[1]["actions"]) == REPAIRS
    assert role_of(organization, management, ROLE) == made
    session = organization.assume(stage.member_role(management), organization.as_role(reader))
    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]
