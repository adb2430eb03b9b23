"""The policies allow what the functions call and nothing besides, and no function may do two functions' work.

That every call is allowed is asserted after every test of this directory (conftest.py). Here a tour makes every call that
there is to make, and what is allowed but was not called must stand, with its reason, in the tables of what AWS itself needs.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError

from tests.integration.boundary import FUNCTION_KEYS, Boundary, Call
from tests.integration.drifts import DRIFTS, HARMLESS
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    MEMBER_ROLE,
    READER,
    SOURCE_POLICY,
    Operator,
    Organization,
    founded,
)
from tests.integration.permissions import Request, allowing, denied, listed, requests
from tests.integration.stage import Stage

Permission = tuple[str, str]

LOGGING: dict[Permission, str] = {
    ("WriteItsLog", "logs:CreateLogStream"): "Lambda writes what the function prints",
    ("WriteItsLog", "logs:PutLogEvents"): "Lambda writes what the function prints",
}
NEEDED_BY_AWS: dict[str, dict[Permission, str]] = {
    **dict.fromkeys(FUNCTION_KEYS, LOGGING),
    "on_account_event": {
        **LOGGING,
        ("SetAsideWhatFailed", "sqs:SendMessage"): "Lambda sends events that the function failed on, in its name",
    },
    "enroll": {
        **LOGGING,
        ("ReceiveFromTheAccountsQueue", "sqs:ReceiveMessage"): "Lambda's poller takes batches in the function's name",
        ("ReceiveFromTheAccountsQueue", "sqs:DeleteMessage"): "Lambda's poller deletes what was finished",
        ("ReceiveFromTheAccountsQueue", "sqs:GetQueueAttributes"): "Lambda's poller looks at the queue",
    },
    "publish": {
        **LOGGING,
        ("ReceiveFromThePublishQueue", "sqs:ReceiveMessage"): "Lambda's poller takes batches in the function's name",
        ("ReceiveFromThePublishQueue", "sqs:DeleteMessage"): "Lambda's poller deletes what was finished",
        ("ReceiveFromThePublishQueue", "sqs:GetQueueAttributes"): "Lambda's poller looks at the queue",
    },
}


@dataclass
class Tour:
    """What a tour of every road called, and the policies that the functions had on the way."""

    calls: list[Call] = field(default_factory=list)
    allowed: dict[str, set[Permission]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def tour(
    watch: Callable[[Boundary | None], None],
    operator: Operator,
    functions: dict[str, boto3.Session],
    _few_managed_policies: None,
) -> Tour:
    made = Tour()
    for travel in (
        _repair_everything,
        _prune_versions,
        _follow_the_readers,
        _work_in_a_source_account,
        _ask_around,
        _sweep_and_withdraw_here,
        _sweep_and_withdraw_there,
    ):
        boundary = Boundary()
        watch(boundary)
        with founded(boundary, operator, functions) as organization:
            for stage in travel(organization):
                for function in FUNCTION_KEYS:
                    for statement in stage.policy_of(function):
                        made.allowed.setdefault(function, set()).update(
                            (statement["Sid"], action) for action in listed(statement["Action"])
                        )
        made.calls += boundary.calls
        watch(None)
    return made


def _repair_everything(organization: Organization) -> Iterator[Stage]:
    """Make and mend the member role, here and in a member account, with a permissions boundary and without."""
    accounts = [organization.member(), MANAGEMENT]
    for parameters, drifts in DRIFTS:
        stage = Stage(organization, **parameters)
        stage.announce("CreateAccountResult", accounts[0])
        stage.enroll(*accounts)
        for account_id in accounts:
            for drift in drifts.values():
                drift.make(organization.iam(account_id))
        stage.enroll(*accounts)
        organization.lose_role(MANAGEMENT, MEMBER_ROLE)
        stage.enroll(MANAGEMENT)
        yield stage
    for account_id in (organization.member("WithAPath"), MANAGEMENT):
        organization.lose_role(account_id, MEMBER_ROLE)
        organization.make_role(f"arn:aws:iam::{account_id}:role/team/{MEMBER_ROLE}")
        stage.enroll(account_id)


def _prune_versions(organization: Organization, account_id: str = MANAGEMENT, **parameters: str) -> Iterator[Stage]:
    """Write the source policy where it has five versions, and where a policy of its name appeared meanwhile."""
    stage = Stage(organization, **parameters)
    stage.enroll(organization.member("One"))
    policy = organization.policy(account_id=account_id)
    assert policy is not None
    organization.write_by_hand(5 - len(policy.versions), account_id=account_id)
    # A run that takes longer renews its lease, and looks whether a freeze was asked for.
    organization.boundary.edit("iam:CreatePolicyVersion", lambda _: organization.clock.pause(5))
    stage.enroll(organization.member("Two"))
    organization.boundary.mend()
    stage.edit(SOURCE_POLICY, applying=stage.item(SOURCE_POLICY)["applied"], applied=None)
    stage.run_publish()
    yield stage


def _follow_the_readers(organization: Organization, account_id: str = MANAGEMENT) -> Iterator[Stage]:
    """Attach to a role and a user, and to others in their place."""
    member = organization.member()
    organization.iam(account_id).create_user(UserName="reader")
    organization.make_role(f"arn:aws:iam::{account_id}:role/Another")
    former = ",".join(f"arn:aws:iam::{account_id}:{each}" for each in ("role/Reader", "user/reader"))
    for principals in (former, f"arn:aws:iam::{account_id}:role/Another", former):
        stage = Stage(organization, SourcePrincipalArns=principals)
        stage.enroll(member)
        stage.run("resync", {"accounts": "new"})
        stage.publish()
        yield stage


def _work_in_a_source_account(organization: Organization) -> Iterator[Stage]:
    """Do in another account all that is done here where the readers are here."""
    source = organization.member("Source")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    yield from _follow_the_readers(organization, source)
    yield from _prune_versions(organization, source, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")


def _ask_around(organization: Organization) -> Iterator[Stage]:
    """Ask Organizations for whatever it is asked for, and lose an answer, so that a message is handed back."""

    def lose(_: dict[str, Any]) -> None:
        raise ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")

    unit = organization.unit()
    member = organization.member()
    organization.move(member, organization.unit(unit))
    stage = Stage(organization, IncludeOuIds=unit, SourcePolicyScope="organization")
    organization.boundary.edit("iam:CreatePolicy", lose)
    organization.boundary.fail("iam:GetRole", "Throttling", account_id=member, times=1)
    stage.enroll(member)
    stage.let_delays_pass()
    stage.deliver()
    yield stage


def _sweep_and_withdraw_here(organization: Organization, account_id: str = MANAGEMENT) -> Iterator[Stage]:
    """Run whatever operators and schedules run, with everything to mend that there can be."""
    unit = organization.unit()
    member = organization.member()
    organization.move(member, organization.unit(unit))
    organization.iam(account_id).create_user(UserName="reader")
    organization.make_role(f"arn:aws:iam::{account_id}:role/Another")
    role, user = (f"arn:aws:iam::{account_id}:{each}" for each in ("role/Reader", "user/reader"))
    for parameters in (
        {"SourcePrincipalArns": f"{role},{user}", "IncludeOuIds": unit},
        {"SourcePrincipalArns": role, "SourcePolicyScope": "organization"},
    ):
        stage = Stage(organization, **parameters)
        yield stage
        stage.run("rerun", {"dry_run": True})
        _sweep(organization, stage, member)
        _mend(organization, stage, account_id)
        stage.run("freeze", {"frozen": False})
        stage.run("freeze", {"frozen": True})
        stage.run("retire", {"accounts": [member, MANAGEMENT], "dry_run": True})
        stage.run("retire", {"accounts": [member, MANAGEMENT]})
        stage.work()
        stage.run("backfill", {"accounts": [member, MANAGEMENT]})
        for _ in range(4):
            stage.work()
            stage.run("retire", {"accounts": "all", "force": True})
        stage.work()


def _sweep(organization: Organization, stage: Stage, member: str) -> None:
    """Look and then act, where roles are there, where they are refused, and where a listing lacks an account."""
    named: list[dict[str, Any]] = [{"accounts": [member, MANAGEMENT]}, {}]
    for _ in ("not there", "there"):
        stage.run("backfill", {"dry_run": True})
        stage.run("backfill")
        stage.work()
    for account_id in (member, MANAGEMENT):
        if organization.role(account_id) is not None:
            organization.iam(account_id).untag_role(RoleName=MEMBER_ROLE, TagKeys=["managed-by"])
    stage.enroll(member, MANAGEMENT)
    for request in named:
        stage.run("backfill", {**request, "dry_run": True})
        stage.run("rerun", {**request, "dry_run": True})
        stage.run("rerun", request)
    organization.boundary.edit("organizations:ListAccounts", lambda answer: answer.update(Accounts=[]))
    stage.run("resync", {"dry_run": True})
    organization.boundary.mend()
    for account_id in (member, MANAGEMENT):
        organization.lose_role(account_id, MEMBER_ROLE)
    stage.run("resync", {"dry_run": True})
    stage.run("resync")
    stage.work()


def _mend(organization: Organization, stage: Stage, account_id: str) -> None:
    """Have the source policy edited in every way, and mended."""
    iam, arn = organization.iam(account_id), f"arn:aws:iam::{account_id}:policy/{SOURCE_POLICY}"
    organization.write_by_hand(1, account_id=account_id)
    iam.untag_policy(PolicyArn=arn, TagKeys=["rolecall-stage"])
    iam.attach_role_policy(RoleName="Another", PolicyArn=arn)
    iam.attach_user_policy(UserName="reader", PolicyArn=arn)
    _resync(stage)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=HARMLESS, SetAsDefault=True)
    _resync(stage)
    organization.lose_policy(SOURCE_POLICY, account_id)
    _resync(stage)


def _resync(stage: Stage) -> None:
    stage.let_records_grow_old(minutes=3)
    stage.run("resync")
    stage.publish()


def _sweep_and_withdraw_there(organization: Organization) -> Iterator[Stage]:
    """Do all that where the readers are in another account."""
    source = organization.member("Source")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    yield from _sweep_and_withdraw_here(organization, source)


def _used(calls: list[Call]) -> set[Permission]:
    return {
        (statement["Sid"], request.action)
        for call in calls
        for request in requests(call)
        for statement in allowing(request, call.signer.policy)
    }


@pytest.mark.parametrize("function", FUNCTION_KEYS)
def test_a_functions_policy_allows_what_it_calls_and_what_aws_needs_and_nothing_besides(
    tour: Tour, function: str
) -> None:
    own = [call for call in tour.calls if call.signer.name == function]

    assert [call for call in own if denied(call)] == []
    assert tour.allowed[function] - _used(own) == set(NEEDED_BY_AWS[function])
    assert _used(own).isdisjoint(NEEDED_BY_AWS[function])


def test_every_session_in_an_account_allows_what_is_called_there_and_nothing_besides(tour: Tour) -> None:
    """Session policies differ by account and settings: what counts is that each thing that one allows is called by some."""
    entered = [call for call in tour.calls if call.signer.name not in FUNCTION_KEYS]
    kinds: dict[str, set[str]] = {"member role": set(), "source policy": set()}
    for call in tour.calls:
        if call.operation == "sts:AssumeRole":
            statements = json.loads(call.params["Policy"])["Statement"]
            kinds[_kind(statements)] |= {action for each in statements for action in listed(each["Action"])}

    assert [call for call in entered if denied(call)] == []
    for kind, allowed in kinds.items():
        used = {request.action for call in entered if _kind(call.signer.policy) == kind for request in requests(call)}
        assert allowed == used


def test_each_function_opens_sessions_for_its_own_work_alone(tour: Tour) -> None:
    """Any function that may assume access roles could ask for any session: these are the sessions that it asks for."""
    opened: dict[str, set[str]] = {}
    for call in tour.calls:
        if call.operation == "sts:AssumeRole":
            statements = json.loads(call.params["Policy"])["Statement"]
            actions = {action for each in statements for action in listed(each["Action"])}
            reads = all(re.match(r"iam:(Get|List)", action) for action in actions)
            opened.setdefault(call.signer.name, set()).add(f"{'read' if reads else 'write'} {_kind(statements)}")

    assert opened == {
        "enroll": {"write member role"},
        "publish": {"read source policy", "write source policy"},
        **{name: {"read member role"} for name in sorted(_SWEEPS)},
    }


def _kind(statements: Any) -> str:
    actions = {action for statement in statements for action in listed(statement["Action"])}
    of_policies = {"iam:GetPolicy", "iam:CreatePolicy", "iam:DeletePolicy"}
    return "source policy" if of_policies & actions else "member role"


# --- What each function may do, by its policy -------------------------------------------------------------------------

SOURCE, MEMBER = "222233334444", "555566667777"
_LEDGER = f"arn:aws:dynamodb:us-east-1:{MANAGEMENT}:table/rolecall-test-ledger"
_RECORDS = f"arn:aws:dynamodb:us-east-1:{MANAGEMENT}:table/rolecall-test-source-policy"
_QUEUE = f"arn:aws:sqs:us-east-1:{MANAGEMENT}:rolecall-test-"
_SWEEPS = {"backfill", "rerun", "resync", "retire"}


def _enter(account_id: str) -> Request:
    context: dict[str, str | list[str]] = {
        "aws:ResourceOrgID": "${aws:PrincipalOrgID}",
        "aws:ResourceAccount": account_id,
    }
    return Request("sts:AssumeRole", f"arn:aws:iam::{account_id}:role/{ACCESS_ROLE}", context)


def _update(table: str, key: str, *attributes: str) -> Request:
    of = "account_id" if table == _LEDGER else "policy_name"
    context: dict[str, str | list[str]] = {
        "dynamodb:LeadingKeys": [key],
        "dynamodb:Attributes": [of, *attributes],
    }
    return Request("dynamodb:UpdateItem", table, context)


def _on_policy(action: str, account_id: str = MANAGEMENT) -> Request:
    return Request(action, f"arn:aws:iam::{account_id}:policy/{SOURCE_POLICY}")


def _on_principal(action: str, policy: str = SOURCE_POLICY) -> Request:
    context: dict[str, str | list[str]] = {"iam:PolicyARN": f"arn:aws:iam::{MANAGEMENT}:policy/{policy}"}
    return Request(action, READER, context)


MATRIX: list[tuple[Request, set[str]]] = [
    # The member role: in members by an access role, whose session enroll alone asks writes for; here by its own policy.
    (_enter(MEMBER), {"enroll", *_SWEEPS}),
    (Request("iam:CreateRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:UpdateAssumeRolePolicy", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:PutRolePolicy", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:DeleteRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:GetRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll", *_SWEEPS}),
    # The access roles themselves, and every other role.
    *(
        (Request(action, f"arn:aws:iam::{MANAGEMENT}:role/{role}"), set[str]())
        for action in ("iam:CreateRole", "iam:UpdateAssumeRolePolicy", "iam:PutRolePolicy", "iam:DeleteRole")
        for role in (ACCESS_ROLE, "Reader", "Administrator")
    ),
    # The source policy and its principals.
    *(
        (_on_policy(f"iam:{action}"), {"publish"})
        for action in (
            "CreatePolicy",
            "CreatePolicyVersion",
            "DeletePolicyVersion",
            "DeletePolicy",
            "TagPolicy",
            "GetPolicy",
        )
    ),
    *((_on_principal(f"iam:{action}"), {"publish"}) for action in ("AttachRolePolicy", "DetachRolePolicy")),
    (_on_principal("iam:AttachRolePolicy", "AdministratorAccess"), set()),
    (Request("iam:CreatePolicyVersion", f"arn:aws:iam::{MANAGEMENT}:policy/Another"), set()),
    # The ledger: one writer an attribute.
    (_update(_LEDGER, MEMBER, "access", "revision"), {"enroll"}),
    (_update(_LEDGER, MEMBER, "in_force_since"), {"publish"}),
    (_update(_LEDGER, MEMBER, "retirement_requested_at", "revision"), {"backfill", "retire"}),
    (_update(_LEDGER, MEMBER, "access", "in_force_since"), set()),
    (Request("dynamodb:PutItem", _LEDGER, {"dynamodb:LeadingKeys": [MEMBER]}), set()),
    (Request("dynamodb:DeleteItem", _LEDGER, {"dynamodb:LeadingKeys": [MEMBER]}), set()),
    # The source-policy table.
    (_update(_RECORDS, SOURCE_POLICY, "applied"), {"publish"}),
    (_update(_RECORDS, "#status", "run_owner"), {"publish"}),
    (_update(_RECORDS, "#control", "frozen"), {"freeze"}),
    (_update(_RECORDS, "#control", "uninstalling", "uninstalled"), {"backfill", "retire"}),
    (_update(_RECORDS, "#control", "verify_requested_at", "check_requested_at", "scope_recorded"), {"resync"}),
    (_update(_RECORDS, "#control", "frozen", "uninstalling"), set()),
    # Queues and functions.
    (Request("sqs:SendMessage", f"{_QUEUE}accounts"), {"on_account_event", *_SWEEPS}),
    (Request("sqs:SendMessage", f"{_QUEUE}publish.fifo"), {"enroll", "freeze", *_SWEEPS}),
    (
        Request("lambda:InvokeFunction", f"arn:aws:lambda:us-east-1:{MANAGEMENT}:function:rolecall-test-publish"),
        {"freeze"},
    ),
    (Request("lambda:InvokeFunction", f"arn:aws:lambda:us-east-1:{MANAGEMENT}:function:rolecall-test-enroll"), set()),
    (Request("organizations:DescribeOrganization", "*"), {"publish"}),
]


def _may(stage: Stage, request: Request) -> set[str]:
    return {function for function in FUNCTION_KEYS if any(allowing(request, stage.policy_of(function)))}


def test_each_function_may_do_its_own_work_alone(organization: Organization) -> None:
    stage = Stage(organization, deployed="false")

    assert [(request, _may(stage, request)) for request, _ in MATRIX] == MATRIX


def test_with_a_separate_source_account_publish_enters_that_account_alone(organization: Organization) -> None:
    stage = Stage(organization, deployed="false", SourcePrincipalArns=f"arn:aws:iam::{SOURCE}:role/Reader")

    assert _may(stage, _enter(MEMBER)) == {"enroll", *_SWEEPS}
    assert _may(stage, _enter(SOURCE)) == {"enroll", "publish", *_SWEEPS}
    assert _may(stage, _on_policy("iam:CreatePolicyVersion")) == set()
    assert _may(stage, _on_policy("iam:CreatePolicyVersion", SOURCE)) == set()


def test_a_role_outside_the_organization_is_entered_by_no_function(organization: Organization) -> None:
    stage = Stage(organization, deployed="false")
    outside = Request("sts:AssumeRole", f"arn:aws:iam::{MEMBER}:role/{ACCESS_ROLE}", {"aws:ResourceOrgID": "o-another"})

    assert _may(stage, outside) == set()


@pytest.mark.parametrize("source", [MANAGEMENT, SOURCE], ids=["here", "separate"])
def test_no_function_may_write_both_member_roles_and_the_source_policy(organization: Organization, source: str) -> None:
    stage = Stage(organization, deployed="false", SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")
    writes_roles = _may(stage, _enter(MEMBER)) | _may(
        stage, Request("iam:CreateRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}")
    )
    writes_policy = _may(stage, _on_policy("iam:CreatePolicyVersion")) | _may(
        stage, _on_principal("iam:AttachRolePolicy")
    )

    assert writes_roles & writes_policy == set()
    assert writes_policy == ({"publish"} if source == MANAGEMENT else set())
