"""IAM's quotas are kept."""

import json

import boto3
import pytest
from botocore.config import Config

from local.organization import REGION, Document, LocalOrganization, allowing, trusting
from tests.end_to_end.emulator.refusals import refused


def sized(characters: int) -> str:
    """Write a policy of so many characters, not counting white space, of which there is plenty."""
    empty = json.dumps(allowing("s3:GetObject", resource="arn:aws:s3:::"), separators=(",", ":"))
    filled = allowing("s3:GetObject", resource="arn:aws:s3:::" + "a" * (characters - len(empty)))
    return json.dumps(filled, indent=40)


def trust_of(organization: LocalOrganization, characters: int) -> Document:
    def made(filler: str) -> Document:
        return trusting(
            f"arn:aws:iam::{organization.management_account_id}:root",
            condition={"StringEquals": {"sts:ExternalId": filler}},
        )

    return made("a" * (characters - len(json.dumps(made(""), separators=(",", ":")))))


def test_a_managed_policy_holds_6144_characters(organization: LocalOrganization) -> None:
    iam = organization.client("iam")
    arn = iam.create_policy(PolicyName="Full", PolicyDocument=sized(6144))["Policy"]["Arn"]
    with refused("LimitExceeded", "6144"):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=sized(6145), SetAsDefault=True)
    with refused("LimitExceeded", "6144"):
        iam.create_policy(PolicyName="Overfull", PolicyDocument=sized(6145))


def test_a_managed_policy_has_five_versions(organization: LocalOrganization) -> None:
    iam = organization.client("iam")
    arn = iam.create_policy(PolicyName="Versions", PolicyDocument=sized(200))["Policy"]["Arn"]
    for _ in range(4):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=sized(200), SetAsDefault=True)
    with refused("LimitExceeded"):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=sized(200), SetAsDefault=True)


def test_a_roles_inline_policies_hold_10240_characters_together(organization: LocalOrganization, account: str) -> None:
    iam = organization.client("iam", account)
    organization.create_role(account, "Inline", trust_of(organization, 300))
    iam.put_role_policy(RoleName="Inline", PolicyName="first", PolicyDocument=sized(6000))
    with refused("LimitExceeded", "10240"):
        iam.put_role_policy(RoleName="Inline", PolicyName="second", PolicyDocument=sized(4241))
    iam.put_role_policy(RoleName="Inline", PolicyName="second", PolicyDocument=sized(4240))
    iam.put_role_policy(RoleName="Inline", PolicyName="first", PolicyDocument=sized(5000))
    assert iam.list_role_policies(RoleName="Inline")["PolicyNames"] == ["first", "second"]


def test_a_users_inline_policies_hold_2048_characters(organization: LocalOrganization, account: str) -> None:
    iam = organization.client("iam", account)
    iam.create_user(UserName="inline")
    iam.put_user_policy(UserName="inline", PolicyName="first", PolicyDocument=sized(2048))
    with refused("LimitExceeded", "2048"):
        iam.put_user_policy(UserName="inline", PolicyName="second", PolicyDocument=sized(200))


def test_a_trust_policy_holds_2048_characters_of_json(organization: LocalOrganization, account: str) -> None:
    iam = organization.client("iam", account)
    organization.create_role(account, "Trusting", trust_of(organization, 2048))
    with refused("LimitExceeded", "2048"):
        organization.create_role(account, "Overtrusting", trust_of(organization, 2049))
    for document, code in (
        (json.dumps(trust_of(organization, 2049)), "LimitExceeded"),
        ("{", "MalformedPolicyDocument"),
    ):
        with refused(code):
            iam.update_assume_role_policy(RoleName="Trusting", PolicyDocument=document)


@pytest.mark.parametrize("kind", ["role", "user"])
def test_ten_policies_are_attached_at_most(organization: LocalOrganization, account: str, kind: str) -> None:
    iam = organization.client("iam", account)
    entity = {"RoleName": "Attached"} if kind == "role" else {"UserName": "attached"}
    if kind == "role":
        organization.create_role(account, "Attached", trust_of(organization, 300))
    else:
        iam.create_user(UserName="attached")
    attach = iam.attach_role_policy if kind == "role" else iam.attach_user_policy
    arns = [
        iam.create_policy(PolicyName=f"Attached-{kind}-{number}", PolicyDocument=sized(200))["Policy"]["Arn"]
        for number in range(11)
    ]
    for arn in arns[:10]:
        attach(**entity, PolicyArn=arn)
    attach(**entity, PolicyArn=arns[0])
    with refused("LimitExceeded", "10"):
        attach(**entity, PolicyArn=arns[10])


def test_only_a_policy_that_exists_is_attached(organization: LocalOrganization, account: str) -> None:
    organization.create_role(account, "Unattached", trust_of(organization, 300))
    with refused("NoSuchEntity"):
        organization.client("iam", account).attach_role_policy(
            RoleName="Unattached", PolicyArn="arn:aws:iam::aws:policy/ReadEverything"
        )


def test_the_functions_are_throttled_as_often_as_asked_and_nobody_else(organization: LocalOrganization) -> None:
    functions = boto3.client(
        "iam",
        region_name=REGION,
        endpoint_url=organization.endpoint_url,
        aws_access_key_id=organization.management_account_id,
        aws_secret_access_key="test",
        config=Config(user_agent_extra="rolecall", retries={"total_max_attempts": 1}),
    )
    organization.throttle(1)
    with refused("Throttling"):
        functions.list_users()
    assert "Users" in organization.client("iam").list_users()
    organization.throttle(0)
    assert "Users" in functions.list_users()
