"""IAM is enforced in each service that Rolecall and its readers call: what a policy allows works, and nothing else does."""

from collections.abc import Callable
from typing import Any

import pytest

from local.organization import Credentials, Document, LocalOrganization, allowing, trusting
from tests.end_to_end.emulator.refusals import denied

KEY = {"id": {"S": "1"}}


@pytest.fixture(scope="module")
def queue(organization: LocalOrganization) -> str:
    return str(organization.client("sqs").create_queue(QueueName="enforced")["QueueUrl"])


@pytest.fixture(scope="module")
def table(organization: LocalOrganization) -> str:
    organization.client("dynamodb").create_table(
        TableName="enforced",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return f"arn:aws:dynamodb:us-east-1:{organization.management_account_id}:table/enforced"


@pytest.fixture
def client(organization: LocalOrganization, request: pytest.FixtureRequest) -> Any:
    """Make a client of a new role of the management account that may do what a policy says."""
    made = 0

    def make(service: str, policy: Document) -> Any:
        nonlocal made
        made += 1
        account_id = organization.management_account_id
        name = f"{request.node.name[5:55]}-{made}"
        arn = organization.create_role(account_id, name, trusting(f"arn:aws:iam::{account_id}:root"), inline=policy)
        return organization.client(service, credentials=organization.assume(arn))

    return make


def test_a_batch_of_sqs_is_authorized_as_the_single_action(
    organization: LocalOrganization, client: Any, queue: str
) -> None:
    arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:enforced"
    one = client("sqs", allowing("sqs:SendMessage", "sqs:ChangeMessageVisibility", "sqs:ReceiveMessage", resource=arn))
    entries = [{"Id": "1", "MessageBody": "hello"}]
    assert one.send_message_batch(QueueUrl=queue, Entries=entries)["Successful"]
    handle = one.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
    changes = [{"Id": "1", "ReceiptHandle": handle, "VisibilityTimeout": 0}]
    assert one.change_message_visibility_batch(QueueUrl=queue, Entries=changes)["Successful"]
    with denied("sqs:DeleteMessage"):
        one.delete_message_batch(QueueUrl=queue, Entries=[{"Id": "1", "ReceiptHandle": handle}])
    with denied("sqs:SendMessage"):
        client("sqs", allowing("sqs:SendMessageBatch")).send_message_batch(QueueUrl=queue, Entries=entries)


def test_tables_are_read_and_written_with_permission(client: Any, table: str) -> None:
    writer = client("dynamodb", allowing("dynamodb:UpdateItem", "dynamodb:Scan", "dynamodb:PutItem", resource=table))
    writer.update_item(
        TableName="enforced", Key=KEY, UpdateExpression="SET a = :a", ExpressionAttributeValues={":a": {"S": "b"}}
    )
    assert {"id": {"S": "1"}, "a": {"S": "b"}} in writer.scan(TableName="enforced")["Items"]
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("GetItem", lambda: writer.get_item(TableName="enforced", Key=KEY)),
        ("BatchGetItem", lambda: writer.batch_get_item(RequestItems={"enforced": {"Keys": [KEY]}})),
        ("DeleteItem", lambda: writer.delete_item(TableName="enforced", Key=KEY)),
    ]
    for action, call in calls:
        with denied(f"dynamodb:{action}"):
            call()
    elsewhere = client("dynamodb", allowing("dynamodb:Scan", resource=table + "-other"))
    with denied("dynamodb:Scan"):
        elsewhere.scan(TableName="enforced")


def test_a_transaction_is_authorized_as_its_parts(client: Any, table: str) -> None:
    put = {"Put": {"TableName": "enforced", "Item": {"id": {"S": "2"}}}}
    check = {
        "ConditionCheck": {
            "TableName": "enforced",
            "Key": {"id": {"S": "3"}},
            "ConditionExpression": "attribute_not_exists(id)",
        }
    }
    client("dynamodb", allowing("dynamodb:PutItem", resource=table)).transact_write_items(TransactItems=[put])
    both = client("dynamodb", allowing("dynamodb:PutItem", "dynamodb:ConditionCheckItem", resource=table))
    both.transact_write_items(TransactItems=[put, check])
    with denied("dynamodb:ConditionCheckItem"):
        client("dynamodb", allowing("dynamodb:PutItem", resource=table)).transact_write_items(
            TransactItems=[put, check]
        )
    with denied("dynamodb:PutItem"):
        client("dynamodb", allowing("dynamodb:TransactWriteItems", resource=table)).transact_write_items(
            TransactItems=[put]
        )


SET = {"UpdateExpression": "SET #a = :v", "ExpressionAttributeValues": {":v": {"S": "v"}}}


@pytest.mark.parametrize(
    ("update", "allowed"),
    [
        ({**SET, "ExpressionAttributeNames": {"#a": "one"}}, True),
        ({**SET, "ExpressionAttributeNames": {"#a": "other"}}, False),
        ({**SET, "UpdateExpression": "SET #a.b = :v", "ExpressionAttributeNames": {"#a": "other"}}, False),
        ({**SET, "UpdateExpression": "SET one = if_not_exists(two, :v)"}, True),
        ({**SET, "UpdateExpression": "SET one = if_not_exists(other, :v)"}, False),
        ({**SET, "UpdateExpression": "SET one = :v REMOVE other"}, False),
        (
            {**SET, "UpdateExpression": "SET one = :v", "ConditionExpression": "attribute_exists(id) AND two <> :v"},
            True,
        ),
        ({**SET, "UpdateExpression": "SET one = :v", "ConditionExpression": "NOT other = :v"}, False),
        ({"AttributeUpdates": {"other": {"Action": "PUT", "Value": {"S": "v"}}}}, False),
        ({"Key": {"id": {"S": "2"}}, **SET, "UpdateExpression": "SET one = :v"}, False),
        ({**SET, "UpdateExpression": "SET one = :v", "ReturnValues": "NONE"}, True),
        ({**SET, "UpdateExpression": "SET one = :v", "ReturnValues": "ALL_NEW"}, False),
    ],
)
def test_an_update_is_limited_by_keys(
    organization: LocalOrganization, client: Any, table: str, update: dict[str, Any], allowed: bool
) -> None:
    key = {"id": {"S": "limited"}}
    organization.client("dynamodb").put_item(TableName="enforced", Item=key)
    condition = {
        "ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["limited"], "dynamodb:Attributes": ["id", "one", "two"]},
        "Null": {"dynamodb:LeadingKeys": "false", "dynamodb:Attributes": "false"},
        "StringEqualsIfExists": {"dynamodb:ReturnValues": "NONE"},
    }
    writer = client("dynamodb", allowing("dynamodb:UpdateItem", resource=table, condition=condition))
    request = {"TableName": "enforced", "Key": key} | update
    if allowed:
        writer.update_item(**request)
    else:
        with denied("dynamodb:UpdateItem"):
            writer.update_item(**request)


def test_one_item_may_be_kept_from_writers(client: Any, table: str) -> None:
    condition = {
        "ForAllValues:StringNotEquals": {"dynamodb:LeadingKeys": ["#kept"]},
        "Null": {"dynamodb:LeadingKeys": "false"},
    }
    writer = client(
        "dynamodb", allowing("dynamodb:PutItem", "dynamodb:DeleteItem", resource=table, condition=condition)
    )
    writer.put_item(TableName="enforced", Item={"id": {"S": "free"}})
    writer.delete_item(TableName="enforced", Key={"id": {"S": "free"}})
    with denied("dynamodb:PutItem"):
        writer.put_item(TableName="enforced", Item={"id": {"S": "#kept"}})
    with denied("dynamodb:DeleteItem"):
        writer.delete_item(TableName="enforced", Key={"id": {"S": "#kept"}})


def test_objects_parameters_and_users_are_read_with_permission(organization: LocalOrganization, client: Any) -> None:
    organization.client("s3").create_bucket(Bucket="enforced")
    organization.client("s3").put_object(Bucket="enforced", Key="object", Body=b"data")
    organization.client("ssm").put_parameter(Name="/enforced", Value="data", Type="String")
    for service, action, call, arguments in (
        ("s3", "s3:ListAllMyBuckets", "list_buckets", {}),
        ("s3", "s3:GetObject", "get_object", {"Bucket": "enforced", "Key": "object"}),
        ("ssm", "ssm:GetParameter", "get_parameter", {"Name": "/enforced"}),
        ("iam", "iam:GetAccountSummary", "get_account_summary", {}),
        ("lambda", "lambda:ListFunctions", "list_functions", {}),
        ("organizations", "organizations:ListAccounts", "list_accounts", {}),
        ("logs", "logs:DescribeLogGroups", "describe_log_groups", {}),
    ):
        getattr(client(service, allowing(action)), call)(**arguments)
        with denied(action):
            getattr(client(service, allowing("sts:GetCallerIdentity")), call)(**arguments)


def test_read_only_access_reads_data_unless_that_is_denied(organization: LocalOrganization, account: str) -> None:
    organization.client("ssm", account).put_parameter(Name="/secret", Value="data", Type="String")
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ssm:GetParameter*", "Resource": "*"}]}
    sessions: list[Credentials] = []
    for name, inline in (("ReadsData", None), ("ReadsNoData", deny)):
        arn = organization.create_role(account, name, trust, ["arn:aws:iam::aws:policy/ReadOnlyAccess"], inline)
        sessions.append(organization.assume(arn))
    for session in sessions:
        assert organization.client("iam", credentials=session).get_account_summary()["SummaryMap"]
        with denied("iam:CreateUser"):
            organization.client("iam", credentials=session).create_user(UserName="writer")
    assert (
        organization.client("ssm", credentials=sessions[0]).get_parameter(Name="/secret")["Parameter"]["Value"]
        == "data"
    )
    with denied("ssm:GetParameter"):
        organization.client("ssm", credentials=sessions[1]).get_parameter(Name="/secret")


@pytest.mark.parametrize(
    "name", ["ReadOnlyAccess", "AdministratorAccess", "SecurityAudit", "job-function/ViewOnlyAccess"]
)
def test_the_managed_policies_that_readers_get_are_there(
    organization: LocalOrganization, account: str, name: str
) -> None:
    trust = trusting(f"arn:aws:iam::{organization.management_account_id}:root")
    role = name.replace("/", "-")
    session = organization.assume(organization.create_role(account, role, trust, [f"arn:aws:iam::aws:policy/{name}"]))
    assert organization.client("iam", credentials=session).list_roles()["Roles"]
