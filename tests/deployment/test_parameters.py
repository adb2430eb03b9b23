"""PARAMS is checked before anything is deployed: names, values, and what the functions would make of them."""

from typing import Any

import pytest

from deploy.aws import DeployError, Place, place
from deploy.parameters import check_environment, known_values, parse, settle
from rolecall.regions import EVENT_REGIONS

_HERE = Place("aws", "111122223333", "us-east-1")
_READER = "arn:aws:iam::111122223333:role/Reader"


def test_pairs_are_read_as_a_shell_would(template: dict[str, Any]) -> None:
    read = parse(
        f"SourcePrincipalArns={_READER} MemberRoleTags='team=the audit,cost=1' ExternalId=", template["Parameters"]
    )
    assert read == {"SourcePrincipalArns": _READER, "MemberRoleTags": "team=the audit,cost=1", "ExternalId": ""}


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        ("MemberRoleNames=Audit", "no parameter MemberRoleNames.*did you mean MemberRoleName"),
        ("SOURCE_PRINCIPAL_ARNS=x", "did you mean SourcePrincipalArns"),
        ("Stage=prod", "no parameter Stage to set"),
        ("Colour=red", "no parameter Colour to set: there are AccessRoleNames, "),
        ("Threads", "'Threads'.*Name=value"),
        ("=5", "'=5'.*Name=value"),
        ("Threads=5 Threads=6", "Threads twice"),
        ("ExternalId='x", "No closing quotation"),
        ("Threads=0", "Threads is '0'.*from 1 to 64"),
        ("Threads=many", "Threads is 'many'.*from 1 to 64"),
        ("DenyDataReads=no", "DenyDataReads is 'no'.*one of true, false"),
        ("LogRetentionDays=100", "LogRetentionDays is '100'.*one of 1, 3, 5"),
        ("ExcludeAccountIds=111122223333,1234", "ExcludeAccountIds is .*twelve digits"),
        ("SourcePrincipalArns=arn:aws:sts::111122223333:assumed-role/Reader/me", "ARNs of IAM roles or users"),
        (f"SourcePrincipalArns={_READER},,{_READER}", "ARNs of IAM roles or users"),
        ("MemberRolePolicyArns=", "MemberRolePolicyArns is ''.*managed policies"),
        ("AccessRoleNames='a, b'", "role names without a path"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(params: str, refusal: str, template: dict[str, Any]) -> None:
    with pytest.raises(DeployError, match=refusal):
        parse(params, template["Parameters"])


def test_what_is_given_wins_over_what_stands_over_the_default(template: dict[str, Any]) -> None:
    kept = {"SourcePrincipalArns": _READER, "Threads": "7", "BatchSize": "20", "OfAnEarlierRelease": "x"}
    settled = settle(template["Parameters"], {"Threads": "9"}, kept)
    assert (settled["Threads"], settled["BatchSize"], settled["BatchingWindow"]) == ("9", "20", "1")
    assert settled.keys() == template["Parameters"].keys()


def test_a_required_parameter_is_asked_for(template: dict[str, Any]) -> None:
    with pytest.raises(DeployError, match="SourcePrincipalArns is not set: say PARAMS="):
        settle(template["Parameters"], {}, {})


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (
            {"SourcePrincipalArns": f"{_READER},arn:aws:iam::444455556666:role/Other"},
            "SOURCE_PRINCIPAL_ARNS .*2 accounts",
        ),
        ({"SourcePrincipalArns": "arn:aws-cn:iam::111122223333:role/Reader"}, "not of this partition"),
        ({"MemberRoleName": "AWSControlTowerExecution"}, "MEMBER_ROLE_NAME .*ACCESS_ROLE_NAMES"),
        (
            {"ExcludeAccountIds": ",".join(f"{each:012}" for each in range(300))},
            "allows 4096: shorten EXCLUDE_ACCOUNT_IDS",
        ),
        (
            {"MemberRolePolicyArns": ",".join(f"arn:{{partition}}:iam::aws:policy/{each:0>99}" for each in range(19))},
            "2048",
        ),
    ],
)
def test_what_the_functions_would_stumble_over_is_refused(
    given: dict[str, str], refusal: str, template: dict[str, Any]
) -> None:
    values = known_values(
        template, settle(template["Parameters"], {"SourcePrincipalArns": _READER, **given}, {}), _HERE
    )
    with pytest.raises(DeployError, match=refusal):
        check_environment(template, values)


def _in_account(partition: str, account_id: str) -> Any:
    """Answer as AWS does to the credentials of an account of an organization led by 111122223333."""
    answers = {
        "get-caller-identity": {"Account": account_id, "Arn": f"arn:{partition}:iam::{account_id}:user/operator"},
        "describe-organization": {"Organization": {"MasterAccountId": "111122223333"}},
    }
    return lambda *arguments: answers[arguments[1]]


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_the_region_of_the_organizations_events_is_the_right_one(partition: str) -> None:
    region = EVENT_REGIONS[partition]
    assert place(_in_account(partition, "111122223333"), region) == Place(partition, "111122223333", region)


@pytest.mark.parametrize(
    ("partition", "account_id", "region", "refusal"),
    [
        ("aws", "111122223333", "eu-west-1", "us-east-1 alone: say AWS_REGION=us-east-1"),
        ("aws-us-gov", "111122223333", "us-gov-east-1", "us-gov-west-1 alone"),
        ("aws-cn", "111122223333", "cn-north-1", "cn-northwest-1 alone"),
        ("aws", "444455556666", "us-east-1", "account 444455556666, and the organization's management account is 1111"),
    ],
)
def test_where_no_event_would_be_heard_is_refused(partition: str, account_id: str, region: str, refusal: str) -> None:
    with pytest.raises(DeployError, match=refusal):
        place(_in_account(partition, account_id), region)
