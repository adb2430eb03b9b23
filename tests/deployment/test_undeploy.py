"""What keeps a stage from being undeployed."""

from typing import Any

import pytest

from deploy.aws import DeployError
from deploy.undeploy import undeploy


class Cloud:
    """Answers the AWS commands that undeploying asks, from a ledger and a stack."""

    def __init__(self, *rows: dict[str, str]) -> None:
        self.items = [{key: {"S": value} for key, value in row.items()} for row in rows]
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
                return {"Items": self.items}
            case ("cloudformation", "describe-stacks"):
                return {"Stacks": [{"StackStatus": "CREATE_COMPLETE"}]}
            case ("cloudformation", "delete-stack"):
                self.has_stack = False
        return None


ROLE = "arn:aws:iam::444455556666:role/CrossAccountReadOnlyRole"


@pytest.mark.parametrize(
    "row",
    [
        {"account_id": "444455556666", "outcome": "enrolled", "role_arn": ROLE},
        {"account_id": "444455556666", "outcome": "failed", "reason": "access_denied", "role_arn": ROLE},
        {"account_id": "444455556666", "outcome": "retired", "reason": "excluded", "role_arn": ROLE},
    ],
)
def test_a_role_that_is_left_keeps_the_stack(row: dict[str, str]) -> None:
    cloud = Cloud(row)

    with pytest.raises(DeployError, match="444455556666"):
        undeploy("dev", aws=cloud, region="us-east-1")

    assert cloud.has_stack


@pytest.mark.parametrize("reason", ["departed", "closed", "pending_closure", "suspended"])
def test_a_role_out_of_reach_does_not(reason: str) -> None:
    cloud = Cloud({"account_id": "444455556666", "outcome": "retired", "reason": reason, "role_arn": ROLE})

    told = undeploy("dev", aws=cloud, region="us-east-1")

    assert not cloud.has_stack
    assert "rolecall-dev-ledger" in told
