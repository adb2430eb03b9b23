"""Changed settings take effect with one resync; changed names are refused."""

import pytest

from chalicelib.arns import AccountId
from chalicelib.aws.organizations import Organization as Organizations
from chalicelib.errors import RetryableError
from tests.integration.boundary import Boundary, writes
from tests.integration.organization import (
    MANAGEMENT,
    OTHER_PRINCIPAL,
    SOURCE_PRINCIPAL,
    STAGE_TAGS,
    Organization,
)
from tests.integration.stage import Stage
from tests.unit.builders import EXTRA, settings


def test_one_resync_applies_changed_settings(organization: Organization, boundary: Boundary) -> None:
    unit = organization.unit()
    kept, moved = Stage(organization).enroll_members(2)
    organization.move(moved, unit)
    organization.create_role(OTHER_PRINCIPAL)
    for account_id in (MANAGEMENT, kept, moved):
        organization.create_policy("Extra", account_id=account_id)
    changed = Stage(
        organization,
        SourcePrincipalArns=OTHER_PRINCIPAL,
        MemberRolePolicyArns="arn:{partition}:iam::aws:policy/SecurityAudit,arn:{partition}:iam::{account_id}:policy/Extra",
        DenyDataReads="false",
        MemberRoleMaxSession="7200",
        ExternalId="external-id",
        MemberRoleTags="team=security",
        PermissionsBoundaryArn="arn:aws:iam::{account_id}:policy/Extra",
        ExcludeOuIds=unit,
    )

    changed.run_and_drain("resync")

    for account_id in (MANAGEMENT, kept):
        extra = f"arn:aws:iam::{account_id}:policy/Extra"
        role = organization.role(account_id)
        assume, rest = role.trust["Statement"]
        assert assume["Condition"] == {
            "ArnEquals": {"aws:PrincipalArn": [OTHER_PRINCIPAL]},
            "StringEquals": {"sts:ExternalId": "external-id"},
        }
        assert rest["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [OTHER_PRINCIPAL]}}
        assert role.attached == {"arn:aws:iam::aws:policy/SecurityAudit", extra}
        assert (role.inline, role.max_session, role.boundary) == ({}, 7200, extra)
        assert role.tags == {**STAGE_TAGS, "team": "security"}
    policy = organization.policy()
    assert (policy.accounts, policy.attached) == ({MANAGEMENT, kept}, {"Other"})
    assert changed.status(moved) == ("retired", "excluded")
    # A role in an account that is not granted stays.
    assert organization.has_role(moved)

    with boundary.recording() as calls:
        changed.run_and_drain("resync")
    assert writes(calls, "iam:") == []


def test_principal_replaced_by_its_account_is_detached(organization: Organization) -> None:
    """The operator's own attachments stay."""
    Stage(organization).enroll_members(1)
    organization.create_role(OTHER_PRINCIPAL)
    organization.attach("Other")
    changed = Stage(organization, SourcePrincipalArns=f"arn:aws:iam::{MANAGEMENT}:root")

    changed.run_and_drain("resync")
    changed.run_and_drain("resync")

    assert organization.policy().attached == {"Other"}


def test_former_principal_is_detached_after_the_new_one_is_attached(
    organization: Organization, boundary: Boundary
) -> None:
    Stage(organization).enroll_members(1)
    organization.create_role(OTHER_PRINCIPAL)
    changed = Stage(organization, SourcePrincipalArns=OTHER_PRINCIPAL)
    changed.run("resync", {"accounts": "new"})
    attached: list[set[str]] = []
    for operation in ("iam:DetachRolePolicy", "iam:AttachRolePolicy"):
        boundary.edit_response(operation, lambda _: attached.append(organization.policy().attached))

    changed.publish()

    assert attached == [{"Reader", "Other"}, {"Other"}]


def _stage_in_another_source_account(organization: Organization) -> Stage:
    principal = f"arn:aws:iam::{organization.member('Source')}:role/Reader"
    organization.create_role(principal)
    return Stage(organization, SourcePrincipalArns=principal)


@pytest.mark.parametrize("setting", ["MEMBER_ROLE_NAME", "SOURCE_POLICY_NAME", "SOURCE_PRINCIPAL_ARNS' account"])
def test_another_name_or_source_account_blocks_enrollment(
    organization: Organization, boundary: Boundary, setting: str
) -> None:
    accounts = [MANAGEMENT, *Stage(organization).enroll_members(1)]
    if setting == "SOURCE_PRINCIPAL_ARNS' account":
        changed = _stage_in_another_source_account(organization)
    else:
        changed = Stage(organization, **{setting.title().replace("_", ""): "Renamed"})
    newcomer = organization.member("Newcomer")
    before = organization.policy(), [organization.role(account_id) for account_id in accounts]

    with boundary.recording() as calls:
        changed.enqueue(newcomer, *accounts)
        changed.drain()
        changed.run_and_drain("resync", accounts="new")

    assert writes(calls, "iam:") == []
    for account_id in (newcomer, *accounts):
        row = changed.row(account_id)
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "names_changed", 0)
        assert row["error"].startswith(f"{setting} is")
        assert "a second stage" in row["error"]
        assert '{"accounts": "all", "force": true}' in row["error"]
    assert changed.item("#status")["blocked"]["reason"] == "names_changed"
    assert (organization.policy(), [organization.role(account_id) for account_id in accounts]) == before

    restored = Stage(organization)
    assert "blocked" not in restored.item("#status")
    restored.run_and_drain("rerun")
    assert {restored.status(account_id) for account_id in (newcomer, *accounts)} == {("enrolled", None)}
    assert organization.granted() >= {newcomer, *accounts}


def test_freeze_under_another_source_account_is_not_in_force(organization: Organization) -> None:
    """Publish has no permissions in the former source account any more."""
    Stage(organization).enroll_members(1)
    changed = _stage_in_another_source_account(organization)

    response = changed.run("freeze", {"frozen": True}, seconds=7)

    assert (response["frozen"], response["in_force"]) == (True, False)
    assert response["why"].startswith("a read of IAM has not shown yet")
    assert "SOURCE_PRINCIPAL_ARNS' account is" in response["why"]
    assert Stage(organization).run("freeze", {"frozen": True})["in_force"] is True


@pytest.mark.parametrize("name", ["Renamed", "Reader"], ids=["another", "the source principal's"])
def test_changed_role_name_blocks_neither_freeze_nor_retirement(organization: Organization, name: str) -> None:
    """The recorded names stay in use for what is installed."""
    kept, retired = organization.member("Kept"), organization.member("Retired")
    Stage(organization).enroll(kept, retired)
    renamed = Stage(organization, MemberRoleName=name)

    response = renamed.run("freeze", {"frozen": True}, seconds=7)
    renamed.run_and_drain("retire", accounts=[retired])
    renamed.age_records(minutes=3)
    organization.detach()
    renamed.run_and_drain("resync", accounts="new")

    assert response == {"frozen": True, "in_force": True, "why": None}
    policy = organization.policy()
    assert (policy.accounts, policy.attached) == ({kept}, {"Reader"})
    assert "CrossAccountReadOnlyRole" in policy.document["Statement"][0]["Resource"]
    assert not organization.has_role(retired)
    assert renamed.status(retired) == ("retired", "retired_by_request")
    assert organization.has_role(kept)
    assert renamed.item("#status")["names"]["member_role_name"] == "CrossAccountReadOnlyRole"


def test_changed_policy_name_blocks_neither_freeze_nor_retirement(organization: Organization) -> None:
    kept, retired = organization.member("Kept"), organization.member("Retired")
    Stage(organization).enroll(kept, retired)
    renamed = Stage(organization, SourcePolicyName="Renamed")

    response = renamed.run("freeze", {"frozen": True}, seconds=7)
    renamed.run_and_drain("resync")
    renamed.run_and_drain("retire", accounts=[retired])

    assert response == {"frozen": True, "in_force": True, "why": None}
    policy = organization.policy()
    assert (policy.accounts, len(policy.denials)) == ({kept}, 1)
    assert not organization.has_role(retired)
    assert not organization.has_policy("Renamed")


@pytest.mark.parametrize("source", ["management", "separate"])
def test_uninstall_deletes_what_is_installed_under_former_names(organization: Organization, source: str) -> None:
    former = {}
    if source == "separate":
        former["SourcePrincipalArns"] = f"arn:aws:iam::{organization.member('Source')}:role/Reader"
        organization.create_role(former["SourcePrincipalArns"])
    source_account_id = former.get("SourcePrincipalArns", SOURCE_PRINCIPAL).split(":")[4]
    accounts = [MANAGEMENT, *Stage(organization, **former).enroll_members(2)]
    names = {"MemberRoleName": "Renamed"} | ({"SourcePolicyName": "Renamed"} if source == "separate" else {})
    renamed = Stage(organization, **former, **names)

    response = renamed.uninstall()[-1]

    assert (response["counts"], response["next"]) == ({"left": 0, "shards_left": 0}, None)
    assert [account_id for account_id in accounts if organization.has_role(account_id)] == []
    assert not organization.has_policy(account_id=source_account_id)
    assert set(renamed.items()) == {"#control"}
    renamed.run_and_drain("backfill")
    assert all(organization.has_role(account_id, "Renamed") for account_id in accounts)


def test_policy_of_a_former_name_grants_nothing_until_it_is_detached(organization: Organization) -> None:
    """In the management account, publish may not detach a policy of another name."""
    accounts = [MANAGEMENT, *Stage(organization).enroll_members(1)]
    renamed = Stage(organization, SourcePolicyName="Renamed")

    renamed.run_and_drain("retire", accounts="all", force=True)

    assert organization.granted() == set()
    error = renamed.item("CrossAccountReadOnlyAccess")["error"]
    assert error["error"].endswith(
        "role/Reader: detach it there, since publish doesn't with AttachSourcePolicy=false or another "
        "SourcePolicyName, and repeat the uninstall"
    )
    organization.detach()
    renamed.uninstall()
    assert not organization.has_policy()
    assert [account_id for account_id in accounts if organization.has_role(account_id)] == []


def test_another_source_account_delays_retirement(organization: Organization) -> None:
    """Publish can't revoke there, so the role stays."""
    (account_id,) = Stage(organization).enroll_members(1)
    changed = _stage_in_another_source_account(organization)

    planned = changed.run("retire", {"accounts": [account_id], "dry_run": True})["accounts"][0]
    changed.run_and_drain("retire", accounts=[account_id])

    assert organization.has_role(account_id)
    for error in (planned["error"], changed.row(account_id)["error"]):
        assert error.startswith("SOURCE_PRINCIPAL_ARNS' account is ")
    assert changed.row(account_id)["reason"] == "retired_by_request"


def test_dry_runs_show_what_is_installed_under_former_names(organization: Organization) -> None:
    kept, retired = organization.member("Kept"), organization.member("Retired")
    Stage(organization).enroll(kept, retired)
    renamed = Stage(organization, MemberRoleName="Renamed", SourcePolicyName="RenamedToo")

    planned = renamed.run("retire", {"accounts": [retired], "dry_run": True})

    (account,) = planned["accounts"]
    assert account["actions"][-1]["before"] == f"arn:aws:iam::{retired}:role/CrossAccountReadOnlyRole"
    (shard,) = planned["source_policy"]
    assert (shard["policy_name"], shard["revoked"]) == ("CrossAccountReadOnlyAccess", [retired])


def test_documents_are_filled_in_with_no_more_calls_and_deleted(organization: Organization, boundary: Boundary) -> None:
    accounts = Stage(organization).enroll_members(3)
    document = EXTRA.replace('"*"', '"*","Condition":{"StringEquals":{"aws:ResourceOrgID":"{organization_id}"}}')
    described = []
    for text in (EXTRA, document):
        changed = Stage(organization, MemberRolePolicies=f'{{"Extra":{text}}}')
        with boundary.recording() as calls:
            changed.run_and_drain("resync")
        described.append([call.operation for call in calls if call.operation.startswith("organizations:")])

    assert sorted(described[0]) == sorted(described[1])
    organization_id = organization.organizations.describe_organization()["Organization"]["Id"]
    for account_id in (*accounts, MANAGEMENT):
        condition = organization.role(account_id).inline["Extra"]["Statement"]["Condition"]
        assert condition == {"StringEquals": {"aws:ResourceOrgID": organization_id}}
    Stage(organization).run_and_drain("resync")
    assert organization.role(MANAGEMENT).inline.keys() == {"DenyDataReads"}


def test_organizations_id_is_read_from_one_account(organization: Organization) -> None:
    described: list[str] = []
    client = organization.organizations
    client.meta.events.register("before-call.organizations.DescribeAccount", lambda **_: described.append("once"))
    found = Organizations(settings(), client, lambda: None)
    with pytest.raises(RetryableError, match="not ready yet"):
        found.id_of(AccountId("999999999999"))
    described.clear()

    ids = {found.id_of(AccountId(each)) for each in (MANAGEMENT, MANAGEMENT, organization.member())}

    assert ids == {client.describe_organization()["Organization"]["Id"]}
    assert described == ["once"]
