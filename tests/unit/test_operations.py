from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import typer

from chalicelib.accounts import ROLE_KEPT, Access, Change, LedgerRow, Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall import sending, withdrawing
from rolecall.errors import CommandError, FunctionError
from rolecall.operation import Operation
from rolecall.sending import First
from tests.unit.builders import settings
from tests.unit.ledger_rows import NOW, SHARD, failed, numbered, records, row, shard
from tests.unit.operated import OperatedStage, operation, sent

ONE, TWO, THREE, FOUR = EVERY = tuple(map(numbered, (1, 2, 3, 4)))
LATER = (NOW + timedelta(minutes=1)).isoformat()
LATEST = (NOW + timedelta(minutes=2)).isoformat()
EVERYTHING = {"accounts": "all", "force": True}


def written(number: int, outcome: Outcome = Outcome.ENROLLED, reason: Reason | None = None, **more: Any) -> LedgerRow:
    return row(numbered(number), outcome, **{"reason": reason, "updated_at": LATER, **more})


def retired(number: int, **more: Any) -> LedgerRow:
    return written(
        number, Outcome.RETIRED, Reason.UNINSTALLED, **{"access": Access.EXCLUDED, "change": Change.DELETED, **more}
    )


# Backfill, enroll and rerun.


def test_a_backfill_ends_with_what_failed() -> None:
    stage = OperatedStage(
        answers=[sent(3)],
        listed=[ONE, TWO],
        held=[row(ONE), row(THREE)],
        steps=[[written(1), written(2)], [written(3, Outcome.RETIRED, Reason.DEPARTED)]],
    )
    made, printed = operation(stage)
    assert sending.backfill(made) == 0
    assert stage.requests == [("backfill", {"accounts": "all"})]
    assert "3 of 3 settled: 2 enrolled, 1 retired" in printed.getvalue()

    stage = OperatedStage(answers=[sent(1)], listed=[ONE], steps=[[written(1, Outcome.FAILED, Reason.QUOTA)]])
    assert sending.backfill(operation(stage)[0]) == 1


def test_accounts_that_are_held_back_are_told_of() -> None:
    stage = OperatedStage(answers=[sent(1, deferred=3)], listed=[ONE], steps=[[written(1)]])
    made, printed = operation(stage)
    assert sending.backfill(made) == 1
    assert "3 accounts would lose access" in printed.getvalue()


# A resync waits for publish to check the source policy.

REQUESTED = Control(check_requested_at=NOW)
REPAIR = {"policy_name": SHARD, "action": "AttachTo"}
FULL = Problem(Reason.QUOTA, "the source policy\nis full")


def checked(*shards: ShardRecord, **found: Any) -> Records:
    return records(*shards, control=REQUESTED, checked_at=NOW, **found)


@pytest.mark.parametrize(("only_new", "asked"), [(False, "all"), (True, "new")])
def test_resync_follows_departed_accounts_too_and_shows_repairs(only_new: bool, asked: str) -> None:
    stage = OperatedStage(
        answers=[sent(2)],
        listed=[ONE],
        held=[row(ONE), row(TWO)],
        steps=[[written(1), written(2, Outcome.RETIRED, Reason.DEPARTED)]],
        recorded=records(shard(ONE), control=REQUESTED, checked_at=NOW - timedelta(hours=1), repairs=({},)),
        published=[*[records(shard(ONE), control=REQUESTED)] * 3, checked(shard(ONE), repairs=(REPAIR,))],
    )
    made, printed = operation(stage)

    assert sending.resync(made, only_new=only_new) == 0

    assert stage.requests == [("resync", {"accounts": asked})]
    lines = printed.getvalue().splitlines()
    assert "2 of 2 settled: 1 enrolled, 1 retired" in lines
    assert lines[-1] == f"source policy: repaired: AttachTo {SHARD}"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (checked(shard(ONE), blocked=FULL), "publishing is blocked: the source policy\\nis full"),
        (checked(replace(shard(ONE), error=FULL)), f"{SHARD}: the source policy\\nis full"),
    ],
)
def test_resync_fails_with_what_keeps_publish_from_writing(found: Records, says: str) -> None:
    stage = OperatedStage(answers=[sent(0)], listed=[ONE], recorded=found)
    made, printed = operation(stage)
    assert sending.resync(made) == 1
    assert printed.getvalue().splitlines()[-1] == f"source policy: {says}"


def test_resync_says_that_nothing_had_to_be_repaired() -> None:
    made, printed = operation(OperatedStage(answers=[sent(0)], recorded=checked(shard(ONE))))
    assert sending.resync(made) == 0
    assert printed.getvalue().splitlines()[-1] == "source policy: checked, and nothing had to be repaired"


def test_resync_names_the_shards_that_were_written_too_recently_to_be_checked() -> None:
    older, recent = (replace(shard(ONE), written_at=NOW - timedelta(minutes=minutes)) for minutes in (3, 1))
    repaired, deferred = replace(recent, name=f"{SHARD}-2"), replace(recent, name=f"{SHARD}-3")
    found = checked(older, repaired, deferred, repairs=({"policy_name": f"{SHARD}-2", "action": "AttachTo"},))
    made, printed = operation(OperatedStage(answers=[sent(0)], recorded=found))
    assert sending.resync(made) == 0
    assert printed.getvalue().splitlines()[1:] == [
        f"source policy: repaired: AttachTo {SHARD}-2",
        f"source policy: {SHARD}-3 was written a moment ago: the next resync checks it",
    ]


def test_resync_waits_some_minutes_for_the_check() -> None:
    stage = OperatedStage(answers=[sent(0)], recorded=records(shard(ONE), control=REQUESTED, blocked=FULL))
    made, printed = operation(stage)
    assert sending.resync(made) == 2
    assert stage.seconds == 180
    assert printed.getvalue().splitlines()[-2:] == [
        "source policy: publishing is blocked: the source policy\\nis full",
        "The source policy was not checked yet: rolecall status shows when it is.",
    ]


def test_resync_that_is_not_followed_does_not_wait_for_the_check() -> None:
    stage = OperatedStage(answers=[sent(0)], recorded=records(shard(ONE), control=REQUESTED))
    made, printed = operation(stage, wait=False)
    assert sending.resync(made) == 0
    assert stage.seconds == 0
    assert "Not waiting for the check of the source policy" in printed.getvalue()


def test_resync_that_is_interrupted_does_not_wait_for_the_check() -> None:
    stage = OperatedStage(
        answers=[sent(1)],
        listed=[ONE],
        steps=[KeyboardInterrupt()],
        recorded=records(shard(ONE), control=REQUESTED),
    )
    assert sending.resync(operation(stage)[0]) == 130


def test_pending_account_fails_a_backfill_once_publish_is_blocked() -> None:
    blocked = records(shard(), blocked=FULL, looked_at=NOW + timedelta(minutes=2))
    stage = OperatedStage(answers=[sent(1)], listed=[ONE], steps=[[written(1, in_force_since=None)]], recorded=blocked)
    made, printed = operation(stage)
    assert sending.backfill(made) == 1
    assert "1 pending quota" in printed.getvalue()


# The first accounts of a backfill.


def test_an_organizational_unit_that_holds_no_account_is_refused() -> None:
    stage = OperatedStage(listed=[ONE])
    with pytest.raises(CommandError, match="no account is in ou-none"):
        sending.backfill(operation(stage)[0], ous=["ou-none"])
    assert stage.requests == []


@pytest.mark.parametrize(("max_failures", "goes_on"), [(0, False), (1, True)])
def test_of_the_first_accounts_only_so_many_may_fail(max_failures: int, goes_on: bool) -> None:
    stage = OperatedStage(
        answers=[sent(2), sent(4)],
        listed=EVERY,
        held=[row(ONE), row(TWO, Outcome.FAILED)],
        steps=[
            [written(2, Outcome.FAILED, Reason.QUOTA), written(3)],
            [written(1), written(2, updated_at=LATEST), written(3, updated_at=LATEST), written(4)],
        ],
    )
    made, printed = operation(stage)
    status = sending.backfill(made, first=First(2, max_failures))
    first = ("backfill", {"accounts": [TWO, THREE]})  # The first one is enrolled.
    assert stage.requests == [first, *([("backfill", {"accounts": "all"})] if goes_on else [])]
    assert status == (0 if goes_on else 1)
    assert ("the rest was not sent" in printed.getvalue()) is not goes_on


def test_the_first_accounts_are_watched_even_if_the_rest_is_not() -> None:
    stage = OperatedStage(answers=[sent(1), sent(2)], listed=[ONE, TWO], steps=[[written(1)]])
    made, printed = operation(stage, wait=False)
    assert sending.backfill(made, first=First(1, 0)) == 0
    assert [request["accounts"] for _, request in stage.requests] == [[ONE], "all"]
    assert stage.seconds == 0.5
    assert printed.getvalue().splitlines()[-1] == "Not waiting for them: rolecall status shows how far they are."


def test_the_rest_is_not_sent_when_one_stops_watching_the_first() -> None:
    stage = OperatedStage(answers=[sent(1)], listed=[ONE, TWO], steps=[KeyboardInterrupt()])
    made, printed = operation(stage)
    assert sending.backfill(made, first=First(1, 0)) == 130
    assert len(stage.requests) == 1
    assert "The work goes on" in printed.getvalue()


def test_a_retired_account_is_not_among_the_first() -> None:
    held = [row(ONE, Outcome.RETIRED, reason=Reason.RETIRED_BY_REQUEST)]
    stage = OperatedStage(answers=[sent(1)], listed=[ONE], held=held)
    made, printed = operation(stage, wait=False)
    assert sending.backfill(made, first=First(1, 0)) == 0
    assert [request["accounts"] for _, request in stage.requests] == ["all"]
    assert "no account to send first" in printed.getvalue()


def test_what_does_not_settle_in_time_can_not_be_told() -> None:
    stage = OperatedStage(answers=[sent(1)], listed=[ONE])
    assert sending.backfill(operation(stage, timeout=30)[0]) == 2


def test_enroll_refuses_what_is_no_member_before_it_sends_anything() -> None:
    stage = OperatedStage(answers=[sent(2)], listed=[ONE, TWO], held=[row(THREE)])
    with pytest.raises(CommandError, match=f"{FOUR}: no account of this organization"):
        sending.enroll(operation(stage)[0], [ONE, FOUR])
    assert stage.requests == []
    assert sending.enroll(operation(stage, wait=False)[0], [TWO, THREE, TWO]) == 0
    assert stage.requests == [("backfill", {"accounts": [TWO, THREE]})]


def test_a_rerun_watches_the_failed_accounts_that_are_not_tried_again_anyway() -> None:
    lately = failed(2, Reason.THROTTLED, ago=timedelta(minutes=1))
    stage = OperatedStage(
        answers=[{"counts": {"sent": 1, "redrive_started": True}}],
        held=[failed(1, Reason.QUOTA, ago=timedelta(0)), lately, row(THREE)],
        steps=[[written(2), written(3)], [written(1)]],
    )
    made, printed = operation(stage)
    assert sending.rerun(made) == 0
    assert stage.requests == [("rerun", {"accounts": "failed"})]
    assert stage.seconds == 1
    assert "dead-letter queues" in printed.getvalue()


def test_a_rerun_watches_those_of_the_reasons_that_are_named() -> None:
    stage = OperatedStage(
        answers=[{"counts": {"sent": 1, "redrive_started": False}}],
        held=[failed(1, Reason.QUOTA, ago=timedelta(0)), failed(2, Reason.SCP_DENIED, ago=timedelta(0))],
        steps=[[written(1)], [written(2)]],
    )
    assert sending.rerun(operation(stage)[0], reasons=[Reason.SCP_DENIED]) == 0
    assert stage.requests == [("rerun", {"accounts": "failed", "reasons": ["scp_denied"]})]
    assert stage.seconds == 1


def test_a_rerun_of_nothing_says_so() -> None:
    stage = OperatedStage(answers=[{"counts": {"sent": 0, "redrive_started": False}}], held=[row(ONE)])
    made, printed = operation(stage)
    assert sending.rerun(made, [ONE]) == 0
    assert stage.requests == [("rerun", {"accounts": [ONE]})]
    assert printed.getvalue() == "No account was sent: none is concerned.\n"


# What takes access away asks first.


def look(number: int, outcome: str, *, revoked: bool) -> dict[str, Any]:
    account_id = numbered(number)
    shard = {"policy_name": "Access", "accounts": 0, "capacity": 9, "granted": [], "error": None}
    stands = {"outcome": outcome, "change": "none", "reason": None, "error": None}
    return {
        "accounts": [{"account_id": account_id, **stands, "actions": []}],
        "source_policy": [{**shard, "revoked": [account_id] if revoked else []}],
        "next": None,
    }


def asked(stage: OperatedStage, *, answer: bool) -> tuple[Operation, list[str]]:
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    return operation(stage, ask=ask)[0], questions


def test_retiring_looks_then_asks_and_a_no_retires_nothing() -> None:
    stage = OperatedStage(answers=[look(1, "retired", revoked=True)], held=[row(ONE)])
    made, questions = asked(stage, answer=False)
    with pytest.raises(typer.Abort):
        withdrawing.retire(made, [ONE])
    assert questions == ["Retire 1 account?"]
    assert stage.requests == [("retire", {"accounts": [ONE], "dry_run": True})]


def test_without_a_terminal_nothing_is_taken_away_unless_yes_is_said() -> None:
    stage = OperatedStage(answers=[look(1, "retired", revoked=True)] * 2 + [sent(1)], held=[row(ONE)])
    made, printed = operation(stage, wait=False)
    with pytest.raises(CommandError, match="no terminal to ask on: nothing was done"):
        withdrawing.retire(made, [ONE])
    assert "access revoked" in printed.getvalue()
    assert withdrawing.retire(replace(made, yes=True), [ONE]) == 0
    assert [request.get("dry_run") for _, request in stage.requests] == [True, True, None]


def retiring(**more: Any) -> LedgerRow:
    kept = {"access": Access.EXCLUDED, "in_force_since": LATER, "role_arn": "arn", "error": ROLE_KEPT}
    return written(1, Outcome.RETIRED, Reason.RETIRED_BY_REQUEST, **{**kept, **more})


def test_retiring_follows_until_the_role_is_deleted() -> None:
    deleted = retiring(in_force_since=None, role_arn=None, error=None, change=Change.DELETED, updated_at=LATEST)
    stage = OperatedStage(
        answers=[look(1, "retired", revoked=True), sent(1)],
        held=[row(ONE)],
        steps=[[retiring()], [retiring(in_force_since=None)], [deleted]],
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.retire(made, [ONE]) == 0
    assert [line for line in printed.getvalue().splitlines() if line.startswith(ONE)] == [
        f"{ONE} pending source_policy_pending",
        f"{ONE} retired retired_by_request, role deleted",
    ]


def test_role_that_is_left_of_a_retired_account_fails_the_command() -> None:
    left = retiring(in_force_since=None, error="denied")
    stage = OperatedStage(answers=[look(1, "retired", revoked=True), sent(1)], held=[row(ONE)], steps=[[left]])
    made, printed = operation(stage, yes=True)
    assert withdrawing.retire(made, [ONE]) == 1
    assert f"{ONE}: denied" in printed.getvalue()


def test_a_forced_backfill_shows_who_leaves_and_asks() -> None:
    stage = OperatedStage(answers=[look(1, "retired", revoked=True), sent(1)], listed=[ONE], held=[row(ONE)])
    made, questions = asked(stage, answer=True)
    assert sending.backfill(replace(made, wait=False), force=True) == 0
    assert questions == ["Revoke the access of 1 account, and send all others to the queue?"]
    assert stage.requests == [("backfill", {"accounts": "all", "dry_run": True}), ("backfill", EVERYTHING)]


# Freeze and unfreeze.

READER = settings().source_principals[0].arn
OPEN = shard(ONE, attached=frozenset({READER}))
DENYING = shard(ONE, frozen=True, attached=frozenset({READER}))
LATE = FunctionError("rolecall-dev-freeze refused or failed: Task timed out")


def freeze_answer(*, frozen: bool, why: str | None = None) -> dict[str, Any]:
    return {"frozen": frozen, "in_force": why is None, "why": why}


def frozen_as(asked: bool | None, *shards: ShardRecord) -> Records:
    return records(*shards, control=Control(frozen=asked))


def test_freeze_shows_whom_it_denies_and_asks() -> None:
    stage = OperatedStage(answers=[freeze_answer(frozen=True)], held=[row(ONE)], recorded=frozen_as(None, OPEN))
    made, questions = asked(stage, answer=True)
    assert withdrawing.freeze(made) == 0
    assert questions == ["Freeze?"]
    assert stage.requests == [("freeze", {"frozen": True})]


def test_freeze_asks_again_until_it_is_in_force() -> None:
    answers = [freeze_answer(frozen=True, why="a read\nof IAM has not shown it")] * 2 + [freeze_answer(frozen=True)]
    stage = OperatedStage(answers=answers, held=[row(ONE), row(TWO)], recorded=frozen_as(True, DENYING))
    made, printed = operation(stage, yes=True)
    assert withdrawing.freeze(made) == 0
    assert (len(stage.requests), stage.seconds) == (3, 6)
    assert printed.getvalue().splitlines() == [
        "A freeze is requested already.",
        "A freeze denies these every new session, in all accounts (2 are granted):",
        f"  {READER}",
        "Existing sessions continue until they expire, 3600 s at most. Enrolling continues.",
        "Not in force yet, asking again: a read\\nof IAM has not shown it",
        "Frozen and in force: every new session is denied. rolecall unfreeze lifts it.",
    ]


def test_freeze_that_does_not_come_in_force_fails() -> None:
    answers = [freeze_answer(frozen=True, why="denied")] * 100
    stage = OperatedStage(answers=answers, recorded=frozen_as(True, OPEN))
    made, printed = operation(stage, yes=True)
    assert withdrawing.freeze(made) == 1
    assert stage.seconds == 120
    assert "The freeze is stored, and NOT in force: denied" in printed.getvalue()


@pytest.mark.parametrize("shards", [(), (ShardRecord(name=SHARD),), (shard(ONE, frozen=True),)])
def test_freeze_with_nothing_attached_is_stored(shards: tuple[ShardRecord, ...]) -> None:
    stage = OperatedStage(
        answers=[freeze_answer(frozen=True, why="nothing is attached")], recorded=frozen_as(True, *shards)
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.freeze(made) == 0
    assert printed.getvalue().splitlines()[-1] == "The freeze is stored: nothing is attached"


def test_freeze_where_the_operator_attaches_waits_until_iam_was_read() -> None:
    answers = [freeze_answer(frozen=True, why="not read")] * 2 + [freeze_answer(frozen=True)]
    stage = OperatedStage(
        answers=answers,
        recorded=frozen_as(True, shard(ONE, frozen=True)),
        settings=settings(ATTACH_SOURCE_POLICY="false"),
    )
    assert withdrawing.freeze(operation(stage, yes=True)[0]) == 0
    assert len(stage.requests) == 3


def test_freeze_that_ran_out_of_time_is_asked_again() -> None:
    stage = OperatedStage(answers=[LATE, freeze_answer(frozen=True)], recorded=frozen_as(True, OPEN))
    made, printed = operation(stage, yes=True)
    assert withdrawing.freeze(made) == 0
    assert "Not in force yet, asking again: rolecall-dev-freeze refused or failed" in printed.getvalue()


def test_freeze_that_always_runs_out_of_time_ends_with_its_error() -> None:
    stage = OperatedStage(answers=[LATE] * 100, recorded=frozen_as(True, OPEN))
    with pytest.raises(CommandError, match="Task timed out"):
        withdrawing.freeze(operation(stage, yes=True)[0])


@pytest.mark.parametrize("error", [LATE, CommandError("denied")])
def test_freeze_that_is_not_stored_is_not_asked_again(error: CommandError) -> None:
    stage = OperatedStage(answers=[error], recorded=frozen_as(None, OPEN))
    with pytest.raises(type(error)):
        withdrawing.freeze(operation(stage, yes=True)[0])
    assert len(stage.requests) == 1


def test_unfreeze_waits_until_it_is_in_force() -> None:
    answers = [freeze_answer(frozen=False, why="a shard still denies everything"), freeze_answer(frozen=False)]
    stage = OperatedStage(answers=answers, recorded=frozen_as(False, DENYING))
    made, printed = operation(stage)
    assert withdrawing.unfreeze(made) == 0
    assert stage.requests == [("freeze", {"frozen": False})] * 2
    assert "Not frozen" in printed.getvalue()


def test_unfreeze_that_does_not_come_in_force_fails() -> None:
    answers = [freeze_answer(frozen=False, why="a shard still denies everything")] * 100
    made, printed = operation(OperatedStage(answers=answers, recorded=frozen_as(False, DENYING)))
    assert withdrawing.unfreeze(made) == 1
    assert "not in force: a shard still denies everything" in printed.getvalue()


def test_frozen_source_policy_is_said_to_be_frozen_already() -> None:
    read = replace(DENYING, denied_principals=frozenset({READER}))
    stage = OperatedStage(answers=[freeze_answer(frozen=True)], recorded=frozen_as(True, read))
    made, printed = operation(stage, yes=True)
    assert withdrawing.freeze(made) == 0
    assert printed.getvalue().splitlines()[0] == "The source policy is frozen already."


# Uninstall.


def left(*accounts: dict[str, Any], after: str | None = None, shards: int = 0) -> dict[str, Any]:
    following = EVERYTHING | ({"after": after} if after else {}) if accounts or after or shards else None
    policy = [{"policy_name": "Access", "accounts": 2}] * shards
    return {"accounts": list(accounts), "source_policy": policy, "next": following}


def sent_away(*numbers: int) -> dict[str, Any]:
    return left(*({"account_id": numbered(number)} for number in numbers), shards=1)


def found(number: int, error: str | None = None) -> dict[str, Any]:
    return {"account_id": numbered(number), "outcome": "retired", "error": error}


GONE = Records(control=Control(uninstalling=True, uninstalled=True))


def test_an_uninstall_goes_on_until_nothing_is_left() -> None:
    stage = OperatedStage(
        answers=[sent_away(1, 2), sent_away(1, 2), sent_away(2), left(after=TWO), left()],
        held=[row(ONE), row(TWO)],
        steps=[[retired(1), retired(2, role_arn="arn", error="denied")], [retired(2, updated_at=LATEST)]],
        recorded=GONE,
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 0
    assert [request for _, request in stage.requests] == [
        {"accounts": "all", "dry_run": True},
        EVERYTHING,
        EVERYTHING,
        EVERYTHING,
        EVERYTHING | {"after": TWO},
    ]
    assert printed.getvalue().splitlines()[:4] == [
        "To be deleted:",
        f"  - {ONE}",
        f"  - {TWO}",
        "  - source policy Access, which grants 2 accounts",
    ]
    assert printed.getvalue().splitlines()[-1] == "Now delete the stack: make undeploy STAGE=dev"


def test_uninstall_waits_for_publish_to_delete_the_shards_and_the_names() -> None:
    deleting, deleted = records(shard(ONE), control=Control(uninstalling=True)), records(control=GONE.control)
    stage = OperatedStage(
        answers=[sent_away(1), sent_away(1), left()],
        held=[row(ONE)],
        steps=[[retired(1)]],
        recorded=deleting,
        published=[deleting, deleting, deleted, deleted, GONE],
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 0
    assert stage.recorded == GONE
    assert printed.getvalue().splitlines()[-3:] == [
        "Waiting for publish to delete the source policy.",
        "Nothing is left: no member role, and no source policy.",
        "Now delete the stack: make undeploy STAGE=dev",
    ]


def test_uninstall_without_accounts_waits_for_the_shards_alone() -> None:
    stage = OperatedStage(
        answers=[left(shards=1), left(shards=1), left()],
        recorded=records(shard(), control=Control(uninstalling=True)),
        published=[GONE],
    )
    assert withdrawing.uninstall(operation(stage, yes=True)[0]) == 0
    assert len(stage.requests) == 3


def test_uninstall_ends_when_a_shard_can_not_be_deleted() -> None:
    kept = replace(shard(), error=Problem(Reason.FOREIGN_SOURCE_POLICY, "not\nours"))
    stage = OperatedStage(answers=[left(shards=1), left(shards=1)], recorded=records(kept, shard(name=f"{SHARD}-2")))
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 1
    assert printed.getvalue().splitlines()[-4:-1] == [
        "The source policy is not deleted yet:",
        f"  {SHARD}: not\\nours",
        f"  {SHARD}-2: still to be deleted",
    ]


def test_uninstall_does_not_end_before_the_names_are_deleted() -> None:
    made, printed = operation(OperatedStage(answers=[left(), left()], recorded=records()), yes=True)
    assert withdrawing.uninstall(made) == 2
    assert "undeploy" not in printed.getvalue()


def test_an_uninstall_asks_and_a_no_takes_nothing_away() -> None:
    stage = OperatedStage(answers=[sent_away(1)], held=[row(ONE)])
    made, questions = asked(stage, answer=False)
    with pytest.raises(typer.Abort):
        withdrawing.uninstall(made)
    assert questions == ["Uninstall stage dev: stop enrolling, and delete all of this?"]
    assert stage.requests == [("retire", {"accounts": "all", "dry_run": True})]


def test_an_uninstall_ends_when_the_same_accounts_stay() -> None:
    stays = {"role_arn": "arn", "error": "denied"}
    stage = OperatedStage(
        answers=[sent_away(1)] * 3,
        held=[row(ONE)],
        steps=[[retired(1, **stays)], [retired(1, **stays, updated_at=LATEST)]],
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 1
    assert f"  {ONE} retired uninstalled: denied" in printed.getvalue().splitlines()
    assert "undeploy" not in printed.getvalue()


def test_a_role_that_is_found_while_another_account_stays_is_told_with_it() -> None:
    stays = {"role_arn": "arn", "error": "denied"}
    looked_at = [
        left({"account_id": ONE}, found(2), after=TWO, shards=1),
        left({"account_id": ONE}, found(3), shards=1),
    ]
    stage = OperatedStage(
        answers=[sent_away(1), sent_away(1), *looked_at],
        held=[row(ONE)],
        steps=[[retired(1, **stays)], [retired(1, **stays, updated_at=LATEST)]],
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 1
    assert stage.requests[2:] == [("retire", EVERYTHING), ("retire", EVERYTHING | {"after": TWO})]
    lines = printed.getvalue().splitlines()
    assert lines[-6:-1] == [
        "1 account could not be left twice in a row:",
        f"  {ONE} retired uninstalled: denied",
        "These accounts have a role that is not recorded, or can't be searched:",
        f"  {TWO}: its member role is being deleted",
        f"  {numbered(3)}: its member role is being deleted",
    ]


def test_a_role_that_is_found_on_the_way_and_gone_by_the_end_is_not_told() -> None:
    stage = OperatedStage(
        answers=[sent_away(1), left({"account_id": ONE}, found(2), shards=1), left()],
        held=[row(ONE)],
        steps=[[retired(1)]],
        recorded=GONE,
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 0
    assert printed.getvalue().splitlines()[-1] == "Now delete the stack: make undeploy STAGE=dev"


def test_roles_that_are_found_in_the_end_are_named_from_whatever_answer() -> None:
    stage = OperatedStage(answers=[left(), left(found(1), found(2, "denied"), after=TWO), left()])
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 1
    assert printed.getvalue().splitlines()[-3:-1] == [
        f"  {ONE}: its member role is being deleted",
        f"  {TWO}: denied",
    ]


def test_an_uninstall_that_is_not_watched_says_how_it_goes_on() -> None:
    stage = OperatedStage(answers=[sent_away(1), sent_away(1)], held=[row(ONE)])
    made, printed = operation(stage, yes=True, wait=False)
    assert withdrawing.uninstall(made) == 0
    assert len(stage.requests) == 2
    assert "Continue with rolecall uninstall" in printed.getvalue()
