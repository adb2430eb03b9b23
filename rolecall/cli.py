"""The command line: what is asked for, by which options, and where the answer comes from; no logic and no AWS."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from chalicelib.accounts import Outcome
from chalicelib.errors import Reason
from rolecall import __version__, show_page, status_page
from rolecall import accounts as account_list
from rolecall.console import finish, show, show_error, show_json
from rolecall.errors import CommandError
from rolecall.export import Options, Reader, export
from rolecall.files import write_text
from rolecall.report import gather, report
from rolecall.show import read_one
from rolecall.stage import Stage
from rolecall.status import read_status

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]

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


def _version(asked: bool) -> None:  # noqa: FBT001 - how typer calls it
    if asked:
        typer.echo(f"rolecall {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    stage: Annotated[
        str, typer.Option(envvar="ROLECALL_STAGE", metavar="NAME", help="The deployment's name.")
    ] = "prod",
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="A profile of ~/.aws/config, in place of AWS_PROFILE.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(envvar="AWS_REGION", metavar="NAME", help="The region of the deployment.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(envvar="AWS_ENDPOINT_URL", metavar="URL", help="Another endpoint than AWS's.")
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version, and end.")
    ] = False,
) -> None:
    """Keep one read-only role in every account of an AWS organization, and see that it is so.

    Every command works with your own credentials, of the organization's
    management account, on one deployed stage. The options listed here come
    before the command.

    Exit status: 0 all is well, 1 something is failing or denied, 2 the command
    could not do or tell what was asked.

    [bold]Examples[/]

        rolecall status
        rolecall --stage dev --profile management accounts --outcome failed
        rolecall --install-completion
    """
    context.obj = Connection(stage, profile, region, endpoint_url)


@app.command()
def status(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Tell at a glance how a stage stands.

    Counts the accounts that are eligible, enrolled, skipped and failing, by
    reason; tells the source policy's fill, whether the readers are frozen, the
    last resync, what is on the queues, and the alarms. Changes nothing.

    Exit status: 0 where every eligible account is enrolled and nothing else
    worries, 1 where something does (the last line names it), 2 where it can't
    be told. An alarm whose actions are off worries nobody.

    [bold]Examples[/]

        rolecall status
        rolecall status --json | jq .coverage.failing
        rolecall --stage dev status || echo "look at it"
    """
    told = read_status(context.obj.open(), datetime.now(UTC))
    show_json(told.as_json()) if as_json else show(status_page.page(told))
    raise typer.Exit(told.exit_status)


@app.command()
def accounts(
    context: typer.Context,
    *,
    outcome: Annotated[
        list[Outcome] | None,
        typer.Option(metavar="OUTCOME", help="Those enrolled, skipped, failed or retired; may be repeated."),
    ] = None,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(metavar="REASON", help="Those with this reason, of docs/runbook.md; may be repeated."),
    ] = None,
    ou: Annotated[
        list[str] | None,
        typer.Option(metavar="OU-ID", help="Those anywhere below this organizational unit; may be repeated."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Those named so: a part of the name, or a glob.")] = "",
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV; a value that a spreadsheet would compute gets an apostrophe.")
    ] = False,
) -> None:
    """List the accounts, one row each.

    Tells where each stands and why, what the last pass changed, since when it
    is enrolled, and its last error. Accounts that nobody has worked on yet are
    listed too, as waiting, unless an outcome or a reason is asked for. Times
    are in UTC.

    [bold]Examples[/]

        rolecall accounts
        rolecall accounts --outcome failed --outcome retired
        rolecall accounts --reason no_access_role --json | jq -r '.[].account_id'
        rolecall accounts --ou ou-ab12-11111111 --name 'prod-*' --csv
    """
    wanted = account_list.read_filter(outcome or (), reason or (), ou or (), name)
    account_list.print_entries(account_list.read_entries(context.obj.open(), wanted), as_json=as_json, as_csv=as_csv)


@app.command("show")
def show_account(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id, of twelve digits.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Tell all about one account.

    Its place in the organization, where it stands and why, the last error and
    what to do; the member role as it should be; what enrolling it now would
    do, by a dry run; and the worker's last log lines. Changes nothing.

    Exit status: 0, or 1 where the account should be enrolled and isn't, or
    could not be verified.

    [bold]Examples[/]

        rolecall show 444455556666
        rolecall show 444455556666 --json | jq .role.trust
    """
    one = read_one(context.obj.open(), account_list.read_account_id(account))
    show_json(one.as_json()) if as_json else show(show_page.page(one))
    raise typer.Exit(one.exit_status)


@app.command("export")
def export_(
    context: typer.Context,
    reader: Annotated[Reader, typer.Argument(metavar="READER", help=f"Whose: {', '.join(Reader)}.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write, in place of standard output.")
    ] = None,
    source_profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The profile in the reader's own AWS config that has the source principal's credentials.",
        ),
    ] = None,
) -> None:
    """Write a reader's configuration for every account that the source policy names.

    Each account gets a profile, an entry or a command with its member role,
    and with the external id where there is one. Names are the accounts' own,
    of letters, digits and hyphens; where several would have the same, the
    account's id follows. docs/readers.md shows each form. Changes nothing.

    Without --source-profile, the reader takes the source principal's
    credentials from its environment.

    [bold]Examples[/]

        rolecall export aws-config --source-profile reader --output accounts.config
        AWS_CONFIG_FILE=accounts.config aws --profile payments iam get-account-summary
        rolecall export cloudquery --output aws.yaml
        rolecall export steampipe --output ~/.steampipe/config/aws.spc
        rolecall export prowler | sh
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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The page to write, such as rolecall.html.")],
) -> None:
    """Write one page that shows where every account stands, why, and who can assume what.

    It is for people who don't run Rolecall, auditors among them: it needs only
    a browser, loads nothing from anywhere, works without scripts, and prints.
    It tells what the settings, the ledger, the source policy's table and
    Organizations say now, and shows no external id. Changes nothing.

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
        show_error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        finish()
