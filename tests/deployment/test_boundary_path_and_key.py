"""The functions' permissions boundary, path and key: on every resource if they are set, and on none otherwise."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from local.organization import LocalOrganization, allow_policy, trust_policy
from local.waiting import wait_until
from rolecall.exit_status import ExitStatus
from rolecall.partitions import EVENT_REGIONS
from tests.deployment.deployed import MANAGEMENT_ACCOUNT, Deployment, deployed
from tests.deployment.deploying import Deploying
from tests.deployment.test_deployer_policy import policy_document
from tests.deployment.test_lint import policy_findings

_KEYS = ("KmsKeyArn", "KmsKeyId", "KmsMasterKeyId", "KMSMasterKeyId")


def _strict(template: dict[str, Any], partition: str) -> Deployment:
    return deployed(
        template,
        partition,
        FunctionsPermissionsBoundaryArn=f"arn:{partition}:iam::{MANAGEMENT_ACCOUNT}:policy/Boundary",
        FunctionsRolePath="/platform/audit/",
        KmsKeyArn=f"arn:{partition}:kms:{EVENT_REGIONS[partition]}:{MANAGEMENT_ACCOUNT}:key/1234",
        Tripwire="true",
    )


def test_default_has_neither_boundary_nor_path_nor_given_key(deployment: Deployment) -> None:
    roles = deployment.of_type("AWS::IAM::Role").values()
    assert [each for each in roles if {"Path", "PermissionsBoundary"} & each.keys()] == []
    others = deployment.of_type(
        "AWS::Lambda::Function", "AWS::Logs::LogGroup", "AWS::SQS::Queue", "AWS::DynamoDB::Table"
    )
    assert [name for name, each in others.items() if any(f'"{key}"' in json.dumps(each) for key in _KEYS)] == []
    assert deployment["AlarmTopic"]["KmsMasterKeyId"] == deployment.values["AlarmKey.Arn"]
    statements = [each for role in roles for each in role["Policies"][0]["PolicyDocument"]["Statement"]]
    assert "kms:" not in json.dumps(statements)


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_every_role_has_the_boundary_and_the_path(partition: str, template: dict[str, Any]) -> None:
    strict = _strict(template, partition)
    roles = strict.of_type("AWS::IAM::Role").values()
    boundary = strict.values["FunctionsPermissionsBoundaryArn"]
    assert len(roles) == len(strict.of_type("AWS::Lambda::Function"))
    assert {(each["PermissionsBoundary"], each["Path"]) for each in roles} == {(boundary, "/platform/audit/")}


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_everything_that_is_stored_is_encrypted_with_the_given_key(partition: str, template: dict[str, Any]) -> None:
    strict = _strict(template, partition)
    key = strict.values["KmsKeyArn"]
    used: dict[str, Callable[[Any], Any]] = {
        "AWS::Lambda::Function": lambda each: each["KmsKeyArn"],
        "AWS::Logs::LogGroup": lambda each: each["KmsKeyId"],
        "AWS::SQS::Queue": lambda each: not each["SqsManagedSseEnabled"] and each["KmsMasterKeyId"],
        "AWS::DynamoDB::Table": lambda each: each["SSESpecification"],
        "AWS::SNS::Topic": lambda each: each["KmsMasterKeyId"],
    }
    table = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    for kind, read in used.items():
        resources = strict.of_type(kind).values()
        assert resources, kind
        assert [read(each) for each in resources] == [
            table if kind == "AWS::DynamoDB::Table" else key for _ in resources
        ], kind
    assert strict.of_type("AWS::KMS::Key") == {}


@pytest.mark.parametrize("partition", EVENT_REGIONS)
def test_functions_use_exactly_the_given_key_through_services(partition: str, template: dict[str, Any]) -> None:
    strict = _strict(template, partition)
    region = EVENT_REGIONS[partition]
    for name, role in strict.of_type("AWS::IAM::Role").items():
        (document,) = [policy["PolicyDocument"] for policy in role["Policies"]]
        (allowed,) = [each for each in document["Statement"] if "kms:" in json.dumps(each["Action"])]
        assert allowed["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"], name
        assert allowed["Resource"] == strict.values["KmsKeyArn"], name
        services = [f"{each}.{region}.amazonaws.*" for each in ("dynamodb", "lambda", "sqs")]
        assert allowed["Condition"] == {"StringLike": {"kms:ViaService": services}}, name
        assert policy_findings(document) == [], name


def test_documented_key_policy_names_the_log_groups(template: dict[str, Any]) -> None:
    (logs,) = [each for each in policy_document("key-policy.json")["Statement"] if "logs." in str(each["Principal"])]
    prefix = logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"].removesuffix("*")
    groups = deployed(template, "aws", Stage="prod").of_type("AWS::Logs::LogGroup").values()
    arn = f"arn:aws:logs:us-east-1:{MANAGEMENT_ACCOUNT}:log-group:"
    assert all(f"{arn}{each['LogGroupName']}".startswith(prefix) for each in groups)


def test_deployer_policy_covers_roles_with_a_path_and_is_clean() -> None:
    strict = policy_document("deployer-policy-strict.json")
    usual = {each["Sid"]: each for each in policy_document("deployer-policy.json")["Statement"]}
    added = {each["Sid"]: each for each in strict["Statement"]}
    for sid in ("Roles", "RolesOfFunctions"):
        assert added[f"{sid}WithAPath"]["Action"] == usual[sid]["Action"]
        assert added[f"{sid}WithAPath"].get("Condition") == usual[sid].get("Condition")
        assert added[f"{sid}WithAPath"]["Resource"] == usual[sid]["Resource"].replace("role/", "role/*/")
    known = ("RESOURCE_POLICY_PRIVILEGE_ESCALATION", "RESOURCE_EFFECTIVELY_STAR")
    assert [each for each in policy_findings(strict) if not each.startswith(known)] == []


def test_role_with_the_deployer_policies_deploys_with_all_of_them(
    deploying: Callable[[str], Deploying], fresh: LocalOrganization
) -> None:
    account = fresh.management_account_id
    key = fresh.client("kms").create_key(Policy=json.dumps(policy_document("key-policy.json")))["KeyMetadata"]["Arn"]
    policies = fresh.client("iam")
    boundary = policies.create_policy(PolicyName="Boundary", PolicyDocument=json.dumps(allow_policy("*")))["Policy"][
        "Arn"
    ]
    strict = json.loads(
        json.dumps(policy_document("deployer-policy-strict.json")).replace(
            "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", key
        )
    )
    role = fresh.create_role(
        account,
        "Deployer",
        trust_policy(f"arn:aws:iam::{account}:root"),
        inline=policy_document("deployer-policy.json"),
    )
    fresh.client("iam").put_role_policy(RoleName="Deployer", PolicyName="strict", PolicyDocument=json.dumps(strict))
    stage = deploying("strict")
    stage.credentials = fresh.as_role(role)
    settings = (f"FunctionsPermissionsBoundaryArn={boundary}", "FunctionsRolePath=/platform/", f"KmsKeyArn={key}")

    assert stage.deploy(*settings, "Tripwire=true") is ExitStatus.OK

    assert "not checked" not in stage.output
    _assert_strict(fresh, boundary, key)
    _assert_tripwire(fresh)
    assert stage.deploy("FunctionsRolePath=/", "FunctionsPermissionsBoundaryArn=", "KmsKeyArn=") is ExitStatus.OK
    functions = fresh.client("lambda")
    roles = {each["Role"] for each in functions.list_functions()["Functions"]}
    assert all(each.startswith(f"arn:aws:iam::{account}:role/rolecall-strict-") for each in roles)


def _assert_strict(aws: LocalOrganization, boundary: str, key: str) -> None:
    function = aws.client("lambda").get_function_configuration(FunctionName="rolecall-strict-enroll")
    name = function["Role"].rpartition("/")[2]
    role = aws.client("iam").get_role(RoleName=name)["Role"]
    (group,) = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/rolecall-strict-enroll")[
        "logGroups"
    ]
    sqs = aws.client("sqs")
    queue = sqs.get_queue_url(QueueName="rolecall-strict-accounts")["QueueUrl"]
    encryption = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert role["Path"] == "/platform/"
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    assert group["kmsKeyId"] == encryption["KmsMasterKeyId"] == key


def _assert_tripwire(aws: LocalOrganization) -> None:
    """Change a function as an administrator, and receive the notification."""
    sqs, sns = aws.client("sqs"), aws.client("sns")
    open_to_all = json.dumps(trust_policy("*", actions=("sqs:SendMessage",)))
    queue = sqs.create_queue(QueueName="notified", Attributes={"Policy": open_to_all})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = f"arn:aws:sns:us-east-1:{aws.management_account_id}:rolecall-strict-alarms"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    identity = {"type": "IAMUser", "arn": f"arn:aws:iam::{aws.management_account_id}:user/mallory"}

    aws.deliver_event(
        "aws.lambda",
        {
            "eventName": "UpdateFunctionCode20150331v2",
            "userIdentity": identity,
            "requestParameters": {"functionName": "rolecall-strict-publish"},
            "responseElements": None,
        },
    )

    def received() -> str | None:
        messages = sqs.receive_message(QueueUrl=queue).get("Messages", [])
        return next((text for each in messages if "called" in (text := json.loads(each["Body"])["Message"])), None)

    message = wait_until(received, "the notification arrives", seconds=5)
    assert f"{identity['arn']} called UpdateFunctionCode20150331v2" in message
    assert "function: rolecall-strict-publish." in message
    assert aws.alarm_states()["rolecall-strict-tripwire"] == "ALARM"
