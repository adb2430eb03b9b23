"""The command line: commands and their options. A function's docstring is its command's help, which makes some of them long."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from chalicelib.accounts import Outcome
from chalicelib.arns import AccountId
from chalicelib.errors import Reason
from rolecall import __version__, enrollment, offboarding
from rolecall.account_details import read_details
from rolecall.account_details_page import build_details_page
from rolecall.accounts import parse_account_id, parse_filter, read_entries, read_ou_paths
from rolecall.accounts_page import print_entries
from rolecall.aws_config import merge_profiles
from rolecall.console import output_console, print_json, print_page, print_text
from rolecall.cost import estimate
from rolecall.cost_page import build_cost_page
from rolecall.deploy import command as deploy_command
from rolecall.doctor import command as doctor_command
from rolecall.enrollment import Canary
from rolecall.export import Names, Tool, export, own_beginning
from rolecall.export_formats import Options
from rolecall.files import write_file
from rolecall.operation import Operation, terminal_prompt
from rolecall.options import (
    ONE_HOUR,
    AccountIds,
    AsJson,
    Connection,
    ForceFile,
    NoWait,
    OptionalAccountIds,
    Ous,
    Timeout,
    Yes,
)
from rolecall.plan import fetch_plan
from rolecall.plan_page import print_plan
from rolecall.prove import command as prove_command
from rolecall.prove.source_session import SourceSession
from rolecall.report import read_report
from rolecall.report_page import render_report
from rolecall.status import read_status
from rolecall.status_page import build_status_page

app = typer.Typer(name="rolecall", no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


def _print_version(requested: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if requested:
        typer.echo(f"rolecall {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    stage: Annotated[
        str, typer.Option(envvar="ROLECALL_STAGE", metavar="NAME", help="The name of the deployment.")
    ] = "prod",
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="The profile of ~/.aws/config to use instead of AWS_PROFILE.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(envvar="AWS_REGION", metavar="NAME", help="The region of the deployment.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(envvar="AWS_ENDPOINT_URL", metavar="URL", help="A custom AWS endpoint URL.")
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Maintain a read-only IAM role in every account of an AWS organization.

    Commands use your AWS credentials for the management account and act on one
    deployed stage. Global options go before the command.

    Exit status: 0 success, 1 something is failing or denied, 2 the command
    could not complete, 130 after Ctrl-C, 141 if the output's reader is gone.

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

    Exit status: 0 healthy, 1 something needs attention (named in the last
    line), 2 the status could not be determined. Alarms with disabled actions
    are ignored.

    [bold]Examples[/]

        rolecall status
        rolecall status --json | jq .coverage.failing
        rolecall status --json | jq .source_policy.blocked
        rolecall --stage dev status || echo "needs attention"
    """
    stage = context.obj.open()
    found = read_status(stage, datetime.now(UTC))
    print_json(found.as_json()) if as_json else print_page(build_status_page(found))
    stage.require_readable_rows()
    raise typer.Exit(found.exit_status)


@app.command()
def accounts(
    context: typer.Context,
    *,
    outcome: Annotated[
        list[Outcome] | None,
        typer.Option(
            metavar="OUTCOME", help="Filter by outcome: enrolled, pending, skipped, failed or retired. Repeatable."
        ),
    ] = None,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(metavar="REASON", help="Filter by reason (see docs/runbook.md). Repeatable."),
    ] = None,
    ou: Annotated[
        list[str] | None,
        typer.Option(metavar="OU-ID", help="Filter by organizational unit, at any depth. Repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Filter by account name (substring or glob).")] = "",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Output as CSV (formula-like values are escaped).")] = False,
) -> None:
    """List the accounts.

    Shows each account's outcome and reason, what the last pass changed, since
    when it is enrolled and its access in force, and the last error. Eligible
    accounts that were not handled yet are listed as waiting, unless filtered by
    outcome or reason. Times are in UTC.

    Exit status: 0, or 2 if a row of the ledger can't be read completely.

    [bold]Examples[/]

        rolecall accounts
        rolecall accounts --outcome failed --outcome retired
        rolecall accounts --reason no_access_role --json | jq -r '.[].account_id'
        rolecall accounts --ou ou-ab12-11111111 --name 'prod-*' --csv
    """
    wanted = parse_filter(outcome or (), reason or (), ou or (), name)
    stage = context.obj.open()
    print_entries(read_entries(stage, wanted), as_json=as_json, as_csv=as_csv)
    stage.require_readable_rows()


@app.command()
def show(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Account id of twelve digits.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show everything about one account.

    Its organizational units, its outcome and reason, its access and since when
    that is in force, the last error and what to do; the desired member role;
    what enrolling it now would do, by a dry run; and its last log lines.
    Changes nothing.

    Exit status: 0, or 1 if the account should be enrolled and isn't, or could
    not be verified.

    [bold]Examples[/]

        rolecall show 444455556666
        rolecall show 444455556666 --json | jq .role.trust
    """
    stage = context.obj.open()
    details = read_details(stage, parse_account_id(account))
    print_json(details.as_json()) if as_json else print_page(build_details_page(details))
    stage.require_readable_rows()
    raise typer.Exit(details.exit_status)


def _operation(
    context: typer.Context, *, yes: bool = False, no_wait: bool = False, timeout: float = ONE_HOUR
) -> Operation:
    return Operation(
        stage=context.obj.open(),
        console=output_console(),
        prompt=terminal_prompt(),
        yes=yes,
        wait=not no_wait,
        timeout=timeout,
    )


def _account_ids(texts: list[str] | None) -> list[AccountId]:
    return [parse_account_id(text) for text in texts or ()]


@app.command()
def plan(
    context: typer.Context,
    accounts: OptionalAccountIds = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Plan for every account of the organization.")] = False,
    ous: Ous = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show unchanged accounts too, and repeat every document.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a backfill would change.

    Opens a read-only session in each account, and compares the member role
    with the desired one: [green]+[/] is created, [yellow]~[/] updated,
    [red]-[/] deleted or revoked, [bold red]![/] fails. Documents are compared line by line; a
    document that was shown for one account is not repeated for others. Also
    shows what each shard of the source policy would grant. Changes nothing.

    Exit status: 0, or 1 if an account would fail.

    [bold]Examples[/]

        rolecall plan 444455556666
        rolecall plan --ou ou-ab12-11111111 --verbose
        rolecall plan --all --json | jq .summary
    """
    if bool(accounts) + every + bool(ous) != 1:
        raise typer.BadParameter("pass account ids, --ou or --all: exactly one of them", context)
    request = {"accounts": _account_ids(accounts) or "all"} | ({"ous": ous} if ous else {})
    fetched = fetch_plan(context.obj.open(), "backfill", request)
    print_json(fetched.as_json()) if as_json else print_plan(fetched, output_console(), verbose=verbose)
    raise typer.Exit(fetched.exit_status)


@app.command()
def backfill(
    context: typer.Context,
    *,
    first: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Send N accounts, wait for them, then send the rest.")
    ] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, metavar="M", help="With --first: stop if more than M of the first accounts fail.")
    ] = 0,
    ous: Ous = None,
    force: Annotated[
        bool, typer.Option("--force", help="Retire more accounts at once than MaxRetiredPercent allows.")
    ] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
) -> None:
    """Enroll every eligible account, and verify the enrolled ones.

    Sends the organization's accounts to the queue and waits until each is
    finished and its access in force; then shows the outcomes and what to do
    about failures. A new account that is not set up yet is retried. Ctrl-C
    stops the waiting, not the work. With --force, shows which accounts would
    lose access, and asks for confirmation.

    Exit status: 0, 1 if an account failed, 2 if some are not finished.

    [bold]Examples[/]

        rolecall backfill
        rolecall backfill --first 5 --max-failures 1
        rolecall backfill --ou ou-ab12-11111111 --no-wait
    """
    operation = _operation(context, yes=yes, no_wait=no_wait, timeout=timeout)
    canary = Canary(first, max_failures) if first else None
    raise typer.Exit(enrollment.backfill(operation, ous=ous or (), force=force, canary=canary))


@app.command()
def resync(
    context: typer.Context,
    *,
    only_new: Annotated[
        bool, typer.Option("--new", help="Only accounts that are new, that changed state or OU, or that left.")
    ] = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
) -> None:
    """Verify every account and the source policy, and repair drift.

    Does what the schedules do: daily for every account and every shard, hourly
    with --new. Waits until each account is finished and publish has checked the
    source policy against IAM, and shows the repairs.

    Exit status: 0, 1 if an account failed, a shard could not be written or
    publishing is blocked, 2 if accounts are not finished or the source policy
    was not checked in time.

    [bold]Examples[/]

        rolecall resync
        rolecall resync --new --no-wait
    """
    operation = _operation(context, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(enrollment.resync(operation, only_new=only_new))


@app.command()
def enroll(
    context: typer.Context, accounts: AccountIds, *, no_wait: NoWait = False, timeout: Timeout = ONE_HOUR
) -> None:
    """Enroll or verify accounts by their ids.

    Sends them to the queue, waits until each is finished, and shows the
    outcomes. Accounts that were retired by request are enrolled again.

    Exit status: 0, 1 if an account failed, 2 if some are not finished.

    [bold]Examples[/]

        rolecall enroll 444455556666
        rolecall enroll 444455556666 777788889999 --timeout 600
    """
    operation = _operation(context, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(enrollment.enroll(operation, _account_ids(accounts)))


@app.command()
def rerun(
    context: typer.Context,
    accounts: OptionalAccountIds = None,
    *,
    reasons: Annotated[
        list[Reason] | None,
        typer.Option("--reason", metavar="REASON", help="Only failures with this reason. Repeatable."),
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
) -> None:
    """Retry failed accounts, once the cause is fixed.

    Sends all failed accounts to the queue, or some by id or reason, and waits
    for them. Accounts that are being retried are not sent. Also redrives the
    dead-letter queues.

    Exit status: 0, 1 if an account failed again, 2 if some are not finished.

    [bold]Examples[/]

        rolecall rerun
        rolecall rerun --reason scp_denied --reason quota
        rolecall rerun 444455556666
    """
    if accounts and reasons:
        raise typer.BadParameter("pass account ids or --reason, not both", context)
    operation = _operation(context, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(enrollment.rerun(operation, _account_ids(accounts), reasons or ()))


@app.command()
def retire(
    context: typer.Context,
    accounts: AccountIds,
    *,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = ONE_HOUR,
) -> None:
    """Revoke the access of accounts, and delete their roles.

    Shows what would be revoked and deleted, and asks for confirmation. A role
    is deleted once the source policy in IAM no longer grants its account; until
    then the account is pending. A retired account stays retired through events
    and sweeps, until rolecall enroll.

    Exit status: 0, 1 if a role is left, 2 if some are not finished.

    [bold]Examples[/]

        rolecall retire 444455556666
        rolecall retire 444455556666 777788889999 --yes
    """
    operation = _operation(context, yes=yes, no_wait=no_wait, timeout=timeout)
    raise typer.Exit(offboarding.retire(operation, _account_ids(accounts)))


@app.command()
def freeze(context: typer.Context, *, yes: Yes = False) -> None:
    """Deny every new session until unfrozen.

    Shows which principals are denied, and asks for confirmation; then waits
    until a read of IAM confirms that every shard denies them. Takes effect
    within IAM's propagation, usually seconds; existing sessions continue until
    they expire. No account is revoked, and enrolling continues.

    Exit status: 0 if the freeze is in force, or stored with nothing attached
    yet; 1 if it is stored and not in force.

    [bold]Examples[/]

        rolecall freeze
        rolecall freeze --yes
    """
    raise typer.Exit(offboarding.freeze(_operation(context, yes=yes)))


@app.command()
def unfreeze(context: typer.Context) -> None:
    """Lift a freeze.

    Waits until that is in force. Takes effect within IAM's propagation, usually
    seconds. Includes accounts that were enrolled during the freeze.

    Exit status: 0 if it is in force, 1 if it is stored and not in force.

    [bold]Examples[/]

        rolecall unfreeze
    """
    raise typer.Exit(offboarding.unfreeze(_operation(context)))


@app.command()
def uninstall(
    context: typer.Context, *, yes: Yes = False, no_wait: NoWait = False, timeout: Timeout = ONE_HOUR
) -> None:
    """Delete all member roles and the source policy.

    Shows what is left, and asks for confirmation. Then stops enrolling, and
    continues until nothing is left or nothing more can be deleted; what is left
    is listed with the reason. Run it again to continue; run a backfill before
    its end to cancel. Afterwards, delete the stack with rolecall undeploy.

    Exit status: 0, 1 if something is left, 2 if accounts are not finished.

    [bold]Examples[/]

        rolecall uninstall
        rolecall --stage dev uninstall --yes
    """
    raise typer.Exit(offboarding.uninstall(_operation(context, yes=yes, no_wait=no_wait, timeout=timeout)))


@app.command()
def prove(
    context: typer.Context,
    reader_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="AWS profile with the source principal's credentials.")
    ] = None,
    reader_role: Annotated[
        str | None, typer.Option(metavar="ARN", help="Source principal to assume with that profile's credentials.")
    ] = None,
    accounts: Annotated[
        list[str] | None, typer.Option("--account", metavar="ID", help="Check only this account. Repeatable.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Check only N random accounts of each kind.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Test who can read what, with the source principal's credentials.

    This is evidence for auditors, with AWS's answer to every call. In every
    enrolled account, the source principal assumes the member role and calls
    iam:GetAccountSummary. If data reads are denied, ssm:GetParameter must be
    denied; if an external id is required, a session without it must be. In
    every account that is not enrolled, assuming the role must be denied.

    The stage is read with your own credentials. CloudTrail shows the sessions
    with the name rolecall-prove. Changes nothing.

    Exit status: 0 access is as configured, 1 it is not, 2 some answers were
    unclear.

    [bold]Examples[/]

        rolecall prove --reader-profile auditor
        rolecall prove --reader-profile auditor --sample 20 --json > evidence.json
        rolecall prove --reader-role arn:aws:iam::111122223333:role/Reader
    """
    connection: Connection = context.obj
    account_ids = _account_ids(accounts)
    stage = connection.open()
    _ = stage.settings  # Fails if the stage is not deployed, before other credentials are needed.
    session = SourceSession.connect(
        profile=reader_profile or connection.profile,
        region=stage.region,
        endpoint_url=connection.endpoint_url,
        role_arn=reader_role,
    )
    raise typer.Exit(prove_command.prove(stage, session, accounts=account_ids, sample=sample, as_json=as_json))


@app.command()
def doctor(
    context: typer.Context,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Check the access role in this account, not in a chosen one.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Diagnose a stage and its AWS environment, and suggest fixes.

    Before the deployment: account, region, organization, and the trail without
    which no event arrives. Afterwards also: functions, rule, queues, schedules
    and log groups; the source principals and their quotas; the access role of
    one account, by a dry run; alarms and their subscriptions; whether
    publishing is blocked or records are lost; the freeze.

    Changes nothing. Every check is made, whatever the others find. A check
    without permission is unknown, and its line names the permission.

    Exit status: 0 all checks passed, 1 a check failed, 2 a check could not be
    made.

    [bold]Examples[/]

        rolecall doctor
        rolecall doctor --account 444455556666
        rolecall doctor --json | jq '.checks[] | select(.status != "ok")'
    """
    account_id = parse_account_id(account) if account is not None else None
    raise typer.Exit(doctor_command.doctor(context.obj.open(), account=account_id, as_json=as_json))


@app.command("export")
def export_command(
    context: typer.Context,
    tool: Annotated[Tool, typer.Argument(metavar="TOOL", help=f"The tool: {', '.join(Tool)}.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write instead of standard output.")
    ] = None,
    source_profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The profile in the tool's AWS config that has the source principal's credentials."
        ),
    ] = None,
    names: Annotated[
        Names, typer.Option(help="What profiles and connections are called: the accounts' names, or their ids.")
    ] = Names.NAMES,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the profiles into the AWS config FILE instead of replacing it.")
    ] = False,
    force: ForceFile = False,
) -> None:
    """Write a tool's configuration for every account whose access is in force.

    Each account gets a profile, an entry or a command with its member role, and
    with the external id if there is one. Names are derived from the accounts'
    names, as letters, digits and hyphens; equal names get the account id as a
    suffix. docs/readers.md shows each format. Changes nothing in AWS.

    json and arns are lists for scripts; prowler-mutelist mutes Prowler's
    findings about what the stage installs.

    --output writes the file at once, readable by its owner alone if it contains
    the external id, and replaces only a file that rolecall wrote. --merge
    replaces only the lines between its marks, and keeps the file's permissions.

    Without --source-profile, the tool uses the credentials of its environment.

    [bold]Examples[/]

        rolecall export aws-config --source-profile reader --output accounts.config
        AWS_CONFIG_FILE=accounts.config aws --profile payments iam get-account-summary
        rolecall export aws-config --source-profile sso --output ~/.aws/config --merge
        rolecall export cloudquery --output aws.yaml
        rolecall export steampipe --output ~/.steampipe/config/aws.spc --force
        rolecall export prowler | sh -s -- --severity critical
        rolecall export json --names ids | jq -r '.[].account_id'
    """
    if merge and (tool is not Tool.AWS_CONFIG or output is None or force):
        raise typer.BadParameter("pass --merge only with aws-config and --output, and without --force", context)
    stage = context.obj.open()
    options = Options(
        region=stage.region,
        source_profile=source_profile,
        ids_as_names=names is Names.IDS,
        merged=merge,
        ou_paths=read_ou_paths(stage) if tool is Tool.JSON else {},
    )
    settings = stage.records().installed(stage.settings)
    text, private = export(tool, settings, stage.rows(), options), settings.external_id is not None
    if output is None:
        print_text(text)
    elif merge:
        merge_profiles(output, settings.stage, text, private=private)
        print_text(f"merged into {output}\n")
    else:
        write_file(output, text, own=own_beginning(tool, settings), force=force, private=private)
        print_text(f"wrote {output}\n")


@app.command()
def report(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The page to write, such as rolecall.html.")],
    *,
    evidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The output of rolecall prove --json, to include.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An earlier report of the stage: show what changed since.")
    ] = None,
    force: ForceFile = False,
) -> None:
    """Write a page with the status of every account and who can assume what.

    It is for people who don't operate Rolecall, such as auditors: it needs only
    a browser, loads no external resources, works without scripts, and can be
    printed. It shows the current settings, ledger, source policy and
    organization, without the external id, and its data can be downloaded from
    it as CSV and JSON. Replaces only a file that rolecall wrote. Changes
    nothing in AWS.

    [bold]Examples[/]

        rolecall report rolecall.html
        rolecall prove --reader-profile auditor --json > prove.json
        rolecall report november.html --evidence prove.json --since august.html
    """
    stage = context.obj.open()
    content = read_report(stage, datetime.now(UTC), evidence=evidence, since=since)
    write_file(file, render_report(content), force=force)
    print_text(f"wrote {file}\n")
    stage.require_readable_rows()


@app.command()
def cost(
    *,
    accounts: Annotated[int, typer.Option(min=1, metavar="N", help="The number of accounts.")],
    per_day: Annotated[int, typer.Option(min=0, metavar="M", help="The number of new accounts a day.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate the dollars a month, by service.

    Multiplies the calls for each account, which tests count, by AWS's prices
    in us-east-1 as of the date that is shown. Names what is not included. Calls
    nothing: it needs no credentials and no stage.

    [bold]Examples[/]

        rolecall cost --accounts 300
        rolecall cost --accounts 5000 --per-day 20
        rolecall cost --accounts 300 --json | jq .dollars_per_month
    """
    found = estimate(accounts, per_day)
    print_json(found.as_json()) if as_json else print_page(build_cost_page(found))


app.command("deploy")(deploy_command.deploy)
app.command("undeploy")(deploy_command.undeploy)
app.command("package")(deploy_command.package)
