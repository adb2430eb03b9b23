"""What AWS has to show before a deployment: principals, organizational units, quotas and the names of other stages."""

import json
import re
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from rolecall.clients import ClientFactory
from rolecall.deploy.location import Location
from rolecall.deploy.preconditions import check_preconditions
from rolecall.deploy.problems import Problems
from tests.conftest import ROOT

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
    "SourcePolicyScope": "accounts",
    "AttachSourcePolicy": "true",
    "ExternalId": "",
    "AccessRoleNames": "OrganizationAccountAccessRole,AWSControlTowerExecution",
    "AccessRoleStackSet": "false",
    "AccessRoleTargets": "",
    "IncludeOuIds": "",
    "ExcludeOuIds": "",
    "EventBusName": "default",
    "SourcePolicyTable": "rolecall-dev-source-policy",
    "FunctionsPermissionsBoundaryArn": "",
    "KmsKeyArn": "",
}
_KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_KEY_POLICY = json.loads((ROOT / "docs" / "key-policy.json").read_text())
_USABLE = {
    "KeyManager": "CUSTOMER",
    "KeySpec": "SYMMETRIC_DEFAULT",
    "KeyUsage": "ENCRYPT_DECRYPT",
    "KeyState": "Enabled",
}
_UNIT, _BELOW, _ELSEWHERE_UNIT = "ou-ab12-11111111", "ou-ab12-33333333", "ou-ab12-44444444"
_BOUNDARY = "arn:aws:iam::111122223333:policy/Boundary"


class Account:
    """Creates clients of an account whose IAM, organization and stacks are given; access roles by the account that they enter."""

    def __init__(
        self,
        *,
        arns: Iterable[str] = (_READER,),
        access_roles: Mapping[str, str] | None = None,
        stacks: Iterable[Mapping[str, str]] = (),
        quotas: Mapping[str, int] | None = None,
        denied: Iterable[str] = (),
        trusted_access: str = "ENABLED",
        stack_sets: Iterable[str] = (),
        key: Mapping[str, str] | None = None,
        key_policy: Mapping[str, Any] = _KEY_POLICY,
    ) -> None:
        self.arns = list(arns)
        self.access_roles = dict(access_roles or {})
        self.stacks = list(stacks)
        self.quotas = dict(quotas or {})
        self.denied = set(denied)
        self.trusted_access = trusted_access
        self.stack_sets = set(stack_sets)
        self.key = key
        self.key_policy = key_policy

    def __call__(self, service: str, *, keys: Mapping[str, str] | None = None) -> "Client":
        assert service in {"cloudformation", "dynamodb", "events", "iam", "kms", "organizations", "sts"}
        return Client(self, keys["account"] if keys else "111122223333")


class Client:
    """All services of an account, for one account's credentials."""

    def __init__(self, account: Account, account_id: str) -> None:
        self._account = account
        self._account_id = account_id

    def _check(self, operation: str) -> None:
        if operation in self._account.denied:
            raise _error("AccessDenied")

    def describe_table(self, **_: str) -> None:
        raise _error("ResourceNotFoundException")

    def describe_event_bus(self, Name: str) -> None:  # noqa: N803 - boto3's
        self._check("describe-event-bus")
        if Name != "accounts":
            raise _error("ResourceNotFoundException")

    def get_role(self, RoleName: str) -> Any:  # noqa: N803 - boto3's
        return {"Role": {"Arn": self._arn("role", RoleName)}}

    def get_user(self, UserName: str) -> Any:  # noqa: N803
        return {"User": {"Arn": self._arn("user", UserName)}}

    def _arn(self, kind: str, name: str) -> str:
        self._check(f"get-{kind}")
        for arn in self._account.arns:
            if arn.endswith(f"/{name}") and f"::{self._account_id}:{kind}/" in arn:
                return arn
        raise _error("NoSuchEntity")

    def assume_role(self, RoleArn: str, **_options: str) -> Any:  # noqa: N803
        _, _, _, _, entered, role = RoleArn.split(":")
        if self._account.access_roles.get(entered) != role.removeprefix("role/"):
            raise _error("AccessDenied")
        return {"Credentials": {"account": entered}}

    def describe_account(self, AccountId: str) -> None:  # noqa: N803 - boto3's
        self._check("describe-account")
        if AccountId != _ELSEWHERE:
            raise _error("AccountNotFoundException")

    def describe_organizational_unit(self, OrganizationalUnitId: str) -> None:  # noqa: N803
        self._check("describe-organizational-unit")
        if OrganizationalUnitId not in {_UNIT, _BELOW, _ELSEWHERE_UNIT}:
            raise _error("OrganizationalUnitNotFoundException")

    def list_parents(self, ChildId: str) -> Any:  # noqa: N803
        return {"Parents": [{"Id": {_BELOW: _UNIT, _ELSEWHERE: _ELSEWHERE_UNIT}.get(ChildId, "r-ab12")}]}

    def describe_organizations_access(self) -> Any:
        self._check("describe-organizations-access")
        return {"Status": self._account.trusted_access}

    def describe_stack_set(self, StackSetName: str) -> Any:  # noqa: N803
        if StackSetName not in self._account.stack_sets:
            raise _error("StackSetNotFoundException")
        return {"StackSet": {"Status": "ACTIVE"}}

    def get_policy(self, PolicyArn: str) -> None:  # noqa: N803
        self._check("get-policy")
        if PolicyArn not in self._account.arns:
            raise _error("NoSuchEntity")

    def describe_key(self, KeyId: str) -> Any:  # noqa: N803
        self._check("describe-key")
        if KeyId != _KEY or self._account.key is None:
            raise _error("NotFoundException")
        return {"KeyMetadata": self._account.key}

    def get_key_policy(self, KeyId: str, PolicyName: str) -> Any:  # noqa: N803
        self._check("get-key-policy")
        assert PolicyName == "default"
        self.describe_key(KeyId)
        return {"Policy": json.dumps(self._account.key_policy)}

    def get_account_summary(self) -> Any:
        self._check("get-account-summary")
        return {"SummaryMap": self._account.quotas}

    def get_paginator(self, operation: str) -> Any:
        def paginate(**request: str) -> list[Any]:
            self._check(operation.replace("_", "-"))
            if operation == "describe_stacks":
                return [{"Stacks": [_stack(parameters)]} for parameters in self._account.stacks]
            assert operation == "list_roles"
            return [{"Roles": [{"Arn": arn}]} for arn in self._account.arns if f"role{request['PathPrefix']}" in arn]

        return SimpleNamespace(paginate=paginate)


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Operation")


def _stack(parameters: Mapping[str, str]) -> dict[str, Any]:
    pairs = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items() if key != "status"]
    return {"StackName": "any", "StackStatus": parameters.get("status", "CREATE_COMPLETE"), "Parameters": pairs}


def find_problems(
    values: Mapping[str, str], account: Account, kept: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    problems = Problems()
    check_preconditions(values, kept or {}, _HERE, cast("ClientFactory", account), problems)
    return problems.found, problems.unchecked


def _problems(aws: Account, **changes: str) -> list[str]:
    problems, unchecked = find_problems(_VALUES | changes, aws)
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


def test_missing_permission_set_may_name_the_source_policy_later() -> None:
    values = _VALUES | {"SourcePrincipalArns": f"{_SSO}*", "AttachSourcePolicy": "false"}

    problems, (note,) = find_problems(values, Account())

    assert problems == []
    assert note.startswith(f"SourcePrincipalArns contains {_SSO}*, which does not exist: ")


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
        ("describe-event-bus", "whether the event bus exists"),
        ("describe-account", "whether the source principals' accounts are in the organization"),
        ("get-policy", "whether the functions' permissions boundary exists"),
        ("get-key-policy", "the key's policy"),
    ],
)
def test_what_cannot_be_read_is_reported_as_not_checked(denied: str, unchecked: str) -> None:
    changes = {
        "IncludeOuIds": _UNIT,
        "MemberRolePolicyArns": _policies(11),
        "EventBusName": "accounts",
        "FunctionsPermissionsBoundaryArn": _BOUNDARY,
        "KmsKeyArn": _KEY,
    }
    if denied == "describe-account":
        changes |= {"SourcePolicyScope": "none", "SourcePrincipalArns": "arn:aws:iam::555566667777:root"}
    aws = Account(arns=[_READER, _BOUNDARY], denied=[denied], quotas={"AttachedPoliciesPerRoleQuota": 20}, key=_USABLE)

    problems, (reason,) = find_problems(_VALUES | changes, aws)

    assert problems == []
    assert reason.startswith(f"{unchecked}: ")


def test_source_account_that_cannot_be_entered_is_not_checked() -> None:
    principal = f"arn:aws:iam::{_ELSEWHERE}:role/Reader"

    problems, (reason,) = find_problems(_VALUES | {"SourcePrincipalArns": principal}, Account())

    assert problems == []
    assert reason.startswith("whether the source principals exist: ")


_VENDOR = "arn:aws:iam::555566667777:role/Scanner"


def test_outside_account_needs_an_external_id() -> None:
    exists = f"arn:aws:iam::{_ELSEWHERE}:role/Reader"
    aws = Account(arns=[exists], access_roles={_ELSEWHERE: "AWSControlTowerExecution"})
    values = _VALUES | {"SourcePolicyScope": "none", "SourcePrincipalArns": f"{exists},{_VENDOR}"}

    (problem,), (unchecked,) = find_problems(values, aws)
    assert problem.startswith("ExternalId is not set: account 555566667777 of SOURCE_PRINCIPAL_ARNS is not a member")
    assert unchecked == "whether the source principals of account 555566667777, outside of the organization, exist"
    assert find_problems(values | {"ExternalId": "example"}, aws) == ([], [unchecked])


def test_outside_account_can_have_no_source_policy() -> None:
    missing_id, unwritable = find_problems(_VALUES | {"SourcePrincipalArns": _VENDOR}, Account())[0]
    assert missing_id.startswith("ExternalId is not set: ")
    assert unwritable == (
        "SourcePrincipalArns contains principals of account 555566667777, which is not a member of the organization, "
        "so no source policy can be written there: set SourcePolicyScope=none"
    )


def test_missing_principal_of_a_member_is_rejected_without_a_source_policy() -> None:
    values = {"SourcePolicyScope": "none", "AttachSourcePolicy": "false"}
    (problem,) = _problems(Account(arns=[]), **values)
    assert problem.startswith(f"SourcePrincipalArns contains {_READER}, which does not exist")


def test_source_policies_name_is_free_without_a_source_policy() -> None:
    theirs = _OTHER | {"SourcePolicyName": _VALUES["SourcePolicyName"], "SourcePolicyScope": "none"}
    assert _problems(Account(stacks=[theirs])) == []


@pytest.mark.parametrize("parameter", ["IncludeOuIds", "ExcludeOuIds", "AccessRoleTargets"])
def test_missing_organizational_unit_is_rejected(parameter: str) -> None:
    (problem,) = _problems(Account(), **{parameter: f"{_UNIT},ou-ab12-22222222"})
    assert problem.startswith(f"{parameter} contains ou-ab12-22222222, which does not exist in this organization: ")


@pytest.mark.parametrize(("name", "is_rejected"), [("", False), ("accounts", False), ("account", True)])
def test_missing_event_bus_is_rejected(name: str, is_rejected: bool) -> None:
    problems = _problems(Account(), EventBusName=name)
    assert [each.startswith("EventBusName is account, which does not exist") for each in problems] == [
        True
    ] * is_rejected


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
    (found,) = find_problems(_VALUES, Account(stacks=[_OTHER | theirs]))[0]
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


_STACK_SET = {**_VALUES, "AccessRoleStackSet": "true", "AccessRoleTargets": "r-ab12"}
_ALONE = {**_STACK_SET, "AccessRoleNames": ""}


def test_stack_set_needs_trusted_access() -> None:
    (problem,) = find_problems(_STACK_SET, Account(trusted_access="DISABLED"))[0]
    assert problem.startswith("AccessRoleStackSet is true, and the trusted access of StackSets is DISABLED: ")
    assert problem.endswith("aws cloudformation activate-organizations-access")
    assert _problems(Account(trusted_access="DISABLED")) == []


@pytest.mark.parametrize(("kept", "count"), [("false", 1), ("true", 0)])
def test_stack_set_of_the_same_name_must_be_the_stages(kept: str, count: int) -> None:
    account = Account(stack_sets=["rolecall-dev-access"])
    problems, _ = find_problems(_STACK_SET, account, {"AccessRoleStackSet": kept})
    assert [each.partition(":")[0] for each in problems] == [
        "AccessRoleStackSet is true, and another StackSet rolecall-dev-access exists"
    ] * count


@pytest.mark.parametrize(
    ("included", "targets", "missing"),
    [
        ("", "r-ab12", []),
        ("", _UNIT, ["the organization's root, and IncludeOuIds is empty"]),
        (_BELOW, _UNIT, []),
        (f"{_UNIT},{_BELOW}", _BELOW, [f"{_UNIT} of IncludeOuIds"]),
    ],
)
def test_targets_of_the_only_access_role_contain_all_accounts(included: str, targets: str, missing: list[str]) -> None:
    problems = find_problems({**_ALONE, "IncludeOuIds": included, "AccessRoleTargets": targets}, Account())[0]
    assert [each.partition(": ")[0] for each in problems] == [
        f"AccessRoleTargets does not contain {each}" for each in missing
    ]
    others = find_problems({**_STACK_SET, "IncludeOuIds": included, "AccessRoleTargets": targets}, Account())[0]
    assert others == []


@pytest.mark.parametrize(("targets", "count"), [(_UNIT, 1), (_ELSEWHERE_UNIT, 0), ("r-ab12", 0)])
def test_targets_of_the_only_access_role_contain_the_source_account(targets: str, count: int) -> None:
    principal = f"arn:aws:iam::{_ELSEWHERE}:role/Reader"
    account = Account(arns=[principal], access_roles={_ELSEWHERE: "rolecall-dev-access"})
    values = {"IncludeOuIds": targets if targets.startswith("ou-") else "", "AccessRoleTargets": targets}
    problems, _ = find_problems({**_ALONE, **values, "SourcePrincipalArns": principal}, account)
    assert [each.partition(": ")[0] for each in problems] == [
        f"AccessRoleTargets does not contain the source account {_ELSEWHERE}"
    ] * count


def test_member_role_must_not_be_the_stack_sets_role() -> None:
    (problem,) = find_problems({**_ALONE, "MemberRoleName": "Rolecall-dev-access"}, Account())[0]
    assert problem.startswith("MemberRoleName is Rolecall-dev-access, which AccessRoleNames contains, too")
    theirs = _OTHER | {"AccessRoleStackSet": "true"}
    (problem,) = find_problems({**_VALUES, "MemberRoleName": "rolecall-prod-access"}, Account(stacks=[theirs]))[0]
    assert problem.startswith("MemberRoleName is rolecall-prod-access, which is a source principal or access role of")


def test_source_account_is_entered_by_the_stack_sets_role() -> None:
    principal = f"arn:aws:iam::{_ELSEWHERE}:role/Reader"
    account = Account(arns=[principal], access_roles={_ELSEWHERE: "rolecall-dev-access"})
    assert find_problems({**_ALONE, "SourcePrincipalArns": principal}, account) == ([], [])


@pytest.mark.parametrize(
    ("arn", "problem"),
    [
        (_BOUNDARY, ""),
        ("arn:aws:iam::111122223333:policy/Other", "is .*/Other, which does not exist: create the policy"),
        (
            f"arn:aws:iam::{_ELSEWHERE}:policy/Boundary",
            "is .*, which is not a policy of account 111122223333 or of AWS",
        ),
        ("arn:aws-cn:iam::aws:policy/ReadOnlyAccess", "is .*, which is not a policy of account"),
    ],
)
def test_boundary_of_functions_must_exist_in_the_account(arn: str, problem: str) -> None:
    problems = _problems(Account(arns=[_READER, _BOUNDARY]), FunctionsPermissionsBoundaryArn=arn)
    assert [re.match(f"FunctionsPermissionsBoundaryArn {problem}", each) is not None for each in problems] == (
        [True] if problem else []
    )


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (None, "which does not exist: create the key"),
        ({**_USABLE, "KeyState": "PendingDeletion"}, "whose state is PendingDeletion: enable it"),
        ({**_USABLE, "KeySpec": "RSA_2048"}, "which is not a key for symmetric encryption"),
        ({**_USABLE, "KeyUsage": "GENERATE_VERIFY_MAC"}, "which is not a key for symmetric encryption"),
        ({**_USABLE, "KeyManager": "AWS"}, "an AWS managed key, whose policy can't be changed"),
    ],
)
def test_key_that_cannot_encrypt_is_rejected(key: dict[str, str] | None, problem: str) -> None:
    (found,) = _problems(Account(key=key), KmsKeyArn=_KEY)
    assert found.startswith(f"KmsKeyArn is {_KEY}, {problem}")


def test_key_of_another_region_is_rejected() -> None:
    elsewhere = _KEY.replace("us-east-1", "eu-west-1")
    (problem,) = _problems(Account(key=_USABLE), KmsKeyArn=elsewhere)
    assert problem == "KmsKeyArn is a key in eu-west-1, and the stage is in us-east-1: name a key there"


def test_documented_key_policy_is_accepted() -> None:
    assert _problems(Account(key=_USABLE), KmsKeyArn=_KEY) == []


@pytest.mark.parametrize(
    ("number", "principals"),
    [(0, ["account 111122223333"]), (1, ["CloudWatch Logs"]), (2, ["CloudWatch", "EventBridge"])],
)
def test_key_policy_without_a_statement_is_rejected(number: int, principals: list[str]) -> None:
    statements = [each for index, each in enumerate(_KEY_POLICY["Statement"]) if index != number]

    problems = _problems(Account(key=_USABLE, key_policy={"Statement": statements}), KmsKeyArn=_KEY)

    why = "whose policy does not allow kms:Decrypt and kms:GenerateDataKey to"
    remedy = "add the statements of docs/key-policy.json to its policy"
    assert problems == [f"KmsKeyArn is {_KEY}, {why} {name}: {remedy}" for name in principals]


def test_denying_statement_and_other_actions_allow_nothing() -> None:
    statements = [
        {"Effect": "Deny", "Principal": "*", "Action": "kms:*"},
        {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["kms:Decrypt", "kms:Describe*"]},
    ]
    problems = _problems(Account(key=_USABLE, key_policy={"Statement": statements}), KmsKeyArn=_KEY)
    assert len(problems) == 4
