"""The operator's inline policies of the member role: the files that they are in, and what their actions would allow."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.documents import Document, listed
from chalicelib.member_role_policies import (
    DocumentError,
    parse_json,
    parse_policies,
    statements,
    why_wrong,
    why_wrong_name,
)
from rolecall.console import first_of, printable
from rolecall.deploy.problems import Problems
from rolecall.iam_actions import matching

PARAMETER = "MemberRolePolicies"
ALLOW_WRITES = "--allow-writes"

_MAX_FILE_BYTES = 65_536  # many times what the parameter may contain
_MAX_SHOWN = 3  # actions
_MAX_CHARS = 80  # of an action that doesn't exist


def read_policy_files(files: Iterable[str], problems: Problems) -> str | None:
    """Return the parameter with the documents of files, given as FILE or NAME=FILE, or None if none is valid."""
    contents: dict[str, Any] = {}
    for file in files:
        given, equals, path = file.rpartition("=")
        name = given if equals else re.sub(r"[^\w+=,.@-]+", "-", Path(file).stem, flags=re.ASCII)
        try:
            content = _read(Path(path))
        except DocumentError as error:
            problems.add(f"{printable(file)} {error}", "correct it, or pass another FILE with --member-role-policy")
            continue
        wrong = why_wrong_name(name) or ("has the name of another file" if name in contents else None)
        if wrong is not None:
            problems.add(f"the policy {printable(name)} of {printable(file)} {wrong}", "pass NAME=FILE")
        contents[name] = content
    return json.dumps(contents, separators=(",", ":"), ensure_ascii=False) if contents else None


def _read(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """Return a file's document. Raise DocumentError if it is not one."""
    try:
        if path.exists() and not path.is_file():
            raise DocumentError("is not a file")
        with path.open("rb") as file:
            found = file.read(_MAX_FILE_BYTES + 1)
        text = found.decode("utf-8-sig")
    except OSError as error:
        raise DocumentError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"is not UTF-8: byte {error.start}") from None
    if len(found) > _MAX_FILE_BYTES:
        raise DocumentError(f"has more than {_MAX_FILE_BYTES} bytes")
    content = parse_json(text)
    wrong = why_wrong(content)
    if wrong is not None:
        raise DocumentError(wrong)
    return content


def check_actions(
    parameters: Mapping[str, str], kept: Mapping[str, str], problems: Problems, *, allow_writes: bool
) -> None:
    """Add a problem for each document that allows writes or has unknown actions.

    It is a warning if writes are allowed, or if the document is deployed already. Also warn of reads of data that the
    deny overrides. A document that is malformed is reported with the settings.
    """
    documents, before = parsed(parameters[PARAMETER]), parsed(kept.get(PARAMETER, ""))
    denied, denied_before = _denied(parameters), _denied(kept)
    for name, document in documents.items():
        found = list(unread_actions(document, denied))
        was_deployed = before.get(name) == document and set(found) <= {*unread_actions(document, denied_before)}
        if allow_writes or was_deployed:
            problems.warnings += [f"{PARAMETER}: {name} {what}" for what in found]
        else:
            for what in found:
                problems.add(
                    f"{PARAMETER}: {name} {what}, and the member role only reads",
                    f"allow only reads, or pass {ALLOW_WRITES}",
                )
        problems.warnings += [f"{PARAMETER}: {name} {what}" for what in _ineffective(document, denied)]


def _denied(parameters: Mapping[str, str]) -> frozenset[str]:
    """Return the data reads that the member role denies by the parameters."""
    excepted = parameters.get("DenyDataReadsExcept", "").split(",")
    return (
        frozenset() if parameters.get("DenyDataReads") == "false" else frozenset(DENIED_DATA_READS).difference(excepted)
    )


def parsed(value: str) -> dict[str, Document]:
    """Return the documents of the parameter, or none if it is malformed."""
    try:
        return parse_policies(value) if value else {}
    except DocumentError:
        return {}


def unread_actions(document: Document, denied: Collection[str]) -> Iterator[str]:
    """Yield what of a document doesn't only read, and isn't denied anyway, in words that follow its name."""
    for number, statement in enumerate(statements(document.content), start=1):
        for action in listed(statement.get("Action", statement.get("NotAction"))):
            found = matching(action)
            if not (found.reads or found.others):
                yield f"has {action[:_MAX_CHARS]} in statement {number}, which is not in this release's list of actions"
        if statement["Effect"] == "Deny":
            continue
        if "NotAction" in statement:
            yield f"allows by NotAction in statement {number}, which includes every action that writes"
            continue
        for action in listed(statement["Action"]):
            others = [each for each in matching(action).others if each not in denied]
            if others:
                is_pattern = [each.lower() for each in others] != [action.lower()]
                yield f"allows {action}, which " + (
                    f"includes {first_of(others, _MAX_SHOWN)}" if is_pattern else "doesn't only read"
                )


def _ineffective(document: Document, denied: Collection[str]) -> Iterator[str]:
    """Yield the reads of data that a document allows and the deny overrides."""
    for statement in statements(document.content):
        if statement["Effect"] == "Allow":
            for action in listed(statement.get("Action", [])):
                found = matching(action)
                taken = sorted({*found.reads, *found.others}.intersection(denied))
                if taken:
                    yield f"allows {action}, and DenyDataReads denies {first_of(taken, _MAX_SHOWN)}: to allow it, set DenyDataReadsExcept"
