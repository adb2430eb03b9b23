"""The examples in docs/deploy.md parse, and name exactly the template's parameters."""

import ast
import re
import tomllib
from typing import Any

import hcl2

from rolecall.deploy.parameters import wrong_values
from tests.conftest import ROOT

_DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()


def _block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", _DOCUMENT, re.DOTALL)
    return str(found)


def _check(parameters: dict[str, str], declared: dict[str, Any]) -> None:
    assert parameters.keys() == declared.keys()
    assert wrong_values(declared, parameters) == {}
    required = {"Stage": "prod", "SourcePrincipalArns": "arn:aws:iam::111122223333:role/Reader"}
    assert parameters == {name: str(each.get("Default")) for name, each in declared.items()} | required


def test_terraform_example_has_the_templates_parameters(template: dict[str, Any]) -> None:
    text = _block("hcl")
    hcl2.loads(text)
    body = text.partition("parameters = {")[2].partition("}\n\n")[0]
    _check(dict(re.findall(r'^ +(\w+) += "(.*)"$', body, re.MULTILINE)), template["Parameters"])


def test_cdk_example_has_the_templates_parameters_and_functions(template: dict[str, Any]) -> None:
    tree = ast.parse(_block("python"))
    (call,) = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and _name(each) == "CfnInclude"]
    (given,) = [each.value for each in call.keywords if each.arg == "parameters"]
    _check(ast.literal_eval(given), template["Parameters"])
    (functions,) = [each.value for each in tree.body if isinstance(each, ast.Assign) and _target(each) == "FUNCTIONS"]
    resources = template["Resources"].items()
    assert set(ast.literal_eval(functions)) == {
        name for name, each in resources if each["Type"] == "AWS::Serverless::Function"
    }


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _target(assignment: ast.Assign) -> str:
    target = assignment.targets[0]
    return target.id if isinstance(target, ast.Name) else ""


def test_file_of_parameters_in_the_document_is_valid(template: dict[str, Any]) -> None:
    assert tomllib.loads(_block("toml")).keys() <= template["Parameters"].keys()


def test_code_is_named_as_the_terraform_example_replaces_it(template: dict[str, Any]) -> None:
    functions = [each for each in template["Resources"].values() if each["Type"] == "AWS::Serverless::Function"]
    assert {each["Properties"]["CodeUri"] for each in functions} == {"./deployment.zip"}
