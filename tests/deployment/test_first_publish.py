"""deploy runs publish once after the stack is complete, and reports what prevents it from granting access."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from chalicelib.errors import Reason
from chalicelib.source_policy.records import Problem, Records
from rolecall.deploy.publish import run_publish
from rolecall.errors import CommandError, FunctionError
from rolecall.stage import Stage
from tests.unit.ledger_rows import records


@dataclass
class InvokedStage:
    """A stage whose publish writes what is `recorded`, or raises an error."""

    recorded: Records
    error: CommandError | None = None
    invoked: bool = False

    def resource_name(self, name: str) -> str:
        return f"rolecall-dev-{name}"

    def invoke(self, function: str, request: dict[str, Any]) -> dict[str, Any]:
        assert (function, request) == ("publish", {"Records": []})
        if self.error:
            raise self.error
        self.invoked = True
        return {"batchItemFailures": []}

    def records(self) -> Records:
        return self.recorded if self.invoked else Records()


def _warning(recorded: Records, error: CommandError | None = None) -> str | None:
    return run_publish(cast("Stage", InvokedStage(recorded, error)))


@pytest.mark.parametrize("recorded", [Records(), records()])
def test_run_without_a_blocked_reason_needs_no_warning(recorded: Records) -> None:
    assert _warning(recorded) is None


def test_reason_that_blocks_new_accounts_is_reported() -> None:
    blocked = Problem(Reason.NO_SOURCE_PRINCIPAL, "role Reader does not exist")
    warning = _warning(records(blocked=blocked))
    assert warning is not None
    assert warning.startswith("New accounts are not enrolled: no_source_principal role Reader does not exist. ")


def test_failed_run_of_publish_is_reported() -> None:
    warning = _warning(Records(), FunctionError("rolecall-dev-publish failed: no such module"))
    assert warning == "rolecall-dev-publish failed: no such module. See the log group /aws/lambda/rolecall-dev-publish."
