"""Commands of the AWS CLI that documents and the command line print."""

from collections.abc import Iterator
from itertools import chain

from tests.conftest import ROOT

_PRINTED = ("README.md", "docs/**/*.md", "rolecall/**/*.py", "local/*.py")


def _commands(operation: str) -> Iterator[str]:
    """Yield each line with a command of an operation."""
    for path in chain.from_iterable(map(ROOT.glob, _PRINTED)):
        yield from (line for line in path.read_text().splitlines() if operation in line)


def test_invocations_wait_as_long_as_the_function_runs() -> None:
    """The AWS CLI waits 60 seconds for a response by default, and then invokes the function again."""
    invocations = list(_commands("lambda invoke"))
    assert invocations
    assert [each for each in invocations if "--cli-read-timeout 0" not in each] == []
