"""What the functions say as Lambda runs them: one line and its metrics for each account, and nothing that is no one's business."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import app
from chalicelib.bootstrap import application
from chalicelib.telemetry import logger, metrics
from tests.integration.boundary import FUNCTION_KEYS, Boundary
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, REGION, Organization
from tests.integration.stage import Context, Delivery, Stage, event

Invoke = Callable[[Stage, str, dict[str, Any]], Any]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Run a function's entry point as Lambda would: with the template's environment and the credentials of its role."""

    def run(stage: Stage, function: str, payload: dict[str, Any]) -> Any:
        stage.sign()
        credentials = {
            "AWS_ACCESS_KEY_ID": FUNCTION_KEYS[function],
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
        }
        for name, value in {**stage.environ, **credentials}.items():
            monkeypatch.setenv(name, value)
        # Powertools reads these when it is imported, which here was before the function's environment was there.
        metrics.namespace = stage.environ["POWERTOOLS_METRICS_NAMESPACE"]
        metrics.service = stage.environ["POWERTOOLS_SERVICE_NAME"]
        application.cache_clear()
        return getattr(app, function)(payload, Context())

    yield run
    application.cache_clear()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler: Any = logger.registered_handler
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


def _lines(log: io.StringIO, message: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["message"] == message]


def _run_batch(stage: Stage, invoke: Invoke) -> Delivery:
    records = stage.receive()
    return stage.settle(records, invoke(stage, "enroll", {"Records": records}))


def _measured(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    (told,) = line["_aws"]["CloudWatchMetrics"]
    assert (told["Namespace"], told["Dimensions"], line["service"]) == ("Rolecall", [["service"]], "rolecall-test")
    return {metric["Name"]: line[metric["Name"]] for metric in told["Metrics"]}


def test_each_account_has_one_line_that_tells_everything(
    organization: Organization, invoke: Invoke, log: io.StringIO
) -> None:
    account_id, waits = organization.member(), organization.member("Waits", access_role="NotYet")
    stage = Stage(organization)
    stage.ask(account_id, waits)

    _run_batch(stage, invoke)

    lines = {line["account_id"]: line for line in _lines(log, "account")}
    assert set(lines) == {account_id, waits}
    enrolled, failed = lines[account_id], lines[waits]
    assert enrolled.pop("duration_ms") >= 0
    told = ("outcome", "change", "actions", "trigger", "access_role", "access", "retry", "level")
    assert {key: enrolled[key] for key in told} == {
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
    assert failed["error"] == stage.row(waits)["error"]
    assert {line["function_request_id"] for line in lines.values()} == {Context().aws_request_id}


def test_a_batch_is_counted(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    account_id, waits = organization.member(), organization.member("Waits", access_role="NotYet")
    closed = organization.member("Closed")
    organization.organizations.close_account(AccountId=closed)
    stage = Stage(organization)
    stage.ask(account_id, waits, closed)

    _run_batch(stage, invoke)

    assert _measured(capsys) == {
        "AccountsEnrolled": [1.0],
        "AccountsFailed": [1.0],
        "AccountsSkipped": [1.0],
        "RolesCreated": [1.0],
        "MessagesRetried": [1.0],
    }

    organization.iam(account_id).update_role(RoleName="CrossAccountReadOnlyRole", MaxSessionDuration=7200)
    stage.ask(account_id)
    _run_batch(stage, invoke)
    assert _measured(capsys) == {"AccountsEnrolled": [1.0], "RolesUpdated": [1.0], "MessagesRetried": [0.0]}
    assert log


def test_a_run_of_publish_is_measured_and_logged(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    """The time to access counts from the account's creation, for accounts that an event named and that are new."""
    account_id, old = organization.member(), organization.member("Old")
    organization.grow_old(old)
    stage = Stage(organization)
    stage.ask(account_id, old)
    _run_batch(stage, invoke)
    capsys.readouterr()

    written = len(_lines(log, "publish"))
    records = stage.receive("PublishQueue")
    stage.settle(records, invoke(stage, "publish", {"Records": records}), "PublishQueue")

    measured = _measured(capsys)
    assert len(measured["AccessSeconds"]) == 1
    assert 0 <= measured.pop("AccessSeconds")[0] < 60
    assert 0 <= measured.pop("PublishSeconds")[0] < 60
    assert measured.pop("SourcePolicyFillPercent")[0] == pytest.approx(100 * 2 / 3850, abs=0.01)
    assert measured == {
        "AccessGranted": [2.0],
        "AccessPendingSeconds": [0.0],
        "PublishRuns": [1.0],
        "PolicyVersionsWritten": [1.0],
        "PublishingBlocked": [0.0],
        "Frozen": [0.0],
    }
    (line,) = _lines(log, "publish")[written:]
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

    # A further run has nothing to write.
    invoke(stage, "publish", {})
    assert "AccessSeconds" not in (measured := _measured(capsys))
    assert (measured["AccessGranted"], measured["PolicyVersionsWritten"]) == ([0.0], [0.0])


def test_a_blocked_run_is_logged_as_a_warning_and_measured(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    stage = Stage(organization)
    stage.enroll(organization.member())
    stage.enroll(organization.member("Newcomer"))
    stage.edit("#status", principals={"reason": "no_source_principal", "error": "before"})
    organization.lose_role(MANAGEMENT, "Reader")
    metrics.clear_metrics()
    capsys.readouterr()

    invoke(stage, "publish", {})

    assert _measured(capsys)["PublishingBlocked"] == [1.0]
    (line,) = [line for line in _lines(log, "publish") if line["level"] == "WARNING"]
    assert line["blocked"] == "no_source_principal"
    assert "Reader does not exist" in line["error"]


def test_an_event_is_counted_and_sent_on_and_one_that_names_nobody_is_counted_too(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], log: io.StringIO
) -> None:
    account_id = organization.member()
    stage = Stage(organization)

    invoke(stage, "on_account_event", event("CreateAccountResult", account_id))

    assert [json.loads(body) for body in stage.waiting()] == [{"account_id": account_id, "trigger": "event"}]
    assert _measured(capsys) == {"EventsReceived": [1.0]}
    (line,) = _lines(log, "event")
    assert (line["event_name"], line["accounts"]) == ("CreateAccountResult", [account_id])

    invoke(stage, "on_account_event", {**event("CreateAccountResult", account_id), "detail": {"eventName": "x" * 99}})

    assert len(stage.waiting()) == 1
    assert _measured(capsys) == {"EventsIgnored": [1.0]}


@pytest.mark.parametrize(
    "shape",
    [{}, {"detail": None}, {"detail": "x" * 1_000_000}, {"detail": []}, [], "text", None, 7],
    ids=lambda shape: repr(shape)[:20],
)
def test_an_event_of_no_known_shape_fails_nothing(
    organization: Organization, invoke: Invoke, capsys: pytest.CaptureFixture[str], shape: Any
) -> None:
    stage = Stage(organization)

    invoke(stage, "on_account_event", shape)

    assert stage.waiting() == []
    assert _measured(capsys) == {"EventsIgnored": [1.0]}


def test_no_log_holds_a_credential_an_address_or_an_event(
    organization: Organization,
    boundary: Boundary,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    log: io.StringIO,
) -> None:
    account_id, fails = organization.member("Payments"), organization.member("Fails")
    secrets: list[str] = []
    boundary.edit("sts:AssumeRole", lambda answer: secrets.extend(map(str, answer["Credentials"].values())))
    boundary.break_off("iam:GetRole", KeyError("surprise"), account_id=fails)
    stage = Stage(organization, ExternalId="external-id-of-the-reader")
    payload = event("CreateAccountResult", account_id)
    payload["detail"]["email"] = "payments@organization.example"

    invoke(stage, "on_account_event", payload)
    stage.ask(fails)
    stage.send("not ours: payments@organization.example")
    _run_batch(stage, invoke)
    invoke(stage, "publish", {"Records": stage.receive("PublishQueue")})

    said = log.getvalue() + capsys.readouterr().out
    assert stage.verdict(account_id) == ("enrolled", None)
    assert len(secrets) == 8
    never = [*secrets, *FUNCTION_KEYS.values(), "@", "secretary", "userIdentity", "external-id-of-the-reader"]
    assert [text for text in never if text in said] == []
