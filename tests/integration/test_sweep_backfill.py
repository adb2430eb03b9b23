"""A backfill enrolls every eligible account of the organization, as its dry run shows before."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from chalicelib.errors import RequestError
from tests.integration.boundary import Boundary, Call, writes
from tests.integration.organization import MANAGEMENT, MEMBER_ROLE, SOURCE_POLICY, STAGE_TAGS, Organization
from tests.integration.permissions import listed
from tests.integration.stage import Stage, planned

READS = {"iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"}


def respond_in_pages(organization: Organization, *, size: int = 5, paths: Mapping[str, str] | None = None) -> None:
    """Respond to ListAccounts in pages, one of them empty, with the given paths of accounts."""
    accounts: Any = organization.organizations.list_accounts()["Accounts"]
    for account in accounts:
        if paths is not None:
            account["Paths"] = [paths.get(account["Id"], f"o-x/r-x/{account['Id']}")]
    pages = [accounts[start : start + size] for start in range(0, len(accounts), size)]
    pages.insert(1, [])

    def page(params: Mapping[str, Any]) -> dict[str, Any]:
        number = int(params.get("NextToken", "0"))
        following = {"NextToken": str(number + 1)} if number + 1 < len(pages) else {}
        return {"Accounts": pages[number], **following}

    organization.boundary.respond("organizations:ListAccounts", page)


def row_changes(stage: Stage) -> dict[str, tuple[Any, ...]]:
    """Map the account of each row to its outcome, reason and change, as `planned` does for a dry run."""
    rows: Any = stage.ledger.scan()["Items"]
    return {row["account_id"]: (row["outcome"], row.get("reason"), row["change"]) for row in rows}


def allowed_in_sessions(calls: list[Call]) -> set[str]:
    """Return the actions that the session policies allow."""
    policies = [json.loads(call.params["Policy"]) for call in calls if call.operation == "sts:AssumeRole"]
    return {action for policy in policies for each in policy["Statement"] for action in listed(each["Action"])}


class Population:
    """An organization with accounts of every kind."""

    def __init__(self, organization: Organization) -> None:
        self.unit = organization.unit()
        adopted = organization.member("Adopted")
        organization.create_role(f"arn:aws:iam::{adopted}:role/{MEMBER_ROLE}")
        self.eligible = {*organization.members(6), adopted, MANAGEMENT}
        self.ineligible = {
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
        suspended, pending, closed, inactive, by_ou, below, self.by_id, invited, foreign = self.ineligible
        states = {suspended: "SUSPENDED", pending: "PENDING_CLOSURE", closed: "CLOSED", inactive: "PENDING_ACTIVATION"}
        for account_id, state in states.items():
            organization.set_state(account_id, state)
        organization.move(by_ou, self.unit)
        organization.move(below, organization.unit(self.unit))
        organization.age_account(invited)
        organization.age_account(inactive)
        tags = {**STAGE_TAGS, "rolecall-stage": "another"}
        organization.create_role(f"arn:aws:iam::{foreign}:role/{MEMBER_ROLE}", tags=tags)

    def settings(self) -> dict[str, str]:
        return {"AdoptExistingRoles": "true", "ExcludeOuIds": self.unit, "ExcludeAccountIds": self.by_id}


def test_backfill_does_what_its_dry_run_shows(organization: Organization, boundary: Boundary) -> None:
    population = Population(organization)
    stage = Stage(organization, **population.settings())
    respond_in_pages(organization)

    with boundary.recording() as dry_run_calls:
        dry_run = stage.run("backfill", {"dry_run": True})

    assert writes(dry_run_calls) == []
    assert allowed_in_sessions(dry_run_calls) == READS | {"cloudformation:DescribeStackResources"}
    assert dry_run["next"] is None

    response = stage.run("backfill")
    with boundary.recording() as calls:
        stage.drain()

    assert row_changes(stage) == planned(dry_run)
    assert stage.statuses() == dict.fromkeys(population.eligible, ("enrolled", None)) | population.ineligible
    roles_written = Counter(call.target_account_id for call in calls if call.is_write and "Role" in call.operation)
    roles_written[MANAGEMENT] -= 1  # the source policy's attachment
    actions = {each["account_id"]: len(each["actions"]) for each in dry_run["accounts"]}
    assert {account_id: count for account_id, count in actions.items() if count} == +roles_written
    assert organization.granted() == population.eligible
    (shard,) = dry_run["source_policy"]
    granted = sorted(population.eligible)
    assert (shard["policy_name"], shard["granted"], shard["revoked"]) == (SOURCE_POLICY, granted, [])
    counts = response["counts"]
    total = len(population.eligible) + len(population.ineligible)
    assert (counts["listed"], counts["sent"], counts["eligible"]) == (total, total, len(population.eligible) + 2)
    assert dry_run["counts"]["selected"] == total
    # The listing of the accounts is used.
    assert [call for call in calls if call.operation == "organizations:DescribeAccount"] == []

    with boundary.recording() as calls:
        again = stage.run("backfill", {"dry_run": True})
        stage.run_and_drain("backfill")

    assert writes(calls, "iam:") == []
    assert {account_id: each[:2] for account_id, each in planned(again).items()} == stage.statuses()
    assert {each[2] for each in planned(again).values()} == {"none"}
    (shard,) = again["source_policy"]
    assert (shard["granted"], shard["revoked"]) == ([], [])


def test_organizational_units_are_walked_once_unless_paths_are_listed(
    organization: Organization, boundary: Boundary
) -> None:
    unit, other = organization.unit(), organization.unit()
    inner = organization.unit(unit)
    below, direct, elsewhere = (organization.member(name) for name in ("Below", "Direct", "Elsewhere"))
    for account_id, parent in ((below, inner), (direct, unit), (elsewhere, other)):
        organization.move(account_id, parent)
    stage = Stage(organization)

    with boundary.recording() as calls:
        response = stage.run("backfill", {"ous": [unit]})
        stage.drain()

    assert response["counts"]["sent"] == 2
    assert set(stage.statuses()) == {below, direct}
    operations = Counter(call.operation for call in calls)
    assert operations["organizations:ListAccountsForParent"] == 4
    assert operations["organizations:ListParents"] == 0

    respond_in_pages(organization, paths={below: f"o-x/r-x/{unit}/{inner}/{below}/"})
    with boundary.recording() as calls:
        response = stage.run("backfill", {"ous": [inner]})

    assert response["counts"]["sent"] == 1
    assert {call.operation for call in calls if call.operation.startswith("organizations:")} == {
        "organizations:ListAccounts"
    }


def test_backfill_selects_by_id_status_or_reason(organization: Organization) -> None:
    first, second = organization.members(2)
    invited = organization.member("Invited", access_role="NotYet")
    organization.age_account(invited)
    stage = Stage(organization)

    def backfill(**request: Any) -> set[str]:
        dry_run = stage.run("backfill", {**request, "dry_run": True})
        stage.run("backfill", request)
        sent = stage.drain().finished
        assert len(sent) == len(set(sent))
        assert set(sent) == set(planned(dry_run))
        return set(sent)

    assert backfill(accounts=[first, invited]) == {first, invited}
    assert backfill(accounts="new") == {second, MANAGEMENT}
    assert backfill(accounts="new") == set()
    assert backfill(accounts="failed") == {invited}
    assert backfill(reasons=["no_access_role"]) == {invited}
    assert backfill(accounts="failed", reasons=["quota"]) == set()
    assert backfill() == {first, second, invited, MANAGEMENT}
    organization.depart(first)
    assert backfill(reasons=["no_access_role"]) == {invited}
    assert backfill(accounts="new") == {first}
    assert stage.status(first) == ("retired", "departed")


def test_dry_run_shows_repairs_and_retirements(organization: Organization, boundary: Boundary) -> None:
    stage = Stage(organization)
    kept, edited, departed = stage.enroll_members(3)
    organization.iam(edited).update_role(RoleName=MEMBER_ROLE, MaxSessionDuration=43200)
    organization.depart(departed)

    with boundary.recording() as calls:
        responses = [stage.run(function, {"dry_run": True}) for function in ("backfill", "resync")]

    assert writes(calls) == []
    for response in responses:
        assert planned(response) == {
            MANAGEMENT: ("enrolled", None, "none"),
            kept: ("enrolled", None, "none"),
            edited: ("enrolled", None, "updated"),
            departed: ("retired", "departed", "none"),
        }
        (actions,) = (each["actions"] for each in response["accounts"] if each["account_id"] == edited)
        assert actions == [{"action": "SetMaxSession", "before": 43200, "after": 3600}]
        (shard,) = response["source_policy"]
        assert (shard["granted"], shard["revoked"]) == ([], [departed])


@pytest.mark.parametrize("function", ["backfill", "rerun", "resync", "retire"])
def test_malformed_request_enqueues_nothing(organization: Organization, boundary: Boundary, function: str) -> None:
    """The unit tests of requests cover what is malformed."""
    stage = Stage(organization)

    with boundary.recording() as calls, pytest.raises(RequestError):
        stage.run(function, {"account": ["111122223333"]})

    assert writes(calls) == []


def test_dry_run_before_the_first_run_of_publish_is_not_blocked(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization, deployed="false", SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:role/Missing")

    with boundary.recording() as calls:
        dry_run = stage.run("backfill", {"accounts": [account_id], "dry_run": True})

    assert writes(calls) == []
    assert planned(dry_run) == {account_id: ("enrolled", None, "created")}
    (shard,) = dry_run["source_policy"]
    assert (shard["policy_name"], shard["granted"], shard["error"]) == (SOURCE_POLICY, [account_id], None)
