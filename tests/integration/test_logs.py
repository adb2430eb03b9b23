"""The functions' logs and metrics: one line and its metrics for each account, without secrets or personal data."""

import io
import json
from typing import Any

import pytest

from chalicelib.telemetry import metrics
from tests.integration.boundary import FUNCTION_KEYS, Boundary, writes
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, MEMBER_ROLE, Organization
from tests.integration.queues import Delivery
from tests.integration.stage import Context, Invoke, Stage, event


def _lines(log: io.StringIO, message: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["message"] == message]


def _run_batch(stage: Stage, invoke: Invoke) -> Delivery:
    records = stage.receive()
    return stage.settle(records, invoke(stage, "enroll", {"Records": records}))


def _emitted(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the metrics that were emitted, in one line, since the last call."""
    (line,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    (group,) = line["_aws"]["CloudWatchMetrics"]
    assert (group["Namespace"], group["Dimensions"], line["service"]) == ("Rolecall", [["service"]], "rolecall-test")
    return {metric["Name"]: line[metric["Name"]] for metric in group["Metrics"]}


def test_each_account_has_one_log_line(organization: Organization, invoke: Invoke, log: io.StringIO) -> None:
    account_id, failing = organization.member(), organization.member("Failing", access_role="NotYet")
    stage = Stage(organization)
    stage.enqueue(account_id, failing)

    _run_batch(stage, invoke)

    lines = {line["account_id"]: line for line in _lines(log, "account")}
    assert set(lines) == {account_id, failing}
    enrolled, failed = lines[account_id], lines[failing]
    assert enrolled.pop("duration_ms") >= 0
    keys = ("outcome", "change", "actions", "trigger", "access_role", "access", "retry", "level")
    assert {key: enrolled[key] for key in keys} == {
        "outcome": "enrolled",
        "change": "created",
        "actions": ["CreateRole", "PutInlinePolicy", "AttachPolicy"],
        "trigger": "event",
        "access_role": ACCESS_ROLE,
        "access": "granted",
        "retry": False,
        "level": "INFO",
    }
    assert (failed["outcome"], failed["reason"], failed["change"]) == ("failed", "not_ready", "none")
    assert (failed["retry"], failed["actions"], failed["level"]) == (True, [], "WARNING")
    assert failed["error"] == stage.row(failing)["error"]
    assert {line["function_request_id"] for line in lines.values()} == {Context().aws_request_id}


@pytest.mark.usefixtures("log")
def test_batch_emits_metrics(organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str]) -> None:
    account_id, failing = organization.member(), organization.member("Failing", access_role="NotYet")
    closed = organization.member("Closed")
    organization.set_state(closed, "CLOSED")
    stage = Stage(organization)
    stage.enqueue(account_id, failing, closed)

    _run_batch(stage, invoke)

    assert _emitted(capsys) == {
        "AccountsEnrolled": [1.0],
        "AccountsFailed": [1.0],
        "AccountsSkipped": [1.0],
        "RolesCreated": [1.0],
        "MessagesRetried": [1.0],
    }

    organization.iam(account_id).update_role(RoleName=MEMBER_ROLE, MaxSessionDuration=7200)
    stage.enqueue(account_id)
    _run_batch(stage, invoke)
    assert _emitted(capsys) == {"AccountsEnrolled": [1.0], "RolesUpdated": [1.0], "MessagesRetried": [0.0]}


def test_run_of_publish_emits_metrics_and_one_log_line(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    """AccessSeconds counts from an account's creation, for new accounts that an event named."""
    account_id, old = organization.member(), organization.member("Old")
    organization.age_account(old)
    stage = Stage(organization)
    stage.enqueue(account_id, old)
    _run_batch(stage, invoke)
    capsys.readouterr()
    before = len(_lines(log, "publish"))

    records = stage.receive("PublishQueue")
    stage.settle(records, invoke(stage, "publish", {"Records": records}), "PublishQueue")

    emitted = _emitted(capsys)
    assert len(emitted["AccessSeconds"]) == 1
    assert 0 <= emitted.pop("AccessSeconds")[0] < 60
    assert 0 <= emitted.pop("PublishSeconds")[0] < 60
    assert emitted.pop("SourcePolicyFillPercent")[0] == pytest.approx(100 * 2 / 3850, abs=0.01)
    assert emitted == {
        "AccessGranted": [2.0],
        "AccessPendingSeconds": [0.0],
        "PublishRuns": [1.0],
        "PolicyVersionsWritten": [1.0],
        "PublishingBlocked": [0.0],
        "Frozen": [0.0],
    }
    (line,) = _lines(log, "publish")[before:]
    keys = ("level", "shards", "versions_written", "in_force", "pending", "frozen", "blocked", "retry")
    assert {key: line.get(key) for key in keys} == {
        "level": "INFO",
        "shards": 1,
        "versions_written": 1,
        "in_force": 2,
        "pending": 0,
        "frozen": False,
        "blocked": None,
        "retry": False,
    }


def test_blocked_run_is_logged_as_a_warning(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    organization.delete_role(MANAGEMENT, "Reader")
    metrics.clear_metrics()
    capsys.readouterr()

    invoke(stage, "publish", {})

    assert _emitted(capsys)["PublishingBlocked"] == [1.0]
    (line,) = [line for line in _lines(log, "publish") if line["level"] == "WARNING"]
    assert line["blocked"] == "no_source_principal"
    assert "Reader does not exist" in line["error"]


def test_event_is_counted_enqueued_and_logged(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    invoke(stage, "on_account_event", event("CreateAccountResult", account_id))

    (message,) = map(json.loads, stage.queued())
    assert (message["account_id"], message["trigger"]) == (account_id, "event")
    assert _emitted(capsys) == {"EventsReceived": [1.0]}
    (line,) = _lines(log, "event")
    assert (line["event_name"], line["accounts"]) == ("CreateAccountResult", [account_id])


@pytest.mark.parametrize("payload", [{}, {"detail": None}, {"detail": {"eventName": "x" * 99}}, [], "text", None, 7])
def test_event_without_an_account_is_ignored(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], payload: Any
) -> None:
    stage = Stage(organization, deployed="false")

    invoke(stage, "on_account_event", payload)

    assert stage.queued() == []
    assert _emitted(capsys) == {"EventsIgnored": [1.0]}


@pytest.mark.filterwarnings("ignore:No application metrics")  # as telemetry does in a function
@pytest.mark.parametrize("function", ["backfill", "rerun", "resync", "retire", "freeze"])
def test_rejected_request_is_returned_and_logged(
    organization: Organization, boundary: Boundary, invoke: Invoke, log: io.StringIO, function: str
) -> None:
    """Raised, it would count as an error of the function."""
    stage = Stage(organization)

    with boundary.recording() as calls:
        response = invoke(stage, function, {"account": ["111122223333"]})

    assert writes(calls) == []
    assert response["errorType"] == "RequestError"
    assert response["errorMessage"].startswith("the request ")
    (line,) = _lines(log, "request rejected")
    assert (line["level"], line["error"]) == ("WARNING", response["errorMessage"])
    assert line["function_request_id"] == Context().aws_request_id


def test_no_log_contains_a_credential_an_address_or_an_event(
    organization: Organization,
    boundary: Boundary,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    log: io.StringIO,
) -> None:
    account_id, failing = organization.member("Payments"), organization.member("Failing")
    credentials: list[str] = []
    boundary.edit_response(
        "sts:AssumeRole", lambda response: credentials.extend(map(str, response["Credentials"].values()))
    )
    boundary.raise_error("iam:GetRole", KeyError("unexpected"), account_id=failing)
    stage = Stage(organization, ExternalId="secret-external-id")
    payload = event("CreateAccountResult", account_id)
    payload["detail"]["email"] = "payments@organization.example"

    invoke(stage, "on_account_event", payload)
    stage.enqueue(failing)
    stage.send("malformed: payments@organization.example")
    _run_batch(stage, invoke)
    invoke(stage, "publish", {"Records": stage.receive("PublishQueue")})

    output = log.getvalue() + capsys.readouterr().out
    assert stage.status(account_id) == ("enrolled", None)
    assert len(credentials) == 8
    secrets = [*credentials, *FUNCTION_KEYS.values(), "@", "secretary", "userIdentity", "secret-external-id"]
    assert [secret for secret in secrets if secret in output] == []
