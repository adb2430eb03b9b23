"""How DynamoDB's own client writes an item; boto3's table resource costs a start and every call more."""

from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def written(values: dict[str, Any]) -> dict[str, Any]:
    """Write values, each with its type."""
    return {name: {"S": value} if type(value) is str else _serialize(value) for name, value in values.items()}


def read(item: dict[str, Any]) -> dict[str, Any]:
    """Read what was written; nearly all of it is text, and sets of thousands of texts."""
    return {name: _read(value) for name, value in item.items()}


def _read(value: Any) -> Any:  # noqa: ANN401 - whatever an item holds
    if "S" in value:
        return value["S"]
    return set(value["SS"]) if "SS" in value else _deserialize(value)
