"""Authorization of readers and of the functions' roles by an independent evaluator, in every partition.

The documents are those that the code writes and the template deploys.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from rolecall.deploy.intrinsics import resolve
from rolecall.partitions import EVENT_REGIONS
from tests.conftest import ROOT
from tests.deployment.conftest import template
from tests.deployment.deployed import MANAGEMENT_ACCOUNT, deployed
from tests.end_to_end.authorization.agreement import disagreements, undetected
from tests.end_to_end.authorization.entering import ACCESS_ROLE_SETTINGS, ADMINISTRATORS, may_enter, stack_set_role
from tests.end_to_end.authorization.local_iam import LocalIam
from tests.end_to_end.authorization.mutants import EQUIVALENT
from tests.end_to_end.authorization.random_worlds import random_worlds
from tests.end_to_end.authorization.written import FunctionPolicies
from tests.end_to_end.function_sessions import FUNCTION_CAPABILITIES
from verify.evaluated_iam import EvaluatedIam
from verify.evaluator import ALLOWED, AccessRequest, Evaluator

__all__ = ["template"]

QUESTIONS, MUTANT_QUESTIONS = 10_000, 6_000
ORGANIZATION = EvaluatedIam.organization_id
SOURCE, MEMBER = "222233334444", "444455556666"
PARTITIONS = tuple(EVENT_REGIONS)


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with Evaluator() as running:
        yield running


@pytest.fixture(scope="module")
def evaluated_iam(evaluator: Evaluator) -> EvaluatedIam:
    return EvaluatedIam(evaluator)


def test_model_and_both_evaluators_agree_on_every_question(
    evaluated_iam: EvaluatedIam, local_iam: LocalIam, functions: FunctionPolicies
) -> None:
    for world in random_worlds(QUESTIONS):
        assert disagreements(evaluated_iam, world, functions) == []
        assert disagreements(local_iam, world, functions) == []


def test_model_holds_in_every_partition(evaluated_iam: EvaluatedIam, functions: FunctionPolicies) -> None:
    for world in random_worlds(QUESTIONS, PARTITIONS):
        assert disagreements(evaluated_iam, world, functions) == []


def test_mutants_of_the_documents_are_detected(evaluated_iam: EvaluatedIam, functions: FunctionPolicies) -> None:
    worlds = random_worlds(MUTANT_QUESTIONS, PARTITIONS)
    assert undetected(evaluated_iam, worlds, functions, untried=EQUIVALENT) == EQUIVALENT.keys()


FUNCTIONS = {name: "".join(word.title() for word in name.split("_")) for name in FUNCTION_CAPABILITIES}


def abuses(partition: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the action, resource and context of requests that every function's role must be denied."""
    own = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    ours, others = f"{own}:policy/CrossAccountReadOnlyAccess", f"{own}:policy/Others"
    administrator = f"arn:{partition}:iam::aws:policy/AdministratorAccess"
    function = f"arn:{partition}:lambda:{EVENT_REGIONS[partition]}:{MANAGEMENT_ACCOUNT}:function:rolecall-dev-enroll"
    for role in ("Others", "Reader", "of-a-function"):
        yield "iam:PassRole", f"{own}:role/{role}", {"iam:PassedToService": "lambda.amazonaws.com"}
        yield "iam:UpdateAssumeRolePolicy", f"{own}:role/{role}", {}
        yield "iam:PutRolePolicy", f"{own}:role/{role}", {}
        yield "iam:DeleteRolePermissionsBoundary", f"{own}:role/{role}", {}
        yield "iam:AttachRolePolicy", f"{own}:role/{role}", {"iam:PolicyARN": administrator}
        yield "iam:AttachRolePolicy", f"{own}:role/{role}", {"iam:PolicyARN": others}
        yield "iam:DetachRolePolicy", f"{own}:role/{role}", {"iam:PolicyARN": others}
    yield "iam:PassRole", f"{own}:role/CrossAccountReadOnlyRole", {"iam:PassedToService": "lambda.amazonaws.com"}
    yield "iam:AttachRolePolicy", f"{own}:role/CrossAccountReadOnlyRole", {"iam:PolicyARN": administrator}
    yield "iam:AttachRolePolicy", f"{own}:role/Others", {"iam:PolicyARN": ours}
    yield "iam:AttachUserPolicy", f"{own}:user/Others", {"iam:PolicyARN": ours}
    yield "iam:CreatePolicyVersion", others, {}
    yield "iam:SetDefaultPolicyVersion", ours, {}
    yield "iam:CreateAccessKey", f"{own}:user/reader", {}
    yield "lambda:UpdateFunctionCode", function, {}
    yield "lambda:InvokeFunction", function, {}
    for name in ("OrganizationAccountAccessRole", "Others"):
        organization = "o-another" if name.startswith("Organization") else ORGANIZATION
        yield "sts:AssumeRole", f"arn:{partition}:iam::{MEMBER}:role/{name}", {"aws:ResourceOrgID": organization}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_functions_roles_are_denied_what_conditions_can_prevent(
    evaluator: Evaluator, template: dict[str, Any], partition: str
) -> None:
    deployment = deployed(template, partition)
    documents, requests = _access_role_trust(partition), []
    for function in FUNCTIONS.values():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        requests += [_by_function(partition, function, *abuse) for abuse in abuses(partition)]
    decisions = evaluator.evaluate(documents, requests)
    allowed = [
        f"{each}: {decision}" for each, decision in zip(requests, decisions, strict=True) if "Denied" not in decision
    ]
    assert allowed == []


@pytest.mark.parametrize("separate", [False, True], ids=["management account", "separate source account"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_no_function_both_reaches_accounts_and_writes_the_source_policy(
    evaluator: Evaluator, template: dict[str, Any], partition: str, *, separate: bool
) -> None:
    own = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}"
    readers = {"SourcePrincipalArns": f"arn:{partition}:iam::{SOURCE}:role/Reader"} if separate else {}
    deployment = deployed(template, partition, **readers)
    source = "access roles of the source account"
    calls = {
        "member roles": ("iam:PutRolePolicy", f"{own}:role/CrossAccountReadOnlyRole", {}),
        "access roles": _assume_access_role(partition, MEMBER),
        source: _assume_access_role(partition, SOURCE),
        "source policy": ("iam:CreatePolicyVersion", f"{own}:policy/CrossAccountReadOnlyAccess", {}),
    }
    documents, requests = _access_role_trust(partition), {}
    for name, function in FUNCTIONS.items():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        for capability, call in calls.items():
            requests[name, capability] = _by_function(partition, function, *call)
    decisions = dict(zip(requests, evaluator.evaluate(documents, requests.values()), strict=True))
    capabilities = {name: {each for each in calls if decisions[name, each] == ALLOWED} for name in FUNCTIONS}
    expected = {
        name: each | ({source} if "access roles" in each else set()) for name, each in FUNCTION_CAPABILITIES.items()
    }
    assert capabilities == expected | ({"publish": {source}} if separate else {})


@pytest.mark.parametrize("settings", ACCESS_ROLE_SETTINGS.values(), ids=ACCESS_ROLE_SETTINGS)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_functions_enter_accounts_as_the_model_expects(
    evaluator: Evaluator, template: dict[str, Any], partition: str, settings: Mapping[str, str]
) -> None:
    deployment = deployed(template, partition, **settings)
    documents = _access_role_trust(partition) | {"narrow": _narrow_trust(partition)}
    requests, expected = [], []
    for name, function in FUNCTIONS.items():
        (policy,) = deployment[f"{function}Role"]["Policies"]
        documents[function] = policy["PolicyDocument"]
        for role in (*ADMINISTRATORS, stack_set_role("dev"), "Others"):
            arn = f"arn:{partition}:iam::{MEMBER}:role/{role}"
            own = f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:role/rolecall-dev-{function}Role-1A2B3C"
            context = {"aws:ResourceOrgID": ORGANIZATION, "aws:ResourceAccount": MEMBER, "aws:PrincipalArn": own}
            request = _by_function(partition, function, "sts:AssumeRole", arn, context)
            requests.append(replace(request, trust="narrow" if role == stack_set_role("dev") else request.trust))
            expected.append(may_enter(name, role, "dev", settings))
    decisions = evaluator.evaluate(documents, requests)
    assert [each == ALLOWED for each in decisions] == expected, list(zip(requests, decisions, strict=True))


def _narrow_trust(partition: str) -> dict[str, Any]:
    """Return the trust policy of the StackSet's role in an account that isn't the source account."""
    narrow = yaml_parse((ROOT / "docs/access-role-narrow.yaml").read_text())["Resources"]["AccessRole"]["Properties"]
    values = {
        "AWS::Partition": partition,
        "ManagementAccountId": MANAGEMENT_ACCOUNT,
        "Stage": "dev",
        "FunctionsRolePath": "/",
    }
    trust: dict[str, Any] = resolve(narrow["AssumeRolePolicyDocument"], values | {"IsSourceAccount": False})
    return trust


def _assume_access_role(partition: str, account_id: str) -> tuple[str, str, dict[str, str]]:
    role = f"arn:{partition}:iam::{account_id}:role/OrganizationAccountAccessRole"
    return "sts:AssumeRole", role, {"aws:ResourceOrgID": ORGANIZATION, "aws:ResourceAccount": account_id}


def _access_role_trust(partition: str) -> dict[str, Any]:
    principal = {"AWS": f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:root"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {f"access {partition}": {"Version": "2012-10-17", "Statement": [statement]}}


def _by_function(partition: str, function: str, action: str, resource: str, context: dict[str, str]) -> AccessRequest:
    principal = {
        "aws:PrincipalOrgID": ORGANIZATION,
        "aws:PrincipalArn": f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:role/{function}",
    }
    return AccessRequest(
        principal=f"arn:{partition}:sts::{MANAGEMENT_ACCOUNT}:assumed-role/{function}/running",
        action=action,
        resource=resource,
        account_id=resource.split(":")[4],
        identity=(function,),
        trust=f"access {partition}" if action == "sts:AssumeRole" else None,
        context={**principal, **context},
    )
