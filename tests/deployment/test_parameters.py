"""PARAMS is checked before a deployment: names, values, and the settings that follow from them."""

import re
from typing import Any

import boto3
import pytest

from deploy.aws import DeployError, Location, check_location
from deploy.parameters import (
    contradictions,
    known_values,
    merge_parameters,
    parse_parameters,
    set_elsewhere,
    wrong_values,
)
from rolecall.partitions import EVENT_REGIONS

_HERE = Location("aws", "111122223333", "us-east-1")
_READER = "arn:aws:iam::111122223333:role/Reader"


def test_pairs_are_parsed_as_in_a_shell(template: dict[str, Any]) -> None:
    parameters, problems = parse_parameters(
        f"SourcePrincipalArns={_READER} MemberRoleTags='team=the audit,cost=1' ExternalId=", template["Parameters"]
    )
    assert parameters == {"SourcePrincipalArns": _READER, "MemberRoleTags": "team=the audit,cost=1", "ExternalId": ""}
    assert problems == []


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ("MemberRoleNames=Audit", "unknown parameter MemberRoleNames.*did you mean MemberRoleName"),
        ("SOURCE_PRINCIPAL_ARNS=x", "did you mean SourcePrincipalArns"),
        ("Stage=prod", "unknown parameter Stage"),
        ("Colour=red", "unknown parameter Colour.*AccessRoleNames, "),
        ("Threads", "'Threads'.*Name=value"),
        ("Threads=5 Threads=6", "Threads twice"),
        ("ExternalId='x", "No closing quotation"),
    ],
)
def test_malformed_params_are_rejected_by_name(params: str, error: str, template: dict[str, Any]) -> None:
    _, (problem,) = parse_parameters(params, template["Parameters"])
    assert re.search(error, problem)


def test_malformed_words_are_reported_with_all_others(template: dict[str, Any]) -> None:
    given, problems = parse_parameters("Colour=red Threads=5 Schedules Threads=6", template["Parameters"])
    assert given == {"Threads": "5"}
    assert [problem.split(":")[0] for problem in problems] == [
        "unknown parameter Colour",
        "PARAMS contains 'Schedules'",
        "PARAMS contains Threads twice",
    ]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("Threads", "0", "Threads is '0'.*from 1 to 64"),
        ("DenyDataReads", "no", "DenyDataReads is 'no'.*one of true, false"),
        ("LogRetentionDays", "100", "LogRetentionDays is '100'.*one of 1, 3, 5"),
        ("ExcludeAccountIds", "111122223333,1234", "ExcludeAccountIds is .*twelve digits"),
        (
            "SourcePrincipalArns",
            "arn:aws:sts::111122223333:assumed-role/Reader/me",
            "ARNs of IAM roles or users",
        ),
        ("MemberRolePolicyArns", "", "MemberRolePolicyArns is ''.*managed policies"),
        ("AccessRoleNames", "a, b", "role names without a path"),
    ],
)
def test_invalid_value_is_rejected_by_name(name: str, value: str, error: str, template: dict[str, Any]) -> None:
    declared = template["Parameters"]
    wrong = wrong_values(declared, merge_parameters(declared, {"SourcePrincipalArns": _READER, name: value}, {}))
    assert wrong.keys() == {name}
    assert re.search(error, wrong[name])


@pytest.mark.parametrize("name", ["Schedules", "BatchSize", "Stage"])
def test_parameter_set_outside_params_is_rejected(name: str, template: dict[str, Any]) -> None:
    (problem,) = set_elsewhere({"STAGE": "prod", "PARAMS": "Threads=1", name: "5"}, template["Parameters"])
    assert problem.startswith(f"{name} is set outside PARAMS, where it has no effect: pass ")


def test_given_values_take_precedence_over_the_stacks_and_defaults(template: dict[str, Any]) -> None:
    kept = {"SourcePrincipalArns": _READER, "Threads": "7", "BatchSize": "20", "Unknown": "x"}
    merged = merge_parameters(template["Parameters"], {"Threads": "9"}, kept)
    assert (merged["Threads"], merged["BatchSize"], merged["BatchingWindow"]) == ("9", "20", "1")
    assert merged.keys() == template["Parameters"].keys()


def test_missing_required_parameter_is_an_error(template: dict[str, Any]) -> None:
    declared = template["Parameters"]
    wrong = wrong_values(declared, merge_parameters(declared, {}, {}))
    assert wrong.keys() == {"SourcePrincipalArns"}
    assert wrong["SourcePrincipalArns"].startswith('SourcePrincipalArns is not set: pass PARAMS="SourcePrincipalArns=')


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
    merged = merge_parameters(template["Parameters"], {"SourcePrincipalArns": _READER, **parameters}, {})
    (problem,) = contradictions(template, known_values(template, merged, _HERE))
    assert re.search(error, problem)


def test_reserved_concurrency_may_equal_the_maximum(template: dict[str, Any]) -> None:
    given = {"SourcePrincipalArns": _READER, "ReservedConcurrency": "5", "MaximumConcurrency": "5"}
    merged = merge_parameters(template["Parameters"], given, {})
    assert contradictions(template, known_values(template, merged, _HERE)) == []


def _in_account(partition: str, account_id: str) -> Any:
    """Return the AWS CLI for credentials of an account in the organization of management account 111122223333."""
    responses = {
        "get-caller-identity": {"Account": account_id, "Arn": f"arn:{partition}:iam::{account_id}:user/operator"},
        "describe-organization": {"Organization": {"MasterAccountId": "111122223333"}},
    }
    return lambda *arguments: responses[arguments[1]]


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_urls_of_queues_have_the_partitions_endpoint(partition: str, template: dict[str, Any]) -> None:
    region = EVENT_REGIONS[partition]
    given = {"SourcePrincipalArns": f"arn:{partition}:iam::111122223333:role/Reader"}
    parameters = merge_parameters(template["Parameters"], given, {})
    values = known_values(template, parameters, Location(partition, "111122223333", region))
    endpoint = boto3.Session("key", "secret", region_name=region).client("sqs").meta.endpoint_url
    assert values["AccountsQueue"] == f"{endpoint}/111122223333/rolecall-dev-accounts"


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_region_of_the_organizations_events_is_accepted(partition: str) -> None:
    region = EVENT_REGIONS[partition]
    assert check_location(_in_account(partition, "111122223333"), region) == Location(partition, "111122223333", region)


@pytest.mark.parametrize(
    ("partition", "account_id", "region", "error"),
    [
        ("aws", "111122223333", "eu-west-1", "AWS_REGION=us-east-1"),
        ("aws-us-gov", "111122223333", "us-gov-east-1", "us-gov-west-1"),
        ("aws-cn", "111122223333", "cn-north-1", "cn-northwest-1"),
        ("aws", "444455556666", "us-east-1", "444455556666.*1111"),
    ],
)
def test_region_or_account_without_events_is_rejected(partition: str, account_id: str, region: str, error: str) -> None:
    with pytest.raises(DeployError, match=error):
        check_location(_in_account(partition, account_id), region)
