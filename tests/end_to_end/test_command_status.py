"""status, accounts and show tell of a deployed stage what is so, and in one sentence what keeps them from telling."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.errors import Reason
from local.organization import LocalOrganization, trust_policy
from rolecall.reasons import REMEDY
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
class Looked:
    """A stage where every kind of account stands, and the command line that looks at it."""

    stage: DeployedStage
    run: CommandLine
    enrolled: str
    foreign: str
    suspended: str
    hostile: str
    unit: str

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def looked(organization: LocalOrganization, deploy: Deploy, reader: str) -> Looked:
    enrolled, foreign, suspended = create_without_events(organization, 3)
    with events_dropped(organization):
        hostile = organization.create_account(HOSTILE)
        outer = create_unit(organization, "Workloads")
        move_account(organization, enrolled, create_unit(organization, "Prod", outer))
    organization.age_account(hostile, DAY_SECONDS)
    organization.set_account_state(suspended, "SUSPENDED")
    organization.create_role(foreign, ROLE, trust_policy(f"arn:aws:iam::{organization.management_account_id}:root"))
    deploy("looked", SourcePrincipalArns=reader)
    stage = DeployedStage(organization, "looked")
    stage.invoke_and_wait("backfill")
    stage.invoke_and_wait("resync", accounts="all")
    return Looked(stage, CommandLine(organization, "looked"), enrolled, foreign, suspended, hostile, outer)


def test_status_tells_how_the_stage_stands(looked: Looked, reader: str) -> None:
    told = looked.json("status")
    covered = told["coverage"]
    assert (covered["listed"], covered["eligible"], covered["enrolled"], covered["percent"]) == (5, 4, 3, 75.0)
    assert (covered["failing"], covered["skipped"]) == ({"foreign_role": 1}, {"suspended": 1})
    source_policy = told["source_policy"]
    (shard,) = source_policy["shards"]
    assert (shard["policy_name"], shard["accounts"], shard["attached"]) == (POLICY, 3, [reader])
    assert told["last_full_resync"]["selection"] == "all"
    assert (source_policy["frozen"], source_policy["freeze_in_force"], source_policy["uninstalling"]) == (
        False,
        True,
        False,
    )
    assert (source_policy["known"], source_policy["blocked"], source_policy["lost"]) == (True, None, [])
    assert {queue["name"]: queue["visible"] for queue in told["queues"]} == {
        "accounts": 0,
        "publish.fifo": 0,
        "accounts-dlq": 0,
        "publish-dlq.fifo": 0,
        "events-dlq": 0,
    }
    assert len(told["alarms"]) == 10
    assert "1 account failing" in told["problems"]


def test_status_ends_with_1_while_something_fails(looked: Looked) -> None:
    answer = looked.run("status")
    assert (answer.returncode, answer.stderr) == (1, "")
    lines = answer.stdout.splitlines()
    assert lines[0] == f"stage looked in us-east-1 of account {looked.stage.organization.management_account_id}"
    assert lines[-1].startswith("✘ 1 account failing")
    assert "\x1b" not in answer.stdout


def test_accounts_are_the_ledgers_rows_with_whole_lines(looked: Looked) -> None:
    answer = looked.run("accounts")
    assert (answer.returncode, answer.stderr) == (0, "")
    header, *lines = answer.stdout.splitlines()
    assert header.split()[:3] == ["account", "name", "outcome"]
    rows = looked.stage.rows()
    assert [line.split()[0] for line in lines] == sorted(rows)
    (foreign,) = [line for line in lines if line.startswith(looked.foreign)]
    assert foreign.endswith(rows[looked.foreign]["error"])
    (hostile,) = [line for line in lines if line.startswith(looked.hostile)]
    assert HOSTILE in hostile


def test_accounts_are_narrowed(looked: Looked) -> None:
    for arguments, found in (
        (["--outcome", "failed", "--outcome", "skipped", "--reason", "suspended"], [looked.suspended]),
        (["--ou", looked.unit, "--name", "account-*"], [looked.enrolled]),
    ):
        assert [each["account_id"] for each in looked.json("accounts", *arguments)] == found


def test_an_ou_that_the_organization_lacks_is_refused(looked: Looked) -> None:
    answer = looked.run("accounts", "--ou", "ou-ab12-11111111")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert (
        answer.stderr
        == "rolecall: --ou is ou-ab12-11111111: the organization has no organizational unit with this id\n"
    )


def test_show_tells_what_is_wrong_with_a_failing_account_and_what_to_do(looked: Looked) -> None:
    answer = looked.run("show", looked.foreign)
    assert (answer.returncode, answer.stderr) == (1, "")
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    assert f"last error {looked.stage.rows()[looked.foreign]['error']}" in lines
    assert f"what to do {REMEDY[Reason.FOREIGN_ROLE]} See docs/runbook.md#foreign_role." in lines
    assert "outcome: failed: foreign_role" in lines


def test_show_tells_the_role_as_it_is(looked: Looked) -> None:
    told = looked.json("show", looked.enrolled)
    role = looked.stage.role(looked.enrolled)
    assert told["path"] == ["Root", "Workloads", "Prod"]
    assert (told["plan"]["outcome"], told["plan"]["actions"]) == ("enrolled", [])
    assert role is not None
    assert told["role"]["trust"] == role["trust"]
    assert {line["account_id"] for line in told["log"]} == {looked.enrolled}
    assert told["exit_status"] == 0


def test_show_knows_no_stranger(looked: Looked) -> None:
    answer = looked.run("show", "123456789012")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "account 123456789012 is neither in the organization nor in the ledger of stage looked" in answer.stderr


@pytest.mark.parametrize(
    ("before", "environment", "where"),
    [
        (["--region", "eu-west-1"], {}, "stage looked is not deployed in eu-west-1 of account 111122223333"),
        (
            [],
            {"AWS_ACCESS_KEY_ID": "444455556666"},
            "stage looked is not deployed in us-east-1 of account 444455556666",
        ),
    ],
)
def test_where_no_stage_is_it_says_where_it_looked(
    looked: Looked, before: list[str], environment: dict[str, str], where: str
) -> None:
    answer = looked.run(*before, "status", **environment)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"rolecall: {where}: check --stage, --region and --profile")
    assert len(answer.stderr.splitlines()) == 1


def test_who_may_not_is_told_what(looked: Looked, reader: str) -> None:
    session = looked.stage.organization.as_role(reader)
    answer = looked.run(
        "status",
        AWS_ACCESS_KEY_ID=session["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"],
        AWS_SESSION_TOKEN=session["SessionToken"],
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(
        "rolecall: reading the settings of rolecall-looked-enroll is denied: use credentials"
    )


@pytest.fixture(params=[["status", "--json"], ["accounts"]], ids=" ".join)
def unread(request: pytest.FixtureRequest, looked: Looked) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "rolecall", "--stage", "looked", *request.param]
    with subprocess.Popen(
        command, cwd=ROOT, env=looked.run.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running


def test_it_is_silent_where_nobody_reads_on(unread: subprocess.Popen[str]) -> None:
    assert unread.stdout is not None
    assert unread.stderr is not None
    unread.stdout.close()
    assert unread.stderr.read() == ""


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(looked: Looked, more: dict[str, str], *, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        environment = looked.run.environment(TERM="xterm-256color", **more)
        command = [sys.executable, "-m", "rolecall", "--stage", "looked", "accounts", "--outcome", "failed"]
        subprocess.run(command, cwd=ROOT, env=environment, stdout=theirs, check=True, timeout=60)
        os.close(theirs)
        shown = terminal.read1(100_000).decode()
    assert looked.foreign in shown
    assert ("\x1b[1;31mfailed" in shown) is coloured
