"""What the functions may do with their own roles, under the policies that were deployed."""

import json
from collections.abc import Callable

import pytest

from local.organization import Credentials, LocalOrganization, allowing, trusting
from tests.end_to_end.calls import ADMINISTRATOR, ANYBODY, ANYTHING, Call, call
from tests.end_to_end.deployed_stage import Deploy, Stage
from tests.end_to_end.roles_in_iam import REPAIRS, role_of, spoil
from tests.local_aws.refusals import denied

ROLE, POLICY = "CrossAccountReadOnlyRole", "CrossAccountReadOnlyAccess"
OUTSIDE = "555566667777"
KEY = {"account_id": {"S": "111122223333"}}
LEDGER, SHARDS, QUEUE = "rolecall-own-ledger", "rolecall-own-source-policy", "<queues>/rolecall-own-accounts"

NEITHER = [
    call("s3:ListAllMyBuckets", "list_buckets"),
    call("ec2:DescribeInstances", "describe_instances"),
    call("ssm:GetParameter", "get_parameter", Name="/secret"),
    call("iam:CreateUser", "create_user", UserName="intruder"),
    call("iam:CreateRole", "create_role", RoleName="Intruder", AssumeRolePolicyDocument=ANYBODY),
    call("iam:PutRolePolicy", "put_role_policy", RoleName="<own>", PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Reader", PolicyDocument=ANYBODY),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=ADMINISTRATOR),
    call("iam:DeleteRole", "delete_role", RoleName="Open"),
    call("organizations:ListAccounts", "list_accounts"),
    call("organizations:CloseAccount", "close_account", AccountId="<account>"),
    call("organizations:RemoveAccountFromOrganization", "remove_account_from_organization", AccountId="<account>"),
    call("lambda:InvokeFunction", "invoke", FunctionName="rolecall-own-enroll"),
    call("lambda:UpdateFunctionConfiguration", "update_function_configuration", FunctionName="rolecall-own-enroll"),
    call("dynamodb:Scan", "scan", TableName=LEDGER),
    call("dynamodb:DeleteItem", "delete_item", TableName=LEDGER, Key=KEY),
    call("dynamodb:DeleteTable", "delete_table", TableName=SHARDS),
    call("sqs:PurgeQueue", "purge_queue", QueueUrl=QUEUE),
    call("sqs:ReceiveMessage", "receive_message", QueueUrl=f"{QUEUE}-dlq"),
    call("events:DisableRule", "disable_rule", Name="rolecall-own-account-events"),
    call("cloudformation:DeleteStack", "delete_stack", StackName="rolecall-own"),
    call("logs:DeleteLogGroup", "delete_log_group", logGroupName="/aws/lambda/rolecall-own-enroll"),
    call("sts:AssumeRole", "assume_role", RoleArn="arn:aws:iam::<account>:role/Open", RoleSessionName="on"),
    call(
        "sts:AssumeRole",
        "assume_role",
        RoleArn="arn:aws:iam::<account>:role/CrossAccountReadOnlyRole",
        RoleSessionName="on",
    ),
    call(
        "sts:AssumeRole",
        "assume_role",
        RoleArn=f"arn:aws:iam::{OUTSIDE}:role/OrganizationAccountAccessRole",
        RoleSessionName="on",
    ),
]

NOT_ENROLL = [
    call("sqs:SendMessage", "send_message", QueueUrl=QUEUE, MessageBody="{}"),
    call("dynamodb:PutItem", "put_item", TableName=SHARDS, Item={"policy_name": {"S": POLICY}}),
    call(
        "iam:CreatePolicyVersion",
        "create_policy_version",
        PolicyArn="arn:aws:iam::<management>:policy/Others",
        PolicyDocument=ANYTHING,
    ),
    call(
        "iam:DetachRolePolicy",
        "detach_role_policy",
        RoleName="Reader",
        PolicyArn="arn:aws:iam::<management>:policy/Others",
    ),
    call(
        "iam:AttachRolePolicy",
        "attach_role_policy",
        RoleName="Open",
        PolicyArn=f"arn:aws:iam::<management>:policy/{POLICY}",
    ),
]

NOT_ON_ACCOUNT_EVENT = [
    call("sqs:ReceiveMessage", "receive_message", QueueUrl=QUEUE),
    call("dynamodb:GetItem", "get_item", TableName=LEDGER, Key=KEY),
    call("organizations:DescribeAccount", "describe_account", AccountId="<account>"),
    call("iam:GetRole", "get_role", RoleName=ROLE),
    call("iam:DeleteRole", "delete_role", RoleName=ROLE),
    call(
        "sts:AssumeRole",
        "assume_role",
        RoleArn="arn:aws:iam::<account>:role/OrganizationAccountAccessRole",
        RoleSessionName="on",
    ),
]


@pytest.fixture(scope="module")
def stage(deploy: Deploy, organization: LocalOrganization, reader: str) -> Stage:
    """A stage beside roles that would let its functions in, if only these were allowed to ask."""
    management = organization.management_account_id
    trust = trusting(f"arn:aws:iam::{management}:root")
    organization.create_role(management, "Open", trust)
    organization.create_role(OUTSIDE, "OrganizationAccountAccessRole", trust)
    organization.client("iam").create_policy(PolicyName="Others", PolicyDocument=ANYTHING)
    return deploy("own", SourcePrincipalArns=reader, MemberRoleTags="team=audit")


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, stage: Stage) -> str:
    account_id = organization.create_account("member")
    organization.create_role(account_id, "Open", trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
    stage.settled(account_id, "enrolled")
    return account_id


@pytest.fixture(scope="module")
def session_of(organization: LocalOrganization, stage: Stage) -> Callable[[str], Credentials]:
    """Give a function's own credentials: for a moment, its role lets the account's root in."""
    iam = organization.client("iam")

    def given(function: str) -> Credentials:
        name = role_name(organization, stage, function)
        before = json.dumps(iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"])
        opened = json.dumps(trusting(f"arn:aws:iam::{organization.management_account_id}:root"))
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=opened)
        try:
            return organization.assume(f"arn:aws:iam::{organization.management_account_id}:role/{name}")
        finally:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=before)

    return given


@pytest.fixture(scope="module")
def of_enroll(session_of: Callable[[str], Credentials]) -> Credentials:
    return session_of("enroll")


@pytest.fixture(scope="module")
def of_on_account_event(session_of: Callable[[str], Credentials]) -> Credentials:
    return session_of("on_account_event")


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


@pytest.mark.parametrize("asked", [*NEITHER, *NOT_ENROLL], ids=str)
def test_the_worker_may_do_nothing_else(
    organization: LocalOrganization, stage: Stage, account: str, of_enroll: Credentials, asked: Call
) -> None:
    known = values(organization, stage, account, "enroll")
    asked.is_denied(organization, of_enroll, "identity-based policy", **known)


@pytest.mark.parametrize("asked", [*NEITHER, *NOT_ON_ACCOUNT_EVENT], ids=str)
def test_the_listener_may_do_nothing_else(
    organization: LocalOrganization, stage: Stage, account: str, of_on_account_event: Credentials, asked: Call
) -> None:
    known = values(organization, stage, account, "on_account_event")
    asked.is_denied(organization, of_on_account_event, "identity-based policy", **known)


def test_the_worker_enters_accounts_of_the_organization_by_their_access_role(
    organization: LocalOrganization, account: str, of_enroll: Credentials
) -> None:
    assert organization.assume(f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", of_enroll)


@pytest.mark.parametrize("function", ["enroll", "on_account_event"])
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
