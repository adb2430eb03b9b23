"""What no call may bring about, whatever came before: a retirement that is forgotten, or access that ends without a cause."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.simulation.answers import Call
from tests.simulation.changes import IDS, Changes
from tests.simulation.cloud import SOURCE, Cloud
from tests.simulation.members import MANAGEMENT

_OF_A_POLICY = frozenset({"CreatePolicyVersion", "DetachRolePolicy", "DeletePolicy"})


class Witness:
    """Compares what there was before a call with what there is after it."""

    def __init__(self, cloud: Cloud, changes: Changes) -> None:
        self._cloud, self._changes = cloud, changes

    @contextmanager
    def watching(self, call: Call, who: str, function: str) -> Iterator[None]:
        retired = self._retired() if call.name == "PutItem" else frozenset()
        let_in = self._let_in() if call.name in _OF_A_POLICY else frozenset()
        yield
        if retired and function != "backfill":
            forgotten = sorted(retired - self._retired())
            self._cloud.require(
                f"only who is named in a backfill is retired no more, as {forgotten} by {who}", not forgotten
            )
        if let_in:
            # Whoever was placed no longer had a cause for that.
            self._changes.require_causes((let_in - self._let_in()) & self._cloud.placed, who)

    def _retired(self) -> frozenset[str]:
        rows = self._cloud.rows()
        return frozenset(each for each, row in rows.items() if row.get("reason") == "retired_by_request")

    def _let_in(self) -> frozenset[str]:
        """List those of the enrolled whom IAM lets one in to."""
        enrolled = (each for each in (*IDS, MANAGEMENT, SOURCE) if self._cloud.row(each).get("policy_name") is not None)
        return frozenset(each for each in enrolled if self._cloud.lets_in(each))
