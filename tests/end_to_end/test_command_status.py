"""status, accounts and show on a deployed stage, and the errors that end them."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from local.organization import LocalOrganization, trust_policy
from tests.end_to_end.command_line import ROOT, CommandLine
from tests.end_to_end.deployed_stage import POLICY, ROLE, Deploy, DeployedStage
from tests.end_to_end.organization_changes import (
    DAY_SECONDS,
    create_unit,
    create_without_events,
    events_dropped,
    move_account,
)

HOSTILE = '=a,"b" [bold]👩‍💻[/]'


@dataclass(frozen=True)
class Mixed:
    """A stage with an enrolled, a failed, a suspended and an oddly named account, and its command line."""

    stage: DeployedStage
    rolecall: CommandLine
    enrolled: str
    failed: str
    suspended: str
    hostile: str
    unit: str

    def json(self, *arguments: str) -> Any:
        return json.loads(self.rolecall(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def mixed(organization: LocalOrganization, deploy: Deploy, reader: str) -> Mixed:
    enrolled, failed, suspended = create_without_events(organization, 3)
    with events_dropped(organization):
        hostile = organization.create_account(HOSTILE)
        unit = create_unit(organization, "Workloads")
        move_account(organization, enrolled, create_unit(organization, "Prod", unit))
    organization.age_account(hostile, DAY_SECONDS)
    organization.set_account_state(suspended, "SUSPENDED")
    organization.create_role(failed, ROLE, trust_policy(f"arn:aws:iam::{organization.management_account_id}:root"))
    stage = deploy("mixed", SourcePrincipalArns=reader)
    stage.invoke_and_wait("backfill")
    stage.invoke_and_wait("resync", accounts="all")
    return Mixed(stage, CommandLine(organization, "mixed"), enrolled, failed, suspended, hostile, unit)


def test_status_has_coverage_source_policy_queues_and_alarms(mixed: Mixed, reader: str) -> None:
    status = mixed.json("status")
    covered, source_policy = status["coverage"], status["source_policy"]
    assert (covered["listed"], covered["eligible"], covered["enrolled"], covered["percent"]) == (5, 4, 3, 75.0)
    assert (covered["failing"], covered["skipped"]) == ({"foreign_role": 1}, {"suspended": 1})
    (shard,) = source_policy["shards"]
    assert (shard["policy_name"], shard["accounts"], shard["attached"]) == (POLICY, 3, [reader])
    assert (source_policy["frozen"], source_policy["freeze_in_force"]) == (False, True)
    assert (source_policy["known"], source_policy["blocked"], source_policy["lost"]) == (True, None, [])
    assert status["last_full_resync"]["selection"] == "all"
    queues = ("accounts", "publish.fifo", "accounts-dlq", "publish-dlq.fifo", "events-dlq")
    assert {queue["name"]: queue["visible"] for queue in status["queues"]} == dict.fromkeys(queues, 0)
    assert len(status["alarms"]) == 10


def test_failing_account_fails_the_status(mixed: Mixed) -> None:
    ran = mixed.rolecall("status")
    assert (ran.returncode, ran.stderr) == (1, "")
    first, *_, last = ran.stdout.splitlines()
    assert first == f"stage mixed in us-east-1 of account {mixed.stage.organization.management_account_id}"
    assert last.startswith("✘ 1 account failing")
    assert "\x1b" not in ran.stdout


def test_accounts_has_a_line_for_each_row(mixed: Mixed) -> None:
    ran = mixed.rolecall("accounts")
    assert (ran.returncode, ran.stderr) == (0, "")
    header, *lines = ran.stdout.splitlines()
    assert header.split()[:4] == ["account", "name", "ou", "outcome"]
    rows = mixed.stage.rows()
    assert [line.split()[0] for line in lines] == sorted(rows)
    by_id = {line.split()[0]: line for line in lines}
    assert by_id[mixed.failed].endswith(rows[mixed.failed]["error"])
    assert HOSTILE in by_id[mixed.hostile]


def test_accounts_are_filtered_by_outcome_and_unit(mixed: Mixed) -> None:
    for arguments, account_id in (
        (["--outcome", "failed", "--outcome", "skipped", "--reason", "suspended"], mixed.suspended),
        (["--ou", mixed.unit, "--name", "account-*"], mixed.enrolled),
    ):
        assert [each["account_id"] for each in mixed.json("accounts", *arguments)] == [account_id]


def test_show_has_the_role_the_plan_and_the_log(mixed: Mixed) -> None:
    details = mixed.json("show", mixed.enrolled)
    role = mixed.stage.role(mixed.enrolled)
    assert role is not None
    assert details["role"]["trust"] == role["trust"]
    assert details["path"] == ["Root", "Workloads", "Prod"]
    assert (details["plan"]["outcome"], details["plan"]["actions"]) == ("enrolled", [])
    assert {line["account_id"] for line in details["log"]} == {mixed.enrolled}
    assert details["exit_status"] == 0

    failed = mixed.rolecall("show", mixed.failed)

    assert (failed.returncode, failed.stderr) == (1, "")
    lines = [" ".join(line.split()) for line in failed.stdout.splitlines()]
    assert f"last error {mixed.stage.rows()[mixed.failed]['error']}" in lines
    assert "outcome: failed: foreign_role" in lines


NOT_DEPLOYED = "stage mixed is not deployed in {}: check --stage, --region and --profile, or deploy it: rolecall deploy mixed --source-principal ARN"


@pytest.mark.parametrize(
    ("arguments", "environment", "error"),
    [
        (
            ["accounts", "--ou", "ou-ab12-11111111"],
            {},
            "--ou is ou-ab12-11111111: the organization has no organizational unit with this id",
        ),
        (
            ["show", "123456789012"],
            {},
            "account 123456789012 is neither in the organization nor in the ledger of stage mixed",
        ),
        (["--region", "eu-west-1", "status"], {}, NOT_DEPLOYED.format("eu-west-1 of account 111122223333")),
        (
            ["status"],
            {"AWS_ACCESS_KEY_ID": "444455556666"},
            NOT_DEPLOYED.format("us-east-1 of account 444455556666"),
        ),
    ],
)
def test_error_names_what_was_not_found(
    mixed: Mixed, arguments: list[str], environment: dict[str, str], error: str
) -> None:
    ran = mixed.rolecall(*arguments, **environment)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"rolecall: {error}")


def test_error_names_what_is_denied(mixed: Mixed, reader: str) -> None:
    session = mixed.stage.organization.as_role(reader)
    ran = mixed.rolecall(
        "status",
        AWS_ACCESS_KEY_ID=session["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"],
        AWS_SESSION_TOKEN=session["SessionToken"],
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("rolecall: reading the settings of rolecall-mixed-enroll is denied: use credentials")


@pytest.mark.parametrize("arguments", [["status", "--json"], ["accounts"]], ids=" ".join)
def test_closed_pipe_has_the_status_of_sigpipe(mixed: Mixed, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "rolecall", "--stage", "mixed", *arguments]
    environment = mixed.rolecall.environment()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_terminal_gets_colors_unless_disabled(mixed: Mixed, variables: dict[str, str], *, colored: bool) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb") as output:
        environment = mixed.rolecall.environment(TERM="xterm-256color", **variables)
        command = [sys.executable, "-m", "rolecall", "--stage", "mixed", "accounts", "--outcome", "failed"]
        subprocess.run(command, cwd=ROOT, env=environment, stdout=terminal, check=True, timeout=60)
        os.close(terminal)
        shown = output.read1(100_000).decode()
    assert mixed.failed in shown
    assert ("\x1b[1;31mfailed" in shown) is colored
