"""What can't be deployed is refused before anything changes, with every problem of a set-up at once."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.organization import LocalOrganization
from rolecall.deploy.problems import RefusedError
from tests.deployment.deploying import Deploying
from tests.unit.builders import EXTRA


@dataclass(frozen=True)
class BadSetup:
    """What is given, and a part of each problem that is found."""

    problems: tuple[str, ...]
    pairs: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    text: str = ""
    toml: str | None = None
    no_file: bool = False
    stage: str = "bad"
    region: str = "us-east-1"
    bucket: str | None = None
    prepare: Callable[[LocalOrganization], None] = lambda _: None
    member: bool = False


def _table(names: dict[str, str]) -> Callable[[LocalOrganization], None]:
    """Return a function that creates a source-policy table in which an earlier stage recorded its names."""

    def prepare(organization: LocalOrganization) -> None:
        dynamodb = organization.client("dynamodb")
        dynamodb.create_table(
            TableName="rolecall-bad-source-policy",
            KeySchema=[{"AttributeName": "policy_name", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "policy_name", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        item = {"policy_name": {"S": "#status"}, "names": {"M": {name: {"S": value} for name, value in names.items()}}}
        dynamodb.put_item(TableName="rolecall-bad-source-policy", Item=item)

    return prepare


def _bucket_of_a_member(organization: LocalOrganization) -> None:
    organization.client("s3", organization.create_account("other")).create_bucket(Bucket="theirs")


def _other_stack(organization: LocalOrganization) -> None:
    template = '{"Parameters": {"Size": {"Type": "String"}}, "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}'
    parameters = [{"ParameterKey": "Size", "ParameterValue": "1"}]
    organization.client("cloudformation").create_stack(
        StackName="rolecall-bad", TemplateBody=template, Parameters=parameters
    )


def _other_stack_without_parameters(organization: LocalOrganization) -> None:
    template = '{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}'
    organization.client("cloudformation").create_stack(StackName="rolecall-bad", TemplateBody=template)


def _other_stage(organization: LocalOrganization) -> None:
    values = {
        "Stage": "first",
        "MemberRoleName": "CrossAccountReadOnlyRole",
        "SourcePolicyName": "CrossAccountReadOnlyAccess",
        "SourcePrincipalArns": f"arn:aws:iam::{organization.management_account_id}:role/Reader",
    }
    template = {
        "Parameters": {name: {"Type": "String"} for name in values},
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    }
    organization.client("cloudformation").create_stack(
        StackName="rolecall-first",
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )


SETUPS = {
    "invalid stage": BadSetup(("'Bad_Stage' is no name of a stage: choose 1 to 20",), stage="Bad_Stage"),
    "no source principal": BadSetup(
        ("SourcePrincipalArns is not set: pass --source-principal",), options={"SourcePrincipalArns": ""}
    ),
    "unknown parameter": BadSetup(
        ("unknown parameter MemberRoleNames: did you mean MemberRoleName?",), pairs=("MemberRoleNames=Audit",)
    ),
    "no parameter": BadSetup(("'Threads' is no parameter: pass Name=Value",), pairs=("Threads",)),
    "parameter given twice": BadSetup(("Threads is given twice: pass it once",), pairs=("Threads=5", "Threads=6")),
    "value out of range": BadSetup(("Threads is '0': expected a whole number from 1 to 64",), pairs=("Threads=0",)),
    "value that isn't allowed": BadSetup(
        ("DenyDataReads is 'no': expected one of true, false",), pairs=("DenyDataReads=no",)
    ),
    "document that writes": BadSetup(
        ("A allows s3:PutObject, .* only reads: allow only reads, or pass --allow-writes",),
        pairs=('MemberRolePolicies={"A":' + EXTRA.replace("macie2:GetMacieSession", "s3:PutObject") + "}",),
    ),
    "exception that is not denied": BadSetup(
        ("DENY_DATA_READS_EXCEPT contains 's3:GetObjects': .* such as s3:GetObject$",),
        pairs=("DenyDataReadsExcept=s3:GetObjects",),
    ),
    "session instead of a role": BadSetup(
        ("^--source-principal is 'arn:aws:sts::.*expected ARNs of IAM roles or users",),
        options={"SourcePrincipalArns": "arn:aws:sts::111122223333:assumed-role/Reader/me"},
    ),
    "unquoted text": BadSetup(("can't be read: No closing quotation",), text="ExternalId='x"),
    "missing file": BadSetup(("can't be read: No such file",), no_file=True),
    "malformed file": BadSetup(("is not TOML",), toml="Threads: 5"),
    "file with a date": BadSetup(("the value of Threads is no text",), toml="Threads = 2026-11-30"),
    "principal of another partition": BadSetup(
        ("which is not of this partition",), options={"SourcePrincipalArns": "arn:aws-cn:iam::111122223333:role/Reader"}
    ),
    "too large environment": BadSetup(
        ("allows 4096: shorten EXCLUDE_ACCOUNT_IDS",),
        options={"ExcludeAccountIds": ",".join(f"{each:012}" for each in range(300))},
    ),
    "too large session policy": BadSetup(
        ("2048",),
        pairs=(
            "MemberRolePolicyArns=" + ",".join(f"arn:{{partition}}:iam::aws:policy/{each:0>99}" for each in range(10)),
        ),
    ),
    "less reserved than used concurrency": BadSetup(
        ("ReservedConcurrency is 4, less than MaximumConcurrency, 5",), pairs=("ReservedConcurrency=4",)
    ),
    "region without events": BadSetup(
        ("the region is eu-west-1, and organization events are delivered only in us-east-1: pass --region us-east-1",),
        region="eu-west-1",
    ),
    "member account": BadSetup(
        (
            "the credentials are of account [0-9]{12} .*:root.*, and the organization's management account is 111122223333",
        ),
        member=True,
    ),
    "changed member role": BadSetup(
        ("MemberRoleName is Audit and was ReadOnly, which can't be changed",),
        pairs=("MemberRoleName=Audit",),
        prepare=_table({"member_role_name": "ReadOnly"}),
    ),
    "changed source policy": BadSetup(
        ("SourcePolicyName is ReadAll and was ReadSome",),
        pairs=("SourcePolicyName=ReadAll",),
        prepare=_table({"source_policy_name": "ReadSome"}),
    ),
    "changed source account": BadSetup(
        ("SourcePrincipalArns is of account 111122223333 and was of account 444455556666",),
        prepare=_table({"source_account_id": "444455556666"}),
    ),
    "source principal that doesn't exist": BadSetup(
        ("SourcePrincipalArns contains .*role/Gone, which does not exist: create the role",),
        options={"SourcePrincipalArns": "arn:aws:iam::111122223333:role/Gone"},
    ),
    "organizational unit that doesn't exist": BadSetup(
        ("IncludeOuIds contains ou-ab12-11111111, which does not exist",), options={"IncludeOuIds": "ou-ab12-11111111"}
    ),
    "member role with the reader's name": BadSetup(
        ("MemberRoleName is READER, which SourcePrincipalArns contains, too",), pairs=("MemberRoleName=READER",)
    ),
    "too many policies": BadSetup(
        ("MemberRolePolicyArns contains 11 policies",),
        pairs=("MemberRolePolicyArns=" + ",".join(f"arn:aws:iam::aws:policy/P{each}" for each in range(11)),),
    ),
    "names of another stage": BadSetup(
        ("MemberRoleName is .* the member role of stage first", "SourcePolicyName is .* source policy of stage first"),
        prepare=_other_stage,
    ),
    "missing bucket": BadSetup(
        ("bucket nowhere-at-all does not exist: create it, or leave --bucket out",), bucket="nowhere-at-all"
    ),
    "bucket of another account": BadSetup(
        ("bucket theirs is another account's",), bucket="theirs", prepare=_bucket_of_a_member
    ),
    "stack of something else": BadSetup(
        ("stack rolecall-bad exists and was not deployed from Rolecall's template",), prepare=_other_stack
    ),
    "stack of something else without parameters": BadSetup(
        ("stack rolecall-bad exists and was not deployed from Rolecall's template",),
        prepare=_other_stack_without_parameters,
    ),
    "everything at once": BadSetup(
        (
            "unknown parameter Colour",
            "Threads is '99'",
            "MemberRoleName is 'a b'",
            "the region is eu-west-1",
            "ReservedConcurrency is 3",
            "bucket nowhere-at-all does not exist",
        ),
        pairs=("Colour=red", "Threads=99", "MemberRoleName=a b", "ReservedConcurrency=3"),
        region="eu-west-1",
        bucket="nowhere-at-all",
    ),
}


@pytest.mark.parametrize("name", SETUPS)
def test_bad_setup_is_refused_and_changes_nothing(
    name: str, deploying: Callable[[str], Deploying], fresh: LocalOrganization, tmp_path: Path
) -> None:
    setup = SETUPS[name]
    setup.prepare(fresh)
    stage = deploying(setup.stage)
    stage.region = setup.region
    stage.account_id = fresh.create_account("member") if setup.member else None
    before = _state(fresh)
    file = tmp_path / "parameters.toml"
    if setup.toml is not None:
        file.write_text(setup.toml)
    given = file if setup.toml is not None or setup.no_file else None

    with pytest.raises(RefusedError) as raised:
        stage.deploy(*setup.pairs, options=setup.options, text=setup.text, bucket=setup.bucket, file=given)

    found = raised.value.problems
    for expected in setup.problems:
        assert [problem for problem in found if re.search(expected, problem)], (expected, found)
    assert len(found) == len(setup.problems), found
    assert _state(fresh) == before
    assert "nothing was changed" in str(raised.value)


def test_source_principals_credentials_are_one_problem(
    deploying: Callable[[str], Deploying], fresh: LocalOrganization
) -> None:
    stage = deploying("bad")
    stage.credentials = fresh.as_role(stage.reader)

    with pytest.raises(RefusedError) as raised:
        stage.deploy("Threads=99")

    credentials, threads = raised.value.problems
    assert re.match(r"arn:aws:sts::111122223333:assumed-role/Reader/\S+ may read neither the organization", credentials)
    assert "docs/deploy.md#permissions-of-the-deployer" in credentials
    assert threads.startswith("Threads is '99'")


def _state(organization: LocalOrganization) -> dict[str, Any]:
    """Return what a deployment would change first."""
    stacks = organization.client("cloudformation").describe_stacks()["Stacks"]
    return {
        "stacks": [(each["StackName"], each["StackStatus"]) for each in stacks],
        "buckets": [each["Name"] for each in organization.client("s3").list_buckets()["Buckets"]],
        "tables": organization.client("dynamodb").list_tables()["TableNames"],
        "functions": organization.client("lambda").list_functions()["Functions"],
    }
