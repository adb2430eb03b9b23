"""The commands `deploy`, `undeploy` and `package`. What they need is imported when they run: help and version need no AWS."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolecall.completion import complete_ous, complete_stages
from rolecall.global_options import Connection
from rolecall.options import AsJson, Yes

if TYPE_CHECKING:
    from rolecall.deploy.problems import RefusedError
    from rolecall.exit_status import ExitStatus
    from rolecall.operation import Operation

_StageName = Annotated[
    str | None,
    typer.Argument(
        metavar="STAGE",
        help="The name of the deployment; by default --stage, or prod.",
        show_default=False,
        autocompletion=complete_stages,
    ),
]


def deploy(
    context: typer.Context,
    stage_name: _StageName = None,
    source_principals: Annotated[
        list[str] | None,
        typer.Option("--source-principal", metavar="ARN", help="A role or user that may read. Repeatable."),
    ] = None,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--member-role-policy",
            metavar="[NAME=]FILE",
            help="A JSON policy document that the member role has, too. Repeatable.",
        ),
    ] = None,
    external_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The external id that source principals have to pass.")
    ] = None,
    include_ous: Annotated[
        list[str] | None,
        typer.Option(
            "--include-ou",
            metavar="OU-ID",
            help="Enroll only accounts below this OU. Repeatable.",
            autocompletion=complete_ous,
        ),
    ] = None,
    exclude_ous: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-ou",
            metavar="OU-ID",
            help="Exclude the accounts below this OU. Repeatable.",
            autocompletion=complete_ous,
        ),
    ] = None,
    exclude_accounts: Annotated[
        list[str] | None, typer.Option("--exclude-account", metavar="ID", help="Exclude this account. Repeatable.")
    ] = None,
    alarm_email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where alarms are sent; the address has to confirm.")
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any parameter of the template. Repeatable.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--parameters", metavar="FILE", help="A TOML file of parameters.")
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(metavar="NAME", help="The bucket for template and code; by default, one is created.")
    ] = None,
    *,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Accept documents with actions that don't only read.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing in the stage.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    text: Annotated[str, typer.Option("--params", hidden=True)] = "",
) -> None:
    """Deploy a stage, upgrade it, or change its settings.

    Checks everything that can be known before, and lists all problems at once.
    Shows what will change, asks, and shows the progress. Settings that are not
    given keep their values. Options that repeat replace the whole list; an
    option takes precedence over the file.

    Run it again after an interruption or a failure: it continues, or starts
    over, as the stack's status requires. Tables of an earlier stack are used
    again. Needs credentials of the management account.

    Exit status: 0 deployed, 1 the deployment failed (the resource and AWS's
    reason are shown), 2 refused before anything changed.

    Examples:
        rolecall deploy prod --source-principal arn:aws:iam::111122223333:role/Reader
        rolecall deploy prod --exclude-ou ou-ab12-11111111 --dry-run
        rolecall deploy prod --set Threads=20 --set MemberRoleTags=team=security --yes
        rolecall deploy prod --member-role-policy prowler.json --dry-run
        rolecall deploy prod --parameters rolecall.toml
    """
    from rolecall.deploy.deploy import deploy as deploy_stage
    from rolecall.deploy.packaged_app import packaged_app
    from rolecall.deploy.preflight import Given
    from rolecall.deploy.problems import RefusedError

    lists = {
        "SourcePrincipalArns": source_principals,
        "IncludeOuIds": include_ous,
        "ExcludeOuIds": exclude_ous,
        "ExcludeAccountIds": exclude_accounts,
    }
    options = {name: ",".join(values) for name, values in lists.items() if values}
    options |= {
        name: value for name, value in (("ExternalId", external_id), ("AlarmEmail", alarm_email)) if value is not None
    }
    operation = _operation(context, stage_name, yes=yes, as_json=as_json)
    given = Given(
        stage=operation.stage.name,
        options=options,
        pairs=tuple(pairs or ()),
        text=text,
        file=file,
        policies=tuple(policies or ()),
        allow_writes=allow_writes,
        bucket=bucket or None,
    )
    try:
        status = deploy_stage(operation, given, packaged_app(), dry_run=dry_run)
    except RefusedError as error:
        raise _refused(error) from None
    raise _finished(operation, status, as_json=as_json)


def undeploy(
    context: typer.Context, stage_name: _StageName = None, *, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Delete the stack of a stage, once nothing is enrolled.

    Refuses while an account is enrolled or a role or policy is left, and lists
    them: uninstall the stage first. Asks, checks again, turns the stack's
    protection off, deletes it, and shows what is kept: the two tables, with what
    is known about each account, and the bucket of the deployments.

    Exit status: 0 deleted, 1 CloudFormation could not delete it, or something is
    left, 2 refused before anything changed.

    Examples:
        rolecall uninstall
        rolecall undeploy prod
    """
    from rolecall.deploy.problems import RefusedError
    from rolecall.deploy.undeploy import undeploy as undeploy_stage

    operation = _operation(context, stage_name, yes=yes, as_json=as_json)
    try:
        status = undeploy_stage(operation)
    except RefusedError as error:
        raise _refused(error) from None
    raise _finished(operation, status, as_json=as_json)


def package(
    context: typer.Context,
    stage_name: _StageName = None,
    out: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where the files are written.")] = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Write the template, the code and the SBOM, to deploy them by other means.

    The files are template.json, deployment.zip and sbom.cdx.json.
    docs/deploy.md shows how the AWS CLI, Terraform and the AWS CDK deploy them.
    Needs no credentials.

    Examples:
        rolecall package prod --out build
    """
    from rolecall.console import print_written
    from rolecall.deploy.packaged_app import packaged_app
    from rolecall.deploy.preflight import check_stage_name
    from rolecall.deploy.problems import Problems, RefusedError
    from rolecall.stages import DEFAULT_STAGE

    connection: Connection = context.obj
    name, problems = stage_name or connection.stage or DEFAULT_STAGE, Problems()
    check_stage_name(name, problems)
    if problems.found:
        raise _refused(RefusedError("nothing was written:", problems.found))
    print_written(*packaged_app().write(name, out), as_json=as_json)


def _operation(context: typer.Context, stage_name: str | None, *, yes: bool, as_json: bool) -> "Operation":
    """Return the operation on a stage, in the configured region or in the one with the organization's events."""
    import boto3

    from rolecall.aws_errors import translate_errors
    from rolecall.deploy.location import DEFAULT_REGION
    from rolecall.operation import start_operation
    from rolecall.stages import DEFAULT_STAGE

    connection: Connection = context.obj
    with translate_errors("opening a session"):
        configured = connection.region or boto3.Session(profile_name=connection.profile).region_name
    connection = replace(
        connection, stage=stage_name or connection.stage or DEFAULT_STAGE, region=configured or DEFAULT_REGION
    )
    return start_operation(connection.open(), yes=yes, as_json=as_json)


def _finished(operation: "Operation", status: "ExitStatus", *, as_json: bool) -> typer.Exit:
    """Print the operation as JSON on request, and return the exit of the command."""
    from rolecall.console import print_json

    if as_json:
        print_json(operation.as_json(status))
    return typer.Exit(status)


def _refused(error: "RefusedError") -> typer.Exit:
    """Print every problem on standard error, and return the exit of the command."""
    from rolecall.console import print_problems
    from rolecall.exit_status import ExitStatus

    print_problems(error.summary, error.problems, error.unchecked)
    return typer.Exit(ExitStatus.UNKNOWN)
