"""Functions are invoked by hand and by schedules, and Lambda measures them."""

import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.organization import InvocationError, LocalOrganization, allowing, trusting
from local.waiting import until
from tests.end_to_end.emulator.refusals import denied

CODE = """
import json, pathlib, time

def handler(event, context):
    if event.get("fail"):
        raise ValueError("told to fail")
    if "begin" in event:
        pathlib.Path(event["begin"]).touch()
        while not pathlib.Path(event["end"]).exists():
            time.sleep(0.05)
    print("heard " + json.dumps(event))
    print(json.dumps(event.get("metrics", {})))
    return {"echo": event}
"""


def schedule(name: str, **settings: Any) -> dict[str, Any]:
    common = {"Name": {"Fn::Sub": f"${{AWS::StackName}}-{name}"}, "Schedule": {"Ref": "Rate"}}
    return {"Type": "Schedule", "Properties": common | settings}


@pytest.fixture(scope="module")
def function(organization: LocalOrganization, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deploy a function with schedules, which tries events that it fails on just once."""
    directory = tmp_path_factory.mktemp("echo")
    properties = {
        "FunctionName": "echo",
        "CodeUri": "./deployment.zip",
        "Handler": "app.handler",
        "Runtime": "python3.13",
        "EventInvokeConfig": {"MaximumRetryAttempts": 0},
        "Events": {
            "Bare": schedule("bare"),
            "Greeting": schedule("greeting", Input='{"greeting": "hello"}', State={"Ref": "State"}),
            "Never": schedule("never", State="DISABLED"),
        },
    }
    template = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Parameters": {
            "Rate": {"Type": "String", "Default": "rate(1 day)"},
            "State": {"Type": "String", "Default": "ENABLED"},
        },
        "Resources": {"Function": {"Type": "AWS::Serverless::Function", "Properties": properties}},
    }
    (directory / "template.yaml").write_text(yaml.safe_dump(template))
    with zipfile.ZipFile(directory / "deployment.zip", "w") as code:
        code.writestr("app.py", CODE)
    organization.deploy("echo", directory, {})
    return "echo"


def heard(organization: LocalOrganization, function: str) -> list[dict[str, Any]]:
    lines = organization.logs(function)
    return [json.loads(line.removeprefix("heard ")) for line in lines if line.startswith("heard ")]


def test_an_invocation_answers_or_tells_its_error(organization: LocalOrganization, function: str) -> None:
    assert organization.invoke(function, {"a": 1}) == {"echo": {"a": 1}}
    with pytest.raises(InvocationError, match="told to fail"):
        organization.invoke(function, {"fail": True})


def test_an_invocation_ends_well_though_its_function_changes_meanwhile(
    organization: LocalOrganization, function: str, tmp_path: Path
) -> None:
    files = {name: str(tmp_path / name) for name in ("begin", "end")}
    with ThreadPoolExecutor() as pool:
        invocation = pool.submit(organization.invoke, function, files)
        try:
            until(Path(files["begin"]).exists, "the invocation begins")
            changed = {"Variables": {"CHANGED": "yes"}}
            organization.client("lambda").update_function_configuration(FunctionName=function, Environment=changed)
        finally:
            Path(files["end"]).touch()
        assert invocation.result() == {"echo": files}
    assert organization.invoke(function, {}) == {"echo": {}}


def test_a_session_invokes_with_permission(organization: LocalOrganization, function: str) -> None:
    account_id = organization.management_account_id
    trust = trusting(f"arn:aws:iam::{account_id}:root")
    arn = f"arn:aws:lambda:us-east-1:{account_id}:function:{function}"
    may = allowing("lambda:InvokeFunction", resource=arn)
    operator = organization.assume(organization.create_role(account_id, "Operator", trust, inline=may))
    stranger = organization.assume(organization.create_role(account_id, "Stranger", trust))

    assert organization.invoke(function, {}, operator) == {"echo": {}}
    with denied("lambda:InvokeFunction"):
        organization.invoke(function, {}, stranger)


def test_a_schedule_hands_over_its_input(organization: LocalOrganization, function: str) -> None:
    organization.fire("rolecall-echo-greeting")
    until(lambda: {"greeting": "hello"} in heard(organization, function), "the function is invoked")


def test_a_schedule_without_input_hands_over_the_scheduled_event(
    organization: LocalOrganization, function: str
) -> None:
    organization.fire("rolecall-echo-bare")

    def scheduled() -> dict[str, Any] | None:
        return next((event for event in heard(organization, function) if "source" in event), None)

    event = until(scheduled, "the function is invoked")
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.events", "Scheduled Event", {})
    rule = f"arn:aws:events:us-east-1:{organization.management_account_id}:rule/rolecall-echo-bare"
    assert (event["account"], event["resources"]) == (organization.management_account_id, [rule])


@pytest.mark.parametrize("rule", ["rolecall-echo-never", "rolecall-echo-absent"])
def test_only_an_enabled_schedule_is_fired(organization: LocalOrganization, function: str, rule: str) -> None:
    assert function
    with pytest.raises(ValueError, match="no rule"):
        organization.fire(rule)


def test_what_a_function_logs_as_metrics_is_measured(organization: LocalOrganization, function: str) -> None:
    directive = {"Namespace": "Rolecall", "Dimensions": [["service"]], "Metrics": [{"Name": "Echoed", "Unit": "Count"}]}
    embedded = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}

    organization.invoke(function, {"metrics": {"_aws": embedded, "service": "echo", "Echoed": [3]}})

    assert organization.metric("Echoed", service="echo") == [3]


def test_invocations_errors_and_dropped_events_are_measured(organization: LocalOrganization, function: str) -> None:
    def measured(name: str) -> float:
        return sum(organization.metric(name, namespace="AWS/Lambda", FunctionName=function))

    names = ("Invocations", "Errors", "AsyncEventsDropped")
    before = {name: measured(name) for name in names}
    organization.invoke(function, {})
    with pytest.raises(InvocationError):
        organization.invoke(function, {"fail": True})
    payload = json.dumps({"fail": True}).encode()
    organization.client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=payload)

    until(lambda: measured("AsyncEventsDropped") == before["AsyncEventsDropped"] + 1, "the event is dropped")
    assert [measured(name) - before[name] for name in names] == [3, 2, 1]


def test_throttles_are_measured(organization: LocalOrganization, function: str) -> None:
    client = organization.client("lambda")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    try:
        with pytest.raises(client.exceptions.TooManyRequestsException):
            organization.invoke(function, {})
    finally:
        client.delete_function_concurrency(FunctionName=function)
    assert sum(organization.metric("Throttles", namespace="AWS/Lambda", FunctionName=function)) == 1
