"""DynamoDB's own notation of items; boto3's table resource costs a start and more time for every call."""

from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from chalicelib.accounts import written_moment
from chalicelib.arns import AccountId, is_account_id

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize
_hints = cache(get_type_hints)


def written(values: dict[str, Any]) -> dict[str, Any]:
    """Serialize values, each with its type."""
    return {name: {"S": value} if type(value) is str else _serialize(value) for name, value in values.items()}


def read(item: dict[str, Any]) -> dict[str, Any]:
    """Deserialize an item; most of its values are text."""
    return {name: value["S"] if "S" in value else _deserialize(value) for name, value in item.items()}


def encode(value: Any) -> Any:  # noqa: ANN401 - any field of a dataclass
    """Return a value of a dataclass's field as an item holds it: times as ISO 8601, sets of texts as one text, None left out."""
    if is_dataclass(value):
        encoded = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
        return {name: each for name, each in encoded.items() if each is not None}
    if isinstance(value, frozenset):
        # botocore takes ten times as long over a set of thousands. No account id or ARN of a principal holds a space.
        return " ".join(sorted(value))
    if isinstance(value, tuple):
        return [encode(each) for each in value]
    if isinstance(value, datetime):
        return written_moment(value)
    return str(value) if isinstance(value, StrEnum) else value


def decode(kind: Any, value: Any) -> Any:  # noqa: ANN401 - a type, and what an item holds
    """Parse what `encode` returned for a field of a type; raise ValueError or TypeError for anything else."""
    if kind is AccountId:  # by far the most values
        return _checked(value, value, is_right=is_account_id(value))
    arguments = get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: decode(hints[name], each) for name, each in _mapping(value).items() if name in hints})
    if get_origin(kind) is UnionType:
        return decode(arguments[0], value)
    if get_origin(kind) is frozenset:
        listed = value.split() if isinstance(value, str) else [value]
        return frozenset(decode(arguments[0], each) for each in listed)
    if get_origin(kind) is tuple:
        return tuple(decode(arguments[0], each) for each in value)
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        return _checked(moment, value, is_right=moment.tzinfo is not None)
    if kind is int:
        return int(_checked(value, value, is_right=isinstance(value, Decimal) and value == int(value) >= 0))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return _checked(value, value, is_right=isinstance(value, get_origin(kind) or kind))


def _mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401
    return dict(_checked(value, value, is_right=isinstance(value, dict)))


def _checked(parsed: Any, value: Any, *, is_right: bool) -> Any:  # noqa: ANN401
    if not is_right:
        message = f"{value!r} is not what publish writes"
        raise ValueError(message)
    return parsed
