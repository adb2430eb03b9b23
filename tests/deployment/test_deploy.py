"""deploy and undeploy, in the local AWS organization."""

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local.organization import LocalOrganization
from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.problems import RefusedError
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from tests.deployment.deploying import Deploying
from tests.unit.builders import EXTRA


def test_deploying_again_changes_only_the_given_settings(deploying: Callable[[str], Deploying], tmp_path: Path) -> None:
    extra = tmp_path / "extra.json"
    extra.write_text(EXTRA.replace("macie2:GetMacieSession", "s3:PutObject"))
    stage = deploying("again")
    assert stage.deploy("BatchSize=9") is ExitStatus.OK
    assert "stack rolecall-again in us-east-1" in stage.output
    assert "rolecall --stage again backfill" in stage.output
    first = stage.variables()

    assert stage.deploy() is ExitStatus.OK
    assert "Resources: nothing changes" in stage.output
    assert stage.variables() == first

    stage.deploy("Threads=3", policies=(str(extra),), allow_writes=True)
    assert "~ Threads: 10 → 3" in stage.output
    assert "+ MemberRolePolicies: extra" in stage.output
    assert "! MemberRolePolicies: extra allows s3:PutObject, which doesn't only read" in stage.output
    assert "~ Enroll (AWS::Lambda::Function)" in stage.output
    assert stage.variables() == first | {
        "THREADS": "3",
        "MEMBER_ROLE_POLICIES": f'{{"extra":{extra.read_text()}}}',
    }
    stack = stage.stack()
    assert stack is not None
    kept = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (kept["Stage"], kept["BatchSize"], kept["Threads"]) == ("again", "9", "3")
    assert {each["Key"]: each["Value"] for each in stack["Tags"]} == {
        "managed-by": "rolecall",
        "rolecall-stage": "again",
    }


def test_undeployed_tables_are_imported_by_the_next_deployment(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("twice")
    stage.deploy()
    table, dynamodb = "rolecall-twice-ledger", stage.organization.client("dynamodb")
    role_arn = {"S": "arn:aws:iam::444455556666:role/R"}
    enrolled = {"account_id": {"S": "444455556666"}, "outcome": {"S": "enrolled"}, "role_arn": role_arn}
    failed = {"account_id": {"S": "666677778888"}, "outcome": {"S": "failed"}}
    for row in (enrolled, failed):
        dynamodb.put_item(TableName=table, Item=row)

    with pytest.raises(
        RefusedError, match=r"are left: .*rolecall --stage twice uninstall.*\n  444455556666 enrolled .*/R"
    ):
        stage.undeploy()
    assert "THREADS" in stage.variables()

    dynamodb.delete_item(TableName=table, Key={"account_id": {"S": "444455556666"}})
    assert stage.undeploy() is ExitStatus.OK
    assert f"update-table --table-name {table}" in stage.output
    assert stage.status in {None, "DELETE_COMPLETE"}
    with pytest.raises(RefusedError, match="stack rolecall-twice does not exist"):
        stage.undeploy()

    # As a release without announcements left it.
    dynamodb.update_table(TableName=table, StreamSpecification={"StreamEnabled": False})
    assert stage.deploy() is ExitStatus.OK
    assert "< LedgerTable (AWS::DynamoDB::Table)" in stage.output
    assert dynamodb.scan(TableName=table)["Items"] == [failed]
    (mapping,) = stage.organization.client("lambda").list_event_source_mappings(
        FunctionName="rolecall-twice-announce_outcome"
    )["EventSourceMappings"]
    described = dynamodb.describe_table(TableName=table)["Table"]
    assert described["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert mapping["EventSourceArn"] == described["LatestStreamArn"]
    resources = stage.organization.client("cloudformation").describe_stack_resources(StackName="rolecall-twice")
    assert {"LedgerTable", "SourcePolicyTable"} <= {each["LogicalResourceId"] for each in resources["StackResources"]}


def test_deployment_is_protected_and_undeploying_lifts_that(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("guarded")
    stage.deploy()
    cloudformation, dynamodb = (stage.organization.client(each) for each in ("cloudformation", "dynamodb"))
    described = cloudformation.describe_stacks(StackName="rolecall-guarded")["Stacks"][0]
    assert described["EnableTerminationProtection"]

    stage.undeploy()

    for name in ("ledger", "source-policy"):
        table = dynamodb.describe_table(TableName=f"rolecall-guarded-{name}")["Table"]
        assert table["DeletionProtectionEnabled"]


def test_created_bucket_is_private_encrypted_and_tls_only(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("bucket")
    stage.deploy()
    s3, bucket = (
        stage.organization.client("s3"),
        f"rolecall-artifacts-{stage.organization.management_account_id}-us-east-1",
    )
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())
    assert len(blocked) == 4
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=bucket)["Policy"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rules[0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_without_a_terminal_nothing_is_shown_or_stored(
    deploying: Callable[[str], Deploying], fresh: LocalOrganization
) -> None:
    stage = deploying("dry")
    with pytest.raises(CommandError, match="refusing to deploy without confirmation: not a terminal; pass --yes"):
        stage.deploy(answer=None)
    assert stage.output == ""
    assert fresh.client("s3").list_buckets()["Buckets"] == []


def test_dry_run_of_a_new_stage_leaves_nothing(deploying: Callable[[str], Deploying], fresh: LocalOrganization) -> None:
    stage = deploying("dry")
    assert stage.deploy(dry_run=True, answer=None) is ExitStatus.OK
    assert "+ SourcePrincipalArns: arn:aws:iam::" in stage.output
    assert "9 AWS::Serverless::Function" in stage.output
    assert {each["action"] for each in stage.details["changes"]} == {"Add"}
    assert stage.status is None
    assert fresh.client("s3").list_buckets()["Buckets"] == []


def test_dry_run_of_a_deployed_stage_leaves_no_change_set(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("dry-again")
    stage.deploy()
    before = stage.variables()
    cloudformation = stage.organization.client("cloudformation")
    row = {name: {"S": value} for name, value in (("account_id", "444455556666"), ("outcome", "enrolled"))}
    stage.organization.client("dynamodb").put_item(TableName="rolecall-dry-again-ledger", Item=row)
    assert stage.deploy("MemberRoleMaxSession=7200", dry_run=True, answer=None) is ExitStatus.OK
    assert "~ MemberRoleMaxSession: 3600 → 7200" in stage.output
    assert "~ the member role in 1 account: set the longest session to 7200 seconds" in stage.output
    assert "updated" in stage.output
    assert {"Enroll": "Modify"}.items() <= {
        each["logical_id"]: each["action"] for each in stage.details["changes"]
    }.items()
    listed = cloudformation.list_change_sets(StackName="rolecall-dry-again")["Summaries"]
    assert [each for each in listed if each["ExecutionStatus"] == "AVAILABLE"] == []
    assert stage.variables() == before


def _bucket_policies(organization: LocalOrganization, bucket: str) -> list[str]:
    try:
        return [organization.client("s3").get_bucket_policy(Bucket=bucket)["Policy"]]
    except ClientError:
        return []


def test_dry_run_leaves_bucket_and_configuration_alone(
    deploying: Callable[[str], Deploying], fresh: LocalOrganization
) -> None:
    stage = deploying("dry-bucket")
    stage.deploy()
    s3, bucket = fresh.client("s3"), f"rolecall-artifacts-{fresh.management_account_id}-us-east-1"
    s3.delete_bucket_policy(Bucket=bucket)

    assert stage.deploy("Threads=4", dry_run=True, answer=None) is ExitStatus.OK

    assert _bucket_policies(fresh, bucket) == []
    assert f"The template and the code are stored in bucket {bucket}." in stage.output

    for version in s3.list_object_versions(Bucket=bucket)["Versions"]:
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=bucket)
    assert stage.deploy("Threads=4", dry_run=True, answer=None) is ExitStatus.OK
    assert s3.list_buckets()["Buckets"] == []
    assert "the changes of resources are shown once the bucket exists" in stage.output
    assert stage.output.endswith("Dry run: nothing was changed.\n")


def test_dry_run_and_deployment_do_not_disturb_each_other(
    deploying: Callable[[str], Deploying], fresh: LocalOrganization, small: PackagedApp
) -> None:
    first, second = deploying("both"), Deploying(fresh, small, "both")
    first.deploy()

    def answer() -> bool:
        return second.deploy("Threads=4", dry_run=True, answer=None) is ExitStatus.OK

    assert first.deploy("Threads=7", answer=answer) is ExitStatus.OK

    assert first.variables()["THREADS"] == "7"


@pytest.mark.parametrize("answer", [False, None])
def test_nothing_is_deployed_without_a_yes(deploying: Callable[[str], Deploying], answer: bool | None) -> None:
    stage = deploying("asked")
    with pytest.raises(CommandError, match="without confirmation" if answer is None else "nothing was changed"):
        stage.deploy(answer=answer)
    assert stage.status is None
    assert stage.organization.client("s3").list_buckets()["Buckets"] == []


def test_upgrade_that_is_declined_leaves_no_change_set(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("declined")
    stage.deploy()
    before = stage.variables()
    with pytest.raises(CommandError, match="not confirmed: the stage was not changed; its new template"):
        stage.deploy("Threads=7", answer=False)
    listed = stage.organization.client("cloudformation").list_change_sets(StackName="rolecall-declined")["Summaries"]
    assert [each for each in listed if each["ExecutionStatus"] == "AVAILABLE"] == []
    assert stage.variables() == before


def test_failed_first_deployment_names_the_resource_and_can_be_repeated(
    deploying: Callable[[str], Deploying], broken: PackagedApp
) -> None:
    stage = deploying("failed")
    assert stage.deploy(app=broken) is ExitStatus.PROBLEM
    assert "Failed: stack rolecall-failed is ROLLBACK_COMPLETE.\n  Broken: " in stage.output
    assert any(each.startswith("Broken: ") for each in stage.details["failures"])
    assert stage.status == "ROLLBACK_COMPLETE"

    assert stage.deploy() is ExitStatus.OK
    assert "the stack of a deployment that failed (ROLLBACK_COMPLETE) is deleted first" in stage.output
    assert stage.status == "CREATE_COMPLETE"


def test_failed_upgrade_is_rolled_back_and_reported(deploying: Callable[[str], Deploying], broken: PackagedApp) -> None:
    stage = deploying("rolled-back")
    stage.deploy()
    before = stage.variables()
    assert stage.deploy("Threads=2", app=broken) is ExitStatus.PROBLEM
    assert "Broken: " in stage.output
    assert "the stage is as it was before" in stage.output
    assert stage.variables() == before
    assert stage.deploy("Threads=2") is ExitStatus.OK
    assert stage.variables() == before | {"THREADS": "2"}
