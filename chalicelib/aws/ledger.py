"""The ledger: one row of one table for each account, saying where it stands and why."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.accounts import Change, LedgerRow, Outcome
from chalicelib.arns import AccountId, is_account_id
from chalicelib.aws import items
from chalicelib.aws.failures import error_code
from chalicelib.errors import Reason, RolecallError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_BATCH = 100  # keys of one BatchGetItem ("Quotas in Amazon DynamoDB")
_ASKS = 10
_MOST_ATTEMPTS = 1_000_000
_KNOWN = {field.name for field in fields(LedgerRow)}
_OUTCOMES, _CHANGES, _REASONS = ({each.value: each for each in words} for words in (Outcome, Change, Reason))


class Ledger:
    """Reads and writes rows; a row is only written over the one that was read."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        """Take a client and the table's name."""
        self._client = client
        self._name = table

    def read(self, account_ids: Iterable[AccountId]) -> dict[AccountId, LedgerRow]:
        """Read the rows of some accounts; those without a row are left out."""
        keys = [items.written({"account_id": account_id}) for account_id in dict.fromkeys(account_ids)]
        rows: dict[AccountId, LedgerRow] = {}
        for start in range(0, len(keys), _BATCH):
            wanted: Any = {self._name: {"Keys": keys[start : start + _BATCH], "ConsistentRead": True}}
            for _ in range(_ASKS):
                answer = self._client.batch_get_item(RequestItems=wanted)
                for item in answer["Responses"].get(self._name, []):
                    row = _row(item)
                    rows[row.account_id] = row
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
            else:
                message = f"DynamoDB left keys of {self._name} unread {_ASKS} times in a row"
                raise RolecallError(message)
        return rows

    def rows(self) -> Iterator[LedgerRow]:
        """Read the row of every account, page by page; a later release may keep something else in the same table."""
        start: dict[str, Any] = {}
        while True:
            page = self._client.scan(TableName=self._name, ConsistentRead=True, **start)
            yield from (row for row in map(_row, page["Items"]) if is_account_id(row.account_id))
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def write(self, row: LedgerRow, *, over: LedgerRow | None) -> bool:
        """Write a row over the one that was read, or tell by False that somebody else wrote one meanwhile."""
        item = items.written({name: value for name, value in asdict(row).items() if value is not None})
        # Also true where there is no row at all.
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(updated_at)"}
        if over is not None and not over.updated_at:
            # What stands there, if anything, is no text or an empty one.
            condition = {
                "ConditionExpression": "attribute_not_exists(updated_at) OR NOT attribute_type(updated_at, :text) OR updated_at = :nothing",
                "ExpressionAttributeValues": items.written({":text": "S", ":nothing": ""}),
            }
        elif over is not None:
            condition = {
                "ConditionExpression": "updated_at = :read",
                "ExpressionAttributeValues": items.written({":read": over.updated_at}),
            }
        try:
            self._client.put_item(TableName=self._name, Item=item, **condition)
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _row(item: dict[str, Any]) -> LedgerRow:
    """Read an item, of another release or edited by hand, too: what it lacks, or has of another type, is not known."""
    texts = {name: value["S"] for name, value in item.items() if name in _KNOWN and "S" in value}
    outcome, change, reason = (texts.get(name, "") for name in ("outcome", "change", "reason"))
    return LedgerRow(
        **{
            **texts,
            "outcome": _OUTCOMES.get(outcome, Outcome.FAILED),
            "change": _CHANGES.get(change, Change.NONE),
            "reason": _REASONS.get(reason),
            "attempts": _attempts(item.get("attempts", {}).get("N", "0")),
            "updated_at": texts.get("updated_at", ""),
        }
    )


def _attempts(written: str) -> int:
    # A number may have 126 digits in DynamoDB, which boto3 refuses to read, and nothing could be computed with.
    return int(min(max(Decimal(written), Decimal(0)), Decimal(_MOST_ATTEMPTS)))
