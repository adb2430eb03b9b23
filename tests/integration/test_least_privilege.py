"""The policies allow exactly what the functions call, and no function may do another one's work.

The fixture `boundary` asserts after every test that each call is allowed. Here the functions make every call that they can make,
and a permission that isn't used must be in the table of what AWS itself needs.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.boundary import FUNCTION_KEYS, Boundary, Call
from tests.integration.drifts import DRIFTS, OTHER_DOCUMENT
from tests.integration.organization import (
    ACCESS_ROLE,
    MANAGEMENT,
    MEMBER_ROLE,
    SOURCE_POLICY,
    SOURCE_PRINCIPAL,
    Operator,
    Organization,
    organization_in_moto,
)
from tests.integration.permissions import Request, denied, listed, matching, requests
from tests.integration.stage import ReusingSession, Stage

Permission = tuple[str, str]

LOGGING: dict[Permission, str] = {
    ("WriteItsLog", "logs:CreateLogStream"): "Lambda writes the function's output",
    ("WriteItsLog", "logs:PutLogEvents"): "Lambda writes the function's output",
}
NEEDED_BY_AWS: dict[str, dict[Permission, str]] = {
    **dict.fromkeys(FUNCTION_KEYS, LOGGING),
    "on_account_event": {
        **LOGGING,
        ("SetAsideWhatFailed", "sqs:SendMessage"): "Lambda sends failed events with the function's role",
    },
    "enroll": {
        **LOGGING,
        ("ReceiveFromTheAccountsQueue", "sqs:ReceiveMessage"): "Lambda's poller uses the function's role",
        ("ReceiveFromTheAccountsQueue", "sqs:DeleteMessage"): "Lambda's poller deletes finished messages",
        ("ReceiveFromTheAccountsQueue", "sqs:GetQueueAttributes"): "Lambda's poller reads the queue's attributes",
    },
    "publish": {
        **LOGGING,
        ("ReceiveFromThePublishQueue", "sqs:ReceiveMessage"): "Lambda's poller uses the function's role",
        ("ReceiveFromThePublishQueue", "sqs:DeleteMessage"): "Lambda's poller deletes finished messages",
        ("ReceiveFromThePublishQueue", "sqs:GetQueueAttributes"): "Lambda's poller reads the queue's attributes",
    },
    "announce_outcome": {
        **LOGGING,
        **{
            ("ReadTheStreamOfTheLedger", f"dynamodb:{name}"): "Lambda's poller uses the function's role"
            for name in ("DescribeStream", "GetRecords", "GetShardIterator")
        },
        ("ListStreams", "dynamodb:ListStreams"): "Lambda requires it of the role of each function that reads a stream",
        ("KeepWhatCouldNotBeAnnounced", "sqs:SendMessage"): "Lambda sends discarded records with the function's role",
    },
}


@dataclass
class AllCalls:
    """The calls of every scenario, and the permissions that the functions had in them."""

    calls: list[Call] = field(default_factory=list)
    allowed: dict[str, set[Permission]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def all_calls(
    set_boundary: Callable[[Boundary | None], None],
    operator: Operator,
    functions: dict[str, ReusingSession],
    _few_managed_policies: None,
) -> AllCalls:
    all_calls = AllCalls()
    for scenario in (
        _member_roles,
        _adopted_roles,
        _policy_versions,
        _changed_principals,
        _separate_source_account,
        _organizations,
        _account_tags,
        _operations,
        _operations_with_a_separate_source_account,
    ):
        boundary = Boundary()
        set_boundary(boundary)
        with organization_in_moto(boundary, operator, functions) as organization:
            for stage in scenario(organization):
                for function in FUNCTION_KEYS:
                    for statement in stage.policy_of(function):
                        all_calls.allowed.setdefault(function, set()).update(
                            (statement["Sid"], action) for action in listed(statement["Action"])
                        )
        all_calls.calls += boundary.calls
        set_boundary(None)
    return all_calls


def _member_roles(organization: Organization) -> Iterator[Stage]:
    """Create and repair the member role in the management account and a member, with and without a permissions boundary."""
    accounts = [organization.member(), MANAGEMENT]
    for parameters, drifts in DRIFTS:
        stage = Stage(organization, **parameters)
        stage.send_event("CreateAccountResult", accounts[0])
        stage.send_event("DetachPolicy", accounts[0])
        stage.enroll(*accounts)
        for account_id in accounts:
            for drift in drifts.values():
                drift.make(organization.iam(account_id))
        stage.enroll(*accounts)
        organization.delete_role(MANAGEMENT)
        stage.enroll(MANAGEMENT)
        yield stage
    for account_id in (organization.member("WithAPath"), MANAGEMENT):
        organization.delete_role(account_id)
        organization.create_role(f"arn:aws:iam::{account_id}:role/team/{MEMBER_ROLE}")
        stage.enroll(account_id)


def _adopted_roles(organization: Organization) -> Iterator[Stage]:
    """Adopt roles in the management account and a member, and plan it in every sweep."""
    accounts = [organization.member(), MANAGEMENT]
    stage = Stage(organization, AdoptExistingRoles=",".join(accounts))
    for account_id in accounts:
        organization.create_role(f"arn:aws:iam::{account_id}:role/{MEMBER_ROLE}")
    stage.stack_of_roles = "Readers"
    stage.enroll(*accounts)
    for function, selected in (("backfill", {}), ("rerun", {"accounts": accounts}), ("resync", {})):
        stage.run(function, {**selected, "dry_run": True, "adopt": True})
    stage.stack_of_roles = None
    stage.enroll(*accounts)
    yield stage


def _policy_versions(organization: Organization, account_id: str = MANAGEMENT, **parameters: str) -> Iterator[Stage]:
    """Write a shard that has five versions, and one that exists without a record."""
    stage = Stage(organization, **parameters)
    stage.enroll(organization.member("One"))
    organization.add_versions(5 - len(organization.policy(account_id=account_id).versions), account_id=account_id)
    # A run that takes longer renews its lease, and reads whether a freeze was requested.
    organization.boundary.edit_response("iam:CreatePolicyVersion", lambda _: organization.clock.pause(5))
    stage.enroll(organization.member("Two"))
    organization.boundary.stop_faults()
    stage.edit(SOURCE_POLICY, applying=stage.item(SOURCE_POLICY)["applied"], applied=None)
    stage.run_publish()
    yield stage


def _changed_principals(organization: Organization, account_id: str = MANAGEMENT) -> Iterator[Stage]:
    """Attach the source policy to a role and a user, then to another role, then to the former ones."""
    member = organization.member()
    organization.iam(account_id).create_user(UserName="reader")
    organization.create_role(f"arn:aws:iam::{account_id}:role/Another")
    former = ",".join(f"arn:aws:iam::{account_id}:{each}" for each in ("role/Reader", "user/reader"))
    for principals in (former, f"arn:aws:iam::{account_id}:role/Another", former):
        stage = Stage(organization, SourcePrincipalArns=principals)
        stage.enroll(member)
        stage.run("resync", {"accounts": "new"})
        stage.publish()
        yield stage


def _separate_source_account(organization: Organization) -> Iterator[Stage]:
    """Keep the source policy in an account of its own."""
    source = organization.member("Source")
    organization.create_role(f"arn:aws:iam::{source}:role/Reader")
    yield from _changed_principals(organization, source)
    yield from _policy_versions(organization, source, SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")


def _organizations(organization: Organization) -> Iterator[Stage]:
    """Read organizational units, and return messages to their queues after errors."""
    unit = organization.unit()
    member = organization.member()
    organization.move(member, organization.unit(unit))
    stage = Stage(organization, IncludeOuIds=unit, SourcePolicyScope="organization")
    organization.boundary.lose_response("iam:CreatePolicy")
    organization.boundary.fail("iam:GetRole", "Throttling", account_id=member, times=1)
    stage.enroll(member)
    stage.skip_delays()
    stage.deliver()
    yield stage


def _account_tags(organization: Organization) -> Iterator[Stage]:
    """Read the tags of all accounts, and look up those of one, in every function that can."""
    member = organization.member()
    organization.tag(member, env="prod")
    stage = Stage(organization, IncludeTags="env=prod")
    yield stage
    stage.run("backfill", {"accounts": [member], "dry_run": True})
    stage.run_and_drain("backfill")
    organization.tag(member, env=None)
    stage.run("resync", {"dry_run": True})
    stage.run_and_drain("resync")
    stage.put_row(member, outcome="failed", reason="quota", access="granted")
    stage.run("rerun", {"dry_run": True})
    stage.run("retire", {"accounts": [member], "dry_run": True})


def _operations(organization: Organization, account_id: str = MANAGEMENT) -> Iterator[Stage]:
    """Run every function that operators and schedules invoke, with everything to repair."""
    unit = organization.unit()
    member = organization.member()
    organization.move(member, organization.unit(unit))
    organization.iam(account_id).create_user(UserName="reader")
    organization.create_role(f"arn:aws:iam::{account_id}:role/Another")
    role, user = (f"arn:aws:iam::{account_id}:{each}" for each in ("role/Reader", "user/reader"))
    for parameters in (
        {"SourcePrincipalArns": f"{role},{user}", "IncludeOuIds": unit},
        {"SourcePrincipalArns": role, "SourcePolicyScope": "organization"},
    ):
        stage = Stage(organization, **parameters)
        yield stage
        stage.run("rerun", {"dry_run": True})
        _sweep(organization, stage, member)
        _repair_source_policy(organization, stage, account_id)
        image = {"account_id": {"S": member}, "outcome": {"S": "failed"}}
        change = {"SequenceNumber": "1", "ApproximateCreationDateTime": 0, "NewImage": image}
        stage.announce([{"eventID": "1", "dynamodb": change}])
        stage.run("freeze", {"frozen": False})
        stage.run("freeze", {"frozen": True})
        stage.run("retire", {"accounts": [member, MANAGEMENT], "dry_run": True})
        stage.run_and_drain("retire", accounts=[member, MANAGEMENT])
        stage.run_and_drain("backfill", accounts=[member, MANAGEMENT])
        for _ in range(4):
            stage.run_and_drain("retire", accounts="all", force=True)


def _sweep(organization: Organization, stage: Stage, member: str) -> None:
    """Run sweeps and their dry runs: with roles missing, existing and foreign, and with an incomplete listing."""
    selections: list[dict[str, Any]] = [{"accounts": [member, MANAGEMENT]}, {}]
    for _ in ("missing", "existing"):
        stage.run("backfill", {"dry_run": True})
        stage.run_and_drain("backfill")
    for account_id in (member, MANAGEMENT):
        if organization.has_role(account_id):
            organization.iam(account_id).untag_role(RoleName=MEMBER_ROLE, TagKeys=["managed-by"])
    stage.enroll(member, MANAGEMENT)
    for request in selections:
        stage.run("backfill", {**request, "dry_run": True})
        stage.run("rerun", {**request, "dry_run": True})
        stage.run("rerun", request)
    organization.boundary.edit_response("organizations:ListAccounts", lambda response: response.update(Accounts=[]))
    stage.run("resync", {"dry_run": True})
    organization.boundary.stop_faults()
    for account_id in (member, MANAGEMENT):
        organization.delete_role(account_id)
    stage.run("resync", {"dry_run": True})
    stage.run_and_drain("resync")


def _repair_source_policy(organization: Organization, stage: Stage, account_id: str) -> None:
    """Edit the source policy in every way, and repair it."""
    iam, arn = organization.iam(account_id), f"arn:aws:iam::{account_id}:policy/{SOURCE_POLICY}"
    organization.add_versions(1, account_id=account_id)
    iam.untag_policy(PolicyArn=arn, TagKeys=["rolecall-stage"])
    iam.attach_role_policy(RoleName="Another", PolicyArn=arn)
    iam.attach_user_policy(UserName="reader", PolicyArn=arn)
    _resync(stage)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=OTHER_DOCUMENT, SetAsDefault=True)
    _resync(stage)
    organization.delete_policy(account_id=account_id)
    _resync(stage)


def _resync(stage: Stage) -> None:
    stage.age_records(minutes=3)
    stage.run("resync")
    stage.publish()


def _operations_with_a_separate_source_account(organization: Organization) -> Iterator[Stage]:
    source = organization.member("Source")
    organization.create_role(f"arn:aws:iam::{source}:role/Reader")
    yield from _operations(organization, source)


def _used(calls: list[Call]) -> set[Permission]:
    return {
        (statement["Sid"], request.action)
        for call in calls
        for request in requests(call)
        for statement in matching(request, call.signer.policy)
    }


@pytest.mark.parametrize("function", FUNCTION_KEYS)
def test_functions_policy_allows_exactly_what_is_called(all_calls: AllCalls, function: str) -> None:
    own = [call for call in all_calls.calls if call.signer.name == function]

    assert [call for call in own if denied(call)] == []
    assert all_calls.allowed[function] - _used(own) == set(NEEDED_BY_AWS[function])
    assert _used(own).isdisjoint(NEEDED_BY_AWS[function])


def test_session_policies_allow_exactly_what_is_called(all_calls: AllCalls) -> None:
    """Session policies differ by account and settings: each action that one allows must be called in some session."""
    in_sessions = [call for call in all_calls.calls if call.signer.name not in FUNCTION_KEYS]
    kinds: dict[str, set[str]] = {"member role": set(), "source policy": set()}
    for call in all_calls.calls:
        if call.operation == "sts:AssumeRole":
            statements = json.loads(call.params["Policy"])["Statement"]
            kinds[_kind(statements)] |= {action for each in statements for action in listed(each["Action"])}

    assert [call for call in in_sessions if denied(call)] == []
    for kind, allowed in kinds.items():
        used = {
            request.action for call in in_sessions if _kind(call.signer.policy) == kind for request in requests(call)
        }
        assert allowed == used


def test_each_function_opens_only_the_sessions_that_it_needs(all_calls: AllCalls) -> None:
    """IAM can't restrict the session policy of a function that may assume access roles."""
    opened: dict[str, set[str]] = {}
    for call in all_calls.calls:
        if call.operation == "sts:AssumeRole":
            statements = json.loads(call.params["Policy"])["Statement"]
            actions = {action for each in statements for action in listed(each["Action"])}
            reads = all(re.match(r"\w+:(Get|List|Describe)", action) for action in actions)
            opened.setdefault(call.signer.name, set()).add(f"{'read' if reads else 'write'} {_kind(statements)}")

    assert opened == {
        "enroll": {"write member role"},
        "publish": {"read source policy", "write source policy"},
        **{name: {"read member role"} for name in sorted(_SWEEPS)},
    }


def _kind(statements: Any) -> str:
    actions = {action for statement in statements for action in listed(statement["Action"])}
    return "source policy" if {"iam:GetPolicy", "iam:CreatePolicy", "iam:DeletePolicy"} & actions else "member role"


# --- The functions' permissions ----------------------------------------------------------------------------------------

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
    key_name = "account_id" if table == _LEDGER else "policy_name"
    context: dict[str, str | list[str]] = {
        "dynamodb:LeadingKeys": [key],
        "dynamodb:Attributes": [key_name, *attributes],
    }
    return Request("dynamodb:UpdateItem", table, context)


def _on_policy(action: str, account_id: str = MANAGEMENT) -> Request:
    return Request(action, f"arn:aws:iam::{account_id}:policy/{SOURCE_POLICY}")


def _on_principal(action: str, policy: str = SOURCE_POLICY) -> Request:
    context: dict[str, str | list[str]] = {"iam:PolicyARN": f"arn:aws:iam::{MANAGEMENT}:policy/{policy}"}
    return Request(action, SOURCE_PRINCIPAL, context)


def _put_event(bus: str, source: str = "rolecall.test") -> Request:
    arn = f"arn:aws:events:us-east-1:{MANAGEMENT}:event-bus/{bus}"
    return Request("events:PutEvents", arn, {"events:source": [source]})


MATRIX: list[tuple[Request, set[str]]] = [
    # The member role: with an access role in members, and with the function's policy in the management account.
    (_enter(MEMBER), {"enroll", *_SWEEPS}),
    (Request("iam:CreateRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:UpdateAssumeRolePolicy", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:PutRolePolicy", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:DeleteRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll"}),
    (Request("iam:GetRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}"), {"enroll", *_SWEEPS}),
    # The access roles, and every other role.
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
    # The ledger: each attribute has one writer.
    (_update(_LEDGER, MEMBER, "access", "revision"), {"enroll"}),
    (_update(_LEDGER, MEMBER, "in_force_since"), {"publish"}),
    (_update(_LEDGER, MEMBER, "retirement_requested_at", "revision"), {"backfill", "retire"}),
    (_update(_LEDGER, MEMBER, "access", "in_force_since"), set()),
    (Request("dynamodb:PutItem", _LEDGER, {"dynamodb:LeadingKeys": [MEMBER]}), set()),
    (Request("dynamodb:DeleteItem", _LEDGER, {"dynamodb:LeadingKeys": [MEMBER]}), set()),
    # The source-policy table.
    (_update(_RECORDS, SOURCE_POLICY, "applied"), {"publish"}),
    (_update(_RECORDS, "#status", "run_owner"), {"publish"}),
    (_update(_RECORDS, "#control", "frozen", "freeze_requested_at"), {"freeze"}),
    (_update(_RECORDS, "#control", "uninstalling", "uninstalled"), {"backfill", "retire"}),
    (_update(_RECORDS, "#control", "verify_requested_at", "check_requested_at", "scope_recorded"), {"resync"}),
    (_update(_RECORDS, "#control", "control_policies_changed_at"), {"on_account_event"}),
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
    (_put_event("default"), {"announce_outcome"}),
    (_put_event("other"), set()),
    (_put_event("default", source="aws.organizations"), set()),
]


def _may(stage: Stage, request: Request) -> set[str]:
    return {function for function in FUNCTION_KEYS if any(matching(request, stage.policy_of(function)))}


def test_no_function_has_another_ones_permissions(organization: Organization) -> None:
    stage = Stage(organization, deployed="false")

    assert [(request, _may(stage, request)) for request, _ in MATRIX] == MATRIX


def test_publish_enters_only_a_separate_source_account(organization: Organization) -> None:
    stage = Stage(organization, deployed="false", SourcePrincipalArns=f"arn:aws:iam::{SOURCE}:role/Reader")

    assert _may(stage, _enter(MEMBER)) == {"enroll", *_SWEEPS}
    assert _may(stage, _enter(SOURCE)) == {"enroll", "publish", *_SWEEPS}
    assert _may(stage, _on_policy("iam:CreatePolicyVersion")) == set()
    assert _may(stage, _on_policy("iam:CreatePolicyVersion", SOURCE)) == set()


def test_no_function_enters_an_account_outside_the_organization(organization: Organization) -> None:
    stage = Stage(organization, deployed="false")
    outside = Request("sts:AssumeRole", f"arn:aws:iam::{MEMBER}:role/{ACCESS_ROLE}", {"aws:ResourceOrgID": "o-another"})

    assert _may(stage, outside) == set()


@pytest.mark.parametrize("source", [MANAGEMENT, SOURCE], ids=["management", "separate"])
def test_no_function_writes_both_member_roles_and_source_policy(organization: Organization, source: str) -> None:
    stage = Stage(organization, deployed="false", SourcePrincipalArns=f"arn:aws:iam::{source}:role/Reader")
    writes_roles = _may(stage, _enter(MEMBER)) | _may(
        stage, Request("iam:CreateRole", f"arn:aws:iam::{MANAGEMENT}:role/{MEMBER_ROLE}")
    )
    writes_policy = _may(stage, _on_policy("iam:CreatePolicyVersion")) | _may(
        stage, _on_principal("iam:AttachRolePolicy")
    )

    assert writes_roles & writes_policy == set()
    assert writes_policy == ({"publish"} if source == MANAGEMENT else set())
