"""The local AWS organization, its IAM and its stages, as in the end-to-end tests."""

from tests.conftest import packaged, shared, unpacked
from tests.end_to_end.authorization.conftest import functions, local_iam
from tests.end_to_end.conftest import deploy, local_aws, organization, reader

__all__ = [
    "deploy",
    "functions",
    "local_aws",
    "local_iam",
    "organization",
    "packaged",
    "reader",
    "shared",
    "unpacked",
]
