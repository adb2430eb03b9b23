"""A source policy that can't grant access to newcomers: they get no role, and rows, log and alarm show why."""

import json
from collections.abc import Callable
from typing import NamedTuple

from local.organization import LocalOrganization, allow_policy
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
from tests.end_to_end.organization_changes import create_without_events

POLICY, PRINCIPAL = "Access", "Scanner"


class Cause(NamedTuple):
    """What blocks a source policy: its reason and remedy, and how the test creates and fixes it."""

    reason: str
    remedy: str
    create: Callable[[LocalOrganization], object]
    fix: Callable[[LocalOrganization], object]


def create_principal(organization: LocalOrganization) -> None:
    organization.create_source_principal(PRINCIPAL)


def create_policy(organization: LocalOrganization, name: str = POLICY) -> str:
    document = json.dumps(allow_policy("sts:AssumeRole", resource="arn:aws:iam::444455556666:role/Other"))
    created = organization.client("iam").create_policy(PolicyName=name, PolicyDocument=document)
    return str(created["Policy"]["Arn"])


def delete_policy(organization: LocalOrganization) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/{POLICY}"
    organization.client("iam").delete_policy(PolicyArn=arn)


def fill_quota(organization: LocalOrganization) -> None:
    iam = organization.client("iam")
    for number in range(iam.get_account_summary()["SummaryMap"]["AttachedPoliciesPerRoleQuota"]):
        iam.attach_role_policy(RoleName=PRINCIPAL, PolicyArn=create_policy(organization, f"Other{number}"))


def free_quota(organization: LocalOrganization) -> None:
    arn = f"arn:aws:iam::{organization.management_account_id}:policy/Other0"
    organization.client("iam").detach_role_policy(RoleName=PRINCIPAL, PolicyArn=arn)


CAUSES = (
    Cause("no_source_principal", "correct SourcePrincipalArns", lambda _: None, create_principal),
    Cause("quota", "detach other policies", fill_quota, free_quota),
    Cause("foreign_source_policy", "set another SourcePolicyName", create_policy, delete_policy),
)


def test_blocked_source_policy_stops_newcomers_until_it_is_fixed(
    organization: LocalOrganization, deploy: Deploy
) -> None:
    (newcomer,) = create_without_events(organization)
    principal = f"arn:aws:iam::{organization.management_account_id}:role/{PRINCIPAL}"
    stage = deploy("blocked", SourcePrincipalArns=principal, SourcePolicyName=POLICY)

    for cause in CAUSES:
        cause.create(organization)
        stage.invoke_and_wait("backfill")
        assert_blocked(stage, cause, newcomer)
        cause.fix(organization)
    organization.age_metrics(2 * 3600)
    stage.invoke_and_wait("resync")

    assert stage.accounts_with_outcome("enrolled") == set(stage.rows()) == stage.granted_accounts()
    assert stage.alarm_state("publishing-blocked") == "OK"
    assert stage.assume_member_role(newcomer, principal)


def assert_blocked(stage: DeployedStage, cause: Cause, newcomer: str) -> None:
    rows = stage.rows()
    assert rows.keys() == {newcomer, stage.organization.management_account_id}
    for account_id, row in rows.items():
        assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", cause.reason, 0)
        assert cause.remedy in row["error"]
        assert "access" not in row
        assert stage.role(account_id) is None
    assert [stage.message_count(queue) for queue in ("accounts-dlq", "publish-dlq.fifo")] == [0, 0]
    assert stage.records().shards == ()
    status = stage.records().status
    assert status
    assert status.blocked
    assert (status.blocked.reason, status.blocked.error) == (cause.reason, rows[newcomer]["error"])
    assert stage.alarm_state("publishing-blocked") == "ALARM"
    *_, line = (line for line in stage.log("publish") if line.get("message") == "publish")
    assert (line["level"], line["blocked"]) == ("WARNING", cause.reason)
