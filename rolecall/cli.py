"""The command line: what is asked for, by which options, and where the answer comes from; no logic and no AWS."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from rolecall.errors import CommandError
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


def main() -> None:
    """Run a command; what it could not do or tell ends it with one sentence and exit status 2."""
    try:
        app(prog_name="rolecall")
    except CommandError as error:
        Console(stderr=True).print(f"[bold red]rolecall:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
