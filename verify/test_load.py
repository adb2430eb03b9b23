"""Load: 400 accounts created at three a second, then a backfill of 1,000, with three workers and throttling."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.source_policy.documents import capacity
from local.organization import LocalOrganization
from local.waiting import wait_until
from tests.end_to_end.deployed_stage import POLICY, Deploy, DeployedStage, displayed_outcome, logged_at
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.organization_changes import attached_policies, create_without_events

WORKERS = 3
CREATED, CREATED_PER_SECOND = 400, 3  # AWS itself creates one account in ten seconds
BACKFILLED = 1_000  # the whole organization: those, older ones, and the management account
THROTTLE_EVERY = 4  # so that some calls exhaust botocore's attempts, and their messages are retried
TIMEOUT_SECONDS = 900.0
IN_FORCE_SECONDS = 30
QUEUES = ("accounts", "accounts-dlq", "publish.fifo", "publish-dlq.fifo", "events-dlq")


@pytest.fixture(scope="module")
def load(deploy: Deploy, organization: LocalOrganization, reader: str) -> Iterator["Load"]:
    organization.throttle(THROTTLE_EVERY)
    yield Load(deploy, organization, reader)
    organization.throttle(0)


class Load:
    """An organization with one stage that received the event of each account, and a later one that ran a backfill."""

    def __init__(self, deploy: Deploy, organization: LocalOrganization, reader: str) -> None:
        self.organization = organization
        self._deploy, self._reader = deploy, reader
        self.by_events = self._deploy_stage("events", MemberRoleName="Events", SourcePolicyName="Events")
        started = time.monotonic()
        for number in range(CREATED):
            self._create_account(number, started + number / CREATED_PER_SECOND)
        self.created_in = time.monotonic() - started
        self._wait_for_access(self.by_events, CREATED)
        self.enrolled_in = time.monotonic() - started

        self.older = create_without_events(organization, BACKFILLED - CREATED - 1)
        self.by_backfill = self._deploy_stage("backfilled")
        started = time.monotonic()
        self.response = self.by_backfill.invoke("backfill")
        self._wait_for_access(self.by_backfill, BACKFILLED)
        self.backfilled_in = time.monotonic() - started
        self.stages = (self.by_events, self.by_backfill)

    def _deploy_stage(self, name: str, **names: str) -> DeployedStage:
        concurrency = {"MaximumConcurrency": str(WORKERS), "Schedules": "DISABLED"}
        return self._deploy(name, SourcePrincipalArns=self._reader, **concurrency, **names)

    def _create_account(self, number: int, due: float) -> None:
        time.sleep(max(0.0, due - time.monotonic()))  # keeps the rate
        self.organization.create_account(f"created-{number}", wait=False)

    def _wait_for_access(self, stage: DeployedStage, count: int) -> None:
        def is_granted() -> bool:
            # With the delays of retries, as on AWS.
            if stage.message_count() or stage.message_count("publish.fifo"):
                return False
            return sum("in_force_since" in row for row in stage.rows().values()) >= count

        wait_until(is_granted, f"{count} accounts are in force in stage {stage.name}", TIMEOUT_SECONDS)

    @property
    def throttled(self) -> Counter[str]:
        lines = self.organization.server_log().splitlines()
        return Counter(line.partition(" ")[2] for line in lines if line.startswith("throttled "))


def granted_by_shard(organization: LocalOrganization, stage: DeployedStage) -> list[set[str]]:
    """Return the accounts that each shard in IAM grants access to, in the order of the shards."""
    iam, name, granted = organization.client("iam"), stage.settings.source_policy_name, {}
    for page in iam.get_paginator("list_policies").paginate(Scope="Local"):
        for policy in page["Policies"]:
            if policy["PolicyName"].partition("-")[0] == name:
                document = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
                (statement,) = document["PolicyVersion"]["Document"]["Statement"]
                granted[policy["PolicyName"]] = set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"])
    return [granted[each] for each in sorted(granted)]


def max_concurrency(lines: list[dict[str, Any]]) -> int:
    """Return the largest number of concurrent invocations, by the times and durations in the log."""
    spans: dict[str, tuple[datetime, datetime]] = {}
    for line in lines:
        end = logged_at(line)
        begin = end - timedelta(milliseconds=float(line["duration_ms"]))
        span = spans.get(line["function_request_id"], (begin, end))
        spans[line["function_request_id"]] = min(begin, span[0]), max(end, span[1])
    return max(sum(begin <= start < end for begin, end in spans.values()) for start, _ in spans.values())


def publish_statistics(stage: DeployedStage) -> dict[str, Any]:
    """Return the runs of publish, the versions that they wrote, and the times from row to access in force."""
    runs = [line for line in stage.log("publish") if line.get("message") == "publish"]
    rows = stage.rows().values()
    seconds = sorted(
        (datetime.fromisoformat(row["in_force_since"]) - datetime.fromisoformat(row["enrolled_at"])).total_seconds()
        for row in rows
    )
    return {
        "runs": len(runs),
        "policy versions written": sum(run["versions_written"] for run in runs),
        "longest run in seconds": max(run["duration_ms"] for run in runs) / 1000,
        "seconds until in force": {
            "median": round(seconds[len(seconds) // 2], 1),
            "99 %": round(seconds[len(seconds) * 99 // 100], 1),
            "longest": round(seconds[-1], 1),
        },
    }


def test_every_created_account_is_enrolled(load: Load) -> None:
    rows = load.by_events.rows()
    assert Counter(map(displayed_outcome, rows.values())) == {("enrolled", None): CREATED}
    granted = granted_by_shard(load.organization, load.by_events)
    assert set().union(*granted) == set(rows)
    room = capacity(load.by_events.settings)
    assert sorted(map(len, granted)) == [CREATED - room, room]


def test_backfill_enrolls_a_thousand_accounts(load: Load) -> None:
    assert load.response["counts"]["sent"] == BACKFILLED
    rows = load.by_backfill.rows()
    assert Counter(map(displayed_outcome, rows.values())) == {("enrolled", None): BACKFILLED}
    assert set(rows) == {*load.by_events.rows(), *load.older, load.organization.management_account_id}
    granted = granted_by_shard(load.organization, load.by_backfill)
    room = capacity(load.by_backfill.settings)
    assert sorted(map(len, granted)) == sorted([room, room, BACKFILLED - 2 * room])
    assert set().union(*granted) == set(rows)
    assert {POLICY, f"{POLICY}-2", f"{POLICY}-3"} <= attached_policies(load.organization)


def test_reader_can_assume_every_member_role(load: Load, reader: str) -> None:
    session = load.organization.as_role(reader)
    for account_id in load.by_backfill.rows():
        assert load.organization.assume(load.by_backfill.member_role_arn(account_id), session)


def test_freeze_is_in_force_at_once_with_a_thousand_queued_accounts(load: Load, reader: str) -> None:
    stage, session = load.by_backfill, load.organization.as_role(reader)
    stage.invoke("backfill")
    started = time.monotonic()
    assert stage.invoke("freeze", frozen=True) == {"frozen": True, "in_force": True, "why": None}
    assert time.monotonic() - started < IN_FORCE_SECONDS
    for account_id in sorted(stage.rows())[:: BACKFILLED // 50]:
        with denied("sts:AssumeRole"):
            load.organization.assume(stage.member_role_arn(account_id), session)
    wait_until(
        lambda: stage.message_count() == stage.message_count("publish.fifo") == 0,
        "the queues are empty",
        TIMEOUT_SECONDS,
    )
    assert stage.invoke("freeze", frozen=False) == {"frozen": False, "in_force": True, "why": None}
    wait_until(lambda: stage.message_count("publish.fifo") == 0, "the publish queue is empty", TIMEOUT_SECONDS)


def test_no_message_is_lost_by_throttling(load: Load) -> None:
    for stage in load.stages:
        assert [stage.message_count(queue) for queue in QUEUES] == [0] * len(QUEUES)
        last = {line["account_id"]: line["outcome"] for line in stage.all_passes()}
        assert set(last.values()) == {"enrolled"}
    assert set(load.throttled) == {"iam", "sts", "organizations"}
    assert sum(load.throttled.values()) > BACKFILLED


def test_three_workers_run_concurrently(load: Load) -> None:
    assert max_concurrency(load.by_backfill.all_passes()) == WORKERS


def test_accounts_are_created_at_the_rate_and_numbers_are_printed(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    retried = {
        stage.name: Counter(line["reason"] for line in stage.all_passes() if line.get("retry")) for stage in load.stages
    }
    numbers = {
        "created": f"{CREATED} in {load.created_in:.0f} s, {CREATED / load.created_in:.1f} a second",
        "enrolled": f"{load.enrolled_in - load.created_in:.1f} s after the last was requested",
        "backfilled": f"{BACKFILLED} in {load.backfilled_in:.0f} s, {BACKFILLED / load.backfilled_in:.0f} a second",
        "concurrent workers": [max_concurrency(stage.all_passes()) for stage in load.stages],
        "calls throttled": dict(load.throttled),
        "messages retried": {name: dict(reasons) for name, reasons in retried.items()},
        "publish": {stage.name: publish_statistics(stage) for stage in load.stages},
        "accounts per shard": [
            [len(granted) for granted in granted_by_shard(load.organization, stage)] for stage in load.stages
        ],
    }
    with capsys.disabled():
        print("\n" + json.dumps(numbers, indent=2))  # noqa: T201 - a result of `make verify`
    assert load.created_in < 1.1 * CREATED / CREATED_PER_SECOND
