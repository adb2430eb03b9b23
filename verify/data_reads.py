"""Find the actions of ReadOnlyAccess whose responses may contain data or credentials, and that are neither denied nor reviewed.

    python -m verify.data_reads                 # the copy of ReadOnlyAccess that moto ships
    python -m verify.data_reads --aws           # the current one, from IAM, with the caller's credentials
    python -m verify.data_reads policy.json     # a document, or the output of `aws iam get-policy-version`

chalicelib/data_read_denies.py denies actions, and reviewed_data_reads.json lists those that stay open, by the reason for it.
"""

import fnmatch
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape
from moto.iam.aws_managed_policies import aws_managed_policies_data

from chalicelib.data_read_denies import DENIED_DATA_READS

REVIEWED = Path(__file__).with_name("reviewed_data_reads.json")
_POLICY = "ReadOnlyAccess"

# The prefix of a service's actions is the name that it signs with ("Service Authorization Reference"), except for these.
_PREFIXES = {
    "awsssoportal": "sso",
    "cloudcontrolapi": "cloudformation",
    "iot-jobs-data": "iotjobsdata",
    "iotdata": "iot",
    "iotsecuredtunneling": "iot",
    "monitoring": "cloudwatch",
    "mturk-requester": "mechanicalturk",
    "tagging": "tag",
}
_ACTIONS = {"lambda:GetLayerVersionByArn": "lambda:GetLayerVersion"}

_CREDENTIAL = re.compile(
    r"secret|passw(or)?d|passphrase|token|credential|(access|api|auth|private|preshared|stream)_?key|pin$",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"(signed|download|upload|webhook|object|artifacts?|log|stream)_?url$", re.IGNORECASE)
_ADDRESS = re.compile(r"ur[li]$|link$", re.IGNORECASE)
_SIGNED_TEXT = re.compile(r"pre-?signed|signed url|url (that )?expires|temporary url", re.IGNORECASE)
_SCALARS = frozenset({"boolean", "integer", "long", "float", "double", "timestamp"})
_PAYLOAD = re.compile(r"(payload|body|content|rows|records)$|^(data|results?)$", re.IGNORECASE)
# Tokens that page, lock or repeat a request, and settings of tokens.
_TOKEN = re.compile(
    r"(next|page|pagination|continuation|client|request|idempotency|update|lock|change|version|creation|conditional|sequence"
    r"|retrieval|purchase|offer|http|result|anomaly|share)_?tokens?$|token_?urls?$|marker$",
    re.IGNORECASE,
)
# Names and places of credentials, and settings about them.
_REFERENCE = re.compile(
    r"(arn|id|name|identifier|type|status|state|count|time|date|at|version|stage|provider|method|enabled|required|location"
    r"|endpoint|domain|unit|duration|alias|role|field|parameter|param|audience|scope|header|host|link|dictionary|vendor|price"
    r"|policy|namelist|generation|list|uri)s?$",
    re.IGNORECASE,
)
# What models mark as sensitive although it only labels or addresses something.
_LABEL = re.compile(
    r"(names?|descriptions?|tags?|tag_?keys?|titles?|comments?|notes?|arns?|ids?|ip_?addresses|ip_?address|port|range|messages?|reason"
    r"|created_?by|updated_?by|date|time)$",
    re.IGNORECASE,
)
# Of actions without an API, whose responses no model describes.
_WORDS = re.compile(
    r"token|credential|secret|password|download|content|message|record|communication|inference|sample|select|query|scan|pull|read"
    r"|http|kubernetes|createsession|(object|objectversion|file|item|data)$",
    re.IGNORECASE,
)


def undecided(found: Mapping[str, str], decided: Collection[str]) -> dict[str, str]:
    """Return the candidates that are neither denied nor reviewed."""
    return {action: why for action, why in found.items() if action not in decided}


def candidates(allowed: Iterable[str], models: Iterable[ServiceModel]) -> dict[str, str]:
    """Return the actions that may return data or credentials, each with the member of a response for which it may.

    `allowed` are the actions that a policy allows, which may have wildcards.
    """
    patterns = list(allowed)
    is_allowed = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns), re.IGNORECASE)
    found: dict[str, str] = {}
    known: set[str] = set()
    for model in models:
        for name in model.operation_names:
            action = action_of(model, name)
            known.add(action.lower())
            operation = model.operation_model(name)
            # IAM doesn't authorize unsigned calls.
            if not is_allowed.fullmatch(action) or operation.auth_type == "none":
                continue
            path = next(suspicious_members(operation), None)
            if path is not None:
                found.setdefault(action, f"{name} returns {path}")
    for action in patterns:
        if "*" not in action and action.lower() not in known and _WORDS.search(action.partition(":")[2]):
            found[action] = "its name, since no API of botocore has it"
    return dict(sorted(found.items()))


def action_of(model: ServiceModel, operation: str) -> str:
    """Return the action that allows an operation."""
    signing_name = str(model.metadata.get("signingName") or model.metadata["endpointPrefix"]).lower()
    if signing_name == "apigateway":  # One action for each HTTP method ("Actions for Amazon API Gateway Management").
        return f"apigateway:{model.operation_model(operation).http['method']}"
    action = f"{_PREFIXES.get(signing_name, signing_name)}:{operation}"
    return _ACTIONS.get(action, action)


def suspicious_members(operation: OperationModel) -> Iterator[str]:
    """Yield the paths of the members of a response that may be data or credentials: a kind, and the member."""
    if operation.output_shape is None:
        return
    sent = set(operation.input_shape.members) if operation.input_shape else set()
    # The types of shapes have members of their own, which botocore's stubs lack.
    pending: list[tuple[tuple[str, ...], Any]] = [((), operation.output_shape)]
    seen: set[str] = set()
    while pending:
        path, shape = pending.pop(0)
        name = path[-1] if path else ""
        # A token that is sent back with the next request is for paging.
        pages = len(path) == 1 and name in sent and name.lower().endswith("token")
        kind = None if pages else _kind(name, shape, depth=len(path))
        if kind:
            yield f"{kind} {'.'.join(path) or 'response'}"
        if name.lower() == "tags":
            continue
        if shape.type_name == "structure" and shape.name not in seen:
            seen.add(shape.name)
            pending += [((*path, key), member) for key, member in shape.members.items()]
        elif shape.type_name == "list":
            pending.append((path, shape.member))
        elif shape.type_name == "map":
            pending.append((path, shape.value))


def _kind(name: str, shape: Shape, *, depth: int) -> str | None:
    """Return what makes a member of a response suspicious, or None."""
    if shape.type_name == "blob":
        return "the stream" if shape.serialization.get("streaming") else "the blob"
    if shape.serialization.get("eventstream"):
        return "the event stream"
    if shape.metadata.get("document"):
        return "the free-form document"
    if shape.type_name in _SCALARS or shape.metadata.get("enum") or _TOKEN.search(name):
        return None
    if shape.metadata.get("sensitive") and not _LABEL.search(name):
        return "the sensitive"
    if shape.type_name != "string":
        return None
    if _CREDENTIAL.search(name) and not _REFERENCE.search(name):
        return "the credential"
    if _SIGNED.search(name) or (_ADDRESS.search(name) and _SIGNED_TEXT.search(shape.documentation or "")):
        return "the signed URL"
    return "the payload" if depth == 1 and _PAYLOAD.search(name) else None


def allowed_actions(document: dict[str, Any]) -> list[str]:
    """Return the actions that a policy allows."""
    actions: list[str] = []
    for statement in document["Statement"]:
        named = statement["Action"] if statement["Effect"] == "Allow" else []
        actions += [named] if isinstance(named, str) else named
    return actions


def shipped_policy() -> dict[str, Any]:
    """Return the document of ReadOnlyAccess that moto ships."""
    document: dict[str, Any] = json.loads(aws_managed_policies_data)[_POLICY]["Document"]
    return document


def current_policy() -> dict[str, Any]:
    """Return the document of ReadOnlyAccess as IAM has it."""
    iam = boto3.client("iam")
    partition = boto3.client("sts").get_caller_identity()["Arn"].split(":")[1]
    arn = f"arn:{partition}:iam::aws:policy/{_POLICY}"
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document: Any = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    return dict(document)


def read_policy(path: Path) -> dict[str, Any]:
    """Return a policy's document from a file."""
    content: dict[str, Any] = json.loads(path.read_text())
    document: dict[str, Any] = content.get("PolicyVersion", {}).get("Document", content)
    return document


def service_models() -> Iterator[ServiceModel]:
    """Yield every service's newest model that botocore has."""
    session = botocore.session.Session()
    for name in session.get_available_services():
        yield session.get_service_model(name)


def reviewed_actions() -> dict[str, str]:
    """Return the actions that stay open, each with its category."""
    reviewed: dict[str, dict[str, Any]] = json.loads(REVIEWED.read_text())
    return {action: category for category, entry in reviewed.items() for action in entry["actions"]}


def main(arguments: list[str]) -> int:
    """Print the actions that are neither denied nor reviewed; return 1 if there are any."""
    if arguments == ["--aws"]:
        policy = current_policy()
    else:
        policy = read_policy(Path(arguments[0])) if arguments else shipped_policy()
    decided = {*DENIED_DATA_READS, *reviewed_actions()}
    found = undecided(candidates(allowed_actions(policy), service_models()), decided)
    for action, why in found.items():
        sys.stdout.write(f"{action}: {why}\n")
    if found:
        sys.stderr.write(
            f"{len(found)} actions of {_POLICY} may return data or credentials: deny each in chalicelib/data_read_denies.py, "
            f"or add it to {REVIEWED.name} in the category for which it stays open\n"
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
