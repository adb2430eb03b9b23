"""The template's parameters: what an operator gives, what stays, and what the functions make of them, checked beforehand."""

import difflib
import re
import shlex
from collections.abc import Mapping
from typing import Any

from chalicelib.bootstrap import checked_settings
from chalicelib.errors import SettingsError
from chalicelib.settings import check_environment_size
from deploy.aws import DeployError, Place
from deploy.intrinsics import resolve


def parse(text: str, declared: Mapping[str, Any]) -> dict[str, str]:
    """Read `Name=value Name=value`, quoted as a shell would have it, and refuse what does not fit the template."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DeployError(f"PARAMS can't be read: {error}") from error
    settable = {name.lower(): name for name in declared if name != "Stage"}
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise DeployError(f"PARAMS holds {word!r}: it must be Name=value pairs with spaces between them")
        if name in given:
            raise DeployError(f"PARAMS names {name} twice")
        if name not in settable.values():
            near = difflib.get_close_matches(name.replace("_", "").lower(), settable, n=1)
            hint = f"did you mean {settable[near[0]]}?" if near else f"there are {', '.join(sorted(settable.values()))}"
            raise DeployError(f"there is no parameter {name} to set: {hint}")
        given[name] = _fitting(name, value, declared[name])
    return given


def settle(declared: Mapping[str, Any], given: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """Tell every parameter's value: as given, else as the stack has it, else its default."""
    defaults = {name: str(told["Default"]) for name, told in declared.items() if "Default" in told}
    values = {**defaults, **kept, **given}
    return {name: _fitting(name, values.get(name), told) for name, told in declared.items()}


def _fitting(name: str, value: str | None, told: Mapping[str, Any]) -> str:
    expected = str(told.get("ConstraintDescription", "")) or told["Description"]
    if value is None:
        raise DeployError(f'{name} is not set: say PARAMS="{name}=…" ({expected})')
    if "AllowedValues" in told:
        fits = value in map(str, told["AllowedValues"])
        expected = "one of " + ", ".join(map(str, told["AllowedValues"]))
    elif told["Type"] == "Number":
        fits = bool(re.fullmatch(r"[0-9]{1,9}", value)) and told["MinValue"] <= int(value) <= told["MaxValue"]
        expected = f"a whole number from {told['MinValue']} to {told['MaxValue']}"
    else:
        fits = bool(re.fullmatch(told["AllowedPattern"], value))
    if not fits:
        raise DeployError(f"{name} is {value!r}: it must be {expected}")
    return value


def known_values(template: Mapping[str, Any], parameters: Mapping[str, str], here: Place) -> dict[str, Any]:
    """Tell what `Ref` stands for, and which conditions hold, as far as that is known before anything is deployed."""
    values: dict[str, Any] = {
        **parameters,
        "AWS::Partition": here.partition,
        "AWS::AccountId": here.account_id,
        "AWS::Region": here.region,
    }
    values |= {name: resolve(condition, values) for name, condition in template.get("Conditions", {}).items()}
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if "TableName" in properties:
            values[name] = resolve(properties["TableName"], values)
        elif "QueueName" in properties:
            queue = resolve(properties["QueueName"], values)
            suffix = "amazonaws.com.cn" if here.partition == "aws-cn" else "amazonaws.com"
            values[name] = f"https://sqs.{here.region}.{suffix}/{here.account_id}/{queue}"
            values[f"{name}.Arn"] = f"arn:{here.partition}:sqs:{here.region}:{here.account_id}:{queue}"
    return values


def check_environment(template: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """Refuse what the functions would stumble over at their first event: a wrong setting, too long an environment."""
    environment: dict[str, str] = resolve(template["Globals"]["Function"]["Environment"]["Variables"], values)
    try:
        checked_settings(environment)
        check_environment_size(environment)
    except SettingsError as error:
        raise DeployError(str(error)) from error
