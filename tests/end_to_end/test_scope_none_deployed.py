"""A deployed stage of scope none: a vendor's role reads, and no part of a source policy exists."""

import json

import pytest

from local.organization import LocalOrganization, allow_policy, trust_policy
from tests.end_to_end.command_line import CommandLine
from tests.end_to_end.deployed_stage import Deploy, DeployedStage
from tests.end_to_end.expected_errors import denied

OUTSIDE, EXTERNAL_ID = "555566667777", "id-of-the-vendor"


@pytest.fixture(scope="module")
def vendor(organization: LocalOrganization) -> str:
    """A role of an account outside of the organization that its administrators allow to assume any role."""
    organization.set_other_organization([OUTSIDE])
    trust = trust_policy(f"arn:aws:iam::{OUTSIDE}:root")
    return organization.create_role(OUTSIDE, "Scanner", trust, inline=allow_policy("sts:AssumeRole"))


@pytest.fixture(scope="module")
def stage(organization: LocalOrganization, deploy: Deploy, vendor: str) -> DeployedStage:
    own = f"arn:aws:iam::{organization.management_account_id}:root"
    return deploy("vendor", SourcePolicyScope="none", SourcePrincipalArns=f"{vendor},{own}", ExternalId=EXTERNAL_ID)


def test_vendors_role_reads_until_the_stage_is_uninstalled(
    organization: LocalOrganization, stage: DeployedStage, vendor: str
) -> None:
    account_id = organization.create_account("Workload")
    row = stage.wait_for_outcome(account_id, "enrolled")
    assert row["in_force_since"] == row["updated_at"]

    keys = stage.assume_member_role(account_id, vendor, ExternalId=EXTERNAL_ID)
    assert organization.client("iam", credentials=keys).get_account_summary()["SummaryMap"]
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id, vendor)

    names = {each["FunctionName"] for each in organization.client("lambda").list_functions()["Functions"]}
    assert not {stage.function("publish"), stage.function("freeze")} & names
    policies = organization.client("iam").list_policies(Scope="Local")["Policies"]
    assert [each["PolicyName"] for each in policies if "CrossAccount" in each["PolicyName"]] == []

    rolecall = CommandLine(organization, stage.name)
    resynced = rolecall("resync")
    assert resynced.returncode == 0, resynced.stdout + resynced.stderr
    status = json.loads(rolecall("status", "--json").stdout)
    assert (status["coverage"]["percent"], status["source_policy"]["scope"]) == (100, "none")
    assert [queue["name"] for queue in status["queues"]] == ["accounts", "accounts-dlq", "events-dlq"]
    assert rolecall("freeze", "--yes").stderr.count("no source policy to freeze") == 1
    checks = {each["name"]: each for each in json.loads(rolecall("doctor", "--json").stdout)["checks"]}
    for name in ("functions", "source principals", "attachments", "queues", "alarms", "source policy", "freeze"):
        assert checks[name]["status"] == "ok", checks[name]
    assert f"outside of the organization: {OUTSIDE}" in checks["source principals"]["summary"]

    uninstalled = rolecall("uninstall", "--yes")
    assert uninstalled.returncode == 0, uninstalled.stdout + uninstalled.stderr
    assert stage.role(account_id) is None
    with denied("sts:AssumeRole"):
        stage.assume_member_role(account_id, vendor, ExternalId=EXTERNAL_ID)
