"""DynamoDB in memory: consistent reads, and the few expressions that Rolecall uses."""

import re
from decimal import Decimal
from typing import Any

from tests.integration.simulation.calls import client_error

KEYS = ("account_id", "policy_name")
PAGE = 3  # items of a page; other calls come between pages

Item = dict[str, Any]


class Tables:
    """The items of each table by their key, in DynamoDB's JSON; an item is replaced, never modified."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Item]] = {}
        self.page = PAGE

    def answer(self, operation: str, params: Any) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params))

    def item(self, params: Any) -> Item:
        """Return the item that a call names, or an empty one."""
        return self._table(params).get(_key(params["Key"]), {})

    def _GetItem(self, params: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        assert params["ConsistentRead"], "reads are consistent"
        item = self.item(params)
        return {"Item": item} if item else {}

    def _BatchGetItem(self, params: Any) -> dict[str, Any]:  # noqa: N802
        responses = {}
        for name, request in params["RequestItems"].items():
            assert request["ConsistentRead"], "reads are consistent"
            table = self.items.setdefault(name, {})
            responses[name] = [table[key] for each in request["Keys"] if (key := _key(each)) in table]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _Scan(self, params: Any) -> dict[str, Any]:  # noqa: N802
        assert params["ConsistentRead"], "reads are consistent"
        table = self._table(params)
        after = _key(params["ExclusiveStartKey"]) if "ExclusiveStartKey" in params else ""
        keys = sorted(key for key in table if key > after)
        page = {"Items": [_projected(table[key], params) for key in keys[: self.page]]}
        if len(keys) <= self.page:
            return page
        last = table[keys[self.page - 1]]
        return {**page, "LastEvaluatedKey": dict([next((name, last[name]) for name in KEYS if name in last)])}

    def _UpdateItem(self, params: Any) -> dict[str, Any]:  # noqa: N802
        item = self.item(params)
        if not _holds(item, params):
            raise client_error("ConditionalCheckFailedException", "The conditional request failed")
        self._table(params)[_key(params["Key"])] = _updated({**params["Key"], **item}, params)
        return {}

    def _DeleteItem(self, params: Any) -> dict[str, Any]:  # noqa: N802
        self._table(params).pop(_key(params["Key"]), None)
        return {}

    def _table(self, params: Any) -> dict[str, Item]:
        return self.items.setdefault(params["TableName"], {})


_UPDATE = re.compile(
    r"(SET (?P<sets>[^A-Z]+?))? ?(REMOVE (?P<removes>[^A-Z]+?))? ?(ADD (?P<added>\S+) (?P<amount>\S+))?"
)


def _updated(item: Item, params: Any) -> Item:
    """Return a new item, changed by the update expression."""
    names = params.get("ExpressionAttributeNames", {})
    values = params.get("ExpressionAttributeValues", {})
    _require_used(params, {*names, *values})
    update = _UPDATE.fullmatch(params["UpdateExpression"])
    assert update is not None, params["UpdateExpression"]
    for name, value in re.findall(r"(\S+) = (:\w+)", update["sets"] or ""):
        item[names.get(name, name)] = values[value]
    for name in re.findall(r"[^\s,]+", update["removes"] or ""):
        item.pop(names.get(name, name), None)
    if added := update["added"]:
        number = item.get(added, {"N": "0"})
        if "N" not in number:
            raise client_error("ValidationException", "An operand in the update expression has an incorrect data type")
        item[added] = {"N": str(Decimal(number["N"]) + Decimal(values[update["amount"]]["N"]))}
    return item


def _projected(item: Item, params: Any) -> Item:
    if "ProjectionExpression" not in params:
        return item
    names = params.get("ExpressionAttributeNames", {})
    projected = {names.get(name, name) for name in params["ProjectionExpression"].split(", ")}
    return {name: value for name, value in item.items() if name in projected}


def _require_used(params: Any, placeholders: set[str]) -> None:
    """Reject a name or value that no expression uses, as DynamoDB does."""
    used = set(re.findall(r"[#:]\w+", f"{params['UpdateExpression']} {params.get('ConditionExpression', '')}"))
    if placeholders != used:
        raise client_error("ValidationException", f"unused or undefined in expressions: {placeholders ^ used}")


def _key(values: Item) -> str:
    # A row of the ledger may have a policy_name, which is no key there.
    return str(next(values[name]["S"] for name in KEYS if name in values))


def _holds(item: Item, params: Any) -> bool:
    """Whether the condition is met."""
    condition = params.get("ConditionExpression")
    if condition is None:
        return True
    names, values = params.get("ExpressionAttributeNames", {}), params.get("ExpressionAttributeValues", {})
    return any(_is_true(item, part.strip(), names, values) for part in condition.split(" OR "))


def _is_true(item: Item, part: str, names: dict[str, str], values: Item) -> bool:
    if part.startswith("NOT "):
        return not _is_true(item, part.removeprefix("NOT "), names, values)
    function = re.fullmatch(r"attribute_(not_)?exists\((.+)\)", part)
    if function:
        return (names.get(function[2], function[2]) in item) is (function[1] is None)
    name, operator, placeholder = part.split()
    attribute, value = item.get(names.get(name, name)), values[placeholder]
    if operator == "=":
        return bool(attribute == value)
    if attribute is None or "N" not in attribute:
        return False
    number, other = Decimal(attribute["N"]), Decimal(value["N"])
    return {"<": number < other, ">": number > other}[operator]


def plain(item: Item) -> dict[str, Any]:
    """Return an item as Python values, without attributes that are NULL."""
    return {name: _value(value) for name, value in item.items() if "NULL" not in value}


def _value(value: Item) -> Any:
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return float(content) if "." in content else int(content)
        case "SS":
            return set(content)
        case "M":
            return plain(content)
        case "L":
            return [_value(each) for each in content]
    return content
