"""The command line: its global options, and its commands by purpose."""

from typing import Annotated

import typer

from rolecall import __version__
from rolecall.commands import changing, evidence, reading
from rolecall.completion import complete_stages
from rolecall.deploy import command as deploying
from rolecall.global_options import Command, Connection, Group

app = typer.Typer(
    name="rolecall",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich's help would take half of the time until it is shown.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if requested:
        typer.echo(f"rolecall {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    stage: Annotated[
        str | None,
        typer.Option(
            envvar="ROLECALL_STAGE",
            metavar="NAME",
            help="The stage; by default, the only one deployed.",
            autocompletion=complete_stages,
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="The profile of ~/.aws/config to use instead of AWS_PROFILE.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(envvar="AWS_REGION", metavar="NAME", help="The region of the deployment.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(envvar="AWS_ENDPOINT_URL", metavar="URL", help="A custom AWS endpoint URL.")
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print AWS calls and their request ids on standard error.")
    ] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Maintain a read-only IAM role in every account of an AWS organization.

    Commands use your AWS credentials for the management account and act on one
    stage. Global options go before or after the command.

    Which command to use, to send accounts to the queue:

        backfill  all: at first, or after a new setting
        resync    all, and the source policy, as daily
        enroll    those you name, even if retired
        rerun     those that failed, once it is fixed

    Exit status: 0 success, 1 something is failing or denied, 2 the command
    could not complete, 130 after Ctrl-C, 141 if the output's reader is gone.

    Examples:
        rolecall status
        rolecall accounts --outcome failed --stage dev
        rolecall --install-completion
    """
    context.obj = Connection(stage, profile, region, endpoint_url, debug)


_COMMANDS = {
    "Show": (
        *(reading.status, reading.accounts, reading.show, reading.plan, evidence.doctor),
        *(reading.stages, reading.settings, reading.explain, reading.logs),
    ),
    "Enroll": (changing.backfill, changing.resync, changing.enroll, changing.rerun),
    "Revoke": (changing.retire, changing.freeze, changing.unfreeze, changing.uninstall),
    "Readers": (evidence.prove, evidence.export, evidence.report),
    "Deploy": (deploying.deploy, deploying.undeploy, deploying.package, evidence.cost),
}
for _panel, _functions in _COMMANDS.items():
    for _function in _functions:
        app.command(cls=Command, rich_help_panel=_panel)(_function)
