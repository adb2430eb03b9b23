"""DynamoDB: tables in memory, with the expressions that Rolecall uses."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.stub.response import Response, ServiceError, raw_json_response

Item: TypeAlias = dict[str, dict[str, Any]]

_PAGE = 1_000_000  # characters of a page of Scan ("Scanning tables in DynamoDB")
_KEYS = ("account_id", "policy_name")
_CLAUSES = re.compile(r"\b(SET|REMOVE|ADD)\b")
_EXISTENCE = re.compile(r"attribute_(not_)?exists\((.+)\)")


@dataclass(slots=True)
class Tables:
    """Items as encoded JSON, with counts of scans and of their pages for each table."""

    tables: dict[str, dict[str, bytes]] = field(default_factory=dict)
    scans: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)

    def put(self, table: str, items: Iterable[Item]) -> None:
        """Put items into a table."""
        self.tables.setdefault(table, {}).update({_key(item): _encoded(item) for item in items})

    def handle(self, operation: str, content: dict[str, Any]) -> Response:
        """Return the response to a call of DynamoDB."""
        run: Callable[[dict[str, Any]], Response] | None = {
            "GetItem": self._get,
            "BatchGetItem": self._get_batch,
            "Scan": self._scan,
            "PutItem": self._put,
            "UpdateItem": self._update,
            "DeleteItem": self._delete,
        }.get(operation)
        if run is None:
            raise ServiceError("UnknownOperationException")
        return run(content)

    def _get(self, content: dict[str, Any]) -> Response:
        found = self.tables.get(content["TableName"], {}).get(_key(content["Key"]))
        return raw_json_response(b'{"Item":' + found + b"}" if found else b"{}")

    def _get_batch(self, content: dict[str, Any]) -> Response:
        responses = []
        for name, wanted in content["RequestItems"].items():
            table = self.tables.get(name, {})
            found = [table[key] for key in map(_key, wanted["Keys"]) if key in table]
            responses.append(json.dumps(name).encode() + b":[" + b",".join(found) + b"]")
        return raw_json_response(b'{"Responses":{' + b",".join(responses) + b'},"UnprocessedKeys":{}}')

    def _scan(self, content: dict[str, Any]) -> Response:
        items = list(self.tables.get(content["TableName"], {}).values())
        first = int(content["ExclusiveStartKey"]["page"]["N"]) if "ExclusiveStartKey" in content else 0
        size, last = 0, first
        while last < len(items) and size < _PAGE:
            size += len(items[last])
            last += 1
        following = b',"LastEvaluatedKey":{"page":{"N":"%d"}}' % last if last < len(items) else b""
        self.scans[content["TableName"]] += not first
        self.pages[content["TableName"]] += 1
        return raw_json_response(
            b'{"Items":[' + b",".join(_projected(content, items[first:last])) + b"]" + following + b"}"
        )

    def _put(self, content: dict[str, Any]) -> Response:
        table = self.tables.setdefault(content["TableName"], {})
        key = _key(content["Item"])
        if not _holds(content, _decoded(table.get(key))):
            raise ServiceError("ConditionalCheckFailedException")
        table[key] = _encoded(content["Item"])
        return raw_json_response(b"{}")

    def _update(self, content: dict[str, Any]) -> Response:
        table = self.tables.setdefault(content["TableName"], {})
        key = _key(content["Key"])
        item = _decoded(table.get(key))
        if not _holds(content, item):
            raise ServiceError("ConditionalCheckFailedException")
        table[key] = _encoded(_updated(content, item))
        return raw_json_response(b"{}")

    def _delete(self, content: dict[str, Any]) -> Response:
        self.tables.get(content["TableName"], {}).pop(_key(content["Key"]), None)
        return raw_json_response(b"{}")


def _key(item: Item) -> str:
    return next(str(item[name]["S"]) for name in _KEYS if name in item)


def _encoded(item: Item) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode()


def _decoded(written: bytes | None) -> Item:
    return json.loads(written) if written else {}


def _projected(content: dict[str, Any], items: list[bytes]) -> Iterable[bytes]:
    """Return the items with the attributes that the request asks for."""
    if "ProjectionExpression" not in content:
        return items
    aliases = content.get("ExpressionAttributeNames", {})
    names = [aliases.get(name, name) for name in content["ProjectionExpression"].split(", ")]
    return (_encoded({name: item[name] for name in names if name in item}) for item in map(_decoded, items))


def _holds(content: dict[str, Any], item: Item) -> bool:
    names = content.get("ExpressionAttributeNames", {})
    values = content.get("ExpressionAttributeValues", {})

    def holds(term: str) -> bool:
        if term.startswith("NOT "):
            return not holds(term.removeprefix("NOT "))
        existence = _EXISTENCE.fullmatch(term)
        if existence:
            return (names.get(existence[2], existence[2]) in item) is not bool(existence[1])
        name, comparison, value = term.split()
        held, given = item.get(names.get(name, name)), values[value]
        if comparison == "=":
            return bool(held == given)
        if held is None or "N" not in held:
            return False
        difference = float(held["N"]) - float(given["N"])
        return difference < 0 if comparison == "<" else difference > 0

    condition = content.get("ConditionExpression")
    return condition is None or any(map(holds, condition.split(" OR ")))


def _updated(content: dict[str, Any], item: Item) -> Item:
    names = content.get("ExpressionAttributeNames", {})
    values = content.get("ExpressionAttributeValues", {})
    updated = {**item, **content["Key"]}
    _, *clauses = _CLAUSES.split(content["UpdateExpression"])
    for clause, parts in zip(clauses[::2], clauses[1::2], strict=True):
        for part in parts.split(","):
            if clause == "SET":
                name, value = part.split("=")
                updated[names.get(name.strip(), name.strip())] = values[value.strip()]
            elif clause == "ADD":
                name, value = part.split()
                name = names.get(name, name)
                total = int(updated.get(name, {"N": "0"})["N"]) + int(values[value]["N"])
                updated[name] = {"N": str(total)}
            else:
                updated.pop(names.get(part.strip(), part.strip()), None)
    return updated
