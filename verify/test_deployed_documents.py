"""Deployed stages write the documents that the model of authorization is tested with."""

from dataclasses import replace
from typing import Any

from local.organization import LocalOrganization
from tests.end_to_end.authorization.world import (
    MEMBER_ROLES,
    Account,
    Membership,
    Principal,
    Record,
    Stage,
    World,
)
from tests.end_to_end.authorization.written import Document, FunctionPolicies, principal_arn, written
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
from tests.end_to_end.iam_roles import read_role
from tests.end_to_end.organization_changes import create_without_events

ENROLLED = Account(
    id="",
    membership=Membership.MEMBER,
    units=frozenset(),
    env=None,
    records=(Record.RECONCILED, Record.RECONCILED),
    roles=("", ""),
)


def deployed_world(source: str, enrolled: str, skipped: str, retired: str, departed: str) -> World:
    """Return a world with an account of each status, and a stage in each scope, one of them with an external id."""
    first = Stage(
        number=0,
        source_account=source,
        sources=("role/Reader", "user/Reader"),
        whole_organization=False,
        external_id="Secret-1",
        excluded_accounts=frozenset({skipped}),
        excluded_units=frozenset(),
        included_units=frozenset(),
        excluded_env=None,
        included_env=None,
        includes_management=False,
        attaches=True,
        frozen=False,
        others=0,
    )
    second = replace(first, number=1, sources=("role/Reader",), whole_organization=True, external_id="")
    return World(
        partition="aws",
        stages=(first, second),
        accounts=(
            replace(ENROLLED, id=enrolled),
            replace(ENROLLED, id=skipped, roles=(None, None)),
            replace(ENROLLED, id=retired, records=(Record.RETIRED, Record.RETIRED), roles=(None, None)),
            replace(ENROLLED, id=departed, membership=Membership.DEPARTED),
        ),
        principals=tuple(Principal(account_id=source, kind=kind, name="Reader") for kind in ("role", "user")),
        questions=(),
    )


def deployed_stage(deploy: Deploy, stage: Stage) -> DeployedStage:
    return deploy(
        f"stage{stage.number}",
        SourcePrincipalArns=",".join(f"arn:aws:iam::{stage.source_account}:{each}" for each in stage.sources),
        SourcePolicyScope="organization" if stage.whole_organization else "accounts",
        ExternalId=stage.external_id,
        MemberRoleName=stage.member_role,
        SourcePolicyName=stage.member_role,
        ExcludeAccountIds=",".join(stage.excluded_accounts),
        IncludeManagementAccount="false",
        Schedules="DISABLED",
    )


def source_policies(organization: LocalOrganization, principal: Principal) -> dict[str, Document]:
    """Return the default versions of the policies attached to a principal."""
    iam, documents = organization.client("iam", principal.account_id), {}
    kind = principal.kind
    attached = getattr(iam, f"list_attached_{kind}_policies")(**{f"{kind.title()}Name": principal.name})
    for policy in attached["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        content = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)
        documents[policy["PolicyName"]] = content["PolicyVersion"]["Document"]
    return documents


def trusts(organization: LocalOrganization, account: Account) -> dict[str, Document]:
    """Return the trust policies of the member roles in an account."""
    roles = {name: read_role(organization, account.id, name) for name in MEMBER_ROLES}
    return {f"arn:aws:iam::{account.id}:role/{name}": role["trust"] for name, role in roles.items() if role}


def test_deployed_stages_write_the_documents_of_the_model(
    organization: LocalOrganization, deploy: Deploy, functions: FunctionPolicies
) -> None:
    accounts = create_without_events(organization, 5)
    world = deployed_world(*accounts)
    source, _, _, retired, departed = accounts
    organization.create_source_principal("Reader", source)
    organization.client("iam", source).create_user(UserName="Reader")
    stages = [deployed_stage(deploy, each) for each in world.stages]
    for stage in stages:
        stage.invoke_and_wait("backfill", accounts=[each.id for each in world.accounts])
    organization.client("organizations").remove_account_from_organization(AccountId=departed)
    for stage in stages:
        stage.wait_for_outcome(departed, "retired", "departed")
        stage.invoke_and_wait("retire", accounts=[retired])
        stage.wait_for_outcome(retired, "retired", "retired_by_request")

    for frozen in (False, True):
        for stage in stages:
            stage.invoke("freeze", frozen=frozen)
        first, second = (replace(each, frozen=frozen) for each in world.stages)
        expected = written(replace(world, stages=(first, second)), organization.organization_id, functions)
        observed: dict[str, Any] = {}
        for account in world.accounts:
            observed |= trusts(organization, account)
        assert observed == expected.trusts
        for principal, held in expected.principals.items():
            assert source_policies(organization, principal) == held.source_policies, principal_arn(world, principal)
