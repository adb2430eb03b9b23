"""The deployer policies in docs/ allow the template's resource types and the command's own calls."""

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

from local.organization import LocalOrganization, trust_policy
from rolecall.exit_status import ExitStatus
from tests.conftest import ROOT
from tests.deployment.deployed import deployed
from tests.deployment.deploying import Deploying
from tests.deployment.test_lint import policy_findings

_MANAGED_POLICY_CHARS = 6144  # "IAM and AWS STS quotas"

# The permissions of each type's create, read, update and delete handlers in its resource type schema, for the properties
# that the template has.
_NEEDED = {
    "AWS::CloudFormation::StackSet": (
        "cloudformation:CreateStackSet UpdateStackSet DeleteStackSet DescribeStackSet DescribeStackSetOperation "
        "CreateStackInstances UpdateStackInstances DeleteStackInstances DescribeStackInstance ListStackInstances "
        "TagResource UntagResource"
    ),
    "AWS::CloudWatch::Alarm": "cloudwatch:PutMetricAlarm DeleteAlarms DescribeAlarms TagResource UntagResource ListTagsForResource",
    "AWS::CloudWatch::Dashboard": "cloudwatch:PutDashboard GetDashboard DeleteDashboards",
    "AWS::DynamoDB::Table": (
        "dynamodb:CreateTable DeleteTable DescribeTable UpdateTable DescribeContinuousBackups UpdateContinuousBackups "
        "DescribeTimeToLive DescribeContributorInsights DescribeKinesisStreamingDestination GetResourcePolicy "
        "ListTagsOfResource TagResource UntagResource"
    ),
    "AWS::Events::Rule": (
        "events:PutRule DeleteRule DescribeRule PutTargets RemoveTargets ListTargetsByRule ListTagsForResource TagResource "
        "UntagResource"
    ),
    "AWS::IAM::Role": (
        "iam:CreateRole DeleteRole GetRole UpdateRole UpdateAssumeRolePolicy PutRolePolicy DeleteRolePolicy GetRolePolicy "
        "ListRolePolicies ListAttachedRolePolicies TagRole UntagRole"
    ),
    "AWS::KMS::Key": (
        "kms:CreateKey DescribeKey EnableKeyRotation GetKeyPolicy GetKeyRotationStatus ListResourceTags PutKeyPolicy "
        "ScheduleKeyDeletion TagResource UntagResource UpdateKeyDescription"
    ),
    "AWS::Lambda::EventInvokeConfig": (
        "lambda:PutFunctionEventInvokeConfig UpdateFunctionEventInvokeConfig DeleteFunctionEventInvokeConfig "
        "GetFunctionEventInvokeConfig"
    ),
    "AWS::Lambda::EventSourceMapping": (
        "lambda:CreateEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping GetEventSourceMapping ListTags"
    ),
    "AWS::Lambda::Function": (
        "lambda:CreateFunction DeleteFunction GetFunction GetFunctionConfiguration UpdateFunctionCode "
        "UpdateFunctionConfiguration PutFunctionConcurrency DeleteFunctionConcurrency GetFunctionCodeSigningConfig "
        "GetFunctionRecursionConfig GetRuntimeManagementConfig ListTags TagResource UntagResource"
    ),
    "AWS::Lambda::Permission": "lambda:AddPermission RemovePermission GetPolicy",
    "AWS::Logs::LogGroup": (
        "logs:CreateLogGroup DeleteLogGroup DescribeLogGroups PutRetentionPolicy ListTagsForResource TagResource UntagResource"
    ),
    "AWS::SNS::Subscription": "sns:Subscribe Unsubscribe GetSubscriptionAttributes",
    "AWS::SNS::Topic": (
        "sns:CreateTopic DeleteTopic GetTopicAttributes SetTopicAttributes GetDataProtectionPolicy ListSubscriptionsByTopic "
        "ListTagsForResource TagResource UntagResource"
    ),
    "AWS::SNS::TopicPolicy": "sns:SetTopicAttributes",
    "AWS::SQS::Queue": "sqs:CreateQueue DeleteQueue GetQueueAttributes GetQueueUrl SetQueueAttributes ListQueueTags TagQueue UntagQueue",
    "AWS::SQS::QueuePolicy": "sqs:SetQueueAttributes",
}


def policy_document(name: str) -> dict[str, Any]:
    """Return a policy in docs/."""
    document: dict[str, Any] = json.loads((ROOT / "docs" / name).read_text())
    return document


@pytest.fixture(scope="module")
def policy() -> dict[str, Any]:
    return policy_document("deployer-policy.json")


@pytest.fixture(scope="module")
def stack_set_policy() -> dict[str, Any]:
    """What a StackSet of access roles needs besides."""
    return policy_document("deployer-policy-stack-set.json")


def _allowed(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


@pytest.mark.parametrize("name", ["deployer-policy.json", "deployer-policy-stack-set.json"])
def test_policy_is_clean_and_fits_into_a_managed_policy(name: str) -> None:
    policy = policy_document(name)
    # The bucket's policy and lifecycle are the deployer's to set, and CloudFormation generates the ids of keys and mappings.
    known = ("RESOURCE_POLICY_PRIVILEGE_ESCALATION", "RESOURCE_EFFECTIVELY_STAR")
    assert [each for each in policy_findings(policy) if not each.startswith(known)] == []
    assert len(json.dumps(policy, separators=(",", ":"))) <= _MANAGED_POLICY_CHARS


def test_policy_allows_what_the_templates_resource_types_need(
    template: dict[str, Any], policy: dict[str, Any], stack_set_policy: dict[str, Any]
) -> None:
    types = {
        each["Type"] for each in deployed(template, "aws", AlarmEmail="ops@example.com").expanded["Resources"].values()
    }
    assert types == _NEEDED.keys()
    for kind, needed in _NEEDED.items():
        service, _, names = needed.partition(":")
        allowed = _allowed(stack_set_policy if kind == "AWS::CloudFormation::StackSet" else policy)
        assert {f"{service}:{name}" for name in names.split()} <= allowed, kind


def test_policy_allows_nothing_that_deploying_does_not_need(policy: dict[str, Any]) -> None:
    """Beside the resource types: the stack, the bucket, and what the command reads, protects and invokes."""
    by_type = {
        f"{needed.partition(':')[0]}:{name}" for needed in _NEEDED.values() for name in needed.partition(":")[2].split()
    }
    own = {action for action in _allowed(policy) - by_type if not fnmatchcase(action, "cloudformation:*")}
    assert {action for action in own if not fnmatchcase(action, "s3:*")} == {
        *("dynamodb:GetItem", "dynamodb:Scan", "iam:PassRole", "lambda:InvokeFunction"),
        "events:DescribeEventBus",
        *("iam:GetAccountSummary", "iam:GetUser", "iam:ListRoles"),
        *("organizations:DescribeOrganization", "organizations:DescribeOrganizationalUnit"),
        "organizations:DescribeAccount",
    }


def test_policy_of_the_stack_set_allows_nothing_else(stack_set_policy: dict[str, Any]) -> None:
    of_type = {f"cloudformation:{name}" for name in _NEEDED["AWS::CloudFormation::StackSet"].split(":")[1].split()}
    assert _allowed(stack_set_policy) - of_type == {
        *("cloudformation:DescribeOrganizationsAccess", "organizations:ListParents", "organizations:ListRoots"),
    }


def test_role_with_this_policy_deploys_upgrades_and_undeploys(
    deploying: Callable[[str], Deploying], fresh: LocalOrganization, policy: dict[str, Any]
) -> None:
    account = fresh.management_account_id
    role = fresh.create_role(account, "Deployer", trust_policy(f"arn:aws:iam::{account}:root"), inline=policy)
    stage = deploying("allowed")
    stage.credentials = fresh.as_role(role)

    assert stage.deploy() is ExitStatus.OK
    assert stage.deploy("Threads=3") is ExitStatus.OK
    assert stage.undeploy() is ExitStatus.OK
    assert stage.deploy("Threads=3") is ExitStatus.OK

    assert "is denied" not in stage.output
    assert stage.variables()["THREADS"] == "3"
