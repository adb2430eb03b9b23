"""Settings that change while accounts are enrolled: a full resync applies them, but other names are refused."""

import json

from local.organization import LocalOrganization
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import Deploy, DeployedStage, environment_changed
from tests.end_to_end.expected_errors import denied
from tests.end_to_end.iam_roles import read_role
from tests.end_to_end.organization_changes import (
    attached_policies,
    create_unit,
    create_without_events,
    move_account,
    tag_account,
)

AUDIT = "arn:aws:iam::aws:policy/SecurityAudit"
EXTERNAL_ID = "secret-of-the-reader"
EXTRA = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Action": "macie2:GetMacieSession",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceOrgID": "{organization_id}"}},
    },
}
"""A document of the operator's."""


def enrolled(deploy: Deploy, name: str, **parameters: str) -> DeployedStage:
    """Deploy a stage with its own names, and enroll every account in it."""
    stage = deploy(name.lower(), MemberRoleName=name, SourcePolicyName=name, **parameters)
    stage.invoke_and_wait("backfill")
    return stage


def test_full_resync_applies_changed_settings(deploy: Deploy, organization: LocalOrganization, reader: str) -> None:
    kept, excluded, tagged = create_without_events(organization, 3)
    tag_account(organization, tagged, access="none")
    organization.client("ssm", kept).put_parameter(Name="/open", Value="data", Type="String")
    outside = create_unit(organization, "Outside")
    stage = enrolled(deploy, "Changing", SourcePrincipalArns=reader)
    move_account(organization, excluded, outside)
    stage.invoke_and_wait("resync")
    assert stage.granted_accounts() >= {kept, excluded, tagged}
    assert stage.assume_member_role(kept)
    successor = organization.create_source_principal("Successor")

    names = {"MemberRoleName": "Changing", "SourcePolicyName": "Changing"}
    policies = f"{AUDIT},arn:aws:iam::aws:policy/ReadOnlyAccess"
    role = {
        "MemberRolePolicyArns": policies,
        "MemberRolePolicies": json.dumps({"Extra": EXTRA}),
        "DenyDataReadsExcept": "ssm:GetParameter",
        "ExternalId": EXTERNAL_ID,
    }
    deploy("changing", SourcePrincipalArns=successor, ExcludeOuIds=outside, ExcludeTags="access=none", **role, **names)
    stage.invoke_and_wait("resync")

    assert "Changing" not in attached_policies(organization)
    assert "Changing" in attached_policies(organization, "Successor")
    session = stage.assume_member_role(kept, successor, ExternalId=EXTERNAL_ID)
    assert organization.client("ssm", credentials=session).get_parameter(Name="/open")["Parameter"]["Value"] == "data"
    with denied("sts:AssumeRole"):
        stage.assume_member_role(kept, successor)
    with denied("sts:AssumeRole"):
        stage.assume_member_role(kept, reader, ExternalId=EXTERNAL_ID)
    stage.wait_for_outcome(excluded, "retired", "excluded")
    stage.wait_for_outcome(tagged, "retired", "excluded_by_tag")
    assert stage.granted_accounts().isdisjoint({excluded, tagged})
    with denied("sts:AssumeRole"):
        stage.assume_member_role(excluded, successor, ExternalId=EXTERNAL_ID)
    changed = stage.role(kept)
    assert changed
    assert AUDIT in changed["attached"]
    assert changed["inline"].keys() == {"DenyDataReads", "Extra"}
    condition = changed["inline"]["Extra"]["Statement"]["Condition"]
    assert condition == {"StringEquals": {"aws:ResourceOrgID": organization.organization_id}}
    versions = stage.policy_versions()
    stage.age_records()
    stage.invoke_and_wait("resync")
    assert stage.policy_versions() == versions
    assert stage.invoke_and_wait("resync")["source_policy"] == []


def test_broken_change_stops_after_a_wave_until_it_is_taken_back(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    create_without_events(organization, 3)
    names = {"MemberRoleName": "Waves", "SourcePolicyName": "Waves", "SourcePrincipalArns": reader}
    stage = enrolled(deploy, "Waves", SourcePrincipalArns=reader)
    roles = stage.accounts_with_outcome("enrolled")
    wave = len(roles) * 50 // 100
    rolecall = CommandLine(organization, "waves")

    deploy("waves", RolloutPercent="50", MemberRolePolicyArns=f"{AUDIT},arn:aws:iam::aws:policy/Missing", **names)
    stage.invoke_and_wait("resync")
    resync, status = rolecall("resync"), rolecall("status")

    failed = stage.accounts_with_outcome("failed")
    assert len(failed) == wave
    assert f"0 of {len(roles)} roles at the current settings; waits: {wave} failed (no_such_policy)" in status.stdout
    assert (resync.returncode, status.returncode) == (1, 1)
    assert "The rollout is stopped" in resync.stdout
    assert stage.alarm_state("accounts-need-attention") == "ALARM"
    for account_id in roles - failed:
        assert AUDIT not in (stage.role(account_id) or {})["attached"]

    deploy("waves", RolloutPercent="50", **names)
    stage.invoke_and_wait("resync")

    assert stage.accounts_with_outcome("enrolled") == roles == stage.granted_accounts()
    for account_id in roles:
        assert (stage.role(account_id) or {})["attached"] == {"arn:aws:iam::aws:policy/ReadOnlyAccess"}
    assert "current settings" not in rolecall("status").stdout


def test_changed_names_stop_newcomers_and_revoke_nothing(
    deploy: Deploy, organization: LocalOrganization, reader: str
) -> None:
    (account_id,) = create_without_events(organization)
    stage = enrolled(deploy, "Named", SourcePrincipalArns=reader)
    policy = stage.source_policy()
    for variable, changed in (
        ("MEMBER_ROLE_NAME", "Renamed"),
        ("SOURCE_POLICY_NAME", "Renamed"),
        ("SOURCE_PRINCIPAL_ARNS", f"arn:aws:iam::{account_id}:role/Reader"),
    ):
        (newcomer,) = create_without_events(organization)
        with environment_changed(stage, "enroll", "publish", **{variable: changed}):
            stage.invoke_and_wait("backfill", accounts=[account_id, newcomer])
        for each in (account_id, newcomer):
            assert variable in stage.wait_for_outcome(each, "failed", "names_changed")["error"]
        assert read_role(organization, newcomer, "Named") is read_role(organization, newcomer, "Renamed") is None
        assert stage.alarm_state("publishing-blocked") == "ALARM"

    assert (stage.source_policy(), "Renamed" in attached_policies(organization)) == (policy, False)
    assert stage.assume_member_role(account_id)
    stage.invoke_and_wait("resync")

    assert stage.accounts_with_outcome("enrolled") == set(stage.rows()) == stage.granted_accounts()
    assert stage.assume_member_role(account_id)
