"""The access that a shard's document grants."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.integration.simulation.members import ORGANIZATION_ID


@dataclass(frozen=True)
class Grant:
    """Named accounts of an organization, or all of them except the excluded."""

    named: frozenset[str] = frozenset()
    organization: str | None = None
    excluded: frozenset[str] = frozenset()
    frozen: bool = False

    def granted(self, members: Iterable[str]) -> frozenset[str]:
        """Return the granted accounts, apart from a freeze; none is outside the organization."""
        if self.organization != ORGANIZATION_ID:
            return frozenset()
        return self.named or frozenset(members) - self.excluded


@cache
def grant_of(document: str) -> Grant:
    """Parse a shard's document, or one that was edited by hand."""
    statements = json.loads(document)["Statement"]
    allowed: dict[str, Any] = next((each for each in statements if each["Effect"] == "Allow"), {})
    condition = allowed.get("Condition", {})
    equals, not_equals = condition.get("StringEquals", {}), condition.get("StringNotEquals", {})
    return Grant(
        frozenset(equals.get("aws:ResourceAccount", ())),
        equals.get("aws:ResourceOrgID"),
        frozenset(not_equals.get("aws:ResourceAccount", ())),
        any(each["Effect"] == "Deny" for each in statements),
    )
