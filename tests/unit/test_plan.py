"""A plan: from the pages of a dry run, as a diff, and as JSON."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from chalicelib.accounts import Change, Outcome
from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import MemberRole, describe, desired_role, removal
from chalicelib.member_role import plan as plan_actions
from chalicelib.settings import Scope
from chalicelib.source_policy.documents import capacity
from rolecall.plan import Kind, Plan, PlannedAccount, PlannedShard, fetch_plan, parse_plan, parse_shards
from rolecall.plan_page import print_plan
from tests.unit.builders import settings
from tests.unit.ledger_rows import SHARD, numbered, records, row, shard
from tests.unit.operated import OperatedStage

SETTINGS = settings(DENY_DATA_READS="false", EXTERNAL_ID="x-1")
ONE, TWO, THREE = map(numbered, (1, 2, 3))
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
FULL = capacity(settings())


def planned(number: int, observed: MemberRole | None = None, **more: Any) -> PlannedAccount:
    """Plan an account's role as the deployed functions do."""
    actions = plan_actions(observed, desired_role(SETTINGS, numbered(number)))
    return PlannedAccount(
        account_id=numbered(number),
        **{
            "name": f"Account {number}",
            "outcome": Outcome.ENROLLED,
            "actions": tuple(describe(action, observed) for action in actions),
            **more,
        },
    )


def drifted(number: int) -> MemberRole:
    desired = desired_role(SETTINGS, numbered(number))
    return replace(
        desired,
        trust=Document.of(json.loads(desired.trust.text.replace("x-1", "x-2"))),
        max_session=7200,
        boundary="arn:aws:iam::aws:policy/Narrow",
        attached=frozenset(),
        inline={"Extra": Document.of({"Version": "2012-10-17", "Statement": []})},
        tags={**desired.tags, "rolecall-stage": "test"},
    )


UPDATED = planned(1, drifted(1), change=Change.UPDATED)


def print_lines(*accounts: PlannedAccount, shards: tuple[PlannedShard, ...] = (), verbose: bool = False) -> list[str]:
    out = io.StringIO()
    print_plan(Plan(accounts=accounts, source_policy=shards), Console(file=out, width=40), verbose=verbose)
    return out.getvalue().splitlines()


def test_updated_role_is_shown_as_a_diff() -> None:
    assert print_lines(UPDATED) == [
        "~ 000000000001 Account 1  enrolled, role updated",
        "    ~ TagRole",
        "        @@ -1,3 +1,3 @@",
        "          {",
        '        -   "rolecall-stage": "test"',
        '        +   "rolecall-stage": "dev"',
        "          }",
        "    - DeleteInlinePolicy  Extra",
        "    ~ SetTrust",
        "        @@ -14,7 +14,7 @@",
        "                    ]",
        "                  },",
        '                  "StringEquals": {',
        '        -           "sts:ExternalId": "x-2"',
        '        +           "sts:ExternalId": "x-1"',
        "                  }",
        "                }",
        "              },",
        "    ~ SetMaxSession  7200 → 3600",
        "    - SetBoundary  arn:aws:iam::aws:policy/Narrow",
        f"    + AttachPolicy  {READ_ONLY}",
        "",
        "Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing.",
    ]


@pytest.mark.parametrize(
    ("adopts", "line"),
    [
        (
            {"managed_by": "tag ManagedBy=terraform", "last_used_at": "2026-11-29T10:00:00.000000+00:00"},
            "    existing role, last used 2026-11-29; managed elsewhere: tag ManagedBy=terraform",
        ),
        ({"managed_by": None, "last_used_at": None}, "    existing role, not used in the last 400 days"),
    ],
)
def test_use_and_other_managers_of_an_existing_role_are_shown(adopts: dict[str, Any], line: str) -> None:
    account = replace(UPDATED, adopts=adopts)

    assert print_lines(account)[1] == line
    assert Plan(accounts=(account,), source_policy=()).as_json()["accounts"][0]["adopts"] == adopts


def test_created_role_is_shown_once_for_equal_accounts() -> None:
    lines = print_lines(
        planned(1, change=Change.CREATED, granted=True),
        planned(2, change=Change.CREATED, granted=True, name=None),
        shards=(PlannedShard(policy_name="Access", accounts=2, capacity=385, granted=(ONE, TWO)),),
    )
    assert lines[: lines.index('        +   "trust": {')] == [
        "+ 000000000001 Account 1  enrolled, role created, access granted",
        f"    + CreateRole  {desired_role(SETTINGS, ONE).arn}",
        "        + {",
    ]
    second = lines.index("+ 000000000002  enrolled, role created, access granted")
    assert lines[second - 2 :] == [
        f"    + AttachPolicy  {READ_ONLY}",
        "",
        "+ 000000000002  enrolled, role created, access granted",
        f"    + CreateRole  {desired_role(SETTINGS, TWO).arn}",
        "        same as for 000000000001 above",
        f"    + AttachPolicy  {READ_ONLY}",
        "",
        "~ source policy Access  2 of 385 accounts",
        "    + 000000000001 Account 1",
        "    + 000000000002",
        "",
        "Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing.",
    ]


def test_long_document_is_shown_in_part_unless_verbose() -> None:
    actions = plan_actions(None, desired_role(settings(), ONE))
    created = replace(planned(1, change=Change.CREATED), actions=tuple(describe(action, None) for action in actions))
    denied = [line for line in print_lines(created, verbose=True) if '"ssm:GetParameter*"' in line]
    assert denied
    lines = print_lines(created)
    assert len(lines) < 80
    assert not set(denied).intersection(lines)
    assert [line for line in lines if line.endswith("more lines, with --verbose")]


def test_unchanged_accounts_are_only_counted_unless_verbose() -> None:
    role = desired_role(SETTINGS, ONE)
    accounts = (
        planned(
            1,
            role,
            outcome=Outcome.RETIRED,
            reason=Reason.RETIRED_BY_REQUEST,
            change=Change.DELETED,
            revoked=True,
            actions=tuple(describe(action, role) for action in removal(role)),
        ),
        planned(2, outcome=Outcome.FAILED, reason=Reason.SCP_DENIED, error="denied\nby p-1", actions=()),
        planned(3, desired_role(SETTINGS, THREE)),
        planned(4, outcome=Outcome.SKIPPED, reason=Reason.EXCLUDED, actions=()),
    )
    shards = (PlannedShard(policy_name="Access", accounts=1, capacity=385, revoked=(ONE,)),)
    changes = [
        "- 000000000001 Account 1  retired retired_by_request, role deleted, access revoked",
        f"    - DetachPolicy  {READ_ONLY}",
        f"    - DeleteRole  {role.arn}",
        "",
        "! 000000000002 Account 2  failed scp_denied",
        "    denied\\nby p-1",
        "",
    ]
    unchanged = ["= 000000000003 Account 3  enrolled", "", "= 000000000004 Account 4  skipped excluded", ""]
    last = [
        "~ source policy Access  1 of 385 accounts",
        "    - 000000000001 Account 1",
        "",
        "Plan: 0 to create, 0 to update, 1 to delete, 1 unchanged, 1 skipped, 1 failing.",
    ]
    assert print_lines(*accounts, shards=shards) == [*changes, *last]
    assert print_lines(*accounts, shards=shards, verbose=True) == [*changes, *unchanged, *last]


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"change": Change.CREATED}, Kind.CREATE),
        ({"change": Change.UPDATED}, Kind.UPDATE),
        ({"granted": True}, Kind.UPDATE),
        ({}, Kind.UNCHANGED),
        ({"outcome": Outcome.RETIRED, "change": Change.DELETED, "revoked": True}, Kind.DELETE),
        ({"outcome": Outcome.RETIRED, "change": Change.UPDATED, "error": "denied"}, Kind.FAILING),
        ({"outcome": Outcome.RETIRED, "revoked": True}, Kind.RETIRE),
        ({"outcome": Outcome.RETIRED}, Kind.SKIPPED),
        ({"outcome": Outcome.SKIPPED}, Kind.SKIPPED),
        ({"outcome": Outcome.FAILED}, Kind.FAILING),
    ],
)
def test_account_is_counted_by_what_would_change(attributes: dict[str, Any], kind: Kind) -> None:
    account = PlannedAccount(account_id=ONE, **{"outcome": Outcome.ENROLLED, **attributes})
    plan = Plan(accounts=(account,), source_policy=())
    assert (account.kind, plan.exit_status) == (kind, int(kind is Kind.FAILING))
    text = f"to {kind}" if kind in (Kind.CREATE, Kind.UPDATE, Kind.DELETE, Kind.RETIRE) else kind
    assert f"1 {text}" in plan.summary


def test_hostile_names_and_errors_stay_on_their_line() -> None:
    hostile = planned(1, outcome=Outcome.FAILED, actions=(), name='a\n\x1b[2J[red]\u202eb 🎈,"<b>', error="x\r\ny")
    assert print_lines(hostile)[:2] == [
        '! 000000000001 a\\n\\x1b[2J[red]\\u202eb 🎈,"<b>  failed',
        "    x\\r\\ny",
    ]


def test_json_has_the_actions_and_the_counts() -> None:
    data = json.loads(json.dumps(Plan(accounts=(UPDATED,), source_policy=()).as_json()))
    (account,) = data["accounts"]
    assert (account["plan"], account["name"]) == ("update", "Account 1")
    assert {"action": "SetMaxSession", "before": 7200, "after": 3600} in account["actions"]
    assert data["summary"] == dict.fromkeys([*Kind, "rollout_waiting"], 0) | {Kind.UPDATE: 1}


def account(number: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"outcome": "enrolled", "change": "none", "reason": None, "error": None, "actions": []}
    return {"account_id": numbered(number), **values, **more}


def page(
    *accounts: dict[str, Any],
    granted: Sequence[str] = (),
    revoked: Sequence[str] = (),
    following: dict[str, Any] | None = None,
    error: str | None = None,
    waiting: int = 0,
) -> dict[str, Any]:
    policy = {"policy_name": SHARD, "accounts": len(granted), "capacity": 385, "error": error}
    return {
        "accounts": list(accounts),
        "source_policy": [{**policy, "granted": list(granted), "revoked": list(revoked)}],
        "counts": {"rollout_waiting": waiting},
        "next": following,
    }


def two_pages(*second: dict[str, Any], error: str | None = None) -> list[dict[str, Any]]:
    """Build a page with accounts that fill a shard, and a second one."""
    first = [*map(numbered, range(1, FULL + 1))]
    following = {"accounts": "all", "after": first[-1]}  # without dry_run, as a response has it
    return [
        page(*(account(number) for number in range(1, FULL + 1)), granted=first, following=following),
        page(*second, granted=[each["account_id"] for each in second], error=error),
    ]


def fetch(stage: OperatedStage, accounts: Any) -> Plan:
    return fetch_plan(cast("Any", stage), "backfill", {"accounts": accounts})


def test_accounts_that_wait_for_a_later_wave_are_only_counted() -> None:
    plan = fetch(OperatedStage(responses=[page(account(1, change="updated"), waiting=54)], listed=[ONE]), "all")

    assert plan.as_json()["summary"]["rollout_waiting"] == 54
    assert plan.summary.endswith(
        "1 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing, 54 waiting for the rollout."
    )


def test_pages_are_fetched_by_dry_runs_and_assigned_together() -> None:
    stage = OperatedStage(
        responses=two_pages(account(FULL + 1)),
        listed=[ONE],
        ledger=[row(TWO, name="from the ledger")],
        recorded=records(shard(ONE), room=10),
    )

    plan = fetch(stage, "all")

    assert stage.requests == [
        ("backfill", {"accounts": "all", "dry_run": True}),
        ("backfill", {"accounts": "all", "after": numbered(FULL), "dry_run": True}),
    ]
    assert [each.name for each in plan.accounts[:3]] == [f"Account {ONE}", "from the ledger", None]
    assert [(each.policy_name, each.accounts, len(each.granted)) for each in plan.source_policy] == [
        (SHARD, FULL, FULL - 1),
        (f"{SHARD}-2", 1, 1),
    ]


def test_pages_revoke_ineligible_accounts_but_not_failed_ones() -> None:
    pages = two_pages(
        account(FULL + 1, outcome="skipped", reason="suspended"),
        account(FULL + 2, outcome="retired", reason="excluded"),
        account(FULL + 3, outcome="failed", reason="quota"),
        error="denied",
    )
    recorded = records(shard(*map(numbered, (FULL + 1, FULL + 2, FULL + 3))))
    first, *_ = fetch(OperatedStage(responses=pages, listed=[ONE], recorded=recorded), [ONE]).source_policy
    assert first.revoked == (numbered(FULL + 1), numbered(FULL + 2))
    assert (first.accounts, len(first.granted), first.error) == (FULL, FULL - 1, "denied")


def test_accounts_of_several_pages_without_room_are_counted() -> None:
    recorded = records(shard(), room=1, looked_at=datetime.now(UTC))
    plan = fetch(OperatedStage(responses=two_pages(account(FULL + 1)), listed=[ONE], recorded=recorded), [ONE])
    assert (plan.source_policy[0].error, plan.exit_status) == ("no room for 1 account", 1)


def test_scope_organization_grants_no_account_by_id() -> None:
    stage = OperatedStage(
        responses=two_pages(account(FULL + 1)),
        listed=[ONE],
        recorded=records(shard(scope=Scope.ORGANIZATION)),
        settings=settings(SOURCE_POLICY_SCOPE="organization"),
    )
    (only,) = fetch(stage, [ONE]).source_policy
    assert (only.accounts, only.granted, only.revoked) == (0, (), ())


def test_error_of_a_shard_fails_the_plan_if_the_shard_would_change() -> None:
    blocked = PlannedShard(policy_name="Access", accounts=1, capacity=385, error="no\nroom")
    assert print_lines(shards=(blocked,))[:2] == ["! source policy Access  1 of 385 accounts", "    no\\nroom"]
    for planned_shard, status in ((blocked, 0), (replace(blocked, granted=(ONE,)), 1)):
        assert Plan(accounts=(), source_policy=(planned_shard,)).exit_status == status


def test_names_of_few_accounts_are_read_one_by_one() -> None:
    stage = OperatedStage(
        responses=[page(account(1), account(2), account(3))],
        listed=[ONE, TWO],
        ledger=[row(TWO, name="from the ledger"), row(THREE)],
    )
    names = [each.name for each in fetch(stage, [ONE, TWO, THREE]).accounts]
    assert names == [f"Account {ONE}", "from the ledger", None]


def test_access_changes_are_those_of_the_shards() -> None:
    shards = parse_shards(page(granted=[ONE], revoked=[TWO])["source_policy"])
    plan = parse_plan([account(2, outcome="retired"), account(1), account(3)], shards, {})
    assert [(each.account_id, each.kind) for each in plan.accounts] == [
        (ONE, Kind.UPDATE),
        (TWO, Kind.RETIRE),
        (THREE, Kind.UNCHANGED),
    ]
