"""One account, as a person and as a program are told of it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from chalicelib.accounts import Outcome
from chalicelib.arns import AccountId
from chalicelib.data_read_denies import DENIED_DATA_READS
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role
from rolecall.console import show_json
from rolecall.reasons import MEANING, REMEDY
from rolecall.show import OneAccount
from rolecall.show_page import page
from tests.unit.builders import settings
from tests.unit.ledger_rows import account, row

A = AccountId("444455556666")
JOINED = datetime(2026, 1, 1, 8, tzinfo=UTC)
FAILED = row(
    A,
    Outcome.FAILED,
    reason=Reason.NO_ACCESS_ROLE,
    error="no access role\ncould be assumed",
    attempts=3,
    failed_at="2026-02-28T09:00:00+00:00",
    trigger="resync",
)
SETTINGS = settings(PERMISSIONS_BOUNDARY_ARN="arn:aws:iam::{account_id}:policy/edge", MEMBER_ROLE_TAGS="team=security")
ONE = OneAccount(
    account_id=A,
    account=replace(account(A, "pay[/]ments"), joined_at=JOINED),
    path=("Root", "Workloads", "Prod"),
    row=FAILED,
    role=desired_role(SETTINGS, A),
    plan={"outcome": "failed", "reason": "no_access_role", "error": "no access role", "change": "none", "actions": []},
    plan_error=None,
    log=({"timestamp": "2026-03-01 10:00:30,000+0000", "message": "account", "outcome": "failed", "actions": []},),
)


def text(one: OneAccount) -> list[str]:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(page(one))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_failing_account_is_told_with_its_error_and_what_to_do() -> None:
    lines = text(ONE)
    for line in (
        f"{A}  pay[/]ments",
        "state       ACTIVE",
        "in          Root / Workloads / Prod",
        "joined      2026-01-01 08:00",
        "outcome     failed",
        "failing     since 2026-02-28 09:00, 3 times",
        f"reason      no_access_role: {MEANING[Reason.NO_ACCESS_ROLE]}",
        r"last error  no access role\ncould be assumed",
        f"what to do  {REMEDY[Reason.NO_ACCESS_ROLE]} More in docs/runbook.md#no_access_role.",
        "boundary  arn:aws:iam::444455556666:policy/edge",
        "tags      team=security, managed-by=rolecall, rolecall-stage=dev",
        f"inline    DenyDataReads: deny of {len(DENIED_DATA_READS) + 1} actions",
        "it would be failed: no_access_role",
        "2026-03-01 10:00:30,000+0000  account  outcome=failed",
    ):
        assert line in lines
    assert ONE.exit_status == 1


def test_a_plan_names_each_action_and_what_it_is_about() -> None:
    actions = [
        {"action": "CreateRole", "before": None, "after": {"arn": "arn:aws:iam::444455556666:role/X"}},
        {"action": "AttachPolicy", "before": None, "after": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        {"action": "SetMaxSession", "before": 7200, "after": 3600},
        {"action": "SetTrust", "before": None, "after": {"Version": "2012-10-17"}},
    ]
    lines = text(replace(ONE, plan={"outcome": "enrolled", "reason": None, "error": None, "actions": actions}))
    start = lines.index("it would be enrolled")
    assert lines[start + 1 : start + 6] == [
        "  CreateRole  arn:aws:iam::444455556666:role/X",
        "  AttachPolicy  arn:aws:iam::aws:policy/ReadOnlyAccess",
        "  SetMaxSession  3600",
        "  SetTrust",
        "rolecall plan 444455556666 shows it line by line",
    ]


def test_what_could_not_be_planned_leaves_the_rest() -> None:
    lines = text(replace(ONE, plan=None, plan_error="invoking rolecall-dev-backfill is denied", log=()))
    assert "not known: invoking rolecall-dev-backfill is denied" in lines
    assert "none in two days" in lines


def test_an_account_that_left_is_no_member() -> None:
    gone = replace(ONE, account=None, path=(), row=row(A, Outcome.RETIRED, name="old", reason=Reason.DEPARTED))
    lines = text(gone)
    assert lines[0] == f"{A}  old"
    assert "organization  no member" in lines
    assert gone.exit_status == 0


def test_account_that_was_not_handled_yet_waits() -> None:
    waiting = replace(ONE, row=None)
    assert "outcome  none yet: it was not handled yet" in text(waiting)
    assert waiting.exit_status == 1


def test_enrolled_account_shows_since_when_its_access_is_in_force() -> None:
    enrolled = replace(ONE, row=row(A, trigger="event", access_role="OrganizationAccountAccessRole"), shard="Access")
    lines = text(enrolled)
    assert "access       granted, in force since 2026-03-01 10:00, by Access" in lines
    assert "access role  OrganizationAccountAccessRole" in lines
    assert enrolled.exit_status == 0


@pytest.mark.parametrize("blocked", [None, Reason.QUOTA])
def test_account_whose_access_is_not_in_force_is_pending(blocked: Reason | None) -> None:
    pending = replace(ONE, row=row(A, in_force_since=None), blocked=blocked)
    reason = blocked or Reason.SOURCE_POLICY_PENDING
    lines = text(pending)
    for line in (
        "outcome     pending",
        "access      granted, not in force",
        f"reason      {reason}: {MEANING[reason]}",
        f"what to do  {REMEDY[reason]} More in docs/runbook.md#{reason}.",
    ):
        assert line in lines
    assert pending.exit_status == 1
    written = pending.as_json()
    assert (written["outcome"], written["reason"]) == ("pending", reason)


def test_failure_without_a_decision_shows_no_access() -> None:
    assert "access      not decided, not in force" in text(ONE)


def test_json_has_the_documents_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_json(ONE.as_json())
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["account"]["joined_at"] == "2026-01-01T08:00:00+00:00"
    assert told["row"]["reason"] == "no_access_role"
    assert told["remedy"] == REMEDY[Reason.NO_ACCESS_ROLE]
    assert told["role"]["trust"] == ONE.role.trust.content
    assert told["role"]["inline"]["DenyDataReads"]["Statement"][0]["Action"] == list(DENIED_DATA_READS)
    assert told["exit_status"] == 1
