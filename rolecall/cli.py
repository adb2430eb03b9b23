"""The command line: what is asked for, by which options, and where the answer comes from; no logic and no AWS."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chalicelib.accounts import Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from rolecall import __version__, sending, show_page, status_page, withdrawing
from rolecall import accounts as account_list
from rolecall.console import finish, show, show_error, show_json
from rolecall.doctor import command as doctor_command
from rolecall.errors import CommandError
from rolecall.export import Options, Reader, export
from rolecall.files import write_text
from rolecall.operation import Operation
from rolecall.plan import plan as planned
from rolecall.plan_text import show_plan
from rolecall.prove import command as prove_command
from rolecall.prove.reader import Reader as ProvingReader
from rolecall.report import gather, report
from rolecall.sending import First
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
    """Show the status of a stage.

    Counts the accounts by outcome and reason, and shows each shard of the
    source policy, whether publishing is blocked and why, the freeze, the last
    resync, the queues and the alarms. An account is enrolled once its access
    is in force, and pending until then. Changes nothing.

    Exit status: 0 if every eligible account is enrolled and there is no other
    problem, 1 if there is one (the last line names it), 2 if the status can't
    be read. An alarm whose actions are off is no problem.

    [bold]Examples[/]

        rolecall status
        rolecall status --json | jq .coverage.failing
        rolecall status --json | jq .source_policy.blocked
        rolecall --stage dev status || echo "look at it"
    """
    found = read_status(context.obj.open(), datetime.now(UTC))
    show_json(found.as_json()) if as_json else show(status_page.page(found))
    raise typer.Exit(found.exit_status)


@app.command()
def accounts(
    context: typer.Context,
    *,
    outcome: Annotated[
        list[Outcome] | None,
        typer.Option(
            metavar="OUTCOME",
            help="Accounts with this outcome: enrolled, pending, skipped, failed or retired. Repeatable.",
        ),
    ] = None,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(metavar="REASON", help="Accounts with this reason, of docs/runbook.md. Repeatable."),
    ] = None,
    ou: Annotated[
        list[str] | None,
        typer.Option(metavar="OU-ID", help="Accounts anywhere below this organizational unit. Repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Accounts with this name: a part of it, or a glob.")] = "",
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV; a value that a spreadsheet would compute gets an apostrophe.")
    ] = False,
) -> None:
    """List the accounts, one row each.

    Shows the outcome and its reason, what the last pass changed, since when
    the account is enrolled and its access in force, and the last error.
    Accounts that were not handled yet are listed as waiting, unless an outcome
    or a reason is given. Times are in UTC.

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
    """Show one account.

    Its organizational units, its outcome and reason, its access and since when
    that is in force, the last error and what to do; the desired member role;
    what enrolling it now would do, by a dry run; and the last log lines about
    it. Changes nothing.

    Exit status: 0, or 1 if the account should be enrolled and isn't, or could
    not be verified.

    [bold]Examples[/]

        rolecall show 444455556666
        rolecall show 444455556666 --json | jq .role.trust
    """
    one = read_one(context.obj.open(), account_list.read_account_id(account))
    show_json(one.as_json()) if as_json else show(show_page.page(one))
    raise typer.Exit(one.exit_status)


AccountIds = Annotated[list[str], typer.Argument(metavar="ACCOUNT…", help="Account ids, of twelve digits.")]
AnyAccountIds = Annotated[list[str] | None, typer.Argument(metavar="ACCOUNT…", help="Account ids, of twelve digits.")]
Ous = Annotated[
    list[str] | None,
    typer.Option("--ou", metavar="OU-ID", help="Only those anywhere below this organizational unit; may be repeated."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Don't follow what was sent.")]
Timeout = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to follow; the work continues all the same.")
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


def _account_ids(texts: list[str] | None) -> list[AccountId]:
    return [account_list.read_account_id(text) for text in texts or ()]


@app.command()
def plan(
    context: typer.Context,
    accounts: AnyAccountIds = None,
    *,
    everyone: Annotated[bool, typer.Option("--all", help="Every account of the organization.")] = False,
    ous: Ous = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show what stays as it is too, and every document whole.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a backfill would change, and why.

    Enters every account that is named, with a session that can only read, and
    compares its member role with what it should be: [green]+[/] is created, [yellow]~[/] updated,
    [red]-[/] deleted or revoked, [bold red]![/] fails. Documents are compared line by line; one
    that was shown for an account already is not shown again. Shows what each
    shard of the source policy would grant. Changes nothing.

    Exit status: 0, or 1 if an account would fail.

    [bold]Examples[/]

        rolecall plan 444455556666
        rolecall plan --ou ou-ab12-11111111 --verbose
        rolecall plan --all --json | jq .summary
    """
    if bool(accounts) + everyone + bool(ous) != 1:
        raise typer.BadParameter("name account ids, or an OU by --ou, or everyone by --all: one of the three", context)
    request = {"accounts": _account_ids(accounts) or "all"} | ({"ous": ous} if ous else {})
    told = planned(context.obj.open(), "backfill", request)
    show_json(told.as_json()) if as_json else show_plan(told, Console(), verbose=verbose)
    raise typer.Exit(told.exit_status)


@app.command()
def backfill(
    context: typer.Context,
    *,
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
    """Enroll every account that should be, and verify those that are.

    Sends the organization's accounts to the queue and follows them by the
    ledger until each has settled, its access in force; then shows the outcomes
    and what to do about failures. A new account that is not set up yet is
    retried, and followed until it has settled. Ctrl-C stops the following, not
    the work. With --force, shows which accounts would lose access, and asks.

    Exit status: 0, 1 if an account failed, 2 if some have not settled.

    [bold]Examples[/]

        rolecall backfill
        rolecall backfill --first 5 --max-failures 1
        rolecall backfill --ou ou-ab12-11111111 --no-wait
    """
    operation = _operation(context, yes=yes, no_wait=no_wait, timeout=timeout)
    sent_first = First(first, max_failures) if first else None
    raise typer.Exit(sending.backfill(operation, ous=ous or (), force=force, first=sent_first))


@app.command()
def resync(
    context: typer.Context,
    *,
    only_new: Annotated[
        bool, typer.Option("--new", help="Only accounts that are new, that changed state or OU, or that left.")
    ] = False,
    no_wait: NoWait = False,
    timeout: Timeout = _AN_HOUR,
) -> None:
    """Verify every account and the source policy, and repair drift.

    Does what the schedules do: daily for every account and every shard, hourly
    with --new. Follows the accounts until each has settled, waits until publish
    has checked the source policy against IAM, and shows what was repaired.

    Exit status: 0, 1 if an account failed, a shard could not be written or
    publishing is blocked, 2 if accounts have not settled or the source policy
    was not checked in time.

    [bold]Examples[/]

        rolecall resync
        rolecall resync --new --no-wait
    """
    operation = _operation(context, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(sending.resync(operation, only_new=only_new))


@app.command()
def enroll(
    context: typer.Context, accounts: AccountIds, *, no_wait: NoWait = False, timeout: Timeout = _AN_HOUR
) -> None:
    """Enroll accounts by their ids, or verify them.

    Sends them to the queue, follows them until each has settled, and shows
    their outcomes. Accounts that were retired by request are enrolled again.

    Exit status: 0, 1 if an account failed, 2 if some have not settled.

    [bold]Examples[/]

        rolecall enroll 444455556666
        rolecall enroll 444455556666 777788889999 --timeout 600
    """
    operation = _operation(context, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(sending.enroll(operation, _account_ids(accounts)))


@app.command()
def rerun(
    context: typer.Context,
    accounts: AnyAccountIds = None,
    *,
    reasons: Annotated[
        list[Reason] | None,
        typer.Option("--reason", metavar="REASON", help="Failures of this reason; may be repeated."),
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = _AN_HOUR,
) -> None:
    """Send failed accounts again, once their cause is fixed.

    Sends all that failed, or those named by id or reason, and follows them.
    Those that are still retried are not sent. In any case, the messages of the
    dead-letter queues are moved back to their queues.

    Exit status: 0, 1 if an account failed again, 2 if some have not settled.

    [bold]Examples[/]

        rolecall rerun
        rolecall rerun --reason scp_denied --reason quota
        rolecall rerun 444455556666
    """
    if accounts and reasons:
        raise typer.BadParameter("name account ids or reasons, not both", context)
    operation = _operation(context, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(sending.rerun(operation, _account_ids(accounts), reasons or ()))


@app.command()
def retire(
    context: typer.Context,
    accounts: AccountIds,
    *,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = _AN_HOUR,
) -> None:
    """Revoke accounts' access, then delete their roles.

    Shows first what would be revoked and deleted, and asks. A role is deleted
    once the source policy in IAM grants its account no more; until then the
    account is pending. A retired account stays retired, whatever events and
    sweeps come, until rolecall enroll names it.

    Exit status: 0, 1 if a role is left, 2 if some have not settled.

    [bold]Examples[/]

        rolecall retire 444455556666
        rolecall retire 444455556666 777788889999 --yes
    """
    operation = _operation(context, yes=yes, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(withdrawing.retire(operation, _account_ids(accounts)))


@app.command()
def freeze(context: typer.Context, *, yes: Yes = False) -> None:
    """Deny every new session, until unfrozen.

    Shows which principals it denies, and asks; then waits until a read of IAM
    shows that every shard denies them. It takes effect within IAM's
    propagation, usually seconds; existing sessions continue until they expire.
    No account is revoked, and enrolling continues.

    Exit status: 0 if the freeze is in force, or nothing is attached yet and it
    is stored; 1 if it is stored and not in force.

    [bold]Examples[/]

        rolecall freeze
        rolecall freeze --yes
    """
    raise typer.Exit(withdrawing.freeze(_operation(context, yes=yes)))


@app.command()
def unfreeze(context: typer.Context) -> None:
    """Lift a freeze, and wait until that is in force.

    It takes effect within IAM's propagation, usually seconds. Accounts that
    were enrolled meanwhile can be read then too.

    Exit status: 0 if it is in force, 1 if it is stored and not in force.

    [bold]Examples[/]

        rolecall unfreeze
    """
    raise typer.Exit(withdrawing.unfreeze(_operation(context)))


@app.command()
def uninstall(
    context: typer.Context, *, yes: Yes = False, no_wait: NoWait = False, timeout: Timeout = _AN_HOUR
) -> None:
    """Delete the source policy and every member role.

    Shows what is left, and asks. Then stops enrolling, and continues until
    nothing is left, or nothing more can be deleted: what stays is named, with
    its reason. Running it again continues; a backfill before its end stops it.
    Then make undeploy deletes the stack.

    Exit status: 0, 1 if something is left, 2 if accounts have not settled.

    [bold]Examples[/]

        rolecall uninstall
        rolecall --stage dev uninstall --yes
    """
    raise typer.Exit(withdrawing.uninstall(_operation(context, yes=yes, no_wait=no_wait, timeout=timeout)))


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
    *,
    as_json: AsJson = False,
) -> None:
    """Prove who may read what, with the reader's own credentials.

    This is the auditor's evidence, with AWS's answer to every call. In every
    enrolled account the reader assumes the member role and calls
    iam:GetAccountSummary. Where data reads are denied, ssm:GetParameter must
    be denied; where an external id is required, a session without it must be.
    In every account that is not enrolled, the reader must be kept out.

    The stage is read with your credentials, and every proof is made with the
    reader's. CloudTrail knows the sessions by the name rolecall-prove. Nothing
    is written anywhere.

    Exit status: 0 all as claimed, 1 a claim does not hold, 2 can't tell.

    [bold]Examples[/]

        rolecall prove --reader auditor
        rolecall prove --reader auditor --sample 20 --json > evidence.json
        rolecall prove --reader-role arn:aws:iam::111122223333:role/Reader
    """
    connection: Connection = context.obj
    stage = connection.open()
    _ = stage.settings  # Without a stage there is nothing to prove, whoever reads.
    session = ProvingReader.connect(
        profile=reader or connection.profile,
        region=stage.region,
        endpoint_url=connection.endpoint_url,
        role_arn=reader_role,
    )
    raise typer.Exit(prove_command.prove(stage, session, accounts=accounts or [], sample=sample, as_json=as_json))


@app.command()
def doctor(
    context: typer.Context,
    account: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Try the access role in this account, rather than in one that is chosen."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Check a stage and what it depends on, and show how to fix problems.

    Before it is deployed: account, region, organization, and the trail without
    which no event arrives. Afterwards: functions, rule, queues, schedules, log
    groups; the source principals and the quotas that they meet; the access
    role of one account, entered by a dry run; alarms, and who gets them;
    whether publishing is blocked or records are lost; the freeze.

    Nothing is changed. Every check is made, whatever the others find. What
    these credentials may not look at can't be told; the line names the
    permission.

    Exit status: 0 all is well, 1 something is wrong, 2 can't tell.

    [bold]Examples[/]

        rolecall doctor
        rolecall doctor --account 444455556666
        rolecall doctor --json | jq '.checks[] | select(.verdict != "ok")'
    """
    connection: Connection = context.obj
    raise typer.Exit(doctor_command.doctor(connection.open(), account=account, as_json=as_json))


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
    """Write a reader's configuration for every account whose access is in force.

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
    """Write one page with the status of every account, and who can assume what.

    It is for people who don't run Rolecall, auditors among them: it needs only
    a browser, loads nothing from anywhere, works without scripts, and prints.
    It shows what is in the settings, the ledger, the source-policy table and
    Organizations now, and no external id. Changes nothing.

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
