"""One backfill enrolls every eligible account of the organization, and its dry run tells so before."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from chalicelib.errors import RequestError
from tests.integration.boundary import Boundary, Call
from tests.integration.organization import ACCESS_ROLE, MANAGEMENT, MEMBER_ROLE, SOURCE_POLICY, Organization
from tests.integration.stage import Stage

ADOPTING = {"AdoptExistingRoles": "true"}


def serve_in_pages(organization: Organization, *, of: int = 20, paths: Mapping[str, str] | None = None) -> None:
    """Have ListAccounts answer in pages, one of them empty, with each account's path where paths are given."""
    listed: Any = organization.organizations.list_accounts()["Accounts"]
    for account in listed:
        if paths is not None:
            account["Paths"] = [paths.get(account["Id"], f"o-x/r-x/{account['Id']}")]
    pages = [listed[start : start + of] for start in range(0, len(listed), of)]
    pages.insert(1, [])

    def page(params: Mapping[str, Any]) -> dict[str, Any]:
        number = int(params.get("NextToken", "0"))
        more = {"NextToken": str(number + 1)} if number + 1 < len(pages) else {}
        return {"Accounts": pages[number], **more}

    organization.boundary.answer("organizations:ListAccounts", page)


def writes(calls: list[Call], service: str = "") -> list[str]:
    return [call.operation for call in calls if call.is_write and call.operation.startswith(service)]


def told(answer: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {each["account_id"]: (each["outcome"], each["reason"], each["change"]) for each in answer["accounts"]}


def recorded(stage: Stage) -> dict[str, tuple[Any, ...]]:
    rows: Any = stage.ledger.scan()["Items"]
    return {row["account_id"]: (row["outcome"], row.get("reason"), row["change"]) for row in rows}


class Population:
    """An organization of some age: what it has of each kind."""

    def __init__(self, organization: Organization) -> None:
        self.unit = organization.unit()
        self.plain = [organization.member(f"Plain{number}") for number in range(32)]
        self.adopted = organization.member("ByHand")
        organization.make_role(f"arn:aws:iam::{self.adopted}:role/{MEMBER_ROLE}")
        self.refused = {
            organization.member("Suspended"): ("skipped", "suspended"),
            organization.member("Pending"): ("skipped", "pending_closure"),
            organization.member("Closed"): ("skipped", "closed"),
            organization.member("Inactive"): ("skipped", "pending_activation"),
            organization.member("ByOu"): ("skipped", "excluded"),
            organization.member("BelowOu"): ("skipped", "excluded"),
            organization.member("ById"): ("skipped", "excluded"),
            organization.member("Invited", access_role="NotYet"): ("failed", "no_access_role"),
            organization.member("Foreign"): ("failed", "foreign_role"),
        }
        suspended, pending, closed, inactive, by_ou, below, self.by_id, invited, foreign = self.refused
        states = {suspended: "SUSPENDED", pending: "PENDING_CLOSURE", closed: "CLOSED", inactive: "PENDING_ACTIVATION"}
        for account_id, state in states.items():
            organization.alter(account_id, status=state, state=state)
        organization.move(by_ou, self.unit)
        organization.move(below, organization.unit(self.unit))
        organization.grow_old(invited)
        organization.make_role(
            f"arn:aws:iam::{foreign}:role/{MEMBER_ROLE}", tags={"managed-by": "rolecall", "rolecall-stage": "another"}
        )

    @property
    def eligible(self) -> set[str]:
        return {*self.plain, self.adopted, MANAGEMENT}

    def settings(self) -> dict[str, str]:
        return {**ADOPTING, "ExcludeOuIds": self.unit, "ExcludeAccountIds": self.by_id}


def test_one_backfill_enrolls_every_eligible_account_and_says_of_every_other_why_not_as_the_dry_run_told(
    organization: Organization, boundary: Boundary
) -> None:
    population = Population(organization)
    stage = Stage(organization, **population.settings())
    serve_in_pages(organization)

    # WHEN an operator looks first
    with boundary.watching() as looking:
        dry_run = stage.run("backfill", {"dry_run": True})

    # THEN nothing is written anywhere, and no session would have been let
    assert writes(looking) == []
    sessions = [json.loads(call.params["Policy"]) for call in looking if call.operation == "sts:AssumeRole"]
    assert len(sessions) >= len(population.eligible) - 1
    allowed = {action for each in sessions for said in each["Statement"] for action in _listed(said["Action"])}
    assert {action for action in allowed if not action.startswith(("iam:Get", "iam:List"))} == set()
    assert dry_run["next"] is None

    # WHEN the backfill then runs
    answer = stage.run("backfill")
    with boundary.watching() as calls:
        stage.work()

    # THEN it does what the dry run told
    assert recorded(stage) == told(dry_run)
    assert stage.verdicts() == dict.fromkeys(population.eligible, ("enrolled", None)) | population.refused
    roles_written = Counter(call.about for call in calls if call.is_write and "Role" in call.operation)
    roles_written[MANAGEMENT] -= 1  # The source policy's attachment.
    actions = {each["account_id"]: len(each["actions"]) for each in dry_run["accounts"]}
    assert {account_id: count for account_id, count in actions.items() if count} == +roles_written
    assert organization.named() == population.eligible
    (shard,) = dry_run["source_policy"]
    assert (shard["policy_name"], shard["granted"], shard["revoked"]) == (
        SOURCE_POLICY,
        sorted(population.eligible),
        [],
    )
    counts = answer["counts"]
    assert (counts["listed"], counts["sent"], counts["eligible"]) == (43, 43, 36)
    assert dry_run["counts"]["selected"] == 43
    # AND believes the listing of the accounts, without asking for each
    assert [call for call in calls if call.operation == "organizations:DescribeAccount"] == []

    # WHEN it runs again
    with boundary.watching() as calls:
        again = stage.run("backfill", {"dry_run": True})
        stage.run("backfill")
        stage.work()

    # THEN nothing is left to do
    assert writes(calls, "iam:") == []
    assert {account_id: each[:2] for account_id, each in told(again).items()} == stage.verdicts()
    assert {each[2] for each in told(again).values()} == {"none"}
    (shard,) = again["source_policy"]
    assert (shard["granted"], shard["revoked"]) == ([], [])


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_organizational_units_come_from_the_listing_or_are_walked_once(
    organization: Organization, boundary: Boundary
) -> None:
    unit, other = organization.unit(), organization.unit()
    inner = organization.unit(unit)
    below, direct, elsewhere = (organization.member(name) for name in ("Below", "Direct", "Elsewhere"))
    for account_id, parent in ((below, inner), (direct, unit), (elsewhere, other)):
        organization.move(account_id, parent)
    stage = Stage(organization)

    with boundary.watching() as walking:
        walked = stage.run("backfill", {"ous": [unit]})
        stage.work()

    assert walked["counts"]["sent"] == 2
    assert set(stage.verdicts()) == {below, direct}
    operations = Counter(call.operation for call in walking)
    assert operations["organizations:ListAccountsForParent"] == 4
    assert operations["organizations:ListParents"] == 0

    serve_in_pages(organization, paths={below: f"o-x/r-x/{unit}/{inner}/{below}/"})
    with boundary.watching() as reading:
        answer = stage.run("backfill", {"ous": [inner]})

    assert answer["counts"]["sent"] == 1
    assert {call.operation for call in reading if call.operation.startswith("organizations:")} == {
        "organizations:ListAccounts"
    }


def test_a_backfill_is_narrowed_to_ids_to_what_is_new_to_what_failed_and_to_reasons(organization: Organization) -> None:
    first, second = organization.member("First"), organization.member("Second")
    invited = organization.member("Invited", access_role="NotYet")
    organization.grow_old(invited)
    stage = Stage(organization)

    def backfilled(request: dict[str, Any]) -> set[str]:
        dry_run = stage.run("backfill", {**request, "dry_run": True})
        stage.run("backfill", request)
        sent = stage.work().finished
        assert len(sent) == len(set(sent))
        assert set(sent) == set(told(dry_run))
        return set(sent)

    assert backfilled({"accounts": [first, invited]}) == {first, invited}
    assert backfilled({"accounts": "new"}) == {second, MANAGEMENT}
    assert backfilled({"accounts": "new"}) == set()
    assert backfilled({"accounts": "failed"}) == {invited}
    assert backfilled({"reasons": ["no_access_role"]}) == {invited}
    assert backfilled({"accounts": "failed", "reasons": ["quota"]}) == set()
    assert backfilled({}) == {first, second, invited, MANAGEMENT}
    organization.depart(first)
    assert backfilled({"reasons": ["no_access_role"]}) == {invited}
    assert backfilled({"accounts": "new"}) == {first}
    assert stage.verdict(first) == ("retired", "departed")


def test_a_dry_run_that_runs_out_of_time_is_continued_by_its_next_request(organization: Organization) -> None:
    accounts = {MANAGEMENT, *(organization.member(f"Workload{number}") for number in range(4))}
    stage = Stage(organization)
    asked: dict[str, Any] = {"dry_run": True}
    parts: list[dict[str, tuple[Any, ...]]] = []

    while asked:
        answer = stage.run("backfill", asked, seconds=20)
        parts.append(told(answer))
        asked = answer["next"]

    assert [len(part) for part in parts] == [2, 2, 1]
    assert {account_id for part in parts for account_id in part} == accounts


def test_a_dry_run_tells_what_would_be_mended_and_of_what_went(organization: Organization) -> None:
    kept, edited, gone = (organization.member(name) for name in ("Kept", "Edited", "Gone"))
    stage = Stage(organization)
    stage.run("backfill")
    stage.work()
    organization.iam(edited).update_role(RoleName=MEMBER_ROLE, MaxSessionDuration=43200)
    organization.depart(gone)

    answer = stage.run("backfill", {"dry_run": True})

    assert told(answer) == {
        MANAGEMENT: ("enrolled", None, "none"),
        kept: ("enrolled", None, "none"),
        edited: ("enrolled", None, "updated"),
        gone: ("retired", "departed", "none"),
    }
    (actions,) = (each["actions"] for each in answer["accounts"] if each["account_id"] == edited)
    assert actions == [{"action": "SetMaxSession", "before": 43200, "after": 3600}]
    (shard,) = answer["source_policy"]
    assert (shard["granted"], shard["revoked"]) == ([], [gone])


REFUSED: list[Any] = [
    {"account": ["111122223333"]},
    {"accounts": ["1111222233"]},
    {"accounts": []},
    {"accounts": ["1111222233334"]},
    {"ous": ["ou-1"]},
    {"dry_run": "true"},
    {"source": "aws.ec2", "detail-type": "Scheduled Event"},
    {"accounts": ["111122223333"], "ous": ["ou-ab12-11111111"]},
    ["111122223333"],
]


@pytest.mark.parametrize("function", ["backfill", "rerun", "resync", "retire"])
@pytest.mark.parametrize("request_", REFUSED)
def test_a_request_that_is_refused_queues_nothing(
    organization: Organization, boundary: Boundary, function: str, request_: Any
) -> None:
    organization.member(access_role=ACCESS_ROLE)
    stage = Stage(organization)

    with boundary.watching() as calls, pytest.raises(RequestError):
        stage.run(function, request_)

    assert writes(calls) == []
    assert stage.waiting() == []


def test_a_dry_run_says_that_the_source_policy_is_blocked_and_why(
    organization: Organization, boundary: Boundary
) -> None:
    organization.member()
    missing = f"arn:aws:iam::{MANAGEMENT}:role/Missing"
    stage = Stage(organization, SourcePrincipalArns=missing)

    with boundary.watching() as looking:
        dry_run = stage.run("backfill", {"dry_run": True})

    assert writes(looking) == []
    assert {each["reason"] for each in dry_run["accounts"]} == {"no_source_principal"}
    assert all(missing in each["error"] and each["actions"] == [] for each in dry_run["accounts"])
    stage.run("backfill")
    stage.work()
    assert recorded(stage) == told(dry_run)


def test_a_dry_run_before_the_first_run_of_publish_knows_no_obstacle(
    organization: Organization, boundary: Boundary
) -> None:
    account_id = organization.member()
    stage = Stage(organization, deployed="false", SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:role/Missing")

    with boundary.watching() as looking:
        dry_run = stage.run("backfill", {"accounts": [account_id], "dry_run": True})

    assert writes(looking) == []
    assert told(dry_run) == {account_id: ("enrolled", None, "created")}
    (shard,) = dry_run["source_policy"]
    assert (shard["policy_name"], shard["granted"], shard["error"]) == (SOURCE_POLICY, [account_id], None)


@pytest.mark.parametrize("adopting", ["false", "true"])
def test_a_dry_run_adopts_no_source_policy(organization: Organization, boundary: Boundary, adopting: str) -> None:
    account_id = organization.member()
    organization.make_policy(SOURCE_POLICY)
    stage = Stage(organization, AdoptExistingRoles=adopting)

    with boundary.watching() as looking:
        refused = stage.run("backfill", {"accounts": [account_id], "dry_run": True})

    assert writes(looking) == []
    assert told(refused) == {account_id: ("failed", "foreign_source_policy", "none")}


def test_a_dry_run_shows_who_finds_no_room(organization: Organization) -> None:
    enrolled, first, second = (organization.member(name) for name in ("Enrolled", "First", "Second"))
    iam = organization.iam(MANAGEMENT)
    for number in range(9):
        iam.attach_role_policy(RoleName="Reader", PolicyArn=organization.make_policy(f"Other{number}"))
    stage = Stage(organization)
    stage.enroll(enrolled)
    request = {"accounts": [first, second], "dry_run": True}

    stage.fill(SOURCE_POLICY, stage.full_shard(enrolled))
    stage.run_publish()
    full = stage.run("backfill", request)
    stage.fill(SOURCE_POLICY, stage.full_shard(enrolled)[:-1])
    stage.run_publish()
    nearly = stage.run("backfill", request)

    assert told(full) == dict.fromkeys((first, second), ("failed", "quota", "none"))
    assert all("SourcePolicyScope=organization" in each["error"] for each in full["accounts"])
    assert told(nearly) == dict.fromkeys((first, second), ("enrolled", None, "created"))
    (shard,) = nearly["source_policy"]
    assert (shard["granted"], shard["error"]) == ([min(first, second)], "1 accounts find no room")
