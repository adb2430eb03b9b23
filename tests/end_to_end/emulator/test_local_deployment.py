"""A package runs on the local AWS organization as CloudFormation and Lambda would run it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.deployment import DeploymentError
from local.organization import LocalOrganization, allowing, trusting
from local.waiting import until
from tests.end_to_end.emulator.refusals import denied

CODE = """
import importlib.util, json, os

def handler(event, context):
    if "CloseAccount" in json.dumps(event):
        print("refused")
        raise ValueError("no closing")
    for record in event.get("Records", [event]):
        print("heard " + str(record.get("body") or record["detail"]["eventName"]))
    return {"code": os.path.realpath(__file__), "environment": dict(os.environ), "chalicelib": importlib.util.find_spec("chalicelib") is not None}
"""
LAMBDA = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
READ_QUEUE = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]


def package(directory: Path, actions: list[str] = READ_QUEUE, greeting: str = "hello") -> Path:
    """Write a package of one function, which a queue and the organization's events call."""
    queue_arn = {"Fn::GetAtt": ["Queue", "Arn"]}
    # A role of our own: SAM would attach a managed policy that reads every queue.
    role = {
        "AssumeRolePolicyDocument": LAMBDA,
        "Policies": [{"PolicyName": "inline", "PolicyDocument": allowing(*actions, resource=queue_arn)}],
    }
    function = {
        "FunctionName": {"Fn::Sub": "rolecall-${Stage}-listener"},
        "CodeUri": "./deployment.zip",
        "Handler": "app.handler",
        "Runtime": "python3.13",
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Environment": {"Variables": {"GREETING": greeting}},
        "Events": {
            "Messages": {
                "Type": "SQS",
                "Properties": {
                    "Queue": queue_arn,
                    "BatchSize": {"Ref": "Size"},
                    "ScalingConfig": {"MaximumConcurrency": {"Ref": "Most"}},
                },
            },
            "Organization": {"Type": "EventBridgeRule", "Properties": {"Pattern": {"source": ["aws.organizations"]}}},
        },
        "EventInvokeConfig": {
            "MaximumRetryAttempts": 1,
            "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": {"Fn::GetAtt": ["Failures", "Arn"]}}},
        },
    }
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Parameters": {
            "Stage": {"Type": "String"},
            "Size": {"Type": "Number", "Default": 5},
            "Most": {"Type": "Number", "Default": 2},
        },
        "Resources": {
            "Function": {"Type": "AWS::Serverless::Function", "Properties": function},
            "Role": {"Type": "AWS::IAM::Role", "Properties": role},
            "Failures": {"Type": "AWS::SQS::Queue"},
            "Queue": {
                "Type": "AWS::SQS::Queue",
                "Properties": {"QueueName": {"Fn::Sub": "rolecall-${Stage}-messages"}},
            },
        },
        "Outputs": {"QueueUrl": {"Value": {"Ref": "Queue"}}, "FailuresUrl": {"Value": {"Ref": "Failures"}}},
    }
    (directory / "template.yaml").write_text(yaml.safe_dump(template))
    with zipfile.ZipFile(directory / "deployment.zip", "w") as code:
        code.writestr("app.py", CODE)
    return directory


def invoked(organization: LocalOrganization, stage: str) -> dict[str, Any]:
    event = json.dumps({"detail": {"eventName": "by hand"}}).encode()
    answer = organization.client("lambda").invoke(FunctionName=f"rolecall-{stage}-listener", Payload=event)
    found: dict[str, Any] = json.loads(answer["Payload"].read())
    return found


def heard(organization: LocalOrganization, stage: str, what: str) -> bool:
    return f"heard {what}" in organization.logs(f"rolecall-{stage}-listener")


@pytest.fixture(scope="module")
def queue(organization: LocalOrganization, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deploy the package as stage `tiny`."""
    return organization.deploy("tiny", package(tmp_path_factory.mktemp("tiny")), {"Stage": "tiny", "Most": "3"})[
        "QueueUrl"
    ]


def test_messages_reach_the_function_and_the_log(organization: LocalOrganization, queue: str) -> None:
    organization.client("sqs").send_message(QueueUrl=queue, MessageBody="a message")
    until(lambda: heard(organization, "tiny", "a message"), "the message is logged")


def test_an_accounts_creation_reaches_the_function(organization: LocalOrganization, queue: str) -> None:
    assert queue
    organization.create_account("announced")
    until(lambda: heard(organization, "tiny", "CreateAccountResult"), "the event is logged")


def test_an_event_that_the_function_fails_on_is_tried_again_and_then_set_aside(
    organization: LocalOrganization, tmp_path: Path
) -> None:
    url = organization.deploy("failing", package(tmp_path), {"Stage": "failing"})["FailuresUrl"]
    account_id = organization.create_account("failing")
    organization.client("organizations").close_account(AccountId=account_id)

    def set_aside() -> dict[str, Any] | None:
        messages = organization.client("sqs").receive_message(QueueUrl=url).get("Messages", [])
        found: list[dict[str, Any]] = [json.loads(message["Body"])["requestPayload"] for message in messages]
        return next(iter(found), None)

    assert until(set_aside, "the event is set aside")["detail"]["eventName"] in {"CloseAccount", "CloseAccountResult"}
    until(lambda: organization.logs("rolecall-failing-listener").count("refused") == 4, "both events are tried twice")


def test_delays_can_be_skipped(organization: LocalOrganization, queue: str) -> None:
    organization.client("sqs").send_message(QueueUrl=queue, MessageBody="a late message", DelaySeconds=900)
    organization.skip_delays("rolecall-tiny-messages")
    until(lambda: heard(organization, "tiny", "a late message"), "the delayed message is logged")


def test_the_function_has_its_roles_credentials_and_nothing_of_ours(
    organization: LocalOrganization, queue: str
) -> None:
    answer = invoked(organization, "tiny")
    environment = answer["environment"]
    assert environment["GREETING"] == "hello"
    assert environment["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert {"LOG_LEVEL", "AWS_PROFILE", "PYTHONPATH"}.isdisjoint(environment)
    assert not answer["chalicelib"]
    session = {
        "AccessKeyId": environment["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": environment["AWS_SECRET_ACCESS_KEY"],
        "SessionToken": environment["AWS_SESSION_TOKEN"],
    }
    sqs = organization.client("sqs", credentials=session)
    assert sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    with denied("sqs:SendMessage"):
        sqs.send_message(QueueUrl=queue, MessageBody="not allowed")


def test_numbers_from_parameters_stay_numbers(organization: LocalOrganization, tmp_path: Path) -> None:
    def source() -> dict[str, Any]:
        found = organization.client("lambda").list_event_source_mappings(FunctionName="rolecall-numbers-listener")
        mapping: dict[str, Any] = found["EventSourceMappings"][0]
        return mapping

    organization.deploy("numbers", package(tmp_path), {"Stage": "numbers", "Most": "3"})
    assert (source()["BatchSize"], source()["ScalingConfig"]) == (5, {"MaximumConcurrency": 3})

    organization.deploy("numbers", package(tmp_path), {"Stage": "numbers", "Most": "4", "Size": "7"})
    assert (source()["BatchSize"], source()["ScalingConfig"]) == (7, {"MaximumConcurrency": 4})


def test_the_same_again_changes_nothing_and_another_package_updates(
    organization: LocalOrganization, tmp_path: Path
) -> None:
    parameters = {"Stage": "again"}
    first = organization.deploy("again", package(tmp_path), parameters)
    assert organization.deploy("again", package(tmp_path), parameters) == first
    organization.deploy("again", package(tmp_path, greeting="good evening"), parameters)
    assert invoked(organization, "again")["environment"]["GREETING"] == "good evening"


def test_what_two_functions_share_is_unpacked_once(organization: LocalOrganization, tmp_path: Path) -> None:
    shared = package(tmp_path)
    for stage in ("left", "right"):
        organization.deploy(stage, shared, {"Stage": stage})
    assert invoked(organization, "left")["code"] == invoked(organization, "right")["code"]


def test_a_queue_that_the_function_may_not_read_fails_the_deployment(
    organization: LocalOrganization, tmp_path: Path
) -> None:
    with pytest.raises(DeploymentError, match="does not have permissions to call DeleteMessage on SQS"):
        organization.deploy("unread", package(tmp_path, ["sqs:ReceiveMessage"]), {"Stage": "unread"})


def test_a_queue_may_insist_on_tls(organization: LocalOrganization) -> None:
    sqs = organization.client("sqs")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    url = sqs.create_queue(QueueName="tls", Attributes={"Policy": policy})["QueueUrl"]
    account_id = organization.management_account_id
    trust = trusting(f"arn:aws:iam::{account_id}:root")
    arn = organization.create_role(account_id, "Sender", trust, inline=allowing("sqs:SendMessage"))
    sender = organization.client("sqs", credentials=organization.assume(arn))
    assert sender.send_message(QueueUrl=url, MessageBody="hello")["MessageId"]
