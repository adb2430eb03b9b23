"""Prowler's formats: a script for its command line, the accounts for its app, and a mutelist for both."""

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from chalicelib.ownership import ownership_tags
from chalicelib.settings import Settings
from rolecall.errors import CommandError
from rolecall.export_formats import Options, Target, heading, quoted
from rolecall.files import MARK

# Checks by the data that they read: where it is denied, the first two pass although nothing was read, the third reports nothing.
_CHECKS_OF_DATA = {
    "awslambda_function_no_secrets_in_code": "lambda:GetFunction",
    "cloudwatch_log_group_no_secrets_in_logs": "logs:FilterLogEvents",
    "ssm_document_secrets": "ssm:GetDocument",
}
_MIN_ALIAS_CHARS = 3  # Provider.alias in Prowler's API


def script(settings: Settings, targets: list[Target], options: Options) -> str:
    """Return a shell script that scans one account after the other, and ends with the worst status."""
    excluded = [check for check, action in _CHECKS_OF_DATA.items() if settings.denies(action)]
    arguments = ["--excluded-checks", *excluded] if excluded else []
    arguments += ["--external-id", settings.external_id] if settings.external_id else []
    arguments += ["--profile", options.source_profile] if options.source_profile else []
    lines = [
        "#!/bin/sh",
        heading(settings, targets),
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


def bulk(settings: Settings, targets: list[Target], _: Options) -> str:
    """Return the providers of Prowler's bulk provisioning. Raise CommandError without an external id, which it requires."""
    if settings.external_id is None:
        raise CommandError(
            f"stage {settings.stage} has no external id, and Prowler's bulk provisioning accepts no AWS role without one: set the "
            "parameter ExternalId"
        )
    lines = [heading(settings, targets)]
    for target in targets:
        alias = target.name if len(target.name) >= _MIN_ALIAS_CHARS else f"{target.name}-{target.account_id}"
        lines += [
            target.comment,
            '- provider: "aws"',
            f"  uid: {quoted(target.account_id)}",
            f"  alias: {quoted(alias)}",
            '  auth_method: "role"',
            "  credentials:",
            f"    role_arn: {quoted(target.role_arn)}",
            f"    external_id: {quoted(settings.external_id)}",
        ]
    return "\n".join(lines) + "\n"


def mutelist(settings: Settings, _targets: list[Target], _options: Options) -> str:
    """Return a mutelist of Prowler's findings about what the stage itself installs, each with the reason.

    The ownership tags limit it to the stage's own resources.
    """
    tags = [f"(^| ){key}={value}( |$)" for key, value in ownership_tags(settings.stage).items()]
    lines = [f"# Findings about what stage {settings.stage} installs; {MARK} export.", "Mutelist:", "  Accounts:"]
    for account_id, found in groupby(sorted(_muted(settings)), key=itemgetter(0)):
        lines += [f"    {quoted(account_id)}:", "      Checks:"]
        for _, check, resource, reason in found:
            lines += [
                f"        {quoted(check)}:",
                '          Regions: ["*"]',
                f"          Resources: [{quoted(resource)}]",
                f"          Tags: [{', '.join(map(quoted, tags))}]",
                f"          Description: {quoted(reason)}",
            ]
    return "\n".join(lines) + "\n"


def _muted(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """Yield account, check, resource and reason. In Prowler's patterns, an asterisk is any text, and a role has its name."""
    if any(arn.endswith("/ReadOnlyAccess") for arn in settings.member_role_policy_arns):
        yield (
            "*",
            "iam_role_cross_account_readonlyaccess_policy",
            f"^{re.escape(settings.member_role_name)}$",
            "The member role is for the source principals, which its trust policy names.",
        )
    if settings.keeps_source_policy:
        yield (
            settings.source_account_id,
            "iam_no_custom_policy_permissive_role_assumption",
            f"^{re.escape(settings.source_policy_name)}(-[0-9]+)?$",
            "The source policy grants the member roles of the accounts in its conditions, in the organization.",
        )
    yield (
        settings.management_account_id,
        "iam_role_cross_service_confused_deputy_prevention",
        "*",
        "Only Lambda assumes the roles of the stage's functions, for functions of the same account.",
    )
