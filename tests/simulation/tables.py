"""DynamoDB in memory: consistent reads, and only the expressions that Rolecall writes; any other is an error of the simulation."""

import re
from decimal import Decimal
from typing import Any

from tests.simulation.answers import refusal

KEYS = ("account_id", "policy_name")
PAGE = 3  # items of a scan's page: others come between pages

Item = dict[str, Any]


class Tables:
    """Every table by its name, every item by its key, in DynamoDB's own notation; an item is replaced, and never altered."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Item]] = {}
        self._tokens: set[str] = set()

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
        page = {"Items": [table[key] for key in keys[:PAGE]]}
        if len(keys) <= PAGE:
            return page
        last = table[keys[PAGE - 1]]
        return {**page, "LastEvaluatedKey": dict([next((name, last[name]) for name in KEYS if name in last)])}

    def _PutItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        table, key = self._table(asked), _key(asked["Item"])
        _require(table.get(key, {}), asked)
        table[key] = asked["Item"]
        return {}

    def _UpdateItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        held = self._table(asked).get(_key(asked["Key"]), {})
        _require(held, asked)
        self._update(asked)
        return {}

    def _DeleteItem(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        self._table(asked).pop(_key(asked["Key"]), None)
        return {}

    def _TransactWriteItems(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        if asked["ClientRequestToken"] in self._tokens:
            return {}
        updates = [each["Update"] for each in asked["TransactItems"] if "Update" in each]
        deletions = [each["Delete"] for each in asked["TransactItems"] if "Delete" in each]
        assert len(updates) + len(deletions) == len(asked["TransactItems"])
        for update in updates:
            held = self._table(update).get(_key(update["Key"]), {})
            if not _holds(held, update):
                raise refusal("TransactionCanceledException", "[ConditionalCheckFailed]")
        for update in updates:
            self._update(update)
        for deletion in deletions:
            self._DeleteItem(deletion)
        self._tokens.add(asked["ClientRequestToken"])
        return {}

    def _table(self, asked: Any) -> dict[str, Item]:
        return self.items.setdefault(asked["TableName"], {})

    def _update(self, asked: Any) -> None:
        table, key = self._table(asked), _key(asked["Key"])
        names = asked.get("ExpressionAttributeNames", {})
        values = asked.get("ExpressionAttributeValues", {})
        item = {**asked["Key"], **table.get(key, {})}
        added = re.fullmatch(r"ADD (\S+) (\S+)", asked["UpdateExpression"])
        if added:
            name = names.get(added[1], added[1])
            if "N" not in item.get(name, {"N": "0"}):
                raise refusal("ValidationException", "An operand in the update expression has an incorrect data type")
            item[name] = {"N": str(Decimal(item.get(name, {"N": "0"})["N"]) + Decimal(values[added[2]]["N"]))}
            table[key] = item
            return
        _, sets, removes = re.fullmatch(
            r"(SET (?P<sets>.+?))? ?(REMOVE (?P<removes>.+))?", asked["UpdateExpression"]
        ).group(0, "sets", "removes")  # type: ignore[union-attr]
        for part in (sets or "").split(","):
            if part.strip():
                name, value = (word.strip() for word in part.split("="))
                item[names.get(name, name)] = values[value]
        for part in (removes or "").split(","):
            if part.strip():
                item.pop(names.get(part.strip(), part.strip()), None)
        table[key] = item


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
    missing = re.fullmatch(r"attribute_not_exists\((.+)\)", part)
    if missing:
        return names.get(missing[1], missing[1]) not in held
    present = re.fullmatch(r"attribute_exists\((.+)\)", part)
    if present:
        return names.get(present[1], present[1]) in held
    typed = re.fullmatch(r"NOT attribute_type\((.+), (.+)\)", part)
    if typed:
        return values[typed[2]]["S"] not in held.get(typed[1], {})
    name, sign, value = part.split()
    found, given = held.get(names.get(name, name)), values[value]
    if found is None:
        return False
    if sign == "<":
        return "N" in found and Decimal(found["N"]) < Decimal(given["N"])
    assert sign == "=", part
    return bool(found == given)
