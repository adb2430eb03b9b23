"""What AWS may answer instead of doing as asked: each has its reason, and stays with the account it concerns."""

from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from tests.integration.boundary import Boundary
from tests.integration.organization import MEMBER_ROLE, Organization
from tests.integration.stage import Stage


@dataclass(frozen=True)
class Fault:
    """An answer to one operation in a member account, the reason that it gives, and whether the message comes back."""

    operation: str
    code: str
    message: str
    reason: str
    retried: bool
    status: int = 400


BY_SCP = "is not authorized to perform: iam:CreateRole with an explicit deny in a service control policy"
BY_RCP = "is not authorized to perform: sts:AssumeRole with an explicit deny in a resource control policy"
BY_BOUNDARY = (
    "is not authorized to perform: iam:CreateRole because no permissions boundary allows the iam:CreateRole action"
)

FAULTS = [
    Fault("iam:CreateRole", "AccessDenied", BY_SCP, "scp_denied", retried=False),
    Fault("iam:GetRole", "AccessDenied", BY_RCP, "rcp_denied", retried=False),
    Fault("sts:AssumeRole", "AccessDenied", BY_RCP, "rcp_denied", retried=False),
    Fault("iam:CreateRole", "AccessDenied", BY_BOUNDARY, "access_denied", retried=False),
    Fault("organizations:DescribeAccount", "AccessDeniedException", "no", "access_denied", retried=False),
    Fault("iam:CreateRole", "Throttling", "Rate exceeded", "throttled", retried=True),
    Fault("organizations:DescribeAccount", "TooManyRequestsException", "slow down", "throttled", retried=True),
    Fault("iam:PutRolePolicy", "ServiceFailure", "oops", "service_error", retried=True, status=500),
    Fault("iam:AttachRolePolicy", "Unheard", "oops", "service_error", retried=True, status=503),
    Fault("sts:AssumeRole", "RegionDisabledException", "no", "rejected", retried=False),
    Fault("sts:AssumeRole", "ExpiredTokenException", "expired", "service_error", retried=True),
    Fault("iam:CreateRole", "LimitExceeded", "Cannot exceed quota for RolesPerAccount: 1000", "quota", retried=False),
    Fault("iam:CreateRole", "MalformedPolicyDocument", "no", "rejected", retried=False),
    Fault("iam:AttachRolePolicy", "NoSuchEntity", "The role can't be found.", "stale_read", retried=True),
    Fault("iam:CreateRole", "ConcurrentModification", "again", "service_error", retried=True),
]


def test_each_answer_has_its_reason_and_stays_with_its_account(organization: Organization, boundary: Boundary) -> None:
    # GIVEN an account for each fault, and one without
    bystander = organization.member("Bystander")
    faults = {organization.member(f"Workload{number}"): fault for number, fault in enumerate(FAULTS)}
    for account_id, fault in faults.items():
        organization.grow_old(account_id)
        boundary.fail(fault.operation, fault.code, fault.message, status=fault.status, account_id=account_id, times=1)
    stage = Stage(organization)
    stage.ask(*faults, bystander)

    delays = stage.deliver().delays | stage.deliver().delays

    assert {account_id: stage.verdict(account_id) for account_id in faults} == {
        account_id: ("failed", fault.reason) for account_id, fault in faults.items()
    }
    assert delays == {account_id: 30 for account_id, fault in faults.items() if fault.retried}
    errors = {account_id: stage.row(account_id)["error"] for account_id in faults}
    assert [fault for account_id, fault in faults.items() if account_id not in errors[account_id]] == []
    assert [
        fault
        for account_id, fault in faults.items()
        if fault.message not in errors[account_id] and "resource control policy" not in errors[account_id]
    ] == []
    assert stage.verdict(bystander) == ("enrolled", None)
    assert organization.named() == {bystander}

    # AND once AWS answers as it should, a further message has each of them enrolled
    stage.let_delays_pass()
    stage.ask(*(account_id for account_id, fault in faults.items() if not fault.retried))
    stage.deliver()
    stage.deliver()
    assert {stage.verdict(account_id) for account_id in faults} == {("enrolled", None)}
    assert organization.named() == {*faults, bystander}


def test_a_managed_policy_that_does_not_exist_in_the_account_is_named(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization, MemberRolePolicyArns="arn:aws:iam::{account_id}:policy/Missing")

    assert stage.enroll(account_id).finished == [account_id]

    assert stage.verdict(account_id) == ("failed", "no_such_policy")
    assert f"arn:aws:iam::{account_id}:policy/Missing" in stage.row(account_id)["error"]
    assert organization.policy() is None


def test_a_role_that_a_stale_read_missed_is_found_the_next_time(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    boundary.fail("iam:GetRole", "NoSuchEntity", "no such role", status=404, account_id=account_id, times=1)

    assert stage.enroll(account_id).delays == {account_id: 30}
    assert stage.verdict(account_id) == ("failed", "stale_read")

    stage.let_delays_pass()
    assert stage.deliver().finished == [account_id]
    assert (stage.verdict(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "none")


def test_iam_being_down_in_one_account_leaves_the_others_alone(organization: Organization, boundary: Boundary) -> None:
    accounts = [organization.member(f"Workload{number}") for number in range(4)]
    down = accounts[1]
    boundary.break_off("iam:*", EndpointConnectionError(endpoint_url="https://iam.amazonaws.com"), account_id=down)
    boundary.fail("iam:*", "ServiceUnavailable", status=503, account_id=down)
    stage = Stage(organization)

    delivery = stage.enroll(*accounts)

    assert delivery.delays == {down: 30}
    assert organization.named() == set(accounts) - {down}
    assert stage.verdict(down) == ("failed", "service_error")


@pytest.mark.parametrize("operation", ["iam:CreateRole", "iam:AttachRolePolicy"])
def test_an_answer_that_is_lost_after_the_call_took_effect_is_made_up_for(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    def lose(_: dict[str, Any]) -> None:
        raise ReadTimeoutError(endpoint_url="https://iam.amazonaws.com")

    account_id, pristine = organization.member(), organization.member("Pristine")
    stage = Stage(organization)
    boundary.edit(operation, lose)

    assert stage.enroll(account_id).delays == {account_id: 30}
    assert stage.verdict(account_id) == ("failed", "service_error")

    boundary.mend()
    stage.let_delays_pass()
    stage.ask(pristine)
    delivery = stage.deliver()
    assert sorted(delivery.finished) == sorted([account_id, pristine])
    assert organization.role(account_id) == organization.role(pristine)
    policy = organization.policy()
    assert policy is not None
    assert (policy.accounts, policy.attached) == ({account_id, pristine}, {"Reader"})


def test_a_fault_of_our_own_stays_with_its_account(organization: Organization, boundary: Boundary) -> None:
    account_id, bystander = organization.member(), organization.member("Bystander")
    boundary.break_off("iam:GetRole", KeyError("surprise"), account_id=account_id)
    stage = Stage(organization)

    delivery = stage.enroll(account_id, bystander)

    assert (delivery.finished, delivery.delays) == ([bystander], {account_id: 30})
    assert stage.verdict(account_id) == ("failed", "unexpected")
    assert organization.role(account_id, MEMBER_ROLE) is None
