"""The template and every policy, linted by cfn-lint and parliament."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from chalicelib import data_read_denies, session_policies
from chalicelib.arns import AccountId
from chalicelib.settings import Scope, Settings
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import ShardContent
from rolecall.deploy.intrinsics import resolve
from rolecall.iam_actions import matching
from rolecall.partitions import EVENT_REGIONS
from rolecall.stage import FUNCTIONS
from tests.deployment.deployed import Deployment
from verify.iam_actions import botocore_actions

with warnings.catch_warnings():
    # parliament leaves files open and uses pkg_resources.
    warnings.simplefilter("ignore")
    import parliament


def template_findings(text: str, *regions: str) -> list[str]:
    # Publish and freeze share their environment and some statements with functions that exist without them, under the same
    # condition as they: that a part of it is never reached in them is no fault.
    unreachable = "W1028"
    return [str(match) for match in lint(text, config=ManualArgs(regions=list(regions), ignore_checks=[unreachable]))]


# In the Service Authorization Reference, without an API, and too new for Parliament.
WITHOUT_API = frozenset(
    {
        *("bedrock-mantle:GetFile", "bedrock-mantle:GetInference", "dynamodb:ReadDataForReplication"),
        *("cloudwatch:GetSpaceCredentials", "cloudwatch:GetSpaceCredentialsForOrganization"),
    }
)


# The stack that contains a role isn't known before the call, and CloudFormation doesn't document which resource it authorizes.
FOR_ALL_RESOURCES = "RESOURCE_STAR ['cloudformation:DescribeStackResources']"


def policy_findings(document: dict[str, Any]) -> list[str]:
    # Parliament is older than the partition aws-eusc.
    text = json.dumps(document).replace("arn:aws-eusc:", "arn:aws:").replace(":eusc-de-east-1:", ":eu-central-1:")
    findings = parliament.analyze_policy_string(text).findings
    return [text for each in findings if (text := f"{each.issue} {each.detail}") != FOR_ALL_RESOURCES]


def test_packaged_template_is_clean_in_every_region(packaged: Path) -> None:
    assert template_findings((packaged / "template.json").read_text(), *EVENT_REGIONS.values()) == []


@pytest.mark.parametrize("deployment", ["aws"], indirect=True)
def test_expanded_template_is_clean(deployment: Deployment) -> None:
    """verify/test_packaged_app.py lints it in the other partitions."""
    assert template_findings(json.dumps(deployment.expanded), deployment.location.region) == []


def test_policies_of_functions_are_clean(deployment: Deployment) -> None:
    documents = [
        policy["PolicyDocument"]
        for role in deployment.of_type("AWS::IAM::Role").values()
        for policy in role["Policies"]
    ]
    assert len(documents) == len(FUNCTIONS)
    assert [policy_findings(document) for document in documents] == [[]] * len(documents)


def test_documents_that_the_code_writes_are_clean(template: dict[str, Any], deployment: Deployment) -> None:
    environment = resolve(template["Globals"]["Function"]["Environment"]["Variables"], deployment.values)
    boundary = f"arn:{deployment.location.partition}:iam::{{account_id}}:policy/Boundary"
    settings = replace(Settings.from_env(environment), permissions_boundary_arn=boundary)
    account = AccountId("444455556666")
    contents = [
        ShardContent(accounts=frozenset({account}), frozen=True),
        ShardContent(excluded=frozenset({account}), scope=Scope.ORGANIZATION, frozen=True),
    ]
    written = [
        session_policies.member_role_read(settings, account),
        session_policies.member_role_write(settings, account),
        session_policies.member_role_delete(settings, account),
        session_policies.source_policy_read(settings),
        session_policies.source_policy_write(settings),
        session_policies.source_policy_delete(settings),
        *(document(settings, content, "o-abcdefghij") for content in contents),
    ]
    assert [policy_findings(document.content) for document in written] == [[]] * len(written)


def test_denied_actions_exist() -> None:
    """Parliament's list lacks newer actions, and botocore's models lack those without an API."""
    deny = data_read_denies.deny_document().content
    reads, keys = deny["Statement"]
    older = [action for action in data_read_denies.DENIED_DATA_READS if action not in botocore_actions() | WITHOUT_API]

    assert policy_findings({**deny, "Statement": [{**reads, "Action": older}, keys]}) == []


def test_patterns_of_the_deny_match_only_denied_actions() -> None:
    matched = {action for pattern in data_read_denies.PATTERNS for found in matching(pattern) for action in found}

    assert matched - set(data_read_denies.DENIED_DATA_READS) == set()
    assert all(len([*matching(each).reads, *matching(each).others]) > 1 for each in data_read_denies.PATTERNS)


@pytest.mark.parametrize(
    "statement",
    [
        {"Action": "iam:GetRoles", "Resource": "*"},
        {"Action": "sqs:SendMessage", "Resource": "arn:*:dynamodb:*:*:table/x"},
        {"Action": "sts:AssumeRole", "Resource": "*", "Condition": {"StringEquals": {"iam:PolicyARN": "x"}}},
    ],
)
def test_lint_detects_an_invalid_statement(statement: dict[str, Any]) -> None:
    assert policy_findings({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})
