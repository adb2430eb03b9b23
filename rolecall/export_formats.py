"""The formats of the exported configuration, but for Prowler's."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from rolecall.console import counted, printable
from rolecall.files import MARK

# The registry requires a version; this is the one of a public example, for the operator to change.
_CLOUDQUERY_AWS = "v25.5.3"
_AGGREGATOR = "aws"
# Errors of denied calls, which would fail a query over all accounts.
_DENIED_CODES = (
    *("AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"),
    *("UnrecognizedClientException", "AuthorizationError"),
)

JSON_BEGINNING = r'\[\n  \{\n    "account_id": "[0-9]{12}",\n    "name": ".*",\n    "profile": '
"""What a list of json_list begins with, as a pattern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """A region of the partition, and how the tool reaches and names the accounts.

    `source_profile` is the tool's profile with the source principal's credentials; without it, they are those of the tool's
    environment. `ids_as_names` gives every account its id as its name, `merged` writes for an AWS config that has other profiles,
    too, and `ou_paths` has each account's organizational units, if they were read.
    """

    region: str
    source_profile: str | None = None
    ids_as_names: bool = False
    merged: bool = False
    ou_paths: Mapping[AccountId, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One account: its id, its own name, its safe name, and its member role."""

    account_id: AccountId
    account_name: str
    name: str
    role_arn: str

    @property
    def comment(self) -> str:
        """A comment with the id and the account's own name."""
        return f"# {self.account_id} {printable(self.account_name)}".rstrip()


def heading(settings: Settings, targets: list[Target]) -> str:
    """Return the comment that marks a file as exported."""
    return f"{_summary(settings, targets)}; {MARK} export."


def _summary(settings: Settings, targets: list[Target]) -> str:
    return f"# {counted(len(targets), 'account')} granted by the source policy of stage {settings.stage}"


def aws_config(settings: Settings, targets: list[Target], options: Options) -> str:
    """Return an AWS config with a profile for each account."""
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
    # A merged file must not be marked as one that an export may replace.
    replaced = f"{_summary(settings, targets)}; rolecall export --merge replaces what is between these marks."
    return "\n\n".join([replaced if options.merged else heading(settings, targets), *sections]) + "\n"


def cloudquery(settings: Settings, targets: list[Target], options: Options) -> str:
    """Return a source of CloudQuery's AWS plugin."""
    lines = [
        heading(settings, targets),
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
            f"      - id: {quoted(target.name)}",
            f"        role_arn: {quoted(target.role_arn)}",
            f"        default_region: {quoted(options.region)}",
        ]
        if settings.external_id:
            lines.append(f"        external_id: {quoted(settings.external_id)}")
        if options.source_profile:
            lines.append(f"        local_profile: {quoted(options.source_profile)}")
    return "\n".join(lines) + "\n"


def steampipe(settings: Settings, targets: list[Target], _: Options) -> str:
    """Return connections of Steampipe's AWS plugin, which use the profiles of the AWS config, and an aggregator of them."""
    connections = {f"aws_{target.name.replace('-', '_')}": target for target in targets}

    def lines() -> Iterator[str]:
        yield heading(settings, targets)
        yield "# The profiles are those of rolecall export aws-config. The first connection queries all accounts."
        yield f"connection {quoted(_AGGREGATOR)} {{"
        yield '  plugin      = "aws"'
        yield '  type        = "aggregator"'
        yield f"  connections = [{', '.join(map(quoted, connections))}]"
        yield "}"
        for name, target in connections.items():
            yield ""
            yield target.comment
            yield f"connection {quoted(name)} {{"
            yield '  plugin  = "aws"'
            yield f"  profile = {quoted(target.name)}"
            yield '  regions = ["*"]'
            if settings.deny_data_reads:
                yield f"  ignore_error_codes = [{', '.join(map(quoted, _DENIED_CODES))}]"
            yield "}"

    return "\n".join(lines()) + "\n"


def c7n_org(settings: Settings, targets: list[Target], options: Options) -> str:
    """Return the accounts of c7n-org, which has no setting for the profile that assumes their roles."""
    profile = f" AWS_PROFILE={shlex.quote(options.source_profile)}" if options.source_profile else ""
    lines = [
        heading(settings, targets),
        f"# Run it as: AWS_DEFAULT_REGION={options.region}{profile} c7n-org run -c FILE",
        "accounts:",
    ]
    for target in targets:
        lines += [
            f"  {target.comment}",
            f"  - account_id: {quoted(target.account_id)}",
            f"    name: {quoted(target.name)}",
            f"    role: {quoted(target.role_arn)}",
        ]
        if settings.external_id:
            lines.append(f"    external_id: {quoted(settings.external_id)}")
        lines.append(f"    regions: [{quoted(options.region)}]")
    return "\n".join(lines) + "\n"


def json_list(settings: Settings, targets: list[Target], options: Options) -> str:
    """Return the accounts as a JSON list of objects; a value that there isn't is null."""
    accounts = [
        {
            "account_id": target.account_id,
            "name": target.account_name,
            "profile": target.name,
            "role_arn": target.role_arn,
            "external_id": settings.external_id,
            "region": options.region,
            "ou_path": options.ou_paths.get(target.account_id),
        }
        for target in targets
    ]
    return json.dumps(accounts, indent=2) + "\n"


def arns(_settings: Settings, targets: list[Target], _: Options) -> str:
    """Return the ARNs of the member roles, one a line."""
    return "".join(f"{target.role_arn}\n" for target in targets)


def quoted(text: str) -> str:
    """Return a string in the syntax that YAML and HCL share; the values contain no characters that they treat differently."""
    return json.dumps(text)
