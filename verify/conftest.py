"""The local AWS organization and its stages, as in the end-to-end tests."""

from tests.conftest import packaged_for, shared, unpacked
from tests.end_to_end.conftest import deploy, local_aws, organization, package, reader

__all__ = ["deploy", "local_aws", "organization", "package", "packaged_for", "reader", "shared", "unpacked"]
