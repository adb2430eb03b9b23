"""Invalid settings: CloudFormation rejects what a pattern detects, and the functions fail at the rest."""

import json
from typing import Any

import pytest

from local.organization import InvocationError, LocalOrganization
from rolecall.errors import CommandError
from tests.end_to_end.deployed_stage import Deploy, DeployedStage, account_created_event, environment_changed

READER = "arn:aws:iam::111122223333:role/Reader"
OTHER = "arn:aws:iam::444455556666:role/Reader"


@pytest.fixture(scope="module")
def stage(deploy: Deploy, reader: str) -> DeployedStage:
    return deploy("invalid", SourcePrincipalArns=reader)


def error_of(stage: DeployedStage, function: str, event: Any) -> str:
    """Invoke a function, and return the message of its error."""
    with pytest.raises(InvocationError) as raised:
        stage.organization.invoke(stage.function(function), event)
    return str(raised.value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("SourcePrincipalArns", ""),
        ("SourcePrincipalArns", "arn:aws:sts::111122223333:assumed-role/Reader/alice"),
        ("SourcePolicyScope", "everything"),
        ("MemberRoleMaxSession", "43201"),
    ],
)
def test_cloudformation_rejects_values_outside_a_pattern(
    deploy: Deploy, organization: LocalOrganization, reader: str, parameter: str, value: str
) -> None:
    parameters = {"SourcePrincipalArns": reader, parameter: value}
    with pytest.raises(CommandError, match=parameter):
        deploy("rejected", **parameters)
    stacks = organization.client("cloudformation").describe_stacks()["Stacks"]
    assert "rolecall-rejected" not in [stack["StackName"] for stack in stacks]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SOURCE_PRINCIPAL_ARNS", f"{READER},{OTHER}", "all of one account"),
        ("SOURCE_PRINCIPAL_ARNS", "arn:aws:iam::111122223333:role/R*", "wildcard"),
        ("MEMBER_ROLE_NAME", "team/Audit", "no path"),
    ],
)
def test_functions_stop_before_they_do_anything(stage: DeployedStage, variable: str, value: str, expected: str) -> None:
    record = {"messageId": "1", "receiptHandle": "1", "body": json.dumps({"account_id": "444455556666"})}
    events = {"enroll": {"Records": [record]}, "on_account_event": account_created_event("444455556666")}
    with environment_changed(stage, *events, **{variable: value}):
        errors = [error_of(stage, function, event) for function, event in events.items()]
    for error in errors:
        assert error.startswith(variable)
        assert expected in error
    assert stage.message_count() == 0
    assert stage.rows() == {}
