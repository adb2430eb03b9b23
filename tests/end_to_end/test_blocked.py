"""A source policy that can't grant access to newcomers: no role is created for them, and everything says why and what to do."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from chalicelib.errors import Reason
from local.organization import LocalOrganization, allowing
from rolecall.reasons import REMEDY
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import Deploy
from tests.end_to_end.swept_stage import SweptStage, unheard_of


@dataclass(frozen=True)
class Cause:
    """What blocks a source policy: the reason, a part of the remedy, what causes it and what ends it again."""

    reason: str
    remedy: str
    begin: Callable[[LocalOrganization, str], object]
    end: Callable[[LocalOrganization, str], object]


def create_policy(organization: LocalOrganization, name: str) -> None:
    document = json.dumps(allowing("sts:AssumeRole", resource="arn:aws:iam::444455556666:role/Other"))
    organization.client("iam").create_policy(PolicyName=name, PolicyDocument=document)


def delete_policy(organization: LocalOrganization, name: str) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/{name}"
    organization.client("iam").delete_policy(PolicyArn=arn)


def fill_quota(organization: LocalOrganization, name: str) -> None:
    iam = organization.client("iam")
    organization.create_source_principal(name)
    for number in range(iam.get_account_summary()["SummaryMap"]["AttachedPoliciesPerRoleQuota"]):
        create_policy(organization, f"Other{number}")
        arn = f"arn:aws:iam::{organization.management_account_id}:policy/Other{number}"
        iam.attach_role_policy(RoleName=name, PolicyArn=arn)


def free_quota(organization: LocalOrganization, name: str) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/Other0"
    organization.client("iam").detach_role_policy(RoleName=name, PolicyArn=arn)


def begin_foreign(organization: LocalOrganization, name: str) -> None:
    organization.create_source_principal(name)
    create_policy(organization, name)


CAUSES = {
    "Foreign": Cause("foreign_source_policy", "set another SourcePolicyName", begin_foreign, delete_policy),
    "Missing": Cause(
        "no_source_principal", "correct SourcePrincipalArns", lambda *_: None, LocalOrganization.create_source_principal
    ),
    "Full": Cause("quota", "detach other policies", fill_quota, free_quota),
}


@pytest.fixture(params=CAUSES)
def blocked(
    organization: LocalOrganization, deploy: Deploy, request: pytest.FixtureRequest
) -> tuple[SweptStage, Cause]:
    name = request.param
    CAUSES[name].begin(organization, name)
    principal = f"arn:aws:iam::{organization.management_account_id}:role/{name}"
    deployed = deploy(
        name.lower(), SourcePrincipalArns=principal, MemberRoleName=f"{name}Member", SourcePolicyName=name
    )
    return SweptStage(organization, deployed.name), CAUSES[name]


def test_a_blocked_source_policy_stops_newcomers_until_the_next_resync_after_its_end(
    organization: LocalOrganization, blocked: tuple[SweptStage, Cause]
) -> None:
    stage, cause = blocked
    name = stage.settings.source_policy_name
    (newcomer,) = unheard_of(organization)
    stage.sweep("backfill")

    rows = stage.rows()
    assert newcomer in rows
    for account_id, row in rows.items():
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", cause.reason, 0)
        assert cause.remedy in row["error"]
        assert "access" not in row
        assert stage.role(account_id) is None
    assert [stage.waiting(each) for each in ("accounts-dlq", "publish-dlq.fifo")] == [0, 0]
    assert stage.records().shards == ()
    status = stage.records().status
    assert status
    assert status.blocked
    assert (status.blocked.reason, status.blocked.error) == (cause.reason, rows[newcomer]["error"])
    assert stage.alarm("publishing-blocked") == "ALARM"
    logged = [line for line in stage.log("publish") if line.get("message") == "publish"][-1]
    assert (logged["level"], logged["blocked"]) == ("WARNING", cause.reason)
    told = CommandLine(organization, stage.name)("status")
    assert (told.returncode, told.stderr) == (1, "")
    assert f"publishing is blocked: {cause.reason}: {rows[newcomer]['error']}" in told.stdout.splitlines()[-1]
    shown = CommandLine(organization, stage.name)("show", newcomer)
    assert f"failed: {cause.reason}" in " ".join(shown.stdout.split())
    assert REMEDY[Reason(cause.reason)].split(":")[0] in " ".join(shown.stdout.split())

    cause.end(organization, name)
    organization.age_metrics(2 * 3600)
    stage.sweep("resync")

    assert stage.with_outcome("enrolled") == set(rows) == stage.named()
    assert stage.alarm("publishing-blocked") == "OK"
    session = organization.as_role(f"arn:aws:iam::{organization.management_account_id}:role/{name}")
    assert organization.assume(stage.member_role(newcomer), session)
