"""Accounts that existed before the deployment: a backfill enrolls them, resyncs repair drift, reruns retry failures."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.organization import InvocationError, LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.deployed_stage import POLICY, ROLE, Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.iam_roles import Role
from tests.end_to_end.organization_changes import (
    DAY_SECONDS,
    attached_policies,
    create_unit,
    create_without_events,
    deny_policy,
    events_dropped,
    move_account,
    root_id,
    scp_attached,
)

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
AUDIT = "arn:aws:iam::aws:policy/SecurityAudit"
ACCOUNTS = 26  # two pages of a listing


@dataclass(frozen=True)
class Snapshot:
    """The ledger, some member roles, and the managed policies with their default versions."""

    rows: dict[str, Any]
    roles: list[Role | None]
    policies: dict[str, str]


@dataclass(frozen=True)
class Backfilled:
    """The organization after its first backfill, and what was recorded before it."""

    stage: DeployedStage
    excluded_unit: str
    invited: list[str]
    foreign: str
    by_hand: str
    expected: dict[str, tuple[str, str | None]]  # outcome and reason by account id
    before: Snapshot
    dry_run: dict[str, Any]
    after_dry_run: Snapshot
    response: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    passes: list[dict[str, Any]]
    granted: set[str]

    @property
    def eligible(self) -> list[str]:
        return sorted(each for each, outcome in self.expected.items() if outcome == ("enrolled", None))


@pytest.fixture(scope="module")
def backfilled(organization: LocalOrganization, deploy: Deploy, reader: str) -> Backfilled:
    in_unit, in_deeper, by_id, foreign, by_hand, *others = create_without_events(organization, ACCOUNTS - 3)
    with events_dropped(organization):
        invited = [organization.invite_account() for _ in range(2)]
        excluded_unit = create_unit(organization, "Outside")
        move_account(organization, in_unit, excluded_unit)
        move_account(organization, in_deeper, create_unit(organization, "Deeper", excluded_unit))
    for account_id in invited:
        organization.age_account(account_id, DAY_SECONDS)
    expected: dict[str, tuple[str, str | None]] = {
        **dict.fromkeys((in_unit, in_deeper, by_id), ("skipped", "excluded")),
        **dict.fromkeys(invited, ("failed", "no_access_role")),
        foreign: ("failed", "foreign_role"),
    }
    for state in ("PENDING_ACTIVATION", "SUSPENDED", "PENDING_CLOSURE", "CLOSED"):
        account_id = others.pop()
        organization.set_account_state(account_id, state)
        expected[account_id] = ("skipped", state.lower())
    expected |= dict.fromkeys((organization.management_account_id, by_hand, *others), ("enrolled", None))
    policy = create_by_hand(organization, reader, by_hand, foreign)
    parameters = {"AdoptExistingRoles": "true", "ExcludeOuIds": excluded_unit, "ExcludeAccountIds": by_id}
    stage = deploy("whole", SourcePrincipalArns=reader, **parameters)

    observed = [*others[:3], foreign, by_hand, organization.management_account_id]
    before = snapshot(stage, observed)
    dry_run = stage.invoke("backfill", dry_run=True)
    after_dry_run = snapshot(stage, observed)
    response = stage.invoke_and_wait("backfill")
    organization.client("iam").detach_role_policy(RoleName="Reader", PolicyArn=policy)
    recorded = (before, dry_run, after_dry_run, response, stage.rows(), stage.all_passes(), stage.granted_accounts())
    return Backfilled(stage, excluded_unit, invited, foreign, by_hand, expected, *recorded)


def create_by_hand(organization: LocalOrganization, reader: str, account_id: str, foreign: str) -> str:
    """Create a role that the reader may assume and one of another stage, and return the reader's policy."""
    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    tags = {"managed-by": "rolecall", "rolecall-stage": "another"}
    organization.create_role(foreign, ROLE, trust)
    organization.client("iam", foreign).tag_role(
        RoleName=ROLE, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
    )
    role = organization.create_role(account_id, ROLE, trust, [AUDIT])
    iam, document = organization.client("iam"), allow_policy("sts:AssumeRole", resource=[role])
    created = iam.create_policy(PolicyName="ByHand", PolicyDocument=json.dumps(document))
    arn = str(created["Policy"]["Arn"])
    iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)
    assert organization.assume(role, organization.as_role(reader))
    return arn


def snapshot(stage: DeployedStage, account_ids: list[str]) -> Snapshot:
    listed = stage.organization.client("iam").list_policies(Scope="Local")["Policies"]
    policies = {policy["PolicyName"]: policy["DefaultVersionId"] for policy in listed}
    return Snapshot(stage.rows(), [stage.role(account_id) for account_id in account_ids], policies)


def test_dry_run_writes_nothing(backfilled: Backfilled) -> None:
    assert backfilled.after_dry_run == backfilled.before
    assert backfilled.before.rows == {}


def test_backfill_records_the_outcome_of_every_account(backfilled: Backfilled) -> None:
    assert len(backfilled.expected) == backfilled.response["counts"]["sent"] == ACCOUNTS
    outcomes = {account_id: (row["outcome"], row.get("reason")) for account_id, row in backfilled.rows.items()}
    assert outcomes == backfilled.expected
    assert backfilled.granted == set(backfilled.eligible)


def test_dry_run_matches_the_backfill(backfilled: Backfilled) -> None:
    planned = {
        each["account_id"]: (
            *(each["outcome"], each["reason"], each["change"]),
            *(step["action"] for step in each["actions"]),
        )
        for each in backfilled.dry_run["accounts"]
    }
    done = {
        line["account_id"]: (line["outcome"], line.get("reason"), line["change"], *line["actions"])
        for line in backfilled.passes
    }
    assert planned == done
    assert backfilled.dry_run["next"] is None
    (shard,) = backfilled.dry_run["source_policy"]
    assert (shard["policy_name"], set(shard["granted"]), shard["revoked"]) == (POLICY, backfilled.granted, [])


def test_role_created_by_hand_is_adopted(backfilled: Backfilled) -> None:
    assert backfilled.rows[backfilled.by_hand]["change"] == "updated"
    new = next(each for each in backfilled.eligible if backfilled.rows[each]["change"] == "created")
    adopted, created = backfilled.stage.role(backfilled.by_hand), backfilled.stage.role(new)
    assert adopted
    assert created
    assert adopted | {"created": None} == created | {"created": None}
    assert backfilled.stage.assume_member_role(backfilled.by_hand)


def test_second_backfill_writes_nothing_to_iam(organization: LocalOrganization, backfilled: Backfilled) -> None:
    stage, management = backfilled.stage, organization.management_account_id
    stage.invoke_and_wait("backfill")
    enrolled, count = stage.accounts_with_outcome("enrolled"), len(stage.all_passes())
    before = stage.role(management), stage.policy_versions(), stage.source_policy()

    writes = ("Add", "Attach", "Create", "Delete", "Detach", "Put", "Remove", "Set", "Tag", "Untag", "Update")
    with scp_attached(organization, deny_policy(*(f"iam:{verb}*" for verb in writes)), [root_id(organization)]):
        stage.invoke_and_wait("backfill")

    passes = stage.all_passes()[count:]
    assert {(line["change"], *line["actions"]) for line in passes} == {("none",)}
    assert {line["account_id"] for line in passes if line["outcome"] == "enrolled"} == enrolled
    assert (stage.role(management), stage.policy_versions(), stage.source_policy()) == before


def test_hourly_resync_finds_changes_whose_events_were_lost(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    moved, closed, departed = create_without_events(organization, 3)
    stage.invoke_and_wait("resync", accounts="new")
    assert stage.accounts_with_outcome("enrolled") >= {moved, closed, departed}

    created = create_without_events(organization, 2)
    with events_dropped(organization):
        move_account(organization, moved, backfilled.excluded_unit)
        organization.client("organizations").remove_account_from_organization(AccountId=departed)
        organization.set_account_state(closed, "CLOSED")
        stage.invoke_and_wait("resync", accounts="failed")  # of other accounts; it takes longer than any event
    assert stage.accounts_with_outcome("enrolled") >= {moved, closed, departed}
    count = len(stage.all_passes())
    stage.fire("discovery", "resync")

    assert {line["account_id"] for line in stage.all_passes()[count:]} == {*created, moved, closed, departed}
    for account_id in created:
        assert stage.wait_for_outcome(account_id, "enrolled")["trigger"] == "resync"
        assert stage.assume_member_role(account_id)
    for account_id, reason in ((moved, "excluded"), (closed, "closed"), (departed, "departed")):
        stage.wait_for_outcome(account_id, "retired", reason)
        with denied("sts:AssumeRole"):
            stage.assume_member_role(account_id)
    assert stage.latest_metric("EventsMissed") == len(created)


DRIFTS: dict[str, Callable[[Any], object]] = {
    "SetTrust": lambda iam: iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(trust_policy("*"))),
    "DetachPolicy": lambda iam: iam.attach_role_policy(RoleName=ROLE, PolicyArn=AUDIT),
    "AttachPolicy": lambda iam: iam.detach_role_policy(RoleName=ROLE, PolicyArn=READ_ONLY),
    "PutInlinePolicy": lambda iam: iam.delete_role_policy(RoleName=ROLE, PolicyName="DenyDataReads"),
    "SetMaxSession": lambda iam: iam.update_role(RoleName=ROLE, MaxSessionDuration=43200),
}
"""Changes of a member role by hand, by the action that repairs them."""


def test_full_resync_repairs_roles_and_the_source_policy(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    stage.invoke_and_wait("resync")
    drifted = dict(zip(backfilled.eligible[:5], DRIFTS, strict=True))
    deleted = backfilled.eligible[5]
    roles = {account_id: stage.role(account_id) for account_id in drifted}
    for account_id, action in drifted.items():
        DRIFTS[action](organization.client("iam", account_id))
    iam = organization.client("iam", deleted)
    iam.detach_role_policy(RoleName=ROLE, PolicyArn=READ_ONLY)
    iam.delete_role_policy(RoleName=ROLE, PolicyName="DenyDataReads")
    iam.delete_role(RoleName=ROLE)
    document, count = stage.source_policy(), len(stage.all_passes())
    edit_source_policy(organization)
    assert set(drifted) & stage.granted_accounts() == set()
    stage.age_records()
    stage.invoke_and_wait("resync")

    actions = {line["account_id"]: line["actions"] for line in stage.all_passes()[count:] if line["actions"]}
    assert actions == {account_id: [action] for account_id, action in drifted.items()} | {
        deleted: ["CreateRole", "PutInlinePolicy", "AttachPolicy"]
    }
    assert {account_id: stage.role(account_id) for account_id in drifted} == roles
    status = stage.records().status
    assert status
    assert [(each["policy_name"], each["action"]) for each in status.repairs] == [
        (POLICY, action) for action in ("TagPolicy", "DeleteVersion", "WriteVersion", "AttachTo", "DetachFrom")
    ]
    assert stage.source_policy() == document
    assert POLICY in attached_policies(organization)
    assert POLICY not in attached_policies(organization, "Intruder")
    assert stage.assume_member_role(deleted)
    assert stage.invoke_and_wait("resync", accounts="failed")["source_policy"] == list(status.repairs)


def edit_source_policy(organization: LocalOrganization) -> None:
    """Make the source policy grant less, add a version, remove a tag, and attach it to another role."""
    iam, arn = organization.client("iam"), f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    condition = {"StringEquals": {"aws:ResourceAccount": ["999999999999"]}}
    less = allow_policy("sts:AssumeRole", resource=f"arn:aws:iam::*:role/{ROLE}", condition=condition)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(less), SetAsDefault=True)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(allow_policy("sts:*")), SetAsDefault=False)
    iam.untag_policy(PolicyArn=arn, TagKeys=["managed-by"])
    iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
    organization.create_source_principal("Intruder")
    iam.attach_role_policy(RoleName="Intruder", PolicyArn=arn)


def test_account_is_enrolled_once_its_control_policy_is_detached(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    (controlled,) = create_without_events(organization)
    with scp_attached(organization, deny_policy("iam:CreateRole"), [controlled]):
        stage.invoke_and_wait("backfill", accounts=[controlled])
        stage.wait_for_outcome(controlled, "failed", "scp_denied")

    stage.wait_for_outcome(controlled, "enrolled")


def test_rerun_enrolls_exactly_the_failed_accounts(organization: LocalOrganization, backfilled: Backfilled) -> None:
    stage = backfilled.stage
    (controlled,) = create_without_events(organization)
    others = {*backfilled.invited, backfilled.foreign}
    organization.drop_events(True)  # the policy's, which would send the account
    with scp_attached(organization, deny_policy("iam:CreateRole"), [controlled]):
        stage.invoke_and_wait("backfill", accounts=[controlled])
        stage.wait_for_outcome(controlled, "failed", "scp_denied")
    organization.drop_events(False)
    assert stage.accounts_with_outcome("failed") == {controlled, *others}

    count = len(stage.all_passes())
    assert stage.invoke_and_wait("rerun", reasons=["scp_denied"])["counts"]["sent"] == 1
    assert {line["account_id"] for line in stage.all_passes()[count:]} == {controlled}
    stage.wait_for_outcome(controlled, "enrolled")

    trust = trust_policy(f"arn:aws:iam::{organization.management_account_id}:root")
    for account_id in backfilled.invited:
        organization.create_role(account_id, "OrganizationAccountAccessRole", trust, inline=allow_policy("*"))
    organization.client("iam", backfilled.foreign).delete_role(RoleName=ROLE)
    count = len(stage.all_passes())
    assert stage.invoke_and_wait("rerun")["counts"]["sent"] == len(others)

    assert {line["account_id"] for line in stage.all_passes()[count:]} == others
    for account_id in others:
        stage.wait_for_outcome(account_id, "enrolled")
        assert stage.assume_member_role(account_id)
    assert stage.accounts_with_outcome("failed") == set()
    assert stage.invoke_and_wait("rerun")["counts"]["sent"] == 0


@pytest.fixture
def one_receive(organization: LocalOrganization, backfilled: Backfilled) -> Iterator[None]:
    """A redrive policy that sends messages to the dead-letter queue instead of retrying them."""
    sqs, url = organization.client("sqs"), backfilled.stage.environment["QUEUE_URL"]
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]["RedrivePolicy"]
    changed = json.dumps(json.loads(policy) | {"maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": changed})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})


@pytest.mark.usefixtures("one_receive")
def test_rerun_redrives_the_dead_letter_queue(organization: LocalOrganization, backfilled: Backfilled) -> None:
    stage = backfilled.stage
    organization.set_ready_delay(3600)
    account_id = organization.create_account("late")
    stage.wait_for_outcome(account_id, "failed", "not_ready", skip_delays=False)
    stage.wait_until_idle()
    assert stage.message_count("accounts-dlq") == 1
    assert stage.alarm_state("dead-letters") == "ALARM"

    organization.set_ready_delay(0)
    response = stage.invoke("rerun", reasons=["not_ready"])

    # The account's message is redriven, so its row causes no second one.
    assert response["counts"] == {"sent": 0, "redrive_started": True}
    stage.wait_for_outcome(account_id, "enrolled", skip_delays=False)
    stage.wait_until_idle()
    assert stage.message_count("accounts-dlq") == 0
    organization.age_metrics(600)
    assert stage.alarm_state("dead-letters") == "OK"


def test_listing_that_lacks_many_accounts_retires_none(organization: LocalOrganization, backfilled: Backfilled) -> None:
    stage = backfilled.stage
    stage.invoke_and_wait("resync")
    enrolled, granted = stage.accounts_with_outcome("enrolled"), stage.granted_accounts()
    hidden = sorted(enrolled - {organization.management_account_id})[: len(stage.rows()) * 2 // 5]
    organization.age_metrics(3600)
    organization.hide_accounts(hidden)
    try:
        counts = stage.invoke_and_wait("resync")["counts"]
    finally:
        organization.hide_accounts([])

    assert counts["deferred"] == len(hidden)
    assert (stage.accounts_with_outcome("enrolled"), stage.granted_accounts()) == (enrolled, granted)
    assert stage.latest_metric("RetirementsDeferred") == len(hidden)
    assert stage.alarm_state("accounts-need-attention") == "ALARM"
    (line,) = [each for each in stage.log("resync") if each.get("would_retire")]
    assert (line["level"], line["would_retire"], line["in_source_policy"]) == ("ERROR", len(hidden), len(enrolled))
    assert "retirements deferred" in line["message"]


MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("backfill", {"acounts": "all"}),
    ("rerun", {"accounts": ["1111222233334"]}),
    ("resync", {"accounts": []}),
    ("backfill", {"ous": []}),
    ("retire", {"accounts": "all"}),
    ("retire", {}),
    ("freeze", {"frozen": "true"}),
]


def test_malformed_request_is_rejected_and_queues_nothing(backfilled: Backfilled) -> None:
    stage = backfilled.stage
    rows, count = stage.rows(), len(stage.all_passes())
    for function, request in MALFORMED:
        with pytest.raises(InvocationError, match=r"\A[^\n]+\Z"):
            stage.invoke(function, **request)
    assert stage.message_count() == 0
    assert (stage.rows(), len(stage.all_passes())) == (rows, count)
