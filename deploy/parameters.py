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
from deploy.aws import Location
from deploy.intrinsics import resolve


def parse_parameters(text: str, declared: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Parse `Name=value Name=value`, quoted as in a shell. Return the values, and what is wrong with the other words."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        return {}, [f"PARAMS can't be read: {error}"]
    settable = {name.lower(): name for name in declared if name != "Stage"}
    given: dict[str, str] = {}
    problems: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            problems.append(f"PARAMS contains {word!r}: expected Name=value pairs separated by spaces")
        elif name in given:
            problems.append(f"PARAMS contains {name} twice: give it once")
        elif name not in settable.values():
            near = difflib.get_close_matches(name.replace("_", "").lower(), settable, n=1)
            hint = (
                f"did you mean {settable[near[0]]}?" if near else f"choose from {', '.join(sorted(settable.values()))}"
            )
            problems.append(f"unknown parameter {name}: {hint}")
        else:
            given[name] = value
    return given, problems


def set_elsewhere(variables: Mapping[str, str], declared: Mapping[str, Any]) -> list[str]:
    """Return the parameters that are set outside PARAMS: on make's command line or in the environment, where they have no effect."""
    return [
        f"{name} is set outside PARAMS, where it has no effect: "
        + ("pass STAGE=" if name == "Stage" else f'pass PARAMS="{name}={variables[name]}"')
        + ", or unset it"
        for name in declared
        if name in variables
    ]


def merge_parameters(declared: Mapping[str, Any], given: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters' values: the given one, or that of the stack, or the default."""
    defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
    return {name: value for name, value in {**defaults, **kept, **given}.items() if name in declared}


def wrong_values(declared: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the parameters that are missing or invalid, by their names."""
    checked = {name: _why_wrong(name, values.get(name), declaration) for name, declaration in declared.items()}
    return {name: problem for name, problem in checked.items() if problem is not None}


def _why_wrong(name: str, value: str | None, declaration: Mapping[str, Any]) -> str | None:
    expected = str(declaration.get("ConstraintDescription", "")) or declaration["Description"]
    if value is None:
        return f'{name} is not set: pass PARAMS="{name}=…" ({expected})'
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
    return None if valid else f"{name} is {value!r}: expected {expected}"


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


def contradictions(template: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """Return why the functions would reject the settings, or Lambda their environment or concurrency."""
    environment: dict[str, str] = resolve(template["Globals"]["Function"]["Environment"]["Variables"], values)
    problems: list[str] = []
    for check in (checked_settings, check_environment_size):
        try:
            check(environment)
        except SettingsError as error:
            problems += error.problems
    reserved, most = values["ReservedConcurrency"], values["MaximumConcurrency"]
    if reserved and int(reserved) < int(most):
        problems.append(
            f"ReservedConcurrency is {reserved}, less than MaximumConcurrency, {most}: enroll would be throttled; raise it, or "
            "lower MaximumConcurrency"
        )
    return problems
