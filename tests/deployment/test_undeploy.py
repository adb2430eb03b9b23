"""undeploy refuses while roles or shards are left."""

from typing import Any

import pytest

from deploy.aws import DeployError
from deploy.undeploy import undeploy


class FakeAws:
    """The AWS CLI of undeploy, for a stack, the rows of its ledger and the keys of its source-policy table."""

    def __init__(self, *rows: dict[str, str], keys: tuple[str, ...] = ()) -> None:
        self.tables = {
            "rolecall-dev-ledger": [{key: {"S": value} for key, value in row.items()} for row in rows],
            "rolecall-dev-source-policy": [{"policy_name": {"S": key}} for key in keys],
        }
        self.has_stack = True

    def __call__(self, *arguments: str) -> Any:
        match arguments[:2]:
            case ("sts", "get-caller-identity"):
                return {"Arn": "arn:aws:sts::111122223333:assumed-role/Admin/me", "Account": "111122223333"}
            case ("organizations", "describe-organization"):
                return {"Organization": {"MasterAccountId": "111122223333"}}
            case ("dynamodb", "describe-table"):
                return {"Table": {}}
            case ("dynamodb", "scan"):
                return {"Items": self.tables[arguments[arguments.index("--table-name") + 1]]}
            case ("cloudformation", "describe-stacks"):
                return {"Stacks": [{"StackStatus": "CREATE_COMPLETE"}]}
            case ("cloudformation", "delete-stack"):
                self.has_stack = False
        return None


ROLE = "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole"


@pytest.mark.parametrize("outcome", ["enrolled", "failed"])
def test_remaining_role_keeps_the_stack(outcome: str) -> None:
    aws = FakeAws({"account_id": "444455556666", "outcome": outcome, "reason": "access_denied", "role_arn": ROLE})

    with pytest.raises(DeployError, match="444455556666"):
        undeploy("dev", aws=aws, region="us-east-1")

    assert aws.has_stack


@pytest.mark.parametrize("reason", ["departed", "closed", "suspended"])
def test_unreachable_role_and_empty_records_do_not_keep_the_stack(reason: str) -> None:
    row = {"account_id": "444455556666", "outcome": "retired", "reason": reason, "role_arn": ROLE}
    aws = FakeAws(row, keys=("#control", "#status"))

    message = undeploy("dev", aws=aws, region="us-east-1")

    assert not aws.has_stack
    assert all(f"delete-table --table-name rolecall-dev-{name}" in message for name in ("ledger", "source-policy"))


def test_remaining_shard_keeps_the_stack() -> None:
    aws = FakeAws(keys=("#control", "#status", "CrossAccountReadOnlyAccess-2", "CrossAccountReadOnlyAccess"))

    expected = r"2 .* left:\n  policy CrossAccountReadOnlyAccess\n  policy CrossAccountReadOnlyAccess-2\n.*rolecall --stage dev uninstall"
    with pytest.raises(DeployError, match=expected):
        undeploy("dev", aws=aws, region="us-east-1")

    assert aws.has_stack


def test_long_list_is_truncated() -> None:
    aws = FakeAws(*({"account_id": f"{number:012}", "outcome": "enrolled"} for number in range(25)))

    with pytest.raises(DeployError, match=r"25 .* left:\n(  \d{12} enrolled\n){20}  and 5 more\n"):
        undeploy("dev", aws=aws, region="us-east-1")
