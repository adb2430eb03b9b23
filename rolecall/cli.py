"""The command line: what is asked for, by which options, and where the answer comes from; no logic and no AWS."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from rolecall.doctor import command as doctor_command
from rolecall.errors import CommandError
from rolecall.prove import command as prove_command
from rolecall.prove.reader import Reader
from rolecall.stage import Stage

app = typer.Typer(name="rolecall", no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """Which stage, and how to reach it."""

    stage: str
    profile: str | None
    region: str | None
    endpoint_url: str | None

    def open(self) -> Stage:
        """Open the stage with these options."""
        return Stage.connect(self.stage, profile=self.profile, region=self.region, endpoint_url=self.endpoint_url)


@app.callback()
def options(
    context: typer.Context,
    stage: Annotated[str, typer.Option(envvar="ROLECALL_STAGE", help="The deployment's name.")] = "prod",
    profile: Annotated[str | None, typer.Option(help="A profile of ~/.aws/config.")] = None,
    region: Annotated[str | None, typer.Option(help="The region of the deployment.")] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="Another endpoint than AWS's.")
    ] = None,
) -> None:
    """Keep one read-only role in every account of an AWS organization, and see that it is so."""
    context.obj = Connection(stage, profile, region, endpoint_url)


@app.command()
def prove(
    context: typer.Context,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE", help="The profile of ~/.aws/config that is the reader's; --profile stays yours."
        ),
    ] = None,
    reader_role: Annotated[
        str | None, typer.Option(metavar="ARN", help="A reader's role that these credentials may assume first.")
    ] = None,
    accounts: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this account; say it again for more.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only so many accounts of each kind, chosen at random.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the evidence as JSON.")] = False,
) -> None:
    """Prove who may read what, with the reader's own credentials, and print AWS's answers: the auditor's evidence.

    In every enrolled account the reader assumes the member role and calls iam:GetAccountSummary. Where data reads are denied, ssm:GetParameter must be denied; where an external id is required, a session without it must be. In every account that is not enrolled, the reader must be kept out.

    The stage is read with your credentials, and every proof is made with the reader's. CloudTrail knows the sessions by the name rolecall-prove. Nothing is written anywhere.

    Exit status: 0 all as claimed, 1 a claim does not hold, 2 can't tell.

    [bold]Examples[/]

    rolecall prove --reader auditor

    rolecall prove --reader auditor --sample 20 --json > evidence.json

    rolecall prove --reader-role arn:aws:iam::111122223333:role/Reader --accounts 444455556666
    """
    connection: Connection = context.obj
    stage = connection.open()
    _ = stage.settings  # Without a stage there is nothing to prove, whoever reads.
    session = Reader.connect(
        profile=reader or connection.profile,
        region=stage.region,
        endpoint_url=connection.endpoint_url,
        role_arn=reader_role,
    )
    raise typer.Exit(prove_command.prove(stage, session, accounts=accounts or [], sample=sample, as_json=json))


@app.command()
def doctor(
    context: typer.Context,
    account: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Try the access role in this account, rather than in one that is chosen."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for what is wrong with a stage and around it, before or after it is deployed, and tell what mends it.

    Before: account, region, organization, and the trail without which no event arrives. After: functions, rule, queues, schedules, log groups; the source principals and the quotas that they meet; the access role of one account, entered by the worker itself in a dry run; alarms, and who hears them; the freeze.

    Nothing is changed. Every check is made, whatever the others find. What these credentials may not look at can't be told; the line names the permission.

    Exit status: 0 all is well, 1 something is wrong, 2 can't tell.

    [bold]Examples[/]

    rolecall doctor

    rolecall doctor --account 444455556666

    rolecall doctor --json | jq '.checks[] | select(.verdict != "ok")'
    """
    connection: Connection = context.obj
    raise typer.Exit(doctor_command.doctor(connection.open(), account=account, as_json=json))


def main() -> None:
    """Run a command; what it could not do or tell ends it with one sentence and exit status 2."""
    try:
        app(prog_name="rolecall")
    except CommandError as error:
        Console(stderr=True).print(f"[bold red]rolecall:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
