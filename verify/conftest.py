"""The local AWS organization and its stages, as the end-to-end tests have them."""

from tests.conftest import packaged_for, shared, unpacked
from tests.end_to_end.conftest import deploy, organization, package, reader

__all__ = ["deploy", "organization", "package", "packaged_for", "reader", "shared", "unpacked"]
