"""The calls of a first event (one new account, no shard yet), bare: fresh clients, and every argument worked out beforehand."""

import contextlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from benchmarks.deployment import ENVIRON, MANAGEMENT
from benchmarks.same_calls import SameCalls
from benchmarks.stub.kinds import Kind, account_id
from benchmarks.stub.rows import ledger_row

if TYPE_CHECKING:
    import boto3

_ACCOUNT = account_id(Kind.NEW, 0)
_CALLS = SameCalls.of(Kind.NEW)
_POLICY = f"arn:aws:iam::{MANAGEMENT}:policy/CrossAccountReadOnlyAccess"
_ROW = ledger_row(_ACCOUNT)


def call(session: "boto3.Session") -> None:
    """Make them, in their order."""
    dynamodb: Any = session.client("dynamodb")
    shards = ENVIRON["SOURCE_POLICY_TABLE"]
    # The functions' queue is among the clients: an event's messages may have to be handed back.
    session.client("sqs")
    organizations, sts, iam = session.client("organizations"), session.client("sts"), session.client("iam")
    dynamodb.batch_get_item(RequestItems={ENVIRON["LEDGER_TABLE"]: {"Keys": [{"account_id": _ROW["account_id"]}]}})
    _load(dynamodb, shards)
    iam.get_account_summary()
    with contextlib.suppress(ClientError):
        iam.get_role(RoleName="Reader")
    iam.list_attached_role_policies(RoleName="Reader")
    with contextlib.suppress(ClientError):
        iam.get_policy(PolicyArn=_POLICY)
    organizations.describe_account(AccountId=_ACCOUNT)
    credentials = _CALLS.assume(sts, _ACCOUNT)
    entered = session.client(
        "iam",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    _CALLS.work(entered)
    _load(dynamodb, shards)
    key = {"policy_name": {"S": "CrossAccountReadOnlyAccess"}}
    update = {
        "TableName": shards,
        "Key": key,
        "UpdateExpression": "SET version = :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    dynamodb.transact_write_items(TransactItems=[{"Update": update}])
    dynamodb.update_item(**update)
    _load(dynamodb, shards)
    iam.create_policy(PolicyName="CrossAccountReadOnlyAccess", PolicyDocument="{}")
    iam.attach_role_policy(RoleName="Reader", PolicyArn=_POLICY)
    dynamodb.update_item(**update)
    _load(dynamodb, shards)
    dynamodb.update_item(**update)
    dynamodb.put_item(TableName=ENVIRON["LEDGER_TABLE"], Item=_ROW)


def _load(dynamodb: Any, table: str) -> None:  # noqa: ANN401 - a client
    dynamodb.get_item(TableName=table, Key={"policy_name": {"S": "#placement"}}, ConsistentRead=True)
    dynamodb.scan(TableName=table, ConsistentRead=True)
