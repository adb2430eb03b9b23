"""Parameters are checked before a deployment: where they are given, names, values, and the settings that follow from them."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from rolecall.deploy.location import Location
from rolecall.deploy.parameters import (
    contradictions,
    known_names,
    known_values,
    merge_given,
    merge_parameters,
    read_file,
    set_elsewhere,
    split_pairs,
    wrong_values,
)
from rolecall.deploy.problems import Problems
from rolecall.partitions import EVENT_REGIONS

_HERE = Location("aws", "111122223333", "us-east-1")
_READER = "arn:aws:iam::111122223333:role/Reader"


def test_pairs_are_split_as_in_a_shell() -> None:
    problems = Problems()
    pairs = split_pairs(f"SourcePrincipalArns={_READER} MemberRoleTags='team=the audit,cost=1' ExternalId=", problems)
    assert merge_given({}, pairs, {}, problems) == {
        "SourcePrincipalArns": _READER,
        "MemberRoleTags": "team=the audit,cost=1",
        "ExternalId": "",
    }
    assert problems.found == []


def test_file_has_texts_numbers_booleans_lists_and_tables(tmp_path: Path) -> None:
    file, problems = tmp_path / "rolecall.toml", Problems()
    file.write_text(
        'SourcePrincipalArns = ["a", "b"]\nThreads = 5\nDenyDataReads = true\nExternalId = ""\n'
        '[MemberRoleTags]\nteam = "the audit"\ncost = 1\n'
    )
    assert read_file(file, problems) == {
        "SourcePrincipalArns": "a,b",
        "Threads": "5",
        "DenyDataReads": "true",
        "ExternalId": "",
        "MemberRoleTags": "team=the audit,cost=1",
    }
    assert problems.found == []


@pytest.mark.parametrize("value", ["1.5", "[[1]]", "{a = [1]}", "[2026-11-30]", "07:00:00"])
def test_other_value_in_a_file_is_a_problem(value: str, tmp_path: Path) -> None:
    file, problems = tmp_path / "rolecall.toml", Problems()
    file.write_text(f"BatchSize = 10\nThreads = {value}\n")
    assert read_file(file, problems) == {"BatchSize": "10"}
    assert len(problems.found) == 1
    assert "Threads" in problems.found[0]


def test_options_and_pairs_take_precedence_over_the_file() -> None:
    problems = Problems()
    file = {"ExternalId": "file", "Threads": "1", "BatchSize": "1"}
    assert merge_given({"ExternalId": "option"}, ["Threads=2"], file, problems) == {
        "ExternalId": "option",
        "Threads": "2",
        "BatchSize": "1",
    }
    assert merge_given({"ExternalId": "option"}, ["ExternalId=pair"], {}, problems) == {"ExternalId": "option"}
    assert problems.found == ["ExternalId is given twice: pass it once"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("MemberRoleNames", "unknown parameter MemberRoleNames.*did you mean MemberRoleName"),
        ("SOURCE_PRINCIPAL_ARNS", "did you mean SourcePrincipalArns"),
        ("Stage", "unknown parameter Stage"),
        ("Colour", "unknown parameter Colour.*AccessRoleNames, "),
    ],
)
def test_unknown_name_is_a_problem(name: str, error: str, template: dict[str, Any]) -> None:
    problems = Problems()
    assert known_names({name: "x", "Threads": "5"}, template["Parameters"], problems) == {"Threads": "5"}
    (problem,) = problems.found
    assert re.search(error, problem)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("Threads", "0", "Threads is '0'.*from 1 to 64"),
        ("DenyDataReads", "no", "DenyDataReads is 'no'.*one of true, false"),
        ("LogRetentionDays", "100", "LogRetentionDays is '100'.*one of 1, 3, 5"),
        ("ExcludeAccountIds", "111122223333,1234", "ExcludeAccountIds is '1234': .*twelve digits"),
        ("SourcePrincipalArns", f"{_READER},Reader", "^--source-principal is 'Reader': expected ARNs of IAM roles"),
        ("SourcePrincipalArns", "arn:aws:sts::111122223333:assumed-role/Reader/me", "ARNs of IAM roles or users"),
        ("MemberRolePolicyArns", "", "MemberRolePolicyArns is ''.*managed policies"),
        ("AccessRoleNames", "a, b", "role names without a path"),
    ],
)
def test_invalid_value_is_rejected_by_name(name: str, value: str, error: str, template: dict[str, Any]) -> None:
    declared = template["Parameters"]
    given = {"Stage": "dev", "SourcePrincipalArns": _READER, name: value}
    wrong = wrong_values(declared, merge_parameters(declared, given, {}))
    assert wrong.keys() == {name}
    assert re.search(error, wrong[name])


@pytest.mark.parametrize("name", ["Schedules", "BatchSize", "Stage"])
def test_parameter_in_the_environment_is_a_problem(name: str, template: dict[str, Any]) -> None:
    problems = Problems()
    set_elsewhere({"STAGE": "prod", "PARAMS": "Threads=1", name: "5"}, template["Parameters"], problems)
    (problem,) = problems.found
    assert problem.startswith(f"{name} is set in the environment, where it has no effect: pass ")


def test_given_values_take_precedence_over_the_stacks_and_defaults(template: dict[str, Any]) -> None:
    kept = {"SourcePrincipalArns": _READER, "Threads": "7", "BatchSize": "20", "Unknown": "x"}
    merged = merge_parameters(template["Parameters"], {"Stage": "dev", "Threads": "9"}, kept)
    assert (merged["Threads"], merged["BatchSize"], merged["BatchingWindow"]) == ("9", "20", "1")
    assert merged.keys() == template["Parameters"].keys()


def test_missing_required_parameter_is_an_error(template: dict[str, Any]) -> None:
    declared = template["Parameters"]
    wrong = wrong_values(declared, merge_parameters(declared, {"Stage": "dev"}, {}))
    assert wrong.keys() == {"SourcePrincipalArns"}
    assert wrong["SourcePrincipalArns"].startswith("SourcePrincipalArns is not set: pass --source-principal ARN")


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"SourcePrincipalArns": "arn:aws-cn:iam::111122223333:role/Reader"}, "not of this partition"),
        (
            {"ExcludeAccountIds": ",".join(f"{each:012}" for each in range(300))},
            "allows 4096: shorten EXCLUDE_ACCOUNT_IDS",
        ),
        (
            {"MemberRolePolicyArns": ",".join(f"arn:{{partition}}:iam::aws:policy/{each:0>99}" for each in range(19))},
            "2048",
        ),
        ({"ReservedConcurrency": "4", "MaximumConcurrency": "5"}, "ReservedConcurrency is 4, less than .* 5: "),
    ],
)
def test_settings_and_sizes_that_functions_reject_are_rejected(
    parameters: dict[str, str], error: str, template: dict[str, Any]
) -> None:
    given = {"Stage": "dev", "SourcePrincipalArns": _READER, **parameters}
    merged = merge_parameters(template["Parameters"], given, {})
    (problem,) = contradictions(template, known_values(template, merged, _HERE))
    assert re.search(error, problem)


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_urls_of_queues_have_the_partitions_endpoint(partition: str, template: dict[str, Any]) -> None:
    region = EVENT_REGIONS[partition]
    given = {"Stage": "dev", "SourcePrincipalArns": f"arn:{partition}:iam::111122223333:role/Reader"}
    parameters = merge_parameters(template["Parameters"], given, {})
    values = known_values(template, parameters, Location(partition, "111122223333", region))
    endpoint = boto3.Session("key", "secret", region_name=region).client("sqs").meta.endpoint_url
    assert values["AccountsQueue"] == f"{endpoint}/111122223333/rolecall-dev-accounts"


def test_reserved_concurrency_may_equal_the_maximum(template: dict[str, Any]) -> None:
    given = {"Stage": "dev", "SourcePrincipalArns": _READER, "ReservedConcurrency": "5", "MaximumConcurrency": "5"}
    merged = merge_parameters(template["Parameters"], given, {})
    assert contradictions(template, known_values(template, merged, _HERE)) == []
