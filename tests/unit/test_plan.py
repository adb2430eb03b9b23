import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from rich.console import Console

from chalicelib.accounts import Change, Outcome
from chalicelib.documents import Document
from chalicelib.errors import Reason
from chalicelib.member_role import MemberRole, describe, desired_role, removal
from chalicelib.member_role import plan as actions_of
from chalicelib.settings import Scope
from chalicelib.source_policy.documents import capacity
from rolecall.plan import Kind, Plan, PlannedAccount, PlannedShard, plan, read_plan, read_shards
from rolecall.plan_text import difference, show_plan
from tests.unit.builders import settings
from tests.unit.ledger_rows import SHARD, numbered, records, row, shard
from tests.unit.operated import OperatedStage

SETTINGS = settings(DENY_DATA_READS="false", EXTERNAL_ID="x-1")
ONE, TWO, THREE = map(numbered, (1, 2, 3))
READER = "arn:aws:iam::111122223333:role/Reader"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def planned(number: int, observed: MemberRole | None = None, **more: Any) -> PlannedAccount:
    """Plan what makes a role right, as a worker does."""
    actions = actions_of(observed, desired_role(SETTINGS, numbered(number)))
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
    right = desired_role(SETTINGS, numbered(number))
    trust = json.loads(right.trust.text.replace("x-1", "x-2"))
    return replace(
        right,
        trust=Document.of(trust),
        max_session=7200,
        boundary="arn:aws:iam::aws:policy/Narrow",
        attached=frozenset(),
        inline={"Extra": Document.of({"Version": "2012-10-17", "Statement": []})},
        tags={**right.tags, "rolecall-stage": "test"},
    )


def shown(
    *accounts: PlannedAccount, shards: tuple[PlannedShard, ...] = (), verbose: bool = False
) -> tuple[list[str], int]:
    out = io.StringIO()
    told = Plan(accounts=accounts, source_policy=shards)
    show_plan(told, Console(file=out, width=40), verbose=verbose)
    return out.getvalue().splitlines(), told.exit_status


def test_an_updated_role_is_a_diff() -> None:
    lines, status = shown(planned(1, drifted(1), change=Change.UPDATED))
    assert status == 0
    assert lines == [
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
        "    - SetBoundary  arn:aws:iam::aws:policy/Narrow",
        f"    + AttachPolicy  {READ_ONLY}",
        "    ~ SetMaxSession  7200 → 3600",
        "",
        "Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing.",
    ]


def test_a_created_role_is_written_once_and_the_next_is_said_to_be_the_same() -> None:
    lines, _ = shown(
        planned(1, change=Change.CREATED, granted=True),
        planned(2, change=Change.CREATED, granted=True, name=None),
        shards=(PlannedShard(policy_name="Access", accounts=2, capacity=385, granted=(ONE, TWO)),),
    )
    trust = lines.index('        +   "trust": {')
    assert lines[:trust] == [
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
        "        the same as of 000000000001, above",
        f"    + AttachPolicy  {READ_ONLY}",
        "",
        "~ source policy Access  2 of 385 accounts",
        "    + 000000000001 Account 1",
        "    + 000000000002",
        "",
        "Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing.",
    ]


def test_a_retired_role_and_a_failure_are_told_with_what_is_left_alone_only_counted() -> None:
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
    planned_shard = PlannedShard(policy_name="Access", accounts=1, capacity=385, revoked=(ONE,))
    changes = [
        "- 000000000001 Account 1  retired retired_by_request, role deleted, access revoked",
        f"    - DetachPolicy  {READ_ONLY}",
        f"    - DeleteRole  {role.arn}",
        "",
        "! 000000000002 Account 2  failed scp_denied",
        "    denied\\nby p-1",
        "",
    ]
    last = [
        "~ source policy Access  1 of 385 accounts",
        "    - 000000000001 Account 1",
        "",
        "Plan: 0 to create, 0 to update, 1 to delete, 1 unchanged, 1 skipped, 1 failing.",
    ]
    assert shown(*accounts, shards=(planned_shard,)) == ([*changes, *last], 1)
    left_alone = ["= 000000000003 Account 3  enrolled", "", "= 000000000004 Account 4  skipped excluded", ""]
    assert shown(*accounts, shards=(planned_shard,), verbose=True) == ([*changes, *left_alone, *last], 1)


@pytest.mark.parametrize(
    ("account", "kind"),
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
def test_what_a_plan_means_for_an_account(account: Mapping[str, Any], kind: Kind) -> None:
    told = PlannedAccount(account_id=ONE, **{"outcome": Outcome.ENROLLED, **account})
    assert told.kind is kind
    assert f"1 {'to ' if kind in (Kind.CREATE, Kind.UPDATE, Kind.DELETE, Kind.RETIRE) else ''}{kind}" in (
        Plan(accounts=(told,), source_policy=()).summary
    )


def test_colours_are_for_terminals() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=40)
    show_plan(Plan(accounts=(planned(1, drifted(1), change=Change.UPDATED),), source_policy=()), console)
    assert '\x1b[32m        +   "rolecall-stage": "dev"\x1b[0m' in out.getvalue()
    assert '\x1b[31m        -   "rolecall-stage": "test"\x1b[0m' in out.getvalue()


def test_names_and_errors_of_others_stay_in_their_line() -> None:
    hostile = planned(1, outcome=Outcome.FAILED, actions=(), name='a\n\x1b[2J[red]\u202eb 🎈,"<b>', error="x\r\ny")
    assert shown(hostile)[0][:2] == [
        '! 000000000001 a\\n\\x1b[2J[red]\\u202eb 🎈,"<b>  failed',
        "    x\\r\\ny",
    ]


def test_another_program_reads_it_as_json() -> None:
    plan = Plan(accounts=(planned(1, drifted(1), change=Change.UPDATED),), source_policy=())
    told = json.loads(json.dumps(plan.as_json()))
    assert (told["accounts"][0]["plan"], told["accounts"][0]["name"]) == ("update", "Account 1")
    assert told["accounts"][0]["actions"][-1] == {"action": "SetMaxSession", "before": 7200, "after": 3600}
    assert told["summary"] == {**dict.fromkeys(Kind, 0), Kind.UPDATE: 1}


@pytest.mark.parametrize(("before", "after", "mark"), [(None, {}, "+"), ({}, None, "-")])
def test_a_document_that_is_new_or_gone_is_written_whole(before: Any, after: Any, mark: str) -> None:
    assert difference(before, after) == [f"{mark} {{}}"]


def told(number: int, **more: Any) -> dict[str, Any]:
    stands = {"outcome": "enrolled", "change": "none", "reason": None, "error": None}
    return {"account_id": numbered(number), **stands, "actions": [], **more}


def page(
    *accounts: dict[str, Any], granted: Sequence[str], following: dict[str, Any] | None = None, error: str | None = None
) -> dict[str, Any]:
    planned = {"policy_name": SHARD, "accounts": len(granted), "capacity": 385, "error": error}
    return {
        "accounts": list(accounts),
        "source_policy": [{**planned, "granted": list(granted), "revoked": []}],
        "next": following,
    }


FULL = capacity(settings())


def in_two_pages(*second: dict[str, Any], error: str | None = None) -> list[dict[str, Any]]:
    """Answer with accounts that fill a shard, then with some more."""
    first = [*map(numbered, range(1, FULL + 1))]
    following = {"accounts": "all", "after": first[-1]}  # without dry_run: it must not be relied on
    return [
        page(*(told(number) for number in range(1, FULL + 1)), granted=first, following=following),
        page(*second, granted=[each["account_id"] for each in second], error=error),
    ]


def test_answer_that_continues_is_followed_by_dry_runs_and_assigned_together() -> None:
    stage = OperatedStage(
        answers=in_two_pages(told(FULL + 1)),
        listed=[ONE],
        held=[row(TWO, name="from the ledger")],
        recorded=records(shard(ONE), room=10),
    )
    found = plan(cast("Any", stage), "backfill", {"accounts": "all"})
    assert stage.requests == [
        ("backfill", {"accounts": "all", "dry_run": True}),
        ("backfill", {"accounts": "all", "after": numbered(FULL), "dry_run": True}),
    ]
    assert [account.name for account in found.accounts[:3]] == [f"Account {ONE}", "from the ledger", None]
    assert [(each.policy_name, each.accounts, len(each.granted)) for each in found.source_policy] == [
        (SHARD, FULL, FULL - 1),
        (f"{SHARD}-2", 1, 1),
    ]


def test_accounts_of_several_answers_are_revoked_and_failures_change_nothing() -> None:
    stage = OperatedStage(
        answers=in_two_pages(
            told(FULL + 1, outcome="skipped", reason="suspended"),
            told(FULL + 2, outcome="retired", reason="excluded"),
            told(FULL + 3, outcome="failed", reason="quota"),
            error="denied",
        ),
        recorded=records(shard(*map(numbered, (FULL + 1, FULL + 2, FULL + 3)))),
    )
    (planned_shard,) = plan(cast("Any", stage), "backfill", {"accounts": [ONE]}).source_policy[:1]
    assert planned_shard.revoked == (numbered(FULL + 1), numbered(FULL + 2))
    assert (planned_shard.accounts, len(planned_shard.granted), planned_shard.error) == (FULL, FULL - 1, "denied")


def test_accounts_of_several_answers_that_find_no_room_are_counted() -> None:
    stage = OperatedStage(
        answers=in_two_pages(told(FULL + 1)), recorded=records(shard(), room=1, looked_at=datetime.now(UTC))
    )
    found = plan(cast("Any", stage), "backfill", {"accounts": [ONE]})
    assert found.source_policy[0].error == "1 accounts find no room"
    assert found.exit_status == 1


def test_several_answers_for_the_whole_organization_grant_no_account_by_name() -> None:
    whole = settings(SOURCE_POLICY_SCOPE="organization")
    stage = OperatedStage(
        answers=in_two_pages(told(FULL + 1)), recorded=records(shard(scope=Scope.ORGANIZATION)), settings=whole
    )
    (planned_shard,) = plan(cast("Any", stage), "backfill", {"accounts": [ONE]}).source_policy
    assert (planned_shard.accounts, planned_shard.granted, planned_shard.revoked) == (0, (), ())


def test_error_of_a_shard_is_shown_and_fails_the_plan_if_it_would_change() -> None:
    blocked = PlannedShard(policy_name="Access", accounts=1, capacity=385, error="no\nroom")
    changing = replace(blocked, granted=(ONE,))
    assert shown(shards=(blocked,)) == (
        [
            "! source policy Access  1 of 385 accounts",
            "    no\\nroom",
            "",
            "Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 skipped, 0 failing.",
        ],
        0,
    )
    assert shown(shards=(changing,))[1] == 1


def test_accounts_that_are_named_one_by_one_are_looked_up_one_by_one() -> None:
    stage = OperatedStage(
        answers=[page(told(1), told(2), told(3), granted=[])],
        listed=[ONE, TWO],
        held=[row(TWO, name="from the ledger")],
    )
    found = plan(cast("Any", stage), "backfill", {"accounts": [ONE, TWO, THREE]})
    assert [account.name for account in found.accounts] == [f"Account {ONE}", "from the ledger", None]


def test_granted_and_revoked_are_read_from_the_source_policy() -> None:
    answered = {
        "policy_name": "Access",
        "accounts": 1,
        "capacity": 9,
        "granted": [ONE],
        "revoked": [TWO],
        "error": None,
    }
    found = read_plan([told(2, outcome="retired"), told(1), told(3)], read_shards([answered]), {})
    assert [(account.account_id, account.kind) for account in found.accounts] == [
        (ONE, Kind.UPDATE),
        (TWO, Kind.RETIRE),
        (THREE, Kind.UNCHANGED),
    ]
