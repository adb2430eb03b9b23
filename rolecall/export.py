"""The readers' configuration: which roles there are to assume, written as each reader expects it; docs/readers.md shows each."""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from chalicelib.accounts import LedgerRow
from chalicelib.arns import role_arn
from chalicelib.settings import Settings
from rolecall.console import printable
from rolecall.profile_names import profile_names

# One that a public example names: the registry wants one, and which is the operator's choice.
_CLOUDQUERY_AWS = "v25.5.3"
_AGGREGATOR = "aws"


class Reader(StrEnum):
    """Whose configuration is written."""

    AWS_CONFIG = "aws-config"
    CLOUDQUERY = "cloudquery"
    STEAMPIPE = "steampipe"
    PROWLER = "prowler"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What readers need besides the settings: a region of the partition, and where the source principal's credentials are.

    They are in a profile of the reader's own AWS config, or, without one, in its environment.
    """

    region: str
    source_profile: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """One account to read: a safe name, and its id and the name it has, for a comment."""

    name: str
    told: str
    role_arn: str


def reachable(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Return the rows of the accounts whose access is in force, by id."""
    return sorted((row for row in rows if row.in_force_since is not None), key=lambda row: row.account_id)


def export(reader: Reader, settings: Settings, rows: Iterable[LedgerRow], options: Options) -> str:
    """Write a reader's configuration for all accounts that it can reach."""
    return _WRITERS[reader](settings, reachable(rows), options)


def _targets(settings: Settings, rows: list[LedgerRow], options: Options) -> list[_Target]:
    taken = ("default", options.source_profile or "default")
    names = profile_names(rows, dict.fromkeys(taken))
    return [
        _Target(
            name=names[row.account_id],
            told=f"{row.account_id} {printable(row.name or '')}".rstrip(),
            role_arn=role_arn(settings.partition, row.account_id, settings.member_role_name),
        )
        for row in rows
    ]


def _heading(settings: Settings, targets: list[_Target]) -> str:
    count = f"{len(targets)} {'account' if len(targets) == 1 else 'accounts'}"
    return f"# {count} that the source policy of Rolecall's stage {settings.stage} grants; rolecall export wrote this file."


def _aws_config(settings: Settings, rows: list[LedgerRow], options: Options) -> str:
    targets = _targets(settings, rows, options)
    source = (
        f"source_profile = {options.source_profile}" if options.source_profile else "credential_source = Environment"
    )
    external = [f"external_id = {settings.external_id}"] if settings.external_id else []
    sections = [
        "\n".join(
            [
                f"# {target.told}",
                f"[profile {target.name}]",
                f"role_arn = {target.role_arn}",
                source,
                *external,
                f"region = {options.region}",
            ]
        )
        for target in targets
    ]
    return "\n\n".join([_heading(settings, targets), *sections]) + "\n"


def _cloudquery(settings: Settings, rows: list[LedgerRow], options: Options) -> str:
    targets = _targets(settings, rows, options)
    written = [
        _heading(settings, targets),
        "# Yours to choose: the plugin's version, the tables, and the destination, which another file configures.",
        "kind: source",
        "spec:",
        "  name: aws",
        "  path: cloudquery/aws",
        "  registry: cloudquery",
        f"  version: {_CLOUDQUERY_AWS}",
        '  tables: ["aws_iam_*"]',
        '  destinations: ["postgresql"]',
        "  spec:",
        "    accounts:" if targets else "    accounts: []",
    ]
    for target in targets:
        written += [
            f"      # {target.told}",
            f"      - id: {_quoted(target.name)}",
            f"        role_arn: {_quoted(target.role_arn)}",
            f"        default_region: {_quoted(options.region)}",
        ]
        if settings.external_id:
            written.append(f"        external_id: {_quoted(settings.external_id)}")
        if options.source_profile:
            written.append(f"        local_profile: {_quoted(options.source_profile)}")
    return "\n".join(written) + "\n"


def _steampipe(settings: Settings, rows: list[LedgerRow], options: Options) -> str:
    targets = _targets(settings, rows, options)
    connections = {f"aws_{target.name.replace('-', '_')}": target for target in targets}

    def written() -> Iterator[str]:
        yield _heading(settings, targets)
        yield "# The profiles are those that rolecall export aws-config writes. The first connection asks all accounts at once."
        yield f"connection {_quoted(_AGGREGATOR)} {{"
        yield '  plugin      = "aws"'
        yield '  type        = "aggregator"'
        yield f"  connections = [{', '.join(map(_quoted, connections))}]"
        yield "}"
        for name, target in connections.items():
            yield ""
            yield f"# {target.told}"
            yield f"connection {_quoted(name)} {{"
            yield '  plugin  = "aws"'
            yield f"  profile = {_quoted(target.name)}"
            yield '  regions = ["*"]'
            yield "}"

    return "\n".join(written()) + "\n"


def _prowler(settings: Settings, rows: list[LedgerRow], options: Options) -> str:
    targets = _targets(settings, rows, options)
    more = ["--external-id", settings.external_id] if settings.external_id else []
    more += ["--profile", options.source_profile] if options.source_profile else []
    written = [
        "#!/bin/sh",
        _heading(settings, targets),
        "# Prowler's exit status says whether a check failed, so one account's doesn't end the rest.",
        f'export AWS_DEFAULT_REGION="${{AWS_DEFAULT_REGION:-{options.region}}}"',
    ]
    for target in targets:
        written += ["", f"# {target.told}", shlex.join(["prowler", "aws", "--role", target.role_arn, *more])]
    return "\n".join(written) + "\n"


def _quoted(text: str) -> str:
    """Write a string as YAML and HCL both read it; what goes in holds no character that they would not."""
    return json.dumps(text)


_WRITERS: dict[Reader, Callable[[Settings, list[LedgerRow], Options], str]] = {
    Reader.AWS_CONFIG: _aws_config,
    Reader.CLOUDQUERY: _cloudquery,
    Reader.STEAMPIPE: _steampipe,
    Reader.PROWLER: _prowler,
}
