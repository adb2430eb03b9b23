"""The main job for real, on a local AWS organization: an account is created, and everything that follows is shown and proved.

Usage: python -m local.demo
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console
from rich.markup import escape

from chalicelib.documents import Document
from chalicelib.session_policies import member_role_write
from chalicelib.settings import Settings
from local.organization import REGION, Credentials, LocalOrganization, allowing, trusting
from local.waiting import until

STAGE = "demo"
_ROOT = Path(__file__).parent.parent
_ROLE = "CrossAccountReadOnlyRole"


class Demo:
    """Tells each step as it happens, and counts the proofs that did not hold."""

    def __init__(self, organization: LocalOrganization, console: Console) -> None:
        self._organization = organization
        self._console = console
        self._management = organization.management_account_id
        self._named: set[str] = set()
        self.failed = 0

    def run(self) -> None:
        """Set the scene, let the account be created, show what became of it, and prove it."""
        reader = self._organization.create_source_principal("Reader")
        # May assume whatever trusts it, so that only the member role's trust stands in its way.
        anyone = trusting(f"arn:aws:iam::{self._management}:root")
        stranger = self._organization.create_role(
            self._management, "Stranger", anyone, inline=allowing("sts:AssumeRole")
        )
        legacy, sandbox, old = (self._organization.create_account(name) for name in ("legacy", "sandbox", "billing"))
        self._organization.create_role(legacy, _ROLE, anyone)
        self._say(
            f"organization {self._organization.organization_id}: management {self._management}, billing {old}, legacy {legacy}, sandbox {sandbox}"
        )
        with TemporaryDirectory() as package:
            _package(Path(package))
            started = time.monotonic()
            parameters = {"SourcePrincipalArns": reader, "ExcludeAccountIds": sandbox}
            self._organization.deploy(STAGE, Path(package), parameters)
        self._say(
            f"deployed stage {STAGE} by CloudFormation in {time.monotonic() - started:.1f} s; source principal {reader}"
        )
        self._backfill({self._management: "management", old: "billing", legacy: "legacy", sandbox: "sandbox"})
        self._policy("before")
        created = self._create("payments")
        self._show_role(created)
        self._policy("after")
        lost = self._lose("analytics")
        self._heading("the proof: each call, and AWS's answer")
        self._prove(created, sandbox, reader, stranger)
        healed = f"arn:aws:iam::{lost}:role/{_ROLE}"
        self._allowed(f"Reader: sts:AssumeRole {healed} (analytics)", lambda: self._session(healed, reader))
        self._prove_foreign(legacy, anyone)
        self._prove_closed(created, reader)
        self._command_line(reader)
        self._end()

    def _backfill(self, names: dict[str, str]) -> None:
        """Enroll the accounts that are older than the deployment, after a look at what that would do."""
        self._heading("backfill: the accounts that are older than the deployment")
        previewed = self._invoke("backfill", dry_run=True)["accounts"]
        planned = {each["account_id"]: _standing(each) for each in previewed}
        self._tell("dry run", "; ".join(f"{name} {planned[account_id]}" for account_id, name in names.items()))
        started = time.monotonic()
        counts = self._invoke("backfill")["counts"]

        def done() -> bool:
            rows = self._organization.ledger(STAGE)
            listed = {account_id: _standing(row) for account_id, row in rows.items()}
            return listed == planned and all(map(_is_published, rows.values()))

        until(done, f"the ledger says {planned}")
        self._held(
            f"each is in the ledger as the dry run told, {time.monotonic() - started:.1f} s after backfill was invoked",
            held=planned.keys() == names.keys(),
            answer=f"listed={counts['listed']} sent={counts['sent']} eligible={counts['eligible']}",
        )

    def _lose(self, name: str) -> str:
        """Create an account whose event is lost, and let the resync that runs every hour be due now."""
        self._heading(f"organizations:CreateAccount {name}, and its event is lost")
        self._organization.drop_events(dropped=True)
        account_id = self._organization.create_account(name)
        self._organization.drop_events(dropped=False)
        unknown = account_id not in self._organization.ledger(STAGE)
        self._organization.fire(f"rolecall-{STAGE}-discovery")
        self._enrolled(account_id)
        row = self._organization.ledger(STAGE)[account_id]
        self._held(
            f"the ledger did not know {account_id}; after the next resync: {row['outcome']}",
            held=unknown and row["trigger"] == "resync",
            answer=f"change={row['change']} trigger={row['trigger']} access={row['access']}",
        )
        return account_id

    def _invoke(self, function: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._organization.invoke(f"rolecall-{STAGE}-{function}", request)
        return answer

    def _session(self, role: str, reader: str) -> str:
        session: Any = self._organization.assume(role, self._organization.as_role(reader))
        return f"session until {session['Expiration']:%H:%M:%S}"

    def _create(self, name: str) -> str:
        self._heading(f"organizations:CreateAccount {name}")
        listener = self._listen()
        started = time.monotonic()
        account_id = self._organization.create_account(name)
        event = self._hear(listener, account_id)
        status = json.dumps(event["detail"]["serviceEventDetails"]["createAccountStatus"])
        self._tell("event", f"{event['detail-type']}: {event['detail']['eventName']} {status}")
        self._enrolled(account_id)
        waited = time.monotonic() - started
        line = self._log_line(account_id)
        told = " ".join(f"{key}={_plain(line[key])}" for key in ("outcome", "change", "actions", "access_role"))
        self._tell("worker", f"{told}; in the ledger {waited:.1f} s after CreateAccount was called")
        return account_id

    def _listen(self) -> str:
        """Have every event of Organizations copied to a queue of the demo's own, to show it as it was delivered."""
        sqs, events = self._organization.client("sqs"), self._organization.client("events")
        url: str = sqs.create_queue(QueueName="heard")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name="heard", EventPattern=json.dumps({"source": ["aws.organizations"]}))
        events.put_targets(Rule="heard", Targets=[{"Id": "heard", "Arn": arn}])
        return url

    def _hear(self, listener: str, account_id: str) -> dict[str, Any]:
        sqs = self._organization.client("sqs")

        def found() -> dict[str, Any] | None:
            for message in sqs.receive_message(QueueUrl=listener).get("Messages", []):
                if account_id in message["Body"]:
                    return dict(json.loads(message["Body"]))
            return None

        return until(found, f"an event tells of account {account_id}")

    def _enrolled(self, account_id: str) -> None:
        self._settled(account_id, "enrolled")

    def _settled(self, account_id: str, outcome: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            row = self._organization.ledger(STAGE).get(account_id)
            return row if row is not None and row["outcome"] == outcome and _is_published(row) else None

        return until(found, f"account {account_id} is {outcome}", 30)

    def _log_line(self, account_id: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            for line in self._organization.logs(f"rolecall-{STAGE}-enroll"):
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("message") == "account" and entry.get("account_id") == account_id:
                    return dict(entry)
            return None

        return until(found, f"the worker logs account {account_id}", 30)

    def _show_role(self, account_id: str) -> None:
        iam = self._organization.client("iam", account_id)
        role = iam.get_role(RoleName=_ROLE)["Role"]
        attached = iam.list_attached_role_policies(RoleName=_ROLE)["AttachedPolicies"]
        inline = iam.list_role_policies(RoleName=_ROLE)["PolicyNames"]
        statement = role["AssumeRolePolicyDocument"]["Statement"][0]
        tags = ", ".join(f"{tag['Key']}={tag['Value']}" for tag in role["Tags"])
        self._tell("role", f"{role['Arn']} ({tags})")
        self._tell("trust", f"{statement['Principal']['AWS']} where {json.dumps(statement['Condition'])}")
        self._tell("policies", f"{', '.join(policy['PolicyName'] for policy in attached)}; inline {', '.join(inline)}")

    def _policy(self, title: str) -> None:
        iam = self._organization.client("iam")
        arn = f"arn:aws:iam::{self._management}:policy/CrossAccountReadOnlyAccess"
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        statement = document["Statement"][0]
        named = set(statement["Condition"]["StringEquals"]["aws:ResourceAccount"])
        self._console.print(f"[bold]source policy {title}[/] ({version}), attached to Reader:", soft_wrap=True)
        text = escape(
            f"{', '.join(statement['Action'])} on {statement['Resource']} where {json.dumps(statement['Condition'])}"
        )
        for account_id in named - self._named:
            text = text.replace(account_id, f"[bold green]{account_id}[/]")
        self._named = named
        self._console.print(f"  {text}", soft_wrap=True)

    def _prove(self, enrolled: str, other: str, reader: str, stranger: str) -> None:
        role = f"arn:aws:iam::{enrolled}:role/{_ROLE}"
        as_reader = self._organization.as_role(reader)
        session: dict[str, Credentials] = {}

        def assume() -> Any:
            session["member"] = self._organization.assume(role, as_reader)
            return f"session until {session['member']['Expiration']:%H:%M:%S}"

        self._allowed(f"Reader: sts:AssumeRole {role}", assume)
        iam = self._organization.client("iam", credentials=session["member"])
        self._allowed(
            "… and iam:GetAccountSummary", lambda: f"Roles={iam.get_account_summary()['SummaryMap']['Roles']}"
        )
        ssm = self._organization.client("ssm", credentials=session["member"])
        self._organization.client("ssm", enrolled).put_parameter(Name="/db/password", Value="secret", Type="String")
        self._denied("… and ssm:GetParameter /db/password", lambda: ssm.get_parameter(Name="/db/password"))
        as_stranger = self._organization.as_role(stranger)
        self._denied(f"Stranger: sts:AssumeRole {role}", lambda: self._organization.assume(role, as_stranger))
        self._twin_role(other, reader)
        elsewhere = f"arn:aws:iam::{other}:role/{_ROLE}"
        self._denied(
            f"Reader: sts:AssumeRole {elsewhere} (sandbox: not enrolled)",
            lambda: self._organization.assume(elsewhere, as_reader),
        )
        narrowed = self._narrowed_session(enrolled)
        s3 = self._organization.client("s3", credentials=narrowed)
        self._denied("worker's OrganizationAccountAccessRole session, narrowed: s3:ListBuckets", s3.list_buckets)

    def _twin_role(self, account_id: str, reader: str) -> None:
        """Put a role there that trusts the reader, so that only the source policy stands between them."""
        condition = {"ArnEquals": {"aws:PrincipalArn": reader}}
        trust = trusting(f"arn:aws:iam::{self._management}:root", condition=condition)
        self._organization.create_role(account_id, _ROLE, trust)

    def _narrowed_session(self, account_id: str) -> Credentials:
        """Assume the access role just as the worker does: with the session policy that its own settings give."""
        functions = self._organization.client("lambda")
        configuration = functions.get_function_configuration(FunctionName=f"rolecall-{STAGE}-enroll")
        policy: Document = member_role_write(Settings.from_env(configuration["Environment"]["Variables"]), account_id)
        access_role = f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole"
        return self._organization.assume(access_role, Policy=policy.text)

    def _prove_foreign(self, account_id: str, trust: Any) -> None:
        row = self._settled(account_id, "failed")
        iam = self._organization.client("iam", account_id)
        role = iam.get_role(RoleName=_ROLE)["Role"]
        attached = iam.list_attached_role_policies(RoleName=_ROLE)["AttachedPolicies"]
        untouched = role["AssumeRolePolicyDocument"] == trust and not role.get("Tags") and not attached
        self._held(
            f"legacy's own {_ROLE} is as it was; ledger: {row['outcome']} {row['reason']}",
            held=untouched and row["reason"] == "foreign_role",
            answer="trust, tags and policies unchanged",
        )

    def _prove_closed(self, account_id: str, reader: str) -> None:
        self._organization.client("organizations").close_account(AccountId=account_id)
        row = self._settled(account_id, "retired")
        as_reader = self._organization.as_role(reader)
        role = f"arn:aws:iam::{account_id}:role/{_ROLE}"
        self._denied(
            f"after organizations:CloseAccount ({row['reason']}): Reader: sts:AssumeRole {role}",
            lambda: self._organization.assume(role, as_reader),
        )

    def _allowed(self, call: str, ask: Callable[[], Any]) -> None:
        try:
            self._held(call, held=True, answer=str(ask()))
        except ClientError as error:
            self._held(call, held=False, answer=str(error))

    def _denied(self, call: str, ask: Callable[[], Any]) -> None:
        try:
            answer = ask()
        except ClientError as error:
            told = error.response["Error"]
            denied = told["Code"] in {"AccessDenied", "AccessDeniedException"}
            message = re.sub(r"^User: \S+ is ", "", told["Message"])
            self._held(call, held=denied, answer=f"{told['Code']}: {message}")
        else:
            self._held(call, held=False, answer=f"was allowed: {answer}")

    def _held(self, call: str, *, held: bool, answer: str) -> None:
        self.failed += not held
        mark = "[green]✔[/]" if held else "[red]✘[/]"
        self._console.print(f" {mark} {escape(call)}", soft_wrap=True)
        self._console.print(f"     [dim]{escape(answer)}[/]", soft_wrap=True)

    def _heading(self, text: str) -> None:
        self._console.print(f"[bold cyan]{escape(text)}[/]", soft_wrap=True)

    def _tell(self, what: str, text: str) -> None:
        self._console.print(f"  [bold]{what:<8}[/] {escape(text)}", soft_wrap=True)

    def _say(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)

    def _command_line(self, reader: str) -> None:
        """Look at the stage as its operators do, and leave the page that auditors get."""
        page = _ROOT / "build" / "demo" / "report.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        self._rolecall("resync")
        # The role that is not ours is left to a person, so not all is well.
        self._held("not all is well, and the exit status says so", held=self._rolecall("status") == 1, answer="1")
        proved = self._rolecall("prove", "--reader-role", reader) == 0
        self._held("all that is claimed of the reader holds", held=proved, answer="exit status 0")
        reported = self._rolecall("report", str(page.relative_to(_ROOT))) == 0
        self._held("the page for auditors is written", held=reported, answer=f"open {page.relative_to(_ROOT)}")

    def _rolecall(self, *arguments: str) -> int:
        """Run the command line as an operator of the management account."""
        self._heading(f"rolecall {' '.join(arguments)}")
        signed_in = {
            "AWS_ENDPOINT_URL": self._organization.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self._management,
            "AWS_SECRET_ACCESS_KEY": "test",
            "ROLECALL_STAGE": STAGE,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return subprocess.run(
            [sys.executable, "-m", "rolecall", *arguments], cwd=_ROOT, env=kept | signed_in, check=False
        ).returncode

    def _end(self) -> None:
        if self.failed:
            self._console.print(f"[bold red]{self.failed} of the proofs did not hold[/]")
        else:
            self._console.print("[bold green]every proof held[/]")


def _standing(account: dict[str, Any]) -> str:
    """Say where an account stands, in a dry run's answer or in the ledger."""
    return f"{account['outcome']} ({account.get('reason') or account['change']})"


def _is_published(row: dict[str, Any]) -> bool:
    """Whether the source policy grants an account access exactly if it is enrolled."""
    enrolled: bool = row["outcome"] == "enrolled"
    return ("in_force_since" in row) == enrolled


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _package(out: Path) -> None:
    subprocess.run([sys.executable, str(_ROOT / ".chalice/package.py"), STAGE, str(out)], check=True)


def main() -> int:
    """Run the demo; the exit status is 0 only if every proof held."""
    console = Console(highlight=False)
    with LocalOrganization() as organization:
        console.print(
            "[bold]real:[/] the zip, the template, every policy, IAM's evaluation of them. "
            f"[bold]emulated:[/] AWS itself ({organization.endpoint_url}), CloudTrail's delivery.",
            soft_wrap=True,
        )
        demo = Demo(organization, console)
        demo.run()
    return 1 if demo.failed else 0


if __name__ == "__main__":
    sys.exit(main())
