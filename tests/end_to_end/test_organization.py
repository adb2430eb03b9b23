"""An organization of sixty accounts, all older than the deployment: backfilled, repaired by resyncs, retried by reruns."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.organization import InvocationError, LocalOrganization, allowing, trusting
from tests.end_to_end.deployed_stage import Deploy
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.roles_in_iam import Role
from tests.end_to_end.swept_stage import (
    DAY,
    POLICY,
    ROLE,
    SweptStage,
    attached_to,
    controlled,
    denying,
    events_dropped,
    move,
    root,
    unheard_of,
    unit,
)

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
ANOTHER = "arn:aws:iam::aws:policy/SecurityAudit"


@dataclass(frozen=True)
class Backfilled:
    """The organization after its first backfill, and what was seen on the way."""

    stage: SweptStage
    reader: str
    outside: str  # the organizational unit that is excluded
    invited: list[str]
    foreign: str
    by_hand: str
    expected: dict[str, tuple[str, str | None]]  # by account id: outcome and reason
    read_by_hand_before: bool
    previewed: dict[str, Any]
    rows_after_preview: dict[str, Any]
    roles_after_preview: list[Role | None]
    policies_before: dict[str, str]
    policies_after_preview: dict[str, str]
    answered: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    passes: list[dict[str, Any]]
    named: set[str]

    @property
    def eligible(self) -> list[str]:
        return sorted(account_id for account_id, stands in self.expected.items() if stands == ("enrolled", None))

    def reads(self, account_id: str, principal: str | None = None) -> Any:
        organization = self.stage.organization
        return organization.assume(self.stage.member_role(account_id), organization.as_role(principal or self.reader))


@pytest.fixture(scope="module")
def backfilled(organization: LocalOrganization, deploy: Deploy, reader: str) -> Backfilled:
    management = organization.management_account_id
    created = unheard_of(organization, 57)
    with events_dropped(organization):
        invited = [organization.invite_account() for _ in range(2)]
        outside = unit(organization, "Outside")
        deeper = unit(organization, "Deeper", outside)
        for account_id in invited:
            organization.age_account(account_id, DAY)
        in_unit, in_deeper, by_id, foreign, by_hand, *others = created
        move(organization, in_unit, outside)
        move(organization, in_deeper, deeper)
        expected: dict[str, tuple[str, str | None]] = {
            **dict.fromkeys((in_unit, in_deeper, by_id), ("skipped", "excluded")),
            **dict.fromkeys(invited, ("failed", "no_access_role")),
            foreign: ("failed", "foreign_role"),
        }
        for state in ("PENDING_ACTIVATION", "SUSPENDED", "PENDING_CLOSURE", "CLOSED"):
            account_id = others.pop()
            organization.set_account_state(account_id, state)
            expected[account_id] = ("skipped", state.lower())
    anyone = trusting(f"arn:aws:iam::{management}:root")
    organization.create_role(foreign, ROLE, anyone)
    tags = {"managed-by": "rolecall", "rolecall-stage": "another"}
    organization.client("iam", foreign).tag_role(
        RoleName=ROLE, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
    )
    role_by_hand = organization.create_role(by_hand, ROLE, anyone, [ANOTHER])
    iam = organization.client("iam")
    arn = iam.create_policy(
        PolicyName="ByHand", PolicyDocument=json.dumps(allowing("sts:AssumeRole", resource=[role_by_hand]))
    )["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="Reader", PolicyArn=arn)
    expected |= dict.fromkeys((management, by_hand, *others), ("enrolled", None))

    read_by_hand_before = bool(organization.assume(role_by_hand, organization.as_role(reader)))
    deployed = deploy(
        "whole", SourcePrincipalArns=reader, AdoptExistingRoles="true", ExcludeOuIds=outside, ExcludeAccountIds=by_id
    )
    stage = SweptStage(organization, deployed.name)
    policies_before = policies(organization)
    roles = [*others[:3], foreign, by_hand, management]
    previewed = stage.ask("backfill", dry_run=True)
    rows_after_preview = stage.rows()
    roles_after_preview = [stage.role(account_id) for account_id in roles]
    policies_after_preview = policies(organization)
    answered = stage.sweep("backfill")
    iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
    return Backfilled(
        stage=stage,
        reader=reader,
        outside=outside,
        invited=invited,
        foreign=foreign,
        by_hand=by_hand,
        expected=expected,
        read_by_hand_before=read_by_hand_before,
        previewed=previewed,
        rows_after_preview=rows_after_preview,
        roles_after_preview=roles_after_preview,
        policies_before=policies_before,
        policies_after_preview=policies_after_preview,
        answered=answered,
        rows=stage.rows(),
        passes=stage.all_passes(),
        named=stage.named(),
    )


def policies(organization: LocalOrganization) -> dict[str, str]:
    """Map the managed policies of the management account to their default versions."""
    listed = organization.client("iam").list_policies(Scope="Local")["Policies"]
    return {policy["PolicyName"]: policy["DefaultVersionId"] for policy in listed}


def test_a_dry_run_writes_nothing(backfilled: Backfilled) -> None:
    assert backfilled.rows_after_preview == {}
    *untouched, foreign, by_hand, management = backfilled.roles_after_preview
    assert {*map(bool, untouched), bool(management)} == {False}
    assert foreign
    assert by_hand
    assert foreign["tags"]["rolecall-stage"] == "another"
    assert (by_hand["tags"], by_hand["attached"]) == ({}, {ANOTHER})
    assert set(backfilled.policies_before) == {"ByHand"}
    assert backfilled.policies_after_preview == backfilled.policies_before


def test_one_backfill_enrolls_every_eligible_account_and_tells_of_every_other_why_not(backfilled: Backfilled) -> None:
    assert len(backfilled.expected) == backfilled.answered["counts"]["sent"] == 60
    stands = {account_id: (row["outcome"], row.get("reason")) for account_id, row in backfilled.rows.items()}
    assert stands == backfilled.expected
    assert backfilled.named == set(backfilled.eligible)


def test_the_dry_run_told_exactly_what_the_backfill_then_did(backfilled: Backfilled) -> None:
    told = {
        each["account_id"]: (
            *(each["outcome"], each["reason"], each["change"]),
            *(step["action"] for step in each["actions"]),
        )
        for each in backfilled.previewed["accounts"]
    }
    done = {
        line["account_id"]: (line["outcome"], line.get("reason"), line["change"], *line["actions"])
        for line in backfilled.passes
    }
    assert told == done
    assert backfilled.previewed["next"] is None
    (shard,) = backfilled.previewed["source_policy"]
    assert (shard["policy_name"], set(shard["granted"]), shard["revoked"]) == (POLICY, backfilled.named, [])


def test_what_was_made_by_hand_is_taken_over_and_no_access_is_lost(backfilled: Backfilled) -> None:
    assert backfilled.read_by_hand_before
    assert backfilled.rows[backfilled.by_hand]["change"] == "updated"
    made = next(each for each in backfilled.eligible if backfilled.rows[each]["change"] == "created")
    adopted, created = backfilled.stage.role(backfilled.by_hand), backfilled.stage.role(made)
    assert adopted
    assert created
    assert adopted | {"created": None} == created | {"created": None}
    assert backfilled.reads(backfilled.by_hand)


def test_a_second_backfill_writes_nothing_to_iam(organization: LocalOrganization, backfilled: Backfilled) -> None:
    stage, management = backfilled.stage, organization.management_account_id
    stage.sweep("backfill")
    iam = organization.client("iam")
    arn = f"arn:aws:iam::{management}:policy/{POLICY}"
    enrolled, count = stage.with_outcome("enrolled"), len(stage.all_passes())
    before = stage.role(management), stage.versions(), iam.get_policy(PolicyArn=arn)["Policy"]

    writes = [
        f"iam:{verb}*"
        for verb in ("Add", "Attach", "Create", "Delete", "Detach", "Put", "Remove", "Set", "Tag", "Untag", "Update")
    ]
    with controlled(organization, denying(*writes), [root(organization)]):
        stage.sweep("backfill")

    passes = stage.all_passes()[count:]
    assert {(line["change"], *line["actions"]) for line in passes} == {("none",)}
    assert {line["account_id"] for line in passes if line["outcome"] == "enrolled"} == enrolled
    assert (stage.role(management), stage.versions(), iam.get_policy(PolicyArn=arn)["Policy"]) == before


def test_what_no_event_told_of_is_healed_by_the_next_discovery(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    moved, closed, departed = unheard_of(organization, 3)
    stage.sweep("resync", accounts="new")
    assert stage.with_outcome("enrolled") >= {moved, closed, departed}

    created = unheard_of(organization, 2)
    with events_dropped(organization):
        move(organization, moved, backfilled.outside)
        organization.client("organizations").remove_account_from_organization(AccountId=departed)
        organization.set_account_state(closed, "CLOSED")
        stage.sweep("resync", accounts="failed")  # which is about others, but takes longer than any event
    assert stage.with_outcome("enrolled") >= {moved, closed, departed}
    count = len(stage.all_passes())
    stage.fire("discovery", "resync")

    assert {line["account_id"] for line in stage.all_passes()[count:]} == {*created, moved, closed, departed}
    for account_id in created:
        assert stage.settled(account_id, "enrolled")["trigger"] == "resync"
        assert backfilled.reads(account_id)
    for account_id, reason in ((moved, "excluded"), (closed, "closed"), (departed, "departed")):
        stage.settled(account_id, "retired", reason)
        with denied("sts:AssumeRole"):
            backfilled.reads(account_id)
    assert stage.gauge("EventsMissed") == len(created)


DRIFTS: dict[str, Callable[[Any], object]] = {
    "SetTrust": lambda iam: iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(trusting("*"))),
    "DetachPolicy": lambda iam: iam.attach_role_policy(RoleName=ROLE, PolicyArn=ANOTHER),
    "AttachPolicy": lambda iam: iam.detach_role_policy(RoleName=ROLE, PolicyArn=READ_ONLY),
    "PutInlinePolicy": lambda iam: iam.delete_role_policy(RoleName=ROLE, PolicyName="DenyDataReads"),
    "SetMaxSession": lambda iam: iam.update_role(RoleName=ROLE, MaxSessionDuration=43200),
}
"""What one may do to a member role by hand, by what mends it."""


def test_one_resync_repairs_roles_and_the_source_policy_and_says_so(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    stage.sweep("resync")
    drifted = dict(zip(backfilled.eligible[:5], DRIFTS, strict=True))
    deleted = backfilled.eligible[5]
    roles = {account_id: stage.role(account_id) for account_id in drifted}
    for account_id, mended_by in drifted.items():
        DRIFTS[mended_by](organization.client("iam", account_id))
    there = organization.client("iam", deleted)
    there.detach_role_policy(RoleName=ROLE, PolicyArn=READ_ONLY)
    there.delete_role_policy(RoleName=ROLE, PolicyName="DenyDataReads")
    there.delete_role(RoleName=ROLE)
    document, count = stage.source_policy(), len(stage.all_passes())
    edit_source_policy(organization)
    assert set(drifted) & stage.named() == set()
    stage.age_records()
    stage.sweep("resync")

    actions = {line["account_id"]: line["actions"] for line in stage.all_passes()[count:] if line["actions"]}
    assert actions == {account_id: [mended_by] for account_id, mended_by in drifted.items()} | {
        deleted: ["CreateRole", "PutInlinePolicy", "AttachPolicy"]
    }
    assert {account_id: stage.role(account_id) for account_id in drifted} == roles
    status = stage.records().status
    assert status
    assert [(each["policy_name"], each["action"]) for each in status.repairs] == [
        (POLICY, action) for action in ("TagPolicy", "DeleteVersion", "WriteVersion", "AttachTo", "DetachFrom")
    ]
    assert stage.source_policy() == document
    assert POLICY in attached_to(organization)
    assert POLICY not in attached_to(organization, "Intruder")
    assert backfilled.reads(deleted)
    assert stage.sweep("resync")["source_policy"] == list(status.repairs)
    stage.age_records()
    stage.sweep("resync")
    assert stage.sweep("resync")["source_policy"] == []


def edit_source_policy(organization: LocalOrganization) -> None:
    """Let the source policy say less, have a draft and other tags, and be attached to somebody else."""
    iam, arn = organization.client("iam"), f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])
    pinned = {"StringEquals": {"aws:ResourceAccount": ["999999999999"]}}
    less = allowing("sts:AssumeRole", resource=f"arn:aws:iam::*:role/{ROLE}", condition=pinned)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(less), SetAsDefault=True)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(allowing("sts:*")), SetAsDefault=False)
    iam.untag_policy(PolicyArn=arn, TagKeys=["managed-by"])
    iam.detach_role_policy(RoleName="Reader", PolicyArn=arn)
    organization.create_source_principal("Intruder")
    iam.attach_role_policy(RoleName="Intruder", PolicyArn=arn)


def test_a_rerun_after_mending_enrolls_exactly_what_failed(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage, management = backfilled.stage, organization.management_account_id
    (barred,) = unheard_of(organization)
    others = {*backfilled.invited, backfilled.foreign}
    with controlled(organization, denying("iam:CreateRole"), [barred]):
        stage.sweep("backfill", accounts=[barred])
        stage.settled(barred, "failed", "scp_denied")
    assert stage.with_outcome("failed") == {barred, *others}

    count = len(stage.all_passes())
    assert stage.sweep("rerun", reasons=["scp_denied"])["counts"]["sent"] == 1
    assert {line["account_id"] for line in stage.all_passes()[count:]} == {barred}
    stage.settled(barred, "enrolled")

    trust = trusting(f"arn:aws:iam::{management}:root")
    for account_id in backfilled.invited:
        administrator = allowing("*")
        organization.create_role(account_id, "OrganizationAccountAccessRole", trust, inline=administrator)
    organization.client("iam", backfilled.foreign).delete_role(RoleName=ROLE)
    count = len(stage.all_passes())
    assert stage.sweep("rerun")["counts"]["sent"] == len(others)

    assert {line["account_id"] for line in stage.all_passes()[count:]} == others
    for account_id in others:
        stage.settled(account_id, "enrolled")
        assert backfilled.reads(account_id)
    assert stage.with_outcome("failed") == set()
    assert stage.sweep("rerun")["counts"]["sent"] == 0


@pytest.fixture
def given_up_at_once(organization: LocalOrganization, backfilled: Backfilled) -> Iterator[None]:
    """Have messages go to the dead-letter queue when they are handed back for the first time."""
    sqs, url = organization.client("sqs"), backfilled.stage.environment["QUEUE_URL"]
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]["RedrivePolicy"]
    impatient = json.dumps(json.loads(policy) | {"maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": impatient})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})


@pytest.mark.usefixtures("given_up_at_once")
def test_messages_come_back_from_the_dead_letter_queue_by_a_rerun(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    organization.set_ready_delay(3600)
    account_id = organization.create_account("late")
    stage.settled(account_id, "failed", "not_ready", hurrying=False)
    stage.idle()
    assert stage.waiting("accounts-dlq") == 1
    assert stage.alarm("dead-letters") == "ALARM"

    organization.set_ready_delay(0)
    answer = stage.ask("rerun", reasons=["not_ready"])

    # Its message is on the way again, so the ledger's row is no reason to send another.
    assert answer["counts"] == {"sent": 0, "redrive_started": True}
    stage.settled(account_id, "enrolled", hurrying=False)
    stage.idle()
    assert backfilled.reads(account_id)
    assert stage.waiting("accounts-dlq") == 0
    organization.age_metrics(600)
    assert stage.alarm("dead-letters") == "OK"


def test_a_listing_that_is_suspiciously_short_retires_nobody(
    organization: LocalOrganization, backfilled: Backfilled
) -> None:
    stage = backfilled.stage
    stage.sweep("resync")
    enrolled, named = stage.with_outcome("enrolled"), stage.named()
    hidden = sorted(enrolled - {organization.management_account_id})[: len(stage.rows()) * 2 // 5]
    organization.age_metrics(3600)
    organization.hide_accounts(hidden)
    try:
        counts = stage.sweep("resync")["counts"]
    finally:
        organization.hide_accounts([])

    assert counts["deferred"] == len(hidden)
    assert (stage.with_outcome("enrolled"), stage.named()) == (enrolled, named)
    assert stage.gauge("RetirementsDeferred") == len(hidden)
    assert stage.alarm("accounts-need-attention") == "ALARM"
    (line,) = [each for each in stage.log("resync") if each.get("would_retire")]
    assert (line["level"], line["would_retire"], line["in_source_policy"]) == ("ERROR", len(hidden), len(enrolled))
    assert "retirements deferred" in line["message"]
    assert all(map(backfilled.reads, hidden[:3]))


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("backfill", {"acounts": "all"}),
    ("backfill", {"accounts": ["11112222333"]}),
    ("rerun", {"accounts": ["1111222233334"]}),
    ("backfill", {"accounts": [111122223333]}),
    ("resync", {"accounts": []}),
    ("backfill", {"ous": []}),
    ("backfill", {"ous": ["r-ab12"]}),
    ("rerun", {"reasons": ["because"]}),
    ("backfill", {"dry_run": "true"}),
    ("retire", {"accounts": "all", "force": "yes"}),
    ("retire", {"accounts": "all"}),
    ("retire", {}),
    ("retire", {"accounts": ["999999999999"]}),
    ("freeze", {"frozen": "true"}),
    ("freeze", {}),
]


def test_a_malformed_request_is_refused_and_queues_nothing(backfilled: Backfilled) -> None:
    stage = backfilled.stage
    rows, count = stage.rows(), len(stage.all_passes())
    for function, request in REFUSED:
        with pytest.raises(InvocationError) as raised:
            stage.ask(function, **request)
        told = str(raised.value)
        assert told
        assert "\n" not in told
    assert stage.waiting() == 0
    assert (stage.rows(), len(stage.all_passes())) == (rows, count)
    for function in {function for function, _ in REFUSED}:
        assert "Warning" not in "\n".join(stage.organization.logs(stage.function(function)))
