"""Load: four hundred accounts created at three a second, then a thousand backfilled, by three workers at once and under throttling."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.source_policy.documents import capacity
from local.organization import LocalOrganization
from local.waiting import until
from tests.end_to_end.deployed_stage import Deploy, Stage, logged_at, shown
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.swept_stage import POLICY, SweptStage, attached_to, unheard_of

WORKERS = 3
CREATED, A_SECOND = 400, 3  # AWS itself creates one account in ten seconds
BACKFILLED = 1_000  # all of the organization: those, older ones, and the management account
THROTTLED = 4  # each fourth call, so that a few use up the tries of botocore, and their messages come again
PATIENCE = 900.0
IN_FORCE_SECONDS = 30
QUEUES = ("accounts", "accounts-dlq", "publish.fifo", "publish-dlq.fifo", "events-dlq")


@pytest.fixture(scope="module")
def load(deploy: Deploy, organization: LocalOrganization, reader: str) -> Iterator["Load"]:
    organization.throttle(THROTTLED)
    yield Load(deploy, organization, reader)
    organization.throttle(0)


class Load:
    """Two stages of one organization: one hears of the accounts as they are created, the other comes later and backfills."""

    def __init__(self, deploy: Deploy, organization: LocalOrganization, reader: str) -> None:
        self.organization = organization
        self._deploy, self._reader = deploy, reader
        self.heard = self._stage("heard", MemberRoleName="Heard", SourcePolicyName="Heard")
        started = time.monotonic()
        self.created = [self._create(number, started + number / A_SECOND) for number in range(CREATED)]
        self.created_in = time.monotonic() - started
        self._settle(self.heard, CREATED)
        self.enrolled_in = time.monotonic() - started

        self.older = unheard_of(organization, BACKFILLED - CREATED - 1)
        self.late = self._stage("late")
        started = time.monotonic()
        self.answer = self.late.ask("backfill")
        self._settle(self.late, BACKFILLED)
        self.backfilled_in = time.monotonic() - started

    def _stage(self, name: str, **names: str) -> SweptStage:
        deployed = self._deploy(
            name,
            SourcePrincipalArns=self._reader,
            MaximumConcurrency=str(WORKERS),
            Schedules="DISABLED",
            **names,
        )
        return SweptStage(self.organization, deployed.name)

    def _create(self, number: int, due: float) -> str:
        time.sleep(max(0.0, due - time.monotonic()))  # the rate is what is tested
        return self.organization.create_account(f"created-{number}", wait=False)

    def _settle(self, stage: SweptStage, count: int) -> None:
        def found() -> bool:
            # Retried messages wait as long as on AWS: to skip that would let those that are being processed come again.
            if stage.waiting() or stage.waiting("publish.fifo"):
                return False
            return sum("in_force_since" in row for row in stage.rows().values()) >= count

        until(found, f"{count} accounts are enrolled and in force in stage {stage.name}", PATIENCE)

    @property
    def throttles(self) -> Counter[str]:
        lines = self.organization.server_log().splitlines()
        return Counter(line.partition(" ")[2] for line in lines if line.startswith("throttled "))


def policies(organization: LocalOrganization, stage: Stage) -> list[set[str]]:
    """Read which accounts each shard names in IAM, in the order of the shards."""
    iam, name, named = organization.client("iam"), stage.settings.source_policy_name, {}
    for page in iam.get_paginator("list_policies").paginate(Scope="Local"):
        for policy in page["Policies"]:
            if policy["PolicyName"].partition("-")[0] == name:
                document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
                (statement,) = document["PolicyVersion"]["Document"]["Statement"]
                named[policy["PolicyName"]] = set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"])
    return [named[each] for each in sorted(named)]


def at_once(lines: list[dict[str, Any]]) -> int:
    """Count the workers that were at work at the same time, at most, by their accounts' lines and durations."""
    spans: dict[str, tuple[datetime, datetime]] = {}
    for line in lines:
        end = logged_at(line)
        begin = end - timedelta(milliseconds=float(line["duration_ms"]))
        known = spans.get(line["function_request_id"], (begin, end))
        spans[line["function_request_id"]] = min(begin, known[0]), max(end, known[1])
    return max(sum(begin <= start < end for begin, end in spans.values()) for start, _ in spans.values())


def published(stage: SweptStage) -> dict[str, Any]:
    """Return how many runs wrote how many policy versions, and how long access took from its row to being in force."""
    runs = [line for line in stage.log("publish") if line.get("message") == "publish"]
    rows = stage.rows().values()
    waited = sorted(
        (datetime.fromisoformat(row["in_force_since"]) - datetime.fromisoformat(row["enrolled_at"])).total_seconds()
        for row in rows
    )
    return {
        "runs": len(runs),
        "policy versions written": sum(run["versions_written"] for run in runs),
        "longest run in seconds": max(run["duration_ms"] for run in runs) / 1000,
        "seconds until in force": {
            "median": round(waited[len(waited) // 2], 1),
            "99 %": round(waited[len(waited) * 99 // 100], 1),
            "longest": round(waited[-1], 1),
        },
    }


def test_every_account_is_enrolled_as_it_is_created(load: Load) -> None:
    assert Counter(map(shown, load.heard.rows().values())) == {("enrolled", None): CREATED}
    named = policies(load.organization, load.heard)
    assert set().union(*named) == set(load.heard.rows())
    assert sorted(map(len, named)) == [CREATED - capacity(load.heard.settings), capacity(load.heard.settings)]


def test_a_backfill_enrolls_a_thousand_accounts(load: Load) -> None:
    assert load.answer["counts"]["sent"] == BACKFILLED
    rows = load.late.rows()
    assert Counter(map(shown, rows.values())) == {("enrolled", None): BACKFILLED}
    assert set(rows) == {*load.heard.rows(), *load.older, load.organization.management_account_id}
    named = policies(load.organization, load.late)
    room = capacity(load.late.settings)
    assert sorted(map(len, named)) == sorted([room, room, BACKFILLED - 2 * room])
    assert set().union(*named) == set(rows)
    assert {POLICY, f"{POLICY}-2", f"{POLICY}-3"} <= attached_to(load.organization)


def test_the_reader_reads_every_account(load: Load, reader: str) -> None:
    session = load.organization.as_role(reader)
    for account_id in load.late.rows():
        assert load.organization.assume(load.late.member_role(account_id), session)


def test_a_freeze_is_in_force_at_once_while_a_thousand_accounts_are_queued(load: Load, reader: str) -> None:
    accounts, session = sorted(load.late.rows()), load.organization.as_role(reader)
    load.late.ask("backfill")
    started = time.monotonic()
    assert load.late.ask("freeze", frozen=True) == {"frozen": True, "in_force": True, "why": None}
    assert time.monotonic() - started < IN_FORCE_SECONDS
    for account_id in accounts[:: BACKFILLED // 50]:
        with denied("sts:AssumeRole"):
            load.organization.assume(load.late.member_role(account_id), session)
    until(lambda: load.late.waiting() == load.late.waiting("publish.fifo") == 0, "the queues are empty", PATIENCE)
    assert load.late.ask("freeze", frozen=False) == {"frozen": False, "in_force": True, "why": None}
    until(lambda: load.late.waiting("publish.fifo") == 0, "the queue of publish is empty", PATIENCE)


def test_no_work_was_given_up_and_no_throttle_left(load: Load) -> None:
    for stage in (load.heard, load.late):
        assert [stage.waiting(queue) for queue in QUEUES] == [0] * len(QUEUES)
        last = {line["account_id"]: line["outcome"] for line in stage.all_passes()}
        assert set(last.values()) == {"enrolled"}
    assert set(load.throttles) == {"iam", "sts", "organizations"}
    assert sum(load.throttles.values()) > BACKFILLED


def test_three_workers_worked_at_once(load: Load) -> None:
    assert at_once(load.late.all_passes()) == WORKERS


def test_the_numbers_are_told(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    retried = {
        stage.name: Counter(line["reason"] for line in stage.all_passes() if line.get("retry"))
        for stage in (load.heard, load.late)
    }
    numbers = {
        "created": f"{len(load.created)} in {load.created_in:.0f} s, {len(load.created) / load.created_in:.1f} a second",
        "enrolled": f"{load.enrolled_in - load.created_in:.1f} s after the last was asked for",
        "backfilled": f"{BACKFILLED} in {load.backfilled_in:.0f} s, {BACKFILLED / load.backfilled_in:.0f} a second",
        "workers at once": [at_once(stage.all_passes()) for stage in (load.heard, load.late)],
        "calls throttled": dict(load.throttles),
        "messages retried": {name: dict(reasons) for name, reasons in retried.items()},
        "publish": {stage.name: published(stage) for stage in (load.heard, load.late)},
        "accounts in each shard": [
            [len(named) for named in policies(load.organization, stage)] for stage in (load.heard, load.late)
        ],
    }
    assert load.created_in < 1.1 * CREATED / A_SECOND
    with capsys.disabled():
        print("\n" + json.dumps(numbers, indent=2))  # noqa: T201 - what `make verify` is asked to tell
