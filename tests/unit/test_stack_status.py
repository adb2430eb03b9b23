"""Which stacks are a stage's: by their parameter, or by the tables that an interrupted deployment imported."""

from collections.abc import Mapping

import pytest

from rolecall.deploy.problems import Problems
from rolecall.deploy.stack import Stack
from rolecall.deploy.stack_status import check_owner

_LEDGER, _QUEUE = "rolecall-ci-ledger", "https://sqs.us-east-1.amazonaws.com/111122223333/rolecall-ci-accounts"


@pytest.mark.parametrize(
    ("status", "parameters", "resources", "is_ours"),
    [
        ("CREATE_COMPLETE", {"Stage": "ci"}, {_LEDGER, _QUEUE}, True),
        ("CREATE_COMPLETE", {"Stage": "prod"}, {_LEDGER, _QUEUE}, False),
        ("CREATE_COMPLETE", {"Size": "1"}, {_QUEUE}, False),
        ("CREATE_COMPLETE", {}, {_QUEUE}, False),
        ("CREATE_COMPLETE", {}, {_LEDGER, _QUEUE}, False),
        ("IMPORT_COMPLETE", {}, {_LEDGER, "rolecall-ci-source-policy"}, True),
        ("REVIEW_IN_PROGRESS", {}, set(), True),
        # The update after an import, which adds the rest, is rolled back.
        ("UPDATE_ROLLBACK_IN_PROGRESS", {}, {_LEDGER, _QUEUE}, True),
        ("UPDATE_ROLLBACK_FAILED", {}, {_LEDGER, _QUEUE}, True),
        ("UPDATE_ROLLBACK_FAILED", {}, {_QUEUE}, False),
    ],
)
def test_stack_is_the_stages_by_its_parameter_or_tables(
    status: str, parameters: Mapping[str, str], resources: set[str], is_ours: bool
) -> None:
    name, problems = "rolecall-ci", Problems()
    stack = Stack(id=name, name=name, status=status, parameters=parameters, outputs={}, protected=False)

    check_owner(stack, resources, problems)

    assert [each.partition(":")[0] for each in problems.found] == (
        [] if is_ours else [f"stack {name} exists and was not deployed from Rolecall's template for stage ci"]
    )
