"""What is exported parses as the reader parses it, reaches exactly the accounts it should, and takes nothing from their names."""

import configparser
import io
import re
import shlex
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
from rolecall.export import Options, Reader, export
from rolecall.profile_names import profile_names
from tests.unit.builders import account_ids, settings

ROOT = Path(__file__).parents[2]
EAST = Options(region="us-east-1")
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


def row(
    account_id: str, name: str | None, outcome: Outcome = Outcome.ENROLLED, since: str | None = "2026-11-25T10:00:00"
) -> LedgerRow:
    return LedgerRow(
        account_id=AccountId(account_id),
        name=name,
        outcome=outcome,
        in_force_since=since,
        updated_at="2026-11-25T10:00:00",
    )


ROWS = [row(f"{number:012}", name) for number, name in enumerate(HOSTILE, start=1)]


def reached(reader: Reader, told: Settings, rows: Iterable[LedgerRow], options: Options = EAST) -> list[dict[str, Any]]:
    """Parse what is exported, and tell of each account what the reader is told."""
    text = export(reader, told, rows, options)
    match reader:
        case Reader.AWS_CONFIG:
            parsed = configparser.RawConfigParser()
            parsed.read_file(io.StringIO(text))
            return [{"name": each.removeprefix("profile "), **parsed[each]} for each in parsed.sections()]
        case Reader.CLOUDQUERY:
            (document,) = yaml.safe_load_all(text)
            accounts: list[dict[str, Any]] = document["spec"]["spec"]["accounts"]
            return accounts
        case Reader.STEAMPIPE:
            connections = [bare(block) for block in hcl2.loads(text)["connection"]]
            return [each for each in connections if "type" not in each]
        case Reader.PROWLER:
            lines = [shlex.split(line, comments=True) for line in text.splitlines()]
            return [{"command": line} for line in lines if line and line[0] != "export"]


def bare(block: dict[str, Any]) -> dict[str, Any]:
    ((name, content),) = ((key, value) for key, value in block.items() if not key.startswith("__"))
    return {"name": unquoted(name)} | {
        key: unquoted(value) for key, value in content.items() if not key.startswith("__")
    }


def unquoted(value: Any) -> Any:
    if isinstance(value, list):
        return [unquoted(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def test_an_aws_config_assumes_each_member_role_with_the_environments_credentials() -> None:
    assert reached(Reader.AWS_CONFIG, settings(EXTERNAL_ID="told"), [row("444455556666", "Payments")]) == [
        {
            "name": "payments",
            "role_arn": "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole",
            "credential_source": "Environment",
            "external_id": "told",
            "region": "us-east-1",
        }
    ]


def test_an_aws_config_assumes_each_member_role_with_a_source_profiles_credentials() -> None:
    options = Options(region="us-gov-west-1", source_profile="reader")
    assert reached(Reader.AWS_CONFIG, settings("aws-us-gov"), [row("444455556666", "Payments")], options) == [
        {
            "name": "payments",
            "role_arn": "arn:aws-us-gov:iam::444455556666:role/CrossAccountReadOnlyRole",
            "source_profile": "reader",
            "region": "us-gov-west-1",
        }
    ]


def test_cloudquery_is_told_of_each_account() -> None:
    options = Options(region="us-east-1", source_profile="reader")
    assert reached(Reader.CLOUDQUERY, settings(EXTERNAL_ID="a:b"), [row("444455556666", "Payments")], options) == [
        {
            "id": "payments",
            "role_arn": "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole",
            "default_region": "us-east-1",
            "external_id": "a:b",
            "local_profile": "reader",
        }
    ]


def test_steampipe_has_a_connection_for_each_account_and_one_for_all() -> None:
    text = export(Reader.STEAMPIPE, settings(), [row("444455556666", "Pay-ments"), row("000000000001", "b")], EAST)
    assert [bare(block) for block in hcl2.loads(text)["connection"]] == [
        {"name": "aws", "plugin": "aws", "type": "aggregator", "connections": ["aws_b", "aws_pay_ments"]},
        {"name": "aws_b", "plugin": "aws", "profile": "b", "regions": ["*"]},
        {"name": "aws_pay_ments", "plugin": "aws", "profile": "pay-ments", "regions": ["*"]},
    ]


def test_prowler_is_run_for_each_account() -> None:
    options = Options(region="us-east-1", source_profile="the reader's")
    role = "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole"
    assert reached(Reader.PROWLER, settings(EXTERNAL_ID="told"), [row("444455556666", "Payments")], options) == [
        {"command": ["prowler", "aws", "--role", role, "--external-id", "told", "--profile", "the reader's"]}
    ]


@pytest.mark.parametrize("reader", list(Reader))
def test_exported_accounts_are_those_whose_access_is_in_force(reader: Reader) -> None:
    rows = [
        row("000000000003", "re-check-failed", Outcome.FAILED),
        row("000000000001", "enrolled"),
        row("000000000002", "retired", Outcome.RETIRED, None),
        row("000000000004", "never-enrolled", Outcome.FAILED, None),
        row("000000000005", "pending", Outcome.ENROLLED, None),
        row("999999999999", "management"),
    ]
    text = export(reader, settings(), rows, EAST)
    assert len(reached(reader, settings(), rows)) == 3
    assert [text.find(name) > 0 for name in ("re-check-failed", "enrolled", "management")] == [True] * 3
    assert "retired" not in text
    assert "never-enrolled" not in text
    assert "pending" not in text


@pytest.mark.parametrize("reader", list(Reader))
def test_no_account_is_no_error(reader: Reader) -> None:
    assert reached(reader, settings(), []) == []


@pytest.mark.parametrize("reader", list(Reader))
def test_no_name_breaks_or_injects_anything(reader: Reader) -> None:
    told = reached(reader, settings(), ROWS)
    assert len(told) == len(ROWS)
    assert {key for each in told for key in each} == {
        Reader.AWS_CONFIG: {"name", "role_arn", "credential_source", "region"},
        Reader.CLOUDQUERY: {"id", "role_arn", "default_region"},
        Reader.STEAMPIPE: {"name", "plugin", "profile", "regions"},
        Reader.PROWLER: {"command"},
    }[reader]
    if reader is Reader.PROWLER:
        assert all(each["command"][:3] == ["prowler", "aws", "--role"] and len(each["command"]) == 4 for each in told)


def test_steampipe_and_the_aws_config_name_the_same_profiles() -> None:
    profiles = [each["name"] for each in reached(Reader.AWS_CONFIG, settings(), ROWS)]
    connections = reached(Reader.STEAMPIPE, settings(), ROWS)
    assert [each["profile"] for each in connections] == profiles
    assert all(re.fullmatch(r"aws_[a-z0-9_]{1,59}", each["name"]) for each in connections)


def test_names_that_collide_end_in_the_account_id() -> None:
    names = profile_names(ROWS, ["default"])
    assert list(names.values()) == [
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


@given(st.dictionaries(account_ids, st.text(max_size=60), max_size=8), st.randoms())
def test_names_are_safe_and_unique_whatever_their_order(accounts: dict[AccountId, str], order: Any) -> None:
    rows = [row(account_id, name) for account_id, name in accounts.items()]
    names = profile_names(rows, ["default"])
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= 59 for name in names.values())
    assert len(set(names.values()) - {"default"}) == len(rows)
    order.shuffle(rows)
    assert profile_names(rows, ["default"]) == names


@pytest.mark.parametrize("reader", list(Reader))
def test_the_document_shows_what_is_exported(reader: Reader) -> None:
    rows = [row("254077454489", 'Payments, "Ltd"'), row("466029591468", "search")]
    options = Options(region="us-east-1", source_profile="reader")
    lines = export(reader, settings(EXTERNAL_ID="example-external-id"), rows, options).splitlines()
    # What comes before the configuration itself says who wrote it.
    start = next(number for number, line in enumerate(lines) if line and not re.match(r"#(?! 254077454489)", line))
    assert "\n".join(lines[start:]) in (ROOT / "docs" / "readers.md").read_text()
