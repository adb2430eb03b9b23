"""DynamoDB's condition keys: which item a write is of, which attributes it names, and what it returns."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core import iam_actions
from ministack.services import dynamodb

_OF_ONE_ITEM = ("GetItem", "PutItem", "UpdateItem", "DeleteItem")
_EXPRESSIONS = ("UpdateExpression", "ConditionExpression")
_KEYWORDS = {"SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN"}


def mend() -> None:
    """Add the keys to what ministack reads from a request before it is authorized."""
    iam_actions.request_tag_context = _with_condition_keys(iam_actions.request_tag_context)


def _with_condition_keys(request_tag_context: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def context(service: str, iam_action: str, body: bytes, params: Any) -> dict[str, Any]:
        keys = request_tag_context(service, iam_action, body, params)
        operation = iam_action.removeprefix("dynamodb:")
        if service != "dynamodb" or operation not in _OF_ONE_ITEM:
            return keys
        request = json.loads(body)
        return keys | _leading_keys(request) | (_of_a_write(request) if operation != "GetItem" else {})

    return context


def _leading_keys(request: dict[str, Any]) -> dict[str, Any]:
    """AWS names the partition key's value of the item in dynamodb:LeadingKeys, a list even for one item."""
    table = dynamodb._tables.get(dynamodb._normalize_table_name(request.get("TableName"))) or {}
    value = (request.get("Key") or request.get("Item") or {}).get(table.get("pk_name"), {})
    return {"dynamodb:LeadingKeys": [str(each) for each in value.values()]} if value else {}


def _of_a_write(request: dict[str, Any]) -> dict[str, Any]:
    """AWS lists in dynamodb:Attributes the top-level attributes of the key and of each expression of the request."""
    attributes = {*request.get("Key", {}), *request.get("Item", {})}
    attributes |= {*request.get("AttributeUpdates", {}), *request.get("Expected", {})}
    for expression in _EXPRESSIONS:
        attributes.update(_named(request.get(expression, ""), request.get("ExpressionAttributeNames", {})))
    returned = {"dynamodb:ReturnValues": request["ReturnValues"]} if "ReturnValues" in request else {}
    return {"dynamodb:Attributes": sorted(attributes)} | returned


def _named(expression: str, names: dict[str, str]) -> Iterator[str]:
    """Yield the first element of each document path of an expression."""
    tokens = dynamodb._tokenize(expression)
    for before, (kind, text), (after, _) in zip([("", ""), *tokens], tokens, tokens[1:], strict=False):
        if before[0] == "DOT":
            continue
        if kind == "NAME_REF":
            yield names.get(text, text)
        elif kind == "IDENT" and after != "LPAREN" and text.upper() not in _KEYWORDS:
            yield text
