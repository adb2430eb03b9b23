"""deploy runs publish once after the stack is complete, and reports what prevents it from granting access."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from rolecall.deploy.publish import run_publish
from rolecall.deploy.tables import Tables
from rolecall.errors import CommandError, FunctionError
from rolecall.stage import Stage

_TABLE = "rolecall-dev-source-policy"


@dataclass
class InvokedStage:
    """A stage whose publish writes `status`, or raises an error."""

    status: dict[str, Any]
    error: CommandError | None = None
    written: dict[str, Any] = field(default_factory=dict)

    def resource_name(self, name: str) -> str:
        return f"rolecall-dev-{name}"

    def invoke(self, function: str, request: dict[str, Any]) -> dict[str, Any]:
        assert (function, request) == ("publish", {"Records": []})
        if self.error:
            raise self.error
        self.written = self.status
        return {"batchItemFailures": []}

    def item(self, table: str, **key: str) -> dict[str, Any]:
        assert (table, key) == (_TABLE, {"policy_name": "#status"})
        return self.written


def _warning(status: dict[str, Any], error: CommandError | None = None) -> str | None:
    stage = InvokedStage(status, error)
    return run_publish(cast("Stage", stage), {"SourcePolicyTable": _TABLE}, cast("Tables", stage))


@pytest.mark.parametrize("status", [{}, {"policy_name": "#status", "names": {"member_role_name": "Audit"}}])
def test_run_without_a_blocked_reason_needs_no_warning(status: dict[str, Any]) -> None:
    assert _warning(status) is None


def test_reason_that_blocks_new_accounts_is_reported() -> None:
    blocked = {"reason": "principal_missing", "error": "role Reader does not exist"}
    warning = _warning({"policy_name": "#status", "blocked": blocked})
    assert warning is not None
    assert warning.startswith("New accounts are not enrolled: principal_missing role Reader does not exist. ")


def test_failed_run_of_publish_is_reported() -> None:
    warning = _warning({}, FunctionError("rolecall-dev-publish failed: no such module"))
    assert warning == "rolecall-dev-publish failed: no such module. See the log group /aws/lambda/rolecall-dev-publish."
