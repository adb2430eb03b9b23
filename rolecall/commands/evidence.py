"""The commands for readers and auditors. What they need is imported when they run, as in `reading`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from rolecall.completion import complete_accounts
from rolecall.global_options import Connection
from rolecall.options import AsJson, ForceFile, PageFormat, PageOutput
from rolecall.tools import Names, Tool


def prove(
    context: typer.Context,
    reader_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="AWS profile with the source principal's credentials.")
    ] = None,
    reader_role: Annotated[
        str | None, typer.Option(metavar="ARN", help="Source principal to assume with that profile's credentials.")
    ] = None,
    accounts: Annotated[
        list[str] | None,
        typer.Option(
            "--account",
            metavar="ACCOUNT",
            help="Check only this account. Repeatable.",
            autocompletion=complete_accounts,
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Check only N random accounts of each kind.")
    ] = None,
    *,
    as_json: AsJson = False,
    output: PageOutput = PageFormat.TEXT,
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

    Examples:
        rolecall prove --reader-profile auditor
        rolecall prove --reader-profile auditor --sample 20 --json > evidence.json
        rolecall prove --reader-role arn:aws:iam::111122223333:role/Reader
    """
    from rolecall.accounts import resolve_accounts
    from rolecall.prove.command import prove as prove_stage
    from rolecall.prove.source_session import SourceSession

    connection: Connection = context.obj
    stage = connection.open()
    _ = stage.settings  # Fails if the stage is not deployed, before other credentials are needed.
    account_ids = resolve_accounts(stage, accounts or ())
    session = SourceSession.connect(
        profile=reader_profile or connection.profile,
        region=stage.region,
        endpoint_url=connection.endpoint_url,
        role_arn=reader_role,
        prepare=connection.prepare,
    )
    raise typer.Exit(
        prove_stage(stage, session, accounts=account_ids, sample=sample, as_json=as_json or output is PageFormat.JSON)
    )


def doctor(
    context: typer.Context,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="ACCOUNT",
            help="Check the access role in this account, not in a chosen one.",
            autocompletion=complete_accounts,
        ),
    ] = None,
    *,
    as_json: AsJson = False,
    output: PageOutput = PageFormat.TEXT,
) -> None:
    """Diagnose a stage and its AWS environment, and suggest fixes.

    Before the deployment: credentials, region, organization, and the trail without
    which no event arrives. Afterwards also: functions, rule, queues, schedules
    and log groups; the source principals and their quotas; the access role of
    one account, by a dry run; alarms and their subscriptions; whether
    publishing is blocked or records are lost; the freeze.

    Changes nothing. Every check is made, whatever the others find, unless the
    credentials are the wrong ones. A check without permission is unknown, and
    its line names the permission.

    Exit status: 0 all checks passed, 1 a check failed, 2 a check could not be
    made.

    Examples:
        rolecall doctor
        rolecall doctor --account 444455556666
        rolecall doctor --json | jq .status
    """
    from rolecall.accounts import resolve_account
    from rolecall.doctor.command import doctor as diagnose

    stage = context.obj.open(or_default=True)
    account_id = resolve_account(stage, account) if account is not None else None
    raise typer.Exit(diagnose(stage, account=account_id, as_json=as_json or output is PageFormat.JSON))


def export(
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

    Examples:
        rolecall export aws-config --source-profile reader --output accounts.config
        AWS_CONFIG_FILE=accounts.config aws --profile payments iam get-account-summary
        rolecall export aws-config --source-profile sso --output ~/.aws/config --merge
        rolecall export cloudquery --output aws.yaml
        rolecall export steampipe --output ~/.steampipe/config/aws.spc --force
        rolecall export prowler | sh -s -- --severity critical
        rolecall export json --names ids | jq -r '.[].account_id'
    """
    from rolecall.accounts import read_ou_paths
    from rolecall.aws_config import merge_profiles
    from rolecall.console import print_text
    from rolecall.export import export as export_accounts
    from rolecall.export import own_beginning
    from rolecall.export_formats import Options
    from rolecall.files import write_file

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
    text, private = export_accounts(tool, settings, stage.rows(), options), settings.external_id is not None
    if output is None:
        print_text(text)
    elif merge:
        merge_profiles(output, settings.stage, text, private=private)
        print_text(f"merged into {output}\n")
    else:
        write_file(output, text, own=own_beginning(tool, settings), force=force, private=private)
        print_text(f"wrote {output}\n")


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
    as_json: AsJson = False,
) -> None:
    """Write a page with the status of every account and who can assume what.

    It is for people who don't operate Rolecall, such as auditors: it needs only
    a browser, loads no external resources, works without scripts, and can be
    printed. It shows the current settings, ledger, source policy and
    organization, without the external id, and its data can be downloaded from
    it as CSV and JSON. Replaces only a file that rolecall wrote. Changes
    nothing in AWS.

    Examples:
        rolecall report rolecall.html
        rolecall prove --reader-profile auditor --json > prove.json
        rolecall report november.html --evidence prove.json --since august.html
    """
    from rolecall.console import print_warning, print_written
    from rolecall.files import write_file
    from rolecall.report import read_report
    from rolecall.report_data import contains_evidence
    from rolecall.report_page import render_report

    stage = context.obj.open()
    content = read_report(stage, datetime.now(UTC), evidence=evidence, since=since)
    loses_evidence = evidence is None and contains_evidence(file)
    write_file(file, render_report(content), force=force)
    print_written(file, as_json=as_json)
    if loses_evidence:
        print_warning(
            f"the earlier {file} had the results of rolecall prove, and this one has none: pass --evidence FILE"
        )
    stage.require_readable_rows()


def cost(
    *,
    accounts: Annotated[int, typer.Option(min=1, metavar="N", help="The number of accounts.")],
    per_day: Annotated[int, typer.Option(min=0, metavar="M", help="The number of new accounts a day.")] = 0,
    as_json: AsJson = False,
    output: PageOutput = PageFormat.TEXT,
) -> None:
    """Estimate the dollars a month, by service.

    Multiplies the calls for each account, which tests count, by AWS's prices
    in us-east-1 as of the date that is shown. Names what is not included. Calls
    nothing: it needs no credentials and no stage.

    Examples:
        rolecall cost --accounts 300
        rolecall cost --accounts 5000 --per-day 20
        rolecall cost --accounts 300 --json | jq .dollars_per_month
    """
    from rolecall.console import print_json, print_page
    from rolecall.cost import estimate
    from rolecall.cost_page import build_cost_page

    found = estimate(accounts, per_day)
    print_json(found.as_json()) if as_json or output is PageFormat.JSON else print_page(build_cost_page(found))
