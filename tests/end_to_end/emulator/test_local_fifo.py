"""FIFO queues: one batch of a message group at a time, in order, each message once, and dead letters of their own."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.deployment import DeploymentError
from local.organization import InvocationError, LocalOrganization, allowing
from local.waiting import until
from tests.end_to_end.emulator.test_local_deployment import LAMBDA, READ_QUEUE

CODE = """
import json, os, pathlib, time
import boto3

def serial(event, context):
    bodies = [record["body"] for record in event["Records"]]
    directory = pathlib.Path(bodies[0].rpartition("/")[0])
    with (directory / "batches").open("a") as batches:
        batches.write(json.dumps(bodies) + chr(10))
    while not (directory / "go").exists():
        time.sleep(0.02)
    return {"batchItemFailures": []}

def caller(event, context):
    answer = boto3.client("lambda").invoke(FunctionName=event["function"], Payload=json.dumps(event["payload"]))
    return json.loads(answer["Payload"].read())

def echo(event, context):
    return {"echo": event}
"""


def function(handler: str, role: str = "Role", **properties: Any) -> dict[str, Any]:
    common = {
        "FunctionName": {"Fn::Sub": f"${{AWS::StackName}}-{handler}"},
        "CodeUri": "./deployment.zip",
        "Handler": f"app.{handler}",
        "Runtime": "python3.13",
        "Timeout": 30,
        "Role": {"Fn::GetAtt": [role, "Arn"]},
    }
    return {"Type": "AWS::Serverless::Function", "Properties": common | properties}


def role(*actions: str, resource: Any) -> dict[str, Any]:
    policy = {"PolicyName": "inline", "PolicyDocument": allowing(*actions, resource=resource)}
    return {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": LAMBDA, "Policies": [policy]}}


def package(directory: Path, **source: Any) -> Path:
    """Write a package of a function that a FIFO queue invokes, and of one that invokes another."""
    queue = {"Fn::GetAtt": ["Queue", "Arn"]}
    event = {
        "Type": "SQS",
        "Properties": {"Queue": queue, "FunctionResponseTypes": ["ReportBatchItemFailures"]} | source,
    }
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {
            "Queue": {
                "Type": "AWS::SQS::Queue",
                "Properties": {"QueueName": {"Fn::Sub": "${AWS::StackName}.fifo"}, "FifoQueue": True},
            },
            "Serial": function("serial", Events={"Messages": event}),
            "Echo": function("echo"),
            "Caller": function("caller", "CallerRole"),
            "Role": role(*READ_QUEUE, resource=queue),
            "CallerRole": role("lambda:InvokeFunction", resource={"Fn::GetAtt": ["Echo", "Arn"]}),
        },
        "Outputs": {"QueueUrl": {"Value": {"Ref": "Queue"}}},
    }
    (directory / "template.yaml").write_text(yaml.safe_dump(template))
    with zipfile.ZipFile(directory / "deployment.zip", "w") as code:
        code.writestr("app.py", CODE)
    return directory


@pytest.fixture(scope="module")
def stack(organization: LocalOrganization, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deploy the package, and return the queue's URL."""
    return organization.deploy("fifo", package(tmp_path_factory.mktemp("fifo")), {})["QueueUrl"]


def send(organization: LocalOrganization, url: str, body: str, deduplication: str | None = None) -> str:
    sent = organization.client("sqs").send_message(
        QueueUrl=url, MessageBody=body, MessageGroupId="only", MessageDeduplicationId=deduplication or body
    )
    return str(sent["MessageId"])


def receive(organization: LocalOrganization, url: str) -> list[dict[str, Any]]:
    answer = organization.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["Body"] for message in messages]


def queue_of(organization: LocalOrganization, name: str, **attributes: str) -> str:
    url = organization.client("sqs").create_queue(QueueName=name, Attributes={"FifoQueue": "true"} | attributes)[
        "QueueUrl"
    ]
    return str(url)


def test_a_message_group_is_one_batch_at_a_time(organization: LocalOrganization, stack: str, tmp_path: Path) -> None:
    def batches() -> list[list[str]]:
        written = tmp_path / "batches"
        return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []

    names = [str(tmp_path / str(number)) for number in range(6)]
    send(organization, stack, names[0])
    until(lambda: batches() == [names[:1]], "the first batch runs")
    for name in names[1:]:
        send(organization, stack, name)
    assert receive(organization, stack) == []
    assert batches() == [names[:1]]

    (tmp_path / "go").touch()

    until(lambda: len(batches()) == 2, "the second batch runs")
    assert batches() == [names[:1], names[1:]]
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs = organization.client("sqs")
    until(
        lambda: set(sqs.get_queue_attributes(QueueUrl=stack, AttributeNames=counts)["Attributes"].values()) == {"0"},
        "every message is deleted",
    )


def test_a_message_in_flight_blocks_its_group(organization: LocalOrganization) -> None:
    url, sqs = queue_of(organization, "blocking.fifo"), organization.client("sqs")
    send(organization, url, "first")
    handle = receive(organization, url)[0]["ReceiptHandle"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=900)
    send(organization, url, "second")
    assert receive(organization, url) == []

    organization.skip_delays("blocking.fifo")

    again = receive(organization, url)
    assert bodies(again) == ["first", "second"]
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in again] == ["2", "1"]


def test_a_deduplication_id_is_accepted_once(organization: LocalOrganization) -> None:
    url = queue_of(organization, "once.fifo")
    first = send(organization, url, "one", "a")
    (received,) = receive(organization, url)
    organization.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=received["ReceiptHandle"])
    assert send(organization, url, "two", "a") == first
    assert send(organization, url, "three", "b") != first
    assert bodies(receive(organization, url)) == ["three"]


def test_dead_letters_are_moved_back_in_their_order(organization: LocalOrganization) -> None:
    sqs, name = organization.client("sqs"), "moved-fifo"
    dead = queue_of(organization, f"{name}-dlq.fifo")
    arn = f"arn:aws:sqs:us-east-1:{organization.management_account_id}:{name}-dlq.fifo"
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    url = queue_of(organization, f"{name}.fifo", RedrivePolicy=redrive, VisibilityTimeout="0")
    sent = [send(organization, url, body) for body in ("one", "two")]
    assert bodies(receive(organization, url)) == ["one", "two"]
    assert receive(organization, url) == []

    dead_letters = receive(organization, dead)
    assert bodies(dead_letters) == ["one", "two"]
    assert [each["Attributes"]["MessageDeduplicationId"] for each in dead_letters] == sent
    organization.skip_delays(f"{name}-dlq.fifo")
    sqs.start_message_move_task(SourceArn=arn)

    until(
        lambda: sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]["Status"] == "COMPLETED",
        "the task is complete",
    )
    back = receive(organization, url)
    assert bodies(back) == ["one", "two"]
    assert {each["Attributes"]["MessageGroupId"] for each in back} == {"only"}
    assert receive(organization, dead) == []


def test_the_age_of_a_fifo_queue_counts_what_is_retried(organization: LocalOrganization) -> None:
    url = queue_of(organization, "aged.fifo", VisibilityTimeout="0")
    send(organization, url, "retried")
    for _ in range(5):
        assert receive(organization, url)
    organization.alarm_states()
    ages = organization.metric("ApproximateAgeOfOldestMessage", "Maximum", "AWS/SQS", QueueName="aged.fifo")
    assert max(ages) > 0


@pytest.mark.parametrize("source", [{"MaximumBatchingWindowInSeconds": 1}, {"BatchSize": 11}])
def test_a_fifo_source_has_no_window_and_small_batches(
    organization: LocalOrganization, tmp_path: Path, source: dict[str, int]
) -> None:
    with pytest.raises(DeploymentError, match="FIFO queue"):
        organization.deploy(f"fifo-{'-'.join(source).lower()}", package(tmp_path, **source), {})


def test_a_function_invokes_another_under_its_own_policy(organization: LocalOrganization, stack: str) -> None:
    assert stack
    names = [f"rolecall-fifo-{handler}" for handler in ("caller", "echo", "serial")]
    assert organization.invoke(names[0], {"function": names[1], "payload": {"a": 1}}) == {"echo": {"a": 1}}
    with pytest.raises(InvocationError, match="not authorized to perform: lambda:InvokeFunction"):
        organization.invoke(names[0], {"function": names[2], "payload": {}})
