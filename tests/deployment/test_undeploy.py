"""undeploy refuses while roles or shards are left."""

from collections.abc import Callable, Mapping

import pytest

from local.organization import LocalOrganization
from rolecall.deploy.problems import RefusedError
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
    """A stack with the stage's name, and tables with the stage's names."""
    for name, key in _KEYS.items():
        fresh.client("dynamodb").create_table(
            TableName=f"rolecall-dev-{name}",
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    body = '{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}'
    fresh.client("cloudformation").create_stack(StackName="rolecall-dev", TemplateBody=body)
    return deploying("dev")


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
