"""Run the lifecycle of accounts on a local AWS organization, and check every result.

Usage: python -m local.demo
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from local.demo_excerpt import absent_lines
from local.demo_output import Output
from local.demo_stage import STAGE, DemoStage, is_published
from local.organization import REGION, LocalOrganization, allow_policy, trust_policy
from local.waiting import wait_until

_ROOT = Path(__file__).parent.parent
_ROLE = "CrossAccountReadOnlyRole"


class Demo:
    """The steps of the demo, in the order in which `run` calls them."""

    def __init__(self, organization: LocalOrganization, output: Output) -> None:
        self._organization = organization
        self._stage = DemoStage(organization)
        self._output = output
        self._management = organization.management_account_id
        self._granted: set[str] = set()

    def run(self) -> None:
        """Set up an organization, deploy the app, create and close accounts, and check access after each step."""
        reader = self._organization.create_source_principal("Reader")
        account_trust = trust_policy(f"arn:aws:iam::{self._management}:root")
        # Its own policy allows every AssumeRole, so only the member role's trust policy can deny it.
        other = self._organization.create_role(
            self._management, "OtherRole", account_trust, inline=allow_policy("sts:AssumeRole")
        )
        legacy, sandbox, old = (self._organization.create_account(name) for name in ("legacy", "sandbox", "billing"))
        self._organization.create_role(legacy, _ROLE, account_trust)
        self._output.line(
            f"organization {self._organization.organization_id}: management {self._management}, billing {old}, legacy {legacy}, sandbox {sandbox}"
        )
        status = self._rolecall("deploy", STAGE, "--source-principal", reader, "--exclude-account", sandbox, "--yes")
        self._output.check(f"stage {STAGE} is deployed", passed=status == 0, detail=f"exit status {status}")
        self._backfill({self._management: "management", old: "billing", legacy: "legacy", sandbox: "sandbox"})
        self._show_source_policy("before")
        created = self._create_account("payments")
        self._show_role(created)
        self._show_source_policy("after")
        missed = self._create_account_without_event("analytics")
        self._output.heading("authorization checks: each call and the response from AWS")
        self._check_authorization(created, sandbox, reader, other)
        role = f"arn:aws:iam::{missed}:role/{_ROLE}"
        self._output.check_allowed(f"Reader: sts:AssumeRole {role} (analytics)", lambda: self._assume(role, reader))
        self._check_foreign_role(legacy, account_trust)
        self._check_closed_account(created, reader)
        self._use_command_line(reader)

    def _backfill(self, names: dict[str, str]) -> None:
        """Enroll the accounts that existed before the deployment, after a dry run."""
        self._output.heading("backfill: accounts created before the deployment")
        dry_run = self._stage.invoke("backfill", dry_run=True)["accounts"]
        planned = {each["account_id"]: _outcome(each) for each in dry_run}
        self._output.detail("dry run", "; ".join(f"{name} {planned[account]}" for account, name in names.items()))
        started = time.monotonic()
        counts = self._stage.invoke("backfill")["counts"]

        def is_done() -> bool:
            rows = self._stage.ledger()
            outcomes = {account_id: _outcome(row) for account_id, row in rows.items()}
            return outcomes == planned and all(map(is_published, rows.values()))

        wait_until(is_done, f"the ledger contains {planned}")
        self._output.check(
            f"every account's outcome matches the dry run, {time.monotonic() - started:.1f} s after backfill",
            passed=planned.keys() == names.keys(),
            detail=f"listed={counts['listed']} sent={counts['sent']} eligible={counts['eligible']}",
        )

    def _create_account(self, name: str) -> str:
        self._output.heading(f"organizations:CreateAccount {name}")
        self._stage.copy_events()
        started = time.monotonic()
        account_id = self._organization.create_account(name)
        event = self._stage.receive_event(account_id)
        status = json.dumps(event["detail"]["serviceEventDetails"]["createAccountStatus"])
        self._output.detail("event", f"{event['detail-type']}: {event['detail']['eventName']} {status}")
        self._stage.wait_for_outcome(account_id, "enrolled")
        seconds = time.monotonic() - started
        line = self._stage.log_line(account_id)
        fields = " ".join(f"{key}={_text(line[key])}" for key in ("outcome", "change", "actions", "access_role"))
        self._output.detail("enroll", f"{fields}; access granted {seconds:.1f} s after CreateAccount")
        return account_id

    def _create_account_without_event(self, name: str) -> str:
        """Create an account whose event is lost, and fire the rule of the hourly resync."""
        self._output.heading(f"organizations:CreateAccount {name}, with its event lost")
        self._organization.drop_events(dropped=True)
        account_id = self._organization.create_account(name)
        self._organization.drop_events(dropped=False)
        missed = account_id not in self._stage.ledger()
        self._organization.fire(f"rolecall-{STAGE}-discovery")
        row = self._stage.wait_for_outcome(account_id, "enrolled")
        self._output.check(
            f"{account_id} was not in the ledger; after the hourly resync: {row['outcome']}",
            passed=missed and row["trigger"] == "resync",
            detail=f"change={row['change']} trigger={row['trigger']} access={row['access']}",
        )
        return account_id

    def _show_role(self, account_id: str) -> None:
        iam = self._organization.client("iam", account_id)
        role = iam.get_role(RoleName=_ROLE)["Role"]
        attached = iam.list_attached_role_policies(RoleName=_ROLE)["AttachedPolicies"]
        inline = iam.list_role_policies(RoleName=_ROLE)["PolicyNames"]
        statement = role["AssumeRolePolicyDocument"]["Statement"][0]
        tags = ", ".join(f"{tag['Key']}={tag['Value']}" for tag in role["Tags"])
        names = ", ".join(policy["PolicyName"] for policy in attached)
        self._output.detail("role", f"{role['Arn']} ({tags})")
        self._output.detail("trust", f"{statement['Principal']['AWS']} where {json.dumps(statement['Condition'])}")
        self._output.detail("policies", f"{names}; inline {', '.join(inline)}")

    def _show_source_policy(self, title: str) -> None:
        version, statement = self._stage.source_policy()
        granted = set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"])
        self._output.source_policy(f"{title} ({version})", statement, granted - self._granted)
        self._granted = granted

    def _check_authorization(self, enrolled: str, other_account: str, reader: str, other_role: str) -> None:
        role = f"arn:aws:iam::{enrolled}:role/{_ROLE}"
        self._output.check_allowed(f"Reader: sts:AssumeRole {role}", lambda: self._assume(role, reader))
        session = self._organization.assume(role, self._organization.as_role(reader))
        iam = self._organization.client("iam", credentials=session)
        self._output.check_allowed(
            "… and iam:GetAccountSummary", lambda: f"Roles={iam.get_account_summary()['SummaryMap']['Roles']}"
        )
        ssm = self._organization.client("ssm", credentials=session)
        self._organization.client("ssm", enrolled).put_parameter(Name="/db/password", Value="secret", Type="String")
        self._output.check_denied("… and ssm:GetParameter /db/password", lambda: ssm.get_parameter(Name="/db/password"))
        self._output.check_denied(f"OtherRole: sts:AssumeRole {role}", lambda: self._assume(role, other_role))
        # This role trusts the reader, so only the source policy can deny it.
        condition = {"ArnEquals": {"aws:PrincipalArn": reader}}
        trust = trust_policy(f"arn:aws:iam::{self._management}:root", condition=condition)
        not_granted = self._organization.create_role(other_account, _ROLE, trust)
        self._output.check_denied(
            f"Reader: sts:AssumeRole {not_granted} (sandbox: not enrolled)",
            lambda: self._assume(not_granted, reader),
        )
        s3 = self._organization.client("s3", credentials=self._stage.access_role_session(enrolled))
        self._output.check_denied("enroll as OrganizationAccountAccessRole: s3:ListBuckets", s3.list_buckets)

    def _check_foreign_role(self, account_id: str, trust: Any) -> None:
        row = self._stage.wait_for_outcome(account_id, "failed")
        iam = self._organization.client("iam", account_id)
        role = iam.get_role(RoleName=_ROLE)["Role"]
        attached = iam.list_attached_role_policies(RoleName=_ROLE)["AttachedPolicies"]
        unchanged = role["AssumeRolePolicyDocument"] == trust and not role.get("Tags") and not attached
        self._output.check(
            f"legacy's own {_ROLE} is unchanged; ledger: {row['outcome']} {row['reason']}",
            passed=unchanged and row["reason"] == "foreign_role",
            detail="trust policy, tags and attached policies are the same",
        )

    def _check_closed_account(self, account_id: str, reader: str) -> None:
        self._organization.client("organizations").close_account(AccountId=account_id)
        row = self._stage.wait_for_outcome(account_id, "retired")
        role = f"arn:aws:iam::{account_id}:role/{_ROLE}"
        self._output.check_denied(
            f"after organizations:CloseAccount ({row['reason']}): Reader: sts:AssumeRole {role}",
            lambda: self._assume(role, reader),
        )

    def _use_command_line(self, reader: str) -> None:
        """Run an operator's commands, and write the report."""
        page = _ROOT / "build" / "demo" / "report.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.unlink(missing_ok=True)
        self._rolecall("resync")
        status = self._rolecall("status")
        self._output.check("status reports the failing account", passed=status == 1, detail=f"exit status {status}")
        status = self._rolecall("prove", "--reader-role", reader)
        self._output.check("access is exactly as configured", passed=status == 0, detail=f"exit status {status}")
        status = self._rolecall("report", str(page.relative_to(_ROOT)))
        self._output.check("the report is written", passed=status == 0, detail=f"open {page.relative_to(_ROOT)}")

    def _rolecall(self, *arguments: str) -> int:
        """Run the command line as root of the management account, and return its exit status."""
        self._output.heading(f"rolecall {' '.join(arguments)}")
        variables = {
            "AWS_ENDPOINT_URL": self._organization.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self._management,
            "AWS_SECRET_ACCESS_KEY": "test",
            "ROLECALL_STAGE": STAGE,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        command = [sys.executable, "-m", "rolecall", *arguments]
        return subprocess.run(command, cwd=_ROOT, env=inherited | variables, check=False).returncode

    def _assume(self, role: str, principal: str) -> str:
        session: Any = self._organization.assume(role, self._organization.as_role(principal))
        return f"session until {session['Expiration']:%H:%M:%S}"


def _outcome(account: dict[str, Any]) -> str:
    """Format the outcome of an account in a dry run's response or in the ledger."""
    return f"{account['outcome']} ({account.get('reason') or account['change']})"


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def main() -> int:
    """Run the demo, and return 0 if all checks passed, otherwise 1."""
    console = Console(highlight=False, record=True)
    output = Output(console)
    with LocalOrganization() as organization:
        console.print(
            "[bold]real:[/] zip, template, policies. "
            f"[bold]emulated:[/] AWS ({organization.endpoint_url}), by ministack: IAM's evaluation of the policies, too; "
            "delivery of CloudTrail events.",
            soft_wrap=True,
        )
        Demo(organization, output).run()
    output.summary()
    absent = list(absent_lines((_ROOT / "README.md").read_text(encoding="utf-8"), console.export_text()))
    for line in absent:
        output.line(f"README's excerpt has a line that was not printed: {line}")
    return 1 if output.failed or absent else 0


if __name__ == "__main__":
    sys.exit(main())
