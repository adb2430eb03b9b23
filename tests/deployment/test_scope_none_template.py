"""With SourcePolicyScope=none, nothing of the source policy is deployed or may be changed."""

import json
from typing import Any

import pytest

from rolecall import cost
from rolecall.deploy.intrinsics import resolve
from rolecall.stage import ALARMS, FUNCTIONS
from tests.deployment.deployed import Deployment, deployed

_READER = "arn:aws:iam::555566667777:role/Scanner"
_OPTIONAL = {"AlarmMail", "AccessRoles", "TripwireRule", "TripwireAlarm"}
_LEFT_OUT = {
    *("Publish", "PublishRole", "PublishLogs", "PublishPublishSqsEventSource", "PublishEventInvokeConfig"),
    *("Freeze", "FreezeRole", "FreezeLogs", "FreezeEventInvokeConfig"),
    *("PublishQueue", "PublishDeadLetterQueue", "PublishQueuesPolicy"),
    *("SourcePolicyFullAlarm", "PublishingBlockedAlarm"),
}


@pytest.fixture(scope="module")
def without(template: dict[str, Any]) -> Deployment:
    """A deployment of scope none."""
    return deployed(template, "aws", SourcePolicyScope="none", SourcePrincipalArns=_READER, ExternalId="example")


def _is_created(deployment: Deployment, part: dict[str, Any]) -> bool:
    return bool(deployment.values.get(part.get("Condition", ""), True))


def _created(deployment: Deployment) -> set[str]:
    return {name for name, each in deployment.expanded["Resources"].items() if _is_created(deployment, each)}


def test_source_policys_resources_are_not_created(template: dict[str, Any], without: Deployment) -> None:
    usual = _created(deployed(template, "aws"))
    assert usual - _created(without) == _LEFT_OUT
    assert usual == without.expanded["Resources"].keys() - _OPTIONAL
    left_out = {"PublishFunction", "FreezeFunction", "PublishQueueUrl", "PublishDeadLetterQueueUrl"}
    outputs = without.expanded["Outputs"]
    assert {name for name, each in outputs.items() if not _is_created(without, each)} == left_out


def test_nothing_that_is_created_refers_to_them(without: Deployment) -> None:
    """CloudFormation rejects a reference to a resource that isn't created."""
    parts = [without.expanded["Resources"][name] for name in _created(without)]
    parts += [each for each in without.expanded["Outputs"].values() if _is_created(without, each)]
    # A reference is not resolved without its value.
    kept = {name: value for name, value in without.values.items() if name.partition(".")[0] not in _LEFT_OUT}
    for part in parts:
        resolve(part.get("Properties", part), kept)


def test_no_function_may_change_a_policy_or_a_source_principal(without: Deployment) -> None:
    roles = {name: role for name, role in without.of_type("AWS::IAM::Role").items() if name in _created(without)}
    assert len(roles) == len(FUNCTIONS) - 2
    for name, role in roles.items():
        (policy,) = role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]:
            text = json.dumps({key: statement[key] for key in ("Action", "Resource")})
            assert ":policy/" not in text, (name, statement)
            assert "555566667777" not in text, (name, statement)
            assert ":user/" not in text, (name, statement)
            assert "publish" not in text, (name, statement)


def test_only_names_are_written_in_the_source_policy_table(without: Deployment) -> None:
    table = without.values["SourcePolicyTable.Arn"]
    written = {
        (name, each["Sid"]): each["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"]
        for name, role in without.of_type("AWS::IAM::Role").items()
        for each in role["Policies"][0]["PolicyDocument"]["Statement"]
        if each["Resource"] == table and each["Action"] in {"dynamodb:UpdateItem", "dynamodb:DeleteItem"}
    }
    of_status = {name for name, keys in written.items() if keys != ["#control"]}
    assert of_status == {("EnrollRole", "RecordTheNames"), ("RetireRole", "DeleteTheNames")}
    assert [written[name] for name in of_status] == [["#status"]] * 2


def test_alarms_count_no_function_or_queue_that_is_missing(without: Deployment) -> None:
    alarms = {
        name: each for name, each in without.of_type("AWS::CloudWatch::Alarm").items() if name in _created(without)
    }
    assert len(alarms) == len(ALARMS) - 2
    assert "publish" not in json.dumps([each.get("Metrics") for each in alarms.values()])
    # docs/cost.md
    metrics = [each for alarm in alarms.values() for each in alarm.get("Metrics", [{"MetricStat": {}}])]
    assert sum("MetricStat" in each for each in metrics) == cost.ALARM_METRICS - 8
    assert "freeze" not in json.dumps([each.get("Metrics") for each in alarms.values()])


def test_functions_have_no_variable_about_publish(without: Deployment) -> None:
    environment = without["Enroll"]["Environment"]["Variables"]
    assert environment["SOURCE_POLICY_SCOPE"] == "none"
    assert not [name for name in environment if name.startswith("PUBLISH")]
