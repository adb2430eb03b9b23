"""An IAM policy document: its canonical form, by which two are compared, and its size as IAM counts it."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

Canonical: TypeAlias = "str | tuple[Canonical, ...]"


@dataclass(frozen=True, eq=False)
class Document:
    """A policy document; two are equal if they mean the same to IAM."""

    text: str

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Document":
        """Serialize a document without white space, which IAM doesn't count."""
        return cls(json.dumps(content, separators=(",", ":"), ensure_ascii=False))

    @property
    def size(self) -> int:
        """Characters as IAM counts them against its quotas ("IAM and AWS STS quotas": white space is free)."""
        return len(self.text)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The document as parsed JSON."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed

    @cached_property
    def canonical(self) -> Canonical:
        """The document in a form that ignores order, scalars in place of lists, and the case of actions."""
        return _canonical_document(self.content)

    def __eq__(self, other: object) -> bool:
        """Compare canonical forms, and texts first, since an unchanged document is the usual case."""
        return isinstance(other, Document) and (self.text == other.text or self.canonical == other.canonical)

    def __hash__(self) -> int:
        """Hash the canonical form."""
        return hash(self.canonical)


def _canonical_document(content: Any) -> Canonical:  # noqa: ANN401 - a document that was edited may contain any JSON, here and below
    if not isinstance(content, dict):
        return _plain(content)
    statements = content.get("Statement", [])
    if not isinstance(statements, list):
        statements = [statements]
    rest = {key: value for key, value in content.items() if key != "Statement"}
    return (_plain(rest), tuple(sorted((_statement(each) for each in statements), key=repr)))


def _statement(statement: Any) -> Canonical:  # noqa: ANN401
    if not isinstance(statement, dict):
        return _plain(statement)
    return tuple(sorted((_element(key, value) for key, value in statement.items()), key=repr))


def _element(key: str, value: Any) -> Canonical:  # noqa: ANN401
    if key in {"Action", "NotAction"}:
        return (key, tuple(sorted({str(action).lower() for action in listed(value)})))
    if key in {"Resource", "NotResource"}:
        return (key, tuple(sorted({str(resource) for resource in listed(value)})))
    if key in {"Principal", "NotPrincipal"} and isinstance(value, dict):
        principals = ((kind, tuple(sorted({_principal(each) for each in listed(ids)}))) for kind, ids in value.items())
        return (key, tuple(sorted(principals, key=repr)))
    if key == "Condition" and isinstance(value, dict):
        return (key, tuple(sorted((_operator(name, tests) for name, tests in value.items()), key=repr)))
    return (key, _plain(value))


def _operator(name: str, tests: Any) -> Canonical:  # noqa: ANN401
    if not isinstance(tests, dict):
        return (name, _plain(tests))
    # Condition keys have no case; values have. IAM reads true and "true" alike.
    pairs = ((key.lower(), tuple(sorted({_scalar(each) for each in listed(values)}))) for key, values in tests.items())
    return (name, tuple(sorted(pairs, key=repr)))


def _principal(value: Any) -> str:  # noqa: ANN401
    text = str(value)
    # IAM replaces a bare account id with the ARN of the account's root.
    parts = text.split(":")
    return parts[4] if len(parts) == 6 and parts[2] == "iam" and parts[5] == "root" else text  # noqa: PLR2004 - ARN fields


def listed(value: Any) -> list[Any]:  # noqa: ANN401
    """Return an element's values, which may be a list or one."""
    return value if isinstance(value, list) else [value]


def _scalar(value: Any) -> str:  # noqa: ANN401
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _plain(value: Any) -> Canonical:  # noqa: ANN401
    return json.dumps(value, sort_keys=True)
