"""The command line: what is asked for, by which options, and where the answer comes from; no logic and no AWS."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from chalicelib.arns import AccountId, is_account_id
from chalicelib.errors import Reason
from rolecall import sending, withdrawing
from rolecall.errors import CommandError
from rolecall.operation import Operation
from rolecall.plan import plan as planned
from rolecall.plan_text import show_plan
from rolecall.sending import First
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


# What operators do: look at what would change, change it, and watch.


def _account_id(text: str) -> str:
    if not is_account_id(text):
        raise typer.BadParameter(f"{text!r} is not an account id of twelve digits.")
    return text


AccountIds = Annotated[list[str], typer.Argument(metavar="ACCOUNT…", parser=_account_id, help="Account ids.")]
AnyAccountIds = Annotated[list[str] | None, typer.Argument(metavar="ACCOUNT…", parser=_account_id, help="Account ids.")]
Ous = Annotated[
    list[str] | None, typer.Option("--ou", metavar="OU", help="Only accounts in this OU or below it; may be repeated.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Don't watch what was sent.")]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to watch; the work goes on after it all the same.")
]
_AN_HOUR = 3600.0


def _operation(
    context: typer.Context, *, yes: bool = False, no_wait: bool = False, timeout: float = _AN_HOUR
) -> Operation:
    return Operation(
        stage=context.obj.open(),
        console=Console(),
        ask=typer.confirm if sys.stdin.isatty() else None,
        yes=yes,
        wait=not no_wait,
        timeout=timeout,
    )


@app.command()
def plan(
    context: typer.Context,
    account_ids: AnyAccountIds = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every account of the organization.")] = False,
    ous: Ous = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show unchanged and skipped accounts too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it for another program.")] = False,
) -> None:
    """Show what a backfill would change, and why; nothing is written.

    Enters every account that is named, with a session that can only read, and compares its member role with what it should be: [green]+[/] created, [yellow]~[/] updated, [red]-[/] deleted or taken out of the source policy, [red]![/] failing.
    Policy documents are compared line by line.
    Exit status 1 if an account would fail.

    [bold]Examples[/]

      rolecall plan 444455556666
      rolecall plan --ou ou-ab12-11111111 --verbose
      rolecall plan --all --json | jq .summary
    """
    if bool(account_ids) + everyone + bool(ous) != 1:
        raise typer.BadParameter("name account ids, or an OU by --ou, or everyone by --all: one of the three.", context)
    request = {"accounts": account_ids or "all"} | ({"ous": ous} if ous else {})
    raise typer.Exit(
        show_plan(planned(context.obj.open(), "backfill", request), Console(), verbose=verbose, as_json=as_json)
    )


@app.command()
def backfill(
    context: typer.Context,
    first: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Send N accounts, wait for them, then send the rest.")
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, metavar="M", help="With --first: stop if more than M of the first fail.")
    ] = 0,
    ous: Ous = None,
    force: Annotated[
        bool, typer.Option("--force", help="Retire even more accounts at once than MaxRetiredPercent allows.")
    ] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = _AN_HOUR,
) -> None:
    """Enroll every account of the organization that should be, and verify those that are.

    Sends the accounts to the queue and watches until each has settled, by the ledger; then tells where they stand, and what to do about those that failed.
    Accounts that are new and not set up yet are tried again by themselves: watching goes on until they are.
    Ctrl-C stops watching, not the work.
    With --force, shows which accounts would leave the source policy, and asks.
    Exit status 1 if an account failed, 2 if some have not settled.

    [bold]Examples[/]

      rolecall backfill
      rolecall backfill --first 5 --max-failures 1
      rolecall backfill --ou ou-ab12-11111111 --no-wait
    """
    raise typer.Exit(
        sending.backfill(
            _operation(context, yes=yes, no_wait=no_wait, timeout=timeout),
            ous=ous or (),
            force=force,
            first=First(first, max_failures) if first else None,
        )
    )


@app.command()
def enroll(
    context: typer.Context, account_ids: AccountIds, no_wait: NoWait = False, timeout: Timeout = _AN_HOUR
) -> None:
    """Enroll accounts by their ids, or verify them; those that were retired by request are enrolled again.

    Sends them to the queue, watches until each has settled, and tells where they stand.
    Exit status 1 if an account failed.

    [bold]Examples[/]

      rolecall enroll 444455556666
      rolecall enroll 444455556666 777788889999 --timeout 600
    """
    raise typer.Exit(sending.enroll(_operation(context, no_wait=no_wait, timeout=timeout), map(AccountId, account_ids)))


@app.command()
def rerun(
    context: typer.Context,
    account_ids: AnyAccountIds = None,
    reasons: Annotated[
        list[Reason] | None,
        typer.Option("--reason", metavar="REASON", help="Only failures of this reason; may be repeated."),
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = _AN_HOUR,
) -> None:
    """Send failed accounts again, after their cause is mended, and have the dead-letter queue moved back.

    Without ids and reasons, all that failed.
    Accounts that are still being tried again by themselves are not sent.
    Exit status 1 if an account failed again.

    [bold]Examples[/]

      rolecall rerun
      rolecall rerun --reason scp_denied --reason quota
      rolecall rerun 444455556666
    """
    if account_ids and reasons:
        raise typer.BadParameter("name account ids or reasons, not both.", context)
    raise typer.Exit(
        sending.rerun(
            _operation(context, no_wait=no_wait, timeout=timeout), map(AccountId, account_ids or ()), reasons or ()
        )
    )


@app.command()
def retire(
    context: typer.Context,
    account_ids: AccountIds,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = _AN_HOUR,
) -> None:
    """Take accounts out of the source policy, then delete their member roles.

    Shows first what would be taken away, and asks.
    A retired account stays so, whatever events and sweeps come, until [bold]rolecall enroll[/] names it.
    Exit status 1 if a role is left.

    [bold]Examples[/]

      rolecall retire 444455556666
      rolecall retire 444455556666 777788889999 --yes
    """
    raise typer.Exit(
        withdrawing.retire(_operation(context, yes=yes, no_wait=no_wait, timeout=timeout), map(AccountId, account_ids))
    )


@app.command()
def freeze(context: typer.Context, yes: Yes = False) -> None:
    """Deny the readers every new session, in every account, until unfrozen.

    Says whom it denies, and asks.
    It takes effect within IAM's propagation, seconds as a rule; sessions that exist go on until they end.
    Nothing is taken out of the source policy, and enrolling goes on.

    [bold]Examples[/]

      rolecall freeze
      rolecall freeze --yes
    """
    raise typer.Exit(withdrawing.freeze(_operation(context, yes=yes)))


@app.command()
def unfreeze(context: typer.Context) -> None:
    """Let the readers open sessions again, after a freeze.

    [bold]Examples[/]

      rolecall unfreeze
    """
    raise typer.Exit(withdrawing.unfreeze(_operation(context)))


@app.command()
def uninstall(context: typer.Context, yes: Yes = False, no_wait: NoWait = False, timeout: Timeout = _AN_HOUR) -> None:
    """Take everything away: every account, its member role, and the source policy.

    Shows what is left, and asks.
    Then it stops enrolling, and goes on until nothing is left, or what is left can't be taken away: those accounts are named, with the reason.
    Running it again goes on where it stopped; any backfill calls it off.
    The stack itself is deleted by [bold]make undeploy[/] afterwards.
    Exit status 1 if something is left.

    [bold]Examples[/]

      rolecall --stage dev uninstall
      rolecall --stage dev uninstall --yes
    """
    raise typer.Exit(withdrawing.uninstall(_operation(context, yes=yes, no_wait=no_wait, timeout=timeout)))


def main() -> None:
    """Run a command; what it could not do or tell ends it with one sentence and exit status 2."""
    try:
        app(prog_name="rolecall")
    except CommandError as error:
        Console(stderr=True).print(f"[bold red]rolecall:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
