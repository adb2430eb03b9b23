"""backfill, resync, enroll and rerun: what they send, what they wait for, and how they end."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from chalicelib.accounts import LedgerRow, Outcome
from chalicelib.errors import Reason
from chalicelib.source_policy.records import Control, Problem, Records, ShardRecord
from rolecall.enrollment import Canary, backfill, enroll, rerun, resync
from rolecall.errors import CommandError
from rolecall.offboarding import retire
from rolecall.plan import fetch_plan
from tests.unit.ledger_rows import NOW, SHARD, failed, numbered, records, row, shard
from tests.unit.operated import OperatedStage, Prompt, dry_run, operation_on, run, sent

ONE, TWO, THREE, FOUR = ALL = tuple(map(numbered, (1, 2, 3, 4)))
LATER = (NOW + timedelta(minutes=1)).isoformat()
LATEST = (NOW + timedelta(minutes=2)).isoformat()
ALL_ACCOUNTS = ("backfill", {"accounts": "all"})
FULL = Problem(Reason.QUOTA, "the source policy\nis full")
REPAIR = {"policy_name": SHARD, "action": "AttachTo"}
REQUESTED = Control(check_requested_at=NOW)


def written(number: int, outcome: Outcome = Outcome.ENROLLED, reason: Reason | None = None, **more: Any) -> LedgerRow:
    return row(numbered(number), outcome, **{"reason": reason, "updated_at": LATER, **more})


def checked(*shards: ShardRecord, **status: Any) -> Records:
    return records(*shards, control=REQUESTED, checked_at=NOW, **status)


@pytest.mark.parametrize(
    ("step", "status", "outcomes"),
    [
        ([written(1), written(3, Outcome.RETIRED, Reason.DEPARTED)], 0, {"1 enrolled", "1 retired departed"}),
        ([written(1), written(3, Outcome.FAILED, Reason.QUOTA)], 1, {"1 enrolled", "1 failed quota"}),
    ],
)
def test_backfill_follows_listed_and_departed_accounts(step: list[LedgerRow], status: int, outcomes: set[str]) -> None:
    stage = OperatedStage(responses=[sent(2)], listed=[ONE], ledger=[row(ONE), row(THREE)], steps=[step])

    ran = run(backfill, stage)

    assert ran.status == status
    assert stage.requests == [ALL_ACCOUNTS]
    assert outcomes <= {line.strip() for line in ran.lines}


@pytest.mark.parametrize("answer", [True, False])
def test_backfill_on_a_terminal_counts_and_asks(answer: bool) -> None:
    prompt = Prompt(answer=answer)
    stage = OperatedStage(responses=[dry_run(ONE), sent(1)], listed=[ONE], ledger=[row(ONE)], steps=[[written(1)]])
    if answer:
        ran = run(backfill, stage, prompt=prompt)
        assert ran.status == 0
        assert (
            ran.lines[1]
            == "Plan: 0 to create, 0 to update, 0 to delete, 1 to retire, 0 unchanged, 0 skipped, 0 failing."
        )
    else:
        with pytest.raises(CommandError, match="not confirmed: nothing was changed"):
            run(backfill, stage, prompt=prompt)
    planned = ("backfill", {"accounts": "all", "dry_run": True})
    assert stage.requests == ([planned, ALL_ACCOUNTS] if answer else [planned])
    assert prompt.questions == ["Send these accounts to the queue?"]


@pytest.mark.parametrize("prompt", [None, Prompt(answer=False)])
def test_backfill_asks_neither_in_a_pipe_nor_with_yes(prompt: Prompt | None) -> None:
    stage = OperatedStage(responses=[sent(1)], listed=[ONE], ledger=[row(ONE)], steps=[[written(1)]])
    assert run(backfill, stage, prompt=prompt, yes=prompt is not None).status == 0
    assert stage.requests == [ALL_ACCOUNTS]


def test_operation_is_json_with_each_account_and_message() -> None:
    failure = written(2, Outcome.FAILED, Reason.QUOTA, error="full", name="two")
    stage = OperatedStage(responses=[sent(3)], listed=[ONE, TWO, THREE], steps=[[written(1), failure]])
    operation = operation_on(stage, timeout=30)
    status = backfill(operation)

    found = operation.as_json(status)

    assert (found["stage"], found["exit_status"], found["sent"]) == ("dev", 2, 3)
    account = {"account_id": TWO, "name": "two", "finished": True, "change": "none"}
    assert found["accounts"][1] == account | {"outcome": "failed", "reason": "quota", "error": "full"}
    assert [each["account_id"] for each in found["accounts"]] == [ONE, TWO]
    assert found["messages"][0] == "3 accounts sent to the queue."
    assert json.loads(json.dumps(found)) == found


def test_pending_account_fails_a_backfill_once_publish_is_blocked() -> None:
    blocked = records(shard(), blocked=FULL, looked_at=NOW + timedelta(minutes=2))
    stage = OperatedStage(
        responses=[sent(1)], listed=[ONE], steps=[[written(1, in_force_since=None)]], recorded=blocked
    )
    assert run(backfill, stage).status == 1


def test_backfill_that_times_out_has_an_unknown_result() -> None:
    assert run(backfill, OperatedStage(responses=[sent(1)], listed=[ONE]), timeout=30).status == 2


def test_deferred_retirements_fail_the_command() -> None:
    stage = OperatedStage(responses=[sent(1, deferred=3)], listed=[ONE], steps=[[written(1)]])
    ran = run(backfill, stage)
    assert ran.status == 1
    assert ran.lines[-1].startswith("3 accounts would lose access, more than MaxRetiredPercent allows")


@pytest.mark.parametrize(
    ("stopped", "status", "line"),
    [
        (False, 0, "54 roles wait for a later wave of the rollout (RolloutPercent); the next resync continues it."),
        (True, 1, "The rollout is stopped: 54 roles wait because accounts failed with the current settings."),
    ],
)
def test_rollout_that_waits_is_shown(*, stopped: bool, status: int, line: str) -> None:
    response = sent(1, rollout_waiting=54, rollout_stopped=stopped)
    ran = run(backfill, OperatedStage(responses=[response], listed=[ONE], steps=[[written(1)]]))
    assert ran.status == status
    assert line in " ".join(ran.lines)


@pytest.mark.parametrize(
    ("ous", "error"),
    [
        (["ou-empty"], "no accounts in ou-empty: name organizational units that contain accounts"),
        (["ou-all", "ou-none"], "--ou is ou-none: the organization has no organizational unit with this id"),
    ],
)
def test_organizational_unit_without_accounts_is_rejected(ous: list[str], error: str) -> None:
    stage = OperatedStage(listed=[ONE])
    with pytest.raises(CommandError, match=error):
        run(backfill, stage, ous=ous)
    with pytest.raises(CommandError, match=error):
        fetch_plan(cast("Any", stage), "backfill", {"accounts": "all", "ous": ous})
    assert stage.requests == []


def test_forced_backfill_lists_lost_access_and_asks() -> None:
    prompt = Prompt(answer=True)
    stage = OperatedStage(responses=[dry_run(ONE), sent(1)], listed=[ONE], ledger=[row(ONE)])
    assert run(backfill, stage, force=True, wait=False, prompt=prompt).status == 0
    assert prompt.questions == ["Revoke access of 1 account, and send all others to the queue?"]
    assert stage.requests == [
        ("backfill", {"accounts": "all", "dry_run": True}),
        ("backfill", {"accounts": "all", "force": True}),
    ]


@pytest.mark.parametrize(
    ("max_failures", "requests", "result"),
    [
        (0, [], "Stopped: 1 of the first 2 failed (limit: --max-failures 0). The rest was not sent."),
        (1, [ALL_ACCOUNTS], "1 of the first 2 failed (limit: --max-failures 1); continuing with the rest."),
    ],
)
def test_too_many_failures_of_the_first_accounts_stop_a_backfill(
    max_failures: int, requests: list[tuple[str, dict[str, Any]]], result: str
) -> None:
    stage = OperatedStage(
        responses=[sent(2), sent(4)],
        listed=ALL,
        ledger=[row(ONE)],
        steps=[
            [written(2, Outcome.FAILED, Reason.QUOTA), written(3)],
            [written(1), written(2, updated_at=LATEST), written(3, updated_at=LATEST), written(4)],
        ],
    )

    ran = run(backfill, stage, canary=Canary(2, max_failures))

    assert ran.status == int(not requests)
    assert stage.requests == [("backfill", {"accounts": [TWO, THREE]}), *requests]  # ONE is already enrolled
    assert result in ran.lines


def test_first_accounts_are_untried_ones() -> None:
    ledger = [row(ONE, Outcome.FAILED, reason=Reason.QUOTA), row(TWO, in_force_since=None)]
    stage = OperatedStage(responses=[sent(3)], listed=ALL, ledger=ledger, steps=[KeyboardInterrupt()])
    run(backfill, stage, canary=Canary(3, 0))
    assert stage.requests == [("backfill", {"accounts": [THREE, FOUR, ONE]})]


def test_first_accounts_are_awaited_despite_no_wait() -> None:
    stage = OperatedStage(responses=[sent(1), sent(2)], listed=[ONE, TWO], steps=[[written(1)]])
    ran = run(backfill, stage, canary=Canary(1, 0), wait=False)
    assert (ran.status, stage.seconds) == (0, 0.5)
    assert stage.requests == [("backfill", {"accounts": [ONE]}), ALL_ACCOUNTS]
    assert ran.lines[-1] == "Not waiting: rolecall status shows the progress."


def test_interrupt_during_the_first_accounts_sends_no_more() -> None:
    stage = OperatedStage(responses=[sent(1)], listed=[ONE, TWO], steps=[KeyboardInterrupt()])
    assert run(backfill, stage, canary=Canary(1, 0)).status == 130
    assert len(stage.requests) == 1


def test_account_retired_by_request_is_not_among_the_first() -> None:
    ledger = [row(ONE, Outcome.RETIRED, reason=Reason.RETIRED_BY_REQUEST)]
    stage = OperatedStage(responses=[sent(1)], listed=[ONE], ledger=ledger)
    ran = run(backfill, stage, canary=Canary(1, 0), wait=False)
    assert stage.requests == [ALL_ACCOUNTS]
    assert ran.lines[0] == "All eligible accounts are enrolled: no account to send first."


@pytest.mark.parametrize(("only_new", "selection"), [(False, "all"), (True, "new")])
def test_resync_waits_for_the_check_and_shows_repairs(only_new: bool, selection: str) -> None:
    before = records(shard(ONE), control=REQUESTED, checked_at=NOW - timedelta(hours=1), repairs=({},))
    stage = OperatedStage(
        responses=[sent(1)],
        listed=[ONE],
        steps=[[written(1)]],
        recorded=before,
        published=[*[records(shard(ONE), control=REQUESTED)] * 3, checked(shard(ONE), repairs=(REPAIR,))],
    )

    ran = run(resync, stage, only_new=only_new)

    assert ran.status == 0
    assert stage.requests == [("resync", {"accounts": selection})]
    assert ran.lines[-1] == f"source policy: repaired: AttachTo {SHARD}"


OLDER, RECENT = (replace(shard(ONE), written_at=NOW - timedelta(minutes=minutes)) for minutes in (3, 1))


@pytest.mark.parametrize(
    ("recorded", "status", "lines"),
    [
        (checked(OLDER), 0, ["source policy: checked, nothing to repair"]),
        (checked(OLDER, blocked=FULL), 1, ["source policy: publishing is blocked: the source policy\\nis full"]),
        (checked(replace(OLDER, error=FULL)), 1, [f"source policy: {SHARD}: the source policy\\nis full"]),
        (
            # A shard that the check itself repaired is recently written, too.
            checked(RECENT, replace(RECENT, name=f"{SHARD}-2"), repairs=(REPAIR,)),
            0,
            [
                f"source policy: repaired: AttachTo {SHARD}",
                f"source policy: {SHARD}-2 was written just now; the next resync checks it",
            ],
        ),
        (
            records(shard(ONE), control=REQUESTED, blocked=FULL),
            2,
            [
                "source policy: publishing is blocked: the source policy\\nis full",
                "source policy: not checked yet; rolecall status shows the last check",
            ],
        ),
    ],
)
def test_resync_ends_with_the_result_of_the_check(recorded: Records, status: int, lines: list[str]) -> None:
    stage = OperatedStage(responses=[sent(0)], listed=[ONE], recorded=recorded)
    ran = run(resync, stage)
    assert (ran.status, stage.seconds) == (status, 180 if status == 2 else 0)
    assert ran.lines[1:] == lines


@pytest.mark.parametrize(
    ("wait", "steps", "status"), [(False, [], 0), (True, [KeyboardInterrupt()], 130)], ids=["no wait", "interrupted"]
)
def test_resync_may_end_before_the_check(wait: bool, steps: list[KeyboardInterrupt], status: int) -> None:
    recorded = records(shard(ONE), control=REQUESTED)
    stage = OperatedStage(responses=[sent(1)], listed=[ONE], steps=steps, recorded=recorded)
    ran = run(resync, stage, wait=wait)
    assert ran.status == status
    assert stage.seconds <= 0.5


@pytest.mark.parametrize("command", [enroll, rerun, retire])
def test_unknown_account_is_rejected(command: Callable[..., int]) -> None:
    stage = OperatedStage(listed=[ONE], ledger=[row(TWO)])
    with pytest.raises(CommandError, match=f"{FOUR}: not in this organization, nor in the ledger of stage dev"):
        run(command, stage, [ONE, TWO, FOUR])
    assert stage.requests == []


def test_enroll_rejects_ids_outside_the_organization() -> None:
    stage = OperatedStage(responses=[sent(2)], listed=[ONE, TWO], ledger=[row(THREE)])
    with pytest.raises(CommandError, match=f"{FOUR}: not in this organization"):
        run(enroll, stage, [ONE, FOUR])
    assert stage.requests == []

    assert run(enroll, stage, [TWO, THREE, TWO], wait=False).status == 0

    assert stage.requests == [("backfill", {"accounts": [TWO, THREE]})]


@pytest.mark.parametrize(
    ("reasons", "request_", "finished"),
    [([], {"accounts": "failed"}, 1), ([Reason.SCP_DENIED], {"accounts": "failed", "reasons": ["scp_denied"]}, 2)],
)
def test_rerun_follows_failed_accounts_that_nothing_else_retries(
    reasons: list[Reason], request_: dict[str, Any], finished: int
) -> None:
    stage = OperatedStage(
        responses=[{"counts": {"sent": 1, "redrive_started": True}}],
        ledger=[
            failed(1, Reason.QUOTA, ago=timedelta(0)),
            failed(2, Reason.SCP_DENIED, ago=timedelta(0)),
            failed(3, Reason.THROTTLED, ago=timedelta(minutes=1)),
            row(FOUR),
        ],
        steps=[[written(3), written(4)], [written(finished)]],
    )

    ran = run(rerun, stage, reasons=reasons)

    assert (ran.status, stage.seconds) == (0, 1)
    assert stage.requests == [("rerun", request_)]
    assert ran.lines[0] == "Redriving the dead-letter queues."


def test_rerun_without_failed_accounts_does_nothing() -> None:
    stage = OperatedStage(responses=[{"counts": {"sent": 0, "redrive_started": False}}], ledger=[row(ONE)])
    ran = run(rerun, stage, [ONE])
    assert stage.requests == [("rerun", {"accounts": [ONE]})]
    assert ran == (0, ["Nothing to do: no matching accounts."])
