"""DynamoDB in memory: consistent reads, and only the expressions that Rolecall writes; any other is an error of the simulation."""

import re
from decimal import Decimal
from typing import Any

from tests.integration.simulation.answers import refusal

KEYS = ("account_id", "policy_name")
PAGE = 3  # items of a scan's page: others come between pages

Item = dict[str, Any]


class Tables:
    """Every table by its name, every item by its key, in DynamoDB's own notation; an item is replaced, and never altered."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Item]] = {}

    def answer(self, operation: str, params: Any) -> dict[str, Any]:
        return dict(getattr(self, f"_{operation}")(params))

    def _GetItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802 - the operation's name, here and below
        assert asked["ConsistentRead"], "a read that decides is consistent"
        item = self._table(asked).get(_key(asked["Key"]))
        return {} if item is None else {"Item": item}

    def _BatchGetItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        found = {}
        for name, wanted in asked["RequestItems"].items():
            assert wanted["ConsistentRead"], "a read that decides is consistent"
            table = self.items.setdefault(name, {})
            found[name] = [table[key] for each in wanted["Keys"] if (key := _key(each)) in table]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _Scan(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        assert asked["ConsistentRead"], "a read that decides is consistent"
        table = self._table(asked)
        after = _key(asked["ExclusiveStartKey"]) if "ExclusiveStartKey" in asked else ""
        keys = sorted(key for key in table if key > after)
        page = {"Items": [_projected(table[key], asked) for key in keys[:PAGE]]}
        if len(keys) <= PAGE:
            return page
        last = table[keys[PAGE - 1]]
        return {**page, "LastEvaluatedKey": dict([next((name, last[name]) for name in KEYS if name in last)])}

    def _UpdateItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        held = self._table(asked).get(_key(asked["Key"]), {})
        _require(held, asked)
        self._update(asked)
        return {}

    def _DeleteItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        self._table(asked).pop(_key(asked["Key"]), None)
        return {}

    def _table(self, asked: Any) -> dict[str, Item]:
        return self.items.setdefault(asked["TableName"], {})

    def _update(self, asked: Any) -> None:
        table, key = self._table(asked), _key(asked["Key"])
        names = asked.get("ExpressionAttributeNames", {})
        values = asked.get("ExpressionAttributeValues", {})
        _require_used(asked, [*names, *values])
        item = {**asked["Key"], **table.get(key, {})}
        _, sets, removes, added, amount = _UPDATE.fullmatch(asked["UpdateExpression"]).group(  # type: ignore[union-attr]
            0, "sets", "removes", "added", "amount"
        )
        for part in (sets or "").split(","):
            if part.strip():
                name, value = (word.strip() for word in part.split("="))
                item[names.get(name, name)] = values[value]
        for part in (removes or "").split(","):
            if part.strip():
                item.pop(names.get(part.strip(), part.strip()), None)
        if added:
            held = item.get(added, {"N": "0"})
            if "N" not in held:
                raise refusal("ValidationException", "An operand in the update expression has an incorrect data type")
            item[added] = {"N": str(Decimal(held["N"]) + Decimal(values[amount]["N"]))}
        table[key] = item


_UPDATE = re.compile(
    r"(SET (?P<sets>[^A-Z]+?))? ?(REMOVE (?P<removes>[^A-Z]+?))? ?(ADD (?P<added>\S+) (?P<amount>\S+))?"
)


def _projected(item: Item, asked: Any) -> Item:
    if "ProjectionExpression" not in asked:
        return item
    names = asked.get("ExpressionAttributeNames", {})
    wanted = {names.get(name, name) for name in asked["ProjectionExpression"].split(", ")}
    return {name: value for name, value in item.items() if name in wanted}


def _require_used(asked: Any, given: list[str]) -> None:
    """Refuse a name or value that no expression uses, as DynamoDB does."""
    written = f"{asked['UpdateExpression']} {asked.get('ConditionExpression', '')}"
    used = set(re.findall(r"[#:]\w+", written))
    if set(given) != used:
        raise refusal("ValidationException", f"unused or undefined in expressions: {set(given) ^ used}")


def _key(values: Item) -> str:
    # A row of the ledger has a policy_name, too, which is no key there.
    return str(next(values[name]["S"] for name in KEYS if name in values))


def _require(held: Item, asked: Any) -> None:
    if not _holds(held, asked):
        raise refusal("ConditionalCheckFailedException", "The conditional request failed")


def _holds(held: Item, asked: Any) -> bool:
    condition = asked.get("ConditionExpression")
    if condition is None:
        return True
    names, values = asked.get("ExpressionAttributeNames", {}), asked.get("ExpressionAttributeValues", {})
    return any(_is_true(held, part.strip(), names, values) for part in condition.split(" OR "))


def _is_true(held: Item, part: str, names: dict[str, str], values: Item) -> bool:
    if part.startswith("NOT "):
        return not _is_true(held, part.removeprefix("NOT "), names, values)
    function = re.fullmatch(r"attribute_(not_)?exists\((.+)\)", part)
    if function:
        return (names.get(function[2], function[2]) in held) is (function[1] is None)
    name, sign, value = part.split()
    found, given = held.get(names.get(name, name)), values[value]
    if found is None:
        return False
    if sign in "<>":
        if "N" not in found:
            return False
        return Decimal(found["N"]) < Decimal(given["N"]) if sign == "<" else Decimal(found["N"]) > Decimal(given["N"])
    assert sign == "=", part
    return bool(found == given)
