"""DynamoDB's own notation of items; boto3's table resource costs a start and more time for every call."""

from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def written(values: dict[str, Any]) -> dict[str, Any]:
    """Serialize values, each with its type."""
    return {name: {"S": value} if type(value) is str else _serialize(value) for name, value in values.items()}


def read(item: dict[str, Any]) -> dict[str, Any]:
    """Deserialize an item; most of its values are text."""
    return {name: value["S"] if "S" in value else _deserialize(value) for name, value in item.items()}
