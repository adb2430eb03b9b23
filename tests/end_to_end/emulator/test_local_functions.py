"""Lambda: environment and credentials, asynchronous invocations, event source mappings and updates."""

import json
import secrets
import zipfile
from pathlib import Path
from typing import Any

import pytest

from local.organization import LocalOrganization, allow_policy
from local.waiting import wait_until
from rolecall.deploy.stack_operations import FailedError
from tests.end_to_end.expected_errors import denied

CODE = """
import importlib.util, json, os, pathlib, time

def describe(event, context):
    found = importlib.util.find_spec("chalicelib") is not None
    return {"environment": dict(os.environ), "chalicelib": found}

def fail(event, context):
    raise ValueError("failed")

def record(event, context):
    bodies = [record["body"] for record in event["Records"]]
    directory = pathlib.Path(bodies[0]).parent
    with (directory / "batches").open("a") as batches:
        batches.write(json.dumps(bodies) + chr(10))
    while not (directory / "continue").exists():
        time.sleep(0.02)
    return {"batchItemFailures": []}
"""
READ_QUEUE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


def functions(**source: Any) -> dict[str, Any]:
    """Return one function per handler; a FIFO queue invokes `record`."""
    queue, failures = {"Fn::GetAtt": ["Queue", "Arn"]}, {"Fn::GetAtt": ["Failures", "Arn"]}
    properties: dict[str, dict[str, Any]] = {
        "describe": {"Environment": {"Variables": {"GREETING": "hello"}}},
        "fail": {
            "EventInvokeConfig": {
                "MaximumRetryAttempts": 1,
                "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": failures}},
            }
        },
        "record": {"Events": {"Messages": {"Type": "SQS", "Properties": {"Queue": queue, **source}}}},
    }
    common = {
        "CodeUri": "./deployment.zip",
        "Runtime": "python3.13",
        "Timeout": 30,
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
    }
    names = {
        handler: {"FunctionName": {"Fn::Sub": f"${{AWS::StackName}}-{handler}"}, "Handler": f"app.{handler}"}
        for handler in properties
    }
    return {
        handler.title(): {"Type": "AWS::Serverless::Function", "Properties": common | names[handler] | each}
        for handler, each in properties.items()
    }


def package(directory: Path, *actions: str, **source: Any) -> Path:
    """Write a package of the functions, whose role has permissions on the queue."""
    queue = {"Fn::GetAtt": ["Queue", "Arn"]}
    trusted = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = {"PolicyName": "inline", "PolicyDocument": allow_policy(*(actions or READ_QUEUE), resource=queue)}
    resources = {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"FifoQueue": True}},
        "Failures": {"Type": "AWS::SQS::Queue"},
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trusted]},
                "Policies": [policy],
            },
        },
    }
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": resources | functions(**source),
        "Outputs": {"QueueUrl": {"Value": {"Ref": "Queue"}}, "FailuresUrl": {"Value": {"Ref": "Failures"}}},
    }
    (directory / "template.json").write_text(json.dumps(template))
    with zipfile.ZipFile(directory / "deployment.zip", "w") as code:
        code.writestr("app.py", CODE)
    return directory


@pytest.fixture(scope="module")
def outputs(organization: LocalOrganization, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return organization.deploy("functions", package(tmp_path_factory.mktemp("functions")), {})


def test_function_has_its_roles_credentials_and_only_its_environment(
    organization: LocalOrganization, outputs: dict[str, str]
) -> None:
    response = organization.invoke("rolecall-functions-describe", {})
    environment = response["environment"]
    assert environment["GREETING"] == "hello"
    assert {"LOG_LEVEL", "AWS_PROFILE", "PYTHONPATH"}.isdisjoint(environment)
    assert not response["chalicelib"]
    session = {
        "AccessKeyId": environment["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": environment["AWS_SECRET_ACCESS_KEY"],
        "SessionToken": environment["AWS_SESSION_TOKEN"],
    }
    sqs, url = organization.client("sqs", credentials=session), outputs["QueueUrl"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    with denied("sqs:SendMessage"):
        sqs.send_message(QueueUrl=url, MessageBody="denied", MessageGroupId="only", MessageDeduplicationId="denied")


def test_failed_event_is_retried_and_sent_to_the_destination(
    organization: LocalOrganization, outputs: dict[str, str]
) -> None:
    events, arn = organization.client("events"), f"arn:aws:lambda:us-east-1:{organization.management_account_id}"
    events.put_rule(Name="closures", EventPattern=json.dumps({"detail": {"eventName": ["CloseAccount"]}}))
    events.put_targets(Rule="closures", Targets=[{"Id": "function", "Arn": f"{arn}:function:rolecall-functions-fail"}])
    organization.client("organizations").close_account(AccountId=organization.create_account("closed"))

    sqs, url = organization.client("sqs"), outputs["FailuresUrl"]
    (message,) = wait_until(lambda: sqs.receive_message(QueueUrl=url).get("Messages"), "the event is a failure")

    assert json.loads(message["Body"])["requestPayload"]["detail"]["eventName"] == "CloseAccount"
    assert sum(line.startswith("REPORT ") for line in organization.logs("rolecall-functions-fail")) == 2


@pytest.mark.parametrize(
    ("actions", "source", "error"),
    [
        (("sqs:ReceiveMessage",), {}, "does not have permissions to call DeleteMessage on SQS"),
        ((), {"MaximumBatchingWindowInSeconds": 1}, "FIFO queue"),
        ((), {"BatchSize": 11}, "FIFO queue"),
    ],
)
def test_invalid_event_source_mapping_fails_the_deployment(
    organization: LocalOrganization, tmp_path: Path, actions: tuple[str, ...], source: dict[str, int], error: str
) -> None:
    with pytest.raises(FailedError, match=error):
        organization.deploy(secrets.token_hex(4), package(tmp_path, *actions, **source), {})


def test_message_group_is_processed_one_batch_at_a_time(
    organization: LocalOrganization, outputs: dict[str, str], tmp_path: Path
) -> None:
    def batches() -> list[list[str]]:
        written = tmp_path / "batches"
        return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []

    def send(body: str) -> None:
        organization.client("sqs").send_message(
            QueueUrl=outputs["QueueUrl"], MessageBody=body, MessageGroupId="only", MessageDeduplicationId=body
        )

    bodies = [str(tmp_path / str(number)) for number in range(6)]
    send(bodies[0])
    wait_until(lambda: batches() == [bodies[:1]], "the first batch is processed")
    for body in bodies[1:]:
        send(body)
    # An update of the function doesn't interrupt the invocation.
    organization.client("lambda").update_function_configuration(
        FunctionName="rolecall-functions-record", Environment={"Variables": {"CHANGED": "yes"}}
    )
    assert batches() == [bodies[:1]]

    (tmp_path / "continue").touch()

    wait_until(lambda: len(batches()) == 2, "the second batch is processed")
    assert batches() == [bodies[:1], bodies[1:]]
