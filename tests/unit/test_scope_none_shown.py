"""What the commands show of a stage of scope none, which has no source policy."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from rich.console import Console

from chalicelib.accounts import ROLE_KEPT, Access, Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Control, Names, Records, Status
from rolecall.doctor import operations, principals
from rolecall.doctor.result import CheckStatus
from rolecall.enrollment import resync
from rolecall.errors import CommandError
from rolecall.export import export
from rolecall.export_formats import Options
from rolecall.follow import Sent
from rolecall.offboarding import freeze, unfreeze
from rolecall.plan import Kind, fetch_plan
from rolecall.prove.command import collect_evidence
from rolecall.report_page import render_report
from rolecall.shard_drift import read_drift
from rolecall.source_policy_state import LEFT_OVER, NO_SOURCE_POLICY, read_source_policy
from rolecall.status_page import build_status_page
from rolecall.tools import Tool
from tests.unit.builders import MANAGEMENT, settings
from tests.unit.ledger_rows import NOW, WORKED, numbered, records, row, shard
from tests.unit.operated import OperatedStage, run, sent
from tests.unit.reported import report_of
from tests.unit.test_status import HEALTHY

ONE, TWO = map(numbered, (1, 2))
VENDOR = "arn:aws:iam::555566667777:role/Scanner"
NONE = settings(SOURCE_POLICY_SCOPE="none", SOURCE_PRINCIPAL_ARNS=VENDOR, EXTERNAL_ID="example")
NAMES = Records(status=Status(names=Names.of(NONE)))
LEFT = records(shard(ONE))
"""The records of a source policy that was left."""


@pytest.mark.parametrize("found", [Records(), NAMES, replace(NAMES, control=Control(frozen=True))])
def test_stage_without_a_source_policy_has_no_problem_with_it(found: Records) -> None:
    state = read_source_policy(found, NONE)

    assert state.problems == ()
    assert operations.check_source_policy(state).status is CheckStatus.OK
    assert operations.check_freeze(state, "dev").status is CheckStatus.OK


def test_source_policy_that_was_left_is_a_problem() -> None:
    state = read_source_policy(LEFT, NONE)

    assert state.problems == (LEFT_OVER,)
    assert operations.check_source_policy(state).remedy == "see docs/runbook.md#names_changed"


def page_text(found: Records) -> str:
    console = Console(width=1000, color_system=None)
    with console.capture() as captured:
        console.print(build_status_page(replace(HEALTHY, source_policy=read_source_policy(found, NONE))))
    return captured.get()


def test_status_shows_that_there_is_no_source_policy() -> None:
    text = page_text(NAMES)
    assert NO_SOURCE_POLICY in text
    assert "nothing to publish" in text
    assert "nothing to freeze" in text
    assert "all 2 eligible accounts are enrolled" in text


def report_text(found: Records) -> str:
    report = report_of([], [], NONE)
    return render_report(replace(report, source_policy=read_source_policy(found, NONE)))


def test_report_shows_the_trust_and_no_source_policy() -> None:
    text = report_text(NAMES)
    assert VENDOR in text
    assert "trust policy alone grants access" in text
    assert "Statement of the source policy" not in text
    assert "publish has not run yet" not in text
    assert LEFT_OVER[1:] in report_text(LEFT)


def test_shards_are_not_compared_with_iam() -> None:
    stage = OperatedStage(settings=NONE)
    assert read_drift(cast("Any", stage), LEFT, NOW) is None


def test_plan_shows_the_access_that_the_roles_grant() -> None:
    accounts: list[dict[str, Any]] = [
        {"account_id": ONE, "outcome": "enrolled", "change": "created", "reason": None, "error": None, "actions": []},
        {
            "account_id": TWO,
            "outcome": "retired",
            "change": "deleted",
            "reason": "excluded",
            "error": None,
            "actions": [],
        },
    ]
    pages: list[dict[str, Any]] = [
        {"counts": {}, "accounts": accounts[:1], "source_policy": [], "next": {"accounts": "all", "after": ONE}},
        {"counts": {}, "accounts": accounts[1:], "source_policy": [], "next": None},
    ]
    stage = OperatedStage(responses=pages, settings=NONE)

    plan = fetch_plan(cast("Any", stage), "backfill", {"accounts": "all"})

    assert plan.source_policy == ()
    assert [(each.kind, each.granted, each.revoked) for each in plan.accounts] == [
        (Kind.CREATE, True, False),
        (Kind.DELETE, False, True),
    ]


@pytest.mark.parametrize("command", [freeze, unfreeze])
def test_freeze_shows_what_to_do_instead(command: Any) -> None:
    stage = OperatedStage(settings=NONE)
    with pytest.raises(CommandError, match=r"no source policy to freeze .*run rolecall retire .*or rolecall uninstall"):
        run(command, stage, yes=True)
    assert stage.requests == []


def test_resync_waits_for_no_check_of_the_source_policy() -> None:
    """An earlier scope may have left the time of a check."""
    stage = OperatedStage(
        responses=[sent(0)], recorded=replace(NAMES, control=Control(check_requested_at=NOW)), settings=NONE
    )
    assert run(resync, stage).status == 0


@pytest.mark.parametrize(("error", "finished"), [("denied", True), (ROLE_KEPT, False), (None, False)])
def test_account_whose_role_could_not_be_deleted_is_finished(error: str | None, finished: bool) -> None:
    accounts = Sent(accounts=frozenset({ONE}), count=1, before={ONE: ""}, retiring=True)
    kept = row(
        ONE,
        Outcome.RETIRED,
        reason=Reason.RETIRED_BY_REQUEST,
        access=Access.EXCLUDED,
        in_force_since=WORKED,
        error=error,
    )
    assert accounts.is_finished(kept) is finished
    assert accounts.is_failing(kept)


def test_exports_have_the_accounts_in_force() -> None:
    assert export(Tool.ARNS, NONE, [row(ONE), row(TWO, Outcome.FAILED)], Options(region="us-east-1")) == (
        f"arn:aws:iam::{ONE}:role/CrossAccountReadOnlyRole\n"
    )
    muted = yaml.safe_load(export(Tool.PROWLER_MUTELIST, NONE, [row(ONE)], Options(region="us-east-1")))
    assert muted["Mutelist"]["Accounts"].keys() == {"*", MANAGEMENT}


def test_prove_needs_credentials_of_a_source_principal() -> None:
    operator = SimpleNamespace(arn=f"arn:aws:iam::{MANAGEMENT}:user/operator")
    with pytest.raises(CommandError, match="only an account whose credentials you have can be tested"):
        collect_evidence(cast("Any", OperatedStage(settings=NONE)), cast("Any", operator), accounts=(), sample=None)


@pytest.mark.parametrize(
    ("external_id", "outside", "status"),
    [
        ("example", ["555566667777"], CheckStatus.OK),
        ("", ["555566667777"], CheckStatus.FAILED),
        ("", [], CheckStatus.OK),
    ],
)
def test_doctor_requires_an_external_id_outside_of_the_organization(
    external_id: str, outside: list[str], status: CheckStatus
) -> None:
    used = settings(SOURCE_POLICY_SCOPE="none", SOURCE_PRINCIPAL_ARNS=VENDOR, EXTERNAL_ID=external_id)
    result = principals.check_source_accounts(used, outside, "rolecall deploy")
    assert result.status is status
    assert (status is CheckStatus.FAILED) is ("confused deputy" in result.summary)
