"""The local AWS's IAM, and the policies of the functions' roles as the template deploys them."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from local.organization import LocalOrganization
from tests.deployment.deployed import deployed
from tests.end_to_end.authorization.local_iam import LocalIam
from tests.end_to_end.authorization.written import Document, FunctionPolicies
from tests.end_to_end.function_sessions import FUNCTIONS


@pytest.fixture(scope="module")
def local_iam(organization: LocalOrganization) -> LocalIam:
    return LocalIam(organization)


@pytest.fixture(scope="session")
def functions(packaged: Path) -> FunctionPolicies:
    template = json.loads((packaged / "template.json").read_text())

    @cache
    def policies(partition: str) -> Mapping[str, Document]:
        deployment = deployed(template, partition)
        roles = {name: "".join(word.title() for word in name.split("_")) + "Role" for name in FUNCTIONS}
        return {name: deployment[role]["Policies"][0]["PolicyDocument"] for name, role in roles.items()}

    return policies
