"""An interrupted deployment ends deployed when it is run again, and so does one on a stack that an earlier failure left."""

from collections.abc import Callable

import pytest

from rolecall.deploy.packaged_app import PackagedApp
from rolecall.deploy.problems import RefusedError
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from tests.deployment.deploying import Deploying

_CREATED, _EXECUTED = "after-call.cloudformation.CreateChangeSet", "after-call.cloudformation.ExecuteChangeSet"
_POINTS = [
    "before-call.s3.CreateBucket",
    "before-call.s3.PutBucketPolicy",
    "before-call.s3.PutObject",
    _CREATED,
    _EXECUTED,
    "before-call.cloudformation.UpdateTerminationProtection",
    "before-call.dynamodb.UpdateTable",
    "before-call.lambda.Invoke",
]


def _interrupt(stage: Deploying, point: str, *pairs: str) -> None:
    stage.interrupted_at = point
    with pytest.raises(KeyboardInterrupt):
        stage.deploy(*pairs)
    stage.interrupted_at = ""


def _check_deployed(stage: Deploying, threads: str) -> None:
    stack = stage.stack()
    assert stack is not None
    assert stack["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
    assert stack["EnableTerminationProtection"]
    assert stage.variables()["THREADS"] == threads
    dynamodb = stage.organization.client("dynamodb")
    for name in ("ledger", "source-policy"):
        table = dynamodb.describe_table(TableName=f"rolecall-{stage.stage}-{name}")["Table"]
        assert table["DeletionProtectionEnabled"]
    bucket = f"rolecall-artifacts-{stage.organization.management_account_id}-us-east-1"
    assert stage.organization.client("s3").get_bucket_policy(Bucket=bucket)["Policy"]


@pytest.mark.parametrize("point", _POINTS)
def test_interrupted_first_deployment_ends_deployed(deploying: Callable[[str], Deploying], point: str) -> None:
    stage = deploying("first")
    _interrupt(stage, point, "Threads=3")

    assert stage.deploy("Threads=3") is ExitStatus.OK

    _check_deployed(stage, "3")


@pytest.mark.parametrize("point", [_CREATED, _EXECUTED])
def test_interrupted_import_ends_deployed(deploying: Callable[[str], Deploying], point: str) -> None:
    stage = deploying("imported")
    stage.deploy()
    stage.undeploy()
    _interrupt(stage, point, "Threads=3")

    assert stage.deploy("Threads=3") is ExitStatus.OK

    _check_deployed(stage, "3")


@pytest.mark.parametrize("point", [_CREATED, _EXECUTED])
def test_interrupted_upgrade_ends_deployed(deploying: Callable[[str], Deploying], point: str) -> None:
    stage = deploying("upgraded")
    stage.deploy()
    _interrupt(stage, point, "Threads=3")
    listed = stage.organization.client("cloudformation").list_change_sets(StackName="rolecall-upgraded")["Summaries"]
    assert [each for each in listed if each["ExecutionStatus"] == "AVAILABLE"] == []

    assert stage.deploy("Threads=3") is ExitStatus.OK

    _check_deployed(stage, "3")


def test_import_without_an_update_is_continued(deploying: Callable[[str], Deploying]) -> None:
    """The stack of an import that was followed by nothing has only the tables, and no parameter."""
    stage = deploying("half")
    stage.deploy()
    stage.undeploy()
    original = stage.app
    stage.interrupted_at = "before-call.s3.HeadObject"
    with pytest.raises(KeyboardInterrupt):
        stage.deploy("Threads=3")
    stage.interrupted_at = ""
    assert stage.status == "IMPORT_COMPLETE"

    assert stage.deploy("Threads=3", app=original) is ExitStatus.OK

    _check_deployed(stage, "3")


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS"])
def test_stack_of_a_failed_creation_is_replaced(deploying: Callable[[str], Deploying], status: str) -> None:
    stage = deploying("replaced")
    stage.deploy()
    stage.organization.set_stack_status("rolecall-replaced", status)

    assert stage.deploy("Threads=3") is ExitStatus.OK

    assert f"({status}) is deleted first" in stage.output
    _check_deployed(stage, "3")


@pytest.mark.parametrize("has_tables", [True, False])
def test_stack_that_is_replaced_keeps_its_settings(deploying: Callable[[str], Deploying], has_tables: bool) -> None:
    """With rollback disabled, the stack of a failed creation may be in use."""
    stage = deploying("kept")
    stage.deploy("Threads=3", "ExcludeAccountIds=444455556666", "ExternalId=secret")
    if not has_tables:  # With tables, these are imported, and the new stack is updated.
        _delete_tables(stage)
    stage.organization.set_stack_status("rolecall-kept", "CREATE_FAILED")

    assert stage.deploy("Threads=4", options={"SourcePrincipalArns": ""}) is ExitStatus.OK

    _check_deployed(stage, "4")
    stack = stage.stack()
    assert stack is not None
    values = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    kept = ("SourcePrincipalArns", "ExcludeAccountIds", "ExternalId", "Stage")
    assert [values[name] for name in kept] == [stage.reader, "444455556666", "secret", "kept"]


def _delete_tables(stage: Deploying) -> None:
    dynamodb = stage.organization.client("dynamodb")
    for name in ("rolecall-kept-ledger", "rolecall-kept-source-policy"):
        dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=name)


def test_stack_that_was_finished_meanwhile_is_not_replaced(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("finished")
    stage.deploy()
    stage.organization.set_stack_status("rolecall-finished", "REVIEW_IN_PROGRESS")

    def answer() -> bool:
        stage.organization.set_stack_status("rolecall-finished", "CREATE_COMPLETE")
        return True

    with pytest.raises(CommandError, match="is CREATE_COMPLETE meanwhile: run the command again"):
        stage.deploy("Threads=3", answer=answer)

    assert stage.status == "CREATE_COMPLETE"
    assert stage.variables()["THREADS"] == "10"


def test_failed_rollback_is_continued_before_the_update(deploying: Callable[[str], Deploying]) -> None:
    stage = deploying("stuck")
    stage.deploy()
    stage.organization.set_stack_status("rolecall-stuck", "UPDATE_ROLLBACK_FAILED")

    assert stage.deploy("Threads=3", dry_run=True) is ExitStatus.OK
    assert stage.status == "UPDATE_ROLLBACK_FAILED"

    assert stage.deploy("Threads=3") is ExitStatus.OK
    assert "the rollback of a failed update is continued first (UPDATE_ROLLBACK_FAILED)" in stage.output
    _check_deployed(stage, "3")


@pytest.mark.parametrize("status", ["IMPORT_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"])
def test_stack_that_was_rolled_back_is_updated(deploying: Callable[[str], Deploying], status: str) -> None:
    stage = deploying("settled")
    stage.deploy()
    stage.organization.set_stack_status("rolecall-settled", status)

    assert stage.deploy("Threads=3") is ExitStatus.OK

    assert "is deleted first" not in stage.output
    _check_deployed(stage, "3")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("DELETE_FAILED", "was not deleted completely: finish it: rolecall undeploy gone"),
        ("IMPORT_ROLLBACK_FAILED", "could not be rolled back: .*rolecall undeploy gone"),
    ],
)
def test_stack_that_only_deletion_helps_is_refused(
    deploying: Callable[[str], Deploying], status: str, advice: str
) -> None:
    stage = deploying("gone")
    stage.deploy()
    stage.organization.set_stack_status("rolecall-gone", status)

    with pytest.raises(RefusedError, match=advice):
        stage.deploy("Threads=3")
    assert stage.status == status

    assert stage.undeploy() is ExitStatus.OK
    assert stage.deploy("Threads=3") is ExitStatus.OK
    _check_deployed(stage, "3")


def test_broken_import_is_reported(deploying: Callable[[str], Deploying], broken: PackagedApp) -> None:
    """What is imported stays imported when the update that follows fails."""
    stage = deploying("import")
    stage.deploy()
    stage.undeploy()

    assert stage.deploy(app=broken) is ExitStatus.PROBLEM
    assert "Broken: " in stage.output

    assert stage.deploy("Threads=3") is ExitStatus.OK
    _check_deployed(stage, "3")
