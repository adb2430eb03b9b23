"""The policies allow what the functions call and nothing besides.

That every call is allowed is asserted after every test of this directory (conftest.py). Here a tour makes every call that
there is to make, and what is allowed but was not called must stand, with its reason, in the tables of what AWS itself needs.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError

from tests.integration.boundary import FUNCTION_KEYS, Boundary, Call
from tests.integration.drifts import DRIFTS, HARMLESS
from tests.integration.organization import (
    MANAGEMENT,
    MEMBER_ROLE,
    SOURCE_POLICY,
    Operator,
    Organization,
    by_guide,
    founded,
)
from tests.integration.permissions import allowing, denied, listed, requests
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
        ("TakeFromTheQueueAndHandBack", "sqs:ReceiveMessage"): "Lambda's poller takes batches in the function's name",
        ("TakeFromTheQueueAndHandBack", "sqs:DeleteMessage"): "Lambda's poller deletes what was finished",
        ("TakeFromTheQueueAndHandBack", "sqs:GetQueueAttributes"): "Lambda's poller looks at the queue",
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
        _take_a_policy_over,
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


def _take_a_policy_over(organization: Organization) -> Iterator[Stage]:
    """Take over an existing policy, of which a version must go first."""
    organization.make_policy(SOURCE_POLICY, document=by_guide("111122223333"))
    organization.write_by_hand(4)
    stage = Stage(organization, AdoptExistingRoles="true")
    for function in ("backfill", "rerun", "resync"):
        stage.run(function, {"dry_run": True})
    stage.enroll(organization.member())
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
        yield stage


def _work_in_a_source_account(organization: Organization) -> Iterator[Stage]:
    """Do in another account all that is done here where the readers are here."""
    source = organization.member("Source")
    organization.make_role(f"arn:aws:iam::{source}:role/Reader")
    yield from _follow_the_readers(organization, source)
    parameters = {"SourcePrincipalArns": f"arn:aws:iam::{source}:role/Reader", "AdoptExistingRoles": "true"}
    organization.make_policy("Adopted", account_id=source, document=by_guide("111122223333", role_name="Adopted"))
    stage = Stage(organization, "adopting", SourcePolicyName="Adopted", MemberRoleName="Adopted", **parameters)
    organization.write_by_hand(4, name="Adopted", account_id=source)
    stage.enroll(organization.member())
    yield stage


def _ask_around(organization: Organization) -> Iterator[Stage]:
    """Ask Organizations for whatever it is asked for, and lose an answer, so that a message is handed back."""

    def lose(_: dict[str, Any]) -> None:
        raise ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")

    unit = organization.unit()
    member = organization.member()
    organization.move(member, organization.unit(unit))
    stage = Stage(organization, IncludeOuIds=unit, SourcePolicyScope="organization")
    organization.boundary.edit("iam:CreatePolicy", lose)
    stage.enroll(member)
    yield stage


def _sweep_and_withdraw_here(organization: Organization, account_id: str = MANAGEMENT) -> Iterator[Stage]:
    """Run whatever operators and schedules run, with everything to mend that there can be."""
    unit = organization.unit()
    member = organization.member()
    organization.move(member, organization.unit(unit))
    organization.iam(account_id).create_user(UserName="reader")
    organization.make_role(f"arn:aws:iam::{account_id}:role/Another")
    role, user, another = (
        f"arn:aws:iam::{account_id}:{each}" for each in ("role/Reader", "user/reader", "role/Another")
    )
    for parameters in (
        {"SourcePrincipalArns": f"{role},{user}", "IncludeOuIds": unit},
        {"SourcePrincipalArns": role, "SourcePolicyScope": "organization"},
    ):
        stage = Stage(organization, **parameters)
        yield stage
        stage.run("rerun", {"dry_run": True})
        _sweep(organization, stage, member)
        _mend(organization, stage, account_id)
        if "SourcePolicyScope" not in parameters:
            _freeze(stage, Stage(organization, **{**parameters, "SourcePrincipalArns": another}))
        stage.run("freeze", {"frozen": True})
        stage.run("retire", {"accounts": [member, MANAGEMENT], "dry_run": True})
        stage.run("retire", {"accounts": [member, MANAGEMENT]})
        stage.work()
        stage.run("backfill", {"accounts": [member, MANAGEMENT]})
        for _ in range(3):
            stage.work()
            stage.run("retire", {"accounts": "all", "force": True})


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
    stage.run("resync")
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=HARMLESS, SetAsDefault=True)
    stage.run("resync")
    organization.lose_policy(SOURCE_POLICY, account_id)
    stage.run("resync")


def _freeze(stage: Stage, elsewhere: Stage) -> None:
    """Freeze and unfreeze more often than a policy has versions, where a worker left a shard unwritten, and for other readers."""
    for _ in ("never made", "made by a worker that could not say so"):
        stage.shards.put_item(Item={"policy_name": f"{SOURCE_POLICY}-2", "version": 1})
        for readers in (stage, elsewhere, stage):
            readers.run("freeze", {"frozen": True})
            readers.run("freeze", {"frozen": False})


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


def _kind(statements: Any) -> str:
    actions = {action for statement in statements for action in listed(statement["Action"])}
    return "source policy" if "iam:CreatePolicy" in actions else "member role"
