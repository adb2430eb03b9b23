"""What an operator does with `rolecall`, from the first plan to the uninstall, in an organization of sixty accounts."""

import json
import re
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import pytest

from local.organization import LocalOrganization
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import POLICY, Deploy, DeployedStage, delays_skipped
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.organization_changes import (
    attached_policies,
    create_unit,
    create_without_events,
    events_dropped,
    move_account,
)
from tests.end_to_end.terminal import Terminal

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
COUNTED = re.compile(r"(\d+) of 60 finished: ")


@dataclass(frozen=True)
class Operated:
    """A stage after its first backfill by the command line, and what that was planned to be, and printed."""

    rolecall: CommandLine
    stage: DeployedStage
    invited: str
    excluded: str
    others: list[str]
    planned: CompletedProcess[str]
    rows_after_plan: dict[str, Any]
    printed: CompletedProcess[str]
    rows: dict[str, dict[str, Any]]
    named: set[str]


@pytest.fixture(scope="module")
def operated(organization: LocalOrganization, deploy: Deploy, reader: str) -> Operated:
    excluded, *others = create_without_events(organization, 58)
    invited = organization.invite_account()
    organization.age_account(invited, 86_400)
    parameters = {"SourcePrincipalArns": reader, "ExcludeAccountIds": excluded, "Schedules": "DISABLED"}
    # In batches of four, sixty accounts take some seconds.
    stage = DeployedStage(organization, deploy("operated", BatchSize="4", **parameters).name)
    rolecall = CommandLine(organization, stage.name)
    planned = rolecall("plan", "--all", "--json")
    rows_after_plan = stage.rows()
    printed = rolecall("backfill")
    return Operated(
        rolecall=rolecall,
        stage=stage,
        invited=invited,
        excluded=excluded,
        others=others,
        planned=planned,
        rows_after_plan=rows_after_plan,
        printed=printed,
        rows=stage.rows(),
        named=stage.granted_accounts(),
    )


def test_the_plan_is_what_the_backfill_then_did(operated: Operated) -> None:
    assert (operated.planned.returncode, operated.planned.stderr) == (1, "")  # The invited account has no access role.
    assert operated.rows_after_plan == {}
    plan = json.loads(operated.planned.stdout)
    kept = ("outcome", "change", "reason")
    told = {account["account_id"]: [account[key] for key in kept] for account in plan["accounts"]}
    assert told == {account_id: [row.get(key) for key in kept] for account_id, row in operated.rows.items()}
    assert (told[operated.invited], told[operated.excluded]) == (
        ["failed", "none", "no_access_role"],
        ["skipped", "none", "excluded"],
    )
    (shard,) = plan["source_policy"]
    assert set(shard["granted"]) == operated.named
    summary = {"create": 58, "skipped": 1, "failing": 1}
    assert {kind: count for kind, count in plan["summary"].items() if count} == summary


def test_a_piped_backfill_prints_plain_lines_as_it_moves(operated: Operated) -> None:
    assert (operated.printed.returncode, operated.printed.stderr) == (1, "")
    lines = operated.printed.stdout.splitlines()
    assert "\x1b" not in operated.printed.stdout
    assert "\r" not in operated.printed.stdout
    assert lines[0] == "60 accounts sent to the queue."
    progress = [line for line in lines if COUNTED.match(line)]
    assert len(progress) == len(set(progress))
    counts = [int(counted[1]) for line in progress if (counted := COUNTED.match(line))]
    assert counts == sorted(counts)
    assert counts[-1] == 60
    assert len(set(counts)) > 1  # It moved, and did not only end.
    for account_id, row in operated.rows.items():
        changed = ", role created" if row["change"] == "created" else ""
        reason = f" {row['reason']}" if "reason" in row else ""
        assert f"{account_id} {row['name']} {row['outcome']}{reason}{changed}" in lines
    after = lines[lines.index("     58 enrolled") - 1 :]
    assert re.fullmatch(r"Done: 60 accounts in \d+ s, 58 roles created", after[0])
    assert after[2] == "      1 failed no_access_role"
    assert after[3].startswith(f"        {operated.invited} ")
    assert after[4].startswith("        → Create an access role")
    assert after[5] == "      1 skipped excluded"


def test_on_a_terminal_a_bar_moves_and_ctrl_c_stops_the_watching_alone(operated: Operated) -> None:
    before = operated.stage.rows()
    with Terminal(operated.rolecall, "backfill") as terminal:
        terminal.shows("enrolled")
        terminal.interrupt()
    assert terminal.status == 130
    for part in ("60 accounts sent to the queue.", "━", "The work continues"):
        assert part in terminal.shown
    # Where the command is slow to start its watching, some have settled by its first look.
    settled = [int(count) for count in re.findall(r"(\d+)/60", terminal.shown)]
    assert settled == sorted(settled)
    assert settled[0] < 60
    operated.stage.wait_until_idle()
    after = operated.stage.rows()
    assert [
        account_id for account_id, row in after.items() if row["updated_at"] == before[account_id]["updated_at"]
    ] == []


def test_a_drifted_role_is_shown_as_a_diff_and_mended(organization: LocalOrganization, operated: Operated) -> None:
    account_id = operated.others[0]
    iam, role = organization.client("iam", account_id), operated.stage.settings.member_role_name
    iam.update_role(RoleName=role, MaxSessionDuration=7200)
    iam.detach_role_policy(RoleName=role, PolicyArn=READ_ONLY)

    planned = operated.rolecall("plan", account_id)

    name = operated.rows[account_id]["name"]
    assert planned.stdout.splitlines() == [
        f"~ {account_id} {name}  enrolled, role updated",
        f"    + AttachPolicy  {READ_ONLY}",
        "    ~ SetMaxSession  7200 → 3600",
        "",
        "Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing.",
    ]
    assert planned.returncode == 0
    mended = operated.rolecall("enroll", account_id)
    assert mended.stdout.splitlines()[1:3] == [
        f"{account_id} {name} enrolled, role updated",
        "1 of 1 finished: 1 enrolled",
    ]
    assert operated.rolecall("plan", account_id).stdout == (
        "Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 skipped, 0 failing.\n"
    )


def test_a_rerun_sends_only_what_failed_so_and_a_resync_tells_what_it_repaired(
    organization: LocalOrganization, operated: Operated
) -> None:
    account_id, stage = operated.others[6], operated.stage
    iam, role = organization.client("iam", account_id), stage.settings.member_role_name
    name, untouched = operated.rows[account_id]["name"], stage.rows()[operated.invited]
    iam.untag_role(RoleName=role, TagKeys=["managed-by"])
    assert operated.rolecall("enroll", account_id).returncode == 1
    stage.wait_for_outcome(account_id, "failed", "foreign_role")
    iam.tag_role(RoleName=role, Tags=[{"Key": "managed-by", "Value": "rolecall"}])

    rerun = operated.rolecall("rerun", "--reason", "foreign_role")

    assert (rerun.returncode, rerun.stderr) == (0, "")
    assert rerun.stdout.splitlines()[:3] == [
        "Redriving the dead-letter queues.",
        "1 account sent to the queue.",
        f"{account_id} {name} enrolled",
    ]
    assert stage.rows()[operated.invited] == untouched
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    organization.client("iam").detach_role_policy(RoleName="Reader", PolicyArn=arn)

    stage.age_records()

    resynced = operated.rolecall("resync", "--new")

    assert (resynced.returncode, resynced.stderr) == (0, "")
    assert f"source policy: repaired: AttachTo {POLICY}" in resynced.stdout.splitlines()
    assert POLICY in attached_policies(organization)


def test_retiring_asks_and_enroll_lets_in_again(operated: Operated) -> None:
    account_id, stage = operated.others[1], operated.stage
    with Terminal(operated.rolecall, "retire", account_id) as terminal:
        terminal.shows("Retire 1 account? [y/N]: ")
        terminal.type("n\n")
    assert terminal.status == 1
    refused = operated.rolecall("retire", account_id)
    assert (refused.returncode, "pass --yes" in refused.stderr) == (2, True)
    assert "1 to delete" in refused.stdout
    assert stage.role(account_id) is not None
    assert account_id in stage.granted_accounts()

    with delays_skipped(stage), Terminal(operated.rolecall, "retire", account_id) as terminal:
        terminal.shows("Retire 1 account? [y/N]: ")
        terminal.type("y\n")

    assert (terminal.status, "1 retired retired_by_request" in terminal.shown) == (0, True)
    assert stage.role(account_id) is None
    assert account_id not in stage.granted_accounts()
    assert operated.rolecall("enroll", account_id).returncode == 0
    assert stage.role(account_id) is not None


def test_a_freeze_denies_until_it_is_ended(organization: LocalOrganization, operated: Operated, reader: str) -> None:
    role = operated.stage.member_role_arn(operated.others[2])
    refused = operated.rolecall("freeze")
    assert (refused.returncode, reader in refused.stdout) == (2, True)
    assert organization.assume(role, organization.as_role(reader))

    frozen = operated.rolecall("freeze", "--yes")
    with denied("sts:AssumeRole"):
        organization.assume(role, organization.as_role(reader))
    unfrozen = operated.rolecall("unfreeze")

    assert (frozen.returncode, unfrozen.returncode) == (0, 0)
    assert organization.assume(role, organization.as_role(reader))


def test_the_first_that_fails_stops_a_backfill_and_an_uninstall_leaves_nothing(
    organization: LocalOrganization, operated: Operated, deploy: Deploy
) -> None:
    other = organization.create_source_principal("Other")
    names = {"MemberRoleName": "Passing", "SourcePolicyName": "Passing"}
    stage = DeployedStage(
        organization, deploy("passing", SourcePrincipalArns=other, Schedules="DISABLED", **names).name
    )
    rolecall = CommandLine(organization, stage.name)
    ou = create_unit(organization, "Passing")
    members = sorted([*operated.others[3:6], operated.invited])
    with events_dropped(organization):
        for account_id in members:
            move_account(organization, account_id, ou)
    first = members[: members.index(operated.invited) + 1]

    backfilled = rolecall("backfill", "--ou", ou, "--first", str(len(first)))

    assert backfilled.returncode == 1
    assert backfilled.stdout.splitlines()[-1] == (
        f"Stopped: 1 of the first {len(first)} failed (limit: --max-failures 0). The rest was not sent."
    )
    assert set(stage.rows()) == set(first)
    enrolled = [account_id for account_id in members if account_id != operated.invited]
    assert rolecall("enroll", *enrolled).returncode == 0
    assert stage.granted_accounts() == set(enrolled)

    # What can't be entered would be named in the end: it was never enrolled, and is forgotten.
    organization.client("dynamodb").delete_item(
        TableName="rolecall-passing-ledger", Key={"account_id": {"S": operated.invited}}
    )
    with delays_skipped(stage):
        uninstalled = rolecall("uninstall", "--yes")

    assert (uninstalled.returncode, uninstalled.stderr) == (0, "")
    lines = uninstalled.stdout.splitlines()
    for account_id in enrolled:
        assert f"  - member role in {account_id} ({operated.rows[account_id]['name']})" in lines
    assert lines[-2:] == [
        "Nothing is left: no member role, and no source policy.",
        "Now delete the stack: make undeploy STAGE=passing",
    ]
    assert [account_id for account_id in enrolled if stage.role(account_id)] == []
    policies = organization.client("iam").list_policies(Scope="Local")["Policies"]
    assert [policy["PolicyName"] for policy in policies] == [POLICY]  # the other stage's
    assert attached_policies(organization, "Other") == set()
