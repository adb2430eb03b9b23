"""DynamoDB's condition keys: the item's key, the attributes in a request, and the requested return values."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core import iam_actions
from ministack.services import dynamodb

_ITEM_OPERATIONS = ("GetItem", "PutItem", "UpdateItem", "DeleteItem")
_EXPRESSIONS = ("UpdateExpression", "ConditionExpression")
_KEYWORDS = {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN"}


def patch() -> None:
    """Add the condition keys to those that ministack extracts from a request."""
    iam_actions.request_tag_context = _with_condition_keys(iam_actions.request_tag_context)


def _with_condition_keys(request_tag_context: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def context(service: str, iam_action: str, body: bytes, params: Any) -> dict[str, Any]:
        keys = request_tag_context(service, iam_action, body, params)
        operation = iam_action.removeprefix("dynamodb:")
        if service != "dynamodb" or operation not in _ITEM_OPERATIONS:
            return keys
        request = json.loads(body)
        return keys | _leading_keys(request) | (_write_keys(request) if operation != "GetItem" else {})

    return context


def _leading_keys(request: dict[str, Any]) -> dict[str, Any]:
    """Return dynamodb:LeadingKeys: the item's partition key value, in a list even for one item."""
    table = dynamodb._tables.get(dynamodb._normalize_table_name(request.get("TableName"))) or {}
    value = (request.get("Key") or request.get("Item") or {}).get(table.get("pk_name"), {})
    return {"dynamodb:LeadingKeys": [str(each) for each in value.values()]} if value else {}


def _write_keys(request: dict[str, Any]) -> dict[str, Any]:
    """Return dynamodb:Attributes: the top-level attributes of the key and of each expression in the request."""
    attributes = {*request.get("Key", {}), *request.get("Item", {})}
    attributes |= {*request.get("AttributeUpdates", {}), *request.get("Expected", {})}
    for expression in _EXPRESSIONS:
        attributes.update(_attributes_in(request.get(expression, ""), request.get("ExpressionAttributeNames", {})))
    returned = {"dynamodb:ReturnValues": request["ReturnValues"]} if "ReturnValues" in request else {}
    return {"dynamodb:Attributes": sorted(attributes)} | returned


def _attributes_in(expression: str, names: dict[str, str]) -> Iterator[str]:
    """Yield the first element of each document path in an expression."""
    tokens = dynamodb._tokenize(expression)
    for before, (kind, text), (after, _) in zip([("", ""), *tokens], tokens, tokens[1:], strict=False):
        if before[0] == "DOT":
            continue
        if kind == "NAME_REF":
            yield names.get(text, text)
        elif kind == "IDENT" and after != "LPAREN" and text.upper() not in _KEYWORDS:
            yield text
