"""Checks of the functions' permissions boundary and of the key against AWS, before a deployment with them."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from botocore.exceptions import ClientError

from chalicelib.documents import listed
from rolecall.aws_errors import translate_errors
from rolecall.clients import ClientFactory
from rolecall.deploy.location import Location

_Problem: TypeAlias = tuple[str, str]
"""A parameter, and why it can't work and what to do."""

_BOUNDARY, _KEY = "FunctionsPermissionsBoundaryArn", "KmsKeyArn"
_USES = ("kms:Decrypt", "kms:GenerateDataKey")
_POLICY = "add the statements of docs/key-policy.json to its policy"


def missing_boundary(values: Mapping[str, str], location: Location, client: ClientFactory) -> Iterator[_Problem]:
    """Yield why the functions' roles can't have the permissions boundary."""
    arn = values[_BOUNDARY]
    if not arn:
        return
    _, partition, _, _, account_id, _ = arn.split(":", 5)
    if partition != location.partition or account_id not in {"aws", location.account_id}:
        yield _BOUNDARY, f"is {arn}, which is not a policy of account {location.account_id} or of AWS: name one"
        return
    with translate_errors(f"reading {arn}"):
        try:
            client("iam").get_policy(PolicyArn=arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            yield _BOUNDARY, f"is {arn}, which does not exist: create the policy, or correct the ARN"


def unusable_key(values: Mapping[str, str], location: Location, client: ClientFactory) -> Iterator[_Problem]:
    """Yield why the key can't encrypt the stage's resources."""
    arn = values[_KEY]
    if not arn:
        return
    region = arn.split(":")[3]
    if region != location.region:
        yield _KEY, f"is a key in {region}, and the stage is in {location.region}: name a key there"
        return
    with translate_errors(f"reading {arn}"):
        try:
            key = client("kms").describe_key(KeyId=arn)["KeyMetadata"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFoundException":
                raise
            yield _KEY, f"is {arn}, which does not exist: create the key, or correct the ARN"
            return
    if key.get("KeyManager") != "CUSTOMER":
        yield _KEY, f"is {arn}, an AWS managed key, whose policy can't be changed: name a customer managed key"
    elif (key.get("KeySpec"), key.get("KeyUsage")) != ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
        yield _KEY, f"is {arn}, which is not a key for symmetric encryption: name one"
    elif key.get("KeyState") != "Enabled":
        yield _KEY, f"is {arn}, whose state is {key.get('KeyState')}: enable it, or name another key"


def denying_key_policy(values: Mapping[str, str], location: Location, client: ClientFactory) -> Iterator[_Problem]:
    """Yield each principal that needs the key and that its policy doesn't allow. Conditions are not evaluated."""
    arn = values[_KEY]
    if not arn or arn.split(":")[3] != location.region:
        return
    with translate_errors(f"reading the policy of {arn}"):
        try:
            text = client("kms").get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFoundException":
                raise
            return  # reported with the key
    statements = listed(json.loads(text)["Statement"])
    logs = f"logs.{location.region}.amazonaws.com"
    account = location.account_id
    needed = {
        f"account {account}": {account, f"arn:{location.partition}:iam::{account}:root"},
        "CloudWatch Logs": {"logs.amazonaws.com", logs, f"{logs}.cn"},
        "CloudWatch": {"cloudwatch.amazonaws.com"},
        "EventBridge": {"events.amazonaws.com"},
    }
    for name, principals in needed.items():
        if not all(any(_allows(each, principals, action) for each in statements) for action in _USES):
            yield _KEY, f"is {arn}, whose policy does not allow {' and '.join(_USES)} to {name}: {_POLICY}"


def _allows(statement: Mapping[str, Any], principals: set[str], action: str) -> bool:
    principal = statement.get("Principal", {})
    named = {"*"} if principal == "*" else {each for value in principal.values() for each in listed(value)}
    return (
        statement["Effect"] == "Allow"
        and bool(named & {*principals, "*"})
        and any(fnmatchcase(action.lower(), each.lower()) for each in listed(statement.get("Action", [])))
    )
