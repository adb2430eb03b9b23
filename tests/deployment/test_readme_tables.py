"""README.md's tables of permissions and settings agree with the policies and parameters in .chalice/."""

import json
import re
from collections.abc import Iterator
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from tests.conftest import ROOT

_CHALICE = ROOT / ".chalice"
_FUNCTIONS = sorted(path.stem.removeprefix("policy-") for path in _CHALICE.glob("policy-*.json"))
_RESOURCES = {  # what only this resource contains in a policy, and its name in README.md
    '"*"': "`*`",
    'Logs"': "its log group",
    '"AccountsQueue"': "the accounts queue",
    '"PublishQueue"': "the publish queue",
    '"EventsDeadLetterQueue"': "the events dead-letter queue",
    '"AccountsDeadLetterQueue"': "the accounts dead-letter queue",
    '"PublishDeadLetterQueue"': "the publish dead-letter queue",
    '"LedgerTable"': "the ledger",
    '"SourcePolicyTable"': "the source-policy table",
    '"Publish"': "the function `publish`",
    ":account/": "accounts",
    ":ou/": "organizational units",
    ":root/": "the organization's root",
    '"AccessRoleNames"': "access roles",
    "${MemberRoleName}": "the member role of the management account",
    "${SourcePolicyName}": "the source policy's shards",
    '"SourcePrincipalArns"': "the source principals",
    ':role/*"': "roles of the management account",
    ':user/*"': "users of the management account",
}


def _table(section: str) -> list[list[str]]:
    """Return the cells of the first table in a section of README.md, without the header."""
    text = (ROOT / "README.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def _documented_permissions() -> Iterator[tuple[str, str, str, bool]]:
    """Yield function, action, resource and whether there is a condition, of each row: functions, actions, resources, condition.

    An empty first cell means the functions of the row above. An action without a service has that of the action before it.
    """
    functions: list[str] = []
    for function, actions, resources, condition in _table("Permissions"):
        functions = re.findall(r"`(\w+)`", function) or (_FUNCTIONS if function == "every function" else functions)
        service = ""
        for action in re.fullmatch(r"`([\w:`, ]+)`", actions)[1].split("`, `"):  # type: ignore[index]
            service = action.partition(":")[0] if ":" in action else service
            for resource in resources.split(", "):
                for each in functions:
                    yield each, f"{service}:{action.rpartition(':')[2]}", resource, bool(condition)


def _allowed() -> Iterator[tuple[str, str, str, bool]]:
    """Yield the same of every statement of the policies."""
    shared = json.loads((_CHALICE / "statements.json").read_text())
    for function in _FUNCTIONS:
        for each in json.loads((_CHALICE / f"policy-{function}.json").read_text())["Statement"]:
            statement = shared[each] if isinstance(each, str) else each
            for action in _listed(statement["Action"]):
                for resource in _listed(statement["Resource"]):
                    conditional = "Condition" in statement or "OnlyIf" in statement
                    yield function, action, _resource_name(resource), conditional


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _resource_name(resource: Any) -> str:
    (name,) = [name for part, name in _RESOURCES.items() if part in json.dumps(resource)]
    return name


def test_permissions_table_lists_exactly_what_the_policies_allow() -> None:
    assert set(_documented_permissions()) == set(_allowed())


def test_settings_table_lists_every_parameter_with_its_default() -> None:
    """A row is: parameter, variable or none, default (none if empty, required if absent), meaning."""
    template = yaml_parse((_CHALICE / "resources.yaml").read_text())
    environment = template["Globals"]["Function"]["Environment"]["Variables"]
    variables = {value["Ref"]: name for name, value in environment.items() if "Ref" in value}
    expected = []
    for name, parameter in template["Parameters"].items():
        default = f"`{parameter['Default']}`" if parameter.get("Default", "") != "" else "none"
        variable = f"`{variables[name]}`" if name in variables else "none"
        expected.append([f"`{name}`", variable, default if "Default" in parameter else "required"])

    table = _table("Settings")

    assert sorted(row[:3] for row in table) == sorted(expected)
    assert all(row[3] for row in table)
