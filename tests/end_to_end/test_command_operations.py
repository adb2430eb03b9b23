"""An operator's commands from the first plan to the uninstall, in an organization of sixty accounts."""

import json
import re
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import pytest

from local.organization import LocalOrganization
from rolecall import __version__
from tests.end_to_end.calls import READ_ONLY
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import POLICY, Deploy, DeployedStage, delays_skipped
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.organization_changes import (
    DAY_SECONDS,
    attached_policies,
    create_unit,
    create_without_events,
    events_dropped,
    move_account,
)
from tests.end_to_end.terminal import Terminal

PROGRESS = re.compile(r"(\d+) of 60 finished: ")


@dataclass(frozen=True)
class Operated:
    """A stage after a plan and its first backfill, with their output and the ledger's rows after each."""

    rolecall: CommandLine
    stage: DeployedStage
    invited: str
    excluded: str
    others: list[str]
    planned: CompletedProcess[str]
    rows_after_plan: dict[str, Any]
    backfilled: CompletedProcess[str]
    rows: dict[str, dict[str, Any]]
    granted: set[str]


@pytest.fixture(scope="module")
def operated(organization: LocalOrganization, deploy: Deploy, reader: str) -> Operated:
    excluded, *others = create_without_events(organization, 58)
    invited = organization.invite_account()
    organization.age_account(invited, DAY_SECONDS)
    parameters = {"SourcePrincipalArns": reader, "ExcludeAccountIds": excluded, "Schedules": "DISABLED"}
    # Small batches, so that sixty accounts take some seconds.
    stage = deploy("operated", BatchSize="4", **parameters)
    rolecall = CommandLine(organization, stage.name)
    planned = rolecall("plan", "--all", "--json")
    rows_after_plan = stage.rows()
    backfilled = rolecall("backfill")
    return Operated(
        rolecall=rolecall,
        stage=stage,
        invited=invited,
        excluded=excluded,
        others=others,
        planned=planned,
        rows_after_plan=rows_after_plan,
        backfilled=backfilled,
        rows=stage.rows(),
        granted=stage.granted_accounts(),
    )


def test_backfill_does_what_was_planned(operated: Operated) -> None:
    assert (operated.planned.returncode, operated.planned.stderr) == (1, "")  # The invited account has no access role.
    assert operated.rows_after_plan == {}
    plan = json.loads(operated.planned.stdout)
    keys = ("outcome", "change", "reason")
    planned = {account["account_id"]: [account[key] for key in keys] for account in plan["accounts"]}
    assert planned == {account_id: [row.get(key) for key in keys] for account_id, row in operated.rows.items()}
    assert planned[operated.invited] == ["failed", "none", "no_access_role"]
    assert planned[operated.excluded] == ["skipped", "none", "excluded"]
    (shard,) = plan["source_policy"]
    assert set(shard["granted"]) == operated.granted
    assert {kind: count for kind, count in plan["summary"].items() if count} == {
        "create": 58,
        "skipped": 1,
        "failing": 1,
    }


def test_piped_backfill_prints_progress_and_a_summary(operated: Operated) -> None:
    assert (operated.backfilled.returncode, operated.backfilled.stderr) == (1, "")
    assert not {"\x1b", "\r"} & set(operated.backfilled.stdout)
    lines = operated.backfilled.stdout.splitlines()
    assert lines[0] == "60 accounts sent to the queue."
    counts = [int(progress[1]) for line in lines if (progress := PROGRESS.match(line))]
    assert counts == sorted(counts)
    assert counts[-1] < 60
    assert len(set(counts)) > 1
    for account_id, row in operated.rows.items():
        changed = ", role created" if row["change"] == "created" else ""
        reason = f" {row['reason']}" if "reason" in row else ""
        assert f"{account_id} {row['name']} {row['outcome']}{reason}{changed}" in lines
    done, enrolled, failed, error, remedy, skipped = lines[-7:-1]
    assert re.fullmatch(r"Done: 60 accounts in \d+ s, 58 roles created", done)
    assert (enrolled, failed, skipped) == (
        "     58 enrolled",
        "      1 failed no_access_role",
        "      1 skipped excluded",
    )
    assert error.startswith(f"        {operated.invited} ")
    assert remedy.startswith("        → Create an access role")


def test_interrupt_on_a_terminal_stops_only_the_waiting(operated: Operated) -> None:
    before = operated.stage.rows()
    with Terminal(operated.rolecall, "backfill") as terminal:
        terminal.wait_for("Send these accounts to the queue? [y/N]: ")
        terminal.type("y\n")
        terminal.wait_for("enrolled")
        terminal.interrupt()
    assert terminal.status == 130
    for part in ("60 accounts sent to the queue.", "━", "The work continues"):
        assert part in terminal.output
    # Some accounts may be finished at the first poll.
    counts = [int(count) for count in re.findall(r"(\d+)/60", terminal.output)]
    assert counts == sorted(counts)
    assert counts[0] < 60
    operated.stage.wait_until_idle()
    after = operated.stage.rows()
    assert [each for each, row in after.items() if row["updated_at"] == before[each]["updated_at"]] == []


def test_stages_settings_and_logs_are_shown(operated: Operated) -> None:
    rolecall, account_id = operated.rolecall, operated.others[0]
    stages = {each["stage"]: each for each in json.loads(rolecall("stages", "-o", "json").stdout)}
    assert stages[operated.stage.name]["version"] == __version__

    settings = {each["name"]: each for each in json.loads(rolecall("settings", "--json").stdout)}
    assert settings["SourcePrincipalArns"]["value"] == operated.stage.settings.source_principals[0].arn
    threads = settings["Threads"]
    assert (threads["value"], threads["changed"]) == (threads["default"], False)

    lines = json.loads(rolecall("logs", operated.rows[account_id]["name"], "--since", "1d", "--json").stdout)
    assert {(line["function"], line["account_id"]) for line in lines} == {("enroll", account_id)}
    everything = rolecall("logs", "--since", "1d").stdout.splitlines()
    assert {line.split()[2] for line in everything} >= {"enroll", "publish"}


def test_drifted_role_is_shown_as_a_diff_and_repaired(organization: LocalOrganization, operated: Operated) -> None:
    account_id = operated.others[0]
    iam, role = organization.client("iam", account_id), operated.stage.settings.member_role_name
    iam.update_role(RoleName=role, MaxSessionDuration=7200)
    iam.detach_role_policy(RoleName=role, PolicyArn=READ_ONLY)

    planned = operated.rolecall("plan", account_id).stdout.splitlines()
    enrolled = operated.rolecall("enroll", account_id).stdout.splitlines()

    line = f"{account_id} {operated.rows[account_id]['name']}"
    assert planned[:3] == [
        f"~ {line}  enrolled, role updated",
        "    ~ SetMaxSession  7200 → 3600",
        f"    + AttachPolicy  {READ_ONLY}",
    ]
    assert enrolled[1] == f"{line} enrolled, role updated"
    assert "1 unchanged" in operated.rolecall("plan", account_id).stdout


def test_rerun_sends_only_failures_with_the_reason(organization: LocalOrganization, operated: Operated) -> None:
    account_id, stage = operated.others[6], operated.stage
    iam, role = organization.client("iam", account_id), stage.settings.member_role_name
    other_failure = stage.row(operated.invited)
    iam.untag_role(RoleName=role, TagKeys=["managed-by"])
    assert operated.rolecall("enroll", account_id).returncode == 1
    iam.tag_role(RoleName=role, Tags=[{"Key": "managed-by", "Value": "rolecall"}])

    ran = operated.rolecall("rerun", "--reason", "foreign_role")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[:3] == [
        "Redriving the dead-letter queues.",
        "1 account sent to the queue.",
        f"{account_id} {operated.rows[account_id]['name']} enrolled",
    ]
    assert stage.row(operated.invited) == other_failure


def test_resync_shows_what_it_repaired(organization: LocalOrganization, operated: Operated) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    organization.client("iam").detach_role_policy(RoleName="Reader", PolicyArn=arn)
    operated.stage.age_records()
    problem = f"{POLICY} was changed by others: it is attached to 0 of 1 source principals: run rolecall resync"
    assert problem in json.loads(operated.rolecall("status", "--json").stdout)["problems"]

    ran = operated.rolecall("resync", "--new")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"source policy: repaired: AttachTo {POLICY}" in ran.stdout.splitlines()
    assert POLICY in attached_policies(organization)
    assert problem not in json.loads(operated.rolecall("status", "--json").stdout)["problems"]


def test_retire_needs_confirmation_and_enroll_reverts_it(operated: Operated) -> None:
    account_id, stage = operated.others[1], operated.stage
    with Terminal(operated.rolecall, "retire", account_id) as terminal:
        terminal.wait_for("Retire 1 account? [y/N]: ")
        terminal.type("n\n")
    with Terminal(operated.rolecall, "retire", account_id) as interrupted:
        interrupted.wait_for("Retire 1 account? [y/N]: ")
        interrupted.interrupt()
    assert (interrupted.status, "not confirmed: nothing was changed" in interrupted.output) == (2, True)
    piped = operated.rolecall("retire", account_id)
    assert (terminal.status, piped.returncode, "pass --yes" in piped.stderr) == (2, 2, True)
    assert "1 to delete" in piped.stdout
    assert stage.role(account_id) is not None
    assert account_id in stage.granted_accounts()

    with delays_skipped(stage), Terminal(operated.rolecall, "retire", account_id) as terminal:
        terminal.wait_for("Retire 1 account? [y/N]: ")
        terminal.type("y\n")

    assert (terminal.status, "1 retired retired_by_request" in terminal.output) == (0, True)
    assert stage.role(account_id) is None
    assert account_id not in stage.granted_accounts()
    assert operated.rolecall("enroll", account_id).returncode == 0
    assert stage.role(account_id) is not None


def test_freeze_denies_new_sessions_until_unfreeze(operated: Operated, reader: str) -> None:
    stage, account_id = operated.stage, operated.others[2]
    unconfirmed = operated.rolecall("freeze")
    assert (unconfirmed.returncode, reader in unconfirmed.stdout) == (2, True)
    assert stage.assume_member_role(account_id)

    assert operated.rolecall("freeze", "--yes").returncode == 0
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id)

    assert operated.rolecall("unfreeze").returncode == 0
    assert stage.assume_member_role(account_id)


def test_backfill_stops_at_a_failure_and_uninstall_deletes_everything(
    organization: LocalOrganization, operated: Operated, deploy: Deploy
) -> None:
    """The two commands share the second stage, which takes long to deploy."""
    other = organization.create_source_principal("Other")
    names = {"MemberRoleName": "Temporary", "SourcePolicyName": "Temporary"}
    stage = deploy("temporary", SourcePrincipalArns=other, Schedules="DISABLED", **names)
    rolecall = CommandLine(organization, stage.name)
    unit, enrolled = create_unit(organization, "Temporary"), set(operated.others[3:6])
    members = sorted([*enrolled, operated.invited])
    with events_dropped(organization):
        for account_id in members:
            move_account(organization, account_id, unit)
    first = members[: members.index(operated.invited) + 1]

    backfilled = rolecall("backfill", "--ou", unit, "--first", str(len(first)))

    assert backfilled.returncode == 1
    assert backfilled.stdout.splitlines()[-1] == (
        f"Stopped: 1 of the first {len(first)} failed (limit: --max-failures 0). The rest was not sent."
    )
    assert set(stage.rows()) == set(first)

    assert rolecall("enroll", *enrolled).returncode == 0
    assert stage.granted_accounts() == enrolled
    # Forget the account without an access role: it can't be searched for a role, which an uninstall reports.
    organization.client("dynamodb").delete_item(
        TableName="rolecall-temporary-ledger", Key={"account_id": {"S": operated.invited}}
    )
    with delays_skipped(stage):
        uninstalled = rolecall("uninstall", "--yes")

    assert (uninstalled.returncode, uninstalled.stderr) == (0, "")
    lines = uninstalled.stdout.splitlines()
    for account_id in enrolled:
        assert f"  - member role in {account_id} ({operated.rows[account_id]['name']})" in lines
    assert lines[-2:] == [
        "Nothing is left: no member role, and no source policy.",
        "Now delete the stack: rolecall undeploy temporary",
    ]
    assert [account_id for account_id in enrolled if stage.role(account_id)] == []
    policies = organization.client("iam").list_policies(Scope="Local")["Policies"]
    assert [policy["PolicyName"] for policy in policies] == [POLICY]  # of the other stage
    assert attached_policies(organization, "Other") == set()
