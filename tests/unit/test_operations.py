from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import typer

from chalicelib.accounts import Change, LedgerRow, Outcome
from chalicelib.aws.shards import Snapshot
from chalicelib.errors import Reason
from chalicelib.source_policy import Shard
from rolecall import sending, withdrawing
from rolecall.errors import CommandError
from rolecall.operation import Operation
from rolecall.sending import First
from tests.unit.operated import OperatedStage, operation, sent
from tests.unit.sweeping import NOW, failed, numbered, row

ONE, TWO, THREE, FOUR = EVERY = tuple(map(numbered, (1, 2, 3, 4)))
LATER = (NOW + timedelta(minutes=1)).isoformat()
LATEST = (NOW + timedelta(minutes=2)).isoformat()
EVERYTHING = {"accounts": "all", "force": True}


def written(number: int, outcome: Outcome = Outcome.ENROLLED, reason: Reason | None = None, **more: Any) -> LedgerRow:
    return row(numbered(number), outcome, **{"reason": reason, "updated_at": LATER, **more})


def retired(number: int, **more: Any) -> LedgerRow:
    return written(number, Outcome.RETIRED, Reason.STOPPED, **{"trigger": "retire", "change": Change.DELETED, **more})


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
    stage = OperatedStage(answers=[sent(1, held_back=3)], listed=[ONE], steps=[[written(1)]])
    made, printed = operation(stage)
    assert sending.backfill(made) == 1
    assert "3 accounts would leave the source policy" in printed.getvalue()


@pytest.mark.parametrize(
    ("only_new", "asked", "repair", "status"),
    [
        (False, "all", {"policy_name": "Policy", "action": "AttachTo"}, 0),
        (True, "new", {"policy_name": "Policy", "action": "WriteVersion"}, 0),
        (False, "all", {"reason": "foreign_source_policy", "error": "another stage's"}, 1),
    ],
)
def test_a_resync_watches_who_left_too_and_tells_what_it_repaired(
    only_new: bool, asked: str, repair: dict[str, str], status: int
) -> None:
    stage = OperatedStage(
        answers=[sent(2) | {"source_policy": [repair]}],
        listed=[ONE],
        held=[row(ONE), row(TWO)],
        steps=[[written(1), written(2, Outcome.RETIRED, Reason.DEPARTED)]],
    )
    made, printed = operation(stage)

    assert sending.resync(made, only_new=only_new) == status

    assert stage.requests == [("resync", {"accounts": asked})]
    told = repair.get("error") or f"Policy: {repair['action']}"
    assert f"source policy: {told}" in printed.getvalue()
    assert "2 of 2 settled: 1 enrolled, 1 retired" in printed.getvalue()


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
    assert "dead-letter queue" in printed.getvalue()


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


def look(number: int, outcome: str, *, leaving: bool) -> dict[str, Any]:
    account_id = numbered(number)
    shard = {"policy_name": "Access", "accounts": 0, "capacity": 9, "joining": []}
    stands = {"outcome": outcome, "change": "none", "reason": None, "error": None}
    return {
        "accounts": [{"account_id": account_id, **stands, "actions": []}],
        "source_policy": [{**shard, "leaving": [account_id] if leaving else []}],
        "next": None,
    }


def asked(stage: OperatedStage, *, answer: bool) -> tuple[Operation, list[str]]:
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    return operation(stage, ask=ask)[0], questions


def test_retiring_looks_then_asks_and_a_no_retires_nothing() -> None:
    stage = OperatedStage(answers=[look(1, "retired", leaving=True)], held=[row(ONE)])
    made, questions = asked(stage, answer=False)
    with pytest.raises(typer.Abort):
        withdrawing.retire(made, [ONE])
    assert questions == ["Retire 1 account?"]
    assert stage.requests == [("retire", {"accounts": [ONE], "dry_run": True})]


def test_without_a_terminal_nothing_is_taken_away_unless_yes_is_said() -> None:
    stage = OperatedStage(answers=[look(1, "retired", leaving=True)] * 2 + [sent(1)], held=[row(ONE)])
    made, printed = operation(stage, wait=False)
    with pytest.raises(CommandError, match="no terminal to ask on: nothing was done"):
        withdrawing.retire(made, [ONE])
    assert "leaves the source policy" in printed.getvalue()
    assert withdrawing.retire(replace(made, yes=True), [ONE]) == 0
    assert [request.get("dry_run") for _, request in stage.requests] == [True, True, None]


def test_a_role_that_is_left_of_a_retired_account_fails_the_command() -> None:
    left = written(1, Outcome.RETIRED, Reason.RETIRED_BY_REQUEST, trigger="retire", role_arn="arn", error="denied")
    stage = OperatedStage(answers=[look(1, "retired", leaving=True), sent(1)], held=[row(ONE)], steps=[[left]])
    made, printed = operation(stage, yes=True)
    assert withdrawing.retire(made, [ONE]) == 1
    assert f"{ONE}: denied" in printed.getvalue()


def test_a_forced_backfill_shows_who_leaves_and_asks() -> None:
    stage = OperatedStage(answers=[look(1, "retired", leaving=True), sent(1)], listed=[ONE], held=[row(ONE)])
    made, questions = asked(stage, answer=True)
    assert sending.backfill(replace(made, wait=False), force=True) == 0
    assert questions == ["Take 1 account out of the source policy, and send all others to the queue?"]
    assert stage.requests == [("backfill", {"accounts": "all", "dry_run": True}), ("backfill", EVERYTHING)]


# Freeze and unfreeze.

FROZEN = Shard(name="Access", accounts=frozenset({ONE}), frozen=True, version=2, written=2)
FREEZING = replace(FROZEN, written=1)
OPEN = replace(FROZEN, frozen=False)
BUSY = CommandError("another worker writes the source policy just now")


def snapshots(*shards: Shard) -> list[Snapshot]:
    return [Snapshot(0, (shard,)) for shard in shards]


def test_a_freeze_says_whom_it_denies_and_asks() -> None:
    stage = OperatedStage(answers=[{"frozen": True}], snapshots=snapshots(OPEN))
    made, questions = asked(stage, answer=True)
    assert withdrawing.freeze(made) == 0
    assert questions == ["Freeze?"]
    assert stage.requests == [("freeze", {"frozen": True})]


def test_a_freeze_that_another_worker_is_writing_is_asked_for_until_it_is_written() -> None:
    stage = OperatedStage(answers=[BUSY, BUSY, {"frozen": True}], snapshots=snapshots(OPEN, FREEZING, FREEZING))
    made, printed = operation(stage, yes=True)
    assert withdrawing.freeze(made) == 0
    assert (len(stage.requests), stage.seconds) == (3, 6)
    assert "Frozen" in printed.getvalue()


@pytest.mark.parametrize("shards", [(OPEN,), ()])
def test_an_unfreeze_that_is_refused_is_not_asked_for_again(shards: tuple[Shard, ...]) -> None:
    stage = OperatedStage(answers=[BUSY], snapshots=[Snapshot(0, shards)])
    with pytest.raises(CommandError, match="another worker"):
        withdrawing.unfreeze(operation(stage)[0])
    assert len(stage.requests) == 1


def test_a_freeze_that_nobody_gets_written_ends_with_its_error() -> None:
    stage = OperatedStage(answers=[BUSY] * 10, snapshots=snapshots(OPEN, *[FREEZING] * 10))
    with pytest.raises(CommandError, match="another worker"):
        withdrawing.freeze(operation(stage, yes=True)[0])
    assert len(stage.requests) == 10


# Uninstall.


def left(*accounts: dict[str, Any], after: str | None = None, shards: int = 0) -> dict[str, Any]:
    following = EVERYTHING | ({"after": after} if after else {}) if accounts or after or shards else None
    policy = [{"policy_name": "Access", "accounts": 2}] * shards
    return {"accounts": list(accounts), "source_policy": policy, "next": following}


def sent_away(*numbers: int) -> dict[str, Any]:
    return left(*({"account_id": numbered(number)} for number in numbers), shards=1)


def found(number: int, error: str | None = None) -> dict[str, Any]:
    return {"account_id": numbered(number), "outcome": "retired", "error": error}


def test_an_uninstall_goes_on_until_nothing_is_left() -> None:
    stage = OperatedStage(
        answers=[sent_away(1, 2), sent_away(1, 2), sent_away(2), left(after=TWO), left()],
        held=[row(ONE), row(TWO)],
        steps=[[retired(1), retired(2, role_arn="arn", error="denied")], [retired(2, updated_at=LATEST)]],
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
        "Left to be taken away:",
        f"  - {ONE}",
        f"  - {TWO}",
        "  - source policy Access, which names 2 accounts",
    ]
    assert printed.getvalue().splitlines()[-1] == "Now delete the stack: make undeploy STAGE=dev"


def test_an_uninstall_asks_and_a_no_takes_nothing_away() -> None:
    stage = OperatedStage(answers=[sent_away(1)], held=[row(ONE)])
    made, questions = asked(stage, answer=False)
    with pytest.raises(typer.Abort):
        withdrawing.uninstall(made)
    assert questions == ["Uninstall stage dev: stop enrolling, and take all of this away?"]
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
    assert f"  {ONE} retired stopped: denied" in printed.getvalue().splitlines()
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
        f"  {ONE} retired stopped: denied",
        "These accounts have a role that is not recorded, or can't be looked at:",
        f"  {TWO}: its member role is being taken away",
        f"  {numbered(3)}: its member role is being taken away",
    ]


def test_a_role_that_is_found_on_the_way_and_gone_by_the_end_is_not_told() -> None:
    stage = OperatedStage(
        answers=[sent_away(1), left({"account_id": ONE}, found(2), shards=1), left()],
        held=[row(ONE)],
        steps=[[retired(1)]],
    )
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 0
    assert printed.getvalue().splitlines()[-1] == "Now delete the stack: make undeploy STAGE=dev"


def test_roles_that_are_found_in_the_end_are_named_from_whatever_answer() -> None:
    stage = OperatedStage(answers=[left(), left(found(1), found(2, "denied"), after=TWO), left()])
    made, printed = operation(stage, yes=True)
    assert withdrawing.uninstall(made) == 1
    assert printed.getvalue().splitlines()[-3:-1] == [
        f"  {ONE}: its member role is being taken away",
        f"  {TWO}: denied",
    ]


def test_an_uninstall_that_is_not_watched_says_how_it_goes_on() -> None:
    stage = OperatedStage(answers=[sent_away(1), sent_away(1)], held=[row(ONE)])
    made, printed = operation(stage, yes=True, wait=False)
    assert withdrawing.uninstall(made) == 0
    assert len(stage.requests) == 2
    assert "Go on with rolecall uninstall" in printed.getvalue()
