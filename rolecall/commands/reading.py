"""The commands that show a stage. What they need is imported when they run, so that help needs neither AWS nor tables."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from chalicelib.accounts import Outcome
from chalicelib.errors import Reason
from rolecall.completion import complete_accounts, complete_ous
from rolecall.options import (
    AsJson,
    Format,
    OptionalAccountIds,
    Ous,
    Output,
    PageFormat,
    PageOutput,
    Sort,
    chosen_format,
)


def status(
    context: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every five seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    output: PageOutput = PageFormat.TEXT,
) -> None:
    """Show the status of a stage.

    Counts the accounts by outcome and reason, and shows each shard of the
    source policy, whether publishing is blocked and why, the freeze, the last
    resync, the queues and the alarms. An account is enrolled once its access
    is in force, and pending until then. Changes nothing.

    Exit status: 0 healthy, 1 something needs attention (named in the last
    line), 2 the status could not be determined. Alarms with disabled actions
    are ignored.

    Examples:
        rolecall status
        rolecall status --json | jq .coverage.failing
        rolecall status --json | jq .source_policy.blocked
        rolecall status --watch
        rolecall --stage dev status || echo "needs attention"
    """
    from rolecall.console import print_json, print_page
    from rolecall.status import read_status
    from rolecall.status_page import build_status_page, watch_pages

    is_json = as_json or output is PageFormat.JSON
    if watch and is_json:
        raise typer.BadParameter("pass --watch or JSON output, not both", context)
    stage = context.obj.open()
    if watch:
        watch_pages(lambda: build_status_page(read_status(stage, datetime.now(UTC))), time.sleep)
    found = read_status(stage, datetime.now(UTC))
    print_json(found.as_json()) if is_json else print_page(build_status_page(found))
    stage.require_readable_rows()
    raise typer.Exit(found.exit_status)


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
        typer.Option(metavar="REASON", help="Filter by reason (see rolecall explain). Repeatable."),
    ] = None,
    ou: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OU-ID",
            help="Filter by organizational unit, at any depth. Repeatable.",
            autocompletion=complete_ous,
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Filter by account name (substring or glob).")] = "",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Output as CSV (formula-like values are escaped).")] = False,
    output: Output = Format.TABLE,
    sort: Annotated[
        Sort, typer.Option(metavar="COLUMN", help="Sort by account, name, ou, outcome, reason or updated.")
    ] = Sort.ACCOUNT,
    wide: Annotated[bool, typer.Option("--wide", help="Show every column in full, on long lines.")] = False,
) -> None:
    """List the accounts.

    Shows each account's outcome and reason, what the last pass changed, since
    when it is enrolled and its access in force, and the last error. Eligible
    accounts that were not handled yet are listed as waiting, unless filtered by
    outcome or reason. Times are in UTC. A narrow terminal shows fewer columns.

    Exit status: 0, or 2 if a row of the ledger can't be read completely.

    Examples:
        rolecall accounts
        rolecall accounts --outcome failed --outcome retired
        rolecall accounts --name 'prod-*' --json | jq '.[].reason'
        rolecall accounts --ou ou-ab12-11111111 -o csv
        rolecall accounts --outcome pending --sort updated --wide
    """
    from rolecall.accounts import parse_filter, read_entries, sort_entries
    from rolecall.accounts_page import print_entries

    chosen = chosen_format(output, as_json=as_json, as_csv=as_csv)
    wanted = parse_filter(outcome or (), reason or (), ou or (), name)
    stage = context.obj.open()
    print_entries(sort_entries(read_entries(stage, wanted), sort), chosen, wide=wide)
    stage.require_readable_rows()


def show(
    context: typer.Context,
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="Account id or name.", autocompletion=complete_accounts)
    ],
    *,
    as_json: AsJson = False,
    output: PageOutput = PageFormat.TEXT,
) -> None:
    """Show everything about one account.

    Its organizational units, its outcome and reason, its access and since when
    that is in force, the last error and what to do; the desired member role;
    what enrolling it now would do, by a dry run; and its last log lines.
    Changes nothing.

    Exit status: 0, or 1 if the account should be enrolled and isn't, or could
    not be verified.

    Examples:
        rolecall show payments
        rolecall show 444455556666 --json | jq .role.trust
    """
    from rolecall.account_details import read_details
    from rolecall.account_details_page import build_details_page
    from rolecall.accounts import resolve_account
    from rolecall.console import print_json, print_page

    stage = context.obj.open()
    details = read_details(stage, resolve_account(stage, account))
    print_json(details.as_json()) if as_json or output is PageFormat.JSON else print_page(build_details_page(details))
    stage.require_readable_rows()
    raise typer.Exit(details.exit_status)


def plan(
    context: typer.Context,
    accounts: OptionalAccountIds = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Plan for every account: the default.")] = False,
    ous: Ous = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="Plan as if AdoptExistingRoles named every account.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show unchanged accounts too, and every document whole.")
    ] = False,
    as_json: AsJson = False,
    output: PageOutput = PageFormat.TEXT,
) -> None:
    """Show what a backfill would change.

    Opens a read-only session in each account, and compares the member role
    with the desired one: + is created, ~ updated,
    - deleted or revoked, ! fails. Documents are compared line by line; a
    document that was shown for one account is not repeated for others. Also
    shows what each shard of the source policy would grant. With RolloutPercent
    below 100, roles that wait for a later wave are only counted. Changes nothing.

    --adopt shows what would become of existing roles that Rolecall didn't
    create, what else manages each, and when it was last used. A role that a
    CloudFormation stack contains fails (docs/coming-from.md).

    Exit status: 0, or 1 if an account would fail.

    Examples:
        rolecall plan
        rolecall plan payments
        rolecall plan --adopt
        rolecall plan --ou ou-ab12-11111111 --verbose
        rolecall plan --json | jq .summary
    """
    from rolecall.accounts import resolve_accounts
    from rolecall.console import output_console, print_json
    from rolecall.plan import fetch_plan
    from rolecall.plan_page import print_plan

    if bool(accounts) + every + bool(ous) > 1:
        raise typer.BadParameter("pass accounts, --ou or --all: one of them at most", context)
    stage = context.obj.open()
    request: dict[str, Any] = {"accounts": resolve_accounts(stage, accounts or ()) or "all"}
    request |= ({"ous": ous} if ous else {}) | ({"adopt": True} if adopt else {})
    fetched = fetch_plan(stage, "backfill", request)
    print_json(fetched.as_json()) if as_json or output is PageFormat.JSON else print_plan(
        fetched, output_console(), verbose=verbose
    )
    raise typer.Exit(fetched.exit_status)


def stages(context: typer.Context, *, as_json: AsJson = False, output: Output = Format.TABLE) -> None:
    """List the stages that are deployed in this account and region.

    Shows the version that each was deployed with, and when its code or settings
    changed last. Changes nothing.

    Examples:
        rolecall stages
        rolecall stages -o json | jq -r '.[].stage'
    """
    from rolecall.listing import print_listing

    found = context.obj.open_all()
    columns = {"stage": "stage", "region": "region", "version": "version", "deployed_at": "deployed"}
    print_listing(columns, [stage.summary() for stage in found], chosen_format(output, as_json=as_json))


def settings(
    context: typer.Context,
    *,
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are not the default.")] = False,
    as_json: AsJson = False,
    output: Output = Format.TABLE,
) -> None:
    """Show the deployed settings and their defaults.

    Marks those that are not the default with *. The external id is not shown.
    Needs cloudformation:DescribeStacks and GetTemplateSummary. To change a
    setting: rolecall deploy STAGE --set NAME=VALUE. Changes nothing.

    Examples:
        rolecall settings
        rolecall settings --changed -o csv
    """
    from rolecall.console import output_console, terminal_width
    from rolecall.deployed_settings import print_settings, read_deployed_settings
    from rolecall.listing import print_listing

    found = [each for each in read_deployed_settings(context.obj.open()) if each.is_changed or not changed]
    chosen = chosen_format(output, as_json=as_json)
    if chosen is Format.TABLE and terminal_width() is not None:
        print_settings(found, output_console())
        return
    columns = {"mark": "", "name": "setting", "value": "value", "default": "default"}
    rows = [each.as_json() for each in found]
    if chosen is Format.TABLE:
        rows = [row | {"mark": "*" if row["changed"] else ""} for row in rows]
    else:
        del columns["mark"]
    print_listing(columns, rows, chosen)


def explain(
    reason: Annotated[Reason, typer.Argument(metavar="REASON", help="A reason, such as scp_denied.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Explain a reason: what it means, and what to do.

    The reasons are those of rolecall accounts, show and status. Calls nothing:
    it needs no credentials and no stage.

    Examples:
        rolecall explain scp_denied
        rolecall explain no_access_role --json | jq -r .remedy
    """
    from rolecall.console import label_grid, print_json, print_page
    from rolecall.reasons import MEANING, REMEDY, TITLE, runbook_section

    found = {
        "reason": str(reason),
        "title": TITLE[reason],
        "meaning": MEANING[reason],
        "remedy": REMEDY[reason],
        "runbook": runbook_section(reason),
    }
    print_json(found) if as_json else print_page(label_grid(found.items()))


def logs(
    context: typer.Context,
    account: Annotated[
        str | None,
        typer.Argument(
            metavar="ACCOUNT",
            help="Only lines about this account, by its id or name.",
            autocompletion=complete_accounts,
        ),
    ] = None,
    *,
    since: Annotated[str, typer.Option(metavar="DURATION", help="How far back, such as 30m, 2h or 7d.")] = "1h",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the log lines of all functions, or those about an account.

    A line has its time in UTC, the function, the level, the message and its
    fields. With --follow and --json, each line is a JSON value. Reads
    CloudWatch Logs and changes nothing.

    Examples:
        rolecall logs payments --since 2d
        rolecall logs --follow
        rolecall logs --json | jq 'map(select(.level == "ERROR"))'
    """
    from rolecall.accounts import resolve_account
    from rolecall.console import output_console, print_json, print_line, print_text
    from rolecall.durations import parse_duration
    from rolecall.logs import follow_log, now, read_log

    duration = parse_duration(since)
    stage = context.obj.open()
    _ = stage.settings  # Fails if the stage is not deployed: its functions would have no logs.
    account_id = resolve_account(stage, account) if account is not None else None
    if follow:
        for line in follow_log(lambda period: read_log(stage, account_id, period), duration, now, time.sleep):
            print_text(f"{json.dumps(line.as_json())}\n") if as_json else print_line(output_console(), line.as_text())
            sys.stdout.flush()
    lines = read_log(stage, account_id, duration)
    if as_json:
        print_json([line.as_json() for line in lines])
        return
    for line in lines:
        print_line(output_console(), line.as_text())
    if not lines:
        print_text(f"no log lines in the last {since}\n")
