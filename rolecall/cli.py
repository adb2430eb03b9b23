"""The command line: what is asked for, by which options, and where the answer comes from; no logic and no AWS."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rolecall.errors import CommandError
from rolecall.export import Options, Reader, export
from rolecall.files import write_text
from rolecall.report import gather, report
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


@app.command("export")
def export_(
    context: typer.Context,
    reader: Annotated[Reader, typer.Argument(help="Whose configuration to write.")],
    output: Annotated[Path | None, typer.Option(help="The file to write, in place of standard output.")] = None,
    source_profile: Annotated[
        str | None,
        typer.Option(help="The profile in the reader's own AWS config that has the source principal's credentials."),
    ] = None,
) -> None:
    """Write a reader's configuration for every account that the source policy names.

    Each account gets a profile, an entry or a command with its member role, and the external id if there is one.
    Without --source-profile, the reader takes the source principal's credentials from its environment.
    Names are the accounts', of letters, digits and hyphens alone; where several would have the same, the account's id follows.
    docs/readers.md shows each form.

    [bold]Examples[/]

    rolecall export aws-config --source-profile reader --output accounts.config

    rolecall export cloudquery --output aws.yaml

    rolecall export steampipe --output ~/.steampipe/config/aws.spc

    rolecall export prowler --output prowler.sh && sh prowler.sh
    """
    stage = context.obj.open()
    text = export(reader, stage.settings, stage.rows(), Options(region=stage.region, source_profile=source_profile))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text(output, text)
        typer.echo(f"wrote {output}")


@app.command("report")
def report_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The page to write, such as rolecall.html.")],
) -> None:
    """Write one page that shows where every account stands, why, and who can assume what.

    The page is for people who don't run Rolecall, auditors among them: it needs nothing but a browser, loads nothing from
    anywhere, works without scripts, and prints. It is what the ledger, the source policy's table, the settings and Organizations
    say at that moment; it shows no external id.

    [bold]Examples[/]

    rolecall report rolecall.html

    rolecall --stage audit report audit.html
    """
    write_text(file, report(gather(context.obj.open(), datetime.now(UTC))))
    typer.echo(f"wrote {file}")


def main() -> None:
    """Run a command; what it could not do or tell ends it with one sentence and exit status 2."""
    try:
        app(prog_name="rolecall")
    except CommandError as error:
        Console(stderr=True).print(f"[bold red]rolecall:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
