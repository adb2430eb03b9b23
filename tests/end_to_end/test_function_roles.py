"""What the functions may do with their own roles, under the policies that were deployed."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from local.organization import Credentials, LocalOrganization, allowing, trusting
from tests.end_to_end.calls import ADMINISTRATOR, ANYBODY, ANYTHING, OTHER_BOUNDARIES, READ_ONLY, Call, call
from tests.end_to_end.deployed_stage import Deploy, Stage
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.function_sessions import FUNCTIONS, HELD, role_name, session_of
from tests.end_to_end.roles_in_iam import REPAIRS, role_of, spoil

ROLE, POLICY = "CrossAccountReadOnlyRole", "CrossAccountReadOnlyAccess"
OUTSIDE = "555566667777"
KEY = {"account_id": {"S": "111122223333"}}
LEDGER, RECORDS = "rolecall-own-ledger", "rolecall-own-source-policy"
QUEUE, PUBLISH_QUEUE = "<queues>/rolecall-own-accounts", "<queues>/rolecall-own-publish.fifo"

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
    call("dynamodb:DeleteTable", "delete_table", TableName=RECORDS),
    call("dynamodb:PutItem", "put_item", TableName=LEDGER, Item=KEY),
    call("dynamodb:PutItem", "put_item", TableName=RECORDS, Item={"policy_name": {"S": POLICY}}),
    call("sqs:PurgeQueue", "purge_queue", QueueUrl=QUEUE),
    call("sqs:PurgeQueue", "purge_queue", QueueUrl=PUBLISH_QUEUE),
    call("logs:DeleteLogGroup", "delete_log_group", logGroupName="/aws/lambda/rolecall-own-enroll"),
]


def setting(table: str, key: Mapping[str, Any], *attributes: str) -> Call:
    """Write down an update that sets some attributes of an item."""
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

READ_MEMBER_ROLE = call("iam:GetRole", "get_role", RoleName=ROLE)
WRITE_MEMBER_ROLE = [
    call("iam:CreateRole", "create_role", RoleName=ROLE, AssumeRolePolicyDocument=ANYBODY),
    call("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", RoleName=ROLE, PolicyDocument=ANYBODY),
    call("iam:PutRolePolicy", "put_role_policy", RoleName=ROLE, PolicyName="more", PolicyDocument=ANYTHING),
    call("iam:AttachRolePolicy", "attach_role_policy", RoleName=ROLE, PolicyArn=READ_ONLY),
    call("iam:DeleteRole", "delete_role", RoleName=ROLE),
]
READ_SOURCE_POLICY = call("iam:GetPolicy", "get_policy", PolicyArn=OURS)
WRITE_SOURCE_POLICY = [
    call("iam:CreatePolicy", "create_policy", PolicyName=POLICY, PolicyDocument=ANYTHING),
    call("iam:CreatePolicyVersion", "create_policy_version", PolicyArn=OURS, PolicyDocument=ANYTHING),
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
    ([READ_MEMBER_ROLE], {"enroll", "backfill", "rerun", "resync", "retire"}),
    (WRITE_MEMBER_ROLE, {"enroll"}),
    ([READ_SOURCE_POLICY, *WRITE_SOURCE_POLICY], {"publish"}),
    ([ASSUME_ACCESS_ROLE], {"enroll", "backfill", "rerun", "resync", "retire"}),
]
"""What some functions may do, and which; every other function is denied it."""

POWERS = {
    "access roles": ASSUME_ACCESS_ROLE,
    "member roles": call("iam:TagRole", "tag_role", RoleName=ROLE, Tags=[{"Key": "team", "Value": "audit"}]),
    "source policy": call("iam:TagPolicy", "tag_policy", PolicyArn=OURS, Tags=[{"Key": "team", "Value": "audit"}]),
}


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
def sessions(organization: LocalOrganization, stage: Stage) -> Mapping[str, Credentials]:
    return {function: session_of(organization, stage, function) for function in FUNCTIONS}


def enroll_management(stage: Stage) -> list[dict[str, Any]]:
    """Have the management account enrolled, or verified, and return all passes over it."""
    management = stage.organization.management_account_id
    before = len(stage.passes(management))
    stage.send(json.dumps({"account_id": management, "trigger": "backfill"}))
    return stage.passed(management, before + 1)


def values(stage: Stage, account_id: str, function: str) -> dict[str, str]:
    return {
        "account": account_id,
        "management": stage.organization.management_account_id,
        "own": role_name(stage, function),
        "queues": stage.environment["QUEUE_URL"].rpartition("/")[0],
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_nothing_else(
    organization: LocalOrganization,
    stage: Stage,
    account: str,
    sessions: Mapping[str, Credentials],
    function: str,
    subtests: pytest.Subtests,
) -> None:
    known = values(stage, account, function)
    others = [asked for calls, allowed in ALLOWED if function not in allowed for asked in calls]
    for asked in [*NONE, *others]:
        with subtests.test(str(asked)):
            asked.is_denied(organization, sessions[function], "identity-based policy", **known)


def test_no_function_reaches_accounts_and_writes_the_source_policy(
    organization: LocalOrganization, stage: Stage, account: str, sessions: Mapping[str, Credentials]
) -> None:
    enroll_management(stage)
    stage.settled(organization.management_account_id, "enrolled")

    held = {
        function: {
            power
            for power, asked in POWERS.items()
            if asked.is_allowed(organization, sessions[function], **values(stage, account, function))
        }
        for function in FUNCTIONS
    }

    assert held == HELD


@pytest.mark.parametrize("asked", OTHER_BOUNDARIES, ids=str)
def test_the_worker_takes_no_boundary_off_and_sets_no_other(
    organization: LocalOrganization, bounded: Stage, asked: Call
) -> None:
    asked.is_denied(organization, session_of(organization, bounded, "enroll"), "identity-based policy")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_but_lambda_assumes_a_functions_role(
    organization: LocalOrganization, stage: Stage, function: str
) -> None:
    management = organization.management_account_id
    stranger = organization.create_role(
        management, f"Stranger-to-{function}", trusting(f"arn:aws:iam::{management}:root"), inline=allowing("*")
    )
    with denied("sts:AssumeRole"):
        organization.assume(
            f"arn:aws:iam::{management}:role/{role_name(stage, function)}", organization.as_role(stranger)
        )


def test_the_management_account_is_enrolled_and_repaired_by_the_workers_own_role(
    organization: LocalOrganization, stage: Stage, reader: str
) -> None:
    management = organization.management_account_id
    first = enroll_management(stage)[0]
    row = stage.settled(management, "enrolled")
    assert (first["change"], row["trigger"], row.get("access_role")) == ("created", "backfill", None)
    made = role_of(organization, management, ROLE)

    spoil(organization, management, ROLE)

    assert set(enroll_management(stage)[-1]["actions"]) == REPAIRS
    assert role_of(organization, management, ROLE) == made
    session = organization.assume(stage.member_role(management), organization.as_role(reader))
    assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]
