"""DynamoDB: tables in memory, and as much of its expressions as Rolecall writes."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.stub.answer import Answer, Refusal, as_json, raw_json

Item: TypeAlias = dict[str, dict[str, Any]]

_PAGE = 1_000_000  # characters of a page of Scan ("Scanning tables in DynamoDB")
_KEYS = ("account_id", "policy_name")
_CLAUSES = re.compile(r"\b(SET|REMOVE)\b")
_EXISTENCE = re.compile(r"attribute_(not_)?exists\((.+)\)")


@dataclass(slots=True)
class Tables:
    """Keeps items as they were written, and counts how often each item of the source policy's table was placed or marked."""

    tables: dict[str, dict[str, bytes]] = field(default_factory=dict)
    updated: Counter[str] = field(default_factory=Counter)

    def put(self, table: str, items: Iterable[Item]) -> None:
        """Put items into a table."""
        self.tables.setdefault(table, {}).update({_key(item): _written(item) for item in items})

    def answer(self, operation: str, content: dict[str, Any]) -> Answer:
        """Answer a call of DynamoDB."""
        answering: Callable[[dict[str, Any]], Answer] | None = {
            "GetItem": self._get,
            "BatchGetItem": self._get_batch,
            "Scan": self._scan,
            "PutItem": self._put,
            "UpdateItem": self._update,
            "DeleteItem": self._delete,
            "TransactWriteItems": self._transact,
        }.get(operation)
        if answering is None:
            raise Refusal("UnknownOperationException")
        return answering(content)

    def _get(self, content: dict[str, Any]) -> Answer:
        found = self.tables.get(content["TableName"], {}).get(_key(content["Key"]))
        return raw_json(b'{"Item":' + found + b"}" if found else b"{}")

    def _get_batch(self, content: dict[str, Any]) -> Answer:
        responses = []
        for name, wanted in content["RequestItems"].items():
            table = self.tables.get(name, {})
            found = [table[key] for key in map(_key, wanted["Keys"]) if key in table]
            responses.append(json.dumps(name).encode() + b":[" + b",".join(found) + b"]")
        return raw_json(b'{"Responses":{' + b",".join(responses) + b'},"UnprocessedKeys":{}}')

    def _scan(self, content: dict[str, Any]) -> Answer:
        items = list(self.tables.get(content["TableName"], {}).values())
        first = int(content["ExclusiveStartKey"]["page"]["N"]) if "ExclusiveStartKey" in content else 0
        size, last = 0, first
        while last < len(items) and size < _PAGE:
            size += len(items[last])
            last += 1
        following = b',"LastEvaluatedKey":{"page":{"N":"%d"}}' % last if last < len(items) else b""
        return raw_json(b'{"Items":[' + b",".join(items[first:last]) + b"]" + following + b"}")

    def _put(self, content: dict[str, Any]) -> Answer:
        table = self.tables.setdefault(content["TableName"], {})
        key = _key(content["Item"])
        if not _holds(content, _read(table.get(key))):
            raise Refusal("ConditionalCheckFailedException")
        table[key] = _written(content["Item"])
        return raw_json(b"{}")

    def _update(self, content: dict[str, Any]) -> Answer:
        table = self.tables.setdefault(content["TableName"], {})
        key = _key(content["Key"])
        item = _read(table.get(key))
        if not _holds(content, item):
            raise Refusal("ConditionalCheckFailedException")
        table[key] = _written(_updated(content, item))
        self.updated[key] += 1
        return raw_json(b"{}")

    def _delete(self, content: dict[str, Any]) -> Answer:
        self.tables.get(content["TableName"], {}).pop(_key(content["Key"]), None)
        return raw_json(b"{}")

    def _transact(self, content: dict[str, Any]) -> Answer:
        updates = [each["Update"] for each in content["TransactItems"]]
        for update in updates:
            if not _holds(update, _read(self.tables.get(update["TableName"], {}).get(_key(update["Key"])))):
                raise Refusal("TransactionCanceledException", CancellationReasons=[])
        for update in updates:
            self._update({name: value for name, value in update.items() if name != "ConditionExpression"})
        return as_json({})


def _key(item: Item) -> str:
    return next(str(item[name]["S"]) for name in _KEYS if name in item)


def _written(item: Item) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode()


def _read(written: bytes | None) -> Item:
    return json.loads(written) if written else {}


def _holds(content: dict[str, Any], item: Item) -> bool:
    names = content.get("ExpressionAttributeNames", {})
    values = content.get("ExpressionAttributeValues", {})

    def holds(term: str) -> bool:
        existence = _EXISTENCE.fullmatch(term)
        if existence:
            return (names.get(existence[2], existence[2]) in item) is not bool(existence[1])
        name, comparison, value = term.split()
        held = item.get(names.get(name, name))
        if comparison == "=":
            return bool(held == values[value])
        return held is not None and float(held["N"]) < float(values[value]["N"])

    condition = content.get("ConditionExpression")
    return condition is None or any(map(holds, condition.split(" OR ")))


def _updated(content: dict[str, Any], item: Item) -> Item:
    names = content.get("ExpressionAttributeNames", {})
    values = content.get("ExpressionAttributeValues", {})
    updated = {**item, **content["Key"]}
    _, *clauses = _CLAUSES.split(content["UpdateExpression"])
    for clause, parts in zip(clauses[::2], clauses[1::2], strict=True):
        for part in parts.split(","):
            name, _, value = (each.strip() for each in part.partition("="))
            if clause == "SET":
                updated[names.get(name, name)] = values[value]
            else:
                updated.pop(names.get(name, name), None)
    return updated
