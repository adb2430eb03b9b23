"""deploy and undeploy with a StackSet of access roles, in the local AWS organization."""

import json
from collections.abc import Callable

import pytest

from local.organization import LocalOrganization, trust_policy
from rolecall.deploy.problems import RefusedError
from rolecall.exit_status import ExitStatus
from tests.conftest import ROOT
from tests.deployment.deploying import Deploying

_ROLE = "rolecall-wide-access"
_ALONE = ("AccessRoleStackSet=true", "AccessRoleNames=")
_POLICIES = ("deployer-policy.json", "deployer-policy-stack-set.json")
_READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


@pytest.fixture
def stage(deploying: Callable[[str], Deploying], fresh: LocalOrganization) -> Deploying:
    """A stage that is deployed by a role with the policies in docs/."""
    account, wide = fresh.management_account_id, deploying("wide")
    statements = [each for name in _POLICIES for each in json.loads((ROOT / "docs" / name).read_text())["Statement"]]
    role = fresh.create_role(account, "Deployer", trust_policy(f"arn:aws:iam::{account}:root"))
    iam = fresh.client("iam")
    for number, each in enumerate(statements):
        document = json.dumps({"Version": "2012-10-17", "Statement": [each]})
        iam.put_role_policy(RoleName="Deployer", PolicyName=str(number), PolicyDocument=document)
    wide.credentials = fresh.as_role(role)
    return wide


def _has_role(organization: LocalOrganization, account_id: str) -> bool:
    roles = organization.client("iam", account_id).list_roles()["Roles"]
    return _ROLE in {each["RoleName"] for each in roles}


def _parameters(stage: Deploying) -> dict[str, str]:
    stack = stage.stack()
    assert stack is not None
    return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}


def test_stack_set_is_deployed_to_the_root_and_undeployed(stage: Deploying, fresh: LocalOrganization) -> None:
    created, invited = fresh.create_account("created"), fresh.invite_account()
    organizations = fresh.client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    unit = organizations.create_organizational_unit(ParentId=root, Name="unit")["OrganizationalUnit"]["Id"]
    with pytest.raises(
        RefusedError, match=r"trusted access of StackSets is DISABLED: .* activate-organizations-access"
    ):
        stage.deploy(*_ALONE)
    fresh.client("cloudformation").activate_organizations_access()

    assert stage.deploy(*_ALONE) is ExitStatus.OK

    assert f"+ AccessRoleTargets: {root}" in stage.output
    assert f"StackSet {_ROLE} creates the access role in {root}" in stage.output
    assert stage.variables()["ACCESS_ROLE_NAMES"] == _ROLE
    assert [_has_role(fresh, each) for each in (created, invited, fresh.management_account_id)] == [True, True, False]

    # The targets stay: without its access role, the member role of an account that leaves the units couldn't be deleted.
    assert stage.deploy(f"IncludeOuIds={unit}") is ExitStatus.OK
    assert _parameters(stage)["AccessRoleTargets"] == root

    assert stage.undeploy() is ExitStatus.OK
    assert [_has_role(fresh, each) for each in (created, invited)] == [False, False]


def test_included_units_are_the_targets_of_the_first_deployment(stage: Deploying, fresh: LocalOrganization) -> None:
    organizations = fresh.client("organizations")
    fresh.client("cloudformation").activate_organizations_access()
    root = organizations.list_roots()["Roots"][0]["Id"]
    unit = organizations.create_organizational_unit(ParentId=root, Name="unit")["OrganizationalUnit"]["Id"]
    source, inside, outside = fresh.create_accounts(3)
    for each in (source, inside):
        organizations.move_account(AccountId=each, SourceParentId=root, DestinationParentId=unit)
    reader = {"SourcePrincipalArns": fresh.create_source_principal("Reader", source)}

    assert stage.deploy("AccessRoleStackSet=true", f"IncludeOuIds={unit}", options=reader) is ExitStatus.OK

    assert _parameters(stage)["AccessRoleTargets"] == unit
    assert stage.variables()["ACCESS_ROLE_NAMES"].startswith(f"{_ROLE},OrganizationAccountAccessRole,")
    assert not _has_role(fresh, outside)
    # Only the source account's role manages the source policy.
    policies = [
        fresh.client("iam", each).list_role_policies(RoleName=_ROLE)["PolicyNames"] for each in (source, inside)
    ]
    assert policies == [["ManageMemberRole", "ManageSourcePolicy", "AttachSourcePolicy"], ["ManageMemberRole"]]


def test_undeploy_shows_where_the_role_could_not_be_deleted(stage: Deploying, fresh: LocalOrganization) -> None:
    account = fresh.invite_account()
    fresh.client("cloudformation").activate_organizations_access()
    stage.deploy(*_ALONE)
    iam = fresh.client("iam", account)
    iam.attach_role_policy(RoleName=_ROLE, PolicyArn=_READ_ONLY)

    assert stage.undeploy() is ExitStatus.PROBLEM

    assert stage.status == "DELETE_FAILED"
    assert "AccessRoles: " in stage.output
    assert f"  {account} INOPERABLE: Cannot delete entity, must detach all policies first." in stage.output

    iam.detach_role_policy(RoleName=_ROLE, PolicyArn=_READ_ONLY)
    assert stage.undeploy() is ExitStatus.OK
    assert not _has_role(fresh, account)


def test_no_access_role_at_all_is_refused(stage: Deploying) -> None:
    with pytest.raises(RefusedError, match="AccessRoleNames is empty and AccessRoleStackSet is false"):
        stage.deploy("AccessRoleNames=")
