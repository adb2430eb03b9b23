"""Settings that can't be right stop the app with one error that says which, what it holds and what it may hold."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy, Stage, created

READER = "arn:aws:iam::111122223333:role/Reader"
ELSEWHERE = "arn:aws:iam::444455556666:role/Reader"
SESSION = "arn:aws:sts::111122223333:assumed-role/Reader/alice"

REFUSED_BY_PATTERNS = [
    ("SOURCE_PRINCIPAL_ARNS", "", "is not set", "ARNs of roles or users"),
    ("SOURCE_PRINCIPAL_ARNS", "arn:aws:iam:role/Reader", "arn:aws:iam:role/Reader", "ARNs of roles or users"),
    ("SOURCE_PRINCIPAL_ARNS", SESSION, "assumed-role/Reader/alice", "ARNs of roles or users"),
    ("SOURCE_POLICY_SCOPE", "everything", "everything", "accounts or organization"),
    ("MEMBER_ROLE_MAX_SESSION", "43201", "43201", "from 3600 to 43200"),
]
PAST_PATTERNS = [
    ("SOURCE_PRINCIPAL_ARNS", f"{READER},{ELSEWHERE}", "111122223333, 444455556666", "all of one account"),
    ("SOURCE_PRINCIPAL_ARNS", "arn:aws:iam::111122223333:role/R*", "wildcard", "ARNs of roles or users"),
    ("MEMBER_ROLE_NAME", "AWSControlTowerExecution", "AWSControlTowerExecution", "not one of ACCESS_ROLE_NAMES"),
]


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> Stage:
    return deploy("wrong", SourcePrincipalArns=reader)


def parameter(variable: str) -> str:
    return "".join(word.title() for word in variable.split("_"))


def error_of(organization: LocalOrganization, function: str, event: Any) -> str:
    """Invoke a function, and tell what it stopped with."""
    answer = organization.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    assert answer.get("FunctionError") == "Unhandled"
    return str(json.loads(answer["Payload"].read())["errorMessage"])


@pytest.mark.parametrize(("variable", "value", "holds", "may_hold"), [*REFUSED_BY_PATTERNS, *PAST_PATTERNS])
def test_a_function_stops_with_one_error_that_says_what_is_wrong(
    organization: LocalOrganization, stage: Stage, variable: str, value: str, holds: str, may_hold: str
) -> None:
    functions, function = organization.client("lambda"), stage.function("enroll")
    right = stage.environment
    functions.update_function_configuration(FunctionName=function, Environment={"Variables": right | {variable: value}})
    try:
        error = error_of(organization, function, {"Records": []})
    finally:
        functions.update_function_configuration(FunctionName=function, Environment={"Variables": right})
    assert error.startswith(variable)
    assert holds in error
    assert may_hold in error


@pytest.mark.parametrize(("variable", "value"), [wrong[:2] for wrong in REFUSED_BY_PATTERNS])
def test_cloudformation_refuses_what_a_pattern_can_tell(
    deploy: Deploy, organization: LocalOrganization, reader: str, variable: str, value: str
) -> None:
    parameters = {"SourcePrincipalArns": reader, parameter(variable): value}
    with pytest.raises(ClientError, match=parameter(variable)):
        deploy("refused", **parameters)
    stacks = organization.client("cloudformation").describe_stacks()["Stacks"]
    assert "rolecall-refused" not in [stack["StackName"] for stack in stacks]


@pytest.mark.parametrize(("variable", "value"), [wrong[:2] for wrong in PAST_PATTERNS])
def test_what_a_pattern_can_not_tell_stops_both_functions_before_they_do_anything(
    deploy: Deploy, organization: LocalOrganization, reader: str, variable: str, value: str
) -> None:
    parameters = {"SourcePrincipalArns": reader, parameter(variable): value}
    stage = deploy("passed", **parameters)
    record = {"messageId": "1", "receiptHandle": "1", "body": json.dumps({"account_id": "444455556666"})}
    assert error_of(organization, stage.function("enroll"), {"Records": [record]}).startswith(variable)
    assert error_of(organization, stage.function("on_account_event"), created("444455556666")).startswith(variable)
    assert stage.waiting() == 0
    assert organization.ledger("passed") == {}
