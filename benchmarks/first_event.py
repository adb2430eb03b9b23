"""The calls of a first event (one new account) with new clients and precomputed arguments."""

from typing import TYPE_CHECKING, Any

from benchmarks.deployment import ENVIRON
from benchmarks.reference_calls import ReferenceCalls
from benchmarks.stub.role_states import RoleState, account_id
from benchmarks.stub.rows import row_update

if TYPE_CHECKING:
    import boto3

_ACCOUNT = account_id(RoleState.NEW, 0)
_CALLS = ReferenceCalls.of(RoleState.NEW)
_UPDATE = row_update(_ACCOUNT)


def call(session: "boto3.Session") -> None:
    """Make the calls in the order in which enroll makes them."""
    dynamodb: Any = session.client("dynamodb")
    sqs, organizations, sts = session.client("sqs"), session.client("organizations"), session.client("sts")
    dynamodb.batch_get_item(RequestItems={ENVIRON["LEDGER_TABLE"]: {"Keys": [_UPDATE["Key"]]}})
    dynamodb.scan(TableName=ENVIRON["SOURCE_POLICY_TABLE"], ConsistentRead=True)
    organizations.describe_account(AccountId=_ACCOUNT)
    credentials = _CALLS.assume(sts, _ACCOUNT)
    entered = session.client(
        "iam",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    _CALLS.work(entered)
    dynamodb.update_item(**_UPDATE)
    sqs.send_message(
        QueueUrl=ENVIRON["PUBLISH_QUEUE_URL"],
        MessageBody="{}",
        MessageGroupId="source-policy",
        MessageDeduplicationId="0" * 32,
    )
