"""What AWS has to show before a deployment: principals, organizational units, quotas and the names of other stages."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from deploy.aws import AwsCommandError, Location
from deploy.preconditions import find_problems

_HERE = Location("aws", "111122223333", "us-east-1")
_ELSEWHERE = "444455556666"
_READER = "arn:aws:iam::111122223333:role/Reader"
_SSO = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Audit_"
_VALUES = {
    "Stage": "dev",
    "SourcePrincipalArns": _READER,
    "MemberRoleName": "CrossAccountReadOnlyRole",
    "MemberRolePolicyArns": "arn:{partition}:iam::aws:policy/ReadOnlyAccess",
    "SourcePolicyName": "CrossAccountReadOnlyAccess",
    "AccessRoleNames": "OrganizationAccountAccessRole,AWSControlTowerExecution",
    "IncludeOuIds": "",
    "ExcludeOuIds": "",
    "SourcePolicyTable": "rolecall-dev-source-policy",
}
_UNIT = "ou-ab12-11111111"


class Account:
    """The AWS CLI in an account whose IAM, organization and stacks are given; access roles by the account that they enter."""

    def __init__(
        self,
        *,
        arns: Iterable[str] = (_READER,),
        access_roles: Mapping[str, str] | None = None,
        stacks: Iterable[Mapping[str, str]] = (),
        quotas: Mapping[str, int] | None = None,
        denied: Iterable[str] = (),
    ) -> None:
        self.arns = list(arns)
        self.access_roles = dict(access_roles or {})
        self.stacks = list(stacks)
        self.quotas = dict(quotas or {})
        self.denied = set(denied)

    def __call__(self, *arguments: str, session: Mapping[str, str] | None = None) -> Any:
        operation, last = arguments[1], arguments[-1]
        if operation in self.denied:
            raise _error("AccessDenied")
        account_id = session["account"] if session else "111122223333"
        match operation:
            case "describe-table":
                raise _error("ResourceNotFoundException")
            case "get-role" | "get-user":
                kind = operation.removeprefix("get-")
                found = [arn for arn in self.arns if arn.endswith(f"/{last}") and f"::{account_id}:{kind}/" in arn]
                if not found:
                    raise _error("NoSuchEntity")
                return {kind.title(): {"Arn": found[0]}}
            case "list-roles":
                return {"Roles": [{"Arn": arn} for arn in self.arns if f"role{last}" in arn]}
            case "assume-role":
                _, _, _, _, entered, role = arguments[arguments.index("--role-arn") + 1].split(":")
                if self.access_roles.get(entered) != role.removeprefix("role/"):
                    raise _error("AccessDenied")
                return {"Credentials": {"account": entered}}
            case "describe-organizational-unit":
                if last != _UNIT:
                    raise _error("OrganizationalUnitNotFoundException")
            case "get-account-summary":
                return {"SummaryMap": self.quotas}
            case "describe-stacks":
                return {"Stacks": [_stack(parameters) for parameters in self.stacks]}
        return None


def _error(code: str) -> AwsCommandError:
    return AwsCommandError(f"aws: An error occurred ({code}) when calling the operation")


def _stack(parameters: Mapping[str, str]) -> dict[str, Any]:
    pairs = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items() if key != "status"]
    return {"StackName": "any", "StackStatus": parameters.get("status", "CREATE_COMPLETE"), "Parameters": pairs}


def _problems(aws: Account, **changes: str) -> list[str]:
    problems, unchecked = find_problems(_VALUES | changes, _HERE, aws)
    assert unchecked == []
    return problems


@pytest.mark.parametrize(
    ("principal", "existing"),
    [
        (_READER, _READER),
        ("arn:aws:iam::111122223333:user/team/jo", "arn:aws:iam::111122223333:user/team/jo"),
        (f"{_SSO}*", f"{_SSO}0123456789abcdef"),
        ("arn:aws:iam::111122223333:root", _READER),
    ],
)
def test_existing_principal_is_accepted(principal: str, existing: str) -> None:
    assert _problems(Account(arns=[existing]), SourcePrincipalArns=principal) == []


@pytest.mark.parametrize(
    ("principal", "existing", "hint"),
    [
        (_READER, "arn:aws:iam::111122223333:user/Reader", ""),
        (_READER, f"arn:aws:iam::{_ELSEWHERE}:role/Reader", ""),
        (
            "arn:aws:iam::111122223333:role/team/Reader",
            _READER,
            f" ({_READER} does)",
        ),
        (f"{_SSO}*", _READER, ""),
    ],
)
def test_missing_principal_is_rejected(principal: str, existing: str, hint: str) -> None:
    (problem,) = _problems(Account(arns=[existing]), SourcePrincipalArns=principal)
    assert problem.startswith(f"SourcePrincipalArns contains {principal}, which does not exist{hint}: create the role")


def test_principal_elsewhere_is_read_with_an_access_role() -> None:
    exists, missing = f"arn:aws:iam::{_ELSEWHERE}:role/Reader", f"arn:aws:iam::{_ELSEWHERE}:role/Gone"
    aws = Account(arns=[exists], access_roles={_ELSEWHERE: "AWSControlTowerExecution"})

    (problem,) = _problems(aws, SourcePrincipalArns=f"{exists},{missing}")

    assert missing in problem


@pytest.mark.parametrize(
    ("denied", "unchecked"),
    [
        ("get-role", "whether the source principals exist"),
        ("describe-organizational-unit", "whether the organizational units exist"),
        ("get-account-summary", "the quota of policies attached to a role"),
        ("describe-stacks", "the names of other stages"),
    ],
)
def test_what_cannot_be_read_is_reported_as_not_checked(denied: str, unchecked: str) -> None:
    changes = {"IncludeOuIds": _UNIT, "MemberRolePolicyArns": _policies(11)}
    aws = Account(denied=[denied], quotas={"AttachedPoliciesPerRoleQuota": 20})

    problems, (reason,) = find_problems(_VALUES | changes, _HERE, aws)

    assert problems == []
    assert reason.startswith(f"{unchecked}: aws: An error occurred (AccessDenied)")


def test_source_account_that_cannot_be_entered_is_not_checked() -> None:
    principal = f"arn:aws:iam::{_ELSEWHERE}:role/Reader"

    problems, (reason,) = find_problems(_VALUES | {"SourcePrincipalArns": principal}, _HERE, Account())

    assert problems == []
    assert reason.startswith("whether the source principals exist: ")


@pytest.mark.parametrize("parameter", ["IncludeOuIds", "ExcludeOuIds"])
def test_missing_organizational_unit_is_rejected(parameter: str) -> None:
    (problem,) = _problems(Account(), **{parameter: f"{_UNIT},ou-ab12-22222222"})
    assert problem.startswith(f"{parameter} contains ou-ab12-22222222, which does not exist in this organization: ")


def _policies(count: int) -> str:
    return ",".join(f"arn:{{partition}}:iam::{{account_id}}:policy/P{number}" for number in range(count))


@pytest.mark.parametrize(
    ("count", "quotas", "is_rejected"),
    [
        (10, {}, False),
        (11, {}, True),
        (11, {"AttachedPoliciesPerRoleQuota": 20}, False),
        (21, {"AttachedPoliciesPerRoleQuota": 20}, True),
    ],
)
def test_policies_are_limited_by_the_accounts_quota(count: int, quotas: dict[str, int], is_rejected: bool) -> None:
    problems = _problems(Account(quotas=quotas), MemberRolePolicyArns=_policies(count))
    assert [problem.startswith(f"MemberRolePolicyArns contains {count} policies") for problem in problems] == (
        [True] if is_rejected else []
    )


def test_policy_named_twice_counts_once() -> None:
    twice = "arn:aws:iam::aws:policy/P0,arn:{partition}:iam::aws:policy/P0"
    assert _problems(Account(), MemberRolePolicyArns=f"{_policies(9)},{twice}") == []


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("READER", "SourcePrincipalArns"), ("organizationAccountAccessRole", "AccessRoleNames")],
)
def test_member_role_must_be_neither_reader_nor_access_role(name: str, parameter: str) -> None:
    (problem,) = _problems(Account(), MemberRoleName=name)
    assert problem == f"MemberRoleName is {name}, which {parameter} contains, too: set another name"


_OTHER = {**_VALUES, "Stage": "prod", "MemberRoleName": "Audit", "SourcePolicyName": "AuditAccess"}


@pytest.mark.parametrize(
    ("theirs", "problem"),
    [
        ({"MemberRoleName": "crossaccountreadonlyrole"}, "MemberRoleName is .* also the member role of stage prod"),
        ({"SourcePolicyName": "crossaccountreadonlyaccess"}, "SourcePolicyName is .* source policy of stage prod"),
        (
            {"SourcePolicyName": "CrossAccountReadOnlyAccess-2"},
            "SourcePolicyName is .*-2 is the source policy of stage",
        ),
        (
            {"SourcePrincipalArns": "arn:aws:iam::444455556666:role/team/CrossAccountReadOnlyRole"},
            "MemberRoleName is .* a source principal or access role of stage prod",
        ),
        ({"AccessRoleNames": "CrossAccountReadOnlyRole"}, "MemberRoleName is .* access role of stage prod"),
        ({"MemberRoleName": "READER"}, "SourcePrincipalArns contains READER, .* the member role of stage prod"),
        (
            {"MemberRoleName": "AWSControlTowerExecution"},
            "AccessRoleNames contains AWSControlTowerExecution, .* the member role of stage prod",
        ),
    ],
)
def test_name_of_another_stage_is_rejected(theirs: dict[str, str], problem: str) -> None:
    (found,) = find_problems(_VALUES, _HERE, Account(stacks=[_OTHER | theirs]))[0]
    assert re.match(problem, found)


@pytest.mark.parametrize(
    "theirs",
    [
        {},
        {"SourcePolicyName": "CrossAccountReadOnlyAccess-26"},
        {"SourcePolicyName": "CrossAccountReadOnlyAccess-eu"},
        # Policies of the same name, in another source account.
        {
            "SourcePolicyName": "CrossAccountReadOnlyAccess",
            "SourcePrincipalArns": f"arn:aws:iam::{_ELSEWHERE}:role/Reader",
        },
        {"SourcePrincipalArns": "arn:aws:iam::111122223333:user/CrossAccountReadOnlyRole"},
        {**_VALUES, "Stage": "prod", "status": "ROLLBACK_COMPLETE"},
        {**_VALUES},  # this stage, as it is deployed
    ],
)
def test_names_that_do_not_collide_are_accepted(theirs: dict[str, str]) -> None:
    unrelated = {"MemberRoleName": _VALUES["MemberRoleName"]}
    assert _problems(Account(stacks=[_OTHER | theirs, unrelated])) == []
