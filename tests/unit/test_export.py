"""Exported configuration parses as its tool parses it, has exactly the accounts with access, and escapes their names."""

import configparser
import io
import re
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.accounts import LedgerRow, Outcome
from chalicelib.arns import AccountId
from chalicelib.settings import Settings
from rolecall.errors import CommandError
from rolecall.export import Options, Tool, export
from rolecall.profile_names import profile_names
from tests.unit.builders import account_ids, settings
from tests.unit.ledger_rows import numbered, row

DOCUMENT = (Path(__file__).parents[2] / "docs" / "readers.md").read_text()
ENVIRONMENT = Options(region="us-east-1")
PROFILE = Options(region="us-east-1", source_profile="the reader's")
PAYMENTS = row("444455556666", name="Payments")
ROLE = "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole"
CHECKS_OF_DATA = (
    "awslambda_function_no_secrets_in_code",
    "cloudwatch_log_group_no_secrets_in_logs",
    "ssm_document_secrets",
)
DENIED = {
    "ignore_error_codes": [
        "AccessDenied",
        "AccessDeniedException",
        "NotAuthorized",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
        "AuthorizationError",
    ]
}
HOSTILE = (
    'Payments, "Ltd"',
    "payments ltd",
    "\U0001f680",
    "<script>alert(1)</script>",
    "a\n[default]\naws_access_key_id = stolen",
    'x"\n}\nconnection "evil" {',
    "y: {z}\u2028kind: evil",
    "$(touch /tmp/evil) `id` ; rm -rf /",
    "default",
    "prod-222222222222",
    "",
    "\u65e5\u672c",
)
ROWS = [row(numbered(number), name=name) for number, name in enumerate(HOSTILE, start=1)]


def parsed(
    tool: Tool, used: Settings, rows: Iterable[LedgerRow], options: Options = ENVIRONMENT
) -> list[dict[str, Any]]:
    """Export the configuration, and parse each account's part of it."""
    text = export(tool, used, rows, options)
    match tool:
        case Tool.AWS_CONFIG:
            config = configparser.RawConfigParser()
            config.read_file(io.StringIO(text))
            return [{"name": each.removeprefix("profile "), **config[each]} for each in config.sections()]
        case Tool.CLOUDQUERY:
            (document,) = yaml.safe_load_all(text)
            accounts: list[dict[str, Any]] = document["spec"]["spec"]["accounts"]
            return accounts
        case Tool.STEAMPIPE:
            return [each for each in connections(text) if "type" not in each]
        case Tool.PROWLER:
            lines = [shlex.split(line, comments=True) for line in text.splitlines()]
            return [{"command": line} for line in lines if line and line[0] == "prowler"]


def connections(text: str) -> list[dict[str, Any]]:
    found = []
    for block in hcl2.loads(text)["connection"]:
        ((name, content),) = ((key, value) for key, value in block.items() if not key.startswith("__"))
        values = {key: unquoted(value) for key, value in content.items() if not key.startswith("__")}
        found.append({"name": unquoted(name), **values})
    return found


def unquoted(value: Any) -> Any:
    if isinstance(value, list):
        return [unquoted(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("tool", "options", "expected"),
    [
        (
            Tool.AWS_CONFIG,
            ENVIRONMENT,
            {
                "name": "payments",
                "role_arn": ROLE,
                "credential_source": "Environment",
                "external_id": "a:b",
                "region": "us-east-1",
            },
        ),
        (
            Tool.AWS_CONFIG,
            PROFILE,
            {
                "name": "payments",
                "role_arn": ROLE,
                "source_profile": "the reader's",
                "external_id": "a:b",
                "region": "us-east-1",
            },
        ),
        (
            Tool.CLOUDQUERY,
            PROFILE,
            {
                "id": "payments",
                "role_arn": ROLE,
                "default_region": "us-east-1",
                "external_id": "a:b",
                "local_profile": "the reader's",
            },
        ),
        (
            Tool.PROWLER,
            PROFILE,
            {
                "command": [
                    *("prowler", "aws", "--role", ROLE, "--excluded-checks", *CHECKS_OF_DATA),
                    *("--external-id", "a:b", "--profile", "the reader's", "$@", "||", "ended", "$?"),
                ]
            },
        ),
    ],
)
def test_account_has_its_role_and_credentials(tool: Tool, options: Options, expected: dict[str, Any]) -> None:
    assert parsed(tool, settings(EXTERNAL_ID="a:b"), [PAYMENTS], options) == [expected]


def test_role_is_in_the_partition_of_the_stage() -> None:
    (profile,) = parsed(Tool.AWS_CONFIG, settings("aws-us-gov"), [PAYMENTS], Options(region="us-gov-west-1"))
    assert profile["role_arn"] == "arn:aws-us-gov:iam::444455556666:role/CrossAccountReadOnlyRole"
    assert profile["region"] == "us-gov-west-1"


def test_steampipe_has_an_aggregator_and_a_connection_for_each_account() -> None:
    rows = [row("444455556666", name="Pay-ments"), row("000000000001", name="b")]
    assert connections(export(Tool.STEAMPIPE, settings(), rows, ENVIRONMENT)) == [
        {"name": "aws", "plugin": "aws", "type": "aggregator", "connections": ["aws_b", "aws_pay_ments"]},
        {"name": "aws_b", "plugin": "aws", "profile": "b", "regions": ["*"], **DENIED},
        {"name": "aws_pay_ments", "plugin": "aws", "profile": "pay-ments", "regions": ["*"], **DENIED},
    ]


@pytest.mark.parametrize("tool", [Tool.STEAMPIPE, Tool.PROWLER])
def test_denied_data_reads_are_left_out_only_where_they_are_denied(tool: Tool) -> None:
    text = export(tool, settings(DENY_DATA_READS="false"), [PAYMENTS], ENVIRONMENT)
    assert "ignore_error_codes" not in text
    assert "--excluded-checks" not in text


@pytest.mark.parametrize("tool", list(Tool))
def test_accounts_are_those_with_access_in_force(tool: Tool) -> None:
    rows = [
        row("000000000003", Outcome.FAILED, name="verification-failed", in_force_since="2026-11-25T10:00:00"),
        row("000000000001", name="enrolled"),
        row("000000000002", Outcome.RETIRED, name="retired"),
        row("000000000004", Outcome.FAILED, name="new-and-failed"),
        row("000000000005", name="pending", in_force_since=None),
        row("999999999999", name="management"),
    ]
    text = export(tool, settings(), rows, ENVIRONMENT)
    assert len(parsed(tool, settings(), rows)) == 3
    included = {each.name: (each.name or "") in text for each in rows}
    assert [name for name, is_in in included.items() if is_in] == ["verification-failed", "enrolled", "management"]


@pytest.mark.parametrize("tool", list(Tool))
def test_export_of_no_account_is_rejected(tool: Tool) -> None:
    with pytest.raises(CommandError, match="no account's access is in force in stage dev"):
        export(tool, settings(), [row("000000000005", in_force_since=None)], ENVIRONMENT)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((0, 0, 0), 0), ((0, 3, 0), 3), ((3, 1, 3), 1), ((1, 0, 0), 1), ((127, 3, 0), 127), ((3, 0, 2), 2)],
)
def test_prowler_script_scans_every_account_and_fails_if_one_failed(
    statuses: tuple[int, ...], expected: int, tmp_path: Path
) -> None:
    rows = [row(numbered(number)) for number in (1, 2, 3)]
    scanner, log = tmp_path / "prowler", tmp_path / "log"
    scanner.write_text(f"""#!/bin/sh
for each in "$@"; do printf '<%s>' "$each" >> {log}; done; echo >> {log}
case "$*" in *:000000000001:*) exit {statuses[0]} ;; *:000000000002:*) exit {statuses[1]} ;; *) exit {statuses[2]} ;; esac
""")
    scanner.chmod(0o700)
    script = export(Tool.PROWLER, settings(), rows, ENVIRONMENT)
    ran = subprocess.run(
        ["/bin/sh", "-s", "--", "--severity", "very high"],
        input=script,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
    )
    assert ran.returncode == expected
    calls = log.read_text().splitlines()
    assert [numbered(number) in call for number, call in zip((1, 2, 3), calls, strict=True)] == [True] * 3
    assert all(call.endswith("<--severity><very high>") for call in calls)


@pytest.mark.parametrize(
    ("tool", "keys"),
    [
        (Tool.AWS_CONFIG, {"name", "role_arn", "credential_source", "region"}),
        (Tool.CLOUDQUERY, {"id", "role_arn", "default_region"}),
        (Tool.STEAMPIPE, {"name", "plugin", "profile", "regions", "ignore_error_codes"}),
        (Tool.PROWLER, {"command"}),
    ],
)
def test_hostile_names_inject_nothing(tool: Tool, keys: set[str]) -> None:
    accounts = parsed(tool, settings(), ROWS)
    assert len(accounts) == len(ROWS)
    assert {key for each in accounts for key in each} == keys
    commands = [each["command"] for each in accounts if "command" in each]
    assert all(command[:3] == ["prowler", "aws", "--role"] and len(command) == 12 for command in commands)


def test_steampipe_uses_the_profiles_of_the_aws_config() -> None:
    profiles = [each["name"] for each in parsed(Tool.AWS_CONFIG, settings(), ROWS)]
    steampipe = parsed(Tool.STEAMPIPE, settings(), ROWS)
    assert [each["profile"] for each in steampipe] == profiles
    assert all(re.fullmatch(r"aws_[a-z0-9_]{1,59}", each["name"]) for each in steampipe)


def test_equal_names_end_in_the_account_id() -> None:
    assert list(profile_names(ROWS, ["default"]).values()) == [
        "payments-ltd-000000000001",
        "payments-ltd-000000000002",
        "000000000003",
        "script-alert-1-script",
        "a-default-aws-access-key-id-stolen",
        "x-connection-evil",
        "y-z-kind-evil",
        "touch-tmp-evil-id-rm-rf",
        "default-000000000009",
        "prod-222222222222-000000000010",
        "000000000011",
        "000000000012",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S\u00f8ren", "soren"),
        ("\u00dcn\u00efc\u00f8d\u00e9", "unicode"),
        ("Stra\u00dfe \u0141\u00f3d\u017a", "strasse-lodz"),
        ("\u00c6r\u00f8 \u00deing", "aero-thing"),
        ("Diyarbak\u0131r", "diyarbakir"),
        ("\uff30\uff32\uff2f\uff24", "prod"),
        ("prod\u65e5\u672c", "prod"),
    ],
)
def test_letters_are_transliterated(name: str, expected: str) -> None:
    assert profile_names([row(numbered(1), name=name)]) == {numbered(1): expected}


@given(st.dictionaries(account_ids, st.text(max_size=60), max_size=8), st.randoms())
def test_names_are_safe_unique_and_independent_of_the_order(accounts: dict[AccountId, str], random: Any) -> None:
    rows = [row(account_id, name=name) for account_id, name in accounts.items()]
    names = profile_names(rows, ["default"])
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= 59 for name in names.values())
    assert len(set(names.values()) - {"default"}) == len(rows)
    random.shuffle(rows)
    assert profile_names(rows, ["default"]) == names


@pytest.mark.parametrize("tool", list(Tool))
def test_document_shows_the_exported_configuration(tool: Tool) -> None:
    rows = [row("254077454489", name='Payments, "Ltd"'), row("466029591468", name="search")]
    external_id = re.findall(r"^external_id = (\S+)$", DOCUMENT, re.MULTILINE)[0]
    options = Options(region="us-east-1", source_profile="reader")
    lines = export(tool, settings(EXTERNAL_ID=external_id), rows, options).splitlines()
    # Without the comments at the beginning.
    start = next(number for number, line in enumerate(lines) if line and not re.match(r"#(?! 254077454489)", line))
    assert "\n".join(lines[start:]) in DOCUMENT
