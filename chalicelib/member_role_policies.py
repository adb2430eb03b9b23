"""The operator's own inline policies of the member role: parsing and checks."""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from chalicelib.data_read_denies import DENY_POLICY_NAME
from chalicelib.documents import Document, listed

PLACEHOLDERS = ("{partition}", "{account_id}", "{organization_id}")
"""What a document may contain in place of the account's values."""

LONGEST_ORGANIZATION_ID = "o-" + 32 * "x"

PARAMETER_LIMIT = 4096
"""Bytes of a parameter's value ("CloudFormation quotas")."""

ACTION = re.compile(r"\*|[a-z0-9-]+:[a-z0-9*?]+", re.ASCII | re.IGNORECASE)
"""An action, or a pattern of actions of one service. `*:*` is written as `*`."""

_MAX_CHARS = 80  # of a text in an error

_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_TEXT = re.compile(r"[\t\n\r -\xff]*")  # PutRolePolicy in the "IAM API Reference"
_SID = re.compile(r"[a-z0-9]*", re.ASCII | re.IGNORECASE)
_RESOURCE = re.compile(r"\*|arn:[^:]*:[^:]+:[^:]*:[^:]*:.+", re.DOTALL)
_VARIABLE = re.compile(r"\$\{([*?$]|[^{}:]+:[^{}]*)\}")  # "IAM policy elements: Variables and tags"
_BRACE = re.compile(r"\$?\{[^{}]*\}?|\}")
_ELEMENTS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})


class DocumentError(ValueError):
    """Why a text or a document is invalid, as a phrase that follows its name."""


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON strictly. Raise DocumentError for keys that occur twice and for numbers such as NaN."""
    try:
        return json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_reject_number, parse_float=_finite_number
        )
    except DocumentError:
        raise
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    except ValueError as error:
        raise DocumentError(f"is not JSON: {error}") from None


def parse_policies(text: str) -> dict[str, Document]:
    """Parse a JSON object of documents by their policies' names. Raise DocumentError for the first error."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > PARAMETER_LIMIT:
        raise DocumentError(
            f"takes {size} bytes, and CloudFormation allows {PARAMETER_LIMIT}: shorten the documents, or put permissions into managed policies"
        )
    content = parse_json(text)
    if not isinstance(content, dict):
        raise DocumentError("is not a JSON object of policy documents by their names")
    for name, document in content.items():
        wrong = why_wrong_name(name) or why_wrong(document)
        if wrong is not None:
            raise DocumentError(f"contains the policy {name[:_MAX_CHARS]!r}, which {wrong}")
    names = [name.lower() for name in content]
    if len(set(names)) < len(names):
        raise DocumentError("contains two policies whose names differ only by case")
    return {name: Document.of(document) for name, document in content.items()}


def why_wrong_name(name: str) -> str | None:
    """Return why an inline policy of the operator's can't have a name, or None."""
    if not _POLICY_NAME.fullmatch(name):
        return "has no valid name: 1 to 128 letters, digits and +=,.@_-"
    if name.lower() == DENY_POLICY_NAME.lower():
        return "has the name of the deny of data reads: choose another"
    return None


def why_wrong(document: Any) -> str | None:  # noqa: ANN401 - any JSON
    """Return why IAM would reject a role's policy, or evaluate it other than it reads; otherwise None."""
    try:
        found = [*_problems(document)]
    except RecursionError:
        return "is nested too deeply"
    return found[0] if found else None


def uses_organization_id(documents: Mapping[str, Document]) -> bool:
    """Whether a document contains the organization's id, which is unknown without a call."""
    return any("{organization_id}" in document.text for document in documents.values())


def only_denies(document: Document) -> bool:
    """Whether a document, which may have been edited, contains only denies."""
    content: Any = document.content
    found = listed(content.get("Statement", [])) if isinstance(content, dict) else []
    return bool(found) and all(isinstance(each, dict) and each.get("Effect") == "Deny" for each in found)


def denies_all_of(one: Document, other: Document) -> bool:
    """Whether a document, which may have been edited, only denies, and denies what each statement of another does."""
    return only_denies(one) and all(
        any(_denies_all_of(each, statement) for each in statements(one.content))
        for statement in statements(other.content)
    )


def _denies_all_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    rests = [{key: value for key, value in each.items() if key not in {"Sid", "Action"}} for each in (one, other)]
    denied, needed = (list(map(str, listed(each.get("Action", [])))) for each in (one, other))
    exact, patterns = set(denied), [each for each in denied if "*" in each]
    return rests[0] == rests[1] and all(
        action in exact or any(fnmatchcase(action, pattern) for pattern in patterns) for action in needed
    )


def statements(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a document, which may be a list or one."""
    return listed(content["Statement"])


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DocumentError(f"contains the key {twice[:_MAX_CHARS]!r} twice in one object")
    return content


def _reject_number(text: str) -> float:
    raise DocumentError(f"contains {text[:_MAX_CHARS]}, which is not a JSON number")


def _finite_number(text: str) -> float:
    number = float(text)
    return _reject_number(text) if number in {float("inf"), float("-inf")} else number


def _problems(document: Any) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(document, dict):
        yield "is not a policy document: an object with Version and Statement"
        return
    yield from (problem for text in _texts(document) for problem in _text_problems(text))
    for element in sorted(document.keys() - {"Version", "Id", "Statement"}):
        yield f"has the element {element[:_MAX_CHARS]!r}: a policy document has Version, Id and Statement"
    if document.get("Version") != "2012-10-17":
        yield 'needs "Version": "2012-10-17"'
    found = listed(document.get("Statement", []))
    if not found:
        yield "has no Statement"
    for number, statement in enumerate(found, start=1):
        yield from (f"has {problem} in statement {number}" for problem in _statement_problems(statement))
    sids = [statement["Sid"] for statement in found if isinstance(statement, dict) and "Sid" in statement]
    if any(sids.count(each) > 1 for each in sids):
        yield "has the same Sid in two statements"


def _statement_problems(statement: Any) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(statement, dict):
        yield "no object"
        return
    for element in sorted(statement.keys() - _ELEMENTS):
        is_principal = element in {"Principal", "NotPrincipal"}
        why = "only a resource's policy may have" if is_principal else "no statement may have (case counts)"
        yield f"the element {element[:_MAX_CHARS]!r}, which {why}"
    if statement.get("Effect") not in ("Allow", "Deny"):
        yield "no Effect of Allow or Deny"
    if not (isinstance(statement.get("Sid", ""), str) and _SID.fullmatch(statement.get("Sid", ""))):
        yield "a Sid that is not of letters and digits"
    for element, pattern, expected in (
        ("Action", ACTION, "* or service:Action, with wildcards only in the action"),
        ("Resource", _RESOURCE, "* or an ARN"),
    ):
        yield from _list_problems(statement, element, pattern, expected)
    if "Condition" in statement:
        yield from _condition_problems(statement["Condition"])


def _list_problems(statement: dict[str, Any], element: str, pattern: re.Pattern[str], expected: str) -> Iterator[str]:
    given = [name for name in (element, f"Not{element}") if name in statement]
    if len(given) != 1:
        yield f"{'both' if given else 'neither'} {element} {'and' if given else 'nor'} Not{element}"
        return
    values = listed(statement[given[0]])
    if not values:
        yield f"an empty {given[0]}"
    for value in values:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            yield f"{json.dumps(value)[:_MAX_CHARS]} as {given[0]}, which is not {expected}"


def _condition_problems(condition: Any) -> Iterator[str]:  # noqa: ANN401
    operators: list[Any] = list(condition.values()) if isinstance(condition, dict) else [None]
    if not all(isinstance(tests, dict) and tests for tests in operators):
        yield "a Condition that is not an object of operators, each with an object of keys"
        return
    values = [each for tests in operators for value in tests.values() for each in listed(value)]
    if any(not isinstance(each, str | int | float) for each in values):
        yield "a Condition with a value that is not a text, number or boolean"


def _texts(content: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield every text and key of a document."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


def _text_problems(text: str) -> Iterator[str]:
    if not _TEXT.fullmatch(text):
        odd = next(character for character in text if not _TEXT.fullmatch(character))
        yield f"contains the character U+{ord(odd):04X}, which IAM doesn't allow in policies"
    rest = _VARIABLE.sub("", text)
    for placeholder in PLACEHOLDERS:
        # Text that a removed placeholder leaves must not become another one.
        rest = re.sub(rf"(?<!\$){re.escape(placeholder)}", " ", rest)
    unknown = _BRACE.search(rest)
    if unknown is not None:
        yield f"contains {unknown[0][:_MAX_CHARS]!r}, which is not a placeholder: choose from {', '.join(PLACEHOLDERS)}"
