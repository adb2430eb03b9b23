"""The template's parameters, checked before a deployment: their names, values, and the settings that result."""

import difflib
import re
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.loaders import create_loader

from chalicelib.bootstrap import checked_settings
from chalicelib.errors import SettingsError
from chalicelib.settings import check_environment_size
from deploy.aws import DeployError, Location
from deploy.intrinsics import resolve


def parse_parameters(text: str, declared: Mapping[str, Any]) -> dict[str, str]:
    """Parse `Name=value Name=value`, quoted as in a shell. Raise DeployError for an unknown name or an invalid value."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DeployError(f"PARAMS can't be read: {error}") from error
    settable = {name.lower(): name for name in declared if name != "Stage"}
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise DeployError(f"PARAMS contains {word!r}: expected Name=value pairs separated by spaces")
        if name in given:
            raise DeployError(f"PARAMS contains {name} twice")
        if name not in settable.values():
            near = difflib.get_close_matches(name.replace("_", "").lower(), settable, n=1)
            hint = (
                f"did you mean {settable[near[0]]}?" if near else f"choose from {', '.join(sorted(settable.values()))}"
            )
            raise DeployError(f"unknown parameter {name}: {hint}")
        given[name] = _checked(name, value, declared[name])
    return given


def merge_parameters(declared: Mapping[str, Any], given: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Return every parameter's value: the given one, or that of the stack, or the default."""
    defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
    values = {**defaults, **kept, **given}
    return {name: _checked(name, values.get(name), declaration) for name, declaration in declared.items()}


def _checked(name: str, value: str | None, declaration: Mapping[str, Any]) -> str:
    expected = str(declaration.get("ConstraintDescription", "")) or declaration["Description"]
    if value is None:
        raise DeployError(f'{name} is not set: pass PARAMS="{name}=…" ({expected})')
    if "AllowedValues" in declaration:
        valid = value in map(str, declaration["AllowedValues"])
        expected = "one of " + ", ".join(map(str, declaration["AllowedValues"]))
    elif declaration["Type"] == "Number":
        valid = (
            bool(re.fullmatch(r"[0-9]{1,9}", value))
            and declaration["MinValue"] <= int(value) <= declaration["MaxValue"]
        )
        expected = f"a whole number from {declaration['MinValue']} to {declaration['MaxValue']}"
    else:
        valid = bool(re.fullmatch(declaration["AllowedPattern"], value))
    if not valid:
        raise DeployError(f"{name} is {value!r}: expected {expected}")
    return value


def known_values(template: Mapping[str, Any], parameters: Mapping[str, str], location: Location) -> dict[str, Any]:
    """Return the values of `Ref`, attributes and conditions that are known before the deployment."""
    values: dict[str, Any] = {
        **parameters,
        "AWS::Partition": location.partition,
        "AWS::AccountId": location.account_id,
        "AWS::Region": location.region,
    }
    values |= {name: resolve(condition, values) for name, condition in template.get("Conditions", {}).items()}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if "TableName" in properties:
            values[name] = resolve(properties["TableName"], values)
        elif "QueueName" in properties:
            queue = resolve(properties["QueueName"], values)
            host = f"sqs.{location.region}.{_dns_suffix(location.partition)}"
            values[name] = f"https://{host}/{location.account_id}/{queue}"
            values[f"{name}.Arn"] = f"arn:{location.partition}:sqs:{location.region}:{location.account_id}:{queue}"
    return values


@cache
def _dns_suffix(partition: str) -> str:
    known = create_loader().load_data("partitions")["partitions"]
    return next(str(each["outputs"]["dnsSuffix"]) for each in known if each["id"] == partition)


def check_environment(template: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """Raise DeployError for invalid settings or a too large environment, at which the functions would fail."""
    environment: dict[str, str] = resolve(template["Globals"]["Function"]["Environment"]["Variables"], values)
    try:
        checked_settings(environment)
        check_environment_size(environment)
    except SettingsError as error:
        raise DeployError(str(error)) from error
