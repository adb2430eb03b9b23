"""DynamoDB's own notation of items, and the calls that both tables need.

boto3's table resource costs a start and more time for every call.
"""

from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from chalicelib.accounts import format_time
from chalicelib.arns import AccountId, is_account_id
from chalicelib.aws.errors import error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize
_hints = cache(get_type_hints)

INLINE = {"inline": True}
"""The metadata of a dataclass's field whose own fields an item holds in its place."""


def written(values: dict[str, Any]) -> dict[str, Any]:
    """Serialize values, each with its type."""
    return {name: {"S": value} if type(value) is str else _serialize(value) for name, value in values.items()}


def read(item: dict[str, Any]) -> dict[str, Any]:
    """Deserialize an item; most of its values are text."""
    return {name: value["S"] if "S" in value else _deserialize(value) for name, value in item.items()}


def scan(client: "DynamoDBClient", table: str, **more: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - the call's other parameters, here and below
    """Yield every item of a table, consistently, page by page."""
    start: dict[str, Any] = {}
    while True:
        page = client.scan(TableName=table, ConsistentRead=True, **more, **start)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def update(
    client: "DynamoDBClient",
    table: str,
    key: dict[str, Any],
    change: str,
    *,
    condition: str | None = None,
    names: Collection[str] = (),
    values: dict[str, Any],
) -> bool:
    """Update an item, or return False if the condition isn't met; `names` are the attributes that expressions write with a #."""
    optional: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
    optional |= {"ExpressionAttributeValues": written(values)} if values else {}
    optional |= {"ExpressionAttributeNames": {f"#{name}": name for name in names}} if names else {}
    try:
        client.update_item(TableName=table, Key=written(key), UpdateExpression=change, **optional)
    except ClientError as error:
        if error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True


def set_and_remove(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the expression that sets attributes and removes those that are None, and the values that it takes."""
    present = {name: value for name, value in values.items() if value is not None}
    clauses = {"SET": [f"#{name} = :{name}" for name in present]}
    clauses["REMOVE"] = [f"#{name}" for name in values if name not in present]
    expression = " ".join(f"{verb} {', '.join(each)}" for verb, each in clauses.items() if each)
    return expression, {f":{name}": value for name, value in present.items()}


def encode(value: Any, kind: Any = None) -> Any:  # noqa: ANN401 - a dataclass, or any of its fields
    """Return a dataclass as an item holds it: times as ISO 8601, account ids as one text, None left out.

    A field that is marked as INLINE has its fields in the parent's place.
    """
    if is_dataclass(value):
        encoded: dict[str, Any] = {}
        hints = _hints(type(value))  # type: ignore[arg-type] # a type can be hashed
        for field in fields(value):
            each = encode(getattr(value, field.name), hints[field.name])
            encoded |= each if field.metadata == INLINE else {field.name: each} if each is not None else {}
        return encoded
    if isinstance(value, frozenset):
        # botocore takes ten times as long over a set of thousands of account ids as over one text.
        return ",".join(sorted(value)) if kind == frozenset[AccountId] else sorted(value)
    if isinstance(value, tuple):
        return [encode(each) for each in value] or None
    if isinstance(value, datetime):
        return format_time(value)
    return str(value) if isinstance(value, StrEnum) else value


def decode(kind: Any, value: Any) -> Any:  # noqa: ANN401 - a type, and what an item holds
    """Parse what `encode` returned for a type; raise ValueError or TypeError for anything else."""
    arguments = get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        held = dict(_checked(value, value, is_right=isinstance(value, dict)))
        held |= {field.name: held for field in fields(kind) if field.metadata == INLINE}
        hints = _hints(kind)
        # Only None and an empty tuple are left out: an item without another field was edited.
        present = {
            name: hint for name, hint in hints.items() if name in held or get_origin(hint) not in {UnionType, tuple}
        }
        return kind(**{name: decode(hint, held[name]) for name, hint in present.items()})
    if get_origin(kind) is UnionType:
        return decode(arguments[0], value)
    if kind == frozenset[AccountId]:
        account_ids = frozenset(value.split(",") if value else ())
        return _checked(account_ids, value, is_right=all(map(is_account_id, account_ids)))
    if get_origin(kind) in {frozenset, tuple}:
        listed = _checked(value, value, is_right=isinstance(value, list))
        return get_origin(kind)(decode(arguments[0], each) for each in listed)
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        return _checked(moment, value, is_right=moment.tzinfo is not None)
    if kind is int:
        return int(_checked(value, value, is_right=isinstance(value, Decimal) and value == int(value) >= 0))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return _checked(value, value, is_right=isinstance(value, get_origin(kind) or kind))


def _checked(parsed: Any, value: Any, *, is_right: bool) -> Any:  # noqa: ANN401
    if not is_right:
        message = f"{value!r} is not what publish writes"
        raise ValueError(message)
    return parsed
