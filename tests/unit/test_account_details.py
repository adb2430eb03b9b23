"""Everything about one account, as a page and as JSON."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from chalicelib.accounts import Outcome
from chalicelib.arns import AccountId
from chalicelib.data_read_denies import DENIED_DATA_READS, deny_document
from chalicelib.errors import Reason
from chalicelib.member_role import desired_role
from rolecall.account_details import AccountDetails
from rolecall.account_details_page import build_details_page
from rolecall.console import print_json
from rolecall.reasons import MEANING, REMEDY
from tests.unit.builders import settings
from tests.unit.ledger_rows import account, row

A = AccountId("444455556666")
_DENIED = len(DENIED_DATA_READS)
SETTINGS = settings(PERMISSIONS_BOUNDARY_ARN="arn:aws:iam::{account_id}:policy/edge", MEMBER_ROLE_TAGS="team=security")
FAILING = AccountDetails(
    account_id=A,
    account=replace(account(A, "pay[/]ments"), joined_at=datetime(2026, 1, 1, 8, tzinfo=UTC)),
    path=("Root", "Workloads", "Prod"),
    row=row(
        A,
        Outcome.FAILED,
        reason=Reason.NO_ACCESS_ROLE,
        error="no access role\ncould be assumed",
        attempts=3,
        failed_at="2026-02-28T09:00:00+00:00",
        trigger="resync",
    ),
    role=desired_role(SETTINGS, A),
    plan={"outcome": "failed", "reason": "no_access_role", "error": "no access role", "change": "none", "actions": []},
    plan_error=None,
    log=({"timestamp": "2026-03-01 10:00:30,000+0000", "message": "account", "outcome": "failed", "actions": []},),
)


def page_lines(details: AccountDetails) -> list[str]:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(build_details_page(details))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("changes", "status", "expected"),
    [
        (
            {},
            1,
            [
                f"{A}  pay[/]ments",
                "state       ACTIVE",
                "in          Root / Workloads / Prod",
                "joined      2026-01-01 08:00",
                "outcome     failed",
                "access      undecided, not in force",
                "failing     since 2026-02-28 09:00, 3 times",
                f"reason      no_access_role: {MEANING[Reason.NO_ACCESS_ROLE]}",
                r"last error  no access role\ncould be assumed",
                f"what to do  {REMEDY[Reason.NO_ACCESS_ROLE]} See docs/runbook.md#no_access_role.",
                "boundary  arn:aws:iam::444455556666:policy/edge",
                "tags      team=security, managed-by=rolecall, rolecall-stage=dev",
                f"inline    DenyDataReads: deny of {_DENIED} actions",
                "outcome: failed: no_access_role",
                "2026-03-01 10:00:30,000+0000  account  outcome=failed",
            ],
        ),
        (
            {"plan": None, "plan_error": "invoking rolecall-dev-backfill is denied", "log": ()},
            1,
            ["unknown: invoking rolecall-dev-backfill is denied", "none in two days"],
        ),
        (
            {
                "account": None,
                "path": (),
                "row": row(A, Outcome.RETIRED, name="old", reason=Reason.DEPARTED),
                "ineligible": Reason.DEPARTED,
            },
            0,
            [f"{A}  old", "organization  not a member", "outcome       retired"],
        ),
        ({"row": None, "ineligible": Reason.EXCLUDED}, 0, ["outcome     skipped"]),
        ({"row": None}, 1, ["outcome  waiting: not handled yet"]),
        (
            {"row": row(A, trigger="event", access_role="OrganizationAccountAccessRole"), "shard": "Access"},
            0,
            [
                "access       granted, in force since 2026-03-01 10:00, by Access",
                "access role  OrganizationAccountAccessRole",
            ],
        ),
        (
            {"row": row(A, in_force_since=None), "blocked": Reason.QUOTA},
            1,
            ["outcome     pending", "access      granted, not in force", f"reason      quota: {MEANING[Reason.QUOTA]}"],
        ),
    ],
    ids=["failing", "without a plan", "departed", "excluded", "new", "enrolled", "pending"],
)
def test_page_shows_the_account(changes: dict[str, Any], status: int, expected: list[str]) -> None:
    details = replace(FAILING, **changes)
    lines = page_lines(details)
    assert [line for line in expected if line not in lines] == []
    assert details.exit_status == status


def test_plan_shows_each_action_with_its_target() -> None:
    actions = [
        {"action": "CreateRole", "before": None, "after": {"arn": "arn:aws:iam::444455556666:role/X"}},
        {"action": "AttachPolicy", "before": None, "after": "arn:aws:iam::aws:policy/ReadOnlyAccess"},
        {"action": "SetMaxSession", "before": 7200, "after": 3600},
        {"action": "SetTrust", "before": None, "after": {"Version": "2012-10-17"}},
    ]
    plan = {"outcome": "enrolled", "reason": None, "error": None, "actions": actions}
    lines = page_lines(replace(FAILING, plan=plan))
    start = lines.index("outcome: enrolled")
    assert lines[start + 1 : start + 6] == [
        "  CreateRole  arn:aws:iam::444455556666:role/X",
        "  AttachPolicy  arn:aws:iam::aws:policy/ReadOnlyAccess",
        "  SetMaxSession  3600",
        "  SetTrust",
        "rolecall plan 444455556666 shows the diff",
    ]


def test_json_has_complete_documents(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(FAILING.as_json())
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert data["account"]["joined_at"] == "2026-01-01T08:00:00+00:00"
    assert (data["outcome"], data["reason"], data["row"]["reason"]) == ("failed", *["no_access_role"] * 2)
    assert data["remedy"] == REMEDY[Reason.NO_ACCESS_ROLE]
    assert data["role"]["trust"] == FAILING.role.trust.content
    assert data["role"]["inline"]["DenyDataReads"]["Statement"][0] == deny_document().content["Statement"][0]
    assert data["exit_status"] == 1
