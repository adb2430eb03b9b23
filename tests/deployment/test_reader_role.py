"""The reader role and the partitions in docs/deploy.md: valid documents, and a boundary to the member roles."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from chalicelib.arns import AccountId, parse_principal
from chalicelib.settings import Settings
from chalicelib.source_policy.documents import document
from chalicelib.source_policy.records import ShardContent
from local.organization import LocalOrganization, trust_policy
from rolecall.partitions import EVENT_REGIONS, add_account_arguments
from tests.conftest import ROOT
from tests.deployment.test_lint import policy_findings

_TEXT = (ROOT / "docs" / "deploy.md").read_text()
_, _READER, _PARTITIONS = re.split(r"^## (?:The reader role|GovCloud, China.*)$", _TEXT, flags=re.MULTILINE)
_DOCUMENTS: list[dict[str, Any]] = list(map(json.loads, re.findall(r"```json\n(.*?)```", _READER, re.DOTALL)))
_TRUSTS = [each for each in _DOCUMENTS if "Principal" in each["Statement"][0]]
(_BOUNDARY,) = (each for each in _DOCUMENTS if each not in _TRUSTS)
_MANAGEMENT, _MEMBER, _OUTSIDE = "111122223333", "444455556666", "555566667777"
_ROLES = (
    f"arn:aws:iam::{_MEMBER}:role/CrossAccountReadOnlyRole",
    f"arn:aws:iam::{_MEMBER}:role/Other",
    f"arn:aws:iam::{_OUTSIDE}:role/CrossAccountReadOnlyRole",
)


def _source_policy(organization_id: str, *accounts: str) -> dict[str, Any]:
    environment = {"STAGE": "prod", "PARTITION": "aws", "MANAGEMENT_ACCOUNT_ID": _MANAGEMENT}
    settings = Settings.from_env(environment | {"SOURCE_PRINCIPAL_ARNS": f"arn:aws:iam::{_MANAGEMENT}:role/Reader"})
    content = ShardContent(accounts=frozenset(map(AccountId, accounts)))
    return {**document(settings, content, organization_id).content}


def _without_provider_keys(condition: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return a condition without the keys of an OpenID Connect provider, which Parliament lacks."""
    return {
        operator: {key: keys[key] for key in keys if key.startswith("aws:")} for operator, keys in condition.items()
    }


@pytest.mark.parametrize("trust", _TRUSTS, ids=lambda each: "".join(each["Statement"][0]["Principal"].values()))
def test_documented_trust_policy_is_valid(trust: dict[str, Any]) -> None:
    role = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": trust}}
    assert lint(json.dumps({"Resources": {"Reader": role}}), config=ManualArgs(regions=["us-east-1"])) == []
    (statement,) = trust["Statement"]
    condition = _without_provider_keys(statement.get("Condition", {}))
    allowed = {"Effect": "Allow", "Action": statement["Action"], "Resource": f"arn:aws:iam::{_MANAGEMENT}:role/Reader"}
    assert policy_findings({**trust, "Statement": [allowed | {"Condition": condition}]}) == []


def test_every_kind_of_reader_has_a_trust_policy() -> None:
    assert [list(each["Statement"][0]["Principal"]) for each in _TRUSTS] == [
        ["AWS"],
        ["Service"],
        ["Service"],
        ["Federated"],
    ]


def test_documented_boundary_allows_what_the_source_policy_does() -> None:
    assert policy_findings(_BOUNDARY) == []
    (limit,), (granted,) = _BOUNDARY["Statement"], _source_policy("o-abcdefghij", _MEMBER)["Statement"]
    assert (limit["Action"], limit["Resource"]) == (granted["Action"], granted["Resource"])
    assert limit["Condition"]["StringEquals"].keys() <= granted["Condition"]["StringEquals"].keys()


def test_reader_within_the_boundary_assumes_member_roles_only(fresh: LocalOrganization) -> None:
    """Even as an administrator, it assumes no other role, none outside the organization, and does nothing else."""
    fresh.invite_account(_MEMBER)
    for arn in _ROLES:
        account_id, name = arn.split(":")[4], arn.rpartition("/")[2]
        fresh.create_role(account_id, name, trust_policy(f"arn:aws:iam::{_MANAGEMENT}:root"))
    reader, iam = fresh.create_source_principal("Bounded"), fresh.client("iam")
    granted = _source_policy(fresh.organization_id, _MEMBER, _OUTSIDE)
    source_policy, boundary = (
        iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(content))["Policy"]["Arn"]
        for name, content in (("CrossAccountReadOnlyAccess", granted), ("ReaderBoundary", _BOUNDARY))
    )
    iam.put_role_permissions_boundary(RoleName="Bounded", PermissionsBoundary=boundary)

    def assumed() -> list[str]:
        sts = fresh.client("sts", credentials=fresh.as_role(reader))
        return [arn for arn in _ROLES if not _denied(partial(sts.assume_role, RoleArn=arn, RoleSessionName="reading"))]

    iam.attach_role_policy(RoleName="Bounded", PolicyArn=source_policy)
    assert assumed() == [_ROLES[0]]
    iam.attach_role_policy(RoleName="Bounded", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    assert assumed() == [_ROLES[0]]
    assert _denied(fresh.client("iam", credentials=fresh.as_role(reader)).list_roles)


def _denied(call: Callable[[], object]) -> bool:
    """Whether a call is denied. Raise every other error."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return True
    return False


def test_permission_sets_role_in_the_document_is_a_source_principal() -> None:
    (arn,) = re.findall(r"--source-principal '(.*?)'", _READER)
    assert parse_principal(arn).is_reserved


def test_table_of_partitions_is_that_of_botocore() -> None:
    known = {each["id"]: each["outputs"] for each in create_loader().load_data("partitions")["partitions"]}
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in _PARTITIONS.splitlines() if line[:3] == "| `"
    ]
    assert [row[:4] for row in rows] == [
        [partition, region, known[partition]["dnsSuffix"], _iam_endpoint(region)]
        for partition, region in EVENT_REGIONS.items()
        if partition != "aws"
    ]
    assert {row[0] for row in rows if "created" in row[4]} == {
        each for each in EVENT_REGIONS if "create-account" in add_account_arguments(each) and each != "aws"
    }


def _iam_endpoint(region: str) -> str:
    client = boto3.client("iam", region_name=region, aws_access_key_id="test", aws_secret_access_key="test")
    return client.meta.endpoint_url.removeprefix("https://")
