"""Configuration of the tools that read the accounts, in each tool's own format; docs/readers.md has examples."""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from chalicelib.accounts import LedgerRow
from chalicelib.arns import role_arn
from chalicelib.settings import Settings
from rolecall.console import counted, printable
from rolecall.errors import CommandError
from rolecall.files import MARK
from rolecall.profile_names import profile_names

# The registry requires a version; this is the one of a public example, for the operator to change.
_CLOUDQUERY_AWS = "v25.5.3"
_AGGREGATOR = "aws"
# Errors of denied calls, which would fail a query over all accounts.
_DENIED_CODES = (
    *("AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"),
    *("UnrecognizedClientException", "AuthorizationError"),
)
# Checks that read what DenyDataReads denies: the first two pass unseen, the third reports nothing.
_CHECKS_OF_DATA = (
    *("awslambda_function_no_secrets_in_code", "cloudwatch_log_group_no_secrets_in_logs"),
    "ssm_document_secrets",
)


class Tool(StrEnum):
    """A tool whose configuration can be written."""

    AWS_CONFIG = "aws-config"
    CLOUDQUERY = "cloudquery"
    STEAMPIPE = "steampipe"
    PROWLER = "prowler"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """A region of the partition, and the tool's profile with the source principal's credentials.

    Without a profile, the credentials are those of the tool's environment.
    """

    region: str
    source_profile: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """One account: its safe name, its comment with the id and the real name, and its member role."""

    name: str
    comment: str
    role_arn: str


def export(tool: Tool, settings: Settings, rows: Iterable[LedgerRow], options: Options) -> str:
    """Return a tool's configuration for all accounts whose access is in force, sorted by id.

    Raise CommandError if there are none: with an empty list, CloudQuery reads the account of its own credentials, and the others
    succeed without having read anything.
    """
    granted = sorted((row for row in rows if row.in_force_since is not None), key=lambda row: row.account_id)
    if not granted:
        raise CommandError(
            f"no account's access is in force in stage {settings.stage}, so there is nothing to export: see rolecall status"
        )
    return _WRITERS[tool](settings, _targets(settings, granted, options), options)


def _targets(settings: Settings, rows: list[LedgerRow], options: Options) -> list[_Target]:
    names = profile_names(rows, {"default", options.source_profile or "default"})
    return [
        _Target(
            name=names[row.account_id],
            comment=f"# {row.account_id} {printable(row.name or '')}".rstrip(),
            role_arn=role_arn(settings.partition, row.account_id, settings.member_role_name),
        )
        for row in rows
    ]


def _heading(settings: Settings, targets: list[_Target]) -> str:
    accounts = counted(len(targets), "account")
    return f"# {accounts} granted by the source policy of stage {settings.stage}; {MARK} export."


def _aws_config(settings: Settings, targets: list[_Target], options: Options) -> str:
    source = (
        f"source_profile = {options.source_profile}" if options.source_profile else "credential_source = Environment"
    )
    external_id = [f"external_id = {settings.external_id}"] if settings.external_id else []
    sections = [
        "\n".join(
            [
                target.comment,
                f"[profile {target.name}]",
                f"role_arn = {target.role_arn}",
                source,
                *external_id,
                f"region = {options.region}",
            ]
        )
        for target in targets
    ]
    return "\n\n".join([_heading(settings, targets), *sections]) + "\n"


def _cloudquery(settings: Settings, targets: list[_Target], options: Options) -> str:
    lines = [
        _heading(settings, targets),
        "# Adjust the plugin's version, the tables, and the destination, which is configured in another file.",
        "kind: source",
        "spec:",
        "  name: aws",
        "  path: cloudquery/aws",
        "  registry: cloudquery",
        f"  version: {_CLOUDQUERY_AWS}",
        '  tables: ["aws_iam_*"]',
        '  destinations: ["postgresql"]',
        "  spec:",
        "    accounts:",
    ]
    for target in targets:
        lines += [
            f"      {target.comment}",
            f"      - id: {_quoted(target.name)}",
            f"        role_arn: {_quoted(target.role_arn)}",
            f"        default_region: {_quoted(options.region)}",
        ]
        if settings.external_id:
            lines.append(f"        external_id: {_quoted(settings.external_id)}")
        if options.source_profile:
            lines.append(f"        local_profile: {_quoted(options.source_profile)}")
    return "\n".join(lines) + "\n"


def _steampipe(settings: Settings, targets: list[_Target], _: Options) -> str:
    connections = {f"aws_{target.name.replace('-', '_')}": target for target in targets}

    def lines() -> Iterator[str]:
        yield _heading(settings, targets)
        yield "# The profiles are those of rolecall export aws-config. The first connection queries all accounts."
        yield f"connection {_quoted(_AGGREGATOR)} {{"
        yield '  plugin      = "aws"'
        yield '  type        = "aggregator"'
        yield f"  connections = [{', '.join(map(_quoted, connections))}]"
        yield "}"
        for name, target in connections.items():
            yield ""
            yield target.comment
            yield f"connection {_quoted(name)} {{"
            yield '  plugin  = "aws"'
            yield f"  profile = {_quoted(target.name)}"
            yield '  regions = ["*"]'
            if settings.deny_data_reads:
                yield f"  ignore_error_codes = [{', '.join(map(_quoted, _DENIED_CODES))}]"
            yield "}"

    return "\n".join(lines()) + "\n"


def _prowler(settings: Settings, targets: list[_Target], options: Options) -> str:
    arguments = ["--excluded-checks", *_CHECKS_OF_DATA] if settings.deny_data_reads else []
    arguments += ["--external-id", settings.external_id] if settings.external_id else []
    arguments += ["--profile", options.source_profile] if options.source_profile else []
    lines = [
        "#!/bin/sh",
        _heading(settings, targets),
        "# Passes its own options to Prowler. Continues after an account that fails, and exits with 0 if all checks of all accounts",
        "# passed, 3 if some failed, and another status if an account was not scanned.",
        f'export AWS_DEFAULT_REGION="${{AWS_DEFAULT_REGION:-{options.region}}}"',
        "status=0",
        'ended() { if [ "$1" -ne 3 ] || [ "$status" -eq 0 ]; then status=$1; fi; }',
    ]
    for target in targets:
        command = shlex.join(["prowler", "aws", "--role", target.role_arn, *arguments])
        lines += ["", target.comment, f'{command} "$@" || ended $?']
    return "\n".join([*lines, "", 'exit "$status"']) + "\n"


def _quoted(text: str) -> str:
    """Return a string in the syntax that YAML and HCL share; the values contain no characters that they treat differently."""
    return json.dumps(text)


_WRITERS: dict[Tool, Callable[[Settings, list[_Target], Options], str]] = {
    Tool.AWS_CONFIG: _aws_config,
    Tool.CLOUDQUERY: _cloudquery,
    Tool.STEAMPIPE: _steampipe,
    Tool.PROWLER: _prowler,
}
