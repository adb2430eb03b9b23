"""Mutants of Rolecall's documents: each element is removed, reversed, widened or compared with another operator.

A mutant is named by the kind of document, the statement, and the change.
"""

from collections.abc import Iterator
from typing import Any

from tests.end_to_end.authorization.world import MANAGEMENT, MEMBER, SOURCE
from tests.end_to_end.authorization.written import Document

Statement = dict[str, Any]
Conditions = dict[str, dict[str, Any]]

_ALL = "Allow AssumeRole TagSession SetSourceIdentity"
_TRUSTS = (f"trust, {_ALL}", "trust, Allow AssumeRole")
_TAGS = "trust, Allow TagSession SetSourceIdentity"
_SHARD, _FREEZE = f"source policy, {_ALL}", "source policy, Deny AssumeRole"

_EQUIVALENT: dict[str, tuple[str, ...]] = {
    "ids of accounts and organizations, and external ids, contain no wildcard": (
        f"{_SHARD}: Condition aws:ResourceOrgID StringLike",
        f"{_SHARD}: Condition aws:ResourceAccount StringLike",
        f"{_SHARD}: Condition aws:ResourceAccount StringNotLike",
        "trust, Allow AssumeRole: Condition sts:ExternalId StringLike",
    ),
    "ids of accounts and organizations contain no upper-case letter": (
        f"{_SHARD}: Condition aws:ResourceOrgID StringEqualsIgnoreCase",
        f"{_SHARD}: Condition aws:ResourceAccount StringEqualsIgnoreCase",
        f"{_SHARD}: Condition aws:ResourceAccount StringNotEqualsIgnoreCase",
    ),
    "every request to assume a role has these keys": (
        f"{_SHARD}: Condition aws:ResourceAccount StringEqualsIfExists",
        *(f"{trust}: Condition aws:PrincipalArn ArnEqualsIfExists" for trust in _TRUSTS),
    ),
    "ArnEquals is ArnLike, and StringLike differs from it only in wildcards that match a colon": tuple(
        f"{trust}: Condition aws:PrincipalArn {operator}" for trust in _TRUSTS for operator in ("ArnLike", "StringLike")
    ),
    "the other of the two policies allows no further action of STS, and trust policies are about STS alone": (
        f"{_SHARD}: Action sts:*",
        *(f"{trust}: Action {action}" for trust in _TRUSTS for action in ("sts:*", "*")),
    ),
    "tags and source identities are only passed by AssumeRole, which the other statement restricts": tuple(
        f"{_TAGS}: {change}"
        for change in (
            "Principal anyone",
            "Principal another account too",
            *(
                f"Condition aws:PrincipalArn {each}"
                for each in ("missing", "ArnLike", "StringLike", "ArnEqualsIfExists", "like *")
            ),
        )
    ),
    "a frozen source policy denies what it allows": (f"{_SHARD}: no statement", f"{_FREEZE}: Action sts:*"),
}
EQUIVALENT = {name: reason for reason, names in _EQUIVALENT.items() for name in names}
"""Mutants that change no answer, and why."""

_OPERATORS = {
    "StringEquals": ("StringNotEquals", "StringLike", "StringEqualsIgnoreCase", "StringEqualsIfExists"),
    "StringNotEquals": ("StringEquals", "StringNotLike", "StringNotEqualsIgnoreCase"),
    "ArnEquals": ("ArnNotEquals", "ArnLike", "StringEquals", "StringLike", "ArnEqualsIfExists"),
}
_KEYS = {
    "aws:ResourceOrgID": "aws:PrincipalOrgID",
    "aws:ResourceAccount": "aws:PrincipalAccount",
    "aws:PrincipalArn": "aws:PrincipalAccount",
    "sts:ExternalId": "sts:RoleSessionName",
}


def mutations(kind: str, document: Document) -> dict[str, Document]:
    """Return every mutant of a document by its name."""
    statements: list[Statement] = document["Statement"]
    found: dict[str, Document] = {}
    for index, statement in enumerate(statements):
        rest = statements[:index], statements[index + 1 :]
        name = f"{kind}, {_name(statement)}"
        if len(statements) > 1:
            found[f"{name}: no statement"] = {**document, "Statement": [*rest[0], *rest[1]]}
        for change, changed in _changes(statement):
            found[f"{name}: {change}"] = {**document, "Statement": [*rest[0], changed, *rest[1]]}
    return found


def _name(statement: Statement) -> str:
    return f"{statement['Effect']} {' '.join(each.removeprefix('sts:') for each in _listed(statement['Action']))}"


def _listed(values: Any) -> list[str]:
    return values if isinstance(values, list) else [values]


def _changes(statement: Statement) -> Iterator[tuple[str, Statement]]:
    yield "Effect", statement | {"Effect": "Deny" if statement["Effect"] == "Allow" else "Allow"}
    for name, values in (
        ("Action", _actions(statement["Action"])),
        ("Resource", _resources(statement.get("Resource", ""))),
        ("Principal", _principals(statement.get("Principal", {}))),
    ):
        if name in statement:
            yield from ((f"{name} {label}", statement | {name: value}) for label, value in values)
        if name in {"Action", "Resource"} & statement.keys():  # IAM rejects Allow with NotPrincipal
            rest = {key: value for key, value in statement.items() if key != name}
            yield f"Not{name}", rest | {f"Not{name}": statement[name]}
    for label, condition in _conditions(statement.get("Condition", {})):
        yield f"Condition {label}", statement | {"Condition": condition}


def _actions(actions: Any) -> Iterator[tuple[str, Any]]:
    listed = _listed(actions)
    for action in listed if len(listed) > 1 else []:
        yield f"without {action}", [each for each in listed if each != action]
    yield "sts:*", "sts:*"
    yield "*", "*"


def _resources(resource: str) -> Iterator[tuple[str, str]]:
    role, _, name = resource.partition("/")
    yield "*", "*"
    yield "any role", f"{role}/*"
    yield "any suffix", f"{resource}*"
    yield "any path", f"{role}/*{name}"
    yield "one account", resource.replace("::*:", f"::{MEMBER}:")


def _principals(principal: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    root = principal.get("AWS", "")
    if isinstance(root, list):
        yield "without the first account", {"AWS": root[1:]}
        yield "without the last account", {"AWS": root[:-1]}
        yield "anyone", {"AWS": "*"}
        return
    other = root.replace(MANAGEMENT, SOURCE) if MANAGEMENT in root else root.replace(SOURCE, MANAGEMENT)
    yield "anyone", {"AWS": "*"}
    yield "other account", {"AWS": other}
    yield "another account too", {"AWS": [root, other]}


def _conditions(conditions: Conditions) -> Iterator[tuple[str, Conditions]]:
    for operator, keys in conditions.items():
        for key, value in keys.items():
            yield f"{key} missing", _with(conditions, operator, key)
            for other in _OPERATORS[operator]:
                yield f"{key} {other}", _with(conditions, operator, key, {other: {key: value}})
            for label, changed in _compared(key, value):
                yield f"{key} {label}", _with(conditions, operator, key, {operator: changed})
            pattern = "ArnLike" if operator == "ArnEquals" else "StringLike"
            yield f"{key} like *", _with(conditions, operator, key, {pattern: {key: "*"}})


def _compared(key: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    yield f"replaced by {_KEYS[key]}", {_KEYS[key]: value}
    if isinstance(value, list) and len(value) > 1:
        yield "without the first value", {key: value[1:]}
        yield "without the last value", {key: value[:-1]}


def _with(conditions: Conditions, operator: str, key: str, added: Conditions | None = None) -> Conditions:
    """Return conditions without a key of an operator, and with others."""
    blocks = {
        name: {k: v for k, v in block.items() if (name, k) != (operator, key)} for name, block in conditions.items()
    }
    for name, block in (added or {}).items():
        blocks[name] = blocks.get(name, {}) | block
    return {name: block for name, block in blocks.items() if block}
