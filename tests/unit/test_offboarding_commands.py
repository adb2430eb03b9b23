"""retire, freeze, unfreeze and uninstall: what they ask, what they wait for, and how they end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.accounts import ROLE_KEPT, Access, Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.errors import CommandError, FunctionError
from rolecall.offboarding import freeze, retire, unfreeze, uninstall
from tests.unit.builders import settings
from tests.unit.ledger_rows import NOW, SHARD, numbered, records, row, shard
from tests.unit.operated import OperatedStage, Prompt, dry_run, run, sent

ONE, TWO, THREE = map(numbered, (1, 2, 3))
LATER = (NOW + timedelta(minutes=1)).isoformat()
LATEST = (NOW + timedelta(minutes=2)).isoformat()
EVERYTHING = {"accounts": "all", "force": True}
PREVIEW = {"accounts": "all", "dry_run": True}
ROLE_LEFT: dict[str, Any] = {"role_arn": "arn", "error": "denied"}


def retired(number: int, reason: Reason = Reason.UNINSTALLED, **more: Any) -> LedgerRow:
    values = {"updated_at": LATER, "access": Access.EXCLUDED, "change": Change.DELETED, "reason": reason, **more}
    return row(numbered(number), Outcome.RETIRED, **values)


def retired_by_request(**more: Any) -> LedgerRow:
    return retired(1, Reason.RETIRED_BY_REQUEST, **{"change": Change.NONE, "role_arn": "arn", **more})


def test_nothing_is_revoked_without_confirmation() -> None:
    stage = OperatedStage(responses=[dry_run(ONE)] * 2 + [sent(1)], ledger=[row(ONE)])
    prompt = Prompt(answer=False)
    with pytest.raises(CommandError, match="not confirmed: nothing was changed"):
        run(retire, stage, [ONE], prompt=prompt)
    with pytest.raises(CommandError, match="not a terminal; pass --yes"):
        run(retire, stage, [ONE])
    assert prompt.questions == ["Retire 1 account?"]
    assert stage.requests == [("retire", {"accounts": [ONE], "dry_run": True})] * 2


def test_retire_waits_until_the_role_is_deleted() -> None:
    stage = OperatedStage(
        responses=[dry_run(ONE), sent(1)],
        ledger=[row(ONE)],
        steps=[
            [retired_by_request(error=ROLE_KEPT, in_force_since=LATER)],
            [retired_by_request(error=ROLE_KEPT)],
            [retired_by_request(role_arn=None, change=Change.DELETED, updated_at=LATEST)],
        ],
    )

    ran = run(retire, stage, [ONE], yes=True)

    assert ran.status == 0
    assert [line for line in ran.lines if line.startswith(ONE)] == [
        f"{ONE} pending source_policy_pending",
        f"{ONE} retired retired_by_request, role deleted",
    ]


def test_retire_fails_if_the_role_is_left() -> None:
    step = [retired_by_request(error="denied")]
    stage = OperatedStage(responses=[dry_run(ONE), sent(1)], ledger=[row(ONE)], steps=[step])
    ran = run(retire, stage, [ONE], yes=True)
    assert ran.status == 1
    assert f"        {ONE}: denied" in ran.lines


PRINCIPAL = settings().source_principals[0].arn
OPEN = shard(ONE, attached=frozenset({PRINCIPAL}))
DENYING = shard(ONE, frozen=True, attached=frozenset({PRINCIPAL}))
CONFIRMED = replace(DENYING, denied_principals=frozenset({PRINCIPAL}))
FOREIGN = ShardRecord(name=SHARD, error=Problem(Reason.FOREIGN_SOURCE_POLICY, "not ours"))
TIMED_OUT = FunctionError("rolecall-dev-freeze failed: Task timed out")
FROZEN = {"frozen": True, "in_force": True, "why": None}


def not_in_force(why: str, *, frozen: bool = True) -> dict[str, Any]:
    return {"frozen": frozen, "in_force": False, "why": why}


def requested(frozen: bool | None, *shards: ShardRecord) -> Records:
    return records(*shards, control=Control(frozen=frozen))


def test_freeze_retries_until_it_is_in_force() -> None:
    responses: list[Any] = [*[not_in_force("a read\nof IAM has not shown it")] * 2, TIMED_OUT, FROZEN]
    stage = OperatedStage(responses=responses, ledger=[row(ONE), row(TWO)], recorded=requested(True, DENYING))
    prompt = Prompt(answer=True)

    ran = run(freeze, stage, prompt=prompt)

    assert (ran.status, stage.seconds, prompt.questions) == (0, 9, ["Freeze?"])
    assert stage.requests == [("freeze", {"frozen": True})] * 4
    assert ran.lines == [
        "A freeze was already requested.",
        "A freeze denies every new session of these principals, in all accounts (2 with access):",
        f"  {PRINCIPAL}",
        "Existing sessions continue until they expire, after at most 3600 s. Enrolling continues.",
        "Not in force yet, retrying: a read\\nof IAM has not shown it",
        "Not in force yet, retrying: rolecall-dev-freeze failed: Task timed out",
        "Frozen and in force: every new session is denied. Undo with: rolecall unfreeze",
    ]


def test_freeze_shows_that_it_is_already_in_force() -> None:
    stage = OperatedStage(responses=[FROZEN], recorded=requested(True, CONFIRMED))
    assert run(freeze, stage, yes=True).lines[0] == "The source policy is already frozen."


@pytest.mark.parametrize("shards", [(), (ShardRecord(name=SHARD),)])
def test_freeze_with_nothing_written_is_stored(shards: tuple[ShardRecord, ...]) -> None:
    stage = OperatedStage(responses=[not_in_force("nothing is written")], recorded=requested(True, *shards))
    ran = run(freeze, stage, yes=True)
    assert (ran.status, ran.lines[-1]) == (0, "The freeze is stored: nothing is written")


@pytest.mark.parametrize("shards", [(shard(ONE, frozen=True),), (FOREIGN,)], ids=["unattached", "foreign"])
@pytest.mark.parametrize("attaches", ["true", "false"])
def test_freeze_of_existing_policies_waits_for_a_read_of_iam(shards: tuple[ShardRecord, ...], attaches: str) -> None:
    stage = OperatedStage(
        responses=[*[not_in_force("not read")] * 2, FROZEN],
        recorded=requested(True, *shards),
        settings=settings(ATTACH_SOURCE_POLICY=attaches),
    )
    assert run(freeze, stage, yes=True).status == 0
    assert len(stage.requests) == 3


def test_freeze_that_never_is_in_force_fails() -> None:
    stage = OperatedStage(responses=[not_in_force("denied")] * 100, recorded=requested(True, OPEN))
    ran = run(freeze, stage, yes=True)
    assert (ran.status, stage.seconds) == (1, 120)
    assert "The freeze is stored and NOT in force: denied" in ran.lines


@pytest.mark.parametrize(
    ("responses", "recorded", "count"),
    [
        ([TIMED_OUT] * 100, requested(True, OPEN), 41),
        ([TIMED_OUT], requested(None, OPEN), 1),
        ([CommandError("denied")], requested(None, OPEN), 1),
    ],
    ids=["always timed out", "timed out before it was stored", "denied"],
)
def test_error_of_freeze_ends_the_command(responses: list[CommandError], recorded: Records, count: int) -> None:
    stage = OperatedStage(responses=responses, recorded=recorded)
    with pytest.raises(type(responses[0])):
        run(freeze, stage, yes=True)
    assert len(stage.requests) == count


@pytest.mark.parametrize(
    ("last", "status", "line"),
    [
        ([{"frozen": False, "in_force": True, "why": None}], 0, "Not frozen: new sessions are possible again"),
        (
            [not_in_force("a shard denies", frozen=False)] * 99,
            1,
            "The unfreeze is stored and not in force: a shard denies",
        ),
    ],
)
def test_unfreeze_waits_until_it_is_in_force(last: list[dict[str, Any]], status: int, line: str) -> None:
    responses = [not_in_force("a shard denies", frozen=False), *last]
    stage = OperatedStage(responses=responses, recorded=requested(False, DENYING))
    ran = run(unfreeze, stage)
    assert ran.status == status
    assert stage.requests[:2] == [("freeze", {"frozen": False})] * 2
    assert any(each.startswith(line) for each in ran.lines)


def remaining(*accounts: dict[str, Any], after: str | None = None, shards: int = 0) -> dict[str, Any]:
    following = EVERYTHING | ({"after": after} if after else {}) if accounts or after or shards else None
    policy = [{"policy_name": "Access", "accounts": 2}] * shards
    return {"accounts": list(accounts), "source_policy": policy, "counts": {}, "next": following}


def sent_to_retire(*numbers: int) -> dict[str, Any]:
    return remaining(*({"account_id": numbered(number)} for number in numbers), shards=1)


def found(number: int, error: str | None = None) -> dict[str, Any]:
    return {"account_id": numbered(number), "outcome": "retired", "error": error}


DELETED = Records(control=Control(uninstalling=True, uninstalled=True))
DONE = "Now delete the stack: rolecall undeploy dev"


def test_uninstall_continues_until_nothing_is_left() -> None:
    stage = OperatedStage(
        responses=[
            sent_to_retire(1, 2),
            # The role of the third account is gone when the search starts again.
            remaining({"account_id": ONE}, {"account_id": TWO}, found(3), shards=1),
            sent_to_retire(2),
            remaining(after=TWO),
            remaining(),
        ],
        ledger=[row(ONE), row(TWO, name="two")],
        steps=[[retired(1), retired(2, **ROLE_LEFT)], [retired(2, updated_at=LATEST)]],
        recorded=DELETED,
    )

    prompt = Prompt(answer=True)

    ran = run(uninstall, stage, prompt=prompt)

    assert ran.status == 0
    assert prompt.questions == ["Uninstall stage dev: stop enrolling, and delete all of this?"]
    assert [request for _, request in stage.requests] == [
        PREVIEW,
        EVERYTHING,
        EVERYTHING,
        EVERYTHING,
        EVERYTHING | {"after": TWO},
    ]
    assert ran.lines[:4] == [
        "Will be deleted:",
        f"  - member role in {ONE}",
        f"  - member role in {TWO} (two)",
        "  - source policy Access, which grants access to 2 accounts",
    ]
    assert ran.lines[-1] == DONE


def test_uninstall_waits_for_publish_to_delete_the_shards_and_the_names() -> None:
    deleting, deleted = records(shard(), control=Control(uninstalling=True)), records(control=DELETED.control)
    stage = OperatedStage(
        responses=[remaining(shards=1), remaining(shards=1), remaining()],
        recorded=deleting,
        published=[deleting, deleted, deleted, DELETED],
    )
    ran = run(uninstall, stage, yes=True)
    assert (ran.status, stage.recorded) == (0, DELETED)
    assert ran.lines[-3:] == [
        "Waiting for publish to delete the source policy.",
        "Nothing is left: no member role, and no source policy.",
        DONE,
    ]


def test_uninstall_fails_if_a_shard_is_left() -> None:
    kept = replace(shard(), error=Problem(Reason.FOREIGN_SOURCE_POLICY, "not\nours"))
    stage = OperatedStage(responses=[remaining(shards=1)] * 2, recorded=records(kept, shard(name=f"{SHARD}-2")))
    ran = run(uninstall, stage, yes=True)
    assert ran.status == 1
    assert ran.lines[-4:-1] == [
        "The source policy is not deleted yet:",
        f"  {SHARD}: not\\nours",
        f"  {SHARD}-2: waiting for publish",
    ]


FULL = replace(shard(), error=Problem(Reason.QUOTA, "full"))
ATTACHED = replace(shard(), error=Problem(Reason.REJECTED, "attached to a group"))


@pytest.mark.parametrize(
    ("published", "seconds", "error"), [([FULL, ATTACHED], 4, "attached to a group"), ([], 120, "full")]
)
def test_uninstall_ends_once_publish_can_not_delete_a_shard(
    published: list[ShardRecord], seconds: float, error: str
) -> None:
    """An error of an earlier run counts once a run must have ended since."""
    stage = OperatedStage(
        responses=[remaining(shards=1)] * 2, recorded=records(FULL), published=list(map(records, published))
    )
    ran = run(uninstall, stage, yes=True)
    assert (ran.status, stage.seconds) == (1, seconds)
    assert f"  {SHARD}: {error}" in ran.lines


def test_uninstall_does_not_wait_for_another_source_account() -> None:
    stage = OperatedStage(
        responses=[remaining(shards=1)] * 2,
        recorded=records(shard()),
        settings=settings(SOURCE_PRINCIPAL_ARNS="arn:aws:iam::999999999999:role/Reader"),
    )
    assert run(uninstall, stage, yes=True).status == 1
    assert stage.seconds == 0


def test_uninstall_shows_which_names_were_changed() -> None:
    stage = OperatedStage(
        responses=[remaining(shards=1)] * 2, recorded=records(shard()), settings=settings(SOURCE_POLICY_NAME="Other")
    )
    ran = run(uninstall, stage, yes=True)
    shown = [line for line in ran.lines if line.startswith("What is installed under the former names is deleted: ")]
    assert len(shown) == 2  # before the confirmation, and with what is left
    assert f"SOURCE_POLICY_NAME is Other, and was {SHARD}" in shown[0]


def test_deletion_of_adopted_roles_is_shown() -> None:
    line = "A role that was adopted (AdoptExistingRoles) is deleted like any other, and not restored."
    gone = retired_by_request(role_arn=None, change=Change.DELETED)
    retiring = OperatedStage(responses=[dry_run(ONE), sent(1)], ledger=[row(ONE)], steps=[[gone]])
    uninstalling = OperatedStage(responses=[remaining()] * 2, recorded=DELETED)

    assert line in run(retire, retiring, [ONE], yes=True).lines
    assert line in run(uninstall, uninstalling, yes=True).lines


def test_uninstall_is_unfinished_while_the_names_are_recorded() -> None:
    ran = run(uninstall, OperatedStage(responses=[remaining()] * 2, recorded=records()), yes=True)
    assert ran.status == 2
    assert DONE not in ran.lines


@pytest.mark.parametrize(
    ("searched", "unrecorded"),
    [
        ([sent_to_retire(1)], []),
        (
            [
                remaining({"account_id": ONE}, found(2), after=TWO, shards=1),
                remaining({"account_id": ONE}, found(3), shards=1),
            ],
            [
                "These accounts have an unrecorded role, or couldn't be searched:",
                f"  {TWO}: its member role is being deleted",
                f"  {THREE}: its member role is being deleted",
            ],
        ),
    ],
    ids=["recorded role", "and unrecorded roles"],
)
def test_uninstall_ends_if_the_same_roles_are_left_twice(searched: list[dict[str, Any]], unrecorded: list[str]) -> None:
    stage = OperatedStage(
        responses=[sent_to_retire(1), sent_to_retire(1), *searched],
        ledger=[row(ONE)],
        steps=[[retired(1, **ROLE_LEFT)], [retired(1, **ROLE_LEFT, updated_at=LATEST)]],
    )
    ran = run(uninstall, stage, yes=True)
    assert ran.status == 1
    assert ran.lines[-3 - len(unrecorded) : -1] == [
        "Failed twice to delete the role in 1 account:",
        f"  {ONE} retired uninstalled: denied",
        *unrecorded,
    ]


def test_uninstall_reports_unrecorded_roles_of_every_page() -> None:
    responses = [remaining(), remaining(found(1), found(2, "denied"), after=TWO), remaining()]
    ran = run(uninstall, OperatedStage(responses=responses), yes=True)
    assert ran.status == 1
    assert ran.lines[-3:-1] == [f"  {ONE}: its member role is being deleted", f"  {TWO}: denied"]


def test_uninstall_without_waiting_shows_how_to_continue() -> None:
    stage = OperatedStage(responses=[sent_to_retire(1)] * 2, ledger=[row(ONE)])
    ran = run(uninstall, stage, yes=True, wait=False)
    assert (ran.status, len(stage.requests)) == (0, 2)
    assert ran.lines[-1] == "Run rolecall uninstall again until nothing is left."
