"""AWS's errors in a member account: each has its reason, and affects only its account."""

from dataclasses import dataclass

import pytest

from tests.integration.boundary import Boundary
from tests.integration.organization import Organization
from tests.integration.stage import Stage


@dataclass(frozen=True)
class Fault:
    """An error of one operation in a member account, the reason that is recorded, and whether the message is retried."""

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
    Fault("iam:AttachRolePolicy", "SomeError", "oops", "service_error", retried=True, status=503),
    Fault("sts:AssumeRole", "RegionDisabledException", "no", "rejected", retried=False),
    Fault("sts:AssumeRole", "ExpiredTokenException", "expired", "service_error", retried=True),
    Fault("iam:CreateRole", "LimitExceeded", "Cannot exceed quota for RolesPerAccount: 1000", "quota", retried=False),
    Fault("iam:CreateRole", "MalformedPolicyDocument", "no", "rejected", retried=False),
    Fault("iam:AttachRolePolicy", "NoSuchEntity", "The role can't be found.", "stale_read", retried=True),
    Fault("iam:CreateRole", "ConcurrentModification", "again", "service_error", retried=True),
]


def test_each_error_has_its_reason_and_affects_only_its_account(organization: Organization, boundary: Boundary) -> None:
    other = organization.member("Other")
    faults = dict(zip(organization.members(len(FAULTS)), FAULTS, strict=True))
    for account_id, fault in faults.items():
        organization.age_account(account_id)
        boundary.fail(fault.operation, fault.code, fault.message, status=fault.status, account_id=account_id, times=1)
    stage = Stage(organization)
    stage.enqueue(*faults, other)

    delays = stage.deliver().delays | stage.deliver().delays

    assert stage.statuses() == {
        **{account_id: ("failed", fault.reason) for account_id, fault in faults.items()},
        other: ("enrolled", None),
    }
    assert delays == {account_id: 30 for account_id, fault in faults.items() if fault.retried}
    for account_id, fault in faults.items():
        error = stage.row(account_id)["error"]
        assert account_id in error
        assert fault.message in error or "resource control policy" in error
    assert organization.granted() == {other}

    # Once AWS responds without errors, another message enrolls each of them.
    stage.skip_delays()
    stage.enqueue(*(account_id for account_id, fault in faults.items() if not fault.retried))
    stage.deliver()
    stage.deliver()
    assert {stage.status(account_id) for account_id in faults} == {("enrolled", None)}
    assert organization.granted() == {*faults, other}


def test_managed_policy_missing_in_the_account_is_named(organization: Organization) -> None:
    account_id = organization.member()
    stage = Stage(organization, MemberRolePolicyArns="arn:aws:iam::{account_id}:policy/Missing")

    assert stage.enroll(account_id).finished == [account_id]

    assert stage.status(account_id) == ("failed", "no_such_policy")
    assert f"arn:aws:iam::{account_id}:policy/Missing" in stage.row(account_id)["error"]
    assert not organization.has_policy()


def test_role_missed_by_a_stale_read_is_found_by_the_retry(organization: Organization, boundary: Boundary) -> None:
    account_id = organization.member()
    stage = Stage(organization)
    stage.enroll(account_id)
    boundary.fail("iam:GetRole", "NoSuchEntity", "no such role", status=404, account_id=account_id, times=1)

    assert stage.enroll(account_id).delays == {account_id: 30}
    assert stage.status(account_id) == ("failed", "stale_read")

    stage.skip_delays()
    assert stage.deliver().finished == [account_id]
    assert (stage.status(account_id), stage.row(account_id)["change"]) == (("enrolled", None), "none")


@pytest.mark.parametrize("operation", ["iam:CreateRole", "iam:AttachRolePolicy"])
def test_call_with_a_lost_response_is_completed_by_the_retry(
    organization: Organization, boundary: Boundary, operation: str
) -> None:
    account_id, other = organization.member(), organization.member("Other")
    stage = Stage(organization)
    boundary.lose_response(operation)

    assert stage.enroll(account_id).delays == {account_id: 30}
    assert stage.status(account_id) == ("failed", "service_error")

    boundary.stop_faults()
    stage.skip_delays()
    assert sorted(stage.enroll(other).finished) == sorted([account_id, other])
    assert organization.role(account_id) == organization.role(other)
    policy = organization.policy()
    assert (policy.accounts, policy.attached) == ({account_id, other}, {"Reader"})


def test_unexpected_error_affects_only_its_account(organization: Organization, boundary: Boundary) -> None:
    account_id, other = organization.member(), organization.member("Other")
    boundary.raise_error("iam:GetRole", KeyError("unexpected"), account_id=account_id)
    stage = Stage(organization)

    delivery = stage.enroll(account_id, other)

    assert (delivery.finished, delivery.delays) == ([other], {account_id: 30})
    assert stage.status(account_id) == ("failed", "unexpected")
    assert not organization.has_role(account_id)
