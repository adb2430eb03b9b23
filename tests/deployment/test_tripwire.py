"""The tripwire's rule: changes by others are reported, and those by Rolecall and CloudFormation aren't."""

import json
import re
from typing import Any

import pytest

from local.organization import LocalOrganization
from rolecall.deploy.location import Location
from rolecall.deploy.parameters import contradictions, known_values, merge_parameters
from rolecall.partitions import EVENT_REGIONS
from tests.conftest import ROOT
from tests.deployment.deployed import MANAGEMENT_ACCOUNT, deployed

_HERE = Location("aws", MANAGEMENT_ACCOUNT, "us-east-1")
_IAM = f"arn:aws:iam::{MANAGEMENT_ACCOUNT}"
_PRINCIPALS = f"{_IAM}:role/Reader,{_IAM}:role/team/Auditor,{_IAM}:user/staff/jo"
_POLICY = {"policyArn": f"{_IAM}:policy/CrossAccountReadOnlyAccess"}
_FUNCTION = f"arn:aws:lambda:us-east-1:{MANAGEMENT_ACCOUNT}:function:rolecall-dev-enroll"


def _assumed(role: str) -> dict[str, Any]:
    name = role.rpartition("/")[2]
    issuer = {"type": "Role", "arn": f"{_IAM}:role/{role}", "accountId": MANAGEMENT_ACCOUNT, "userName": name}
    return {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{MANAGEMENT_ACCOUNT}:assumed-role/{name}/someone",
        "accountId": MANAGEMENT_ACCOUNT,
        "sessionContext": {"sessionIssuer": issuer, "attributes": {"mfaAuthenticated": "true"}},
    }


_ADMINISTRATOR = _assumed("aws-reserved/sso.amazonaws.com/AWSReservedSSO_Administrator_0123456789abcdef")
_USER = {"type": "IAMUser", "arn": f"{_IAM}:user/mallory", "accountId": MANAGEMENT_ACCOUNT, "userName": "mallory"}
_ROOT = {"type": "Root", "arn": f"{_IAM}:root", "accountId": MANAGEMENT_ACCOUNT}
_PUBLISH = _assumed("of-a-function")
"""A session of the role that the deployment in tests has for publish."""


def _event(name: str, request: dict[str, Any], **changes: Any) -> dict[str, Any]:
    service = "lambda" if {"functionName", "uUID"} & request.keys() else "iam"
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": "AWS API Call via CloudTrail",
        "source": f"aws.{service}",
        "account": MANAGEMENT_ACCOUNT,
        "time": "2026-11-30T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "userIdentity": _ADMINISTRATOR,
            "requestParameters": request,
            "responseElements": None,
            "readOnly": False,
            **changes,
        },
    }


_REPORTED = [
    _event("CreatePolicyVersion", _POLICY | {"setAsDefault": True}),
    _event("SetDefaultPolicyVersion", {"policyArn": f"{_POLICY['policyArn']}-2", "versionId": "v1"}),
    _event("DeletePolicy", _POLICY, userIdentity=_ROOT),
    _event("AttachGroupPolicy", _POLICY | {"groupName": "staff"}, userIdentity=_USER),
    _event("AttachRolePolicy", {"roleName": "Reader", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
    _event("PutRolePolicy", {"roleName": "Auditor", "policyName": "more"}),
    _event("UpdateAssumeRolePolicy", {"roleName": "Auditor"}),
    _event("DeleteRolePermissionsBoundary", {"roleName": "Reader"}),
    _event("CreateRole", {"roleName": "Reader"}),
    _event("PutUserPolicy", {"userName": "jo", "policyName": "more"}, userIdentity=_USER),
    _event("AddUserToGroup", {"userName": "jo", "groupName": "administrators"}),
    _event("PutRolePolicy", {"roleName": "rolecall-dev-PublishRole-1A2B3C"}),
    _event("UpdateFunctionCode20150331v2", {"functionName": "rolecall-dev-enroll"}),
    _event("UpdateFunctionConfiguration20150331v2", {"functionName": f"{MANAGEMENT_ACCOUNT}:rolecall-dev-enroll"}),
    _event("AddPermission20150331v2", {"functionName": _FUNCTION}),
    _event("UpdateEventSourceMapping20150331", {"uUID": "1"}, responseElements={"functionArn": _FUNCTION}),
    # A member account's session of a role that has publish's name.
    _event("CreatePolicyVersion", _POLICY, userIdentity=_assumed("path/of-a-function")),
]
_NOT_REPORTED = [
    _event("CreatePolicyVersion", _POLICY, userIdentity=_PUBLISH),
    _event("AttachRolePolicy", _POLICY | {"roleName": "Reader"}, userIdentity=_PUBLISH),
    _event(
        "UpdateFunctionCode20150331v2",
        {"functionName": "rolecall-dev-enroll"},
        userIdentity=_ADMINISTRATOR | {"invokedBy": "cloudformation.amazonaws.com"},
    ),
    _event("Invoke", {"functionName": _FUNCTION}),
    _event("CreatePolicyVersion", _POLICY, errorCode="AccessDenied"),
    _event("CreatePolicyVersion", {"policyArn": f"{_IAM}:policy/CrossAccountReadOnlyAccessToo"}),
    _event("PutRolePolicy", {"roleName": "ReaderToo"}),
    _event("TagRole", {"roleName": "Reader"}),
    _event("CreateAccessKey", {"userName": "jo"}),
    _event("UpdateFunctionCode20150331v2", {"functionName": "rolecall-prod-enroll"}),
]


def _matches(aws: LocalOrganization, pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    answer = aws.client("events").test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))
    return bool(answer["Result"])


def _pattern(template: dict[str, Any], **parameters: str) -> dict[str, Any]:
    deployment = deployed(template, "aws", Tripwire="true", **parameters)
    pattern: dict[str, Any] = deployment["TripwireRule"]["EventPattern"]
    return pattern


def test_only_changes_by_others_are_reported(template: dict[str, Any], local_aws: LocalOrganization) -> None:
    pattern = _pattern(template, SourcePrincipalArns=_PRINCIPALS)

    wrong = [
        (event["detail"]["eventName"], event["detail"]["requestParameters"])
        for events, reported in ((_REPORTED, True), (_NOT_REPORTED, False))
        for event in events
        if _matches(local_aws, pattern, event) != reported
    ]

    assert wrong == []


def test_separate_source_account_leaves_only_the_functions(
    template: dict[str, Any], local_aws: LocalOrganization
) -> None:
    pattern = _pattern(template, SourcePrincipalArns="arn:aws:iam::444455556666:role/Reader")

    reported = [event["detail"]["requestParameters"] for event in _REPORTED if _matches(local_aws, pattern, event)]

    assert len(reported) == 5
    assert all("rolecall-dev" in json.dumps(each) or "uUID" in each for each in reported)


def test_without_a_source_policy_no_function_is_excluded(
    template: dict[str, Any], local_aws: LocalOrganization
) -> None:
    principals = f"{_PRINCIPALS},arn:aws:iam::444455556666:role/Scanner"
    pattern = _pattern(template, SourcePrincipalArns=principals, SourcePolicyScope="none", ExternalId="secret")
    changed = _event("AttachRolePolicy", {"roleName": "Reader", "policyArn": "arn:aws:iam::aws:policy/Any"})

    assert "of-a-function" not in json.dumps(pattern)
    assert _matches(local_aws, pattern, changed)
    assert not _matches(local_aws, pattern, _event("CreatePolicyVersion", _POLICY))


def test_documented_pattern_of_the_source_account_matches(local_aws: LocalOrganization) -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "detections.md").read_text(), re.DOTALL)
    (pattern,) = [block for text in blocks if "source" in (block := json.loads(text))]
    there = json.loads(json.dumps(_REPORTED[0]).replace(MANAGEMENT_ACCOUNT, "444455556666"))
    session = {"type": "AssumedRole", "principalId": "AROAEXAMPLE:rolecall-prod"}

    assert _matches(local_aws, pattern, there)
    assert _matches(local_aws, pattern, _event("UpdateAssumeRolePolicy", {"roleName": "Reader"}))
    there["detail"]["userIdentity"] = session
    assert not _matches(local_aws, pattern, there)


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_topic_and_its_key_allow_the_tripwire_only_if_it_is_set(partition: str, template: dict[str, Any]) -> None:
    def allowed(tripwire: str) -> list[Any]:
        deployment = deployed(template, partition, Tripwire=tripwire)
        documents = (
            deployment["AlarmTopicPolicy"]["PolicyDocument"],
            deployment["AlarmKey"]["KeyPolicy"],
        )
        return [
            each.get("Condition")
            for document in documents
            for each in document["Statement"]
            if each["Principal"] == {"Service": "events.amazonaws.com"}
        ]

    rule = f"arn:{partition}:events:{EVENT_REGIONS[partition]}:{MANAGEMENT_ACCOUNT}:rule/rolecall-dev-tripwire"
    assert allowed("true") == [{"ArnEquals": {"aws:SourceArn": rule}}, None]
    assert allowed("false") == []


def test_alarm_and_rule_exist_and_are_watched(template: dict[str, Any]) -> None:
    deployment = deployed(template, "aws", Tripwire="true")
    rule, alarm, failed = (deployment[each] for each in ("TripwireRule", "TripwireAlarm", "RulesFailedAlarm"))
    (target,) = rule["Targets"]
    topic_policy = json.dumps(deployment["AlarmTopicPolicy"])

    assert rule["Name"] == alarm["AlarmName"] == alarm["Dimensions"][0]["Value"] == "rolecall-dev-tripwire"
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]) == ("TriggeredRules", "Sum", 0)
    assert target["Arn"] == deployment.values["AlarmTopic"] == alarm["AlarmActions"][0]
    assert rule["Name"] in json.dumps(failed["Metrics"])
    assert ":alarm:rolecall-dev-tripwire" in topic_policy
    message = target["InputTransformer"]
    assert set(re.findall(r"<(\w+)>", message["InputTemplate"])) == message["InputPathsMap"].keys()
    assert json.loads(message["InputTemplate"])  # a string, which SNS sends as it is


@pytest.mark.parametrize(("count", "fits"), [(20, True), (30, False)])
def test_pattern_that_is_too_long_is_rejected(count: int, fits: bool, template: dict[str, Any]) -> None:
    arns = ",".join(f"{_IAM}:role/Reader{number:03}" for number in range(count))
    given = {"Stage": "dev", "SourcePrincipalArns": arns, "Tripwire": "true"}
    values = known_values(template, merge_parameters(template["Parameters"], given, {}), _HERE)

    problems = [each for each in contradictions(template, values) if each.startswith("Tripwire ")]

    assert bool(problems) != fits
    assert all("EventBridge allows 2048" in each for each in problems)
