"""The template's parameters: where they are given, their names and values, and the settings that result."""

import difflib
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from botocore.loaders import create_loader

from chalicelib.checked_settings import checked_settings
from chalicelib.errors import SettingsError
from chalicelib.settings import check_environment_size
from rolecall.deploy.intrinsics import resolve
from rolecall.deploy.location import Location
from rolecall.deploy.problems import Problems

OPTIONS = {"SourcePrincipalArns": "--source-principal"}
"""The parameters that are known by the names of their options."""


def read_file(path: Path, problems: Problems) -> dict[str, str]:
    """Read parameters from a TOML file: strings, numbers, booleans, lists of them, and a table for key=value pairs."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.add(f"{path} can't be read: {error.strerror}", "pass a file with --parameters")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.add(f"{path} is not TOML: {error}", 'write lines such as SourcePrincipalArns = ["arn:…"]')
        return {}
    read = {name: _as_text(value) for name, value in content.items()}
    for name in (name for name, value in read.items() if value is None):
        problems.add(f"{path}: the value of {name} is no text, number, boolean, list or table of texts", "correct it")
    return {name: value for name, value in read.items() if value is not None}


def _as_text(value: object) -> str | None:
    """Return a TOML value as the value of a parameter, or None if it can't be one."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int():
            return str(value)
        case list():
            texts = [_as_text(each) for each in value if not isinstance(each, list | dict)]
            known = [text for text in texts if text is not None]
            return ",".join(known) if len(known) == len(value) else None
        case dict():
            pairs = {key: _as_text(each) for key, each in value.items() if not isinstance(each, list | dict)}
            known = [f"{key}={text}" for key, text in pairs.items() if text is not None]
            return ",".join(known) if len(known) == len(value) else None
    return None


def split_pairs(text: str, problems: Problems) -> list[str]:
    """Split `Name=value Name=value`, quoted as in a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        problems.add(f"the parameters {text!r} can't be read: {error}", "quote them as in a shell")
        return []


def merge_given(
    options: Mapping[str, str], pairs: Iterable[str], file: Mapping[str, str], problems: Problems
) -> dict[str, str]:
    """Return the given parameters; options and `Name=value` pairs take precedence over a file."""
    given = dict(options)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            problems.add(f"{pair!r} is no parameter", "pass Name=Value")
        elif name in given:
            problems.add(f"{name} is given twice", "pass it once")
        else:
            given[name] = value
    return {**file, **given}


def known_names(given: Mapping[str, str], declared: Mapping[str, Any], problems: Problems) -> dict[str, str]:
    """Return the given parameters that the template declares, and add a problem for each other name."""
    settable = {name.lower(): name for name in declared if name != "Stage"}
    for name in (name for name in given if name not in settable.values()):
        near = difflib.get_close_matches(name.replace("_", "").lower(), settable, n=1)
        choice = f"did you mean {settable[near[0]]}?" if near else f"choose from {', '.join(sorted(settable.values()))}"
        problems.add(f"unknown parameter {name}", choice)
    return {name: value for name, value in given.items() if name in settable.values()}


def set_elsewhere(variables: Mapping[str, str], declared: Mapping[str, Any], problems: Problems) -> None:
    """Add a problem for each parameter that is a variable of the environment, as on make's command line: it has no effect there."""
    for name in (name for name in declared if name in variables):
        remedy = "pass the stage as an argument" if name == "Stage" else f"pass --set {name}=…, or PARAMS to make"
        problems.add(f"{name} is set in the environment, where it has no effect", f"{remedy}, or unset it")


def merge_parameters(declared: Mapping[str, Any], given: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters' values: the given one, or that of the stack, or the default."""
    defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
    return {name: value for name, value in {**defaults, **kept, **given}.items() if name in declared}


def wrong_values(declared: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the parameters that are missing or invalid, by their names."""
    checked = {name: _why_wrong(name, values.get(name), declaration) for name, declaration in declared.items()}
    return {name: problem for name, problem in checked.items() if problem is not None}


def _why_wrong(name: str, value: str | None, declaration: Mapping[str, Any]) -> str | None:
    expected = str(declaration.get("ConstraintDescription") or declaration["Description"])
    if value is None:
        option = f"{OPTIONS[name]} ARN" if name in OPTIONS else f"--set {name}=…"
        return f"{name} is not set: pass {option} ({expected})"
    if "AllowedValues" in declaration:
        valid = value in map(str, declaration["AllowedValues"])
        expected = "one of " + ", ".join(map(str, declaration["AllowedValues"]))
    elif declaration["Type"] == "Number":
        low, high = declaration["MinValue"], declaration["MaxValue"]
        valid = bool(re.fullmatch(r"[0-9]{1,9}", value)) and low <= int(value) <= high
        expected = f"a whole number from {low} to {high}"
    else:
        pattern = declaration["AllowedPattern"]
        valid = bool(re.fullmatch(pattern, value))
        entries = value.split(",")
        invalid = [each for each in entries if not re.fullmatch(pattern, each)]
        # Of a list, only the invalid entries are shown.
        value = ",".join(invalid) if 0 < len(invalid) < len(entries) else value
    return None if valid else f"{OPTIONS.get(name, name)} is {value!r}: expected {expected}"


_MAX_PATTERN_CHARS = 2048  # of an event pattern, unless the quota was raised ("Amazon EventBridge quotas")
_LONGEST_ROLE_NAME = 64  # "IAM and AWS STS quotas"


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


def environment(template: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of the functions."""
    variables: dict[str, str] = resolve(template["Globals"]["Function"]["Environment"]["Variables"], values)
    return variables


def contradictions(template: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Return why the functions would reject the settings, or Lambda their environment or concurrency."""
    variables, found = environment(template, values), list[str]()
    for check in (checked_settings, check_environment_size):
        try:
            check(variables)
        except SettingsError as error:
            found += error.problems
    if not values["AccessRoleNames"] and values["AccessRoleStackSet"] == "false":
        found.append(
            "AccessRoleNames is empty and AccessRoleStackSet is false, so that no account could be entered: set one of them"
        )
    reserved, most = values["ReservedConcurrency"], values["MaximumConcurrency"]
    if reserved and int(reserved) < int(most):
        found.append(
            f"ReservedConcurrency is {reserved}, less than MaximumConcurrency, {most}: enroll would be throttled; raise it, or "
            "lower MaximumConcurrency"
        )
    if values["TripwireIsSet"] and (chars := _tripwire_chars(template, values)) > _MAX_PATTERN_CHARS:
        found.append(
            f"Tripwire needs an event pattern of {chars} characters for these SourcePrincipalArns, and EventBridge allows "
            f"{_MAX_PATTERN_CHARS}: name fewer principals, or set Tripwire=false"
        )
    return found


def _tripwire_chars(template: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Return the length of the tripwire's event pattern, with the longest name for the role that it contains."""
    role = f"arn:{values['AWS::Partition']}:iam::{values['AWS::AccountId']}:role{values['FunctionsRolePath']}"
    pattern = template["Resources"]["TripwireRule"]["Properties"]["EventPattern"]
    known = {**values, "PublishRole.Arn": role + "x" * _LONGEST_ROLE_NAME}
    return len(json.dumps(resolve(pattern, known), separators=(",", ":")))
