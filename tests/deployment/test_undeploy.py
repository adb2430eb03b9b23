"""undeploy refuses while roles or shards are left, also those of the time until the stack is deleted, and other stacks."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from local.organization import LocalOrganization
from rolecall.deploy.problems import RefusedError
from rolecall.deploy.undeploy import ALL_VERSIONS
from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from tests.deployment.deploying import Deploying

ROLE = "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole"
LEFT = (
    "2 enrolled accounts, roles and policies are left: uninstall the stage first: rolecall --stage dev uninstall "
    "(docs/offboarding.md)"
)
_KEYS = {"ledger": "account_id", "source-policy": "policy_name"}


@pytest.fixture
def stage(deploying: Callable[[str], Deploying], fresh: LocalOrganization) -> Deploying:
    """A stack with the stage's name and parameter, and tables with the stage's names."""
    for name, key in _KEYS.items():
        fresh.client("dynamodb").create_table(
            TableName=f"rolecall-dev-{name}",
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    _create_stack(fresh, "dev", Stage="dev")
    return deploying("dev")


def _create_stack(organization: LocalOrganization, stage: str, **parameters: str) -> None:
    body: dict[str, Any] = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    if parameters:
        body["Parameters"] = {name: {"Type": "String"} for name in parameters}
    organization.client("cloudformation").create_stack(
        StackName=f"rolecall-{stage}",
        TemplateBody=json.dumps(body),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )


def _put(stage: Deploying, table: str, *items: Mapping[str, str]) -> None:
    for item in items:
        typed = {key: {"S": value} for key, value in item.items()}
        stage.organization.client("dynamodb").put_item(TableName=f"rolecall-dev-{table}", Item=typed)


@pytest.mark.parametrize("outcome", ["enrolled", "failed"])
def test_remaining_role_keeps_the_stack(outcome: str, stage: Deploying) -> None:
    row = {"account_id": "444455556666", "outcome": outcome, "reason": "access_denied", "role_arn": ROLE}
    _put(stage, "ledger", row)

    with pytest.raises(RefusedError, match="444455556666"):
        stage.undeploy()

    assert stage.status == "CREATE_COMPLETE"


@pytest.mark.parametrize("reason", ["departed", "closed", "suspended"])
def test_unreachable_role_and_empty_records_do_not_keep_the_stack(reason: str, stage: Deploying) -> None:
    _put(
        stage,
        "ledger",
        {"account_id": "444455556666", "outcome": "retired", "reason": reason, "role_arn": ROLE},
    )
    _put(stage, "source-policy", {"policy_name": "#control"}, {"policy_name": "#status"})

    assert stage.undeploy() is ExitStatus.OK

    assert stage.status in {None, "DELETE_COMPLETE"}
    assert all(f"delete-table --table-name rolecall-dev-{name}" in stage.output for name in _KEYS)


def test_bucket_is_deleted_by_the_printed_commands(stage: Deploying) -> None:
    bucket, s3 = "rolecall-artifacts-111122223333-us-east-1", stage.organization.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        s3.put_object(Bucket=bucket, Key="rolecall/code.zip", Body=b"code")
    s3.delete_object(Bucket=bucket, Key="rolecall/code.zip")

    assert stage.undeploy() is ExitStatus.OK

    assert f"  aws s3api delete-objects --bucket {bucket} --region us-east-1 --delete " in stage.output
    assert f"  aws s3api delete-bucket --bucket {bucket} --region us-east-1\n" in stage.output
    (versions,) = s3.get_paginator("list_object_versions").paginate(Bucket=bucket).search(ALL_VERSIONS)
    s3.delete_objects(Bucket=bucket, Delete=versions)
    s3.delete_bucket(Bucket=bucket)


def test_bucket_with_the_code_of_another_stage_is_kept(stage: Deploying) -> None:
    stage.organization.client("s3").create_bucket(Bucket="rolecall-artifacts-111122223333-us-east-1")
    stage.organization.client("sqs").create_queue(QueueName="rolecall-ci-accounts")

    assert stage.undeploy() is ExitStatus.OK

    assert "Kept, because it has the code of other stages (ci): bucket rolecall-artifacts-" in stage.output
    assert "delete-bucket" not in stage.output


def test_remaining_shard_keeps_the_stack(stage: Deploying) -> None:
    names = ("#control", "#status", "CrossAccountReadOnlyAccess-2", "CrossAccountReadOnlyAccess")
    _put(stage, "source-policy", *({"policy_name": name} for name in names))

    with pytest.raises(RefusedError) as raised:
        stage.undeploy()

    assert raised.value.problems == (
        LEFT,
        "policy CrossAccountReadOnlyAccess",
        "policy CrossAccountReadOnlyAccess-2",
    )
    assert stage.status == "CREATE_COMPLETE"


def test_long_list_is_truncated(stage: Deploying) -> None:
    _put(stage, "ledger", *({"account_id": f"{number:012}", "outcome": "enrolled"} for number in range(25)))

    with pytest.raises(RefusedError, match=r"25 .* left: .*\n(  \d{12} enrolled\n){20}  and 5 more"):
        stage.undeploy()


@pytest.mark.parametrize("answer", [False, None])
def test_stack_is_not_deleted_without_a_yes(answer: bool | None, stage: Deploying) -> None:
    with pytest.raises(CommandError):
        stage.undeploy(answer)
    assert stage.status == "CREATE_COMPLETE"


def _enroll(stage: Deploying) -> None:
    _put(stage, "ledger", {"account_id": "444455556666", "outcome": "enrolled", "role_arn": ROLE})


def test_account_enrolled_while_the_question_waits_keeps_the_stack(stage: Deploying) -> None:
    def answer() -> bool:
        _enroll(stage)
        return True

    with pytest.raises(RefusedError, match="444455556666"):
        stage.undeploy(answer)

    assert stage.status == "CREATE_COMPLETE"


def test_stack_deleted_while_the_question_waits_is_no_failure(stage: Deploying) -> None:
    def answer() -> bool:
        stage.organization.client("cloudformation").delete_stack(StackName="rolecall-dev")
        return True

    assert stage.undeploy(answer) is ExitStatus.OK


def test_account_enrolled_until_the_deletion_is_reported(stage: Deploying) -> None:
    stage.interrupted_at = "before-call.cloudformation.DeleteStack"
    stage.interruption = lambda: _enroll(stage)

    assert stage.undeploy() is ExitStatus.PROBLEM

    assert f"  444455556666 enrolled {ROLE}" in stage.output
    assert stage.details["left"] == [f"444455556666 enrolled {ROLE}"]
    assert stage.details["kept"] == ["rolecall-dev-ledger", "rolecall-dev-source-policy"]
    assert "run rolecall deploy dev, rolecall --stage dev uninstall, and rolecall undeploy dev again" in stage.output


@pytest.mark.parametrize("status", ["DELETE_FAILED", "IMPORT_ROLLBACK_FAILED"])
def test_stack_that_can_only_be_deleted_is_deleted(status: str, stage: Deploying) -> None:
    _enroll(stage)
    stage.organization.set_stack_status("rolecall-dev", status)

    assert stage.undeploy() is ExitStatus.PROBLEM

    assert stage.status in {None, "DELETE_COMPLETE"}
    assert "run rolecall deploy dev" in stage.output
    assert "delete-table" not in stage.output


@pytest.mark.parametrize("missing", _KEYS)
def test_live_stack_without_a_table_is_refused(missing: str, stage: Deploying) -> None:
    stage.organization.client("dynamodb").delete_table(TableName=f"rolecall-dev-{missing}")

    with pytest.raises(RefusedError, match=f"table rolecall-dev-{missing} does not exist, so .*restore it"):
        stage.undeploy()

    assert stage.status == "CREATE_COMPLETE"


def test_stack_of_a_failed_creation_needs_no_tables(stage: Deploying) -> None:
    for name in _KEYS:
        stage.organization.client("dynamodb").delete_table(TableName=f"rolecall-dev-{name}")
    stage.organization.set_stack_status("rolecall-dev", "ROLLBACK_COMPLETE")

    assert stage.undeploy() is ExitStatus.OK


@pytest.mark.parametrize("parameters", [{}, {"Stage": "prod"}, {"Size": "1"}])
def test_stack_of_something_else_is_not_undeployed(
    parameters: dict[str, str], deploying: Callable[[str], Deploying], fresh: LocalOrganization
) -> None:
    _create_stack(fresh, "ci", **parameters)
    stage = deploying("ci")

    with pytest.raises(RefusedError, match="stack rolecall-ci exists and was not deployed from Rolecall's template"):
        stage.undeploy()

    assert stage.status == "CREATE_COMPLETE"
