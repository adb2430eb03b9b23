"""Exported configuration parses as its tool parses it, has exactly the accounts with access, and escapes their names."""

import configparser
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import replace
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
from rolecall.export import export, own_beginning
from rolecall.export_formats import Options
from rolecall.files import write_file
from rolecall.profile_names import profile_names
from rolecall.tools import Tool
from tests.unit.builders import account_ids, settings
from tests.unit.ledger_rows import numbered, row

DOCUMENT = (Path(__file__).parents[2] / "docs" / "readers.md").read_text()
ENVIRONMENT = Options(region="us-east-1")
PROFILE = Options(region="us-east-1", source_profile="the reader's")
PAYMENTS = row("444455556666", name="Payments")
ROLE = "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole"
OF_ACCOUNTS = [tool for tool in Tool if tool is not Tool.PROWLER_MUTELIST]
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
        case Tool.PROWLER_BULK:
            providers: list[dict[str, Any]] = yaml.safe_load(text)
            return providers
        case Tool.C7N_ORG:
            members: list[dict[str, Any]] = yaml.safe_load(text)["accounts"]
            return members
        case Tool.JSON:
            listed: list[dict[str, Any]] = json.loads(text)
            return listed
        case Tool.ARNS:
            return [{"arn": line} for line in text.splitlines()]
        case Tool.PROWLER_MUTELIST:
            raise NotImplementedError


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
        (
            Tool.PROWLER_BULK,
            ENVIRONMENT,
            {
                "provider": "aws",
                "uid": "444455556666",
                "alias": "payments",
                "auth_method": "role",
                "credentials": {"role_arn": ROLE, "external_id": "a:b"},
            },
        ),
        (
            Tool.C7N_ORG,
            PROFILE,
            {
                "account_id": "444455556666",
                "name": "payments",
                "role": ROLE,
                "external_id": "a:b",
                "regions": ["us-east-1"],
            },
        ),
        (
            Tool.JSON,
            replace(ENVIRONMENT, ou_paths={AccountId("444455556666"): "Workloads/Production"}),
            {
                "account_id": "444455556666",
                "name": "Payments",
                "profile": "payments",
                "role_arn": ROLE,
                "external_id": "a:b",
                "region": "us-east-1",
                "ou_path": "Workloads/Production",
            },
        ),
        (Tool.ARNS, ENVIRONMENT, {"arn": ROLE}),
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


def test_checks_of_data_that_may_be_read_are_run() -> None:
    text = export(Tool.PROWLER, settings(DENY_DATA_READS_EXCEPT="logs:FilterLogEvents"), [PAYMENTS], ENVIRONMENT)
    assert "--excluded-checks awslambda_function_no_secrets_in_code ssm_document_secrets" in text


@pytest.mark.parametrize("tool", OF_ACCOUNTS)
def test_accounts_are_those_with_access_in_force(tool: Tool) -> None:
    used = settings(EXTERNAL_ID="a:b")
    rows = [
        row("000000000003", Outcome.FAILED, name="verification-failed", in_force_since="2026-11-25T10:00:00"),
        row("000000000001", name="enrolled"),
        row("000000000002", Outcome.RETIRED, name="retired"),
        row("000000000004", Outcome.FAILED, name="new-and-failed"),
        row("000000000005", name="pending", in_force_since=None),
        row("999999999999", name="management"),
    ]
    text = export(tool, used, rows, ENVIRONMENT)
    assert len(parsed(tool, used, rows)) == 3
    included = [each.name for each in rows if each.account_id in text]
    assert included == ["verification-failed", "enrolled", "management"]


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
        (Tool.AWS_CONFIG, {"name", "role_arn", "credential_source", "region", "external_id"}),
        (Tool.CLOUDQUERY, {"id", "role_arn", "default_region", "external_id"}),
        (Tool.STEAMPIPE, {"name", "plugin", "profile", "regions", "ignore_error_codes"}),
        (Tool.PROWLER, {"command"}),
        (Tool.PROWLER_BULK, {"provider", "uid", "alias", "auth_method", "credentials"}),
        (Tool.C7N_ORG, {"account_id", "name", "role", "regions", "external_id"}),
        (Tool.JSON, {"account_id", "name", "profile", "role_arn", "external_id", "region", "ou_path"}),
        (Tool.ARNS, {"arn"}),
    ],
)
def test_hostile_names_inject_nothing(tool: Tool, keys: set[str]) -> None:
    accounts = parsed(tool, settings(EXTERNAL_ID="a:b"), ROWS)
    assert len(accounts) == len(ROWS)
    assert {key for each in accounts for key in each} == keys
    commands = [each["command"] for each in accounts if "command" in each]
    assert all(command[:3] == ["prowler", "aws", "--role"] and len(command) == 14 for command in commands)


def test_steampipe_uses_the_profiles_of_the_aws_config() -> None:
    profiles = [each["name"] for each in parsed(Tool.AWS_CONFIG, settings(), ROWS)]
    steampipe = parsed(Tool.STEAMPIPE, settings(), ROWS)
    assert [each["profile"] for each in steampipe] == profiles
    assert all(re.fullmatch(r"aws_[a-z0-9_]{1,59}", each["name"]) for each in steampipe)


@pytest.mark.parametrize(
    ("tool", "key"),
    [
        (Tool.AWS_CONFIG, "name"),
        (Tool.CLOUDQUERY, "id"),
        (Tool.STEAMPIPE, "profile"),
        (Tool.PROWLER_BULK, "alias"),
        (Tool.C7N_ORG, "name"),
        (Tool.JSON, "profile"),
    ],
)
def test_ids_as_names_do_not_change_with_other_accounts(tool: Tool, key: str) -> None:
    options = replace(PROFILE, ids_as_names=True)
    accounts = parsed(tool, settings(EXTERNAL_ID="a:b"), ROWS, options)
    assert [each[key] for each in accounts] == [each.account_id for each in ROWS]


def test_connections_named_by_id_use_the_profiles_of_the_config() -> None:
    options = replace(PROFILE, ids_as_names=True)
    text = export(Tool.STEAMPIPE, settings(), [PAYMENTS], options)
    assert [(each["name"], each.get("profile")) for each in connections(text)] == [
        ("aws", None),
        ("aws_444455556666", "444455556666"),
    ]


def test_missing_values_of_json_are_null() -> None:
    (account,) = parsed(Tool.JSON, settings(), [row("444455556666")])
    assert (account["external_id"], account["ou_path"], account["name"]) == (None, None, "")


def test_prowler_bulk_needs_an_external_id() -> None:
    with pytest.raises(CommandError, match=r"stage dev has no external id.* set the parameter ExternalId"):
        export(Tool.PROWLER_BULK, settings(), [PAYMENTS], ENVIRONMENT)


def test_prowler_alias_has_at_least_three_characters() -> None:
    rows = [row("444455556666", name="ab"), row("444455556667", name="abc")]
    accounts = parsed(Tool.PROWLER_BULK, settings(EXTERNAL_ID="a:b"), rows)
    assert [each["alias"] for each in accounts] == ["ab-444455556666", "abc"]


def test_c7n_org_names_its_environment() -> None:
    text = export(Tool.C7N_ORG, settings(), [PAYMENTS], PROFILE)
    assert "# Run it as: AWS_DEFAULT_REGION=us-east-1 AWS_PROFILE='the reader'\"'\"'s' c7n-org run" in text


@pytest.mark.parametrize("tool", list(Tool))
@pytest.mark.parametrize("name", ['Payments, "Ltd"', None])
def test_exported_file_is_replaced_by_the_next_export(tool: Tool, name: str | None, tmp_path: Path) -> None:
    used, file = settings(EXTERNAL_ID="a:b"), tmp_path / "exported"
    own = own_beginning(tool, used)
    for rows in ([row("444455556666", name=name)], ROWS):
        text = export(tool, used, rows, ENVIRONMENT)
        write_file(file, text, own=own)
        assert file.read_text() == text


@pytest.mark.parametrize("tool", [Tool.JSON, Tool.ARNS])
@pytest.mark.parametrize(
    "theirs",
    [
        "[]\n",
        '[\n  {\n    "account_id": "444455556666",\n    "email": "a@example.com"\n  }\n]\n',
        "arn:aws:iam::444455556666:role/Theirs\n",
        "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole2\n",
    ],
)
def test_list_of_others_is_not_replaced(tool: Tool, theirs: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs"
    file.write_text(theirs)
    with pytest.raises(CommandError, match="was not written by rolecall"):
        write_file(file, "new", own=own_beginning(tool, settings()))
    assert file.read_text() == theirs


def muted(used: Settings) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the muted checks of each account, as Prowler takes them: an asterisk is any text."""
    document = yaml.safe_load(export(Tool.PROWLER_MUTELIST, used, [PAYMENTS], ENVIRONMENT))
    assert list(document) == ["Mutelist"]
    return {
        account_id: {
            check: {key: [each.replace("*", ".*") for each in value[key]] for key in ("Resources", "Tags", "Regions")}
            for check, value in found["Checks"].items()
        }
        for account_id, found in document["Mutelist"]["Accounts"].items()
    }


def test_prowler_mutelist_has_what_a_stage_installs() -> None:
    used = settings(MEMBER_ROLE_NAME="Read+Only")
    found = muted(used)
    checks = {account_id: list(each) for account_id, each in found.items()}
    assert checks == {
        "*": ["iam_role_cross_account_readonlyaccess_policy"],
        used.source_account_id: ["iam_no_custom_policy_permissive_role_assumption"],
        used.management_account_id: ["iam_role_cross_service_confused_deputy_prevention"],
    }
    (role,) = found["*"]["iam_role_cross_account_readonlyaccess_policy"]["Resources"]
    assert re.search(role, "Read+Only")
    assert not any(re.search(role, name) for name in ("Read+Only2", "MyRead+Only", "Reaadd+Only"))
    (policy,) = found[used.source_account_id]["iam_no_custom_policy_permissive_role_assumption"]["Resources"]
    assert all(re.search(policy, name) for name in (used.source_policy_name, f"{used.source_policy_name}-12"))
    assert not re.search(policy, f"{used.source_policy_name}-other")


def test_prowler_mutelist_is_limited_to_the_tags_of_the_stage() -> None:
    ours = "team=a | managed-by=rolecall | rolecall-stage=dev"
    others = ["", "managed-by=rolecall", "managed-by=rolecall | rolecall-stage=dev2", "rolecall-stage=dev"]
    for checks in muted(settings()).values():
        for check in checks.values():
            assert all(re.search(tag, ours) for tag in check["Tags"])
            assert not any(all(re.search(tag, text) for tag in check["Tags"]) for text in others)


def test_prowler_mutelist_without_read_only_access_mutes_no_member_role() -> None:
    arns = "arn:aws:iam::aws:policy/SecurityAudit,arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"
    assert "*" not in muted(settings(MEMBER_ROLE_POLICY_ARNS=arns))


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
    paths = {rows[0].account_id: "Workloads/Production", rows[1].account_id: ""}
    options = Options(region="us-east-1", source_profile="reader", ou_paths=paths)
    lines = export(tool, settings(EXTERNAL_ID=external_id), rows, options).splitlines()
    # Without the comments at the beginning.
    start = next(number for number, line in enumerate(lines) if line and not re.match(r"#(?! 254077454489)", line))
    assert "\n".join(lines[start:]) in DOCUMENT


def test_document_has_every_format() -> None:
    (usage,) = re.findall(r"^rolecall export (\S+) \[", DOCUMENT, re.MULTILINE)
    assert usage.split("|") == list(Tool)
