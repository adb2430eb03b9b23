"""The permissions of the functions' roles with their deployed policies."""

from collections.abc import Mapping
from typing import Any

import pytest

from local.organization import Credentials, LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.calls import (
    ADMINISTRATOR,
    ALLOW_EVERYTHING,
    OTHER_BOUNDARIES,
    READ_ONLY,
    TRUST_ANY_PRINCIPAL,
    Call,
    call,
)
from tests.end_to_end.deployed_stage import POLICY, ROLE, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.function_sessions import FUNCTION_CAPABILITIES, FUNCTIONS, function_session, role_name
from tests.end_to_end.iam_roles import REPAIRS, cause_drift, read_role

OUTSIDE = "555566667777"
KEY = {"account_id": {"S": "111122223333"}}
LEDGER, RECORDS = "rolecall-own-ledger", "rolecall-own-source-policy"
QUEUE, PUBLISH_QUEUE = "<queues>/rolecall-own-accounts", "<queues>/rolecall-own-publish.fifo"

OURS, OTHERS = f"arn:aws:iam::<management>:policy/{POLICY}", "arn:aws:iam::<management>:policy/Others"

# Calls that every function is denied.
NONE = [
    # Use other principals, or let others use its role.
    call("iam:CreateUser", "create_user", UserName="intruder"),
    call("iam:CreateAccessKey", "create_access_key", UserName="bystander"),
    call("iam:CreateLoginProfile", "create_login_profile", UserName="bystander", Password="Th1s-is-long-enough"),
    call(
        "iam:PutUserPolicy", "put_user_policy", UserName="bystander", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING
    ),
    call("iam:CreateRole", "create_role", RoleName="Intruder", AssumeRolePolicyDocument=TRUST_ANY_PRINCIPAL),
    call(
        "iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="<own>", PolicyDocument=TRUST_ANY_PRINCIPAL
    ),
    call(
        "iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Reader", PolicyDocument=TRUST_ANY_PRINCIPAL
    ),
    call(
        "iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName="Open", PolicyDocument=TRUST_ANY_PRINCIPAL
    ),
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
    # Grant permissions to itself, to readers or to others.
    call("iam:PutRolePolicy", "put_role_policy", RoleName="<own>", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="<own>", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="<own>", PolicyArn=OURS),
    call("iam:PutRolePolicy", "put_role_policy", RoleName="Reader", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=ADMINISTRATOR),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OTHERS),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Open", PolicyArn=OURS),
    call("iam:AttachUserPolicy", "attach_user_policy", UserName="bystander", PolicyArn=OURS),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=ADMINISTRATOR),
    call("iam:CreatePolicy", "create_policy", PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OTHERS, PolicyDocument=ALLOW_EVERYTHING),
    call("iam:SetDefaultPolicyVersion", "set_default_policy_version", PolicyArn=OURS, VersionId="v1"),
    # Run code with another role, or change code or configuration.
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
    # Change the organization, or read data.
    call("organizations:CloseAccount", "close_account", AccountId="<account>"),
    call("organizations:RemoveAccountFromOrganization", "remove_account_from_organization", AccountId="<account>"),
    call("s3:ListAllMyBuckets", "list_buckets"),
    call("ec2:DescribeInstances", "describe_instances"),
    call("ssm:GetParameter", "get_parameter", Name="/secret"),
    # Delete work or records.
    call("dynamodb:DeleteItem", "delete_item", TableName=LEDGER, Key=KEY),
    call("dynamodb:DeleteTable", "delete_table", TableName=RECORDS),
    call("dynamodb:PutItem", "put_item", TableName=LEDGER, Item=KEY),
    call("dynamodb:PutItem", "put_item", TableName=RECORDS, Item={"policy_name": {"S": POLICY}}),
    call("sqs:PurgeQueue", "purge_queue", QueueUrl=QUEUE),
    call("sqs:PurgeQueue", "purge_queue", QueueUrl=PUBLISH_QUEUE),
    call("logs:DeleteLogGroup", "delete_log_group", logGroupName="/aws/lambda/rolecall-own-enroll"),
]


def setting(table: str, key: Mapping[str, Any], *attributes: str) -> Call:
    """Return an update that sets some attributes of an item."""
    return call(
        "dynamodb:UpdateItem",
        "update_item",
        TableName=table,
        Key=key,
        UpdateExpression="SET " + ", ".join(f"#{name} = :value" for name in attributes),
        ExpressionAttributeNames={f"#{name}": name for name in attributes},
        ExpressionAttributeValues={":value": {"S": "value"}},
    )


CONTROL, SHARD = {"policy_name": {"S": "#control"}}, {"policy_name": {"S": POLICY}}

LIST_ACCOUNTS = call("organizations:ListAccounts", "list_accounts")
DESCRIBE_ACCOUNT = call("organizations:DescribeAccount", "describe_account", AccountId="<account>")
DESCRIBE_ORGANIZATION = call("organizations:DescribeOrganization", "describe_organization")
SEND_ACCOUNTS = call("sqs:SendMessage", "send_message", QueueUrl=QUEUE, MessageBody="{}")
REQUEST_PUBLISHING = call(
    "sqs:SendMessage",
    "send_message",
    QueueUrl=PUBLISH_QUEUE,
    MessageBody="{}",
    MessageGroupId="source-policy",
    MessageDeduplicationId="one",
)
RECEIVE_ACCOUNTS = call("sqs:ReceiveMessage", "receive_message", QueueUrl=QUEUE)
RECEIVE_PUBLISHING = call("sqs:ReceiveMessage", "receive_message", QueueUrl=PUBLISH_QUEUE)
RECEIVE_DEAD_LETTERS = call("sqs:ReceiveMessage", "receive_message", QueueUrl=f"{QUEUE}-dlq")
INVOKE_PUBLISH = call("lambda:InvokeFunction", "invoke", FunctionName="rolecall-own-publish")

PUT_EVENT = call(
    "events:PutEvents",
    "put_events",
    Entries=[{"EventBusName": "default", "Source": "rolecall.own", "DetailType": "Account Failed", "Detail": "{}"}],
)

READ_ROWS = call("dynamodb:BatchGetItem", "batch_get_item", RequestItems={LEDGER: {"Keys": [KEY]}})
SCAN_ROWS = call("dynamodb:Scan", "scan", TableName=LEDGER)
SET_ACCESS = setting(LEDGER, KEY, "access", "revision")
SET_IN_FORCE = setting(LEDGER, KEY, "in_force_since")
REQUEST_RETIREMENT = setting(LEDGER, KEY, "retirement_requested_at", "revision")

SCAN_RECORDS = call("dynamodb:Scan", "scan", TableName=RECORDS)
WRITE_RECORD = setting(RECORDS, SHARD, "applied")
DELETE_RECORD = call("dynamodb:DeleteItem", "delete_item", TableName=RECORDS, Key=SHARD)
SET_FROZEN = setting(RECORDS, CONTROL, "frozen")
SET_UNINSTALLING = setting(RECORDS, CONTROL, "uninstalling", "uninstalled")
REQUEST_CHECK = setting(RECORDS, CONTROL, "verify_requested_at", "check_requested_at")
RECORD_POLICY_CHANGE = setting(RECORDS, CONTROL, "control_policies_changed_at")

READ_MEMBER_ROLE = call("iam:GetRole", "get_role", RoleName=ROLE)
WRITE_MEMBER_ROLE = [
    call("iam:CreateRole", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=TRUST_ANY_PRINCIPAL),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName=ROLE, PolicyDocument=TRUST_ANY_PRINCIPAL),
    call("iam:PutRolePolicy", "put_role_policy", RoleName=ROLE, PolicyName="more", PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=READ_ONLY),
    call("iam:DeleteRole", "delete_role", RoleName=ROLE),
]
READ_SOURCE_POLICY = call("iam:GetPolicy", "get_policy", PolicyArn=OURS)
WRITE_SOURCE_POLICY = [
    call("iam:CreatePolicy", "create_policy", PolicyName=POLICY, PolicyDocument=ALLOW_EVERYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OURS, PolicyDocument=ALLOW_EVERYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName="Reader", PolicyArn=OURS),
    call("iam:DetachRolePolicy", "detach_role_policy", RoleName="Reader", PolicyArn=OURS),
    call("iam:DeletePolicyVersion", "delete_policy_version", PolicyArn=OURS, VersionId="v1"),
    call("iam:DeletePolicy", "delete_policy", PolicyArn=OURS),
]
ASSUME_ACCESS_ROLE = call(
    "sts:AssumeRole",
    "assume_role",
    RoleArn="arn:aws:iam::<account>:role/OrganizationAccountAccessRole",
    RoleSessionName="on",
)

ALLOWED: list[tuple[list[Call], set[str]]] = [
    ([LIST_ACCOUNTS], {"backfill", "resync"}),
    ([DESCRIBE_ACCOUNT], {"enroll", "backfill", "rerun", "resync", "retire"}),
    ([DESCRIBE_ORGANIZATION], {"publish"}),
    ([SEND_ACCOUNTS], {"on_account_event", "backfill", "rerun", "resync", "retire"}),
    ([REQUEST_PUBLISHING], {"enroll", "backfill", "rerun", "resync", "retire", "freeze"}),
    ([RECEIVE_ACCOUNTS], {"enroll"}),
    ([RECEIVE_PUBLISHING], {"publish"}),
    ([RECEIVE_DEAD_LETTERS], {"rerun"}),
    ([INVOKE_PUBLISH], {"freeze"}),
    ([PUT_EVENT], {"announce_outcome"}),
    ([READ_ROWS], {"enroll", "backfill", "rerun", "resync", "retire"}),
    ([SCAN_ROWS], {"publish", "backfill", "rerun", "resync", "retire"}),
    ([SET_ACCESS], {"enroll"}),
    ([SET_IN_FORCE], {"publish"}),
    ([REQUEST_RETIREMENT], {"retire", "backfill"}),
    ([SCAN_RECORDS], {"enroll", "publish", "backfill", "rerun", "resync", "retire", "freeze"}),
    ([WRITE_RECORD, DELETE_RECORD], {"publish"}),
    ([SET_FROZEN], {"freeze"}),
    ([SET_UNINSTALLING], {"retire", "backfill"}),
    ([REQUEST_CHECK], {"resync"}),
    ([RECORD_POLICY_CHANGE], {"on_account_event"}),
    ([READ_MEMBER_ROLE], {"enroll", "backfill", "rerun", "resync", "retire"}),
    (WRITE_MEMBER_ROLE, {"enroll"}),
    ([READ_SOURCE_POLICY, *WRITE_SOURCE_POLICY], {"publish"}),
    ([ASSUME_ACCESS_ROLE], {"enroll", "backfill", "rerun", "resync", "retire"}),
]
"""Calls and the functions that may make them; every other function is denied."""

CAPABILITY_CALLS = {
    "access roles": ASSUME_ACCESS_ROLE,
    "member roles": call("iam:TagRole", "tag_role", RoleName=ROLE, Tags=[{"Key": "team", "Value": "audit"}]),
    "source policy": call("iam:TagPolicy", "tag_policy", PolicyArn=OURS, Tags=[{"Key": "team", "Value": "audit"}]),
}


@pytest.fixture(scope="module")
def stage(deploy: Deploy, organization: LocalOrganization, reader: str) -> DeployedStage:
    """A stage next to roles whose trust policies allow its functions to assume them."""
    management = organization.management_account_id
    trust = trust_policy(f"arn:aws:iam::{management}:root")
    organization.create_role(management, "Open", trust)
    organization.create_role(OUTSIDE, "OrganizationAccountAccessRole", trust)
    iam = organization.client("iam")
    iam.create_policy(PolicyName="Others", PolicyDocument=ALLOW_EVERYTHING)
    iam.create_user(UserName="bystander")
    return deploy("own", SourcePrincipalArns=reader, MemberRoleTags="team=audit", EventBusName="default")


@pytest.fixture(scope="module")
def bounded(organization: LocalOrganization, deploy: Deploy, reader: str) -> DeployedStage:
    """A stage that has created the management account's member role with a permissions boundary."""
    stage = deploy(
        "bounded",
        SourcePrincipalArns=reader,
        MemberRoleName="Bounded",
        SourcePolicyName="Bounded",
        PermissionsBoundaryArn="arn:{partition}:iam::aws:policy/ReadOnlyAccess",
    )
    stage.enqueue(organization.management_account_id, "backfill")
    stage.wait_for_outcome(organization.management_account_id, "enrolled")
    role = read_role(organization, organization.management_account_id, "Bounded")
    assert role
    assert role["boundary"] == READ_ONLY
    return stage


@pytest.fixture(scope="module")
def account(organization: LocalOrganization, stage: DeployedStage) -> str:
    account_id = organization.create_account("member")
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    organization.create_role(account_id, "Open", trust)
    stage.wait_for_outcome(account_id, "enrolled")
    return account_id


@pytest.fixture(scope="module")
def sessions(organization: LocalOrganization, stage: DeployedStage) -> Mapping[str, Credentials]:
    return {function: function_session(organization, stage, function) for function in FUNCTIONS}


def placeholders(stage: DeployedStage, account_id: str, function: str) -> dict[str, str]:
    return {
        "account": account_id,
        "management": stage.organization.management_account_id,
        "own": role_name(stage, function),
        "queues": stage.environment["QUEUE_URL"].rpartition("/")[0],
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_is_denied_everything_else(
    organization: LocalOrganization,
    stage: DeployedStage,
    account: str,
    sessions: Mapping[str, Credentials],
    function: str,
    subtests: pytest.Subtests,
) -> None:
    values = placeholders(stage, account, function)
    others = [each for calls, allowed in ALLOWED if function not in allowed for each in calls]
    for each in [*NONE, *others]:
        with subtests.test(str(each)):
            each.is_denied(organization, sessions[function], "identity-based policy", **values)


def test_no_function_both_reaches_accounts_and_writes_the_source_policy(
    organization: LocalOrganization, stage: DeployedStage, account: str, sessions: Mapping[str, Credentials]
) -> None:
    stage.enqueue(organization.management_account_id, "backfill")
    stage.wait_until_idle()

    capabilities = {
        function: {
            capability
            for capability, each in CAPABILITY_CALLS.items()
            if each.is_allowed(organization, sessions[function], **placeholders(stage, account, function))
        }
        for function in FUNCTIONS
    }

    assert capabilities == FUNCTION_CAPABILITIES


@pytest.mark.parametrize("denied_call", OTHER_BOUNDARIES, ids=str)
def test_enroll_can_not_remove_or_replace_the_permissions_boundary(
    organization: LocalOrganization, bounded: DeployedStage, denied_call: Call
) -> None:
    denied_call.is_denied(organization, function_session(organization, bounded, "enroll"), "identity-based policy")


def test_only_lambda_assumes_a_functions_role(organization: LocalOrganization, stage: DeployedStage) -> None:
    management = organization.management_account_id
    trust = trust_policy(f"arn:aws:iam::{management}:root")
    other = organization.as_role(organization.create_role(management, "Other", trust, inline=allow_policy("*")))
    for function in FUNCTIONS:
        with denied("sts:AssumeRole"):
            organization.assume(f"arn:aws:iam::{management}:role/{role_name(stage, function)}", other)


def test_enroll_creates_and_repairs_the_management_accounts_role(
    organization: LocalOrganization, stage: DeployedStage
) -> None:
    management = organization.management_account_id
    stage.enqueue(management, "backfill")
    stage.wait_until_idle()
    row = stage.wait_for_outcome(management, "enrolled")
    assert stage.passes(management)[0]["change"] == "created"
    assert (row["trigger"], row.get("access_role")) == ("backfill", None)
    role = stage.role(management)
    cause_drift(organization, management, ROLE)

    repair = stage.reconcile_again(management, "backfill")

    assert set(repair["actions"]) == REPAIRS
    assert stage.role(management) == role
    session = stage.assume_member_role(management)
    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]
