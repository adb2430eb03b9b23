"""Settings that change while accounts are enrolled: one resync applies what may change, and the rest stops newcomers."""

from typing import Any

from local.organization import LocalOrganization
from tests.end_to_end.deployed_stage import Deploy
from tests.end_to_end.emulator.refusals import denied
from tests.end_to_end.roles_in_iam import role_of
from tests.end_to_end.swept_stage import SweptStage, attached_to, move, unheard_of, unit

ANOTHER = "arn:aws:iam::aws:policy/SecurityAudit"
EXTERNAL_ID = "told-by-the-reader"


def enrolled(deploy: Deploy, organization: LocalOrganization, name: str, **parameters: str) -> SweptStage:
    """Deploy a stage with names of its own, and enroll every account in it."""
    names = {"MemberRoleName": name, "SourcePolicyName": name}
    stage = SweptStage(organization, deploy(name.lower(), **names, **parameters).name)
    stage.sweep("backfill")
    return stage


def reads(stage: SweptStage, account_id: str, principal: str, **request: Any) -> Any:
    return stage.organization.assume(stage.member_role(account_id), stage.organization.as_role(principal), **request)


def test_one_resync_brings_about_changed_settings(deploy: Deploy, organization: LocalOrganization, reader: str) -> None:
    kept, left_out = unheard_of(organization, 2)
    outside = unit(organization, "Outside")
    stage = enrolled(deploy, organization, "Changing", SourcePrincipalArns=reader)
    move(organization, left_out, outside)
    stage.sweep("resync")
    assert stage.named() >= {kept, left_out}
    assert reads(stage, kept, reader)
    successor = organization.create_source_principal("Successor")

    deploy(
        "changing",
        MemberRoleName="Changing",
        SourcePolicyName="Changing",
        SourcePrincipalArns=successor,
        MemberRolePolicyArns=ANOTHER,
        ExternalId=EXTERNAL_ID,
        ExcludeOuIds=outside,
    )
    stage.sweep("resync")

    assert "Changing" not in attached_to(organization)
    assert "Changing" in attached_to(organization, "Successor")
    role = stage.role(kept)
    assert role
    assert role["attached"] == {ANOTHER}
    assert reads(stage, kept, successor, ExternalId=EXTERNAL_ID)
    with denied("sts:AssumeRole"):
        reads(stage, kept, successor)
    with denied("sts:AssumeRole"):
        reads(stage, kept, reader, ExternalId=EXTERNAL_ID)
    stage.settled(left_out, "retired", "excluded")
    assert left_out not in stage.named()
    with denied("sts:AssumeRole"):
        reads(stage, left_out, successor, ExternalId=EXTERNAL_ID)
    versions = stage.versions()
    stage.age_records()
    stage.sweep("resync")
    assert stage.versions() == versions
    assert stage.sweep("resync")["source_policy"] == []


def test_changed_names_stop_newcomers_and_revoke_nothing(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    (account_id,) = unheard_of(organization)
    stage = enrolled(deploy, organization, "Named", SourcePrincipalArns=reader)
    policy, right = stage.source_policy(), stage.environment
    functions = organization.client("lambda")
    for variable, changed, named in (
        ("MEMBER_ROLE_NAME", "Renamed", "MEMBER_ROLE_NAME"),
        ("SOURCE_POLICY_NAME", "Renamed", "SOURCE_POLICY_NAME"),
        ("SOURCE_PRINCIPAL_ARNS", f"arn:aws:iam::{account_id}:role/Reader", "SOURCE_PRINCIPAL_ARNS' account"),
    ):
        for function in ("enroll", "publish"):
            functions.update_function_configuration(
                FunctionName=stage.function(function), Environment={"Variables": right | {variable: changed}}
            )
        (newcomer,) = unheard_of(organization)
        stage.sweep("backfill", accounts=[account_id, newcomer])
        for each in (account_id, newcomer):
            error = stage.settled(each, "failed", "names_changed")["error"]
            assert error.startswith(named)
            assert "retire" in error
            assert "second stage" in error
        assert role_of(organization, newcomer, "Named") is role_of(organization, newcomer, "Renamed") is None
        assert stage.alarm("publishing-blocked") == "ALARM"

    for function in ("enroll", "publish"):
        functions.update_function_configuration(FunctionName=stage.function(function), Environment={"Variables": right})
    assert (stage.source_policy(), "Renamed" in attached_to(organization)) == (policy, False)
    assert reads(stage, account_id, reader)
    stage.sweep("resync")

    assert stage.with_outcome("enrolled") == set(stage.rows())
    assert stage.named() == set(stage.rows())
    assert reads(stage, account_id, reader)
