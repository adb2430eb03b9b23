"""Configuration of the tools that read the accounts, in each tool's own format; docs/readers.md has examples."""

import re
from collections.abc import Callable, Iterable

from chalicelib.accounts import LedgerRow
from chalicelib.arns import AccountId, role_arn
from chalicelib.settings import Settings
from rolecall import export_formats, export_prowler
from rolecall.errors import CommandError
from rolecall.export_formats import Options, Target
from rolecall.files import MARKED
from rolecall.profile_names import profile_names
from rolecall.tools import Tool

_ANY_ACCOUNT = AccountId("000000000000")


def export(tool: Tool, settings: Settings, rows: Iterable[LedgerRow], options: Options) -> str:
    """Return a tool's configuration for all accounts whose access is in force, sorted by id.

    Raise CommandError if there are none: with an empty list, CloudQuery reads the account of its own credentials, and the others
    succeed without having read anything. Raise it, too, if the tool can't use the stage's roles.
    """
    granted = sorted((row for row in rows if row.in_force_since is not None), key=lambda row: row.account_id)
    if not granted:
        raise CommandError(
            f"no account's access is in force in stage {settings.stage}, so there is nothing to export: see rolecall status"
        )
    return _WRITERS[tool](settings, _targets(settings, granted, options), options)


def own_beginning(tool: Tool, settings: Settings) -> re.Pattern[str]:
    """Return what only a file that was exported for a tool begins with: in JSON and in a list of ARNs, there are no comments."""
    match tool:
        case Tool.JSON:
            return re.compile(export_formats.JSON_BEGINNING)
        case Tool.ARNS:
            role = re.escape(role_arn(settings.partition, _ANY_ACCOUNT, settings.member_role_name))
            return re.compile(f"{role.replace(_ANY_ACCOUNT, '[0-9]{12}', 1)}\n")
        case _:
            return MARKED


def _targets(settings: Settings, rows: list[LedgerRow], options: Options) -> list[Target]:
    reserved = {"default", options.source_profile or "default"}
    names = {row.account_id: row.account_id for row in rows} if options.ids_as_names else profile_names(rows, reserved)
    return [
        Target(
            account_id=row.account_id,
            account_name=row.name or "",
            name=names[row.account_id],
            role_arn=role_arn(settings.partition, row.account_id, settings.member_role_name),
        )
        for row in rows
    ]


_WRITERS: dict[Tool, Callable[[Settings, list[Target], Options], str]] = {
    Tool.AWS_CONFIG: export_formats.aws_config,
    Tool.CLOUDQUERY: export_formats.cloudquery,
    Tool.STEAMPIPE: export_formats.steampipe,
    Tool.PROWLER: export_prowler.script,
    Tool.PROWLER_MUTELIST: export_prowler.mutelist,
    Tool.PROWLER_BULK: export_prowler.bulk,
    Tool.C7N_ORG: export_formats.c7n_org,
    Tool.JSON: export_formats.json_list,
    Tool.ARNS: export_formats.arns,
}
